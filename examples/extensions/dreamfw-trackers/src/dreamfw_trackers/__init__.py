"""Trackers for dfw. Imports no tracker's library: each loads when a run begins that `DFW_TRACKERS` asks to track with it."""
