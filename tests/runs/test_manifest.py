"""What manifest.json says of a run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from small_runs import PIXELS, config
from torch import Tensor

from dfw import ComponentConfig, Loss, LossInputs, Noise, Part, RunStarted, hookimpl
from dfw.compose import compose
from dfw.errors import PluginError
from dfw.plugins.registry import Registry
from dfw.runs.call import Call
from dfw.runs.directory import RunDirectory
from dfw.runs.manifest import changed_machine, machine, versions
from dfw.runs.runner import resume, run


class Hiss(Noise):
    """A noise that says how it is seeded."""

    def __init__(self, config: ComponentConfig) -> None:
        super().__init__()
        self.config = config

    def facts(self) -> dict[str, object]:
        return {"seeded": True}

    def forward(self, encoded: Tensor, inputs: LossInputs) -> Tensor:
        return torch.randn(encoded.shape, generator=inputs.generator)


class Speaking(Loss):
    """A loss that says what it is made of."""

    said: ClassVar[dict[str, object]] = {}

    class Config(ComponentConfig):
        """Holds a noise."""

        noise: Part[Noise] = Part[Noise](type="hiss")

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.noise = config.noise.build()

    def facts(self) -> dict[str, object]:
        return self.said

    def forward(self, inputs: LossInputs) -> Tensor:
        return inputs.render.colour.mean()


@pytest.fixture
def parts() -> Registry:
    registry = Registry.discover()
    registry.register("loss", "speaking", Speaking)
    registry.register("noise", "hiss", Hiss)
    return registry


def test_a_component_says_what_it_is_made_of_and_so_does_one_inside_it(parts: Registry, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(Speaking, "said", {"digest": "sha256:1", "sizes": (1, 2)})
    made = config(PIXELS, tmp_path, losses={"glow": {"type": "speaking"}}, trainer={"steps": 1})
    result = run(made, compose(made, parts), listeners=[])
    components = RunDirectory.open(result.directory).read_json("manifest.json")["components"]
    assert components["losses.glow"]["facts"] == {"digest": "sha256:1", "sizes": [1, 2]}
    assert components["losses.glow.noise"]["facts"] == {"seeded": True}
    assert components["losses.glow"]["name"] == "local/speaking"
    assert "facts" not in components["geometry"]


@pytest.mark.parametrize("said", [{"loss": math.nan}, {"tensor": torch.ones(1)}, None])
def test_what_json_cannot_hold_is_refused_before_there_is_a_directory(parts: Registry, tmp_path: Path, monkeypatch, said):
    monkeypatch.setattr(Speaking, "said", said)
    made = config(PIXELS, tmp_path, losses={"glow": {"type": "speaking"}})
    with pytest.raises(PluginError, match=r"losses\.glow \(local/speaking, .*\) cannot say facts that JSON can hold"):
        run(made, compose(made, parts), listeners=[])
    assert not (tmp_path / "runs").exists()


def test_a_run_that_goes_on_with_other_facts_warns_and_the_log_has_both(parts: Registry, tmp_path: Path, monkeypatch, caplog):
    monkeypatch.setattr("dfw.runs.runner.registry", lambda: parts)
    monkeypatch.setattr(Speaking, "said", {"precision": "bf16", "digest": 7})
    made = config(PIXELS, tmp_path, losses={"glow": {"type": "speaking"}}, trainer={"steps": 1})
    where = run(made, listeners=[]).directory
    resume(where, ["trainer.steps=2"], listeners=[])
    assert not [one for one in caplog.records if one.levelname == "WARNING"]
    monkeypatch.setattr(Speaking, "said", {"precision": "fp32", "digest": 7})
    resume(where, ["trainer.steps=3"], listeners=[])
    (warning,) = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert warning.startswith("losses.glow: precision was bf16 when the run was made and is fp32 now")
    log = (where / "run.log").read_text(encoding="utf-8")
    assert log.count("losses.glow: precision bf16, digest 7\n") == 2
    assert log.count("losses.glow: precision fp32, digest 7\n") == 1


def test_versions_name_what_decides_a_result():
    assert {"python", "torch", "diffusers", "peft", "safetensors", "trimesh", "dreamfw"} <= set(versions())


def test_it_says_how_the_run_was_asked_for_and_rows_hold_what_schedules_gave(tmp_path: Path):
    lr = {"from": 0.1, "to": 0.0, "ease": "linear"}
    made = config(PIXELS, tmp_path, optimizer={"lr": lr}, losses={"sds": {"weight": {"from": 0, "to": 4}}}, trainer={"steps": 4})
    result = run(made, listeners=[], call=Call("dfw run a.yaml 'prompt=a red square'"))
    directory = RunDirectory.open(result.directory)
    manifest = directory.read_json("manifest.json")
    assert (manifest["command"], manifest["seed"]) == ("dfw run a.yaml 'prompt=a red square'", 0)
    assert manifest["date"].endswith("+00:00")
    assert manifest["threads"] == torch.get_num_threads()
    rows = directory.read_metrics()
    assert [row["schedules"]["losses.sds.weight"] for row in rows] == [0, 1, 2, 3]
    assert [row["schedules"]["optimizer.lr"] for row in rows] == pytest.approx([0.1, 0.075, 0.05, 0.025])
    walls = [row["wall"] for row in rows]
    assert walls == sorted(walls)
    assert 0 < walls[0] <= walls[-1] <= result.seconds + 1
    status = directory.read_json("status.json")
    assert status["seconds"] == pytest.approx(result.seconds, abs=0.01)
    assert sum(status["times"].values()) == pytest.approx(status["seconds"], abs=0.02)


def test_other_threads_and_versions_are_warned_of(monkeypatch):
    device = torch.device("cpu")
    recorded = {**machine(device), "versions": versions()}
    assert changed_machine(recorded, device) == []
    recorded = {**recorded, "threads": 99, "versions": {**versions(), "numpy": "0.1"}}
    threads, libraries = changed_machine(recorded, device)
    assert "made with 99 threads" in threads
    assert "trainer.threads=99" in threads
    assert "made with numpy 0.1 and goes on with numpy " in libraries


def test_before_its_first_step_a_run_says_that_it_has_taken_none(tmp_path: Path) -> None:
    said = []

    class Listener:
        @hookimpl
        def dfw_run_started(self, run: RunStarted) -> None:
            said.append(RunDirectory(run.directory).read_json("status.json"))

    run(config(PIXELS, tmp_path, trainer={"steps": 1}), listeners=[Listener()])
    assert [(one["status"], one["step"], one["steps"]) for one in said] == [("running", 0, 1)]
