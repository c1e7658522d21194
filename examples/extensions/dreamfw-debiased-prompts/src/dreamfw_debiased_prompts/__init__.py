"""Prompts without the words that contradict a view. Imports no torch."""
