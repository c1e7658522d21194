"""The packages of examples/extensions, built as wheels and installed beside the framework's, as somebody else would have them."""

from __future__ import annotations

import json
import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from fresh import ROOT, Fresh, build_wheel

FOLDER = ROOT / "examples" / "extensions"

SHORT = (
    "trainer.steps=2", "trainer.preview_every=2", "trainer.preview_width=16", "cameras.width=16", "cameras.batch_size=2",
    "export.formats=[]", "export.turntable_frames=1", "export.turntable_width=16", "device=cpu",
)  # fmt: skip
MODULE = ("python", "-m")
NEEDS = {
    "dreamfw-views": (
        [(*MODULE, "dreamfw_views.render_targets", "a red ball", "--count", "2", "--rings", "10", "--side", "16")],
        ("guidance.folder=targets", "guidance.resolution=16", "renderer.samples=16"),
    ),
    "dreamfw-trackers": ([], ("guidance.resolution=16",)),
    "dreamfw-editing": ([("dfw", "run", "dreamfusion", *SHORT, "output=before")], ("start.run={before}",)),
}
"""Extension -> commands to run before its configurations, in the same folder, and overrides; `{before}`: the run they made."""
ALL = """
import json, sys
from dfw.cli.main import main

for words in json.loads(sys.argv[1]):
    code = main(words)
    assert code == 0, (words, code)
"""
"""A program that runs commands of `dfw` in one process, since each would import torch anew."""

TESTS = """
import json, os, sys
import pytest

for folder in json.loads(sys.argv[1]):
    os.chdir(folder)
    path = list(sys.path)
    code = pytest.main(["-q", "-p", "no:cacheprovider"])
    assert code == 0, (folder, code)
    sys.path[:] = path
    for name, module in list(sys.modules.items()):  # test files of two packages have the same names
        if (getattr(module, "__file__", None) or "").startswith(folder + os.sep):
            del sys.modules[name]
"""
"""A program that runs the tests of several folders."""

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Extension:
    """One package: what its pyproject.toml says of it."""

    folder: Path

    @property
    def project(self) -> dict:
        return tomllib.loads((self.folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    @property
    def name(self) -> str:
        return self.project["name"]

    @property
    def modules(self) -> set[str]:
        return {target.partition(":")[0] for group in self.project["entry-points"].values() for target in group.values()}

    @property
    def configs(self) -> list[Path]:
        return sorted([*self.folder.glob("*.yaml"), *self.folder.glob("configs/*.yaml")])

    def rows(self) -> list[list[str]]:
        """What `dfw plugins list` has to say: kind, qualified name, version, target."""
        return [
            [group.removeprefix("dfw.") if "." in group else "listener", f"{self.name}/{entry}", self.project["version"], target]
            for group, members in self.project["entry-points"].items()
            for entry, target in members.items()
        ]


EXTENSIONS = [Extension(path.parent) for path in sorted(FOLDER.glob("*/pyproject.toml"))]
each = pytest.mark.parametrize("extension", EXTENSIONS, ids=lambda extension: extension.name)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory, framework_wheel: Path) -> dict[str, Path]:
    """Distribution -> its wheel."""
    built = {one.name: build_wheel(one.folder, tmp_path_factory.mktemp("wheel")) for one in EXTENSIONS}
    return {"dreamfw": framework_wheel} | built


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory, wheels: dict[str, Path]) -> Fresh:
    """The framework and every extension, installed."""
    environment = Fresh(tmp_path_factory.mktemp("fresh") / "venv")
    environment.install(list(wheels.values()))
    return environment


def listed(fresh: Fresh, cwd: Path) -> list[list[str]]:
    """The rows of `dfw plugins list`."""
    return [line.split() for line in fresh.run("dfw", "plugins", "list", cwd=cwd).stdout.splitlines()]


