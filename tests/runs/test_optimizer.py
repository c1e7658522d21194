import pytest
import torch
from torch import nn

from dfw.config.schedules import Progress, Ramp
from dfw.config.settings import GroupSettings, OptimizerSettings
from dfw.errors import ConfigError
from dfw.interfaces.checks import check_groups
from dfw.runs.optimizer import make_optimizer, merge_groups, set_learning_rates


def parameter(value: float = 1.0) -> nn.Parameter:
    return nn.Parameter(torch.full((3,), value))


def test_a_parameter_named_twice_is_stepped_once():
    shared = parameter()
    merged = merge_groups([{"a": [shared]}, {"b": [shared, parameter()]}])
    assert [len(v) for v in merged.values()] == [1, 1]


def test_a_group_may_come_as_any_iterable():
    """`self.net.parameters()` is a generator: who looks at it must not use it up."""

    class Lazy(nn.Linear):
        def parameter_groups(self):
            return {"all": self.parameters()}

    merged = merge_groups([check_groups(Lazy(2, 2))])
    assert [len(v) for v in merged.values()] == [2]


def test_frozen_parameters_and_empty_groups_are_left_out():
    assert merge_groups([{"a": [nn.Parameter(torch.ones(1), requires_grad=False)], "b": []}]) == {}


def test_learning_rates_follow_group_prefix_and_schedule():
    ramp = Ramp.model_validate({"from": 0.1, "to": 0.3, "start": 0, "end": 1})
    settings = OptimizerSettings(lr=0.5, groups={"geometry": GroupSettings(lr=ramp)})
    optimizer = make_optimizer(settings, {"geometry.encoding": [parameter()], "renderer": [parameter()]})
    set_learning_rates(optimizer, settings, Progress(50, 100))
    assert {g["name"]: g["lr"] for g in optimizer.param_groups} == {"geometry.encoding": pytest.approx(0.2), "renderer": 0.5}


def test_settings_for_an_unknown_group_are_refused():
    settings = OptimizerSettings(groups={"geometri": GroupSettings(lr=0.1)})
    with pytest.raises(ConfigError, match=r"optimizer\.groups\.geometri: no such parameter group; this run has geometry"):
        make_optimizer(settings, {"geometry": [parameter()]})


def test_first_adam_step_is_the_learning_rate_against_the_sign():
    """Adam's bias-corrected first step is lr * g/|g| (Kingma and Ba 2015, algorithm 1)."""
    p = parameter(0.0)
    settings = OptimizerSettings(lr=0.25)
    optimizer = make_optimizer(settings, {"geometry": [p]})
    set_learning_rates(optimizer, settings, Progress(0, 1))
    p.grad = torch.tensor([3.0, -0.1, 20.0])
    optimizer.step()
    torch.testing.assert_close(p.detach(), torch.tensor([-0.25, 0.25, -0.25]))
