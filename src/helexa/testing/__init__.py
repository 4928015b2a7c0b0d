"""The kit that helexa's own tests use, shipped so that others can test against it too."""
