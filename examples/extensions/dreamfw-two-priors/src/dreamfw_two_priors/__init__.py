"""Two priors and a reference picture for dfw. Imports no torch: a module loads when a configuration names it."""
