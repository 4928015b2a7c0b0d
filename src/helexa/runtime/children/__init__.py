"""Programs that the supervisor starts: the children that we write ourselves.

Each runs as `python -I -m helexa.runtime.children.NAME` in a process of its own
and imports nothing of the neuron.
"""
