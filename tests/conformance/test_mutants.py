"""Components that are wrong on purpose: each is caught by the checks named for it, and by no other; their right twins pass."""

from __future__ import annotations

from typing import Any

import geometry_mutants
import guidance_mutants
import loss_mutants
import pytest
import renderer_mutants
import torch
from torch import Tensor

from dfw import LossInputs
from dfw.testing import (
    ComponentTests,
    GaussianScore,
    GeometryTests,
    GuidanceTests,
    LossTests,
    RendererTests,
    checks_of,
    run_checks,
)


class OfGuidance(GuidanceTests):
    prompts = guidance_mutants.TEXTS


class OfDistillation(LossTests):
    """The formula by hand: sigma (z_t - alpha mu) / (alpha^2 s^2 + sigma^2) - eps, over B."""

    def expected_gradient(self, inputs: LossInputs) -> Tensor | None:
        guidance, prompt = inputs.guidance, inputs.prompt
        assert isinstance(guidance, GaussianScore)
        assert prompt is not None
        z = inputs.encoded.detach()
        eps = torch.randn(z.shape, generator=inputs.generator, dtype=z.dtype)
        alpha, sigma = (float(part[500]) for part in (guidance.schedule.alpha, guidance.schedule.sigma))
        mean = prompt.positive.embedding.to(z).view(-1, 3, 1, 1)
        predicted = sigma * (alpha * z + sigma * eps - alpha * mean) / (alpha**2 * guidance.std**2 + sigma**2)
        return (predicted - eps) / len(z)


def failed_checks(kit: type[ComponentTests[Any]], component: type[Any]) -> dict[str, str]:
    """The checks that a component does not pass, each with its sentence."""
    torch.manual_seed(0)  # some mutants draw from the global stream: what they fail must not depend on what ran before
    tests = type(f"Of{component.__name__}", (kit,), {"component": component})
    return {outcome.check: outcome.reason for outcome in run_checks(tests) if outcome.status == "failed"}


def kit_of(loss: type[Any]) -> type[ComponentTests[Any]]:
    return OfDistillation if issubclass(loss, loss_mutants.Twin) else LossTests


TWINS = [
    (GeometryTests, geometry_mutants.Twin),
    (RendererTests, renderer_mutants.Twin),
    (OfGuidance, guidance_mutants.Twin),
    (OfDistillation, loss_mutants.Twin),
    (LossTests, loss_mutants.Regulariser),
]
MUTANTS = [
    *((GeometryTests, mutant, checks) for mutant, checks in geometry_mutants.MUTANTS.items()),
    *((RendererTests, mutant, checks) for mutant, checks in renderer_mutants.MUTANTS.items()),
    *((OfGuidance, mutant, checks) for mutant, checks in guidance_mutants.MUTANTS.items()),
    *((kit_of(mutant), mutant, checks) for mutant, checks in loss_mutants.MUTANTS.items()),
]


@pytest.mark.parametrize(("kit", "twin"), TWINS)
def test_a_right_component_passes_every_check(kit: type[ComponentTests[Any]], twin: type[Any]) -> None:
    assert failed_checks(kit, twin) == {}


@pytest.mark.parametrize(
    ("kit", "mutant", "checks"), [pytest.param(*row, id=f"{row[1].__module__}-{row[1].__name__}") for row in MUTANTS]
)
def test_a_wrong_component_is_caught_by_name(kit: type[ComponentTests[Any]], mutant: type[Any], checks: set[str]) -> None:
    found = failed_checks(kit, mutant)
    assert set(found) == checks, found


KITS = (GeometryTests, RendererTests, GuidanceTests, LossTests)
NEEDS_A_GPU = {"test_cuda"}


def test_there_are_mutants_of_every_kind() -> None:
    counts = {kit: sum(issubclass(row[0], kit) for row in MUTANTS) for kit in KITS}
    assert all(count >= 3 for count in counts.values()), counts


def test_every_check_catches_a_wrong_component() -> None:
    """Those of one kind one of that kind, those of every kind one of some kind: no check is there that cannot fail."""
    caught = {kit: set().union(*(checks for tests, _, checks in MUTANTS if issubclass(tests, kit))) for kit in KITS}
    common = set(checks_of(ComponentTests))
    assert common - NEEDS_A_GPU <= set().union(*caught.values())
    assert {kit.__name__: set(checks_of(kit)) - common - caught[kit] for kit in KITS} == {kit.__name__: set() for kit in KITS}
