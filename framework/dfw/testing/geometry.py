"""The kit for geometries. Checks of density fields and of surfaces apply to those; the others to whatever `observe` shows."""

from __future__ import annotations

from dfw.testing.geometry_field import FieldChecks
from dfw.testing.geometry_surface import SurfaceChecks


class GeometryTests(FieldChecks, SurfaceChecks):
    """Checks of a `Geometry`. Write `make`; for one that is no DensityField, no Surface and has no `image`, `observe` too."""
