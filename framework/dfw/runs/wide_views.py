"""A warning where views have more pixels than the guidance that looks at them."""

from __future__ import annotations

from collections.abc import Mapping

from dfw.compose import TRAINING, Composition, guidance_path
from dfw.config.origins import KeyPath
from dfw.plugins.fence import plugin_code
from dfw.plugins.parts import Chosen


def wide_views(composition: Composition, sides: Mapping[str, int] | None = None) -> list[str]:
    """Returns a sentence for each set of views that is larger than every guidance sees it.

    sides: guidance -> `resolution`, of those that are loaded; the others' classes are asked. Says nothing of views whose size, or
    of guidances whose resolution, is not known, and of runs that train latents.
    """
    config, seen = composition.config, dict[KeyPath, list[tuple[str, int | None]]]()
    if "latents" in composition.features(("geometry",)):
        return []
    for name in (path[1] for path in composition.chosen if path[0] == "losses"):
        guidance, views = config.guidance_of(name), config.losses[name].views
        if guidance in composition.models:
            path = guidance_path(config, guidance)
            loaded = (sides or {}).get(guidance)
            side = loaded if isinstance(loaded, int) else _side(composition.chosen[path], "side")
            seen.setdefault(TRAINING if views == "cameras" else ("view_sets", views), []).append((".".join(path), side))
    found = []
    for path, models in seen.items():
        largest = _side(composition.chosen[path], "largest")
        known = [(side, name) for name, side in models if side is not None]
        if largest is None or len(known) < len(models):
            continue
        side, name = max(known)
        if largest > side:
            times = f"{(largest / side) ** 2:.2g}"
            found.append(
                f"{'.'.join(path)}: views go up to {largest}x{largest} pixels, and {name} sees them at {side}x{side}; "
                f"that is about {times} times the pixels, for antialiasing only"
            )
    return found


def _side(part: Chosen, question: str) -> int | None:
    """Returns how many pixels a part says, or None."""
    with plugin_code(part.who, f"cannot say how many pixels ({question})"):
        answer: int | None = getattr(part.cls, question)(part.config)
        if answer is not None and (not isinstance(answer, int) or answer < 1):
            raise TypeError(f"it gave {answer!r}, not a whole number of 1 or more")
        return answer
