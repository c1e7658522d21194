"""The grammar of captions: articles, colours, kinds and view words."""

from __future__ import annotations

from heldout import HELD_OUT, HELD_OUT_STACK_COLOURS, HELD_OUT_STACKS

from dfw_geometry.shapes import COLOURS, KINDS, SOLIDS, Single, Stack

SECTORS = ("front", "front left", "left side", "back left", "back", "back right", "right side", "front right")
"""View words of the eight sectors of 45 degrees, counter-clockwise as seen from above. The first is centred on azimuth 0."""

COARSE = ("front", "side", "back", "side")
"""View words of the four sectors of 90 degrees."""

OVERHEAD = 60.0
"""Above this elevation, in degrees, the angle is overhead. A caption without an angle then says "overhead view"."""

ANGLES = ("low", "medium", "high", "overhead")
"""Words of the elevation up to 12, 36, 60 and 90 degrees, as in "front view, low angle"."""

NEAR = {
    "cube": "box block brick crate dice",
    "ball": "sphere orb globe bead marble",
    "cylinder": "tube pipe barrel drum column pillar log can",
    "cone": "funnel",
    "donut": "doughnut torus ring bagel",
    "mushroom": "toadstool fungus",
    "tree": "plant bush pine oak palm",
    "apple": "fruit pear peach cherry tomato",
    "cake": "cupcake pie muffin",
    "snowman": "snow",
    "chair": "seat stool armchair throne bench",
    "table": "desk",
    "sofa": "couch settee",
    "mug": "cup glass",
    "teapot": "kettle pot jug",
    "lamp": "light lantern candle",
    "bottle": "flask vase jar",
    "hammer": "mallet tool axe",
    "umbrella": "parasol",
    "car": "automobile auto vehicle truck van bus taxi",
    "boat": "ship sailboat yacht canoe",
    "airplane": "plane aeroplane jet aircraft",
    "rocket": "spaceship spacecraft missile",
    "house": "home building hut cottage cabin castle barn",
    "duck": "bird chicken goose swan owl penguin animal bunny rabbit cat dog",
    "fish": "shark whale dolphin",
    "robot": "android droid man woman person",
    "red": "crimson scarlet maroon",
    "green": "lime olive emerald",
    "blue": "navy azure cyan teal turquoise",
    "yellow": "gold golden",
    "purple": "violet lilac",
    "orange": "amber",
    "white": "silver grey gray",
    "black": "dark",
    "pink": "magenta rose",
    "brown": "tan beige wooden",
}
"""Word of the grammar -> words that it does not have, of about that meaning. A message suggests the one for the others."""


def angle_words(elevation: float) -> str:
    """Returns the elevation's words, as in "low angle"."""
    return f"{ANGLES[0 if elevation <= 12.0 else 1 if elevation <= 36.0 else 2 if elevation <= OVERHEAD else 3]} angle"


def sector(azimuth: float, elevation: float) -> int:
    """Returns the sector number 0 to 7, or 8 for overhead. Angles are in degrees."""
    return 8 if elevation > OVERHEAD else _ring(azimuth)


def _ring(azimuth: float) -> int:
    return int(((azimuth + 22.5) % 360.0) // 45.0)


def view_words(azimuth: float, elevation: float, coarse: bool = False, angle: bool = False) -> str:
    """Returns the view's words: "front left view", or with ``angle`` "front left view, low angle". Angles are in degrees."""
    if elevation > OVERHEAD and not angle:
        return "overhead view"
    side = COARSE[int(((azimuth + 45.0) % 360.0) // 90.0)] if coarse else SECTORS[_ring(azimuth)]
    return f"{side} view, {angle_words(elevation)}" if angle else f"{side} view"


def neighbours(azimuth: float) -> tuple[float, float, float]:
    """Returns the centres of the two sectors around ``azimuth``, in degrees, and the share of the second in [0, 1)."""
    place = (azimuth % 360.0) / 45.0
    lower = int(place)
    return 45.0 * lower, 45.0 * ((lower + 1) % 8), place - lower


def noun(kind: str, colour: str | None) -> str:
    """Returns the phrase with its article, as in "an orange chair"."""
    phrase = f"{colour} {kind}" if colour else kind
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def caption(form: Single | Stack, colours: tuple[str | None, ...], view: str | None) -> str:
    """Returns the whole caption. ``view`` is e.g. "back view", "back view, low angle" or None."""
    if isinstance(form, Single):
        body = noun(form.kind, colours[0])
    else:
        body = f"{noun(form.top, colours[0])} on {noun(form.bottom, colours[1])}"
    return f"{body}, {view}" if view else body


def vocabulary() -> list[str]:
    """Returns every word of the grammar."""
    views = sorted({word for phrase in (*SECTORS, *COARSE) for word in phrase.split()})
    return list(dict.fromkeys(["a", "an", "on", ",", "view", "overhead", *views, *COLOURS, *KINDS, "angle", *ANGLES]))


def describe() -> dict[str, object]:
    """Returns the content of the model's ``vocabulary.json``: words, kinds, colours, views, grammar and what was held out."""
    return {
        "words": [word for word in vocabulary() if word.isalpha()],
        "kinds": list(KINDS),
        "colours": list(COLOURS),
        "solids": list(SOLIDS),
        "near": {known: words.split() for known, words in NEAR.items()},
        "views": [f"{words} view" for words in dict.fromkeys((*SECTORS, *COARSE, "overhead"))],
        "angles": [f"{word} angle" for word in ANGLES],
        "grammar": ["a|an [COLOUR] KIND[, VIEW[, ANGLE]]", "a|an [COLOUR] SOLID on a|an [COLOUR] SOLID[, VIEW[, ANGLE]]"],
        "held_out": {
            "pairs": sorted(f"{colour} {kind}" for colour, kind in HELD_OUT),
            "stacks": sorted(f"{top} on {bottom}" for top, bottom in HELD_OUT_STACKS),
            "stack_colours": sorted(f"{first} on {second}" for first, second in HELD_OUT_STACK_COLOURS),
        },
    }
