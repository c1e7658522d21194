"""Editing: a finished scene changes by a text and keeps the rest. Imports no torch."""
