"""What a gateway hop costs, measured beside peers in the same run: `python -m benchmarks`.

The rules that make a figure worth quoting on a small shared machine: all targets
are started first and then measured in turn (A B C, A B C, ...); medians are
quoted, and ratios are taken inside one round; and the first figure is CPU time
of the target's whole process tree per request or per chunk, which a busy
neighbour disturbs far less than requests per second.
"""
