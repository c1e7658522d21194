"""What the environment asks for: `DFW_TRACKERS=tensorboard,wandb`. Unset or empty, nothing is tracked."""

from __future__ import annotations

import logging
import os
from functools import cache

KNOWN = ("tensorboard", "trackio", "wandb")
"""The trackers there are."""

log = logging.getLogger("dfw.trackers")


def asked(tracker: str) -> bool:
    """Whether `DFW_TRACKERS` names `tracker`; a name that is none of `KNOWN` is warned of once."""
    return tracker in _names(os.environ.get("DFW_TRACKERS", ""))


@cache
def _names(text: str) -> frozenset[str]:
    names = frozenset(name.strip().lower() for name in text.split(",") if name.strip())
    for name in sorted(names - set(KNOWN)):
        log.warning("DFW_TRACKERS: no tracker named '%s'; known: %s", name, ", ".join(KNOWN))
    return names
