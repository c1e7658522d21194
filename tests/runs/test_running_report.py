"""The report of a run that goes on: it is there from the first step, and says how the run stands and how it ended."""

from __future__ import annotations

import logging
import math
import re
import signal
from pathlib import Path

import pytest
from small_runs import PIXELS, config

from dfw import hookimpl
from dfw.errors import ExportError
from dfw.runs import drive, running_report
from dfw.runs.runner import resume, run
from dfw.runs.running_report import RunningReport


class Reader:
    """Reads the report of a run after each step, and sends two signals after step `last`."""

    def __init__(self, last: int = 99) -> None:
        self.directory, self.pages, self.last = Path(), [], last

    @hookimpl
    def dfw_run_started(self, run) -> None:
        self.directory = run.directory

    @hookimpl
    def dfw_step_ended(self, step) -> None:
        self.pages.append((self.directory / "report.html").read_text(encoding="utf-8"))
        if step.progress.step == self.last:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)


def stands(page: str) -> tuple[str, str, bool]:
    """Status, step, and whether the page loads itself again."""
    status = re.search(r'class="badge (\w+)"', page)
    step = re.search(r"<li>step (\d+ of \d+)</li>", page)
    assert status
    return status[1], step[1] if step else "", 'data-renew="' in page


def test_each_preview_renews_it_and_the_end_stops_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running_report, "SHARE", math.inf)
    reader = Reader()
    done = run(config(PIXELS, tmp_path, trainer={"preview_every": 3}), listeners=[reader])
    assert [stands(page) for page in reader.pages] == [("running", f"{at} of 6", True) for at in (0, 0, 0, 3, 3, 3)]
    assert reader.pages[3].count('alt="Preview at step') + reader.pages[3].count(', at step 3"') == 3
    assert stands((done.directory / "report.html").read_text(encoding="utf-8")) == ("finished", "", False)


def test_a_crash_and_a_second_signal_leave_no_page_that_says_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> None:
        raise RuntimeError("out of luck")

    made = config(PIXELS, tmp_path, name="crashed")
    with monkeypatch.context() as patch:
        patch.setattr(drive.Trainer, "save", crash)
        with pytest.raises(RuntimeError, match="out of luck"):
            run(made, listeners=[])
    (crashed,) = tmp_path.glob("runs/crashed/*/report.html")
    assert stands(crashed.read_text(encoding="utf-8")) == ("failed", "", False)
    assert "out of luck" in crashed.read_text(encoding="utf-8")
    made = config(PIXELS, tmp_path, name="pressed")
    with pytest.raises(KeyboardInterrupt):
        run(made, listeners=[Reader(last=2)])
    (pressed,) = tmp_path.glob("runs/pressed/*/report.html")
    assert stands(pressed.read_text(encoding="utf-8")) == ("interrupted", "", False)
    reader = Reader()
    resume(pressed.parent, listeners=[reader])
    assert stands(reader.pages[0])[0] == "running"
    assert stands(pressed.read_text(encoding="utf-8")) == ("finished", "", False)


def test_it_costs_a_bounded_share_of_the_time_and_never_the_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each writing takes 3 of a clock's seconds, so the next comes 150 after it began; the first does not count."""
    now, written = 0.0, []

    def write() -> None:
        nonlocal now
        written.append(now)
        now += 3
        if len(written) < 3:
            raise ExportError("no room")

    monkeypatch.setattr(running_report.time, "monotonic", lambda: now)
    report = RunningReport(write)
    for moment in (0.0, 10.0, 20.0, 159.0, 160.0, 300.0, 310.0):
        now = moment
        report.renew()
    assert written == [0.0, 10.0, 160.0, 310.0]
    assert caplog.text.count("no room; the run goes on without it") == 1


def test_what_a_page_cannot_do_ends_no_run_and_a_damaged_file_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(running_report, "SHARE", math.inf)
    tries: list[int] = []

    def page(*_: object) -> None:
        tries.append(1)
        logging.getLogger("dfw.runs").warning("metrics.jsonl: 1 row cannot be read")
        if len(tries) > 1:
            raise ZeroDivisionError("a plot of nothing")

    report = RunningReport(page)
    for _ in range(4):
        report.renew()
    assert len(tries) == 4
    assert caplog.text.count("1 row cannot be read") == 1
    assert caplog.text.count("the report cannot be made: ZeroDivisionError: a plot of nothing; the run goes on") == 1
    logging.getLogger("dfw.runs").warning("metrics.jsonl: 1 row cannot be read")
    assert caplog.text.count("1 row cannot be read") == 2, "outside of the page nothing is kept quiet"


def test_a_run_whose_previews_break_its_page_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = drive.write_report

    def broken(directory: Path, data: object) -> Path:
        if getattr(data, "going", None) is not None:
            raise ValueError("no plot")
        return whole(directory, data)

    monkeypatch.setattr(drive, "write_report", broken)
    assert run(config(PIXELS, tmp_path, trainer={"preview_every": 3}), listeners=[]).status == "finished"
