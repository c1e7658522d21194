"""Components that are wrong on purpose: each is caught by the checks named for it, and by no other; their right twins pass."""

from __future__ import annotations

from typing import Any

import background_mutants
import cameras_mutants
import common_mutants
import exporter_mutants
import geometry_mutants
import guidance_mutants
import guidance_prediction_mutants
import launcher_mutants
import loss_more_mutants
import loss_mutants
import loss_scene_mutants
import noise_mutants
import prompter_mutants
import pytest
import renderer_mutants
import renderer_output_mutants
import renderer_surface_mutants
import scene_mutants
import scorer_mutants
import tiny_views
import torch
import views_mutants
from torch import Tensor

from dfw import LossInputs
from dfw.config.kinds import KINDS
from dfw.testing import ComponentTests, GaussianScore, GeometryTests, GuidanceTests, LossTests, checks_of, run_checks
from dfw.testing.check import KITS


class OfGuidance(GuidanceTests):
    prompts = guidance_mutants.TEXTS


class OfViews(GuidanceTests):
    trained = False


class OfNormals(LossTests):
    of = "normal"


class OfRoughness(LossTests):
    of = "roughness"


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
    """The checks that a component does not pass, each with its sentence; where there is a GPU, it is the other device."""
    torch.manual_seed(0)  # some mutants draw from the global stream: what they fail must not depend on what ran before
    tests = type(f"Of{component.__name__}", (kit,), {"component": component})
    failed = {outcome.check: outcome.reason for outcome in run_checks(tests) if outcome.status == "failed"}
    return {"test_other_device" if check == "test_cuda" else check: reason for check, reason in failed.items()}


def kit_of(component: type[Any]) -> type[ComponentTests[Any]]:
    if issubclass(component, loss_mutants.Twin) and not issubclass(component, loss_scene_mutants.Edits):
        return OfDistillation
    if component.kind == "guidance":
        return OfViews if issubclass(component, tiny_views._Tiny) else OfGuidance
    return KITS[component.kind]


TWINS = [
    geometry_mutants.Twin,
    geometry_mutants.Signed,
    geometry_mutants.OfLatents,
    renderer_mutants.Twin,
    renderer_output_mutants.Shown,
    renderer_output_mutants.Tinted,
    renderer_surface_mutants.Twin,
    guidance_mutants.Twin,
    guidance_prediction_mutants.Flow,
    guidance_prediction_mutants.Velocity,
    guidance_prediction_mutants.Sample,
    loss_mutants.Twin,
    loss_mutants.Regulariser,
    loss_more_mutants.Learned,
    loss_more_mutants.Critic,
    loss_more_mutants.Reads,
    *loss_scene_mutants.RIGHT,
    scene_mutants.Grows,
    scene_mutants.Shell,
    cameras_mutants.Twin,
    prompter_mutants.Twin,
    noise_mutants.Twin,
    background_mutants.Twin,
    exporter_mutants.Twin,
    launcher_mutants.Twin,
    scorer_mutants.Twin,
    scorer_mutants.Together,
    scorer_mutants.Ranks,
]
MODULES = (
    geometry_mutants,
    renderer_mutants,
    renderer_output_mutants,
    renderer_surface_mutants,
    guidance_mutants,
    guidance_prediction_mutants,
    loss_mutants,
    loss_more_mutants,
    loss_scene_mutants,
    scene_mutants,
    views_mutants,
    cameras_mutants,
    prompter_mutants,
    noise_mutants,
    background_mutants,
    exporter_mutants,
    launcher_mutants,
    scorer_mutants,
    common_mutants,
)
MUTANTS = [(kit_of(mutant), mutant, checks) for module in MODULES for mutant, checks in module.MUTANTS.items()]


@pytest.mark.parametrize("twin", TWINS)
def test_a_right_component_passes_every_check(twin: type[Any]) -> None:
    assert failed_checks(kit_of(twin), twin) == {}


@pytest.mark.parametrize("kit", [OfNormals, OfRoughness])
def test_a_loss_may_look_at_another_picture(kit: type[LossTests]) -> None:
    """Normals, and a picture that only the renderer knows: the gradient goes there."""
    assert failed_checks(kit, loss_scene_mutants.Agrees) == {}
    leaf = {"normal": "normal", "roughness": "roughness"}[kit.of]
    tests = type("Of", (kit,), {"component": loss_scene_mutants.Agrees})()
    inputs = tests.inputs()
    gradients = tests._gradients(tests.fresh()(inputs), inputs)
    assert [name for name, gradient in gradients.items() if gradient is not None] == [leaf]


@pytest.mark.parametrize("twin", common_mutants.TWINS)
def test_a_constructor_may_draw_what_is_drawn_again(twin: type[Any]) -> None:
    """As torch's layers do: no kit takes its own constructing for a call's drawing."""

    def draw(self: Any, config: Any) -> None:
        torch.rand(())
        twin.__init__(self, config)

    assert failed_checks(kit_of(twin), type(f"Draws{twin.kind}", (twin,), {"__init__": draw})) == {}


@pytest.mark.parametrize(
    ("kit", "mutant", "checks"), [pytest.param(*row, id=f"{row[1].__module__}-{row[1].__name__}") for row in MUTANTS]
)
def test_a_wrong_component_is_caught_by_name(kit: type[ComponentTests[Any]], mutant: type[Any], checks: set[str]) -> None:
    found = failed_checks(kit, mutant)
    assert set(found) == checks, found


class Recurrent(geometry_mutants.Twin):
    """A right field; torch gives recurrent cells on any device but the CPU to a kernel that the CPU has none of."""

    def albedo(self, points: Tensor) -> Tensor:
        cell = torch.nn.GRUCell(3, 3, device=points.device, dtype=points.dtype)
        for parameter in cell.parameters():
            parameter.data.fill_(0.1)
        state: Tensor = cell(points.reshape(-1, 3))
        return super().albedo(points) * torch.sigmoid(state).view_as(points)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a real second device")
def test_what_the_stand_in_cannot_compute_is_a_skip_and_no_failure() -> None:
    tests = type("OfRecurrent", (GeometryTests,), {"component": Recurrent})
    (found,) = [outcome for outcome in run_checks(tests) if outcome.check == "test_other_device"]
    assert found.status == "skipped"
    assert found.reason.startswith("the stand-in lacks an operator: Could not run 'aten::_thnn_fused_gru_cell'")


NEEDS_A_GPU = {"test_cuda"}


def test_there_are_mutants_of_every_kind() -> None:
    assert KITS.keys() == KINDS.keys()
    counts = {kit: sum(issubclass(row[0], kit) for row in MUTANTS) for kit in KITS.values()}
    assert all(count >= 3 for count in counts.values()), counts


def test_every_check_catches_a_wrong_component() -> None:
    """Of each kind one, those for every kind too: no check is there that cannot fail."""
    for kit in KITS.values():
        caught = set().union(*(checks for tests, _, checks in MUTANTS if issubclass(tests, kit)))
        assert set(checks_of(kit)) - NEEDS_A_GPU - caught == set(), kit.__name__
