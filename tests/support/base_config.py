"""A small configuration that others extend."""

from __future__ import annotations

BASE = """\
prompt: a red mushroom
geometry:
  type: nerf
  radius: 1.5
renderer: {type: volume}
losses:
  sds: {guidance_scale: 10}
  orientation:
    weight: {from: 0, to: 10, start: 0, end: 0.5}
trainer:
  steps: 400
"""
