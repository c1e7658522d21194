"""Methods that cannot be called as the core calls them are refused when the class is loaded, before anything is built."""

from __future__ import annotations

import functools
from importlib.metadata import entry_points
from typing import Any

import pytest
import torch

from dfw import (
    Background,
    Cameras,
    ComponentConfig,
    DensityField,
    Exporter,
    Geometry,
    Guidance,
    Loss,
    Noise,
    Prompter,
    Renderer,
)
from dfw.config.kinds import KINDS
from dfw.errors import PluginError
from dfw.plugins.registry import Registry
from dfw.plugins.signatures import mismatch


class Config(ComponentConfig):
    """No options."""


def made(base: type[Any], **members: Any) -> type[Any]:
    return type("Mine", (base,), {"Config": Config, "__init__": lambda self, config: None, **members})


WRONG = {
    "bind without a setup": (
        made(Loss, bind=lambda self: None),
        "has bind(self), and is called as bind(self, setup); take the same arguments",
    ),
    "cameras without a generator": (made(Cameras, sample=lambda self, progress: None), "sample(self, progress, generator)"),
    "cameras that ask themselves": (made(Cameras, together=lambda self, config: 1), "write @classmethod above `def together"),
    "a prompter of two arguments": (made(Prompter, texts=lambda self, prompt, view: None), "is called as texts(self, prompt)"),
    "noise without inputs": (made(Noise, forward=lambda self, encoded: None), "is called as forward(self, encoded, inputs)"),
    "a background of a camera": (made(Background, forward=lambda self: None), "is called as forward(self, direction, gen"),
    "an exporter without a stem": (made(Exporter, files=lambda self, mesh: None), "is called as files(self, mesh, stem, title)"),
    "end_step without inputs": (made(Loss, end_step=lambda self: None), "is called as end_step(self, inputs)"),
    "initialise without a generator": (made(Geometry, initialise=lambda self: None), "is called as initialise(self, generator)"),
    "begin_step of another kind": (made(Renderer, begin_step=lambda self, progress: None), "begin_step(self, geometry, progress"),
    "a generator that is needed": (
        made(Renderer, forward=lambda self, geometry, cameras, generator: None),
        "is called as forward(self, geometry, cameras, generator=None)",
    ),
    "sample without normals": (made(DensityField, sample=lambda self, points: None), "sample(self, points, normals=False)"),
    "normals under another name": (made(DensityField, sample=lambda self, points, n=False: None), "has sample(self, points, n="),
    "radius as a method": (made(DensityField, radius=lambda self: 1.0), "has radius as a method"),
    "control_image": (made(Guidance, control_image=lambda self, render: None), "control_image(self, render, cameras)"),
    "requires of an instance": (made(Loss, requires=lambda self, config: frozenset()), "write @classmethod above `def requires"),
    "a constructor without config": (made(Loss, __init__=lambda self: None), "__init__(); write __init__(self, config)"),
    "no constructor": (type("Mine", (Loss,), {"Config": Config}), "write def __init__(self, config): super().__init__()"),
    "a decorated method": (made(Loss, bind=torch.no_grad()(lambda self: None)), "has bind(self)"),
    "deep in the family": (type("Child", (made(Loss, end_step=lambda self: None),), {}), "end_step(self, inputs)"),
}  # fmt: skip


def partly(function: Any) -> Any:
    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapped


RIGHT = {
    "other names": made(Loss, bind=lambda self, around: None),
    "more, with defaults": made(Loss, forward=lambda self, inputs, scale=1.0: None),
    "anything": made(Renderer, forward=lambda self, *args, **kwargs: None),
    "a wrapper": made(Loss, end_step=partly(lambda self, inputs: None)),
    "radius as a number": made(DensityField, radius=1.0),
    "radius as a property": made(DensityField, radius=property(lambda self: 1.0)),
    "a static requires": made(Loss, requires=staticmethod(lambda config: frozenset())),
    "a constructor with more": made(Loss, __init__=lambda self, config, extra=None: None),
    "helpers of its own": made(Loss, _draw=lambda self: None, gamma=lambda self, x: x),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_called_is_said(name: str) -> None:
    cls, said = WRONG[name]
    assert said in mismatch(cls)


@pytest.mark.parametrize("name", RIGHT)
def test_what_can_be_called_passes(name: str) -> None:
    assert mismatch(RIGHT[name]) == ""


def test_every_built_in_component_fits() -> None:
    points = [point for kind in KINDS for point in entry_points(group=f"dfw.{kind}")]
    assert len(points) > 20
    assert {point.name: mismatch(point.load()) for point in points} == {point.name: "" for point in points}


class Late(Loss):
    """Trains nothing in the end, and says so wrongly."""

    Config = Config

    def __init__(self, config: Any) -> None: ...

    def forward(self, inputs: Any) -> Any: ...

    def end_step(self) -> None: ...  # type: ignore[override]


def test_the_registry_names_whose_it_is() -> None:
    with pytest.raises(
        PluginError, match=r"^loss 'mine' of local .*test_signatures.py \(.*:Late\) has end_step\(self\), and is called"
    ):
        Registry().register("loss", "mine", Late)
