"""Parts from which the demo models are made: corpus, vocabulary, networks, training, files."""
