"""Distributions that hide others, and very many entry points."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_packages import on_path, write_package
from hostile_site import dfw, one_error

from dfw.plugins.discovery import Entry, scan


@pytest.mark.parametrize("name", ["dreamfw", "DreamFW", "Dream_FW"])
def test_another_distribution_of_the_frameworks_name_is_named_with_its_place(
    site: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hides = name.lower() == "dreamfw"  # Dream_FW is another name: dream-fw
    write_package(site, name, "9.9", "", {})
    code, _, err = dfw("run", "tiny.yaml", capsys=capsys)
    if not hides:
        assert (code, err) == (0, "")
        return
    assert code == 3
    assert err.splitlines()[0].startswith("error: ")
    place = site / f"{name}-9.9.dist-info"
    assert f"dreamfw 9.9: the one in {place}: comes first on the import path and hides the other one, in /" in err
    assert err.count("uninstall one of the two") == 1


def test_a_copy_that_hides_the_plugins_of_another_is_a_problem(site: Path, tmp_path: Path) -> None:
    write_package(site, "acme", "0.1", "[console_scripts]\nacme = acme:main\n")
    write_package(tmp_path / "later", "acme", "0.2", "[dfw.loss]\nnew = acme:New\n")
    with on_path(site, tmp_path / "later"):
        found = scan()
    (problem,) = [one for one in found.problems if one.provider.distribution == "acme"]
    assert str(problem) == (
        f"acme 0.1: the one in {site / 'acme-0.1.dist-info'}: comes first on the import path and hides the other one, in "
        f"{tmp_path / 'later' / 'acme-0.2.dist-info'}; uninstall one of the two"
    )
    assert not [one for one in found.found if one.distribution == "acme"]


class Counted(Entry):
    """Entries that count how often two are compared."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return super().__eq__(other)

    __hash__ = Entry.__hash__

    @property
    def provider(self):
        Counted.compared += 1
        return super().provider


def test_entry_points_are_looked_at_once_each(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    count = 2000
    lines = [f"glow-{number} = acme_many:Glow\n" for number in range(count)]
    write_package(site, "acme-many", "1.0", f"[dfw.loss]\n{''.join(lines)}glow-7 = acme_many:Again\n")
    Counted.compared = 0
    with monkeypatch.context() as patched:
        patched.setattr("dfw.plugins.discovery.Entry", Counted)
        found = scan()
    assert len([one for one in found.found if one.distribution == "acme-many"]) == count
    assert Counted.compared <= 10 * count
    assert [one.reason for one in found.problems if one.provider.distribution == "acme-many"] == [
        "named twice; the first one counts"
    ]
    code, _, err = dfw("run", "tiny.yaml", "losses.other.type=glo", capsys=capsys)
    assert code == 3
    assert len(one_error(err)) < 4000  # not a list of 2,000 names
    assert " more" in one_error(err)
