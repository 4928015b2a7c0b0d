"""One endpoint a file, each exporting `endpoint`; the folder is the registry."""
