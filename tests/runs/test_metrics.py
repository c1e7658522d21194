"""metrics.jsonl: what is written, what damage is noticed, and that no damaged number passes for a good one."""

from __future__ import annotations

import json
import logging
import math
import random
from pathlib import Path

import pytest

from dfw.errors import CheckpointError
from dfw.runs.metrics import MetricsFile, cut_metrics, read_metrics

ROWS = [{"step": step, "loss": step / 7, "losses": {"sds": 1e-5 * step}} for step in range(9)]


def written(folder: Path, rows=ROWS) -> Path:
    with MetricsFile(folder / "metrics.jsonl", "try again") as file:
        for row in rows:
            file.add(row)
        file.sync()
    return folder / "metrics.jsonl"


def test_rows_come_back_as_they_were_and_every_line_is_json(tmp_path: Path) -> None:
    path = written(tmp_path)
    assert read_metrics(path) == ROWS
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == list(range(9))


def test_numbers_that_are_not_finite_are_null_and_come_back_as_nan(tmp_path: Path) -> None:
    path = written(tmp_path, [{"step": 0, "loss": math.nan, "losses": {"sds": math.inf, "b": -math.inf}, "lr": 0.1}])

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    row = json.loads(path.read_text(), parse_constant=refuse)
    assert (row["loss"], row["losses"], row["lr"]) == (None, {"sds": None, "b": None}, 0.1)
    (back,) = read_metrics(path)
    assert math.isnan(back["loss"])
    assert math.isnan(back["losses"]["sds"])


def test_no_flipped_bit_gives_another_number(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = written(tmp_path)
    good = path.read_bytes()
    rng = random.Random(0)
    for _ in range(300):
        data = bytearray(good)
        data[rng.randrange(len(data) - 1)] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        caplog.clear()
        rows = read_metrics(path)
        assert all(row in ROWS for row in rows)
        assert len(rows) in (7, 8)  # a newline that is none any more costs two rows
        assert "cannot be read" in caplog.text


def test_a_gap_and_unreadable_rows_are_said_and_the_damaged_file_is_kept(tmp_path: Path, caplog) -> None:
    path = written(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = b"".join([*lines[:2], b'{"step": 2, "loss": 0.5}\n', *lines[3:5], b"\xff\xfe\n", lines[6], b"[1]\n", lines[8]])
    path.write_bytes(damaged)
    with caplog.at_level(logging.WARNING):
        cut_metrics(path, 9)
    first, second = (record.getMessage() for record in caplog.records)
    assert first == f"{path}: 3 rows cannot be read; the file as it was is kept as metrics-damaged.jsonl"
    assert second == f"{path} lacks step 2, step 5 and step 7"
    assert [row["step"] for row in read_metrics(path)] == [0, 1, 3, 4, 6, 8]
    assert (tmp_path / "metrics-damaged.jsonl").read_bytes() == damaged


def test_missing_steps_are_said_as_ranges(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = written(tmp_path, [ROWS[0], *ROWS[2:7]])
    cut_metrics(path, 9)
    assert f"{path} lacks step 1 and steps 7 to 8" in caplog.text


def test_an_unfinished_last_line_and_no_file_are_no_damage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = written(tmp_path)
    path.write_bytes(path.read_bytes()[:-30])
    assert read_metrics(path) == ROWS[:8]
    cut_metrics(path, 8)
    assert read_metrics(tmp_path / "none") == []
    assert caplog.text == ""


@pytest.mark.parametrize("content", [None, b"\x00\xff" * 50, b"[]\n1\nnull\n"])
def test_a_folder_or_noise_in_its_place_is_a_warning(tmp_path: Path, content, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "metrics.jsonl"
    path.mkdir() if content is None else path.write_bytes(content)
    assert read_metrics(path) == []
    cut_metrics(path, 2)
    assert f"{path} lacks steps 0 to 1" in caplog.text
    assert (tmp_path / "metrics-damaged.jsonl").exists()
    written(tmp_path, ROWS[:2])


def test_a_file_that_is_deleted_meanwhile_is_noticed_at_the_next_checkpoint(tmp_path: Path) -> None:
    with MetricsFile(tmp_path / "metrics.jsonl", "try again") as file:
        file.add(ROWS[0])
        file.sync()
        (tmp_path / "metrics.jsonl").unlink()
        with pytest.raises(CheckpointError, match="it was removed while the run wrote to it"):
            file.sync()
