"""What imports what, and what the public surface is: seen in fresh interpreters."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dfw

HEAVY = ("torch", "torch._dynamo", "diffusers", "transformers", "accelerate", "peft", "nerfacc", "warp", "scipy", "trimesh")
PACKAGES = sorted(path.parent.name for path in (Path(__file__).parents[2] / "plugins").glob("*/*/__init__.py"))
"""The packages of built-in components."""
REPORT = (
    "\nimport sys\nprint('LOADED', sorted({name.partition('.')[0] for name in sys.modules} | {'torch._dynamo'} & {*sys.modules}))"
)


def loaded_by(code: str) -> set[str]:
    """Top-level modules, and torch._dynamo, that a fresh interpreter has after running `code`."""
    result = subprocess.run([sys.executable, "-c", code + REPORT], capture_output=True, text=True, check=True, timeout=60)
    line = next(line for line in result.stdout.splitlines() if line.startswith("LOADED "))
    return set(eval(line.removeprefix("LOADED ")))


def command(*arguments: str, code: int = 0) -> str:
    return f"from dfw.cli.main import main\nassert main({list(arguments)!r}) == {code}"


@pytest.mark.parametrize(
    "code",
    [
        "import dfw",
        "import dfw.plugins.registry, dfw.plugins.listeners, dfw.interfaces.hooks, dfw.interfaces.events",
        "import dfw.interfaces.component, dfw.config.settings, dfw.config.load",
        "import dfw.runs.directory, dfw.runs.console, dfw.errors, dfw.config.schedules, dfw.config.kinds, dfw.config.origins",
        "import dfw; dfw.register, dfw.hookimpl, dfw.ComponentConfig, dfw.DfwError, dfw.Progress, dfw.value_at",
        f"import {', '.join(PACKAGES)}",
        "from dfw.config.load import load_config\nload_config('dreamfusion')",
        "from dfw.plugins.listeners import load_listeners\nload_listeners()",
        "import dfw.comparison.page, dfw.comparison.sheet, dfw.comparison.figures",
        command("--help"),
        command("--version"),
        command("plugins", "list"),
        "from pathlib import Path; from tempfile import mkdtemp\n"
        "from dfw.cli.main import main; assert main(['plugins', 'new', 'dfw-x', '--kind', 'loss', '--out', mkdtemp()]) == 0",
        command("plugins", "check", "--help"),
        *(command(verb, "--help") for verb in ("run", "compare", "render", "export", "sample", "config", "plugins", "doctor")),
    ],
)
def test_no_torch_before_it_is_needed(code: str):
    assert not loaded_by(code) & set(HEAVY)


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "dreamfuson"),
        ("run", "dreamfusion", "trainer.stps=3"),
        ("run", "dreamfusion", "trainer.steps=many"),
        ("run", "dreamfusion", "--dry-run", "optimizer.lr=-1"),
        ("config", "show", "dreamfusion", "trainer.stps=3"),
    ],
)
def test_a_mistake_in_a_configuration_needs_no_torch(arguments: tuple[str, ...]):
    assert not loaded_by(command(*arguments, code=2)) & set(HEAVY)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("run", "dreamfusion", "--dry-run"), 0),
        (("run", "vsd", "--dry-run"), 0),
        (("run", "dreamfusion-sd3", "--dry-run", "device=cpu"), 0),
        (("config", "show", "dreamfusion-controlnet"), 0),
        (("run", "dreamfusion", "losses.sds.t_min=x"), 2),
        (("run", "dreamfusion", "guidance.type=sabel-diffusion"), 3),
        (("plugins", "info", "deep-floyd"), 0),
        (("plugins", "info", "zero123"), 0),
        (("plugins", "info", "ip-adapter"), 0),
    ],
)
def test_what_loads_no_model_imports_no_library_of_models(arguments: tuple[str, ...], code: int):
    loaded = loaded_by(command(*arguments, code=code))
    assert "torch" in loaded
    assert not loaded & (set(HEAVY) - {"torch"})


def test_importing_dfw_costs_next_to_nothing():
    before = loaded_by("from __future__ import annotations\nimport importlib, typing")
    assert loaded_by("import dfw") - before <= {"dfw", "lazy_loader", "ast", "_ast"}


def test_listing_plugins_imports_no_plugin():
    assert not loaded_by(command("plugins", "list")) & set(PACKAGES)


SURFACE = set(dfw.__all__) - {"__version__"}


def test_the_public_surface_is_the_table_of_the_documentation():
    page = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")
    rows = [line for line in page.partition("| interfaces |")[2].partition("\n\n")[0].splitlines() if line]
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == SURFACE


def test_the_public_surface_is_what_it_says():
    assert set(dir(dfw)) == SURFACE
    assert len(dfw.__all__) == len(set(dfw.__all__))
    for name in dfw.__all__:
        assert getattr(dfw, name) is not None
    namespace: dict[str, object] = {}
    exec("from dfw import *", namespace)
    assert set(dfw.__all__) <= set(namespace)
    with pytest.raises(AttributeError, match="Gemoetry"):
        dfw.Gemoetry  # noqa: B018


def test_every_public_name_of_a_plugin_author_is_documented():
    unions = {"Schedule", "Timesteps"}  # types of fields, which Python gives no docstring
    assert [name for name in sorted(SURFACE - unions) if not getattr(dfw, name).__doc__] == []


def imports_of(path: Path) -> set[str]:
    """What a file takes from dfw: `dfw.<name>` for each name of `from dfw import`, else the module."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.partition(".")[0] == "dfw"}
        elif isinstance(node, ast.ImportFrom) and node.module == "dfw":
            found |= {f"dfw.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and str(node.module).startswith("dfw."):
            found.add(str(node.module))
    return found


def test_extensions_and_their_tests_import_what_an_author_may():
    """The public names and the kit, as docs/plugins.md allows, and nothing deeper."""
    allowed = {"dfw", "dfw.testing", "dfw.__version__", *(f"dfw.{name}" for name in SURFACE)}
    allowed |= {"dfw.testing.experimental_device"}  # not stable, as its name says; the extensions here change with it
    files = sorted((Path(__file__).parents[2] / "examples" / "extensions").rglob("*.py"))
    assert len(files) > 15
    taken = {path.name: imports_of(path) for path in files}
    assert {"dfw.testing", "dfw.Guidance"} <= set().union(*taken.values())
    assert {name: sorted(found - allowed) for name, found in taken.items() if found - allowed} == {}
