"""Geometry for the framework: implicit shapes and representations (importing this package imports no torch)."""
