"""Money: what is held, charged, earned and paid out, in integer nano-credits."""
