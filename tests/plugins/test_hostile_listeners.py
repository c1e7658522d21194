"""No listener, however broken, hurts a run; what it is told holds no tensor, and what has changed is said."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fake_packages import write_package
from hostile_site import dfw, one_error, only_run
from pydantic import BaseModel

from dfw import hookimpl
from dfw.plugins.listeners import own_listeners
from dfw.runs.directory import RunDirectory

LISTENERS = """
from dfw import hookimpl
kept = []

class Listener:
    @hookimpl
    def dfw_run_started(self, run):
        kept.append(run)
        {started}

    @hookimpl
    def dfw_step_ended(self, step):
        kept.append(step)
        {stepped}

    @hookimpl
    def dfw_run_ended(self, run):
        kept.append(run)
"""


def listener(site: Path, name: str, started: str = "pass", stepped: str = "pass") -> None:
    module = name.replace("-", "_")
    source = LISTENERS.format(started=started, stepped=stepped)
    write_package(site, name, "0.4", f"[dfw]\nlistener = {module}:Listener\n", {module: source})


def test_a_listener_that_raises_each_step_is_told_once_and_the_others_hear_everything(
    site: Path, capsys: pytest.CaptureFixture[str]
):
    listener(site, "acme-angry", stepped="raise OSError('disk full')")
    listener(site, "acme-vandal", "run.config.losses.clear()", "step.metrics.clear(); step.seconds.clear()")
    listener(site, "acme-witness")
    code, _, err = dfw("run", "tiny.yaml", capsys=capsys)
    assert code == 0
    assert err.count("\n") == 1
    assert "acme-angry 0.4: listener 'acme-angry/listener': dfw_step_ended raised OSError: disk full; it is switched off" in err
    import acme_angry
    import acme_witness

    assert len(acme_angry.kept) == 2
    started, *steps, ended = acme_witness.kept
    assert "opacity" in started.config.losses
    assert [step.progress.step for step in steps] == [0, 1, 2, 3]
    assert all({"opacity", "grad_norm", "lr", "losses.opacity"} <= set(step.metrics) for step in steps)
    assert ended.status == "finished"
    run = only_run()
    assert "Traceback" in (run / "run.log").read_text()
    heard = json.loads((run / "manifest.json").read_text())["listeners"]
    assert heard["acme-witness/listener"] == {
        "name": "acme-witness/listener",
        "distribution": "acme-witness",
        "version": "0.4",
        "module": "acme_witness",
    }


def test_a_listener_that_stops_a_run_is_named(site: Path, capsys: pytest.CaptureFixture[str]):
    stop = "from dfw import DivergedError; raise DivergedError('the colours have faded')"
    listener(site, "acme-guard", stepped=stop)
    code, _, err = dfw("run", "tiny.yaml", capsys=capsys)
    assert code == 4
    assert one_error(err) == "error: the colours have faded (listener acme-guard/listener, acme-guard 0.4)"
    assert json.loads((only_run() / "status.json").read_text())["status"] == "diverged"


def test_a_run_that_goes_on_with_another_version_says_so(site: Path, capsys: pytest.CaptureFixture[str]):
    assert dfw("run", "tiny.yaml", capsys=capsys)[0] == 0
    run = only_run()
    (run / "report.html").unlink()  # as if it had been stopped before the report
    assert dfw("run", "--resume", str(run), capsys=capsys)[2] == ""
    (run / "report.html").unlink()
    manifest = RunDirectory(run).read_json("manifest.json")
    now = manifest["components"]["geometry"]["version"]
    manifest["components"]["geometry"]["version"] = "0.0.9"
    RunDirectory(run).write_json("manifest.json", manifest)
    code, _, err = dfw("run", "--resume", str(run), capsys=capsys)
    assert code == 0
    name = manifest["components"]["geometry"]["name"]
    assert err == (
        f"WARNING: geometry: the run was made with {name} of dreamfw 0.0.9 and goes on with {now}; "
        "install dreamfw==0.0.9 for the same bits\n"
    )


def test_the_survey_looks_over_listeners_too(site: Path, capsys: pytest.CaptureFixture[str]):
    listener(site, "acme-witness")
    write_package(site, "acme-gone", "0.4", "[dfw]\nlistener = acme_gone:Listener\n", {})
    code, out, err = dfw("plugins", "check", capsys=capsys)
    assert code == 2
    assert err == ""
    (line,) = [line for line in out.splitlines() if line.startswith("listener")]
    assert line.split(maxsplit=1)[1].startswith("acme-witness/listener (acme-witness 0.4)")
    assert line.endswith("dfw_run_started, dfw_step_ended, dfw_run_ended")
    (problem,) = [line for line in out.splitlines() if line.startswith("problem: ")]
    assert problem.startswith(
        "problem: acme-gone 0.4: listener 'listener': failed to load from acme_gone:Listener: ModuleNotFoundError"
    )


def leaves(value: Any) -> Iterator[Any]:
    """Everything that can be reached through an event."""
    if is_dataclass(value):
        for field in fields(value):
            yield from leaves(getattr(value, field.name))
    elif isinstance(value, BaseModel):
        yield from leaves(dict(value) | (value.model_extra or {}))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield key
            yield from leaves(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from leaves(item)
    else:
        yield value


def test_events_hold_plain_values_only_and_keeping_them_keeps_no_tensor(site: Path, capsys: pytest.CaptureFixture[str]):
    listener(site, "acme-hoarder")
    unusual = (1, 13, 11, 3)
    assert dfw("run", "tiny.yaml", "geometry.width=11", "geometry.height=13", capsys=capsys)[0] == 0
    import acme_hoarder

    assert len(acme_hoarder.kept) == 6
    for event in acme_hoarder.kept:
        for leaf in leaves(event):
            assert leaf is None or type(leaf) in (str, int, float, bool) or isinstance(leaf, Path), type(leaf)
    gc.collect()
    alive = [thing for thing in gc.get_objects() if type(thing) in (torch.Tensor, torch.nn.Parameter)]
    assert [tensor for tensor in alive if tuple(tensor.shape) == unusual] == []
    assert len(RunDirectory.open(only_run()).read_metrics()) == 4


def test_the_core_s_own_listeners_are_trusted_with_the_process_and_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a listener changes of the process is looked for after each of its hooks, which takes time in every step."""
    from dfw.plugins import fence

    class Other:
        @hookimpl
        def dfw_run_ended(self, run: Any) -> None:
            """Does nothing."""

    class Broken(Other):
        __module__ = "dfw.viewer.live"

        @hookimpl
        def dfw_run_ended(self, run: Any) -> None:
            raise RuntimeError("no page")

    looked: list[object] = []
    kept = fence.kept
    monkeypatch.setattr(fence, "kept", lambda report: (looked.append(report), kept(report))[1])
    for listener, times in ((Other(), 1), (Broken(), 0)):
        looked.clear()
        heard = own_listeners([listener])
        looked.clear()
        heard.run_ended(SimpleNamespace(copy=lambda: None))  # type: ignore[arg-type]
        assert len(looked) == times
    assert "raised RuntimeError: no page; it is switched off" in str(heard.problems[0])
