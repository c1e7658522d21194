"""Damaged, foreign, half-written and misnamed checkpoints: what is noticed, what is taken instead, and what is never lost."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch import nn

from dfw.atomic import temporary_name
from dfw.errors import CheckpointError
from dfw.runs import checkpoint, checkpoint_folder
from dfw.runs.checkpoint import load_checkpoint, save_checkpoint
from dfw.runs.checkpoint_folder import adopt, damage_of, list_checkpoints, newest_checkpoint
from dfw.runs.seal import sealed_json, unsealed_json


def parts(seed: int = 0) -> tuple[nn.Module, torch.optim.Optimizer]:
    module = nn.Linear(5, 4)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
    for parameter in module.parameters():
        parameter.data = torch.rand(parameter.shape, generator=generator)
        parameter.grad = torch.rand(parameter.shape, generator=generator)
    optimizer.step()
    return module, optimizer


def save(folder: Path, step: int, keep: int = 2, seed: int = 0, run: str = "") -> Path:
    module, optimizer = parts(seed)
    return save_checkpoint(folder, step, {"m": module}, {"optimizer": optimizer}, {"s": torch.arange(8)}, keep, run)


def loaded(path: Path) -> torch.Tensor:
    module, optimizer = parts(seed=9)
    load_checkpoint(path, {"m": module}, {"optimizer": optimizer})
    return module.weight.detach()


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", ["m.safetensors", "optimizer.safetensors", "streams.safetensors"])
def test_every_flipped_bit_of_a_tensors_file_is_noticed(tmp_path: Path, name: str) -> None:
    path = save(tmp_path, 3)
    bits, rng = 8 * (path / name).stat().st_size, random.Random(0)
    for bit in rng.sample(range(bits), min(bits, 200)):
        flip(path / name, bit)
        assert damage_of(path) == f"{name} is damaged (its checksum differs)"
        flip(path / name, bit)
    assert damage_of(path) == ""


def test_a_flipped_bit_of_the_state_changes_nothing_that_is_read_or_is_noticed(tmp_path: Path) -> None:
    path = save(tmp_path, 3)
    wanted = unsealed_json((path / "state.json").read_bytes())
    noticed = 0
    for bit in random.Random(1).sample(range(8 * (path / "state.json").stat().st_size), 400):
        flip(path / "state.json", bit)
        if damage_of(path):
            noticed += 1
        else:  # white space
            assert unsealed_json((path / "state.json").read_bytes()) == wanted
        flip(path / "state.json", bit)
    assert noticed > 300


@pytest.mark.parametrize(
    "text",
    ["[]", "1", "null", "{}", "", "{", "[" * 10_000, '{"format": 2, "step": 3}', "\0", '"\\ud800"', "9" * 5000],
)
def test_a_state_of_another_shape_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = save(tmp_path, 3)
    (path / "state.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"^[^\n]*step-000003: state.json is damaged \([^\n]*\)$"):
        loaded(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"step": 10**30}, "state.json is that of step 1000000000000000000000000000000"),
        ({"step": 4}, "state.json is that of step 4"),
        ({"step": True}, r"state.json is damaged \(it has other keys"),
        ({"files": []}, r"state.json is damaged \(it has other keys"),
        ({"more": 1}, r"state.json is damaged \(it has other keys"),
        ({"format": 99}, "checkpoint format 99, and this version of dfw reads 2"),
    ],
)
def test_a_state_that_says_what_cannot_be_is_refused_though_its_checksum_is_right(tmp_path: Path, change, said: str) -> None:
    path = save(tmp_path, 3)
    state = unsealed_json((path / "state.json").read_bytes()) | change
    (path / "state.json").write_bytes(sealed_json(state))
    with pytest.raises(CheckpointError, match=said):
        newest_checkpoint(tmp_path)


def test_the_newest_good_one_is_taken_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for step in (3, 6, 9):
        save(tmp_path, step, keep=3)
    flip(tmp_path / "step-000009" / "m.safetensors", 900)
    (tmp_path / "step-000006" / "state.json").unlink()
    with caplog.at_level(logging.WARNING):
        assert newest_checkpoint(tmp_path).name == "step-000003"
    (record,) = caplog.records
    assert record.getMessage() == (
        f"{tmp_path}: step-000009: m.safetensors is damaged (its checksum differs); step-000006: state.json cannot be read "
        "(No such file or directory); taking step-000003 instead"
    )


def test_where_none_is_good_one_sentence_names_them_all(tmp_path: Path) -> None:
    for step in (3, 6):
        save(tmp_path, step)
    (tmp_path / "step-000003" / "optimizer.safetensors").unlink()
    (tmp_path / "step-000006" / "m.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError) as error:
        newest_checkpoint(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}: no checkpoint can be restored (step-000006: m.safetensors is damaged (its checksum differs); step-000003: "
        "optimizer.safetensors cannot be read (No such file or directory)); put back these files from a copy, or start the run "
        "again with `dfw run`"
    )


def test_a_checkpoint_of_another_run_or_step_does_not_count(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path / "a", 3, run="a")
    save(tmp_path / "b", 6, run="b")
    shutil.copytree(tmp_path / "b" / "step-000006", tmp_path / "a" / "step-000006")
    shutil.copytree(tmp_path / "a" / "step-000003", tmp_path / "a" / "step-000005")
    assert newest_checkpoint(tmp_path / "a", "a").name == "step-000003"
    assert "step-000006: state.json is that of another run; step-000005: state.json is that of step 3" in caplog.text


def test_a_load_notices_what_changed_since_the_look(tmp_path: Path) -> None:
    path = newest_checkpoint(save(tmp_path, 3).parent)
    flip(path / "m.safetensors", 900)
    with pytest.raises(CheckpointError, match=r"m\.safetensors is damaged"):
        loaded(path)


def test_steps_are_numbers_and_other_names_do_not_count(tmp_path: Path) -> None:
    for step in (999_900, 1_000_000, 1_000_100):
        assert save(tmp_path, step).is_dir()
    for name in ("step-old", "step-1000200-copy", "step-", "step-99999999999999999999999"):
        shutil.copytree(tmp_path / "step-1000100", tmp_path / name)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-1000000", "step-1000100"]
    assert newest_checkpoint(tmp_path).name == "step-1000100"


def test_what_is_there_and_good_is_not_written_again(tmp_path: Path) -> None:
    path = save(tmp_path, 3)
    before = {one.name: one.stat().st_ino for one in [path, *path.iterdir()]}
    assert save(tmp_path, 3) == path
    assert {one.name: one.stat().st_ino for one in [path, *path.iterdir()]} == before


@pytest.mark.parametrize("damaged", [True, False])
def test_what_is_damaged_or_of_other_numbers_is_replaced(tmp_path: Path, damaged: bool) -> None:
    path = save(tmp_path, 3, seed=0 if damaged else 1)
    if damaged:
        flip(path / "m.safetensors", 900)
    save(tmp_path, 3)
    assert torch.equal(loaded(path), parts()[0].weight)
    assert names(tmp_path) == ["step-000003"]


def test_a_damaged_later_one_takes_no_place_of_a_good_one(tmp_path: Path) -> None:
    save(tmp_path, 9, keep=1)
    flip(tmp_path / "step-000009" / "m.safetensors", 900)
    save(tmp_path, 4, keep=1)
    assert newest_checkpoint(tmp_path).name == "step-000004"


class Killed(BaseException):
    """Stands for a process that ends here: nothing may clean up after it."""


class Killer:
    """Counts operations of the file system, and ends the process at one of them."""

    def __init__(self, point: int) -> None:
        self.left = point

    def before(self, real):
        def called(*arguments, **options):
            self.left -= 1
            if self.left == 0:
                raise Killed
            return real(*arguments, **options)

        return called

    def remove(self, path: Path) -> None:
        """Removes as the real one does, as long as the process lives."""
        if self.left > 0:
            shutil.rmtree(path)


@pytest.mark.parametrize(
    ("there", "damaged", "step", "keep", "seed"),
    [([3], None, 6, 1, 0), ([3, 6], None, 9, 2, 0), ([3, 6], 6, 6, 2, 0), ([3], None, 3, 1, 0), ([3], None, 3, 1, 1)],
    ids=["the only one", "one of two", "in place of a damaged one", "the same again", "other numbers of the same step"],
)
def test_a_kill_at_any_operation_leaves_the_newest_good_one_or_a_newer(
    tmp_path: Path, monkeypatch, there: list[int], damaged: int | None, step: int, keep: int, seed: int
) -> None:
    start = tmp_path / "start"
    for one in there:
        save(start, one, keep=keep)
    if damaged is not None:
        flip(start / f"step-{damaged:06d}" / "m.safetensors", 900)
    before = newest_checkpoint(start).name
    for point in range(1, 80):
        folder, killer = tmp_path / str(point), Killer(point)
        shutil.copytree(start, folder)
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "remove", killer.remove)
            patch.setattr(checkpoint_folder, "remove", killer.remove)
            for owner, names_of in ((Path, ("mkdir", "rename", "open", "unlink")), (os, ("replace", "fsync", "rmdir", "unlink"))):
                for name in names_of:
                    patch.setattr(owner, name, killer.before(getattr(owner, name)))
            with suppress(Killed):
                save(folder, step, keep=keep, seed=seed)
        adopt(folder)
        assert newest_checkpoint(folder).name >= before
        if killer.left > 0:
            break
    assert killer.left > 0, "the save never came to its end"
    assert newest_checkpoint(folder).name == f"step-{step:06d}"


def test_a_complete_one_without_its_name_is_adopted(tmp_path: Path) -> None:
    save(tmp_path, 3)
    save(tmp_path, 6).rename(temporary_name(tmp_path / "step-000006"))
    assert newest_checkpoint(tmp_path).name == "step-000003"
    adopt(tmp_path)
    assert newest_checkpoint(tmp_path).name == "step-000006"


def test_an_incomplete_one_is_not_adopted_and_what_was_being_removed_is_not_either(tmp_path: Path) -> None:
    save(tmp_path, 3)
    half = temporary_name(tmp_path / "step-000006")
    shutil.copytree(save(tmp_path, 6), half)
    (half / "m.safetensors").write_bytes(b"half")
    shutil.rmtree(tmp_path / "step-000006")
    shutil.copytree(tmp_path / "step-000003", temporary_name(tmp_path / "old-step-000002"))
    adopt(tmp_path)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-000003"]


def test_modes_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        path = save(tmp_path / "checkpoints", 3)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o750
    assert {one.stat().st_mode & 0o777 for one in path.iterdir()} == {0o640}


def test_the_state_is_plain_json(tmp_path: Path) -> None:
    state = json.loads((save(tmp_path, 3, run="r") / "state.json").read_text())
    assert state["run"] == "r"
    assert sorted(state["files"]) == ["m.safetensors", "optimizer.safetensors", "streams.safetensors"]
