"""Sweeps with a store: runs are copied while they are made, and go on from there on another machine."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest
import yaml
from command_line import fresh_plugins, run_dfw
from small_runs import PIXELS

import dfw
from dfw.runs.drive import MEASURED
from dfw.runs.life import status_of
from dfw.storage import claim, mirror
from dfw.storage.claim import Claim, Taken, holder
from dfw.storage.link import identity_of, link
from dfw.storage.mirror import Mirror, fetch
from dfw.storage.place import Place
from dfw.studies.axes import axis
from dfw.studies.plan import CLAIMS, Planned, planned, write_plan
from dfw.studies.stored import UNCOPIED, add_to_store, states, stored_plan
from dfw.studies.worker import Maker, make


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fresh_plugins()
    tiny = PIXELS | {"trainer": {**PIXELS["trainer"], "checkpoint_every": 2, "keep_checkpoints": 1}}
    Path("tiny.yaml").write_text(yaml.safe_dump(tiny), encoding="utf-8")


@pytest.fixture
def url() -> Iterator[str]:
    """A store in memory."""
    memory = fsspec.filesystem("memory")
    yield "memory://study"
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


@pytest.fixture(params=["memory", "file"])
def either(request: pytest.FixtureRequest, tmp_path: Path, url: str) -> str:
    """A store in memory, or in a folder."""
    return f"file://{tmp_path}/store" if request.param == "file" else url


def numbers(run: Path) -> list[dict[str, object]]:
    return [{key: value for key, value in row.items() if key not in MEASURED} for row in dfw.open(run).metrics]


def alone(*overrides: str) -> list[dict[str, object]]:
    return numbers(dfw.run("tiny.yaml", *overrides, listeners=[]).directory)


def one_run(*overrides: str) -> Planned:
    (run,) = planned(["tiny.yaml"], [axis(text) for text in overrides])
    return run


def begun(folder: str, url: str, run: Planned) -> Path:
    """A machine's folder for the sweep."""
    link(Path(folder), url)
    write_plan(Path(folder), add_to_store(Place(url), [run]))
    return Path(folder)


