"""Fast paths. Each replaces a twin: code outside this room that is plainer and slower, and gives the same numbers up to rounding.

A test holds each path to its twin, so that a change to one must be made to both. A module's docstring says what it replaces
and what it gains, in processor time of one thread; `benchmarks/fast_paths.py` measures that. We delete a path if the part of a
step outside the diffusion model takes less than 10 % longer without it.
"""
