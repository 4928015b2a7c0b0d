"""helexa: a federated AI fabric.

Neurons run models; cortexes find, route to and account for them; a client sees
one OpenAI endpoint. ARCHITECTURE.md draws the whole.
"""

__version__ = "0.1.0"
