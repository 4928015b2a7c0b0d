"""Who stands behind a node: an operator's key, what it signs and takes back, where that is kept."""
