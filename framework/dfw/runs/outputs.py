"""What a run leaves behind: previews on the way; turntable, mesh, files and report at the end."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from dfw.config.camera_settings import CameraSettings
from dfw.config.settings import ExportSettings, RunConfig
from dfw.errors import DfwError, ExportError
from dfw.export.agreement import rendered_albedo
from dfw.export.pipeline import ExportResult, export_mesh
from dfw.export.turntable import save_grid, save_turntable
from dfw.interfaces.checks import check_render
from dfw.interfaces.component import name_of
from dfw.interfaces.data import CameraBatch, RenderOutput
from dfw.interfaces.events import Status
from dfw.interfaces.kinds import DensityField, Geometry
from dfw.report import ReportData, write_report
from dfw.runs.cameras import orbit
from dfw.runs.directory import RunDirectory, unused
from dfw.runs.first_step import look_at_render
from dfw.runs.trainer import Trainer

log = logging.getLogger("dfw.runs.outputs")

PREVIEW_VIEWS = 4
ELEVATION = 15.0


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; training modes come back afterwards."""
    modes = [module.training for module in modules]
    for module in modules:
        module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.train(mode)


def middle(settings: CameraSettings) -> tuple[float, float]:
    """Distance and field of view in the middle of the training cameras' ranges."""
    return sum(settings.distance) / 2, sum(settings.fov) / 2


def views(trainer: Trainer, count: int, width: int, elevation: float = ELEVATION) -> CameraBatch:
    """`count` cameras around the scene, the first at the front."""
    distance, fov = middle(trainer.config.cameras)
    return orbit(count, elevation, distance, fov, width, width, trainer.device)


def render_views(trainer: Trainer, cameras: CameraBatch) -> RenderOutput:
    """An evaluation render of the scene as it is now."""
    with evaluating(trainer.geometry, trainer.renderer):
        output: RenderOutput = trainer.renderer(trainer.geometry, cameras)
        check_render(trainer.renderer, trainer.geometry, cameras, output)
        look_at_render(trainer.renderer, output, trainer.step)
    return output


def to_images(trainer: Trainer, render: RenderOutput) -> Tensor:
    """Colours (B, H, W, 3) in [0, 1] of a render; a latent one is decoded by the guidance."""
    if not render.latent:
        return render.colour[..., :3].clamp(0, 1)
    if trainer.guidance is None:
        raise ExportError("geometry.space: latents can be shown only by a guidance that decodes them; this run has none")
    with torch.no_grad():
        return trainer.guidance.decode_image(render.colour.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).clamp(0, 1)


def preview(trainer: Trainer, directory: RunDirectory) -> Path:
    """Front, left, back and right as one picture, `images/step-NNNNNN.png`."""
    path = directory.images / f"step-{trainer.step:06d}.png"
    cameras = views(trainer, PREVIEW_VIEWS if trainer.is_scene else 1, trainer.config.trainer.preview_width)
    save_grid(to_images(trainer, render_views(trainer, cameras)), path)
    return path


def turntable(trainer: Trainer, path: Path, frames: int, width: int, elevation: float = ELEVATION) -> Path:
    """A looping animated WebP of one turn."""
    cameras = views(trainer, frames, width, elevation)
    images = [to_images(trainer, render_views(trainer, cameras.select(slice(i, i + 1)))) for i in range(frames)]
    return save_turntable(torch.cat(images), path)


def export_scene(trainer: Trainer, settings: ExportSettings, folder: Path) -> ExportResult:
    """Writes the mesh in every format asked for. Raises ExportError when there is no surface."""
    if not isinstance(trainer.geometry, DensityField):
        raise ExportError(f"geometry {trainer.config.geometry.type} is no density field; only those become meshes")
    cameras = views(trainer, 8, 128)
    render = render_views(trainer, cameras)
    with evaluating(trainer.geometry, trainer.renderer):
        albedo = rendered_albedo(trainer.geometry, cameras, render)
        result = export_mesh(
            trainer.geometry,
            render.opacity,
            cameras,
            settings,
            folder,
            title=trainer.config.prompt,
            albedo=albedo,
            lowest_view=trainer.config.cameras.elevation[0],
        )
    log.info("%s", result.summary())
    return result


def export_assets(trainer: Trainer, folder: Path) -> dict[str, Path]:
    """Writes into `folder` what the geometry has besides a mesh (`Geometry.export_assets`): name -> file; no file is replaced.

    Raises ExportError, naming the geometry, when that fails or a file is not where it was said to be.
    """
    geometry, who = trainer.geometry, name_of(trainer.geometry)
    if type(geometry).export_assets is Geometry.export_assets:
        return {}
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".assets-", dir=folder) as scratch, evaluating(geometry):
        try:
            written = geometry.export_assets(Path(scratch))
        except DfwError:
            raise
        except Exception as error:
            raise ExportError(f"{who} could not export its assets: {type(error).__name__}: {error}") from error
        for name, path in written.items():
            if not path.is_file() or path.parent != Path(scratch):
                raise ExportError(f"{who} said that asset {name!r} is {path}, but there is no such file in {scratch}")
        return {name: path.rename(unused(folder / path.name)) for name, path in written.items()}


def finish(
    config: RunConfig, trainer: Trainer, directory: RunDirectory, status: Status, seconds: float, diagnosis: str = ""
) -> dict[str, Path]:
    """Turntable, mesh and assets of a finished run; a report of any. An empty scene is said in the report, then raised."""
    made: dict[str, Path] = {}
    facts: Mapping[str, str] = {}
    failure: ExportError | None = None
    settings = config.export
    if status == "finished":
        if settings.turntable_frames and trainer.is_scene:
            made["turntable"] = turntable(
                trainer, directory.export / "turntable.webp", settings.turntable_frames, settings.turntable_width
            )
        try:
            made |= export_assets(trainer, directory.export)
            if settings.formats and isinstance(trainer.geometry, DensityField):
                result = export_scene(trainer, settings, directory.export)
                made |= result.paths
                facts = result.facts()
        except ExportError as error:
            failure = error
    data = ReportData(
        prompt=config.prompt,
        seed=config.seed,
        status=status,
        seconds=seconds,
        diagnosis=diagnosis or (str(failure) if failure else ""),
        artifacts=made,
        metrics=directory.read_metrics(),
        previews=directory.previews(),
        resolved_config=directory.resolved.read_text(encoding="utf-8"),
        manifest=directory.read_json("manifest.json"),
        facts=facts,
    )
    made["report"] = write_report(directory.path, data)
    if failure is not None:
        raise failure
    return made
