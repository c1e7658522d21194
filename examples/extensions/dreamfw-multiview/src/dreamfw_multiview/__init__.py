"""Priors for dfw that see several views at once. Imports no torch: a module loads when a configuration names it."""
