"""transformers: what its adapter knows beyond the seam."""
