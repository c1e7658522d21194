"""Records of evaluations that nobody made."""

from __future__ import annotations

from typing import Any


def result(method: str, prompt: str, seed: int, value: float | None, **more: Any) -> dict[str, Any]:
    """A record with one score."""
    score = {"value": value, "unit": "", "better": "higher", "per_view": None, "details": more.pop("details", {})}
    return {
        "format": 1,
        "protocol": more.pop("protocol", "views16"),
        "run": {"prompt": prompt, "seed": seed, "name": method, "dfw version": "0"},
        "views": 16,
        "size": [8, 8],
        "scores": {more.pop("scorer", "kind"): score},
        "cost": {"network_calls": None, "seconds": 2.0 + seed, "peak_memory_mb": None},
        "evaluated": {"date": "", "seconds": 0.0, "device": "cpu"},
    }
