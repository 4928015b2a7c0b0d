"""Anthropic's wire shapes, as far as helexa reads or writes them itself."""
