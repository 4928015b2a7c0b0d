"""One surface said in another's words: pure functions, one module a direction."""
