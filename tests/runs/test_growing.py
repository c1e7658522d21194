"""Parameters that change their number in a run: checkpoints, averages and opened scenes follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from small_runs import PIXELS, config, trained

import dfw
from dfw import ComponentConfig, ImagePlanes, Progress, Resized
from dfw.plugins.registry import registry
from dfw.runs.directory import RunDirectory
from dfw.runs.runner import reopen, resume, run


class Growing(ImagePlanes):
    """A plane of rows, one more after every second step: a copy of the brightest, and noise on it."""

    class Config(ComponentConfig):
        """Nothing."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.rows = torch.nn.Parameter(torch.zeros(8, 16, 3))
        self.register_buffer("age", torch.zeros(8))

    @classmethod
    def provides(cls, config: ComponentConfig) -> frozenset[str]:
        return frozenset({"image"})

    @property
    def latent(self) -> bool:
        return False

    def initialise(self, generator: torch.Generator) -> None:
        with torch.no_grad():
            self.rows.copy_(torch.rand(self.rows.shape, generator=generator))

    def image(self, batch: int | None = None) -> torch.Tensor:
        return self.rows[-8:].repeat_interleave(2, 0)[None].expand(batch or 1, -1, -1, -1)

    def end_step(self, progress: Progress, generator: torch.Generator) -> Sequence[Resized]:
        assert self.rows.grad is not None  # it is still there
        self.age += 1
        self.log("rows", len(self.rows))
        if progress.step % 2 == 0:
            return ()
        brightest = self.rows.detach().mean((1, 2)).argmax()
        new = self.rows.detach()[brightest] + 0.1 * torch.randn(16, 3, generator=generator)
        index = torch.cat([torch.arange(len(self.rows)), torch.tensor([-1])])
        self.age = torch.cat([self.age, torch.zeros(1)])
        return [Resized(self.rows, torch.cat([self.rows.detach(), new[None]]), index)]

    def allocate(self, shapes: Mapping[str, torch.Size]) -> None:
        self.resize_rows(shapes)


@pytest.fixture(autouse=True)
def growing():
    dfw.register("geometry", "growing", Growing)
    yield
    registry()._entries = [entry for entry in registry().entries() if entry.distribution != "local"]


@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_run_that_grows_resumes_to_the_same_bits(ema: float | None, tmp_path: Path):
    changes = {"geometry": {"type": "growing"}}
    whole = run(config(PIXELS, tmp_path, **changes, trainer={"steps": 9, "ema": ema}), listeners=[]).directory
    first = run(config(PIXELS, tmp_path, **changes, trainer={"steps": 5, "ema": ema}), listeners=[]).directory
    resume(first, ["trainer.steps=9"], listeners=[])
    for name in ("geometry", "optimizer", *(["average"] if ema else [])):
        file = Path("checkpoints") / "step-000009" / f"{name}.safetensors"
        assert (first / file).read_bytes() == (whole / file).read_bytes(), name
    _, scene = reopen(RunDirectory.open(whole))
    assert scene.geometry.rows.shape == (8 + 4, 16, 3)
    assert scene.geometry.age.tolist() == [9.0] * 8 + [7.0, 5.0, 3.0, 1.0]


def test_the_number_of_rows_is_reported(tmp_path: Path):
    _, records = trained(config(PIXELS, tmp_path, geometry={"type": "growing"}))
    assert [record.numbers["geometry.rows"] for record in records] == [8, 8, 9, 9, 10, 10]
