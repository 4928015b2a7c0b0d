"""Files of a node or an operator: private, written whole, never overwritten by accident."""
