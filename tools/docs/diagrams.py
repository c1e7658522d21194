"""Draws the diagrams of the explanation as SVG: the loop, the interfaces, the cameras, the run directory.

What they show is read from the code where that is possible: a method that an interface does not have cannot be drawn, and the
cameras stand where `dfw.cameras_at` puts them.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib import import_module

import numpy as np
import numpy.typing as npt
import torch

from dfw import cameras_at
from dfw.config.kinds import KINDS
from dfw_prompters.directional import Directional, view_index, view_words

Point = tuple[float, float]
Numbers = npt.NDArray[np.float64]

STYLE = """
svg.dfw { --ink: var(--md-default-fg-color, #20242c); --line: #6b7485; --fill: rgba(90, 130, 230, .12); --accent: #3d6fd9;
  --warm: #c2571a; font-family: system-ui, sans-serif; max-width: 100%; height: auto; }
@media (prefers-color-scheme: dark) { svg.dfw { --ink: var(--md-default-fg-color, #e8eaf0); } }
svg.dfw text { fill: var(--ink); font-size: 14px; text-anchor: middle; }
svg.dfw text.start { text-anchor: start; }
svg.dfw text.head { font-weight: 600; font-size: 15px; }
svg.dfw text.small { font-size: 12px; opacity: .85; }
svg.dfw text.code { font-family: ui-monospace, monospace; font-size: 13px; }
svg.dfw rect { fill: var(--fill); stroke: var(--accent); stroke-width: 1.3; }
svg.dfw rect.group { fill: none; stroke: var(--line); stroke-dasharray: 5 4; }
svg.dfw path, svg.dfw circle { fill: none; stroke: var(--line); stroke-width: 1.5; }
svg.dfw path.warm { stroke: var(--warm); stroke-width: 2; }
svg.dfw path.faint { stroke-width: .8; opacity: .7; }
svg.dfw path.solid, svg.dfw circle.solid { fill: var(--fill); stroke: var(--accent); }
svg.dfw path.tip { fill: var(--line); stroke: none; }
svg.dfw path.tip.warm { fill: var(--warm); }
"""
HALF = 27.0
"""Half the height of a box."""


class Drawing:
    """An SVG of `width` x `height`, in which later things lie over earlier ones."""

    def __init__(self, title: str, width: int, height: int) -> None:
        self._parts = [f'<svg class="dfw" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}">']
        self._parts += [f"<title>{escape(title)}</title>", f"<style>{STYLE}</style>"]

    def text(self, at: Point, words: str, style: str = "") -> None:
        """Writes `words` around or, with the style `start`, from `at`."""
        self._parts.append(f'<text class="{style}" x="{at[0]:.1f}" y="{at[1] + 5:.1f}">{escape(words)}</text>')

    def box(self, at: Point, head: str, *lines: str, width: float = 150) -> None:
        """Draws a box around `at` with a head and smaller lines."""
        self.frame((at[0] - width / 2, at[1] - HALF), width, 2 * HALF, "")
        rows = [(head, "head"), *((line, "small") for line in lines)]
        for row, (words, style) in enumerate(rows):
            self.text((at[0], at[1] + 17 * (row - (len(rows) - 1) / 2)), words, style)

    def frame(self, corner: Point, width: float, height: float, style: str = "group") -> None:
        """Draws a rectangle."""
        place = f'x="{corner[0]:.1f}" y="{corner[1]:.1f}" width="{width:.1f}" height="{height:.1f}"'
        self._parts.append(f'<rect class="{style}" rx="8" {place}/>')

    def line(self, points: Sequence[Point], style: str = "", closed: bool = False) -> None:
        """Draws a line through `points`."""
        places = " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        self._parts.append(f'<path class="{style}" d="M{places}{" Z" if closed else ""}"/>')

    def arrow(self, *points: Point, label: str = "", at: Point | None = None, style: str = "") -> None:
        """Draws an arrow along `points`, with a label at its middle or `at` a place."""
        self.line(points, style)
        (x0, y0), (x1, y1) = points[-2:]
        along = np.array([x1 - x0, y1 - y0]) / np.hypot(x1 - x0, y1 - y0)
        across, end = np.array([-along[1], along[0]]), np.array([x1, y1])
        corners = (end, end - 9 * along + 4.5 * across, end - 9 * along - 4.5 * across)
        self.line([(float(x), float(y)) for x, y in corners], f"tip {style}", closed=True)
        if label:
            self.text(at or ((x0 + x1) / 2, (y0 + y1) / 2 - 11), label, "small")

    def dot(self, at: Point, radius: float, style: str = "solid") -> None:
        """Draws a circle."""
        self._parts.append(f'<circle class="{style}" cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="{radius:.1f}"/>')

    def __str__(self) -> str:
        return "\n".join([*self._parts, "</svg>\n"])


def method(kind: str, name: str) -> str:
    """Returns `Interface.name`. Raises AttributeError if the interface of `kind` has no such method."""
    module, _, title = KINDS[kind].interface.partition(":")
    getattr(getattr(import_module(module), title), name)
    return f"{title}.{name}"


def loop() -> Drawing:
    """One step, and which part hands what to which."""
    drawing = Drawing("One step of the loop", 860, 400)
    top, middle = 60.0, 205.0
    drawing.box((90, top), "cameras", "draw views")
    drawing.box((310, top), "renderer", "and background")
    drawing.box((530, top), "losses", "each with its noise")
    drawing.box((770, top), "optimiser", "backward, step")
    drawing.box((310, middle), "geometry", "what is optimised")
    drawing.box((530, middle), "guidance", "frozen diffusion model")
    drawing.box((730, middle), "prompter", "a text for each view", width=140)
    drawing.arrow((165, top), (235, top), label="poses")
    drawing.arrow((385, top), (455, top), label="pictures")
    drawing.arrow((605, top), (695, top), label="total")
    drawing.arrow((310, middle - HALF), (310, top + HALF), label="density, colour", at=(367, 133))
    drawing.arrow((505, top + HALF), (505, middle - HALF), label="z, t, noise", at=(468, 133))
    drawing.arrow((555, middle - HALF), (555, top + HALF), label="predicted noise", at=(610, 133))
    drawing.arrow((660, middle), (605, middle), label="texts")
    drawing.arrow((835, top + HALF), (835, 300), (310, 300), (310, middle + HALF), style="warm")
    drawing.text((560, 289), "gradient step: the parameters change, and the next step begins", "small")
    drawing.arrow((90, top + HALF), (90, 350), (730, 350), (730, middle + HALF), label="azimuth, elevation", at=(190, 339))
    return drawing


def interfaces() -> Drawing:
    """The kinds of components, and who calls which method."""
    drawing = Drawing("The interfaces, and who calls whom", 860, 530)
    drawing.frame((10, 10), 840, 345)
    drawing.text((24, 30), "in each step of a run", "start small")
    drawing.frame((330, 42), 200, 40, "")
    drawing.text((430, 62), "the core", "head")
    rows = {
        "cameras": (105.0, "sample"),
        "renderer": (300.0, "forward"),
        "loss": (530.0, "forward"),
        "prompter": (755.0, "choose"),
    }
    for kind, (x, name) in rows.items():
        drawing.arrow((430 + (x - 430) * 0.25, 82), (x, 160 - HALF))
        drawing.box((x, 160), kind, method(kind, name), width=165)
    below = {
        "geometry": (185.0, "begin_step", "query: density, surface, planes"),
        "background": (385.0, "forward", method("background", "forward")),
        "noise": (555.0, "forward", method("noise", "forward")),
        "guidance": (745.0, "predict", method("guidance", "predict")),
    }
    for kind, (x, name, line) in below.items():
        method(kind, name)
        drawing.box((x, 310), kind, line, width=205 if kind == "geometry" else 160)
    drawing.arrow((270, 160 + HALF), (200, 310 - HALF), label="asks for points", at=(180, 235))
    drawing.arrow((330, 160 + HALF), (378, 310 - HALF), label="holds", at=(376, 235))
    drawing.arrow((540, 160 + HALF), (553, 310 - HALF), label="holds", at=(568, 235))
    drawing.arrow((590, 160 + HALF), (715, 310 - HALF), label="asks for the noise", at=(715, 235))
    drawing.arrow((765, 160 + HALF), (752, 310 - HALF))
    drawing.text((800, 235), "texts", "small")
    drawing.frame((10, 375), 840, 145)
    drawing.text((24, 395), "around runs", "start small")
    outside = {
        "exporter": ("files", "writes the mesh"),
        "scorer": ("score", "dfw evaluate"),
        "launcher": ("outcomes", "dfw sweep"),
    }
    for column, (kind, (name, when)) in enumerate(outside.items()):
        drawing.box((160 + 270 * column, 470), kind, method(kind, name), width=200)
        drawing.text((160 + 270 * column, 425), when, "small")
    return drawing


CENTRE, UNIT = np.array([290.0, 250.0]), 92.0
EYE = torch.tensor([-18.0]), torch.tensor([30.0])
"""Azimuth and elevation from where the drawing of the cameras looks at the scene, in degrees."""


def _placed(points: Numbers) -> list[Point]:
    """Projects world points (N, 3) onto the drawing, in parallel."""
    pose = cameras_at(*EYE, torch.ones(1), torch.ones(1), 1, 1).camera_to_world[0, :3, :3].double().numpy()
    flat = points @ pose[:, :2]
    return [(float(CENTRE[0] + UNIT * x), float(CENTRE[1] - UNIT * y)) for x, y in flat]


def cameras() -> Drawing:
    """The axes of the world, azimuth and elevation, and the axes of a camera."""
    drawing = Drawing("Cameras: axes, azimuth and elevation", 660, 450)
    azimuth, elevation, distance = 58.0, 38.0, 2.6
    angles = (torch.tensor([azimuth]), torch.tensor([elevation]), torch.tensor([distance]))
    seen = cameras_at(*angles, torch.ones(1), 1, 1)
    position, pose = seen.position[0].double().numpy(), seen.camera_to_world[0, :3, :3].double().numpy()
    origin = np.zeros(3)
    turn = np.radians(np.linspace(0, 360, 73))
    drawing.line(_placed(distance * np.stack([np.cos(turn), np.sin(turn), 0 * turn], 1)), "faint", closed=True)
    for axis, words, shift in ((0, "x, the front", (0, 16)), (1, "y", (14, 0)), (2, "z, up", (0, -12))):
        (start, end) = _placed(np.stack([origin, 1.9 * np.eye(3)[axis]]))
        drawing.arrow(start, end)
        drawing.text((end[0] + shift[0], end[1] + shift[1]), words, "small")
    ground = np.array([position[0], position[1], 0])
    drawing.line(_placed(np.stack([origin, ground, position])), "faint")
    drawing.line(_placed(np.stack([origin, position])))
    arc = np.radians(np.linspace(0, azimuth, 20))
    drawing.arrow(*_placed(0.8 * np.stack([np.cos(arc), np.sin(arc), 0 * arc], 1)), style="warm")
    (at,) = _placed(np.array([[0.95 * np.cos(np.radians(azimuth / 2)), 0.95 * np.sin(np.radians(azimuth / 2)), -0.12]]))
    drawing.text((at[0] + 34, at[1] + 2), "azimuth", "small")
    rise = np.radians(np.linspace(0, elevation, 20))
    flat = ground / np.linalg.norm(ground)
    drawing.arrow(*_placed(1.2 * (np.cos(rise)[:, None] * flat + np.sin(rise)[:, None] * np.eye(3)[2])), style="warm")
    half = np.radians(elevation / 2)
    (at,) = _placed(1.25 * (np.cos(half) * flat + np.sin(half) * np.eye(3)[2])[None])
    drawing.text((at[0] + 44, at[1] + 18), "elevation", "small")
    for column, words, shift in ((0, "right", (6, -12)), (1, "up", (-6, -12)), (2, "back", (26, 0))):
        (start, end) = _placed(np.stack([position, position + 0.6 * pose[:, column]]))
        drawing.arrow(start, end)
        drawing.text((end[0] + shift[0], end[1] + shift[1]), words, "small")
    (at,) = _placed(position[None])
    drawing.dot(at, 6)
    drawing.text((at[0] - 44, at[1] - 4), "camera", "head")
    drawing.dot((CENTRE[0], CENTRE[1]), 15)
    (at,) = _placed(0.55 * position[None])
    drawing.text((at[0] - 10, at[1] - 14), "distance", "small")
    (at,) = _placed(np.array([[2.6, 0, 0]]))
    drawing.text((at[0], at[1] + 34), "azimuth 0: a camera here sees the front", "small")
    return drawing


def sectors() -> Drawing:
    """The words for each azimuth, seen from above, with 4 and with 8 sectors."""
    drawing = Drawing("Which words describe which azimuth", 760, 380)
    for column, count in enumerate((4, 8)):
        settings = Directional.Config.model_validate({"sectors": count})
        words = view_words(settings)
        centre = np.array([190.0 + 380 * column, 200.0])
        angles = torch.arange(0, 360, 0.5) + 0.25
        index = view_index(angles, torch.zeros_like(angles), settings).numpy()
        edges = [float(angles[i]) - 0.25 for i in range(len(index)) if index[i] != index[i - 1]]

        def at(degrees: float, radius: float, centre: Numbers = centre) -> Point:
            """Seen from above: the front, azimuth 0, points down the page, and azimuths grow counter-clockwise."""
            angle = np.radians(degrees - 90)
            return float(centre[0] + radius * np.cos(angle)), float(centre[1] - radius * np.sin(angle))

        drawing.dot((float(centre[0]), float(centre[1])), 150)
        for edge in edges:
            drawing.line([(float(centre[0]), float(centre[1])), at(edge, 150)], "faint")
        for start, end in zip(edges, [*edges[1:], edges[0] + 360], strict=True):
            middle = (start + end) / 2
            word = words[int(index[int(2 * (middle % 360)) % len(index)])]
            drawing.text(at(middle, 104), word, "small")
        for degrees in (0, 90, 180, 270):
            place = at(degrees, 170)
            drawing.text(place, f"{degrees}°", "small")
        drawing.text((float(centre[0]), 14), f"sectors: {count}", "head")
        drawing.dot((float(centre[0]), float(centre[1])), 14)
        drawing.arrow((float(centre[0]), float(centre[1])), at(0, 45), style="warm")
    return drawing


FILES = (
    ("config.yaml", "what you gave", "start"),
    ("resolved.yaml", "with every default; what opens the run", "start"),
    ("manifest.json", "versions, components, command, machine", "start"),
    ("run.lock", "who works on the run", "start"),
    ("metrics.jsonl", "a row for each step", "steps"),
    ("images/step-000100.png", "previews: front, left, back, right", "steps"),
    ("checkpoints/step-000100/", "the scene, optimiser, random streams", "steps"),
    ("report.html", "renewed at each preview", "steps"),
    ("status.json", "how the run stands", "steps"),
    ("export/turntable.webp", "one turn around the scene", "end"),
    ("export/object.glb, .obj, .ply", "the mesh with its texture", "end"),
)
"""Path in the run directory, what it holds, and when it is written."""


def run_directory() -> Drawing:
    """What a run writes, and when."""
    drawing = Drawing("The run directory", 720, 70 + 34 * len(FILES))
    drawing.text((24, 26), "runs/dreamfusion/a-red-mushroom-0-20260101-120000/", "start code")
    when = {"start": "at the start", "steps": "while it goes on", "end": "at the end"}
    row = 0
    for moment, words in when.items():
        mine = [(path, text) for path, text, at in FILES if at == moment]
        top = 52 + 34 * row
        drawing.frame((20, top), 120, 34 * len(mine) - 6, "")
        drawing.text((80, top + 17 * len(mine) - 3), words, "small")
        for path, text in mine:
            y = 66 + 34 * row
            drawing.line([(140, y), (164, y)], "faint")
            drawing.text((172, y), path, "start code")
            drawing.text((420, y), text, "start small")
            row += 1
    return drawing


def pages() -> dict[str, str]:
    """Returns all diagrams."""
    made = {
        "loop": loop(),
        "interfaces": interfaces(),
        "cameras": cameras(),
        "sectors": sectors(),
        "run-directory": run_directory(),
    }
    return {f"diagrams/{name}.svg": str(drawing) for name, drawing in made.items()}
