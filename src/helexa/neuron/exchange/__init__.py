"""Pieces of files from neuron to neuron: an origin sends each once, and the rest they give one
another.
"""
