"""Devices without room, folders that go away, and folders that others own: one sentence, exit code 2, and nothing lost."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from command_line import run_dfw
from small_runs import PIXELS, SCENE, config
from torch import nn

from dfw.atomic import sweep, temporary_name, write_text, write_whole
from dfw.config.load import to_yaml
from dfw.errors import CheckpointError, DfwError, ExportError
from dfw.export.pictures import save_grid, save_turntable
from dfw.interfaces.hooks import hookimpl
from dfw.runs.checkpoint import load_checkpoint, save_checkpoint
from dfw.runs.checkpoint_folder import list_checkpoints
from dfw.runs.directory import RunDirectory
from dfw.runs.metrics import MetricsFile, read_metrics
from dfw.runs.runner import run
from dfw.runs.seal import sealed_line


@contextmanager
def files_up_to(size: int):
    """No file may grow beyond `size` bytes: the system answers as a full device does, and it takes no root to ask for it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def save(folder: Path, step: int, size: int = 64) -> Path:
    module = nn.Linear(size, size)
    return save_checkpoint(folder, step, {"m": module}, {}, {"s": torch.arange(4)}, keep=2)


def test_a_checkpoint_without_room_is_one_sentence_and_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "resolved.yaml").touch()
    folder = tmp_path / "checkpoints"
    before = save(folder, 3)
    with files_up_to(4096), pytest.raises(CheckpointError) as error:
        save(folder, 6)
    assert str(error.value) == (
        f"cannot write {folder / 'step-000006'}: no space left on the device; make room, then go on with "
        f"`dfw run --resume {tmp_path}`"
    )
    assert [path.name for path in folder.iterdir()] == ["step-000003"]
    load_checkpoint(before, {"m": nn.Linear(64, 64)}, {})
    assert save(folder, 6).is_dir()


def test_the_first_checkpoint_without_room_says_to_start_again(tmp_path: Path) -> None:
    with files_up_to(4096), pytest.raises(CheckpointError, match=r"make room, then start the run again$"):
        save(tmp_path / "checkpoints", 3)


def test_a_row_of_metrics_without_room_is_one_sentence_and_no_row_before_it_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    row = {"loss": 0.5}
    size = len(sealed_line({"step": 0} | row))
    with files_up_to(3 * size + 10), MetricsFile(path, "go on") as metrics:
        for step in range(3):
            metrics.add({"step": step} | row)
        with pytest.raises(CheckpointError, match=r"metrics\.jsonl: no space left on the device; make room, then go on$"):
            metrics.add({"step": 3} | row)
    assert [row["step"] for row in read_metrics(path)] == [0, 1, 2]


@pytest.mark.parametrize(
    "write",
    [
        lambda path: save_grid(torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0)), path / "a.png"),
        lambda path: save_turntable(torch.rand(3, 64, 64, 3, generator=torch.Generator().manual_seed(0)), path / "a.gif"),
    ],
)
def test_a_picture_without_room_is_one_sentence_and_no_file(tmp_path: Path, write) -> None:
    with files_up_to(1000), pytest.raises(ExportError, match=r"cannot write .*: no space left on the device; make room, then"):
        write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def one_error(err: str) -> str:
    """The one line that is an error; a traceback would be many."""
    assert "Traceback" not in err
    (line,) = (line for line in err.splitlines() if line.startswith("error: "))
    return line


