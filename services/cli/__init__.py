"""Console: the command `noria` and the local stack; it reads what the other services say and starts them."""
