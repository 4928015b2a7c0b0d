"""Programs that the supervisor starts: the children that we write ourselves.

llama.cpp's runs as `python -I -m helexa.runtime.children.llama_cpp`. Those whose engine is
a Python package, which may lie in an environment of its own, are started by path through
`__main__` and share `server`. None imports anything of the neuron.
"""
