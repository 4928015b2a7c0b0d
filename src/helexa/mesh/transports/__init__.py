"""One file per transport; its name is the word used in tickets. `_` files are parts of one."""
