"""The hardware that this neuron may use. One probe a file, found by its name."""
