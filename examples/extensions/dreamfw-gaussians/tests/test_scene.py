"""What both geometries share: when their number of Gaussians changes."""

import pytest
from dreamfw_gaussians.adaptive import DensityControl
from dreamfw_gaussians.geometry import RelocationConfig


@pytest.mark.parametrize("schedule", [RelocationConfig, DensityControl])
def test_changes_happen_every_few_steps_between_start_and_end(schedule: type[RelocationConfig | DensityControl]) -> None:
    plan = schedule(every=5, start=0.2, end=0.6)
    assert [step for step in range(51) if plan.due(step, step / 50)] == [10, 15, 20, 25, 30]


def test_none_happens_before_the_first_step() -> None:
    assert not RelocationConfig(every=5, start=0.0).due(0, 0.0)
