"""Images with known cameras as a guidance for dfw. Imports no torch: the module loads when a configuration names it."""