@pytest.mark.parametrize("size", [150, 600, 2000, 6000, 20_000, 90_000])
def test_a_run_without_room_ends_with_one_sentence_and_goes_on_when_there_is_some(tmp_path: Path, size: int, capsys) -> None:
    """Every limit stops another part of the run: its configuration, its rows, a checkpoint, its mesh, its report."""
    made = config(SCENE, tmp_path, trainer={"checkpoint_every": 2, "preview_every": 2})
    (tmp_path / "c.yaml").write_text(to_yaml(made))
    with files_up_to(size):
        code, _, err = run_dfw("run", str(tmp_path / "c.yaml"), capsys=capsys)
    assert code == 2
    assert "no space left on the device; make room, then" in one_error(err)
    left = [path for path in tmp_path.rglob("*") if path.name.endswith(".tmp")]
    assert left == []
    runs = list((tmp_path / "runs" / "run").iterdir())
    if runs and list_checkpoints(runs[0] / "checkpoints"):
        code, _, err = run_dfw("run", "--resume", str(runs[0]), capsys=capsys)
        assert (code, "Traceback" in err) == (0, False)
        assert [row["step"] for row in RunDirectory.open(runs[0]).read_metrics()] == [0, 1, 2, 3]


def test_a_full_device_is_the_same(tmp_path: Path, capsys) -> None:
    """On a real one: a small tmpfs, where this process may mount one."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("this process may not mount a tmpfs")
    try:
        made = config(PIXELS, tmp_path, trainer={"checkpoint_every": 1, "keep_checkpoints": 50, "steps": 40})
        (tmp_path / "c.yaml").write_text(to_yaml(made))
        code, _, err = run_dfw("run", str(tmp_path / "c.yaml"), f"output={place}", capsys=capsys)
        assert code == 2
        assert "no space left on the device; make room, then" in one_error(err)
        (run,) = (place / "run").iterdir()
        assert not [path for path in run.rglob("*") if path.name.endswith(".tmp")]
        assert list_checkpoints(run / "checkpoints")
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_run_directory_that_is_removed_meanwhile_is_one_sentence(tmp_path: Path, capsys) -> None:
    class Remover:
        @hookimpl
        def dfw_step_ended(self, step) -> None:
            if step.progress.step == 1:
                shutil.rmtree(next((tmp_path / "runs" / "run").iterdir()))

    with pytest.raises(DfwError, match=r"removed while the run wrote to it|cannot write"):
        run(config(PIXELS, tmp_path, trainer={"checkpoint_every": 2}), listeners=[Remover()])


def test_leftovers_are_swept_and_those_of_living_processes_are_not(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()

    (tmp_path / ".mine.tmp").touch()
    for name in ("a.png", "b.json"):
        temporary = temporary_name(tmp_path / name)
        write_text(temporary, "x")
        temporary.rename(str(temporary).replace(f".{os.getpid()}.", f".{dead.pid if name == 'a.png' else os.getppid()}."))
    sweep(tmp_path)
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert len(kept) == 2
    assert kept[0].startswith(".b.json.")
    assert kept[1] == ".mine.tmp"


def test_a_file_written_whole_has_the_modes_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "a", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


@pytest.fixture
def open_path():
    """A folder that every user may enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="dfw-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@contextmanager
def somebody_else():
    """Another user, for whom the folders of this one are read-only."""
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_a_run_of_another_user_can_be_looked_at_and_says_why_it_cannot_go_on(open_path: Path, capsys) -> None:
    tmp_path = open_path
    (tmp_path / "c.yaml").write_text(to_yaml(config(PIXELS, tmp_path, trainer={"checkpoint_every": 2})))
    assert run_dfw("run", str(tmp_path / "c.yaml"), capsys=capsys)[0] == 0
    (run,) = (tmp_path / "runs" / "run").iterdir()
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 65534, 65534)
    with somebody_else():
        code, _, err = run_dfw("render", str(run), "--frames", "1", "--out", str(tmp_path / "theirs" / "a.webp"), capsys=capsys)
        assert (code, err) == (0, "")
        code, _, err = run_dfw("render", str(run), "--frames", "1", capsys=capsys)
        assert code == 2
        assert one_error(err).endswith("turntable.webp: permission denied; choose another output folder")
        code, _, err = run_dfw("run", "--resume", str(run), "trainer.steps=8", capsys=capsys)
    assert code == 2
    assert "cannot write" in one_error(err)
    assert "permission denied" in one_error(err).lower()
