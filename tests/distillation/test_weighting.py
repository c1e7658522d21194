"""Weights of distillation losses by formula: the arithmetic, the names, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from known_prior import prior

from dfw import NoiseSchedule
from dfw.distillation.formula import compile_formula
from dfw.distillation.weighting import NAMED, Weighting, check_weighting, weight_at
from dfw_losses.sds import SDS


def test_a_formula_is_the_arithmetic_it_says():
    schedule = NoiseSchedule(torch.tensor([0.6]), torch.tensor([0.8]))
    for formula, expected in {
        "sigma**2 * alpha": 0.384,
        "sqrt(alpha) * sigma**2": 0.6**0.5 * 0.64,
        "min(1, 5 * alpha**2 / sigma**2)": 1.0,
        "-log(sigma) + exp(-alpha)": -math.log(0.8) + math.exp(-0.6),
        "max(alpha, sigma) - abs(alpha - sigma)": 0.6,
        "1": 1.0,
        "2 ** -alpha": 2**-0.6,
    }.items():
        assert check_weighting(formula) == formula
        weight = weight_at(formula, schedule, torch.tensor([0, 0]), torch.zeros(2, 3, 2, 2, dtype=torch.float64))
        assert weight.shape == (2, 1, 1, 1)
        assert weight[0].item() == pytest.approx(expected, rel=1e-6), formula


@pytest.mark.parametrize("name", NAMED)
def test_a_name_is_its_formula(name):
    schedule, t, like = prior().schedule, torch.tensor([3, 500]), torch.zeros(2, 1)
    torch.testing.assert_close(weight_at(name, schedule, t, like), weight_at(NAMED[name], schedule, t, like))


@pytest.mark.parametrize(
    "formula",
    [
        "__import__('os').system('true')",
        "sigma.__class__",
        "().__class__",
        "[s for s in (1, 2)]",
        "lambda: sigma",
        "sigma if alpha else 1",
        "alpha < sigma",
        "sigma[0]",
        "sqrt",
        "sqrt(alpha, sigma)",
        "sqrt(x=alpha)",
        "eval('1')",
        "beta",
        "'sigma'",
        "True",
        "1e400",
        "sigma // 2",
        "sigma; alpha",
        "sigma +",
        "",
        "sigma" + " + sigma" * 60,
        "(" * 150,
    ],
)
def test_what_is_no_arithmetic_is_refused_in_a_sentence(formula):
    with pytest.raises(ValueError, match=r"not understood|not a formula|characters") as refused:
        compile_formula(formula, ("alpha", "sigma"))
    assert "\n" not in str(refused.value)


def test_python_does_not_comment_on_a_formula(recwarn):
    """Python itself warns of `1if`, with a line of its own."""
    with pytest.raises(ValueError, match="not understood"):
        compile_formula("1if 1else 2", ("alpha", "sigma"))
    assert not recwarn.list


def test_a_power_of_numbers_cannot_run_away():
    with pytest.raises(ValueError, match="inf where sigma is"):
        check_weighting("9**9**9**9")


@pytest.mark.parametrize(
    ("formula", "message"), [("alpha - sigma", "-"), ("1 / (sigma - sigma)", "inf"), ("log(alpha - 2)", "nan")]
)
def test_a_weight_below_zero_or_not_finite_is_refused(formula, message):
    with pytest.raises(ValueError, match=f"is {message}.* where sigma is .*finite and 0 or more"):
        SDS.Config.model_validate({"weighting": formula})


def test_a_misspelt_name_is_told_the_names_and_the_form():
    with pytest.raises(ValueError, match=r"'sigma3' in 'sigma3' is not understood; .*alpha, sigma.*sqrt\(x\).*names sigma2, one"):
        SDS.Config.model_validate({"weighting": "sigma3"})


@pytest.mark.parametrize(
    ("name", "expected"), [("sigma2", 0.64), ("one", 1.0), ("alpha-sigma2", 0.384), ("sigma-over-alpha", 4 / 3)]
)
def test_weights_by_hand(name: Weighting, expected: float) -> None:
    schedule = NoiseSchedule.from_alphas_cumprod(torch.tensor([0.9, 0.36]))  # alpha = 0.6, sigma = 0.8 at t = 1
    weight = weight_at(name, schedule, torch.tensor([1, 1]), torch.zeros(2, 3, 4, 4, dtype=torch.float64))
    assert weight.shape == (2, 1, 1, 1)
    assert weight.dtype == torch.float64
    torch.testing.assert_close(weight, torch.full_like(weight, expected), rtol=1e-6, atol=0)
