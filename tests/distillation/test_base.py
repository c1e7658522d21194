"""What every distillation loss does before its own formula: the question to the guidance."""

from __future__ import annotations

import pytest
import torch
from known_prior import FLOW, ask, at, prior, views
from loss_inputs import of_opacity

from dfw import ConfigError
from dfw_losses.csd import CSD
from dfw_losses.hifa import HiFA
from dfw_losses.sds import SDS


@pytest.mark.parametrize("how", ["stratified", "dreamtime", {"from": 0.5, "to": 0.1}])
def test_each_loss_takes_each_way(how):
    model, z = prior(), views(4)
    texts = {"": "none"}
    found = CSD(CSD.Config.model_validate({"timesteps": how})).residual(z, ask(z, model, texts))
    assert torch.isfinite(found).all()


def test_a_run_without_guidance_names_the_loss():
    with pytest.raises(ConfigError, match="the loss 'hifa' asks a guidance"):
        HiFA(HiFA.Config()).residual(torch.zeros(1, 3, 2, 2), of_opacity(torch.ones(1, 2, 2)))


def test_a_schedule_that_does_not_preserve_variance_adds_its_own_noise():
    model, z = prior(schedule=FLOW), views(3)
    query = SDS(SDS.Config(**at(500))).query(z, ask(z, model))
    torch.testing.assert_close(query.noisy, FLOW.alpha[500].double() * z + FLOW.sigma[500].double() * query.noise)
