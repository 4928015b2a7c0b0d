"""Small parts that know nothing of models, nodes or money."""