def test_a_run_goes_on_from_the_store_to_the_same_bits(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run, place = one_run(), Place(url)
    first = begun("first", url, run)
    stop_after_checkpoint(monkeypatch, 4)
    assert make(first, run, store=url).status == "interrupted"
    assert {one for one in (place / run.name).files() if one.endswith("state.json")} == {"checkpoints/step-000004/state.json"}
    shutil.rmtree(first)
    second = begun("second", url, run)
    assert states(second, [run], place) == {run: "interrupted"}
    assert make(second, run, store=url).status == "finished"
    assert numbers(second / run.name) == alone()
    assert states(second, [run], place) == {run: "finished"}
    third = begun("third", url, run)
    assert states(third, [run], place) == {run: "finished"}
    copy = fetch(place / run.name, Path("fetched"))
    assert files_of(copy) == files_of(second / run.name) - {Path("run.lock")}
    assert numbers(copy) == alone()


def files_of(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


def stop_after_checkpoint(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """SIGINT reaches the process once, after it has written the checkpoint of that step."""
    done: list[int] = []
    written = mirror.Mirror.written

    def spy(self: Mirror, folder: Path) -> None:
        written(self, folder)
        if not done and (folder / f"checkpoints/step-{step:06d}").is_dir():
            done.append(step)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(mirror.Mirror, "written", spy)


def test_what_lies_in_the_store_is_a_complete_run_after_each_single_write(either: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that comes then finds a run that it can go on with, and never one that is less far."""
    run = one_run()
    folder = begun("first", either, run)
    steps: list[int] = []
    looks = 0

    def looking(method: str) -> None:
        before: Callable[..., object] = getattr(Place, method)

        def after(self: Place, *given: object) -> object:
            nonlocal looks
            value = before(self, *given)
            if self.url == f"{either}/{run.name}":
                looks += 1
                steps.append(newest_in(self, Path(f"look-{looks}")))
            return value

        monkeypatch.setattr(Place, method, after)

    copy_each_time(monkeypatch)
    for method in ("write", "upload"):
        looking(method)
    singly = Place.remove
    monkeypatch.setattr(Place, "remove", lambda self, names: [singly(self, [name]) for name in names])
    looking("remove")
    assert make(folder, run, store=either).status == "finished"
    found = [one for one in steps if one is not None]
    assert found == sorted(found)
    assert found[-1] == 6
    assert len(set(found)) > 2, "the run was copied once only"


def copy_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the run wait for all copies except the last: a fast one would be copied once, at its end."""
    idle = threading.Event()
    idle.set()
    written, tried = Mirror.written, Mirror._tried

    def wait_then_write(self: Mirror, folder: Path) -> None:
        assert idle.wait(60)
        idle.clear()
        written(self, folder)

    def try_then_rest(self: Mirror) -> bool:
        try:
            return tried(self)
        finally:
            idle.set()

    monkeypatch.setattr(Mirror, "written", wait_then_write)
    monkeypatch.setattr(Mirror, "_tried", try_then_rest)


def newest_in(place: Place, target: Path) -> int:
    """The step of the newest checkpoint that a fetched copy would go on from; -1 before there is a run."""
    names = place.files()
    if "resolved.yaml" not in names:
        return -1
    path = fetch(place, target)
    folder = dfw.runs.directory.RunDirectory(path)
    if not any(name.endswith("state.json") for name in names):
        return 0
    newest = folder.newest_checkpoint()
    rows = [row["step"] for row in folder.read_metrics()]
    step = int(newest.name.rpartition("-")[2])
    assert rows[:step] == list(range(step)), "rows before the checkpoint are missing"
    return step


def test_a_damaged_checkpoint_in_the_store_is_noticed_on_the_way_back(url: str, caplog: pytest.LogCaptureFixture) -> None:
    run = one_run("trainer.keep_checkpoints=2")
    place = Place(url) / run.name
    make(begun("first", url, run), run, store=url)
    newest = "checkpoints/step-000006/geometry.safetensors"
    data = place.read(newest)
    assert data is not None
    place.write(newest, data[:-1] + bytes([data[-1] ^ 1]))
    copy = fetch(place, Path("back"))
    with caplog.at_level(logging.WARNING, "dfw"):
        assert dfw.runs.directory.RunDirectory(copy).newest_checkpoint().name == "step-000004"
    assert "its checksum differs" in caplog.text


def test_two_machines_do_not_make_the_same_run(url: str) -> None:
    run = one_run()
    first, second = begun("first", url, run), begun("second", url, run)
    other = Claim(Place(url) / f"{CLAIMS}/{run.name}", "another folder")
    other.take()
    outcome = make(second, run, store=url)
    assert outcome.status == "taken"
    assert f"process {os.getpid()} on host" in outcome.diagnosis
    assert not (second / run.name).exists()
    assert states(second, [run], Place(url)) == {run: "running"}
    other.release()
    assert make(first, run, store=url).status == "finished"
    assert holder(Place(url) / f"{CLAIMS}/{run.name}") == ""


def test_one_alone_of_many_gets_a_claim(either: str) -> None:
    place, found = Place(either) / "claims/run", []
    place.write("000007", b"{}")
    together = threading.Barrier(8)

    def ask(number: int) -> None:
        mine = Claim(place, str(number))
        together.wait()
        try:
            mine.take()
            found.append(mine)
        except Taken:
            pass

    claim_lapses, claim.LAPSES = claim.LAPSES, -1.0  # so that the one that is there has lapsed, and a new one does too
    try:
        many = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for one in many:
            one.start()
        for one in many:
            one.join()
    finally:
        claim.LAPSES = claim_lapses
    numbered = sorted(name for name in place.files() if name.isdecimal())
    assert len({one._name for one in found}) == len(found), "two hold the same claim"
    assert [one for one in found if one.renew()] == [one for one in found if one._name == numbered[-1]]
    for one in found:
        one.release()


def test_a_claim_that_is_not_renewed_lapses_and_its_holder_notices(either: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(either) / "claims/run"
    monkeypatch.setattr(claim, "RENEWED", 1000.0)
    first = Claim(place, "one")
    first.take()
    with pytest.raises(Taken, match="its claim lapses 120 s after"):
        Claim(place, "two").take()
    monkeypatch.setattr(claim, "LAPSES", 0.0)
    second = Claim(place, "two")
    second.take()
    assert not first.renew()
    assert first.lost.startswith("process ")
    assert second.renew()
    first.release()
    assert second.renew(), "the loser has removed the claim of the one that took over"
    second.release()


def test_the_next_process_of_the_same_folder_does_not_wait_for_its_predecessor(url: str) -> None:
    run = one_run()
    folder = begun("first", url, run)
    dead = Claim(Place(url) / f"{CLAIMS}/{run.name}", identity_of(folder))
    dead.take()
    dead._ended.set()  # as a kill does: nobody renews it, and nobody takes it away
    assert make(folder, run, store=url).status == "finished"


def test_a_run_that_another_machine_has_taken_ends_and_its_copy_stays(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run, place = one_run(), Place(url)
    folder = begun("first", url, run)
    written = mirror.Mirror.written
    taken: list[Claim] = []

    def spy(self: Mirror, path: Path) -> None:
        written(self, path)
        if not taken and (path / "checkpoints/step-000002").is_dir():
            monkeypatch.setattr(claim, "LAPSES", -1.0)
            taken.append(Claim(place / f"{CLAIMS}/{run.name}", "another folder"))
            taken[0].take()
            monkeypatch.setattr(claim, "LAPSES", 120.0)
            (place / run.name).write("mark", b"the other's")
            assert not self._claim.renew()

    monkeypatch.setattr(mirror.Mirror, "written", spy)
    outcome = make(folder, run, store=url)
    assert outcome.status == "taken"
    assert "has taken the run" in outcome.diagnosis
    assert status_of(folder / run.name) == "interrupted"
    assert (place / run.name).read("mark") == b"the other's"
    assert not any("step-000004" in one for one in (place / run.name).files())
    taken[0].release()


def test_a_store_that_does_not_answer_for_a_while_gets_everything_later(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run, place = one_run(), Place(url)
    folder = begun("first", url, run)
    broken = threading.Event()
    upload, write = Place.upload, Place.write

    def unreachable(method: Callable[..., None]) -> Callable[..., None]:
        def ask(self: Place, *given: object) -> None:
            if broken.is_set() and CLAIMS not in self.url:
                raise dfw.storage.place.StoreError(f"{self.url}: cannot be written (no route)")
            method(self, *given)

        return ask

    monkeypatch.setattr(Place, "upload", unreachable(upload))
    monkeypatch.setattr(Place, "write", unreachable(write))
    monkeypatch.setattr(mirror, "LAST", (0.0,))
    broken.set()
    with caplog.at_level(logging.WARNING, "dfw"):
        outcome = make(folder, run, store=url)
    assert (outcome.status, "no route" in outcome.diagnosis) == ("finished", True)
    assert caplog.text.count("the run goes on, and is copied when the store answers") == 1
    assert numbers(folder / run.name) == alone()
    assert states(folder, [run], place) == {run: UNCOPIED}
    broken.clear()
    assert make(folder, run, store=url).status == "finished"
    assert states(folder, [run], place) == {run: "finished"}
    assert numbers(fetch(place / run.name, Path("back"))) == alone()


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("s3://key:secret@bucket/study", "leave user, password and options out"),
        ("bucket/study", "a store is a URL"),
        ("nonsense://bucket/study", "fsspec knows no store of the kind 'nonsense'"),
        ("file://", "file://: names no folder of a store"),
        ("memory:///", "names no folder of a store"),
        ("://study", "names no folder of a store"),
        ("file:///proc/nowhere", "is not there"),
    ],
)
def test_a_store_that_cannot_be_used_is_one_sentence(asked: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, said, wrong = run_dfw("sweep", "tiny.yaml", "--out", "s", "--store", asked, capsys=capsys)
    assert code == 2
    assert told in wrong
    assert "secret" not in said + wrong
    assert wrong.count("\n") == 1
    assert not Path("s").exists()


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("http://127.0.0.1:9/study", "http://127.0.0.1:9/study: cannot be listed (ClientConnectorError: "),
        ("nonsense://bucket/study", "nonsense://bucket/study: fsspec knows no store of the kind 'nonsense'; write a URL such as"),
        (
            "lacking://bucket/study",
            "lacking://bucket/study: needs a package that is not installed (get it); install that package",
        ),
        ("memory://nothing", "memory://nothing: holds no run; give the URL of a sweep's store"),
    ],
)
def test_runs_that_cannot_be_fetched_are_one_true_sentence(asked: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    if asked.startswith("http"):
        pytest.importorskip("aiohttp", reason="needs the extra storage")
    fsspec.register_implementation("lacking", "no_such_package.Store", clobber=True, errtxt="get it")
    code, _, wrong = run_dfw("runs", "fetch", asked, capsys=capsys)
    assert (code, wrong.count("\n")) == (2, 1)
    assert wrong.startswith(f"error: {told}")
    assert not list(Path().glob("runs/*"))


@pytest.mark.parametrize("words", [("view",), ("compare",), ("evaluate",), ("runs", "list"), ("export",), ("run", "x", "--out")])
def test_a_url_where_a_folder_is_expected_says_how_to_get_it(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    code, _, wrong = run_dfw(*words, "s3://bucket/study", capsys=capsys)
    assert code == 2
    assert "s3://bucket/study is a URL; `dfw runs fetch URL` brings runs here" in wrong


KILLER = """
import os, signal, time
from dfw import hookimpl
from dfw.storage.place import Place

@hookimpl
def dfw_step_ended(step):
    if step.progress.step == 3:
        place, until = Place(os.environ["COPY"]), time.monotonic() + 60
        while not place.read("checkpoints/step-000002/state.json") or not place.read("status.json"):
            assert time.monotonic() < until
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGKILL)
"""
VICTIM = """
import sys
from pathlib import Path
from dfw.studies.worker import Maker

Maker(Path("one").resolve(), store=sys.argv[1], plugin_files=(Path("killer.py"),))(sys.argv[2])
"""


@pytest.mark.slow
def test_a_lost_machine_s_run_goes_on_from_an_object_store(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A worker is killed, its machine's folder is gone, and another machine ends the run with the bits that it has alone."""
    pytest.importorskip("s3fs", reason="needs the extra storage")
    server = pytest.importorskip("moto.server", reason="needs moto's S3 server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        address = "http://{}:{}".format(*server.get_host_and_port())
        secrets = {"AWS_ACCESS_KEY_ID": "the-key", "AWS_SECRET_ACCESS_KEY": "the-secret", "AWS_DEFAULT_REGION": "us-east-1"}
        for name, value in (secrets | {"AWS_ENDPOINT_URL": address}).items():
            monkeypatch.setenv(name, value)
        fsspec.filesystem("s3", skip_instance_cache=True).mkdir("bucket")
        code, _, wrong = run_dfw("runs", "fetch", "s3://absent/study", capsys=capsys)
        assert (code, "is not there (FileNotFoundError: The specified bucket does not exist)" in wrong) == (2, True)
        run = one_run("seed=3")
        link(Path("one"), STORE)
        write_plan(Path("one"), add_to_store(Place(STORE), [run]))
        Path("killer.py").write_text(KILLER)
        victim, surroundings = [sys.executable, "-c", VICTIM, STORE, run.name], os.environ | {"COPY": f"{STORE}/{run.name}"}
        assert subprocess.run(victim, check=False, timeout=300, env=surroundings).returncode == -signal.SIGKILL
        shutil.rmtree("one")
        _, said, _ = run_dfw("sweep", "--resume", STORE, "--dry-run", capsys=capsys)
        assert f"1 run in runs/sweeps/study, copied to {STORE}: 1 running" in said
        monkeypatch.setattr(claim, "LAPSES", 0.0)
        assert states(Path("two"), [run], Place(STORE)) == {run: "killed"}
        assert Maker(Path("two"), store=STORE)(run.name).status == "finished"
        assert numbers(Path("two") / run.name) == alone("seed=3")
        resumed = json.loads((Path("two") / run.name / "manifest.json").read_text())["resumed"]
        assert [one["step"] for one in resumed] == [2], "it did not go on from the checkpoint in the store"
        assert numbers(fetch(Place(STORE) / run.name, Path("back"))) == alone("seed=3")
        for path in [*Path("two").rglob("*"), *Path("back").rglob("*")]:
            assert not path.is_file() or (b"the-key" not in path.read_bytes() and b"the-secret" not in path.read_bytes())
    finally:
        server.stop()


STORE = "s3://bucket/study"


def test_runs_of_a_store_are_fetched_once(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = one_run()
    folder = begun("first", url, run)
    assert make(folder, run, store=url).status == "finished"
    assert run_dfw("runs", "fetch", url, "--out", "here", capsys=capsys)[:2] == (0, "1 run in here\n")
    assert numbers(Path("here") / run.name) == numbers(folder / run.name)
    mark = Path("here") / run.name / "tags.txt"
    mark.write_text("good\n")
    assert run_dfw("runs", "fetch", f"{url}/{run.name}", "--out", f"here/{run.name}", capsys=capsys)[0] == 0
    assert mark.exists(), "a run that is as far here was replaced"
    code, _, said = run_dfw("runs", "fetch", f"{url}/claims", capsys=capsys)
    assert (code, said.count("\n")) == (2, 1)
    assert "holds no run" in said


def test_processes_that_add_runs_at_the_same_moment_lose_none(url: str) -> None:
    place, all_runs = Place(url), planned(["tiny.yaml"], [axis("seed=0..7")])
    many = [threading.Thread(target=add_to_store, args=(place, [run])) for run in all_runs]
    for one in many:
        one.start()
    for one in many:
        one.join()
    assert {run.name for run in stored_plan(place)} == {run.name for run in all_runs}
