"""The models that this neuron has on disk, and what their own metadata says."""
