"""What can be wrong with a component of any kind: each right twin, spoiled in one thing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import background_mutants
import cameras_mutants
import exporter_mutants
import geometry_mutants
import guidance_mutants
import launcher_mutants
import loss_mutants
import noise_mutants
import prompter_mutants
import renderer_mutants
import scorer_mutants
import torch
from pydantic import field_validator
from torch import Tensor, nn

import dfw
import dfw_losses.noise
from dfw import ComponentConfig, Noise, Part
from dfw.testing import checks_of
from dfw.testing.check import KITS

TWINS: dict[type[Any], str] = {
    geometry_mutants.Twin: "albedo",
    renderer_mutants.Twin: "composite",
    guidance_mutants.Twin: "predict",
    loss_mutants.Twin: "surrogate",
    cameras_mutants.Twin: "distances",
    prompter_mutants.Twin: "closeness",
    noise_mutants.Twin: "mixed",
    background_mutants.Twin: "colour",
    exporter_mutants.Twin: "corners",
    launcher_mutants.Twin: "clock",
    scorer_mutants.Twin: "brightness",
}
"""Right component -> the method whose result is spoiled."""


def bare_config(twin: type[Any]) -> type[Any]:
    """A field without a docstring."""

    class Config(twin.Config):  # type: ignore[misc]
        more: float = 0.4

    return _named("BareConfig", twin, Config=Config)


def converts_twice(twin: type[Any]) -> type[Any]:
    """Reads degrees and keeps radians."""

    class Config(twin.Config):  # type: ignore[misc]
        angle: float = 20.0
        """An angle, degrees."""

        @field_validator("angle")
        @classmethod
        def _radians(cls, value: float) -> float:
            return math.radians(value)

    return _named("ConvertsTwice", twin, Config=Config)


class Absentminded(dfw_losses.noise.Gaussian):
    """A noise whose options do not survive YAML."""

    class Config(ComponentConfig):
        """An angle that is read in degrees and kept in radians."""

        angle: float = 20.0
        """Degrees."""

        @field_validator("angle")
        @classmethod
        def _radians(cls, value: float) -> float:
            return math.radians(value)


def holds_a_part_that_converts_twice(twin: type[Any]) -> type[Any]:
    """A component inside it reads degrees and keeps radians: the run's resolved.yaml would describe another run."""
    dfw.register("noise", "absentminded", Absentminded)

    class Config(twin.Config):  # type: ignore[misc]
        inside: Part[Noise] = Part[Noise](type="local/absentminded")
        """A component inside this one."""

    return _named("HoldsAPart", twin, Config=Config)


def says_a_list(twin: type[Any]) -> type[Any]:
    """`provides` returns a list."""
    return _named("SaysAList", twin, provides=classmethod(lambda cls, config: list(twin.provides(config))))


def one_for_all(twin: type[Any]) -> type[Any]:
    """Each call of the class gives the same object."""
    made: list[Any] = []

    def new(cls: type[Any], config: ComponentConfig) -> Any:
        made.extend([] if made else [object.__new__(cls)])
        return made[0]

    def init(self: Any, config: ComponentConfig) -> None:
        if "config" not in vars(self):
            twin.__init__(self, config)

    return _named("OneForAll", twin, __new__=new, __init__=init)


def flickers(twin: type[Any]) -> type[Any]:
    """Another answer at every second question."""

    def spoil(self: Any, value: Tensor) -> Tensor:
        self.asked = vars(self).get("asked", 0) + 1
        return value * (1 - 0.1 * (self.asked % 3))

    return _spoiled("Flickers", twin, spoil)


def not_a_number(twin: type[Any]) -> type[Any]:
    """0 / 0 in one number of the answer."""

    def spoil(self: Any, value: Tensor) -> Tensor:
        hole = torch.zeros_like(value).flatten()
        hole[:1] = math.nan
        return value + hole.view_as(value)

    return _spoiled("NotANumber", twin, spoil)


def single_precision(twin: type[Any]) -> type[Any]:
    """Answers in float32, whatever it is asked in."""
    return _spoiled("SinglePrecision", twin, lambda self, value: value.float())


