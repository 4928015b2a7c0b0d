"""The server that our own children share: HTTP/1.1 and SSE in OpenAI's shapes on a Unix socket.

It runs under whatever interpreter has the engine, where helexa need not be
installed: everything in this folder imports the standard library and its
siblings alone. What an engine has to be is in `engine`.
"""
