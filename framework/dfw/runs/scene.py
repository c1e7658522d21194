"""A scene as it can be looked at: a geometry and a renderer. No loss, no optimiser and no diffusion model are needed."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import torch
from PIL import Image
from torch import Tensor, nn

from dfw.compose import Composition
from dfw.config.settings import RunConfig
from dfw.errors import ExportError
from dfw.export.pictures import save_grid, to_bytes
from dfw.interfaces.checks import check_render
from dfw.interfaces.component import Component, take_numbers
from dfw.interfaces.data import CameraBatch, Orbit, RenderOutput
from dfw.interfaces.geometry import Geometry
from dfw.interfaces.guidance import Guidance
from dfw.interfaces.poses import cameras_at, orbit
from dfw.interfaces.renderer import Renderer
from dfw.runs.average import Average
from dfw.runs.checkpoint import load_modules
from dfw.runs.checkpoint_folder import step_of
from dfw.runs.directory import RunDirectory
from dfw.runs.first_step import look_at_render

SMALLEST = 16
"""Pixels that a render under a time limit is never narrower than."""


def forget_numbers(*modules: nn.Module) -> None:
    """Drops what components have logged while somebody looked at them: it is not of any step."""
    for module in modules:
        for one in module.modules():
            if isinstance(one, Component):
                take_numbers(one)


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; training modes come back afterwards. What components log inside is forgotten."""
    modes = [module.training for module in modules]
    for module in modules:
        module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.train(mode)
        forget_numbers(*modules)


@dataclass(frozen=True)
class Picture:
    """Views of a scene. A notebook shows it by itself."""

    cameras: CameraBatch
    """The B views."""
    render: RenderOutput
    """Everything that the renderer gives: opacity, depth, normals ..."""
    colours: Tensor
    """(B, H, W, 3) in [0, 1]; those of latents are decoded."""

    def image(self, index: int = 0) -> Image.Image:
        """One view as a PIL image."""
        return Image.fromarray(to_bytes(self.colours[index : index + 1])[0])

    def save(self, path: str | Path) -> Path:
        """All views side by side as a PNG. Raises ExportError where it cannot be written."""
        return save_grid(self.colours, Path(path))

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.image().save(buffer, "PNG")
        return buffer.getvalue()


