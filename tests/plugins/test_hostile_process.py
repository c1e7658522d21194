"""Listeners that nobody asked for, and what they do to the process: it is put back or named, and the run has the same bits."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_packages import write_package
from hostile_site import dfw, one_error, only_run

from dfw.plugins.fence import plugin_code
from dfw.plugins.surroundings import settings

LISTENER = """
import os, random, signal, sys, time
import numpy as np
import torch
from dfw import hookimpl
{at_import}

class Listener:
    @hookimpl
    def dfw_step_ended(self, step):
        {in_hook}
"""
CHANGES = {  # what is done -> what the warning says of it
    "torch.set_float32_matmul_precision('medium')": "torch's precision of float32 to float32_matmul_precision=medium",
    "torch.backends.cuda.matmul.allow_tf32 = True": "torch's precision of float32 to float32_matmul_precision=high",
    "torch.backends.cudnn.allow_tf32 = False": "torch's precision of float32 to backends.cudnn.allow_tf32=False",
    "torch.backends.cudnn.benchmark = True": "torch.backends.cudnn.benchmark to True",
    "torch.backends.cudnn.deterministic = True": "torch.backends.cudnn.deterministic to True",
    "torch.use_deterministic_algorithms(True)": "torch's deterministic mode to 2",
    "torch.autograd.set_detect_anomaly(True)": "torch's anomaly mode to True",
    "torch.autocast('cpu', torch.bfloat16).__enter__()": "torch's autocast to on for cpu",
    "import logging; logging.disable(logging.CRITICAL)": "logging to disable=50",
    "import logging.config as it; it.dictConfig({'version': 1})": "logging to disabled=('dfw",
    "np.seterr(all='raise')": "numpy's handling of floating-point errors to divide=raise",
    "os.chdir('/')": "the current directory to /",
    "os.umask(0o777)": "the umask to 0o777",
    "sys.setrecursionlimit(400)": "the recursion limit to 400",
    "sys.modules['xatlas_of_nobody'] = None": "sys.modules to None for xatlas_of_nobody",
    "signal.setitimer(signal.ITIMER_PROF, 60)": "the timer ITIMER_PROF to on",
    "signal.signal(signal.SIGINT, signal.SIG_IGN)": "the handler of SIGINT to SIG_IGN",
    "signal.signal(signal.SIGTERM, print)": "the handler of SIGTERM to print",
    "signal.signal(signal.SIGHUP, signal.SIG_IGN)": "the handler of SIGHUP to SIG_IGN",
    "sys.guard = torch.inference_mode(); sys.guard.__enter__()": "torch's inference mode to True",
}
QUIET = ("random.seed(1), np.random.seed(1), torch.manual_seed(1), torch.rand(3)", "time.sleep(0)")
"""What needs no word: no run draws from the global random streams."""


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """A test that fails must not change what the others see."""
    before = {one.name: one.read() for one in settings()}
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    streams = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    yield
    for one in settings():
        one.undo(before.get(one.name))
    for number, handler in handlers.items():
        signal.signal(number, handler)
    random.setstate(streams[0])
    np.random.set_state(streams[1])  # noqa: NPY002
    torch.set_rng_state(streams[2])


def install(site: Path, name: str, at_import: str = "", in_hook: str = "pass") -> None:
    module = name.replace("-", "_")
    source = LISTENER.format(at_import=at_import, in_hook=in_hook)
    write_package(site, name, "0.7", f"[dfw]\nlistener = {module}:Listener\n", {module: source})


def in_place() -> dict[str, object]:
    handlers = {number.name: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    return {one.name: one.read() for one in settings()} | handlers


def bits(run: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (run / "checkpoints/step-000004").glob("*.safetensors")}


@pytest.mark.parametrize("when", ["at_import", "in_hook"])
def test_what_listeners_change_of_the_process_is_put_back_and_named(
    site: Path, when: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dfw("run", "tiny.yaml", capsys=capsys)[:1] == (0,)
    alone = only_run()
    before = in_place()
    for number, change in enumerate([*CHANGES, *QUIET]):
        install(site, f"acme-{number}", **{when: change})
    code, _, err = dfw("run", "tiny.yaml", capsys=capsys)
    assert code == 0
    assert in_place() == before
    lines = err.splitlines()
    for number, said in enumerate(CHANGES.values()):
        told = [line for line in lines if f"acme-{number} 0.7" in line]
        assert [said in line and line.endswith("; put back") for line in told] == [True], (said, told)
    assert len(lines) == len(CHANGES)
    (among,) = (run for run in alone.parent.iterdir() if run != alone)
    assert bits(among) == bits(alone)
    assert "geometry.safetensors" in bits(alone)
    page = (among / "report.html").read_text(encoding="utf-8")
    assert all(f"acme-{number}/listener" in page for number in range(len(CHANGES)))  # who was there stands in the report


def test_an_exception_that_looks_like_ctrl_c_is_the_listeners_own(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, error in (("acme-keys", "KeyboardInterrupt"), ("acme-exit", "SystemExit(0)"), ("acme-gen", "GeneratorExit")):
        install(site, f"{name}-import", at_import=f"raise {error}")
        install(site, f"{name}-hook", in_hook=f"raise {error}")
    code, _, err = dfw("run", "tiny.yaml", capsys=capsys)
    assert code == 0
    for name, error in (("acme-keys", "KeyboardInterrupt"), ("acme-exit", "SystemExit: 0"), ("acme-gen", "GeneratorExit")):
        module = f"{name}-import".replace("-", "_")
        assert f"{name}-import 0.7: listener 'listener': failed to load from {module}:Listener: {error}" in err
        assert f"{name}-hook 0.7: listener '{name}-hook/listener': dfw_step_ended raised {error}; it is switched off" in err
    assert json.loads((only_run() / "status.json").read_text())["status"] == "finished"


@pytest.mark.parametrize("when", ["at_import", "in_hook"])
def test_ctrl_c_names_the_listener_that_hangs(
    site: Path, when: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first one may let the step end; the second one ends the wait."""
    monkeypatch.setattr("dfw.plugins.fence.PATIENCE", 0.01)
    twice = "time.sleep(0.2); signal.raise_signal(signal.SIGINT); signal.raise_signal(signal.SIGINT); time.sleep(1)"
    install(site, "acme-slow", **{when: twice})
    code, _, err = dfw("run", "tiny.yaml", capsys=capsys)
    name = "listener" if when == "at_import" else "acme-slow/listener"
    assert code == 130
    waiting, interrupted = [line for line in err.splitlines() if line]
    assert waiting == f"WARNING: waiting for listener '{name}' of acme-slow 0.7"
    assert interrupted.startswith(f"interrupted while waiting for listener '{name}' of acme-slow 0.7")


