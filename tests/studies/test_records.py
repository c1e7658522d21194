"""`dfw runs`: what is known of runs on disk, and what is done to them."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from command_line import run_dfw
from small_runs import PIXELS

import dfw
from dfw.errors import CheckpointError, ConfigError
from dfw.runs.lock import RunLock
from dfw.studies.records import delete, find_runs, record_of, tag, tags_of


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """A red and a blue run, a diverged one, and one of two stages."""
    monkeypatch.chdir(tmp_path)

    def made(**changes: Any) -> Path:
        return dfw.run(PIXELS | {"output": "runs"} | changes, listeners=[]).directory

    found = {"red": made(seed=3, name="pixels"), "blue": made(prompt="a blue square", name="other")}
    with pytest.raises(dfw.DivergedError):
        made(name="bad", losses={"sds": {"guidance_scale": 1, "weight": 1e38}})
    found["bad"] = next(Path("runs", "bad").iterdir())
    stages = {"one": {}, "two": {"trainer": PIXELS["trainer"] | {"steps": 2}}}
    found["staged"] = made(name="staged", stages=stages).parent
    return {name: path.relative_to(tmp_path) if path.is_absolute() else path for name, path in found.items()}


def listed(*arguments: str, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    code, said, _ = run_dfw("runs", "list", *arguments, "--json", capsys=capsys)
    assert code == 0
    found: list[dict[str, Any]] = json.loads(said)
    return found


def test_every_run_is_found_once_with_what_it_says(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert sorted(find_runs([Path("runs")])) == sorted(runs.values())
    by_path = {Path(one["path"]): one for one in listed(capsys=capsys)}
    keys = ("status", "name", "subject", "seed", "step", "steps", "tags")
    assert [by_path[runs["red"]][key] for key in keys] == ["finished", "pixels", "a red square", 3, 6, 6, []]
    assert [by_path[runs["bad"]][key] for key in keys[:3]] == ["diverged", "bad", "a red square"]
    assert by_path[runs["bad"]]["diagnosis"]
    assert [by_path[runs["staged"]][key] for key in keys] == ["finished", "staged", "a red square", 0, 2, 2, []]
    assert by_path[runs["red"]]["seconds"] > 0


def test_runs_are_filtered_and_sorted(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    def paths(*arguments: str) -> list[Path]:
        return [Path(one["path"]) for one in listed(*arguments, capsys=capsys)]

    tag(runs["blue"], ["good", "mine"])
    assert paths("--prompt", "BLUE") == paths("--tag", "good", "--tag", "mine") == paths("--name", "other") == [runs["blue"]]
    assert paths("--status", "diverged", "--status", "failed") == [runs["bad"]]
    assert paths("--tag", "bad") == []
    assert paths("--sort", "seed")[-1] == runs["red"]
    assert paths(str(runs["red"]), str(runs["red"])) == [runs["red"]]
    code, said, _ = run_dfw("runs", "list", "--prompt", "blue", capsys=capsys)
    assert code == 0
    head, line, total = said.splitlines()
    assert head.split() == ["STATUS", "STEP", "TIME", "NAME", "SEED", "PROMPT", "TAGS", "RUN"]
    assert "a blue square" in line
    assert "good mine" in line
    assert total == "1 of 4 runs in runs"


def test_show_says_how_a_run_stands_and_what_it_made(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    code, said, _ = run_dfw("runs", "show", str(runs["staged"]), capsys=capsys)
    assert code == 0
    rows = dict(line.split(maxsplit=1) for line in said.splitlines())
    assert rows["status"] == "finished"
    assert rows["stages"] == "1-one, 2-two"
    assert Path(rows["report"]).is_file()
    code, _, said = run_dfw("runs", "show", "nowhere", capsys=capsys)
    assert code == 2
    assert "nowhere" in said


def test_damaged_files_leave_gaps(runs: dict[str, Path], caplog: pytest.LogCaptureFixture) -> None:
    (runs["red"] / "status.json").write_text("{")
    (runs["red"] / "config.yaml").write_text("a: [")
    one = record_of(runs["red"])
    assert (one.status, one.subject, one.step, one.seconds) == ("", "", None, 0.0)
    assert "config.yaml: cannot be read" in caplog.text


@pytest.mark.parametrize("rubbish", [b"a: [b\n", b"- a list\n", b"\x00\xff\xfe", b""], ids=["yaml", "list", "bytes", "empty"])
def test_a_run_that_is_named_needs_settings_and_a_list_goes_on(
    rubbish: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, settings in {"bad": rubbish, "good": b"name: good\n"}.items():
        Path("all", name).mkdir(parents=True)
        Path("all", name, "resolved.yaml").write_bytes(settings)
    for command in (("runs", "show"), ("evaluate",), ("compare",)):
        code, said, wrong = run_dfw(*command, "all/bad", capsys=capsys)
        assert (code, said) == (2, "")
        assert wrong.startswith("error: all/bad/resolved.yaml: cannot be read as the settings of a run (")
        assert wrong.count("\n") == 1, wrong
    code, said, warned = run_dfw("runs", "list", "all", capsys=capsys)
    assert (code, said.splitlines()[-1]) == (0, "2 runs in all")
    assert "all/bad/resolved.yaml: cannot be read as the settings" in warned
    code, said, _ = run_dfw("evaluate", "all", capsys=capsys)
    assert code == 1
    assert "failed: all/bad/resolved.yaml: cannot be read" in said
    assert "not begun  all/good" in said


def test_tags_come_and_go_and_are_words(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    run = str(runs["red"])
    assert run_dfw("runs", "tag", run, "b", "a", "b", capsys=capsys)[:2] == (0, "b a\n")
    assert run_dfw("runs", "tag", run, "c", "--drop", "b", capsys=capsys)[:2] == (0, "a c\n")
    assert run_dfw("runs", "tag", run, capsys=capsys)[:2] == (0, "a c\n")
    for word in ("two words", "", "a\nb", "\x1b[31m"):
        with pytest.raises(ConfigError, match="is not a tag; a tag is one word"):
            tag(runs["red"], [word])
    assert tags_of(runs["red"]) == ("a", "c")


def test_a_run_is_removed_whole_after_a_question(
    runs: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(path for path in Path("runs").rglob("*") if runs["red"] not in (path, *path.parents))
    for answer in ("", "n\n"):
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        code, said, error = run_dfw("runs", "rm", str(runs["red"]), capsys=capsys)
        assert code == 2
        assert "a red square" in said
        assert "nothing was removed" in error
        assert runs["red"].is_dir()
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    code, said, _ = run_dfw("runs", "rm", str(runs["red"]), capsys=capsys)
    assert code == 0
    assert said.endswith(f"removed {runs['red']}\n")
    assert sorted(Path("runs").rglob("*")) == before


def test_a_run_at_work_stays_and_so_do_those_named_with_it(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    lock = RunLock(runs["blue"])
    lock.take()
    try:
        code, _, said = run_dfw("runs", "rm", "--yes", str(runs["red"]), str(runs["blue"]), capsys=capsys)
        assert code == 2
        assert "a process works on it; nothing was removed" in said
        with pytest.raises(CheckpointError, match="is being continued by"):
            delete(runs["blue"])
    finally:
        lock.release()
    assert runs["red"].is_dir()
    assert runs["blue"].is_dir()


def test_a_run_of_which_one_stage_is_at_work_stays(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    lock = RunLock(runs["staged"] / "2-two")
    lock.take()
    try:
        code, _, said = run_dfw("runs", "rm", "--yes", str(runs["red"]), str(runs["staged"]), capsys=capsys)
        assert code == 2
        assert "a process works on it; nothing was removed" in said
        with pytest.raises(CheckpointError, match="is being continued by"):
            delete(runs["staged"])
    finally:
        lock.release()
    assert runs["red"].is_dir()
    assert (runs["staged"] / "2-two").is_dir()
    delete(runs["staged"])
    assert not runs["staged"].exists()


def test_a_link_to_a_run_stays_and_the_current_folder_can_be_named(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("link").symlink_to(runs["red"])
    with pytest.raises(CheckpointError, match="is a link, so it is not removed; name the run itself"):
        delete(Path("link"))
    assert Path("link").is_dir()
    monkeypatch.chdir(runs["red"])
    delete(Path())
    assert not (tmp_path / runs["red"]).exists()


def test_a_folder_that_is_not_there_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, said = run_dfw("runs", "list", str(tmp_path / "nowhere"), capsys=capsys)
    assert code == 2
    assert "nowhere: there is no such folder; name one that holds runs" in said


def test_what_is_not_a_run_and_one_stage_of_a_run_stay(runs: dict[str, Path]) -> None:
    Path("mine").mkdir()
    Path("mine", "file").touch()
    for path, said in ((Path("mine"), "is not a run"), (runs["staged"] / "1-one", "is a stage of")):
        with pytest.raises(CheckpointError, match=said):
            delete(path)
        assert path.is_dir()
    os.rename(runs["red"], runs["red"].with_name(".red.1.00000000.tmp"))  # what a kill leaves of a removal
    assert runs["red"].with_name(".red.1.00000000.tmp") not in set(find_runs([Path("runs")]))
