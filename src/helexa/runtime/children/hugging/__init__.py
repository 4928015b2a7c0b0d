"""Parts of the child that runs models through transformers; `../transformers.py` is the engine.

Named so that nothing here stands before the package itself.
"""
