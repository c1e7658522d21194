"""Scenes that move, from a text for the first moment and one for the last."""
