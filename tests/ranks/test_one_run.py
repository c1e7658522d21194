"""One run of 2 and of 4 processes gives what one process gives, up to rounding: a NeRF, a mesh, and losses that see all views."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from warm_processes import THEN, Dfw, together

from dfw.runs.checkpoint_folder import newest_checkpoint

COMMON = """\
prompt: a red square
device: cpu
guidance: {type: gaussian, means: {a red square: [0.8, 0.3, 0.1]}, resolution: 16}
prompter: plain
optimizer: {type: sgd, lr: 0.02}
export: {formats: [], turntable_frames: 0}
trainer: {steps: 2, preview_every: 50, checkpoint_every: 50, preview_width: 16, ema: 0.5}
"""
FIELD = """\
geometry:
  type: nerf
  encoding: {type: hash-grid, levels: 2, features: 2, log2_size: 8, base: 4, finest: 8}
  density_network: {width: 8}
  colour_network: {width: 8}
"""
CONFIGS = {
    "nerf": COMMON
    + FIELD
    + """\
renderer:
  type: volume
  samples: 16
  shading: {mode: lambertian, start: 0, normals: always}
  background: {type: learned, random_probability: 0.5}
cameras: {width: 16, batch_size: 4}
view_sets: {around: {type: orthogonal, width: 16, count: 2, batch_size: 4}}
losses:
  vsd: {guidance_scale: 2, noise: gaussian}
  orientation: {weight: 0.1}
  alike: {type: local/alike, weight: 3}
  around: {type: sds, views: around, weight: 0.5}
trainer: {accumulate: 2}
""",
    "mesh": COMMON
    + """\
geometry: {type: tets, resolution: 8, start_axes: [0.4, 0.4, 0.4]}
renderer: {type: mesh, shading: {mode: lambertian, start: 0}}
cameras: {width: 16, batch_size: 3}
losses: {sds: {guidance_scale: 1}, laplacian: {weight: 50}, normal-consistency: {weight: 5}}
""",
    "wild": COMMON
    + FIELD
    + """\
renderer: {type: local/wild, samples: 16}
cameras: {width: 16, batch_size: 2}
losses: {sds: {guidance_scale: 1}}
""",
}
PLUGIN = """\
from dfw import ComponentConfig, Loss, register
from dfw_renderers.volume import Volume
import sys
import torch


class Alike(Loss):
    "Compares views with each other, and pulls at the scene itself."

    def __init__(self, config):
        super().__init__()
        self.config = config

    def forward(self, inputs):
        self.log("loaded", float("dfw.ranks.party" in sys.modules))
        colour = inputs.render.colour
        pull = sum(one.square().sum() for one in inputs.geometry.parameters())
        return (colour - colour.mean(0, keepdim=True)).abs().sum() / len(colour) ** 2 + pull


class Wild(Volume):
    "Draws by itself."

    def forward(self, geometry, cameras, generator=None):
        output = super().forward(geometry, cameras, generator)
        if self.training:
            shape = (len(cameras), 1, 1, 3)
            output.colour.mul_(torch.rand(shape, generator=generator))
        return output


register("loss", "alike", Alike)
register("renderer", "wild", Wild)
"""


CASES = [("nerf", 2), ("nerf", 4), ("mesh", 2), ("mesh", 4), ("wild", 2)]


def commands(count: int) -> list[str]:
    """The configurations that so many processes run, one after another."""
    parts: list[str] = []
    for name in CONFIGS:
        if count == 1 or (name, count) in CASES:
            parts += [*([THEN] if parts else []), "run", f"{name}.yaml", "--plugin", "parts.py", f"output={count}-{name}"]
    return parts


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configurations, run by one process, by two and by four."""
    found = tmp_path_factory.mktemp("one run")
    (found / "parts.py").write_text(PLUGIN)
    for name, text in CONFIGS.items():
        (found / f"{name}.yaml").write_text(merged(text))
    processes = {1: [Dfw(found, *commands(1))]} | {count: together(found, count, *commands(count)) for count in (2, 4)}
    for count, all_of_them in processes.items():
        for rank, one in enumerate(all_of_them):
            assert one.wait() == 0, (count, rank, one.said)
            assert (rank == 0) == bool(one.said), one.said
    return found


def merged(text: str) -> str:
    """The text with its two mappings `trainer` as one."""
    more = "trainer: {accumulate: 2}\n"
    return text if more not in text else text.replace(more, "").replace("ema:", "accumulate: 2, ema:")


def result(folder: Path, count: int, name: str) -> tuple[dict[str, torch.Tensor], list[dict[str, object]], dict[str, object]]:
    """What a checkpoint of a run holds, its metrics, and its manifest."""
    (run,) = (folder / f"{count}-{name}").glob("*/*")
    files = sorted(newest_checkpoint(run / "checkpoints").glob("*.safetensors"))
    state = {f"{file.stem}.{key}": value for file in files for key, value in load_file(file).items()}
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return state, rows, json.loads((run / "manifest.json").read_text())


@pytest.mark.parametrize(("name", "count"), CASES)
def test_several_processes_give_what_one_gives(folder: Path, name: str, count: int) -> None:
    (one, rows, _), (several, same, manifest) = result(folder, 1, name), result(folder, count, name)
    assert manifest["processes"] == count
    assert one.keys() == several.keys()
    for key, value in one.items():
        scale = max(float(value.double().abs().max()), 1e-3)
        off = float((several[key].double() - value.double()).abs().max())
        assert off <= 1e-5 * scale, (key, off, scale)
    for row, other in zip(rows, same, strict=True):
        for key in ("loss", "opacity", "grad_norm"):
            assert other[key] == pytest.approx(row[key], rel=1e-5), key


def test_one_process_loads_nothing_of_this(folder: Path) -> None:
    """And its manifest says that it was one."""
    (_, alone, manifest), (_, two, _) = result(folder, 1, "nerf"), result(folder, 2, "nerf")
    assert manifest["processes"] == 1
    assert [row["losses.alike.loaded"] for row in alone] == [0, 0]
    assert [row["losses.alike.loaded"] for row in two] == [1, 1]