def draws_in_its_constructor(twin: type[Any]) -> type[Any]:
    """A tint of its own, from the global stream."""

    def init(self: Any, config: ComponentConfig) -> None:
        twin.__init__(self, config)
        tint = 0.5 + 0.4 * torch.rand(())
        if isinstance(self, nn.Module):
            self.register_buffer("tint", tint)
        else:
            self.tint = tint

    return _spoiled("DrawsInItsConstructor", twin, lambda self, value: value * self.tint.to(value), __init__=init)


def draws_globally(twin: type[Any]) -> type[Any]:
    """Moves the global random state on, though its result does not depend on it."""
    return _spoiled("MovesTheGlobalState", twin, lambda self, value: value + 0 * torch.rand((), device=value.device))


def forgets_its_age(twin: type[Any]) -> type[Any]:
    """Changes with training and does not keep it in the state dict."""

    def spoil(self: Any, value: Tensor) -> Tensor:
        self.age = vars(self).get("age", 0) + int(self.training)
        return value * 0.9**self.age

    return _spoiled("ForgetsItsAge", twin, spoil)


def leaves_its_table_behind(twin: type[Any]) -> type[Any]:
    """A table that is an attribute, no buffer: it stays on the CPU when the component moves."""
    table = torch.ones(1)
    return _spoiled("LeavesItsTableBehind", twin, lambda self, value: (value * table.to(value.dtype)).view_as(value))


def _spoiled(name: str, twin: type[Any], change: Callable[[Any, Tensor], Tensor], **body: Any) -> type[Any]:
    method = TWINS[twin]
    right = getattr(twin, method)

    def spoiled(self: Any, *given: Any) -> Tensor:
        return change(self, right(self, *given))

    return _named(name, twin, **{method: spoiled}, **body)


def _named(name: str, twin: type[Any], **body: Any) -> type[Any]:
    return type(f"{name}Of{twin.kind.title()}", (twin,), {"__module__": __name__, **body})


CHECKS = {kind: set(checks_of(kit)) for kind, kit in KITS.items()}
CAUGHT: dict[Callable[[type[Any]], type[Any]], set[str]] = {
    bare_config: {"test_config_is_documented"},
    converts_twice: {"test_config_survives_yaml"},
    holds_a_part_that_converts_twice: {"test_config_survives_yaml"},
    says_a_list: {"test_features_are_words"},
    one_for_all: {"test_make_builds_anew"},
    flickers: {"test_deterministic"},
    not_a_number: {
        "test_outputs_are_finite",
        "test_same_seed_same_result",
        "test_deterministic",
        "test_state_dict_restores_behaviour",
        "test_other_device",
    },  # no number is equal to itself
    single_precision: {"test_float64"},
    draws_in_its_constructor: {"test_same_seed_same_result", "test_other_device"},
    draws_globally: {"test_no_global_rng"},
    forgets_its_age: {"test_state_dict_restores_behaviour"},
    leaves_its_table_behind: {"test_other_device"},
}
"""How to spoil a twin -> the checks that catch it in every kind."""

