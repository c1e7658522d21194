"""Every file of a stopped run is damaged in every way: the end is the same, or a warning or one sentence names the file.

A small version of tools/attack/corrupt.py, which damages runs at random.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from command_line import run_dfw
from small_runs import PIXELS, config

from dfw.api import Run
from dfw.cli.main import main
from dfw.config.load import to_yaml
from dfw.runs.checkpoint_folder import list_checkpoints, run_of
from dfw.runs.directory import RunDirectory
from dfw.runs.runner import run as run_it

FILES = (
    "config.yaml",
    "resolved.yaml",
    "manifest.json",
    "status.json",
    "metrics.jsonl",
    "run.log",
    "images/step-000002.png",
    "checkpoints/step-000004/state.json",
    "checkpoints/step-000004/geometry.safetensors",
    "checkpoints/step-000004/optimizer.safetensors",
    "checkpoints/step-000002/streams.safetensors",
)
DAMAGES = {
    "bit": lambda path: path.write_bytes(flipped(path.read_bytes())),
    "noise": lambda path: path.write_bytes(bytes(range(255, -1, -1))),
    "shape": lambda path: path.write_text("[1]\n"),
    "removed": lambda path: path.unlink(),
    "folder": lambda path: (path.unlink(), path.mkdir()),
}


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 2]) + data[middle + 1 :]


def end_of(run: Path) -> dict[str, object]:
    """What must be the same to the bit."""
    newest = list_checkpoints(run / "checkpoints")[-1]
    found: dict[str, object] = {path.name: path.read_bytes() for path in newest.glob("*.safetensors")}
    measured = ("seconds", "wall", "peak_memory")
    found["metrics"] = [{k: v for k, v in row.items() if k not in measured} for row in RunDirectory(run).read_metrics()]
    return found | {"step": newest.name}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    """A run that was killed after step 4 of 6, and how it ends."""
    folder = tmp_path_factory.mktemp("damaged")
    trainer = {"steps": 6, "checkpoint_every": 2, "keep_checkpoints": 3, "preview_every": 2}
    (folder / "c.yaml").write_text(to_yaml(config(PIXELS, folder, trainer=trainer)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["run", "c.yaml"]) == 0
    (run,) = (folder / "runs" / "run").iterdir()
    wanted = end_of(run)
    shutil.rmtree(run / "checkpoints" / "step-000006")
    (run / "report.html").unlink()
    directory = RunDirectory(run)
    directory.write_json("status.json", directory.read_json("status.json") | {"status": "interrupted", "step": 4})
    return run, wanted


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_damage_is_harmless_or_named(stopped, tmp_path: Path, name: str, how: str, capsys) -> None:
    source, wanted = stopped
    run = tmp_path / "run"
    shutil.copytree(source, run)
    DAMAGES[how](run / name)
    code, _, err = run_dfw("run", "--resume", str(run), capsys=capsys)
    assert "Traceback" not in err
    named = {Path(name).name, *(part for part in Path(name).parts if part.startswith("step-"))}
    about = [line for line in err.splitlines() if any(one in line for one in named)]
    if code:
        assert code == 2
        assert about
        assert len([line for line in err.splitlines() if line.startswith("error: ")]) == 1
    elif end_of(run) != wanted:
        assert any(line.startswith("WARNING: ") for line in about)
    if name == "checkpoints/step-000004/geometry.safetensors":
        assert "taking step-000002 instead" in err
        assert end_of(run) == wanted


def test_all_checkpoints_damaged_is_one_sentence_for_every_verb(stopped, tmp_path: Path, capsys) -> None:
    run = tmp_path / "run"
    shutil.copytree(stopped[0], run)
    for path in list_checkpoints(run / "checkpoints"):
        (path / "geometry.safetensors").write_bytes(b"")
    (tmp_path / "c.yaml").write_text((run / "config.yaml").read_text())
    new = ("run", str(tmp_path / "c.yaml"), f"start.run={run}")
    for arguments in (("run", "--resume", str(run)), ("render", str(run)), ("export", str(run)), new):
        code, _, err = run_dfw(*arguments, capsys=capsys)
        assert code == 2
        (line,) = err.splitlines()
        damage = "geometry.safetensors is damaged (its checksum differs)"
        assert f"no checkpoint can be restored (step-000004: {damage}; step-000002: {damage});" in line


def test_a_checkpoint_of_another_run_is_not_taken(stopped, tmp_path: Path, capsys) -> None:
    run = tmp_path / "run"
    shutil.copytree(stopped[0], run)
    (tmp_path / "c.yaml").write_text((run / "config.yaml").read_text())
    assert run_dfw("run", str(tmp_path / "c.yaml"), "seed=7", f"output={tmp_path / 'other'}", capsys=capsys)[0] == 0
    (other,) = (tmp_path / "other" / "run").iterdir()
    assert run_of(other / "checkpoints" / "step-000004") == RunDirectory(other).identity != RunDirectory(run).identity
    shutil.rmtree(run / "checkpoints" / "step-000004")
    shutil.copytree(other / "checkpoints" / "step-000004", run / "checkpoints" / "step-000004")
    code, _, err = run_dfw("run", "--resume", str(run), capsys=capsys)
    assert code == 0
    assert "step-000004: state.json is that of another run; taking step-000002 instead" in err
    assert end_of(run) == stopped[1]
    assert run_of(run / "checkpoints" / "step-000006") == RunDirectory(run).identity


@pytest.mark.parametrize(
    ("name", "said"),
    [("manifest.json", "manifest.json: missing; going on without it"), ("metrics.jsonl", "metrics.jsonl lacks steps 0 to 3")],
)
def test_a_script_that_opens_a_run_hears_what_is_missing(stopped, tmp_path: Path, name: str, said: str, caplog) -> None:
    run = tmp_path / "run"
    shutil.copytree(stopped[0], run)
    opened = Run(run)
    assert (len(opened.metrics), bool(opened.manifest), caplog.text) == (6, True, "")
    (run / name).unlink()
    assert not opened.metrics or not opened.manifest
    assert said in caplog.text
    (run / name).symlink_to("/nowhere/at/all")
    caplog.clear()
    assert not opened.metrics or not opened.manifest
    assert name in caplog.text


def test_a_file_of_another_run_is_noticed(stopped: tuple[Path, object], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each has a good checksum; it is the wrong run's."""
    run = shutil.copytree(stopped[0], tmp_path / "run")
    tree = config(PIXELS, tmp_path, seed=5, trainer={"steps": 1})
    other = run_it(tree, listeners=[]).directory
    files = RunDirectory(run)
    manifest, rows = files.read_json("manifest.json"), files.read_metrics()
    assert manifest["seed"] == 0
    (run / "config.yaml").rename(tmp_path / "kept.yaml")  # without it nobody knows whose the files should be
    assert (files.read_json("manifest.json"), files.read_metrics()) == (manifest, rows)
    (tmp_path / "kept.yaml").rename(run / "config.yaml")
    for name in ("manifest.json", "status.json", "metrics.jsonl"):
        shutil.copy(other / name, run / name)
    assert files.read_json("manifest.json") == files.read_json("status.json") == {}
    assert files.read_metrics() == []
    said = [record.getMessage() for record in caplog.records]
    assert sum("it belongs to another run than config.yaml" in one for one in said) == 2
    assert any("1 row belongs to another run than config.yaml" in one for one in said)
