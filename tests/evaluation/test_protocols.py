"""The views of the protocols, and how scores of views become one, against closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from dfw import Orbit, orbit
from dfw.evaluation.protocols import PROTOCOLS, Icosphere, Ring

KNOWN = {
    "views16": (16, 2.5, {35.0}),
    "t3bench": (810, 2.2, {60.0, 45.0, 36.0, 30.0, 24.0}),
    "gpteval3d": (120, 1.5, {70.0}),
}
"""Views, distance and fields of view."""
LOOK = Orbit(distance=2.5, fov=35.0, elevation=20.0)


@pytest.mark.parametrize(("times", "count"), [(0, 12), (1, 42), (2, 162)])
def test_an_icosphere_has_as_many_vertices_as_euler_says(times: int, count: int) -> None:
    """V = 10 * 4^n + 2. Twelve vertices have five neighbours, all others six, and each edge has two ends."""
    sphere = Icosphere(times)
    directions, neighbours = sphere.directions(), sphere.neighbours()
    assert directions.shape == (count, 3) == (10 * 4**times + 2, 3)
    assert directions.norm(dim=1) == pytest.approx(torch.ones(count), abs=1e-6)
    counts = [len(near) for near in neighbours]
    assert counts.count(5) == 12
    assert counts.count(6) == count - 12
    assert sum(counts) == 2 * 3 * (count - 2)  # E = 3 V - 6
    assert all(index in neighbours[other] for index, near in enumerate(neighbours) for other in near)
    assert directions.sum(0).abs().max() < 1e-9
    gaps = [float((directions[index] - directions[other]).norm()) for index, near in enumerate(neighbours) for other in near]
    assert max(gaps) < 2.1 / 2**times  # an icosahedron's edge is 1.0515 of its radius


@pytest.mark.parametrize("name", PROTOCOLS)
def test_cameras_look_at_the_centre_from_where_the_protocol_says(name: str) -> None:
    protocol = PROTOCOLS[name]
    cameras = protocol.cameras(LOOK, 8)
    count, distance, fovs = KNOWN[name]
    assert len(cameras) == len(protocol) == count
    assert set(cameras.fov_y.tolist()) == fovs
    assert cameras.distance == pytest.approx(torch.full((count,), distance), abs=1e-5)
    assert cameras.position.norm(dim=1) == pytest.approx(torch.full((count,), distance), abs=1e-5)
    forward = -cameras.camera_to_world[:, :3, 2]
    assert (forward * distance + cameras.position).abs().max() < 1e-5
    rotation = cameras.camera_to_world[:, :3, :3]
    assert (rotation @ rotation.mT - torch.eye(3)).abs().max() < 1e-5
    assert torch.linalg.det(rotation) == pytest.approx(torch.ones(count), abs=1e-5)
    upright = rotation[:, 2, 1]  # the z component of what is up in the picture
    near_pole = cameras.position[:, 2].abs() >= 0.99 * distance - 1e-6
    assert bool((upright[~near_pole] > 0).all())


@pytest.mark.parametrize("name", ["views16", "gpteval3d"])
def test_a_ring_is_the_turntable(name: str) -> None:
    protocol = PROTOCOLS[name]
    made = protocol.cameras(LOOK, 8)
    count = len(protocol)
    assert float(made.azimuth[1] - made.azimuth[0]) == pytest.approx(360 / count, abs=1e-4)
    known = orbit(count, 15.0, protocol.distance or 2.5, (protocol.fovs or (35.0,))[0], 8, 8)
    assert (made.camera_to_world - known.camera_to_world).abs().max() < 1e-5
    assert Ring(count, 15.0).neighbours()[0] == [count - 1, 1]


def test_zooms_of_a_station_follow_each_other() -> None:
    protocol = PROTOCOLS["t3bench"]
    cameras = protocol.cameras(LOOK, 8)
    assert cameras.fov_y[:5].tolist() == [60.0, 45.0, 36.0, 30.0, 24.0]
    assert (cameras.position[:5] - cameras.position[0]).abs().max() == 0
    assert (cameras.position[5] - cameras.position[0]).norm() > 0.1
    assert [protocol.file("rgb", view) for view in (0, 4, 5, 809)] == ["000_0.png", "000_4.png", "001_0.png", "161_4.png"]


def test_pictures_have_the_names_of_the_benchmark() -> None:
    assert PROTOCOLS["gpteval3d"].file("normal", 119) == "normal_119.png"
    assert PROTOCOLS["views16"].file("rgb", 3) == "rgb/003.png"


def test_the_mean_counts_every_view() -> None:
    assert PROTOCOLS["views16"].pooled([0.0] * 15 + [1.0]) == pytest.approx(1 / 16)


def by_hand(scores: list[float]) -> float:
    """T3Bench's rule in plain loops: the best zoom, three passes over neighbours, the best station."""
    stations = [max(scores[5 * index : 5 * index + 5]) for index in range(162)]
    near = Icosphere(2).neighbours()
    for _ in range(3):
        stations = [math.fsum([stations[i], *(stations[j] for j in near[i])]) / (len(near[i]) + 1) for i in range(162)]
    return max(stations)


def test_t3bench_smooths_over_the_sphere() -> None:
    pooled = PROTOCOLS["t3bench"].pooled
    assert pooled([0.7] * 810) == pytest.approx(0.7)  # a mean of equal numbers, whatever the neighbours
    drawn = torch.rand(810, generator=torch.Generator().manual_seed(3)).tolist()
    assert pooled(drawn) == pytest.approx(by_hand(drawn))
    bright = [0.0] * 810
    bright[5 * 20 + 2] = 1.0  # one picture of one station
    assert pooled(bright) == pytest.approx(by_hand(bright))
    assert 1 / 7**3 < pooled(bright) < 0.25  # it spreads: one lucky view does not decide