def test_one_ctrl_c_in_a_hook_ends_the_run_with_a_checkpoint(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(site, "acme-press", in_hook="signal.raise_signal(signal.SIGINT)")
    code, _, err = dfw("run", "tiny.yaml", capsys=capsys)
    assert (code, err) == (130, "")
    assert (only_run() / "checkpoints/step-000001/state.json").is_file()


@pytest.mark.parametrize("when", ["at_import", "in_hook"])
def test_a_copy_of_the_process_does_not_go_on_as_a_second_run(site: Path, when: str, capfd: pytest.CaptureFixture[str]) -> None:
    install(site, "acme-fork", **{when: "os.fork()"})
    code, _, err = dfw("run", "tiny.yaml", capsys=capfd)
    children = 1 if when == "at_import" else 4
    for _ in range(children):
        assert os.WEXITSTATUS(os.wait()[1]) == 1
    said = err + capfd.readouterr().err
    assert code == 0
    assert said.count("of acme-fork 0.7 has copied this process (os.fork); the copy, process ") == children
    rows = [json.loads(line)["step"] for line in (only_run() / "metrics.jsonl").read_text().splitlines()]
    assert rows == [0, 1, 2, 3]


def alone(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`dfw` in a process of its own."""
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "dfw", *arguments]
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)


def test_a_hook_that_ends_the_process_is_named_when_the_run_goes_on(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(site, "acme-quits", at_import="count = []", in_hook="count.append(1); len(count) < 3 or os._exit(0)")
    done = alone(site, "run", "tiny.yaml", "trainer.checkpoint_every=1")
    assert (done.returncode, done.stderr) == (0, "")
    run = only_run()
    assert 'data-renew="' in (run / "report.html").read_text()  # it says `running`: nobody was left to say more
    code, _, err = dfw("run", "--resume", str(run), "--block", "acme-quits", capsys=capsys)
    assert code == 0
    said = "this run ended without a word while listener 'acme-quits/listener' of acme-quits 0.7 was in dfw_step_ended"
    assert err == f"WARNING: {said}; --block leaves a distribution out\n"
    assert not list(run.glob(".at-work*"))
    assert 'data-renew="' not in (run / "report.html").read_text()


def test_a_closed_stream_is_opened_again(site: Path) -> None:
    install(site, "acme-shuts", at_import="sys.stdout.close(); sys.stderr.close()", in_hook="sys.stdout.close()")
    done = alone(site, "run", "tiny.yaml")
    assert done.returncode == 0
    assert "finished after" in done.stdout
    assert done.stderr.splitlines() == [
        "WARNING: listener 'listener' of acme-shuts 0.7 changed stderr, stdout to closed; put back",
        "WARNING: acme-shuts 0.7: listener 'acme-shuts/listener': dfw_step_ended changed stdout to closed; put back",
    ]


def test_a_fence_in_another_thread_leaves_signals_alone() -> None:
    from concurrent.futures import ThreadPoolExecutor

    def work() -> str:
        with plugin_code("acme", "works"):
            return "done"

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(work).result() == "done"


FORKS = """
import os
from dfw import ComponentConfig, Loss

class Forks(Loss):
    def __init__(self, config):
        super().__init__()
        self.config = config

    def forward(self, inputs):
        if inputs.progress.step == {step}:
            os.fork()
        return inputs.render.colour.mean()
"""


@pytest.mark.parametrize(
    ("step", "who"), [(0, "losses.forks (acme-forks/forks, acme-forks 0.3)"), (2, "a component of this run")]
)
def test_a_component_that_copies_the_process_makes_no_second_run(
    site: Path, step: int, who: str, capfd: pytest.CaptureFixture[str]
) -> None:
    source = FORKS.replace("{step}", str(step))
    write_package(site, "acme-forks", "0.3", "[dfw.loss]\nforks = acme_forks:Forks\n", {"acme_forks": source})
    code, _, err = dfw("run", "tiny.yaml", "losses.forks.type=acme-forks/forks", capsys=capfd)
    assert code == 0
    assert os.WEXITSTATUS(os.wait()[1]) == 1
    assert (err + capfd.readouterr().err).count(f"ERROR: {who} has copied this process (os.fork); the copy, process ") == 1
    rows = [json.loads(line)["step"] for line in (only_run() / "metrics.jsonl").read_text().splitlines()]
    assert rows == [0, 1, 2, 3]


RAISES = """
from dfw import ComponentConfig, Loss

class Odd(Loss):
    def __init__(self, config):
        super().__init__()
        self.config = config

    def forward(self, inputs):
        raise {error}
"""


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "SystemExit", "GeneratorExit"])
def test_a_component_that_raises_an_odd_exception_is_named(site: Path, error: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_package(site, "acme-odd", "0.3", "[dfw.loss]\nodd = acme_odd:Odd\n", {"acme_odd": RAISES.format(error=error)})
    code, _, err = dfw("run", "tiny.yaml", "losses.odd.type=acme-odd/odd", capsys=capsys)
    assert code == 3
    assert f"losses.odd (acme-odd/odd, acme-odd 0.3) failed at step 0: {error}" in one_error(err)
