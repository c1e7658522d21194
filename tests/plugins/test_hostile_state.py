"""Components with a state that no checkpoint holds are named in the first step, and not when the first checkpoint is written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fake_packages import write_package
from hostile_packages import write_liars
from hostile_site import dfw, one_error, only_run
from safetensors.torch import load_file

from dfw.compose import compose
from dfw.config.load import load_config
from dfw.plugins.surroundings import settings
from dfw.runs.start import make_trainer
from dfw.runs.trainer import Trainer

ODD = """
import torch
from torch import nn
from dfw import Loss, Renderer, RenderOutput


class Mean(Loss):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.make()

    def make(self):
        pass

    def forward(self, inputs):
        self.use(inputs)
        return inputs.render.colour.mean()

    def use(self, inputs):
        pass


class StateList(Mean):
    def state_dict(self, *args, **kwargs):
        return [torch.zeros(1)]


class StateText(Mean):
    def state_dict(self, *args, **kwargs):
        return {"note": "made on a Monday"}


class StateNumber(Mean):
    def state_dict(self, *args, **kwargs):
        return {1: torch.zeros(1)}


class StateRaises(Mean):
    def state_dict(self, *args, **kwargs):
        raise OSError("no room")


class Extra(Mean):
    def get_extra_state(self):
        return {"count": 3}

    def set_extra_state(self, state):
        pass


class Sparse(Mean):
    def make(self):
        self.register_buffer("pairs", torch.eye(3).to_sparse())


class LazyLayer(Mean):
    def make(self):
        self.layer = nn.LazyLinear(3)


class Forgets(Mean):
    def make(self):
        self.register_buffer("seen", torch.ones(3))

    def load_state_dict(self, state_dict, strict=True, assign=False):
        self.seen = torch.zeros(3)


class Replaces(Mean):
    def make(self):
        self.weight = nn.Parameter(torch.ones(3))

    def load_state_dict(self, state_dict, strict=True, assign=False):
        self.weight = nn.Parameter(state_dict["weight"].clone())


class CannotLoad(Mean):
    def load_state_dict(self, state_dict):
        raise TypeError("only on Tuesdays")


class Grows(Mean):
    def make(self):
        self.register_buffer("history", torch.zeros(0))

    def use(self, inputs):
        self.history = torch.cat([self.history, torch.ones(1)])


class GrowsLater(Grows):
    def use(self, inputs):
        if inputs.progress.step == 1:
            super().use(inputs)


class GrowsWithRoom(Grows):
    def allocate(self, shapes):
        self.history = torch.zeros(shapes["history"])


class MadeLate(Mean):
    def use(self, inputs):
        self.register_buffer("norm", torch.ones(3))


class OptimizerList(Mean):
    def optimizers(self):
        return [torch.optim.SGD([nn.Parameter(torch.ones(1))])]


class OptimizerSlash(Mean):
    def optimizers(self):
        return {"a/b": torch.optim.SGD([nn.Parameter(torch.ones(1))])}


class OptimizerNone(Mean):
    def optimizers(self):
        return {"adapter": None}


class OptimizerAnew(Mean):
    def optimizers(self):
        return {"adapter": torch.optim.SGD([nn.Parameter(torch.ones(1))])}


class OptimizerOdd(Mean):
    def make(self):
        self.optimizer = torch.optim.SGD([{"params": [nn.Parameter(torch.ones(1))], "hook": print}])

    def optimizers(self):
        return {"adapter": self.optimizer}


class GradOff(Mean):
    def use(self, inputs):
        torch.set_grad_enabled(False)


class Double(Mean):
    def use(self, inputs):
        torch.set_default_dtype(torch.float64)


class Inference(Mean):
    def use(self, inputs):
        self.guard = torch.inference_mode()
        self.guard.__enter__()


class EndsInDouble(Mean):
    def end_step(self, inputs):
        torch.set_default_dtype(torch.float64)


class Texts(Mean):
    def texts(self):
        return (1, 2)


class ViewTexts(Mean):
    def view_texts(self):
        return "a cat"


class Deaf(Mean):
    def use(self, inputs):
        import signal
        signal.signal(signal.SIGINT, signal.SIG_IGN)


class Draws(Mean):
    def use(self, inputs):
        torch.rand(3)


