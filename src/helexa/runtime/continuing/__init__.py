"""A broken stream, finished by another engine: which way, what to ask, how to turn the answer."""
