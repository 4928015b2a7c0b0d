"""The data plane: a node that keeps models on disk, runs them and says so."""