_PICTURES = {
    "test_batch_invariance",
    "test_camera_convention",
    "test_empty_scene_is_the_background",
    "test_evaluation_is_repeatable",
    "test_gradcheck",
    "test_half_transparent_thing_is_composited",
    "test_training_draws_from_its_generator",
}
_FIELDS = {"test_chunking_changes_nothing", "test_gradients_match_differences", "test_sample_agrees_with_density"}
_PREDICTIONS = {
    "test_batch_invariance",
    "test_guidance_scale_follows_diffusers",
    "test_predict_noise_follows_the_prediction_type",
}
_CHANGES = {f"test_{what}_changes_the_prediction" for what in ("prompt", "timestep", "noisy_image")}
_BACKGROUNDS = {
    "test_batch_invariance",
    "test_draws_only_while_training",
    "test_gradients_match_differences",
    "test_training_draws_from_its_generator",
}
_WORDINGS = {"test_any_turn_of_the_azimuth", "test_batch_invariance"}
_ENDS = {"test_says_how_each_run_ended"}
_STATE = {"test_state_dict_restores_behaviour"}
_RENEWED = {"test_renewed_it_is_as_new"}
ALSO: dict[Callable[[type[Any]], type[Any]], dict[str, set[str]]] = {
    one_for_all: {"geometry": {"test_starts_from_its_own_class"}},
    flickers: {
        "geometry": _FIELDS | {"test_rays_meet_what_is_there"},
        "renderer": _PICTURES | _STATE | {"test_opaque_thing_has_its_colour"},
        "guidance": _PREDICTIONS | _STATE | _RENEWED | {"test_frozen"},
        "loss": _STATE | {"test_draws_from_its_generator", "test_gradient_is_the_stated_formula", "test_linear_in_its_weight"},
        "cameras": _STATE,
        "prompter": _WORDINGS,
        "noise": _STATE,
        "background": _BACKGROUNDS | _STATE,
        "exporter": exporter_mutants.READ_BACK | {"test_same_bytes_tomorrow"},
        "launcher": _ENDS,
        "scorer": {"test_other_prompts", "test_runs_are_judged_alone"},
    },
    not_a_number: {
        "geometry": _FIELDS
        | {"test_albedo_is_a_colour", "test_finite", "test_float64", "test_starts_from_its_own_class"}
        | {"test_rays_meet_what_is_there"},
        "renderer": _PICTURES | {"test_ranges", "test_float64"},
        "guidance": _PREDICTIONS | _CHANGES | _RENEWED | {"test_predicts_the_noise", "test_frozen", "test_float64"},
        "loss": {"test_draws_from_its_generator", "test_first_and_last_step", "test_scalar"},
        "cameras": {
            "test_angles_are_those_of_the_pose",
            "test_poses_are_rigid",
            "test_ranges",
            "test_views_stay_as_they_were",
        },
        "prompter": _WORDINGS | {"test_choose", "test_float64"},
        "noise": {"test_mean_and_variance"},
        "background": _BACKGROUNDS | {"test_float64", "test_is_a_colour"},
        "launcher": _ENDS,
        "scorer": {"test_other_prompts", "test_runs_are_judged_alone", "test_scores"},
    },
    single_precision: {
        "geometry": {"test_gradients_match_differences"},
        "renderer": {"test_gradcheck"},
        "background": {"test_gradients_match_differences"},
    },
    draws_in_its_constructor: {
        "geometry": {"test_float64"},
        "renderer": {"test_float64", "test_half_transparent_thing_is_composited", "test_opaque_thing_has_its_colour"},
        "guidance": {"test_float64"} | _RENEWED,
        "loss": {"test_gradient_is_the_stated_formula"},
        "prompter": {"test_choose_does_not_wait", "test_float64"},
        "noise": {"test_mean_and_variance"},
        "background": {"test_float64"},
        "exporter": exporter_mutants.READ_BACK,
        "launcher": _ENDS,
        "scorer": {"test_runs_are_judged_alone"},
    },
    draws_globally: {"loss": {"test_draws_from_its_generator"}},
    forgets_its_age: {
        "geometry": {"test_starts_from_its_own_class"},
        "renderer": {"test_evaluation_is_repeatable", "test_training_draws_from_its_generator"},
        "guidance": {"test_frozen"} | _RENEWED,
        "cameras": {"test_deterministic"},
        "noise": {"test_deterministic"},
        "background": {"test_draws_only_while_training", "test_training_draws_from_its_generator"},
    },
    leaves_its_table_behind: {"prompter": {"test_choose_does_not_wait"}},
}
"""How to spoil a twin -> the checks of one kind that catch it too."""

NOT_OF = {
    "cameras": {single_precision},
    "prompter": {forgets_its_age},
    "exporter": {not_a_number, single_precision, forgets_its_age, leaves_its_table_behind},
    "launcher": {single_precision, forgets_its_age, leaves_its_table_behind},
    "scorer": {single_precision, forgets_its_age, leaves_its_table_behind},
}
"""Kind -> what cannot be wrong with it: cameras get no numbers, prompters, exporters and launchers have no state, files and runs
no device. Scorers are given bytes on the CPU, and do not train."""

MUTANTS = {
    spoil(twin): (checks & CHECKS[twin.kind]) | ALSO.get(spoil, {}).get(twin.kind, set())
    for twin in TWINS
    for spoil, checks in CAUGHT.items()
    if spoil not in NOT_OF.get(twin.kind, set())
}
"""Wrong component of any kind -> the checks that catch it, and no other."""
