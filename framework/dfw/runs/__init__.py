"""A run: the loop, its directory, what it leaves behind."""
