"""What engines that speak OpenAI's shapes have in common: an adapter takes what suits it."""
