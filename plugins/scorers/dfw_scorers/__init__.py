"""Scorers that come with dfw. Imports no torch: a component's module loads when a command names it."""
