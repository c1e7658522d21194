"""The checks of a run's settings."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from dfw.config import settings
from dfw.config.base import Checked
from dfw.config.schedules import Ramp
from dfw.config.settings import RunConfig

MINIMAL: dict[str, Any] = {"prompt": "a cup", "geometry": {"type": "g"}, "renderer": {"type": "r"}, "losses": {"sds": None}}


def config(**changes: Any) -> RunConfig:
    return RunConfig.model_validate(MINIMAL | changes)


def test_the_least_a_run_needs():
    run = config()
    assert run.losses["sds"].type == "sds"
    assert run.losses["sds"].weight == 1
    assert run.guidance is None


def test_a_loss_key_is_its_type_unless_it_says_otherwise():
    run = config(losses={"near": {"type": "sds", "scale": 3}, "opacity": {"weight": {"from": 0, "to": 1}}})
    assert (run.losses["near"].type, run.losses["near"].options) == ("sds", {"scale": 3})
    assert run.losses["opacity"].type == "opacity"
    assert isinstance(run.losses["opacity"].weight, Ramp)
    assert run.losses["opacity"].options == {}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"losses": {}}, "no loss given"),
        ({"seed": -1}, "greater than or equal to 0"),
        ({"seed": 2**63}, "less than"),
        ({"device": "gpu"}, "no device is called"),
        ({"name": "../up"}, "match pattern"),
        ({"precision": "fp8"}, "'fp32', 'fp16' or 'bf16'"),
        (
            {"optimizer": {"lr": {"from": 1, "to": 2, "end": 601, "unit": "step"}}},
            "optimizer.lr: ends at step 601, after the run's 600",
        ),
        ({"optimizer": {"lr": -1}}, "0 or more"),
        ({"optimizer": {"groups": {"g": {"lr": {"from": 1, "to": -1}}}}}, "0 or more"),
        ({"optimizer": {"betas": [0.9, 1.0]}}, r"inside \[0, 1\)"),
        (
            {"losses": {"sds": {"weight": {"from": 1, "to": 2, "end": 900, "unit": "step"}}}},
            "losses.sds.weight: ends at step 900",
        ),
        (
            {"optimizer": {"groups": {"g": {"lr": {"from": 1, "to": 2, "end": 900, "unit": "step"}}}}},
            "optimizer.groups.g.lr: ends",
        ),
        ({"trainer": {"steps": 0}}, "greater than 0"),
        ({"export": {"resolution": 8}}, "greater than or equal to 16"),
        ({"export": {"level": "thin"}}, "'auto'"),
    ],
)
def test_settings_that_make_no_sense(changes: dict[str, Any], reason: str):
    with pytest.raises(ValidationError, match=reason):
        config(**changes)


def models() -> list[type[BaseModel]]:
    found = [value for value in vars(settings).values() if isinstance(value, type) and issubclass(value, BaseModel)]
    return [model for model in found if model not in (BaseModel, Checked, Ramp)]


@pytest.mark.parametrize("model", models())
def test_every_field_says_what_it_is(model: type[BaseModel]):
    assert [name for name, field in model.model_fields.items() if not field.description] == []


def test_settings_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        config().seed = 3  # type: ignore[misc]
