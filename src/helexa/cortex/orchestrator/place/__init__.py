"""A cortex's place in the mesh: where sessions, membership, admission and lending meet.

`opening.py` builds it; `acquaintances.py` hears what happens, `speaker.py` says
what this cortex is, `entry.py` comes in and goes out, `control.py` is what an
operator sees and does.
"""
