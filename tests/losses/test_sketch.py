"""The loss that holds a density to a coarse mesh: values on paper, what it pulls where, and what it says of bad meshes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import trimesh
from small_runs import SCENE, config, trained
from torch import Tensor, nn

from dfw import ComponentConfig, ConfigError, DensityField, FieldSample, LossSetup
from dfw.compose import compose
from dfw.runs.start import make_trainer
from dfw_losses.sketch import Sketch

SURE = 0.99


class Even(DensityField):
    """One density everywhere in the cube of half-width 1."""

    def __init__(self, density: float) -> None:
        super().__init__()
        self.config = ComponentConfig()
        self.value = nn.Parameter(torch.tensor(density))

    @property
    def radius(self) -> float:
        return 1.0

    def density(self, points: Tensor) -> Tensor:
        return self.value.expand(points.shape[:-1])

    def sample(self, points: Tensor, normals: bool = False) -> FieldSample:
        return FieldSample(self.density(points), torch.zeros_like(points))


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """A cube of half-width 0.5, in world axes."""
    path = tmp_path / "box.ply"
    trimesh.creation.box((1, 1, 1)).export(path)
    return path


def bound(mesh: Path, field: DensityField, **options: Any) -> Sketch:
    made = Sketch(Sketch.Config.model_validate({"mesh": str(mesh), "radius": None, "cells": 40, **options}))
    made.bind(LossSetup(None, field, None, torch.Generator()))
    return made


@pytest.mark.parametrize(
    ("point", "inside", "distance"),
    [
        ((0.0, 0.0, 0.0), SURE, 0.5),
        ((0.2, 0.1, 0.0), SURE, 0.3),
        ((0.9, 0.0, 0.0), 1 - SURE, 0.4),
        ((0.8, 0.9, 0.0), 1 - SURE, 0.5),
    ],
)
@pytest.mark.parametrize("density", [0.0, 2.0, 50.0])
def test_it_is_the_weighted_cross_entropy(box: Path, point: Any, inside: float, distance: float, density: float) -> None:
    field = Even(density)
    made = bound(box, field, deviation=0.4, step=0.3)
    matter = 1 - math.exp(-0.3 * density)
    crossed = -matter * math.log(inside) - (1 - matter) * math.log(1 - inside)
    expected = crossed * (1 - math.exp(-(distance**2) / (2 * 0.4**2)))
    assert made.at(field, torch.tensor([point])).item() == pytest.approx(expected, rel=1e-4)


def test_the_surface_is_free_and_points_inside_and_outside_pull_apart(box: Path) -> None:
    """d loss / d density = step exp(-step density) (log(1 - a') - log a') w: 4.6 times that, down inside and up outside."""
    field = Even(1.0)
    made = bound(box, field)
    for point, sign in (((0.0, 0.0, 0.0), -1), ((0.95, 0.95, 0.95), 1), ((0.5, 0.0, 0.0), 0)):
        (slope,) = torch.autograd.grad(made.at(field, torch.tensor([point])), field.value)
        distance = 0.5 if sign < 0 else math.sqrt(3) * 0.45 if sign > 0 else 0.0
        weight = 1 - math.exp(-(distance**2) / (2 * 0.25**2))
        assert slope.item() == pytest.approx(sign * 0.2 * math.exp(-0.2) * math.log(99) * weight, rel=1e-4, abs=1e-6)


def test_the_mesh_is_fitted_into_its_ball(box: Path) -> None:
    """A cube whose corners lie at 0.9 has faces at 0.52: what was 0.02 outside is inside."""
    place = torch.tensor([[0.51, 0.0, 0.0]])
    assert bound(box, Even(1.0))._distance(place).item() == pytest.approx(0.01, abs=1e-4)
    assert bound(box, Even(1.0), radius=0.9)._distance(place).item() == pytest.approx(0.51 - 0.9 / math.sqrt(3), abs=3e-3)


def test_parts_that_overlap_are_one(tmp_path: Path) -> None:
    parts = [trimesh.creation.box((1, 1, 1)).apply_translation((shift, 0, 0)) for shift in (-0.2, 0.2)]
    trimesh.util.concatenate(parts).export(tmp_path / "two.stl")  # type: ignore[no-untyped-call]
    made = bound(tmp_path / "two.stl", Even(1.0))
    assert made._distance(torch.tensor([[0.0, 0.0, 0.0]])).item() < 0


def test_a_run_takes_the_shape_and_needs_the_file_only_once(tmp_path: Path, box: Path) -> None:
    """Without a guidance the field becomes the box; a resumed run has the distance from its checkpoint."""
    losses = {"shape": {"type": "sketch", "mesh": str(box), "radius": None, "deviation": 0.05, "cells": 16, "weight": 10}}
    scene = {**SCENE, "losses": losses, "guidance": None}
    trainer, _ = trained(config(scene, tmp_path, trainer={"steps": 120}, optimizer={"lr": 0.05}))
    field: Any = trainer.geometry
    with torch.no_grad():
        matter = 1 - torch.exp(-0.2 * field.density(torch.tensor([[0.0, 0, 0], [0.3, 0.3, 0.3], [0.9, 0, 0], [0.8, 0.8, 0.8]])))
    assert (matter[:2] > 0.9).all()
    assert (matter[2:] < 0.1).all()
    kept = trainer.save(tmp_path / "checkpoints")
    box.unlink()
    made = config(scene, tmp_path)
    again = make_trainer(made, compose(made).build(), resumed=True)
    again.restore(kept)
    assert torch.equal(again.losses["shape"].distance, trainer.losses["shape"].distance)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"box\.ply: there is no such file; give an OBJ"):
        make_trainer(made, compose(made).build())


def test_a_sheet_encloses_nothing(tmp_path: Path) -> None:
    trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]]).export(tmp_path / "sheet.ply")
    with pytest.raises(ConfigError, match=r"sheet\.ply: the surface from .* encloses none of"):
        bound(tmp_path / "sheet.ply", Even(1.0))


def test_it_needs_a_density(tmp_path: Path, box: Path) -> None:
    made = {"sketch": {"type": "sketch", "mesh": str(box)}, "sds": {"type": "sds"}}
    plane = {**SCENE, "geometry": {"type": "image"}, "renderer": {"type": "plane"}, "losses": made}
    with pytest.raises(ConfigError, match=r"losses\.sketch.*needs density-field"):
        compose(config(plane, tmp_path))
