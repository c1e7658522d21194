import pytest
import torch
from torch import nn

from dfw.config.schedules import Progress, Ramp
from dfw.config.settings import GroupSettings, OptimizerSettings
from dfw.errors import ConfigError, ContractError
from dfw.interfaces.checks import check_groups
from dfw.interfaces.data import Resized
from dfw.runs.optimizer import carry_over, make_optimizer, merge_groups, set_learning_rates


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


@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd"])
def test_every_type_makes_its_known_first_step(kind):
    """At p = 2, gradient 3, rate 0.1, decay 0.5: AdamW p (1 - lr d) - lr; Adam p - lr; SGD p - lr (g + d p)."""
    p = parameter(2.0)
    settings = OptimizerSettings(type=kind, lr=0.1, weight_decay=0.5, betas=(0.9, 0.99))
    optimizer = make_optimizer(settings, {"geometry": [p]})
    set_learning_rates(optimizer, settings, Progress(0, 1))
    p.grad = torch.full((3,), 3.0)
    optimizer.step()
    expected = {"adamw": 2 * (1 - 0.05) - 0.1, "adam": 2 - 0.1, "sgd": 2 - 0.1 * (3 + 0.5 * 2)}[kind]
    torch.testing.assert_close(p.detach(), torch.full((3,), expected))


def test_groups_have_options_of_their_own_and_inherit_by_prefix():
    groups = {"geometry": GroupSettings(betas=(0.5, 0.6)), "geometry.means": GroupSettings(lr=0.2, weight_decay=0.1)}
    settings = OptimizerSettings(eps=1e-8, groups=groups)
    names = {"geometry.means": [parameter()], "geometry.colours": [parameter()], "renderer": [parameter()]}
    optimizer = make_optimizer(settings, names)
    found = {g["name"]: (g["betas"], g["weight_decay"], g["eps"]) for g in optimizer.param_groups}
    assert found == {
        "geometry.means": ((0.5, 0.6), 0.1, 1e-8),
        "geometry.colours": ((0.5, 0.6), 0.0, 1e-8),
        "renderer": ((0.9, 0.99), 0.0, 1e-8),
    }


def test_rows_that_continue_keep_their_state_and_new_ones_begin_without():
    p = nn.Parameter(torch.arange(6.0).view(3, 2))
    optimizer = make_optimizer(OptimizerSettings(lr=0.1), {"geometry": [p]})
    p.grad = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    optimizer.step()
    before = {name: value.clone() for name, value in optimizer.state[p].items()}
    values = torch.stack([p.detach()[2], p.detach()[0], torch.ones(2), p.detach()[2]])
    carry_over(optimizer, Resized(p, values, torch.tensor([2, 0, -1, 2])))
    state = optimizer.state[p]
    assert p.shape == (4, 2)
    for name in ("exp_avg", "exp_avg_sq"):
        expected = torch.stack([before[name][2], before[name][0], torch.zeros(2), before[name][2]])
        assert torch.equal(state[name], expected)
    assert state["step"] == before["step"]
    p.grad = torch.ones_like(p)
    optimizer.step()  # the optimiser still knows the parameter


def test_an_index_that_does_not_fit_is_a_broken_contract():
    p = nn.Parameter(torch.zeros(3, 2))
    optimizer = make_optimizer(OptimizerSettings(), {"geometry": [p]})
    with pytest.raises(ContractError, match=r"resizes a parameter of shape \(3, 2\) with values \(4, 2\), index \(3,\)"):
        carry_over(optimizer, Resized(p, torch.zeros(4, 2), torch.zeros(3, dtype=torch.int64)))
