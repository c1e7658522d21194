"""Shows the scene of a run as a protocol asks. Loads neither losses nor guidance."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from PIL import Image
from torch import Tensor, nn

from dfw.errors import ConfigError
from dfw.evaluation.protocols import Colour, Protocol
from dfw.interfaces.background import Background
from dfw.interfaces.component import ComponentConfig, name_of
from dfw.interfaces.scorer import Shown
from dfw.runs.scene import Picture, Scene

PIXELS = 2**18
"""Pixels that are rendered at once, so that memory does not grow with the number of views."""


class _Plain(Background):
    """One colour behind the scene."""

    def __init__(self, colour: Colour) -> None:
        super().__init__()
        self.config = ComponentConfig()
        self.colour = colour

    def forward(self, direction: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Returns the colour (1, 1, 1, 3)."""
        return direction.new_tensor(self.colour).view(1, 1, 1, 3)


@contextmanager
def behind(renderer: nn.Module, colour: Colour | None) -> Iterator[None]:
    """While open, `colour` stands in the place of the renderer's background. None changes nothing.

    Raises ConfigError for a renderer without a background component.
    """
    found = [name for name, module in renderer.named_modules() if isinstance(module, Background)] if colour is not None else []
    if colour is not None and not found:
        raise ConfigError(f"{name_of(renderer)} has no background that could be replaced; choose a protocol without one")  # type: ignore[arg-type]
    held = {name: renderer.get_submodule(name) for name in found}
    try:
        for name in held:
            assert colour is not None
            _put(renderer, name, _Plain(colour))
        yield
    finally:
        for name, module in held.items():
            _put(renderer, name, module)


def _put(parent: nn.Module, path: str, module: nn.Module) -> None:
    owner, _, name = path.rpartition(".")
    setattr(parent.get_submodule(owner), name, module)


def shown(scene: Scene, protocol: Protocol, width: int | None = None) -> Shown:
    """Renders the scene from the protocol's cameras; `width` replaces its number of pixels.

    Raises ConfigError for a scene that cannot be looked at so, and what `Scene.render` raises.
    """
    if scene.flat:
        raise ConfigError("its geometry is a set of pictures and not a scene in space, so it has no views to judge")
    cameras = protocol.cameras(scene.look, width)
    at_once = max(1, PIXELS // (cameras.height * cameras.width))
    colours, opacities, normals = [], [], []
    with behind(scene.renderer, protocol.background):
        for start in range(0, len(cameras), at_once):
            made = scene.render(cameras.select(slice(start, start + at_once)))
            colours.append(_bytes(made.colours))
            opacities.append(_bytes(made.render.opacity))
            normals += [] if made.render.normal is None else [_bytes(_normals(made))]
    if "normal" in protocol.keeps and not normals:
        raise ConfigError(f"{protocol.name} shows normals, and {name_of(scene.renderer)} gives none")
    config = scene.config
    normal = torch.cat(normals) if normals else None
    return Shown(
        config.prompt or "",
        cameras,
        torch.cat(colours),
        torch.cat(opacities),
        normal,
        name=config.name,
        seed=config.seed,
    )


def _bytes(values: Tensor) -> Tensor:
    """Rounds numbers in [0, 1] to uint8, on the CPU."""
    return (values.clamp(0, 1) * 255).round().to(torch.uint8).cpu()


def _normals(made: Picture) -> Tensor:
    """Returns normals (B, H, W, 3) as threestudio shows them: (n + 1)/2 times the opacity, n of unit length in world space."""
    normal = made.render.normal
    assert normal is not None
    return (torch.nn.functional.normalize(normal, dim=-1) + 1) / 2 * made.render.opacity[..., None]


def files(views: Shown, protocol: Protocol) -> dict[str, bytes]:
    """Returns the pictures that the protocol keeps: file, relative to its folder -> PNG."""
    found: dict[str, bytes] = {}
    for of in protocol.keeps:
        pictures = views.colour if of == "rgb" else views.normal
        assert pictures is not None
        for view, picture in enumerate(pictures.numpy()):
            buffer = io.BytesIO()
            Image.fromarray(picture).save(buffer, "PNG")
            found[protocol.file(of, view)] = buffer.getvalue()
    return found
