"""One file a verb; the file's name is the word. Each is a `helexa.cli.verb.Verb`."""
