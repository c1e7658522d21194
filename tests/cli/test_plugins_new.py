"""`dfw plugins new`: the package it writes is built, installed and tested as its author would, word for word."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from dfw import __version__
from dfw.cli.main import main
from dfw.config.kinds import KINDS
from dfw.config.load import load_config
from dfw.errors import ConfigError
from dfw.scaffold import names_for, write_package

RULES = ["--isolated", "--line-length", "130", "--select", "E,F,W,I,B,UP,RUF,SIM,C4,PT", "--ignore", "RUF002"]


def shell(*command: str, folder: Path, site: Path | None = None) -> str:
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"} | ({} if site is None else {"PYTHONPATH": str(site)})
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of every kind beside its wheel's contents, as if all of them were installed."""
    folder = tmp_path_factory.mktemp("site")
    for kind in KINDS:
        write_package(f"dfw-new-{kind}", kind, folder)
        made = folder / f"dfw-new-{kind}"
        shell(sys.executable, "-m", "hatchling", "build", "-t", "wheel", folder=made)
        (wheel,) = (made / "dist").glob("*.whl")
        zipfile.ZipFile(wheel).extractall(folder / "installed")
    return folder


@pytest.mark.slow
def test_new_packages_build_and_pass_their_own_tests(site: Path):
    """All in one process, which loads torch once; the packages know nothing of each other."""
    tests = [f"dfw-new-{kind}/tests" for kind in KINDS]
    command = [sys.executable, "-m", "pytest", "-v", "--color=no", "-p", "no:cacheprovider", "--rootdir", ".", *tests]
    told = shell(*command, folder=site, site=site / "installed")
    passed = Counter(re.findall(r"^dfw-new-(\w+)/tests/\S+ PASSED", told, re.MULTILINE))
    for kind in KINDS:
        assert f"test_dfw_new_{kind}.py::test_the_configuration_runs PASSED" in told
        assert passed[kind] >= 14, (kind, passed[kind])  # the kit's checks ran, not only the author's own


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_package_is_complete_tidy_and_says_the_same_names_everywhere(kind: str, tmp_path: Path):
    files = {path.relative_to(tmp_path / "dfw-soft-glow").as_posix() for path in write_package("DFW_Soft.Glow", kind, tmp_path)}
    module = f"src/dfw_soft_glow/{kind}.py"
    assert files == {
        *("pyproject.toml", "README.md", "config.yaml", ".gitignore", "src/dfw_soft_glow/__init__.py", module),
        *("src/dfw_soft_glow/py.typed", "tests/test_dfw_soft_glow.py"),
    }
    folder = tmp_path / "dfw-soft-glow"
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["entry-points"] == {f"dfw.{kind}": {"soft-glow": f"dfw_soft_glow.{kind}:SoftGlow"}}
    assert project["dependencies"] == [f"dreamfw>={__version__}"]
    text = (folder / module).read_text()
    assert "class SoftGlow(" in text
    assert "from dfw." not in text
    assert "dfw_" not in text.replace("dfw_soft_glow", "")
    config = load_config(folder / "config.yaml")
    outside = bool(KINDS[kind].option)  # no run's configuration names such a component
    assert ("dfw-soft-glow/soft-glow" in types_in(config.model_dump(mode="json"))) != outside
    readme = (folder / "README.md").read_text()
    assert all(word in readme for word in ([*KINDS[kind].option.split(), "dfw-soft-glow/soft-glow"] if outside else ["plugins:"]))
    assert config.plugins == ("dfw-soft-glow>=0.1",)
    leftovers = [path for path in folder.rglob("*") if path.is_file() and ("{{" in path.read_text() or "{%" in path.read_text())]
    assert leftovers == []
    shell(sys.executable, "-m", "ruff", "check", *RULES, ".", folder=folder)
    shell(sys.executable, "-m", "ruff", "format", "--isolated", "--line-length", "130", "--check", ".", folder=folder)


