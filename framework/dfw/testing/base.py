"""What the kits of all kinds have in common: the checks that hold for every component."""

from __future__ import annotations

from dfw.runs.global_random import changed, global_states, kept_states, seed_globally
from dfw.testing.compare import require_same
from dfw.testing.configs import ConfigChecks
from dfw.testing.core import Made, checks_of
from dfw.testing.outcomes import require

__all__ = ["ComponentTests", "checks_of"]


class ComponentTests(ConfigChecks[Made]):
    """Base of the kits: subclass one of them and write `make`, or set `component` and `options`.

    Every method `test_*` is a check: it passes, raises AssertionError, or raises Skip. `expected_failures` names checks that
    this component is known not to pass, each with its reason; one of them that passes is a failure.
    """

    def test_same_seed_same_result(self) -> None:
        """Two components made alike are alike, whatever the global random state was."""
        with kept_states():
            seed_globally(1)
            first = self.observe(self.fresh(7))
            seed_globally(2)
            second = self.observe(self.fresh(7))
        require_same(
            first,
            second,
            0 if self.device == "cpu" else self.tolerance,
            "the same seed gives the same component, bit for bit",
            "Draw initial values in initialise(generator), not in __init__ (nn.Linear draws from the global state when built)",
        )

    def test_no_global_rng(self) -> None:
        """Nothing that happens after construction touches the global random states: all randomness comes from generators."""
        made = self.fresh()
        with kept_states():
            before = global_states()
            self.observe(made)
            self.exercise(made)
            touched = changed(before, global_states())
        promise = "no call draws from a global random state"
        remedy = "Pass the generator to torch.rand, randn and randint, and use no dropout"
        require(not touched, promise, f"the state of {' and '.join(touched)} changed", remedy)

    def test_deterministic(self) -> None:
        """The same question gets the same answer twice."""
        made = self.fresh()
        tolerance = 0 if self.device == "cpu" else self.tolerance
        promise = "in evaluation mode the same input gives the same output"
        require_same(self.observe(made), self.observe(made), tolerance, promise, "Keep no state between calls")

    def test_make_builds_anew(self) -> None:
        """Two calls of `make` give two objects: with one, no check could tell a component's first use from its second."""
        first, second = self.make(), self.make()
        promise, remedy = "make() builds a new component each time", "Construct it in make(), and keep none"
        require(first is not second, promise, "two calls gave the same object", remedy)
