"""What every distillation loss does before its own formula: the question to the guidance."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from known_prior import FLOW, ask, at, prior, views
from loss_inputs import of_opacity

from dfw import ConfigError, LossInputs, Views
from dfw_losses.csd import CSD
from dfw_losses.hifa import HiFA
from dfw_losses.sds import SDS


@pytest.mark.parametrize("how", ["stratified", "dreamtime", {"from": 0.5, "to": 0.1}])
def test_each_loss_takes_each_way(how):
    model, z = prior(), views(4)
    texts = {"": "none"}
    found = CSD(CSD.Config.model_validate({"timesteps": how})).residual(z, ask(z, model, texts))
    assert torch.isfinite(found).all()


def grouped(inputs: LossInputs, together: int) -> LossInputs:
    """The same views, of which so many are one scene."""
    return replace(inputs, views=Views(inputs.cameras.in_groups(together)))


def test_views_that_are_seen_together_share_one_timestep_and_have_noise_each():
    """Two scenes of three views: two draws of t, and then noise for six, by the same generator drawn by hand."""
    loss, z, own = SDS(SDS.Config()), views(6), torch.Generator().manual_seed(3)
    query = loss.query(z, grouped(ask(z, prior(), seed=3), 3))
    first, second = torch.randint(20, 981, (2,), generator=own).tolist()
    assert first != second
    assert query.timestep.tolist() == [first] * 3 + [second] * 3
    assert torch.equal(query.noise, torch.randn(6, 3, 2, 2, generator=own, dtype=torch.float64))


def test_stratified_scenes_take_one_part_each():
    """Four scenes of two views: a quarter of the range for each scene, not an eighth for each view."""
    loss, z = SDS(SDS.Config(timesteps="stratified", t_min=0.1, t_max=0.499)), views(8)
    for seed in range(20):
        pairs = loss.query(z, grouped(ask(z, prior(), seed=seed), 2)).timestep.view(4, 2)
        assert torch.equal(pairs[:, 0], pairs[:, 1])
        assert sorted(((pairs[:, 0] - 100) // 100).tolist()) == [0, 1, 2, 3]


def test_a_scenes_timestep_is_uniform_still():
    """Marginally, as for single views: 2,000 scenes of four, in ten parts of the range."""
    loss, z = SDS(SDS.Config(t_min=0.1, t_max=0.299)), torch.zeros(8_000, 3, 1, 1, dtype=torch.float64)
    drawn = loss.query(z, grouped(ask(z, prior(1)), 4)).timestep.view(2_000, 4)
    assert torch.equal(drawn, drawn[:, :1].expand(-1, 4))
    share = torch.bincount((drawn[:, 0] - 100) // 20, minlength=10).double() / 2_000
    assert (share - 0.1).abs().max() < 5 * (0.1 * 0.9 / 2_000) ** 0.5


def test_a_run_without_guidance_names_the_loss():
    with pytest.raises(ConfigError, match="the loss 'hifa' asks a guidance"):
        HiFA(HiFA.Config()).residual(torch.zeros(1, 3, 2, 2), of_opacity(torch.ones(1, 2, 2)))


def test_a_schedule_that_does_not_preserve_variance_adds_its_own_noise():
    model, z = prior(schedule=FLOW), views(3)
    query = SDS(SDS.Config(**at(500))).query(z, ask(z, model))
    torch.testing.assert_close(query.noisy, FLOW.alpha[500].double() * z + FLOW.sigma[500].double() * query.noise)