def types_in(tree: object) -> set[str]:
    """Every `type` that a configuration names, however deep."""
    if isinstance(tree, dict):
        return {str(tree.get("type"))}.union(*map(types_in, tree.values()))
    return set().union(*map(types_in, tree)) if isinstance(tree, list) else set()


def test_nothing_is_overwritten_and_nothing_is_left_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert main(["plugins", "new", "dfw-glow", "--kind", "loss"]) == 0
    told = capsys.readouterr().out
    assert "wrote dfw-glow/pyproject.toml" in told
    assert "cd dfw-glow && pip install -e '.[test]' && pytest && dfw run config.yaml" in told
    mine = Path("dfw-glow/README.md")
    mine.write_text("mine")
    assert main(["plugins", "new", "dfw_glow", "--kind", "geometry"]) == 2
    assert capsys.readouterr().err.startswith("error: dfw-glow exists already and is left as it is")
    assert mine.read_text() == "mine"
    Path("file").write_text("")
    assert main(["plugins", "new", "dfw-other", "--kind", "loss", "--out", "file/below"]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dfw-glow", "file"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "cannot name a package"),
        ("../up", "cannot name a package"),
        ("a b", "cannot name a package"),
        ("3d", "cannot name a package"),
        ("-x", "cannot name a package"),
        ("x-", "cannot name a package"),
        ("dreamfw", "is taken, by dfw or by Python"),
        ("local", "is taken"),
        ("json", "is taken"),
        ("import", "is taken"),
        ("torch", "a module 'torch' is installed already"),
        ("dfw-geometry", "a module 'dfw_geometry' is installed already"),
        ("dfw-3d", "cannot name a class"),
        ("dfw-glow\n", "cannot name a package"),
        ("dfw-test", "would name a class Test, which pytest takes for a test"),
        ("dfw-test-glow", "would name a class TestGlow"),
        ("Testimony", "would name a class Testimony"),
        ("a" * 300, "the name has 300 characters, and files are named after it: write at most 100"),
        ("dfw-" + "a" * 97, "the name has 101 characters"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused(name: str, reason: str):
    with pytest.raises(ConfigError, match=reason):
        names_for(name)


def test_names_follow_from_the_distributions():
    assert names_for("Acme_Glow") == {
        "distribution": "acme-glow",
        "package": "acme_glow",
        "component": "acme-glow",
        "cls": "AcmeGlow",
    }
    assert names_for("dreamfw-glow")["component"] == "glow"
    assert names_for("dfw-loss")["cls"] == "LossComponent"  # Loss is dfw's own


@pytest.mark.parametrize("kind", KINDS)
def test_no_class_is_called_as_what_its_package_uses(kind: str, tmp_path: Path):
    used: set[str] = set()
    for path in write_package("dfw-soft-glow", kind, tmp_path):
        for node in ast.parse(path.read_text()).body if path.suffix == ".py" else ():
            if isinstance(node, ast.ImportFrom):
                used |= {alias.asname or alias.name for alias in node.names}
            elif isinstance(node, ast.ClassDef):
                used.add(node.name)
            elif isinstance(node, ast.Assign):
                used |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    used -= {"SoftGlow", "annotations"}
    assert {f"{kind.capitalize()}Tests", "CONFIG", "Path"} <= used
    for name in used:
        words = re.findall("[A-Z][a-z0-9]*", name)
        if "".join(words) == name and not name.startswith("Test"):
            assert names_for("-".join(["dreamfw", *words]))["cls"] == f"{name}Component"


def test_the_longest_name_can_be_written(tmp_path: Path):
    (name,) = {path.relative_to(tmp_path).parts[0] for path in write_package("dfw-" + "a" * 96, "loss", tmp_path)}
    assert len(name) == 100


def test_a_folder_whose_name_is_too_long_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot be written: File name too long"):
        write_package("dfw-glow", "loss", tmp_path / ("a" * 300))
