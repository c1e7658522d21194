"""Noise that is the same in every view of a scene, and the objective that needs it. Imports no torch."""
