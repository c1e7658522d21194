"""The kits of a test file, run without pytest: which there are, and what of them only pytest can run."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from dfw.errors import PluginError
from dfw.testing.base import ComponentTests

_AROUND = ("setup_method", "teardown_method", "setup_class", "teardown_class")
_MARKS = {"usefixtures", "parametrize", "skip", "skipif", "xfail"}


def kits_in(path: Path) -> list[type[ComponentTests[Any]]]:
    """The kits that a Python test file subclasses, in the order they are written. Raises PluginError.

    As under pytest the file's folder can be imported from, and classes with `__test__ = False` are left out.
    """
    spec = spec_from_file_location(f"dfw_tests_{path.stem}", path) if path.suffix == ".py" and path.is_file() else None
    if spec is None or spec.loader is None:
        raise PluginError(f"--tests {path}: no such Python file")
    module = module_from_spec(spec)
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    sys.modules[spec.name] = module  # dataclasses look for the module of their annotations
    try:
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        del sys.modules[spec.name]
        raise PluginError(f"--tests {path} failed to load: {type(error).__name__}: {error}") from error
    found = [
        value
        for name, value in vars(module).items()
        if name.startswith("Test") and isinstance(value, type) and issubclass(value, ComponentTests) and _collected(value)
    ]
    if not found:
        raise PluginError(f"--tests {path}: no class Test... in it that subclasses a kit of dfw.testing")
    return found


def only_in_pytest(tests: type[ComponentTests[Any]]) -> str:
    """Why none of a class's checks can run without pytest, as a sentence; empty when they can."""
    needs = list(dict.fromkeys(_around(tests)))
    if not needs:
        return ""
    return (
        f"only pytest runs {', '.join(needs)}, and without that no check means anything; run `python -m pytest` on this file, "
        "or do the same in make() and prepare()"
    )


def why_not(check: Callable[..., Any]) -> str:
    """Why one check cannot run without pytest; empty when it can."""
    parameters = list(inspect.signature(check).parameters.values())[1:]
    wants = [p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    marks = [f"pytest.mark.{name}" for name in _marks(check)]
    if not wants and not marks:
        return ""
    return f"only pytest gives it {', '.join(marks or wants)}; run `python -m pytest` on this file"


def _collected(tests: type[Any]) -> bool:
    return bool(getattr(tests, "__test__", True))


def _around(tests: type[Any]) -> Iterator[str]:
    """What pytest would do around each check: fixtures that are used unasked, setup methods, marks of the class."""
    for cls in tests.__mro__:
        for name, value in vars(cls).items():
            marker = getattr(value, "_fixture_function_marker", None) or getattr(value, "_pytestfixturefunction", None)
            if getattr(marker, "autouse", False):
                yield f"the fixture {name}"
            elif name in _AROUND:
                yield name
    yield from (f"pytest.mark.{name}" for name in _marks(tests))


def _marks(marked: Any) -> list[str]:
    """Names of the marks that change whether or how pytest runs something."""
    found = getattr(marked, "pytestmark", [])
    return [mark.name for mark in (found if isinstance(found, list) else [found]) if mark.name in _MARKS]
