"""Which kind of component stands where."""

from __future__ import annotations

import pytest

from dfw.config.kinds import default_type, kind_at


@pytest.mark.parametrize("before", [(), ("stages", "fine")])
@pytest.mark.parametrize(
    ("path", "name"),
    [
        (("geometry",), "geometry"),
        (("losses", "shape"), "loss"),
        (("guidances", "second"), "guidance"),
        (("view_sets", "photo"), "cameras"),
        (("export", "formats", "0"), "exporter"),
        (("geometry", "radius"), None),
        (("losses",), None),
    ],
)
def test_a_place_in_a_run_or_in_a_stage_has_a_kind(before: tuple[str, ...], path: tuple[str, ...], name: str | None) -> None:
    found = kind_at(before + path)
    assert (found.name if found else None) == name


def test_a_loss_is_of_the_type_that_its_name_says_and_a_geometry_must_say() -> None:
    assert default_type(("losses", "opacity")) == "opacity"
    assert default_type(("stages", "fine", "losses", "sds")) == "sds"
    assert default_type(("geometry", "radius")) is None
