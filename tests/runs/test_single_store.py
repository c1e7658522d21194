"""One run with a store of its own: copied while it is made, continued elsewhere to the same bits, never by two at once."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
import yaml
from command_line import fresh_plugins, run_dfw
from small_runs import PIXELS

import dfw
from dfw.runs.drive import MEASURED
from dfw.runs.life import status_of
from dfw.runs.lock import RunLock
from dfw.storage import claim, mirror
from dfw.storage.claim import Claim
from dfw.storage.link import LINK, identity_of, store_of
from dfw.storage.place import Place, StoreError
from dfw.storage.single import CLAIMS
from dfw.studies.plan import PLAN, planned, write_plan

URL = "memory://things/square"
HERE = Path("runs/resumed/square")
"""Where a run goes on that is named by `URL`."""


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty folder, and an empty store in memory."""
    monkeypatch.chdir(tmp_path)
    fresh_plugins()
    tiny = PIXELS | {"name": "tiny", "trainer": {**PIXELS["trainer"], "checkpoint_every": 2, "keep_checkpoints": 1}}
    Path("tiny.yaml").write_text(yaml.safe_dump(tiny), encoding="utf-8")
    staged = tiny | {"stages": {"first": {}, "second": {"start": {"stage": "first"}}}}
    Path("staged.yaml").write_text(yaml.safe_dump(staged), encoding="utf-8")
    yield
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


def only_run() -> Path:
    (found,) = Path("runs/tiny").iterdir()
    return found


def numbers(run: Path) -> list[dict[str, object]]:
    return [{key: value for key, value in row.items() if key not in MEASURED} for row in dfw.open(run).metrics]


def interrupt_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """SIGINT reaches the process once, after it has written the checkpoint of that step, in the last stage if there are some."""
    done: list[int] = []
    written = mirror.Mirror.written

    def spy(self: mirror.Mirror, folder: Path) -> None:
        written(self, folder)
        if not done and "first" not in folder.name and (folder / f"checkpoints/step-{step:06d}").is_dir():
            done.append(step)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(mirror.Mirror, "written", spy)


