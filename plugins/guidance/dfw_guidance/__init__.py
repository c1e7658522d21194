"""The guidances that ship with dfw. Imports no torch: a component's module loads when a configuration names it."""
