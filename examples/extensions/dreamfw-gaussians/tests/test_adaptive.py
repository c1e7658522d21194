"""Adaptive density control: which Gaussians are cloned, split and pruned, and what becomes of the optimiser's state."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from dreamfw_gaussians.adaptive import SHRINK, Adaptive
from safetensors.torch import load_file

import dfw
from dfw import Progress

CONFIG = Path(__file__).parents[1] / "configs" / "adaptive.yaml"
SHORT = {
    "device": "cpu",
    "cameras": {"width": 16, "batch_size": 2},
    "geometry": {"initial": 60, "capacity": 200, "control": {"every": 2, "start": 0}},
    "export": {"formats": [], "turntable_frames": 0},
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cloud(count: int = 6, **control) -> Adaptive:
    made = Adaptive(Adaptive.Config(initial=count, capacity=50, control={"every": 1, "start": 0, "share": 0.34, **control}))
    made.initialise(seeded())
    with torch.no_grad():
        made.scales.fill_(-4.0)  # 0.018: small
    return made


def pulled(made: Adaptive, gradient: list[float]):
    """What one step's end gives after these gradients of the places."""
    made.means.grad = torch.tensor(gradient)[:, None] * torch.tensor([0.0, 1.0, 0.0])
    return made.end_step(Progress(1, 2), seeded(3))


def by_name(made: Adaptive, resized) -> dict[str, torch.Tensor]:
    names = {id(parameter): name for name, parameter in made.named_parameters()}
    return {names[id(one.parameter)]: one.values for one in resized}


def test_small_ones_that_are_pulled_most_are_cloned():
    made = cloud()
    before = {name: p.detach().clone() for name, p in made.named_parameters()}
    resized = pulled(made, [0.1, 0.9, 0.2, 0.8, 0.3, 0.0])
    values = by_name(made, resized)
    assert all(one.index.tolist() == [0, 1, 2, 3, 4, 5, -1, -1] for one in resized)
    for name, value in values.items():
        assert torch.equal(value[6:], value[[1, 3]])
        same = [0, 2, 4, 5] if name == "opacities" else list(range(6))
        assert torch.equal(value[same], before[name][same])
    covered = 1 - (1 - torch.sigmoid(values["opacities"][[1, 3]])) ** 2  # by the two together
    torch.testing.assert_close(covered, torch.sigmoid(before["opacities"][[1, 3]]))


def test_large_ones_are_split_into_two_smaller_ones_that_lie_within():
    made = cloud()
    with torch.no_grad():
        made.scales[1] = torch.tensor([-1.0, -3.0, -3.0])
    resized = pulled(made, [0.1, 0.9, 0.2, 0.8, 0.3, 0.0])
    values = by_name(made, resized)
    assert resized[0].index.tolist() == [0, 2, 3, 4, 5, -1, -1, -1]  # 1 is gone; 3 cloned, then two halves of 1
    parts = values["scales"][-2:].exp()
    torch.testing.assert_close(parts, made.scales.detach()[[1, 1]].exp() / SHRINK)
    away = (values["means"][-2:] - made.means.detach()[1]).abs() / made.scales.detach()[1].exp()
    assert (away < 5).all()
    assert (away > 0).all()


def test_the_mean_gradient_counts_only_steps_in_which_it_was_seen():
    made = cloud(every=4)
    for step in range(3):
        made.means.grad = torch.zeros(6, 3)
        made.means.grad[0, 0] = 0.5  # seen three times
        made.means.grad[1, 0] = 0.9 if step == 0 else 0.0  # once, and stronger
        assert made.end_step(Progress(step + 1, 8), seeded()) == ()
    made.means.grad = torch.zeros(6, 3)
    resized = made.end_step(Progress(4, 8), seeded())
    assert by_name(made, resized)["means"][6:].tolist() == made.means.detach()[[1, 0]].tolist()


def test_faint_and_far_ones_are_pruned_and_capacity_is_kept():
    made = cloud(count=6)
    with torch.no_grad():
        made.opacities[2] = -8.0
        made.means[4] = torch.tensor([2.0, 0.0, 0.0])
    resized = pulled(made, [0.1, 0.9, 5.0, 0.8, 5.0, 0.0])
    assert resized[0].index.tolist() == [0, 1, 3, 5, -1]  # a third of the four that stay: one
    full = Adaptive(Adaptive.Config(initial=6, capacity=6, control={"every": 1, "start": 0}))
    full.initialise(seeded())
    assert pulled(full, [0.5] * 6)[0].index.tolist() == [0, 1, 2, 3, 4, 5]


def test_a_run_grows_reports_it_and_resumes_to_the_same_bits(tmp_path: Path):
    def start(steps: int):
        changes = SHORT | {"output": str(tmp_path), "trainer": {"steps": steps, "preview_every": 50}}
        return dfw.run(CONFIG, listeners=[], **changes)

    whole = start(8)
    numbers = [row["geometry.gaussians"] for row in whole.metrics]
    assert numbers[0] == 60
    assert numbers[-1] > 60
    assert all(row["geometry.cloned"] + row["geometry.split"] > 0 for row in whole.metrics if "geometry.cloned" in row)
    state = load_file(whole.directory / "checkpoints" / "step-000008" / "optimizer.safetensors")
    rows = {tensor.shape[0] for name, tensor in state.items() if "exp_avg" in name}
    assert rows == {len(whole.scene.geometry.means)}


@pytest.mark.parametrize(("wrong", "message"), [({"end": 0.05}, "lies before start"), ({"share": 0}, "greater than 0")])
def test_wrong_options(wrong, message):
    with pytest.raises(ValueError, match=message):
        Adaptive.Config(control={"start": 0.1, **wrong})
