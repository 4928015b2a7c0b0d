"""Where a neuron's models come from: sources, pulls, pieces, and the disk that they lie on."""
