"""Packages that change what is around them: torch's global state, the program's output, each other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from fake_packages import LOSS, write_package
from hostile_site import dfw, one_error, only_run

HEARS = """
from dfw import hookimpl
heard = []

class Listener:
    @hookimpl
    def dfw_step_ended(self, step):
        heard.append(step.progress.step)
"""
CHANGES = {
    "torch.set_default_dtype(torch.float64)": "torch's default dtype to torch.float64",
    "torch.set_grad_enabled(False)": "torch's grad mode to False",
    "torch.set_default_device('meta')": "torch's default device to meta",
    "torch.set_num_threads(torch.get_num_threads() + 1)": "torch's number of threads to",
}


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """A test that fails must not change what the others see."""
    threads = torch.get_num_threads()
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)
    torch.set_default_device(None)
    torch.set_num_threads(threads)


def install(site: Path, name: str, source: str, points: str = "[dfw]\nlistener = {module}:Listener\n") -> None:
    module = name.replace("-", "_")
    write_package(site, name, "0.4", points.format(module=module), {module: source})


def state() -> tuple[object, ...]:
    return torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_default_device(), torch.get_num_threads()


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("when", ["at import", "in its constructor", "in a hook"])
def test_a_listener_that_changes_torch_changes_no_run(
    site: Path, change: str, when: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if when == "at import":
        source = f"import torch\n{change}\n{HEARS}"
    elif when == "in its constructor":
        source = f"import torch\n{HEARS}\n    def __init__(self):\n        {change}\n"
    else:
        source = f"import torch\n{HEARS}\n        {change}\n"
    before = state()
    install(site, "acme-meddler", source)
    code, _, err = dfw("run", "tiny.yaml", capsys=capsys)
    assert code == 0
    assert state() == before
    (line,) = err.splitlines()
    assert line.startswith("WARNING: ")
    assert "acme-meddler 0.4" in line
    assert f"changed {CHANGES[change]}" in line
    assert line.endswith("; put back")


@pytest.mark.parametrize("change", CHANGES)
def test_a_component_that_changes_torch_when_it_is_built_is_told(
    site: Path, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = state()
    source = LOSS.format(name="Glow").replace("super().__init__()", f"super().__init__()\n        {change}")
    install(site, "acme-glow", f"import torch\n{source}", "[dfw.loss]\nglow = {module}:Glow\n")
    code, _, err = dfw("run", "tiny.yaml", "losses.glow.type=acme-glow/glow", capsys=capsys)
    assert (code, state()) == (0, before)
    assert err.startswith(f"WARNING: losses.glow (acme-glow/glow, acme-glow 0.4) changed {CHANGES[change]}")


def test_a_plugin_that_prints_leaves_the_programs_output_alone(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = "print('Loading weights')\n" + LOSS.format(name="Glow")
    install(site, "acme-glow", source, "[dfw.loss]\nglow = {module}:Glow\n")
    code, out, err = dfw("run", "tiny.yaml", "losses.glow.type=acme-glow/glow", "--dry-run", capsys=capsys)
    assert code == 0
    assert yaml.safe_load(out)["losses"]["glow"]["type"] == "acme-glow/glow"
    assert err == "Loading weights\n"


UNHASHABLE = """
from dataclasses import dataclass, field
from dfw import hookimpl
heard = []

@dataclass
class Listener:
    seen: list = field(default_factory=list)

    @hookimpl
    def dfw_step_ended(self, step):
        heard.append(step.progress.step)

    def __eq__(self, other):
        raise RuntimeError("compared")
"""


def test_a_listener_that_cannot_be_hashed_or_compared_harms_nobody(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(site, "acme-odd", UNHASHABLE)
    install(site, "acme-witness", HEARS)
    code, _, err = dfw("run", "tiny.yaml", capsys=capsys)
    assert (code, err) == (0, "")
    import acme_odd
    import acme_witness

    assert acme_odd.heard == acme_witness.heard == [0, 1, 2, 3]


def test_two_packages_that_name_one_module_leave_it_heard_once(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = "from dfw import hookimpl\nheard = []\n\n@hookimpl\ndef dfw_step_ended(step):\n    heard.append(step.progress.step)\n"
    install(site, "acme-first", plain, "[dfw]\nlistener = acme_first\n")
    write_package(site, "acme-second", "0.4", "[dfw]\nlistener = acme_first\n")
    code, _, err = dfw("run", "tiny.yaml", capsys=capsys)
    assert code == 0
    import acme_first

    assert acme_first.heard == [0, 1, 2, 3]
    (line,) = err.splitlines()
    assert "it is the same as acme-" in line
    assert line.endswith("; it is left out")
    assert len(json.loads((only_run() / "manifest.json").read_text())["listeners"]) == 2  # the console, and one of them


NO_HOOKS = {
    "class Listener:\n    def dfw_step_ended(self, step): ...": "it has no hook of dfw; write @hookimpl above dfw_step_ended",
    "Listener = None": "it has no hook of dfw; the hooks are dfw_",
    "class Listener: ...": "it has no hook of dfw; the hooks are dfw_",
    "from dfw import hookimpl\nclass Listener:\n    @hookimpl\n    def dfw_step_end(self): ...": "did you mean dfw_step_ended?",
}


@pytest.mark.parametrize("source", NO_HOOKS)
def test_a_listener_that_would_never_be_called_is_told(site: Path, source: str, capsys: pytest.CaptureFixture[str]) -> None:
    install(site, "acme-deaf", source)
    code, _, err = dfw("run", "tiny.yaml", capsys=capsys)
    assert code == 0
    (line,) = err.splitlines()
    assert "acme-deaf 0.4: listener 'acme-deaf/listener': " in line
    assert NO_HOOKS[source] in line
    assert dfw("plugins", "check", capsys=capsys)[0] == 2


EDGES = (
    HEARS.replace("class Listener:", "from dfw import DivergedError\n\nclass Listener:")
    + """
    @hookimpl
    def dfw_run_{edge}(self, run):
        heard.append(run)
        raise DivergedError("enough")
"""
)


def test_a_run_that_is_stopped_before_its_first_step_ends_as_any_other(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(site, "acme-early", EDGES.replace("{edge}", "started"))
    install(
        site, "acme-witness", HEARS.replace("step_ended(self, step)", "run_ended(self, run)").replace("step.progress.step", "run")
    )
    code, _, err = dfw("run", "tiny.yaml", capsys=capsys)
    assert code == 4
    assert one_error(err) == "error: enough (listener acme-early/listener, acme-early 0.4)"
    assert json.loads((only_run() / "status.json").read_text())["status"] == "diverged"
    import acme_witness

    assert [run.status for run in acme_witness.heard] == ["diverged"]


def test_a_run_that_is_over_cannot_be_stopped(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(site, "acme-late", EDGES.replace("{edge}", "ended"))
    code, _, err = dfw("run", "tiny.yaml", capsys=capsys)
    assert code == 0
    assert "dfw_run_ended raised DivergedError: enough; it is switched off" in err
    assert json.loads((only_run() / "status.json").read_text())["status"] == "finished"