class Kept(Mean):
    # What a file can hold: a tensor as extra state, a NaN, a number, a number of elements 0.
    def make(self):
        self.register_buffer("broken", torch.tensor([float("nan"), 1.0]))
        self.register_buffer("count", torch.tensor(3))
        self.register_buffer("none", torch.zeros(0, 3, dtype=torch.bool))
        self.extra = torch.arange(3)

    def get_extra_state(self):
        return self.extra

    def set_extra_state(self, state):
        self.extra = state


class Plane(Renderer):
    @classmethod
    def requires(cls, config):
        return frozenset({"image"})

    @classmethod
    def provides(cls, config):
        return frozenset({"colour", "opacity", "depth"})

    def __init__(self, config):
        super().__init__()
        self.config = config

    def forward(self, geometry, cameras, generator=None):
        torch.set_grad_enabled(False)
        colour = geometry.image(len(cameras))
        ones = torch.ones(colour.shape[:3])
        return RenderOutput(colour, ones, 0 * ones)
"""
BUFFER = "and a file holds tensors alone; keep it in a tensor, by register_buffer"
FAULTS = {
    "StateList": "state_dict() gave a list, not a dict of names to tensors",
    "StateText": f"'note' of state_dict() is a str, {BUFFER}",
    "StateNumber": "state_dict() has the name 1, which is not text",
    "StateRaises": "state_dict() raised OSError: no room",
    "Extra": f"get_extra_state() gave a dict, {BUFFER}",
    "Sparse": "'pairs' is sparse_coo; keep a dense tensor, e.g. its indices and its values",
    "LazyLayer": "'layer.weight' has no shape before the first step; give it one in __init__",
    "Forgets": "load_state_dict(state_dict()) does not restore 'seen'; copy every tensor back as it was",
    "Replaces": "load_state_dict() puts new parameters in place of those that the optimizer trains; copy into them",
    "CannotLoad": "load_state_dict() raised TypeError: only on Tuesdays",
    "Grows": "after the first step 'history' has shape (1,), and in a new component it has shape (0,); make it in __init__",
    "MadeLate": "after the first step 'norm' has shape (3,), and in a new component it is not there; make it in __init__",
    "OptimizerList": "optimizers() gave a list, not a dict of names to optimisers",
    "OptimizerSlash": "optimizers() has the name 'a/b'; write letters, digits, '.', '_' and '-'",
    "OptimizerNone": "optimizers() has a NoneType under 'adapter', not a torch.optim.Optimizer",
    "OptimizerAnew": "optimizers() makes 'adapter' anew with each call; make it once, in bind, and return that one",
    "OptimizerOdd": "the optimiser 'adapter' has a state that TypeError: Object of type builtin_function_or_method is not JSON",
}
SETTINGS = {
    "GradOff": "torch's grad mode to False",
    "Double": "torch's default dtype to torch.float64",
    "Inference": "torch's inference mode to True",
    "EndsInDouble": "torch's default dtype to torch.float64",
}


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """A test that fails must not change what the others see."""
    before = {one.name: one.read() for one in settings()}
    yield
    for one in settings():
        one.undo(before[one.name])


@pytest.fixture
def odd(site: Path) -> Path:
    names = [line.split("(")[0].removeprefix("class ") for line in ODD.splitlines() if line.startswith("class ")]
    points = "[dfw.renderer]\nPlane = acme_odd:Plane\n[dfw.loss]\n" + "".join(f"{one} = acme_odd:{one}\n" for one in names[:-1])
    write_package(site, "acme-odd", "2.1", points, {"acme_odd": ODD})
    return site


@pytest.mark.parametrize("cls", FAULTS)
def test_state_that_cannot_be_kept_is_named_in_the_first_step(odd: Path, cls: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = dfw("run", "tiny.yaml", f"losses.odd.type=acme-odd/{cls}", capsys=capsys)
    text = one_error(err)
    assert text.startswith(f"error: losses.odd (acme-odd/{cls}, acme-odd 2.1) cannot be kept in a checkpoint: {FAULTS[cls]}")
    assert code == 3
    runs = list(Path("runs/tiny").iterdir()) if Path("runs").exists() else []
    assert all(not (run / "metrics.jsonl").read_text() for run in runs)  # before a step was reported


@pytest.mark.parametrize("cls", SETTINGS)
def test_a_component_that_changes_torch_while_it_works_is_named(odd: Path, cls: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = {one.name: one.read() for one in settings()}
    code, _, err = dfw("run", "tiny.yaml", f"losses.odd.type=acme-odd/{cls}", capsys=capsys)
    assert code == 3
    said = f"error: losses.odd (acme-odd/{cls}, acme-odd 2.1) changed {SETTINGS[cls]}"
    assert one_error(err).startswith(said)
    assert {one.name: one.read() for one in settings()} == before
    assert dfw("run", "tiny.yaml", capsys=capsys)[0] == 0


def test_a_renderer_that_switches_gradients_off_is_named(odd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = dfw("run", "tiny.yaml", "renderer.type=acme-odd/Plane", capsys=capsys)
    assert code == 3
    assert one_error(err).startswith("error: renderer (acme-odd/Plane, acme-odd 2.1) changed torch's grad mode to False")


@pytest.mark.parametrize(("cls", "said"), [("Texts", "texts() gave (1, 2)"), ("ViewTexts", "view_texts() gave 'a cat'")])
def test_texts_that_are_none_are_named(odd: Path, cls: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_liars(odd)
    arguments = ["guided.yaml", "guidance.type=acme-liars/Grey", f"losses.odd.type=acme-odd/{cls}"]
    code, _, err = dfw("run", *arguments, capsys=capsys)
    assert code == 2
    text = f"error: losses.odd (acme-odd/{cls}, acme-odd 2.1) breaks its contract: {said}, not a tuple of texts"
    assert one_error(err) == text


def test_draws_that_no_checkpoint_holds_are_warned_of(odd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = dfw("run", "tiny.yaml", "losses.odd.type=acme-odd/Draws", capsys=capsys)
    assert code == 0
    (line,) = err.splitlines()
    assert line.startswith("WARNING: losses.odd (acme-odd/Draws, acme-odd 2.1) draws from the global random numbers of torch")


def test_a_component_that_ignores_ctrl_c_is_warned_of(odd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = dfw("run", "tiny.yaml", "trainer.steps=1", "losses.odd.type=acme-odd/Deaf", capsys=capsys)
    assert code == 0
    said = "WARNING: losses.odd (acme-odd/Deaf, acme-odd 2.1) changed the handler of SIGINT to SIG_IGN; put back\n"
    assert err == said


def test_what_grows_later_is_warned_of_with_the_first_checkpoint_that_cannot_be_restored(
    odd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = dfw("run", "tiny.yaml", "trainer.checkpoint_every=1", "losses.odd.type=acme-odd/GrowsLater", capsys=capsys)
    assert code == 0
    (line,) = err.splitlines()
    who = "losses.odd (acme-odd/GrowsLater, acme-odd 2.1)"
    assert line.startswith(f"WARNING: {who} cannot be kept in a checkpoint: 'history' has shape (1,), and in a new component")


def test_what_makes_room_for_itself_may_grow(odd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dfw("run", "tiny.yaml", "losses.odd.type=acme-odd/GrowsWithRoom", capsys=capsys)[::2] == (0, "")
    code, _, err = dfw("run", "--resume", str(only_run()), "trainer.steps=6", capsys=capsys)
    assert (code, err) == (0, "")
    state = load_file(only_run() / "checkpoints/step-000006/loss.odd.safetensors")
    assert state["history"].shape == (6,)


def test_what_a_file_can_hold_is_kept(odd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = dfw("run", "tiny.yaml", "losses.odd.type=acme-odd/Kept", capsys=capsys)
    assert (code, err) == (0, "")
    code, _, err = dfw("run", "--resume", str(only_run()), "trainer.steps=6", capsys=capsys)
    assert (code, err) == (0, "")
    rows = [json.loads(line)["step"] for line in (only_run() / "metrics.jsonl").read_text().splitlines()]
    assert rows == [0, 1, 2, 3, 4, 5]


def trained(config: str, *overrides: str) -> Trainer:
    loaded = load_config(config, list(overrides))
    trainer = make_trainer(loaded, compose(loaded).build())
    for _ in trainer:
        pass
    return trainer


FIELD = ("field.yaml", "geometry.type=dreamfw/nerf", "renderer.occupancy.enabled=true", "trainer.ema=0.9")


@pytest.mark.parametrize("options", [("tiny.yaml",), FIELD], ids=["image", "field"])
def test_the_rehearsal_changes_no_bit_of_the_run(site: Path, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    rehearsed = trained(*options)
    monkeypatch.setattr("dfw.runs.rehearsal.Rehearsal.before", lambda self: None)
    plain = trained(*options)
    for name, module in plain.modules.items():
        for key, tensor in module.state_dict().items():
            assert torch.equal(tensor, rehearsed.modules[name].state_dict()[key]), (name, key)
    for purpose, state in plain.streams.state().items():
        assert torch.equal(state, rehearsed.streams.state()[purpose]), purpose
