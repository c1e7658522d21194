"""A whole run on a device that is not the CPU: nothing is left behind, and a step waits for the device in two places."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import pytest
import torch

from dfw import StepEnded, hookimpl
from dfw.compose import compose
from dfw.config.load import load_config
from dfw.runs.directory import RunDirectory
from dfw.runs.runner import resume, run
from dfw.runs.start import make_trainer
from dfw.runs.trainer import make_accelerator
from dfw.testing.experimental_device import NAME, StandIn, stand_in

CONFIGS = Path(__file__).parents[2] / "configs"
SMALL = ["cameras.width=16", "cameras.batch_size=2", "trainer.preview_width=16", "device=cpu"]
READS = {"marching.py": 2}  # the longest ray and the number of samples: they decide how much memory is asked for
SLOW_TWIN = "hash_grid.py"  # stands in for the kernels, which wait for nothing

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a real second device")


@pytest.fixture(autouse=True)
def runs_go_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `device: cuda` would: accelerate alone knows no such device, and without mixed precision has nothing to do on it."""
    for module in ("runner", "start"):
        monkeypatch.setattr(f"dfw.runs.{module}.pick_device", lambda name: torch.device(f"{NAME}:0"))
    monkeypatch.setattr("dfw.runs.trainer.make_accelerator", lambda config, _: make_accelerator(config, torch.device("cpu")))


def places(there: StandIn) -> Counter[str]:
    """File -> how often the program waited there."""
    return Counter(place.rpartition("/")[2].partition(":")[0] for _, place in there.waits)


OBJECTIVES = (
    "dreamfusion", "asd", "bridge", "csd", "diffusion", "hifa", "ism", "nfsd", "score", "sdi", "sjc", "vsd", "playground-2d",
    "bsd", "esd", "rfds", "rfds-rev", "sctd", "tsm",
)  # fmt: skip


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_step_of_every_objective_waits_for_nothing_but_the_number_of_samples(name: str, tmp_path: Path) -> None:
    config = load_config(CONFIGS / f"{name}.yaml", [*SMALL, "trainer.steps=2", f"output={tmp_path}"])
    with stand_in() as there:
        trainer = make_trainer(config, compose(config).build())
        records: list[float] = []
        counts = []
        for step in range(2):
            there.waits.clear()
            trainer.train(lambda limit=step + 1: trainer.step >= limit, lambda record: records.append(record.loss))
            counts.append(places(there))
        assert all(parameter.device == there.device for module in trainer.modules.values() for parameter in module.parameters())
    assert len(records) == 2
    for count in counts[1:]:  # the first step looks at what the components made
        reads = count.pop("trainer.py")  # `flush`, at the end of `train`
        assert reads == 1
        count.pop(SLOW_TWIN, None)
        assert count in (READS, {})


LIGHT = ["geometry.encoding.levels=2", "renderer.samples=16"]  # the twin of the hash grid is slow
SHORT = ["trainer.steps=4", "trainer.preview_every=2", "trainer.checkpoint_every=4", "export.resolution=16", "export.faces=300"]
SMALL_EXPORT = ["export.texture=64", "export.turntable_frames=2", "export.turntable_width=16"]


class StopAfterTwo:
    """A listener that asks for Ctrl-C."""

    @hookimpl
    def dfw_step_ended(self, step: StepEnded) -> None:
        if step.progress.step == 1:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.slow
def test_a_run_goes_from_prompt_to_report_and_on_after_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Previews, checkpoints, mesh, texture and turntable; interrupted and resumed it ends in the same numbers."""
    monkeypatch.setattr("dfw.runs.trainer.FLUSH_EVERY", 1)  # so that the listener hears of the second step in time
    config = load_config(CONFIGS / "dreamfusion.yaml", [*SMALL, *LIGHT, *SHORT, *SMALL_EXPORT, f"output={tmp_path}"])
    with stand_in():
        whole = run(config, listeners=[])
        stopped = run(config, listeners=[StopAfterTwo()])
        resumed = resume(stopped.directory, listeners=[])
    assert (whole.status, stopped.status, resumed.status) == ("finished", "interrupted", "finished")
    for result in (whole, resumed):
        assert set(result.artifacts) >= {"turntable", "glb", "obj", "ply", "report"}
    losses = [[row["losses"] for row in RunDirectory.open(result.directory).read_metrics()] for result in (whole, resumed)]
    assert len(losses[0]) == 4
    assert losses[0] == losses[1]