@pytest.mark.parametrize("kind", ["memory", "folder", "stages"])
def test_a_lost_machine_s_run_goes_on_elsewhere_to_the_same_bits(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = "staged.yaml" if kind == "stages" else "tiny.yaml"
    url = f"file://{tmp_path}/bucket/square" if kind == "folder" else URL
    alone = numbers(dfw.run(config, listeners=[]).directory)
    shutil.rmtree("runs")
    interrupt_after(monkeypatch, 4)
    code, said, _ = run_dfw("run", config, "--store", url, capsys=capsys)
    assert (code, f"copied to {url}\n" in said) == (130, True)
    shutil.rmtree("runs")
    code, said, wrong = run_dfw("run", "--resume", url, capsys=capsys)
    assert (code, f"copied to {url}\n" in said) == (0, True), wrong
    assert numbers(HERE) == alone
    assert min(row["step"] for row in dfw.open(HERE).manifest["resumed"]) == 4, "it did not go on from the copied checkpoint"
    assert not Place(url).read(LINK), "the file that tells this folder from its copies was copied"
    assert run_dfw("runs", "fetch", url, "--out", "fetched", capsys=capsys)[0] == 0
    assert numbers(Path("fetched")) == alone
    assert not (Path("fetched") / CLAIMS).exists()
    code, said, _ = run_dfw("run", "--resume", url, capsys=capsys)
    assert (code, said.splitlines()[-2:]) == (0, [f"{HERE}: is finished", f"copied to {url}"])


def test_the_folder_remembers_its_store(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    interrupt_after(monkeypatch, 2)
    assert run_dfw("run", "tiny.yaml", "--store", URL, capsys=capsys)[0] == 130
    assert store_of(only_run()) == URL
    assert run_dfw("run", "--resume", str(only_run()), capsys=capsys)[0] == 0
    assert b'"finished"' in (Place(URL).read("status.json") or b"")
    assert run_dfw("run", "--resume", str(only_run()), "trainer.steps=8", capsys=capsys)[0] == 0
    assert "checkpoints/step-000008/state.json" in Place(URL).files()


def test_out_says_where_a_run_goes_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    interrupt_after(monkeypatch, 2)
    assert run_dfw("run", "tiny.yaml", "--store", URL, capsys=capsys)[0] == 130
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("keep")
    assert "mine: not a run directory" in refused("--resume", URL, "--out", "mine", capsys=capsys)
    assert "name one with --out that is not there yet" in refused("--resume", URL, "--out", "mine", capsys=capsys)
    for words in (("tiny.yaml",), ("--resume", str(only_run()))):
        code, _, wrong = run_dfw("run", *words, "--out", "scratch/square", capsys=capsys)
        assert (code, "says where the run of --resume URL goes on" in wrong) == (2, True)
    assert run_dfw("run", "--resume", URL, "--out", "scratch/square", capsys=capsys)[0] == 0
    assert status_of(Path("scratch/square")) == "finished"
    assert [row["step"] for row in dfw.open("scratch/square").manifest["resumed"]] == [2]
    assert not HERE.exists()
    assert [path.name for path in Path("mine").iterdir()] == ["notes.txt"]


def test_a_run_without_a_store_gets_one_when_it_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_dfw("run", "tiny.yaml", capsys=capsys)[0] == 0
    assert run_dfw("run", "--resume", str(only_run()), "--store", URL, capsys=capsys)[0] == 0
    assert run_dfw("runs", "fetch", URL, "--out", "fetched", capsys=capsys)[0] == 0
    assert numbers(Path("fetched")) == numbers(only_run())


def refused(*words: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence with which `dfw run` refuses."""
    before = Place(URL).files()
    code, _, wrong = run_dfw("run", *words, capsys=capsys)
    assert (code, wrong.count("\n")) == (2, 1), wrong
    assert {name for name in Place(URL).files() if not name.startswith(".")} == {one for one in before if not one.startswith(".")}
    return wrong


def test_nobody_goes_on_while_another_process_works_on_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_dfw("run", "tiny.yaml", "--store", URL, capsys=capsys)[0] == 0
    other = Claim(Place(URL) / CLAIMS, "another machine's folder")
    other.take()
    for words in (("--resume", URL), ("--resume", str(only_run()), "trainer.steps=8")):
        assert f"is being made by process {os.getpid()} on host" in refused(*words, capsys=capsys)
    assert not HERE.exists()
    other.release()
    mine = Claim(Place(URL) / CLAIMS, identity_of(only_run()))  # of a process that was killed in this folder
    mine.take()
    mine._ended.set()
    (only_run() / "status.json").unlink()  # so that the store has come further
    folder, lock = only_run().stat().st_ino, RunLock(only_run())
    lock.take()
    assert "is being continued by process" in refused("--resume", str(only_run()), "trainer.steps=8", capsys=capsys)
    assert only_run().stat().st_ino == folder, "the folder in which that process works was replaced"
    lock.release()
    assert run_dfw("run", "--resume", str(only_run()), "trainer.steps=8", capsys=capsys)[0] == 0


def test_a_run_that_another_machine_has_taken_ends_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written, taken = mirror.Mirror.written, []

    def spy(self: mirror.Mirror, path: Path) -> None:
        written(self, path)
        if not taken and (path / "checkpoints/step-000002").is_dir():
            monkeypatch.setattr(claim, "LAPSES", -1.0)
            taken.append(Claim(Place(URL) / CLAIMS, "another machine's folder"))
            taken[0].take()
            monkeypatch.setattr(claim, "LAPSES", 120.0)
            assert not self._claim.renew()

    monkeypatch.setattr(mirror.Mirror, "written", spy)
    code, _, wrong = run_dfw("run", "tiny.yaml", "--store", URL, capsys=capsys)
    taken[0].release()
    assert code == 2
    assert "has taken the run; this process has ended its own" in wrong
    assert status_of(only_run()) == "interrupted"
    assert not any("step-000004" in name for name in Place(URL).files())


def test_a_copy_that_was_not_made_at_the_end_is_made_later(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    upload, gone = Place.upload, True

    def unreachable(self: Place, source: Path, name: str) -> None:
        if gone:
            raise StoreError(f"{self.url}: cannot be written (no route)")
        upload(self, source, name)

    monkeypatch.setattr(Place, "upload", unreachable)
    monkeypatch.setattr(mirror, "LAST", (0.0,))
    code, _, wrong = run_dfw("run", "tiny.yaml", "--store", URL, capsys=capsys)
    again = wrong.splitlines()[-1]
    assert code == 2
    assert again.endswith(f"the run is whole here, and `dfw run --resume {only_run().absolute()}` copies it again")
    gone = False
    assert run_dfw("run", "--resume", str(only_run()), capsys=capsys)[0] == 0
    assert run_dfw("runs", "fetch", URL, "--out", "fetched", capsys=capsys)[0] == 0
    assert numbers(Path("fetched")) == numbers(only_run())


def test_what_does_not_fit_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_dfw("run", "tiny.yaml", "--store", URL, capsys=capsys)[0] == 0
    first = only_run().rename("first")
    for more in ([], ["--dry-run"]):
        said = refused("tiny.yaml", "--store", URL, *more, capsys=capsys)
        assert f"holds a run already; go on with `dfw run --resume {URL}`, or name another" in said
    assert "holds no run" in refused("--resume", "memory://things/nothing", capsys=capsys)
    assert "holds other runs" in refused("--resume", "memory://things", capsys=capsys)
    code, _, usage = run_dfw("run", "--resume", URL, "--store", URL, capsys=capsys)
    assert (code, "leave --store away" in usage) == (2, True)
    assert "is a URL, such as s3://bucket/study" in refused("tiny.yaml", "--store", "things", capsys=capsys)
    assert "leave user, password and options out" in refused("tiny.yaml", "--store", "s3://me:it@bucket/run", capsys=capsys)
    assert f"the store of first is {URL}" in refused("--resume", "first", "--store", "memory://other", capsys=capsys)
    assert run_dfw("run", "tiny.yaml", "seed=5", capsys=capsys)[0] == 0
    assert "holds another run than" in refused("--resume", str(only_run()), "--store", URL, capsys=capsys)
    HERE.parent.mkdir()
    first.rename(HERE)
    assert "has another store" in refused("--resume", "memory://elsewhere/square", capsys=capsys)


def test_a_run_of_a_sweep_goes_on_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_dfw("run", "tiny.yaml", "--store", URL, capsys=capsys)[0] == 0
    write_plan(Path("study"), planned(["tiny.yaml"], []))
    Place("memory://things").upload(Path("study") / PLAN, PLAN)
    assert "go on with `dfw sweep --resume memory://things`" in refused("--resume", URL, capsys=capsys)
