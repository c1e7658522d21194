"""The wheel holds what a run needs, the licences included, and nothing with a name that is not ours."""

from __future__ import annotations

import re
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from fresh import ROOT
from packaging.specifiers import SpecifierSet

import dfw

PACKAGES = {"dfw", *(path.parent.name for path in (ROOT / "plugins").glob("*/*/__init__.py"))}


@pytest.fixture(scope="module")
def wheel(framework_wheel: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(framework_wheel)


def test_only_our_packages_are_installed(wheel: zipfile.ZipFile):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES


def test_every_tracked_file_of_the_packages_is_in_the_wheel(wheel: zipfile.ZipFile):
    held = set(wheel.namelist())
    for package in PACKAGES:
        (folder,) = [path for path in (ROOT / "framework" / package, *ROOT.glob(f"plugins/*/{package}")) if path.is_dir()]
        files = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        assert {f"{package}/{path.relative_to(folder).as_posix()}" for path in files if not path.name.endswith(".tmp")} <= held
        assert f"{package}/py.typed" in held


def test_the_shipped_configurations_are_in_the_wheel(wheel: zipfile.ZipFile):
    shipped = {f"dfw/configs/{path.name}" for path in (ROOT / "configs").glob("*.yaml")}
    assert shipped
    assert shipped <= set(wheel.namelist())


def test_the_embedded_model_is_in_the_wheel_and_small(wheel: zipfile.ZipFile):
    weights = [info for info in wheel.infolist() if info.filename.startswith("dfw_guidance/embedded/")]
    assert sum(info.filename.endswith(".safetensors") for info in weights) >= 3  # U-Net, VAE and text encoder
    assert sum(info.file_size for info in weights) <= 16 * 2**20


def test_the_metadata_names_version_licence_and_entry_points(wheel: zipfile.ZipFile):
    (info,) = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    metadata = wheel.read(f"{info}/METADATA").decode()
    assert f"\nVersion: {dfw.__version__}\n" in metadata
    assert "\nName: dreamfw\n" in metadata
    assert f"{info}/licenses/LICENSE" in wheel.namelist()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    entry_points = wheel.read(f"{info}/entry_points.txt").decode()
    for group, members in project["entry-points"].items():
        assert f"[{group}]" in entry_points
        for name, target in members.items():
            assert f"{name} = {target}" in entry_points
            assert target.split(":")[0].replace(".", "/") + ".py" in wheel.namelist()


def test_the_constraints_pin_every_requirement():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pinned = {re.split(r"==", line)[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    wanted = [*project["dependencies"], *(name for extra in project["optional-dependencies"].values() for name in extra)]
    names = {re.split(r"[<>=!~\[;@ ]", requirement)[0] for requirement in wanted}

    def plain(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    assert {plain(name) for name in names} - {plain(name) for name in pinned} == set()


def test_what_is_pinned_runs_on_the_least_python():
    """Debian 12 has Python 3.11.2: a pin that asks for 3.11.5 cannot be installed there."""
    pins = [line.split("==")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line]
    here = {found.name for found in metadata.distributions()}
    asked = {name: metadata.metadata(name).get("Requires-Python") or "" for name in pins if name in here}
    assert len(asked) > 40
    assert {name: wish for name, wish in asked.items() if not SpecifierSet(wish).contains("3.11.0")} == {}
