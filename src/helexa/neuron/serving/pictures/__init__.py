"""Pictures of a request, judged before any model computes: their type, size and number.

Engines decode pictures in C, each with limits of its own or none, and would fetch a URL
themselves, from inside the operator's network. So what reaches an engine is always a
`data:` URL that was looked at here.
"""
