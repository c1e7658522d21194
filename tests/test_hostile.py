"""No package, however broken, hurts a run that does not use it; one that is used gets one sentence that names it."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_packages import on_path, write_package
from hostile_packages import BROKEN, HONEST, LIES, write_broken, write_liars
from pydantic import BaseModel

from dfw.cli.main import main
from dfw.registry import rediscover
from dfw.runs import RunDirectory

TINY = """\
name: tiny
prompt: grey
device: cpu
geometry: {type: dreamfw/image, width: 8, height: 8}
renderer: {type: dreamfw/plane}
losses:
  opacity: {type: dreamfw/opacity}
views: {mode: none}
cameras: {width: 8, batch_size: 2}
trainer: {steps: 4, preview_width: 8}
"""
FIELD = """\
geometry: {type: dreamfw/sdf-scene}
renderer: {type: dreamfw/volume, samples: 8, occupancy: {enabled: false}}
export: {formats: [], turntable_frames: 0}
"""
PLACE = {"geometry": "geometry", "renderer": "renderer", "guidance": "guidance", "loss": "losses.tested"}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An import path in front of all others, a working folder, and a registry that has read them."""
    folder = tmp_path / "site"
    folder.mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.delenv("DFW_BLOCK_PLUGINS", raising=False)
    monkeypatch.delenv("DFW_NO_PLUGINS", raising=False)
    Path("tiny.yaml").write_text(TINY, encoding="utf-8")
    Path("field.yaml").write_text(f"extends: tiny.yaml\n{FIELD}", encoding="utf-8")
    Path("guided.yaml").write_text("extends: tiny.yaml\nlosses: {sds: {type: dreamfw/sds, guidance_scale: 1}}\n")
    with on_path(folder):
        yield folder
    rediscover()


