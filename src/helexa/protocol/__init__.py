"""What nodes say to one another and to clients: types and codecs, no I/O.

Everything here depends on msgspec alone, so any node, tool or test can read the
wire without bringing a runtime, a mesh or a database with it.
"""
