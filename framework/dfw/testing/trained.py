"""Checks of what the run's optimiser trains: parameters, their groups and their gradients."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from dfw.interfaces.loss import parameters_of
from dfw.testing.compare import projected, require_derivative
from dfw.testing.core import Core, Made
from dfw.testing.outcomes import Skip, require


class GroupChecks(Core[Made]):
    """For kinds that have `parameter_groups`."""

    def trained_elsewhere(self, made: Made) -> Iterable[nn.Parameter]:
        """Parameters that the component trains itself, and that are in no group."""
        return ()

    def test_parameter_groups_hold_each_parameter_once(self) -> None:
        """`parameter_groups` names every trainable parameter exactly once, and nothing else."""
        made: Any = self.fresh()
        groups: Any = made.parameter_groups()
        promise = "parameter_groups() is a mapping from names to lists of parameters"
        remedy = "Write e.g. return {'name': list(self.parameters())}"
        require(isinstance(groups, dict), promise, f"it returned {type(groups).__name__}", remedy)
        for name, group in groups.items():
            require(isinstance(group, list | tuple), promise, f"group {name!r} is a {type(group).__name__}", remedy)
        grouped = [id(p) for p in (*parameters_of(groups), *self.trained_elsewhere(made))]
        promise = "parameter_groups() holds every trainable parameter exactly once"
        require(len(grouped) == len(set(grouped)), promise, "one is in two groups", "Put each into one group")
        lost = [name for name, p in made.named_parameters() if p.requires_grad and id(p) not in set(grouped)]
        require(not lost, promise, f"{', '.join(lost)} is in none", "Add it to a group, or it is never optimised")
        own = {id(parameter) for parameter in made.parameters()}
        require(set(grouped) <= own, promise, "one is no parameter of the module", "Register it as an attribute of the module")


class GradientChecks(Core[Made]):
    """For kinds whose outputs carry gradients to their own parameters."""

    def test_gradients_match_differences(self) -> None:
        """Along random directions of the parameters, gradients in float64 equal central finite differences."""
        if torch.float64 not in self.dtypes:
            raise Skip("the component does not work in float64 (dtypes)")
        made = self.fresh()
        assert isinstance(made, nn.Module)
        made.double()
        parameters = [p for p in made.parameters() if p.requires_grad]
        if not parameters:
            raise Skip("the component has no parameters to train")

        def scalar() -> Tensor:
            return projected(self.observe(made, torch.float64), self.generator(3))

        shown = scalar()
        if not shown.requires_grad:
            raise Skip("what it shows carries no gradient")
        gradients = torch.autograd.grad(shown, parameters, allow_unused=True)
        for seed in (4, 5):
            require_derivative(scalar, parameters, gradients, self.generator(seed), "Look for a detach() or a wrong backward()")
