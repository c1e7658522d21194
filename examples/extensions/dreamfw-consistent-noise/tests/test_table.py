"""The memory of a noise: its law, how it is renewed, and that a checkpoint holds all of it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import scenes
import torch
from dreamfw_consistent_noise.surface import Surface
from dreamfw_consistent_noise.world_map import WorldMap
from torch import Tensor

import dfw

CAMERAS = scenes.at((20, 10), (50, 0))
SEEN = scenes.ball(CAMERAS, 0.7)


def surface(**options: object) -> Surface:
    made = Surface(Surface.Config.model_validate(options))
    made.initialise(scenes.generator())
    return made


def ask(made: Surface, step: int, channels: int = 4) -> Tensor:
    return made(torch.zeros(2, channels, 6, 6), scenes.asked(SEEN, CAMERAS, step, seed=step))


def test_keys_are_spread_evenly() -> None:
    """A million neighbouring cells in 2^16 entries: each is hit as often as independent draws would hit it, 16 +- 4 times."""
    from dreamfw_consistent_noise.table import mixed

    axis = torch.arange(-50, 50)
    key = mixed(1, *(part.flatten() for part in torch.meshgrid(axis, axis, axis, indexing="ij")))
    hits = torch.bincount((key >> 20) & (2**16 - 1), minlength=2**16).double()
    assert hits.mean() == pytest.approx(1e6 / 2**16)
    assert hits.var() == pytest.approx(float(hits.mean()), rel=0.03)


def test_renewal_follows_its_law() -> None:
    """eps_n correlates with eps_0 by (1 - g)^(n / 2), and its variance stays 1; g of 0 keeps every bit."""
    made = surface(renewal=0.3)
    first, start = ask(made, 0), made.values.clone()
    assert torch.equal(ask(made, 0), first)  # asked again in the same step, as with trainer.accumulate
    for step in range(1, 4):
        ask(made, step)
    size = len(start)
    assert float(made.values @ start) / size == pytest.approx(0.7**1.5, abs=5 / math.sqrt(size))
    assert float(made.values.square().mean()) == pytest.approx(1, abs=7 / math.sqrt(size))
    kept = surface(renewal=0)
    assert torch.equal(ask(kept, 5), ask(kept, 0))


def test_each_step_draws_its_share_from_the_generator_it_is_given() -> None:
    made = surface(renewal=0.19, log2_size=10)
    ask(made, 0)
    start = made.values.clone()
    ask(made, 1)
    drawn = torch.randn(1024, generator=scenes.generator(1))
    torch.testing.assert_close(made.values, 0.9 * start + math.sqrt(0.19) * drawn)


@pytest.mark.parametrize("stopped_after", [0, 3])
def test_a_restored_noise_goes_on_to_the_same_bits(stopped_after: int) -> None:
    whole, part = surface(), surface()
    for step in range(stopped_after + 1):
        ask(part, step)
        expected = ask(whole, step)
    restored = Surface(Surface.Config())
    restored.load_state_dict(part.state_dict())
    for step in range(stopped_after + 1, 7):
        expected = ask(whole, step)
        assert torch.equal(ask(restored, step), expected)


def test_a_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    """Six steps, and three, a checkpoint, and three in another trainer: losses and parameters agree exactly."""
    config = {
        "prompt": "a",
        "geometry": {"type": "dreamfw/nerf", "encoding": {"type": "hash-grid", "levels": 2, "log2_size": 8}},
        "renderer": {"type": "dreamfw/volume", "samples": 16},
        "guidance": {"type": "dreamfw/gaussian", "means": {"a": [0.9, 0.2, 0.4]}, "resolution": 8},
        "losses": {"fsd": {"type": "dreamfw-consistent-noise/fsd", "guidance_scale": 1}},
        "prompter": "dreamfw/plain",
        "cameras": {"width": 12, "batch_size": 2},
        "trainer": {"steps": 6},
        "device": "cpu",
    }
    with dfw.trainer(config) as whole:
        expected = [step.loss for step in whole]
        parameters = [p.detach().clone() for p in whole.geometry.parameters()]
    with dfw.trainer(config) as trainer:
        steps = iter(trainer)
        found = [next(steps).loss for _ in range(3)]
        place = trainer.save(tmp_path)
    with dfw.trainer(config, seed=5) as trainer:
        trainer.restore(place)
        found += [step.loss for step in trainer]
        for one, two in zip(trainer.geometry.parameters(), parameters, strict=True):
            assert torch.equal(one, two)
    assert found == expected


def world_map(**options: object) -> WorldMap:
    made = WorldMap(WorldMap.Config.model_validate(options))
    made.initialise(scenes.generator())
    return made


def test_the_window_moves_with_the_camera() -> None:
    """Of 12 pixels that span 120 degrees, a turn by 30 is three columns and a climb by 20 two rows; a whole turn is none."""
    cameras = scenes.at((0, 0), (30, 0), (0, 20), (360, 0), (-30, 0))
    found = world_map(span=120)(torch.zeros(5, 3, 12, 12), scenes.asked(scenes.render(cameras, torch.ones(5, 24, 24)), cameras))
    assert torch.equal(found[1, ..., :-3], found[0, ..., 3:])
    assert torch.equal(found[4, ..., 3:], found[0, ..., :-3])
    assert torch.equal(found[2, :, 2:], found[0, :, :-2])
    assert torch.equal(found[3], found[0])
    assert found.var() == pytest.approx(1, abs=0.2)


def test_the_window_is_white_and_the_background_fixed() -> None:
    """Channels are draws. Half of the picture is empty: it is the same from two sides, and the other half is not."""
    cameras = scenes.at((0, 0), (100, 0))
    depth = torch.ones(2, 24, 24)
    depth[..., 12:] = 0
    found = world_map(log2_size=22)(torch.zeros(2, 6000, 6, 6), scenes.asked(scenes.render(cameras, depth), cameras))
    assert torch.equal(found[0, ..., 3:], found[1, ..., 3:])
    flat = found[0].flatten(1)
    torch.testing.assert_close(flat.T @ flat / 6000, torch.eye(36), rtol=0, atol=5.5 / math.sqrt(6000))
    across = (found[0, ..., :3] * found[1, ..., :3]).mean(0)
    assert across.abs().max() < 5.5 / math.sqrt(6000)
