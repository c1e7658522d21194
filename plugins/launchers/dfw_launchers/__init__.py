"""Launchers of sweeps that come with dfw. Imports no torch: a component's module loads when `dfw sweep --on` names it."""
