"""A run as TensorBoard events in `<run>/tensorboard`: scalars, previews, turntable and mesh. `DFW_TRACKERS=tensorboard`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfw import hookimpl

from .asked import asked

if TYPE_CHECKING:
    from dfw import RunEnded, RunStarted, StepEnded

MOVING = (".webp", ".gif")
"""Turntables that become a GIF; a film or a folder of frames is named, and stays where it is."""
FOLDER = "tensorboard"
"""Of a run's directory: where its event files are. A resumed run adds another one."""


class TensorBoard:
    """A listener; whatever it raises is reported once by dfw, which then goes on without it."""

    def __init__(self) -> None:
        self._writer: Any = None
        self._total = 0

    @hookimpl
    def dfw_run_started(self, run: RunStarted) -> None:
        """Opens the event file. A resumed run's first step also voids what an earlier, killed process wrote beyond it."""
        self._writer = None  # of an earlier run in this process
        if not asked("tensorboard"):
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError(f"{error}; run: pip install tensorboard") from error
        self._total = run.total_steps
        self._writer = SummaryWriter(str(run.directory / FOLDER), purge_step=run.first_step or None)
        if run.first_step == 0:
            settings = run.config.model_dump_json(indent=2)
            self._writer.add_text("config", "".join(f"    {line}\n" for line in settings.splitlines()))
            self._writer.file_writer.add_summary(_session(run))

    @hookimpl
    def dfw_step_ended(self, step: StepEnded) -> None:
        """`loss`, the metrics (`losses/sds`, `opacity`, `lr` ...) and `seconds/...`, and the previews that were made."""
        if self._writer is None:
            return
        at = step.progress.step
        for name, value in scalars(step).items():
            self._writer.add_scalar(name, value, at)
        for path in step.images:
            self._writer.add_image("preview", _pixels(path), at, dataformats="HWC")

    @hookimpl
    def dfw_run_ended(self, run: RunEnded) -> None:
        """The last preview, the turntable as an animation, the mesh with its colours, and where all files are."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        last = run.directory / "images" / f"step-{self._total:06d}.png"
        if last.is_file():
            writer.add_image("preview", _pixels(last), self._total, dataformats="HWC")
        turntable = run.artifacts.get("turntable")
        if turntable is not None and turntable.suffix in MOVING:
            writer.file_writer.add_summary(_animation("turntable", turntable), self._total)
        if "ply" in run.artifacts:
            writer.add_mesh("mesh", **_mesh(run.artifacts["ply"]), global_step=self._total)
        files = "".join(f"- {name}: `{path}`\n" for name, path in run.artifacts.items())
        writer.add_text("result", f"{run.status} after {run.seconds:.0f} s\n\n{files}", self._total)
        writer.close()


def _session(run: RunStarted) -> Any:
    """What the HPARAMS page sorts and filters runs by; TensorBoard has no groups, so the sweep is a column."""
    from torch.utils.tensorboard.summary import hparams

    columns = {"sweep": run.sweep, "name": run.config.name, "prompt": run.config.prompt, "seed": run.config.seed}
    _, session, _ = hparams(columns, {"loss": 0.0})
    return session


def scalars(step: StepEnded) -> dict[str, float]:
    """Tag -> number; a dot in a name becomes a slash, by which the trackers group their charts."""
    loss = {} if step.loss is None else {"loss": step.loss}
    metrics = {name.replace(".", "/"): value for name, value in step.metrics.items()}
    return loss | metrics | {f"seconds/{part}": value for part, value in step.seconds.items()}


def gif(path: Path) -> tuple[bytes, int, int]:
    """An animated picture as GIF, and its height and width in pixels."""
    from PIL import Image, ImageSequence

    with Image.open(path) as picture:
        duration = picture.info.get("duration", 100)
        frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(picture)]
    made = io.BytesIO()
    frames[0].save(made, "GIF", save_all=True, append_images=frames[1:], duration=duration, loop=0)
    return made.getvalue(), frames[0].height, frames[0].width


def _pixels(path: Path) -> Any:
    """(H, W, 3) bytes."""
    import numpy as np
    from PIL import Image

    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def _animation(tag: str, path: Path) -> Any:
    """An image summary that moves: TensorBoard shows a GIF as it is."""
    from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]

    data, height, width = gif(path)
    image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=data)
    return Summary(value=[Summary.Value(tag=tag, image=image)])


def _mesh(path: Path) -> dict[str, Any]:
    """`add_mesh`'s arguments: one mesh of V vertices and F faces with a colour (V, 3) each, 0 to 255."""
    import torch
    import trimesh

    mesh: Any = trimesh.load(path, force="mesh")
    colours = mesh.visual.vertex_colors[:, :3]
    arrays = {"vertices": mesh.vertices, "colors": colours, "faces": mesh.faces}
    return {name: torch.as_tensor(array.copy())[None] for name, array in arrays.items()}


listener = TensorBoard()
"""What the entry point names."""
