"""The judge: a small classifier of the shipped prior's world, with its weights, and what follows from its answers."""
