"""How many threads torch's operations have in a run, and that the process has its own number back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from small_runs import PIXELS, config
from torch import nn

import dfw
from dfw.runs.directory import RunDirectory
from dfw.runs.runner import resume, run
from dfw.runs.threads import SMALL, settle

MINE = 3


@pytest.fixture(autouse=True)
def _own_number() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(MINE)
    yield
    torch.set_num_threads(before)


def _threads(directory: Path) -> int:
    return int(RunDirectory.open(directory).read_json("manifest.json")["threads"])


def _model(parameters: int) -> nn.Module:
    return nn.Embedding(parameters, 1, device="meta")


@pytest.mark.parametrize(
    ("sizes", "threads"), [([], MINE), ([SMALL], 1), ([SMALL // 2, SMALL // 2 + 1], MINE), ([0, 1000], 1), ([0], MINE)]
)
def test_small_models_have_one_thread(sizes: list[int], threads: int) -> None:
    settle("auto", [_model(size) if size else nn.Identity() for size in sizes])
    assert torch.get_num_threads() == threads


def test_a_run_has_the_threads_that_it_asks_for_and_gives_them_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = run(config(PIXELS, tmp_path, trainer={"steps": 2, "threads": 2}), listeners=[])
    assert (_threads(made.directory), torch.get_num_threads()) == (2, MINE)
    resume(made.directory, ["trainer.steps=3"], listeners=[])
    assert "made with" not in caplog.text
    resume(made.directory, ["trainer.steps=4", "trainer.threads=1"], listeners=[])
    assert "made with 2 threads and goes on with 1" in caplog.text
    assert torch.get_num_threads() == MINE


def test_a_trainer_and_a_refused_run_give_them_back(tmp_path: Path) -> None:
    with dfw.trainer("dreamfusion", trainer={"steps": 2}) as trainer:
        assert torch.get_num_threads() == 1
        assert trainer.step == 0
    assert torch.get_num_threads() == MINE
    with pytest.raises(dfw.DfwError, match="step"):
        resume(run(config(PIXELS, tmp_path, trainer={"steps": 2, "threads": 2}), listeners=[]).directory, ["trainer.steps=1"])
    assert torch.get_num_threads() == MINE
