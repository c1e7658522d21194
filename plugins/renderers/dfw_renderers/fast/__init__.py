"""Fast paths. Each replaces a twin: slower and plainer code outside this room, which gives the same numbers up to rounding.

Tests compare each path with its twin, so that a change to one must be made to both. Each module's docstring says what it
replaces and what it gains. `benchmarks/fast_paths.py` measures the gain; a path that makes the part of a step outside the
diffusion model less than 10 % faster is not worth a second copy, and is deleted.
"""
