"""Model runtimes, described: what each can do and how a child of it is started and asked.

Nothing in this package opens a socket or starts a process; the neuron's
supervisor does, on what an adapter answers.
"""