def dfw(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    rediscover()
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def one_error(err: str) -> str:
    """The error's text; there must be exactly one, on one line, and no traceback."""
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, err
    return lines[0]


def only_run() -> Path:
    (path,) = Path("runs/tiny").iterdir()
    return path


def test_a_run_among_broken_packages_is_as_if_they_were_not_there(site: Path, capsys: pytest.CaptureFixture[str]):
    code, _, err = dfw("run", "tiny.yaml", capsys=capsys)
    assert (code, err) == (0, "")
    write_broken(site)
    write_liars(site)
    code, _, err = dfw("run", "tiny.yaml", capsys=capsys)
    assert code == 0
    told = [line.split("WARNING: ")[1].split(":")[0] for line in err.splitlines()]
    assert sorted(told) == ["acme-exits 0.1", "acme-missing 0.1", "acme-raises 0.1"]  # only their listeners were asked for
    assert all(line.count("listener '") == 1 and line.count(" 0.1") == 1 for line in err.splitlines())
    alone, among = sorted(Path("runs/tiny").iterdir())
    for name in ("geometry", "optimizer"):
        file = f"checkpoints/step-000004/{name}.safetensors"
        assert (alone / file).read_bytes() == (among / file).read_bytes()
    assert (alone / "resolved.yaml").read_text() == (among / "resolved.yaml").read_text()
    manifests = [json.loads((run / "manifest.json").read_text()) for run in (alone, among)]
    assert manifests[0] == manifests[1]


def test_listing_works_with_every_plugin_broken_and_names_them_all(site: Path, capsys: pytest.CaptureFixture[str]):
    write_broken(site)
    write_liars(site)
    code, out, err = dfw("plugins", "list", capsys=capsys)
    assert (code, err) == (0, "")
    for distribution in [*BROKEN, "acme-squatter", "acme-twin-1", "acme-twin-2", "acme-liars"]:
        assert f"{distribution}/" in out
    assert "dreamfw/nerf" in out


@pytest.mark.parametrize("distribution", BROKEN)
def test_a_broken_component_that_is_used_is_one_sentence_with_its_version(
    site: Path, distribution: str, capsys: pytest.CaptureFixture[str]
):
    write_broken(site)
    code, _, err = dfw("run", "tiny.yaml", f"losses.tested.type={distribution}/{distribution}", capsys=capsys)
    assert code == 3
    text = one_error(err)
    assert f"{distribution} 0.1" in text
    assert "losses.tested" in text
    assert BROKEN[distribution][1] in text
    assert not Path("runs").exists()


def test_who_claims_a_built_in_name_is_told_apart_by_qualified_names(site: Path, capsys: pytest.CaptureFixture[str]):
    write_broken(site)
    assert dfw("run", "tiny.yaml", capsys=capsys)[0] == 0  # the shipped way to write it: dreamfw/opacity, dreamfw/plane
    code, _, err = dfw("run", "tiny.yaml", "losses.opacity.type=opacity", capsys=capsys)
    assert code == 3
    text = one_error(err)
    assert "acme-squatter/opacity (acme-squatter 6.6)" in text
    assert "dreamfw/opacity (dreamfw " in text
    assert dfw("run", "tiny.yaml", "losses.opacity.type=opacity", "--block", "acme-squatter", capsys=capsys)[0] == 0


def test_two_distributions_of_one_name(site: Path, capsys: pytest.CaptureFixture[str]):
    write_broken(site)
    code, _, err = dfw("run", "tiny.yaml", "losses.twin.weight=1", capsys=capsys)
    assert code == 3
    assert "write one of acme-twin-1/twin (acme-twin-1 1.0), acme-twin-2/twin (acme-twin-2 2.0)" in one_error(err)
    assert dfw("run", "tiny.yaml", "losses.twin.type=acme-twin-2/twin", capsys=capsys)[0] == 0
    origin = json.loads((only_run() / "manifest.json").read_text())["components"]["losses.twin"]
    assert origin == {"name": "acme-twin-2/twin", "distribution": "acme-twin-2", "version": "2.0", "module": "acme_twin_2"}


def arguments_for(kind: str, cls: str) -> list[str]:
    """A configuration in which the component takes part."""
    config = {"geometry": "field.yaml", "guidance": "guided.yaml"}.get(kind, "tiny.yaml")
    return ["run", config, f"{PLACE[kind]}.type=acme-liars/{cls}"]


@pytest.mark.parametrize(("kind", "cls"), HONEST)
def test_what_the_liars_are_made_from_runs(site: Path, kind: str, cls: str, capsys: pytest.CaptureFixture[str]):
    write_liars(site)
    code, _, err = dfw(*arguments_for(kind, cls), "losses.opacity.type=dreamfw/opacity", capsys=capsys)
    assert (code, err) == (0, "")


@pytest.mark.parametrize(("kind", "cls", "exit_code", "said"), LIES, ids=[case[1] for case in LIES])
def test_a_component_that_breaks_its_contract_ends_the_run_with_one_sentence(
    site: Path, kind: str, cls: str, exit_code: int, said: str, capsys: pytest.CaptureFixture[str]
):
    write_liars(site)
    code, _, err = dfw(*arguments_for(kind, cls), capsys=capsys)
    text = one_error(err)
    assert code == exit_code, text
    assert f"{PLACE[kind]} (acme-liars/{cls}, acme-liars 2.1)" in text
    assert said in text
    if "traceback is in" in text:
        assert "Traceback (most recent call last)" in (only_run() / "run.log").read_text()
    if Path("runs").exists():
        assert json.loads((only_run() / "status.json").read_text())["diagnosis"] in text
        assert dfw("run", "tiny.yaml", "seed=1", capsys=capsys)[0] == 0  # the next run is as good as ever


def test_a_scene_with_nothing_to_train_is_refused(site: Path, capsys: pytest.CaptureFixture[str]):
    write_liars(site)
    code, _, err = dfw(*arguments_for("geometry", "FieldFrozen"), capsys=capsys)
    assert code == 2
    assert "nothing to train" in one_error(err)


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
    assert "acme-angry 0.4: listener 'acme-angry/listener': OSError in dfw_step_ended: disk full; it is switched off" in err
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
    manifest = json.loads((run / "manifest.json").read_text())
    now = manifest["components"]["geometry"]["version"]
    manifest["components"]["geometry"]["version"] = "0.0.9"
    (run / "manifest.json").write_text(json.dumps(manifest))
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
    code, out, _ = dfw("plugins", "check", capsys=capsys)
    assert code == 2
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