def test_the_packages_are_the_installed_ones(fresh: Fresh, tmp_path: Path) -> None:
    """Nothing of the checkout is on the path: a test that passes there passes for a user."""
    names = ["dfw", "dfw_guidance", *sorted({module.partition(".")[0] for one in EXTENSIONS for module in one.modules})]
    code = f"import importlib; [print(importlib.import_module(name).__file__) for name in {names}]"
    places = fresh.run("python", "-c", code, cwd=tmp_path).stdout.splitlines()
    assert len(places) == len(names)
    assert all(Path(place).is_relative_to(fresh.place) for place in places)


def test_the_list_shows_each_with_version_and_provenance(fresh: Fresh, tmp_path: Path) -> None:
    rows = listed(fresh, tmp_path)
    assert EXTENSIONS
    for extension in EXTENSIONS:
        assert extension.rows()
        for row in extension.rows():
            assert row in rows
    assert not [row for row in rows if row[0] == "problem:"]


@each
def test_its_configurations_run_and_the_manifest_says_whose_it_is(fresh: Fresh, tmp_path: Path, extension: Extension) -> None:
    before, overrides = NEEDS.get(extension.name, ([], ()))
    for command in before:
        fresh.run(*command, cwd=tmp_path)
    made = next(tmp_path.glob("before/*/*"), None)
    overrides = [text.format(before=made) for text in overrides]
    assert extension.configs
    downloads = [one for one in extension.configs if one.stem.endswith("-sd")]  # a model that has to be downloaded
    calls = [["run", str(one), *overrides, "device=cpu", "--dry-run"] for one in downloads]
    runs = [["run", str(one), *SHORT, *overrides] for one in extension.configs if one not in downloads]
    kernels = {"WARP_CACHE_PATH": os.environ.get("WARP_CACHE_PATH", str(tmp_path / "kernels"))}  # a home may not be writable
    said = fresh.run("python", "-c", ALL, json.dumps(calls + runs), cwd=tmp_path, DFW_TRACKERS="tensorboard,wandb", **kernels)
    assert said.stdout.count("finished") >= len(runs) == len(list(tmp_path.glob("runs/*/*")))
    warned = [line for line in said.stderr.splitlines() if "WARNING" in line and "WARNING: waiting for" not in line]
    assert not warned  # that it waits for a part is a matter of the machine
    for path in tmp_path.glob("runs/*/*/manifest.json"):
        manifest = json.loads(path.read_text())
        origins = [*manifest["components"].values(), *manifest["listeners"].values()]
        ours = {one["module"] for one in origins if one["distribution"] == extension.name}
        assert ours
        assert ours <= extension.modules
        assert {one["version"] for one in origins if one["distribution"] == extension.name} == {extension.project["version"]}
        assert list((path.parent / "tensorboard").iterdir())
        assert list((path.parent / "wandb").glob("offline-run-*/*.wandb"))


def test_their_own_tests_pass_there(fresh: Fresh, tmp_path: Path) -> None:
    """One process runs them all, each in its own folder with its own settings, since each process would import torch anew."""
    folders = [str(one.folder) for one in EXTENSIONS]
    said = fresh.run("python", "-c", TESTS, json.dumps(folders), cwd=tmp_path)
    assert len(re.findall(r"^\d+ passed", said.stdout, re.MULTILINE)) == len(folders)


def test_removing_one_leaves_the_others_working(fresh: Fresh, wheels: dict[str, Path], tmp_path: Path) -> None:
    gone, kept = (next(one for one in EXTENSIONS if one.name == f"dreamfw-{name}") for name in ("views", "trackers"))
    fresh.pip("uninstall", "-y", gone.name)
    try:
        rows = listed(fresh, tmp_path)
        assert not [row for row in rows if gone.name in " ".join(row)]
        for other in EXTENSIONS:
            assert other is gone or all(row in rows for row in other.rows())
        refused = fresh.run("dfw", "run", gone.configs[0], cwd=tmp_path, code=3)
        assert 'run: pip install "dreamfw-views' in refused.stderr
        assert "Traceback" not in refused.stderr
        fresh.run("dfw", "run", kept.configs[0], *SHORT, cwd=tmp_path, DFW_TRACKERS="tensorboard")
        assert list(tmp_path.glob("runs/*/*/tensorboard/events*"))
    finally:
        fresh.install([wheels[gone.name]])