class Scene:
    """A geometry and a renderer at one step of a run."""

    def __init__(
        self,
        config: RunConfig,
        geometry: Geometry,
        renderer: Renderer,
        look: Orbit,
        device: torch.device,
        decoder: Callable[[], Guidance | None],
        step: int = 0,
        average: Average | None = None,
    ) -> None:
        """`decoder` gives the guidance that decodes latents; it is asked only for a geometry of latents."""
        self.config = config
        self.geometry = geometry
        self.renderer = renderer
        self.look = look
        self.device = device
        self.step = step
        self._decoder = decoder
        self._average = average
        self._pixels_per_second = 0.0

    @property
    def flat(self) -> bool:
        """Whether the geometry is a set of pictures and not a scene in space."""
        return "image" in type(self.geometry).provides(self.geometry.config)

    @property
    def moves(self) -> bool:
        """Whether the geometry can be shown at different moments: feature `moving`."""
        return "moving" in type(self.geometry).provides(self.geometry.config)

    @property
    def components(self) -> list[Component]:
        """Geometry and renderer."""
        return [self.geometry, self.renderer]

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Evaluation mode, without gradients, with averaged parameters where the run keeps an average."""
        with ExitStack() as stack:
            stack.enter_context(evaluating(self.geometry, self.renderer))
            if self._average is not None:
                stack.enter_context(self._average.shown())
            yield

    def views(self, count: int, width: int, elevation: float | None = None, height: int | None = None) -> CameraBatch:
        """`count` cameras around the scene, the first at the front."""
        look = self.look
        up = look.elevation if elevation is None else elevation
        return orbit(count, up, look.distance, look.fov, height or width, width, self.device)

    def render(
        self,
        cameras: CameraBatch | None = None,
        *,
        azimuth: float = 0.0,
        elevation: float | None = None,
        distance: float | None = None,
        fov: float | None = None,
        time: float | None = None,
        width: int = 256,
        height: int | None = None,
        milliseconds: float | None = None,
    ) -> Picture:
        """An evaluation render of the scene as it is now: of `cameras`, or of one camera that looks at the centre.

        Angles are degrees, `distance` is in world units, and sizes are pixels; what is left out is as in the run's previews.
        `time`: the moment of a scene that moves, in [0, 1].
        `milliseconds`: a limit of time. The picture is made smaller, at most to 16 pixels of width, when the last ones were
        too slow, and the renderer may use what training remembers of the scene (`Renderer.hurried`).

        Raises ContractError and DivergedError for what cannot be shown.
        """
        if cameras is None:
            look = self.look
            up, far = look.elevation if elevation is None else elevation, look.distance if distance is None else distance
            one = torch.ones(1, device=self.device)
            wide = look.fov if fov is None else fov
            cameras = cameras_at(one * azimuth, one * up, one * far, one * wide, height or width, width)
            cameras = cameras if time is None else cameras.at_time(time)
        cameras = self._within(cameras.to(self.device), milliseconds)
        if milliseconds is not None and self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # the work of the step before is not the picture's
        started = perf_counter()
        with self.showing(), self._hurried(milliseconds is not None):
            output: RenderOutput = self.renderer(self.geometry, cameras)
            check_render(self.renderer, self.geometry, cameras, output)
            look_at_render(self.renderer, output, self.step)
            colours = self._colours(output)
        if milliseconds is not None:
            colours = colours.cpu()  # waits for the device, so that the time is the picture's
            self._pixels_per_second = colours[..., 0].numel() / max(perf_counter() - started, 1e-6)
        return Picture(cameras, output, colours)

    @contextmanager
    def _hurried(self, hurried: bool) -> Iterator[None]:
        before, self.renderer.hurried = self.renderer.hurried, hurried
        try:
            yield
        finally:
            self.renderer.hurried = before

    def _within(self, cameras: CameraBatch, milliseconds: float | None) -> CameraBatch:
        """The cameras with fewer pixels, where the last picture says that they would take longer than `milliseconds`."""
        if milliseconds is None:
            return cameras
        wanted = len(cameras) * cameras.height * cameras.width
        affordable = self._pixels_per_second * milliseconds / 1000 or len(cameras) * SMALLEST**2
        shrink = min(1.0, (affordable / wanted) ** 0.5)
        width = max(min(SMALLEST, cameras.width), round(cameras.width * shrink))
        return replace(cameras, width=width, height=max(1, round(cameras.height * width / cameras.width)))

    def _colours(self, render: RenderOutput) -> Tensor:
        if not render.latent:
            return render.colour[..., :3].clamp(0, 1)
        guidance = self._decoder()
        if guidance is None:
            raise ExportError("geometry.space: only a guidance can decode latents to show them, and this run has none")
        return guidance.decode_image(render.colour.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).clamp(0, 1)


def open_scene(directory: RunDirectory, composition: Composition, device: torch.device, checkpoint: Path | None = None) -> Scene:
    """The scene of a run at `checkpoint`, by default its newest. Builds neither losses nor guidance, except to decode latents."""
    checkpoint = checkpoint or directory.newest_checkpoint()
    geometry, renderer = composition.geometry().to(device), composition.renderer().to(device)
    load_modules(checkpoint, {"geometry": geometry, "renderer": renderer})
    average = None
    if composition.config.trainer.ema is not None:
        average = Average({"geometry": geometry, "renderer": renderer}, composition.config.trainer.ema)
        load_modules(checkpoint, {"average": average})
    held: list[Guidance] = []

    def decoder() -> Guidance | None:
        names = composition.models
        if names and not held:
            held.append(composition.guidance(names[0]).to(device))
        return held[0] if held else None

    known = directory.read_json("manifest.json").get("look")
    look = composition.cameras()["cameras"].orbit() if known is None else Orbit(**known)
    return Scene(composition.config, geometry, renderer, look, device, decoder, step_of(checkpoint), average)
