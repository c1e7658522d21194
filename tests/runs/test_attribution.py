"""Who raised an exception."""

from __future__ import annotations

import pytest

from dfw import ConfigError, load_mesh
from dfw.runs.attribution import culprit
from dfw.testing.fields import Octahedron


def test_a_function_of_the_core_is_blamed_on_nobody() -> None:
    """Also where a component of the core itself takes part."""
    with pytest.raises(ConfigError) as caught:
        load_mesh("/nowhere.glb")
    assert culprit(caught.value, [Octahedron()]) is None


def test_the_innermost_component_is_blamed() -> None:
    inner, outer = Octahedron(), Octahedron()
    inner.surface = lambda: _raise(inner)  # type: ignore[method-assign]

    def ask(self: Octahedron) -> None:
        inner.surface()

    with pytest.raises(ZeroDivisionError) as caught:
        ask(outer)
    assert culprit(caught.value, [outer, inner]) is inner


def _raise(self: Octahedron) -> None:
    raise ZeroDivisionError(self)
