"""Real processes, real sockets, the real runtime."""
