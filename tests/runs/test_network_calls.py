"""What a run asks of its networks, counted: the same after a resume, and for each run of a process that keeps its model."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_runs import PIXELS, config, trained

from dfw.evaluation.records import calls_of, cost_of
from dfw.runs import runner
from dfw.runs.kept_models import KeptModels


@pytest.mark.parametrize(
    ("loss", "batch", "pictures"),
    [
        ({"type": "sds", "guidance_scale": 1}, 1, 1),
        ({"type": "sds", "guidance_scale": 7.5}, 3, 6),  # with the prompt and without it
        ({"type": "ism", "guidance_scale": 7.5, "inversion_steps": 4}, 2, 2 * (4 + 1 + 2)),
    ],
)
def test_pictures_that_the_network_is_given_are_counted(
    loss: dict[str, object], batch: int, pictures: int, tmp_path: Path
) -> None:
    made = config(PIXELS, tmp_path, losses={"it": loss}, cameras={"batch_size": batch}, trainer={"steps": 3})
    _, records = trained(made)
    assert [one.network_calls for one in records] == [pictures] * 3


def test_a_resumed_run_costs_what_it_costs_in_one_piece(tmp_path: Path) -> None:
    made = config(PIXELS, tmp_path, losses={"sds": {"guidance_scale": 7.5}}, trainer={"steps": 4})
    directory = runner.run(made, listeners=[]).directory
    assert cost_of(directory)["network_calls"] == 8
    runner.resume(directory, ["trainer.steps=7"], listeners=[])
    assert cost_of(directory)["network_calls"] == 14


def test_a_model_that_a_process_keeps_counts_each_run_anew(tmp_path: Path) -> None:
    models = KeptModels()
    made = config(PIXELS, tmp_path)
    for _ in range(3):
        with models.at_hand():
            assert cost_of(runner.run(made, listeners=[]).directory)["network_calls"] == 6


def test_no_figure_stands_for_rows_that_do_not_say_it(tmp_path: Path) -> None:
    run = runner.run(config(PIXELS, tmp_path), listeners=[]).directory
    (run / "metrics.jsonl").write_bytes(b"".join((run / "metrics.jsonl").read_bytes().splitlines(True)[:3]))
    assert cost_of(run)["network_calls"] == 3
    assert calls_of([{"step": 0, "network_calls": 3}, {"step": 1}]) is None
    assert calls_of([]) is None
