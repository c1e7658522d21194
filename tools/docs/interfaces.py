"""Makes `docs/interfaces/`: signature, docstring, fields and methods of every public name, read from the source by `ast`.

python tools/docs/interfaces.py [--check]

A page holds the public names (`dfw.__all__`) of one module, and the classes of the core that they inherit from. A field's
docstring is the string under it.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from dataclasses import is_dataclass
from functools import cache
from itertools import chain, repeat
from types import ModuleType
from typing import Any

from pages import code, main, table

import dfw

TITLES = {
    "component": "Every component",
    "data": "What travels between components",
    "errors": "Errors that plugins raise",
    "events": "What listeners receive",
    "hooks": "Hooks of listeners",
    "kinds": "Kinds of component",
    "registry": "Registering a class by hand",
    "schedules": "Schedules",
}
"""Page -> title; another page takes its module's name."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def pages() -> dict[str, str]:
    """Returns one page for each module that defines a public name."""
    found: dict[ModuleType, list[str]] = {}
    for name, value in public().items():
        found.setdefault(home_of(name, value), []).append(name)
    return {f"interfaces/{page_of(module.__name__)}.md": page(module, names) for module, names in found.items()}


def public() -> dict[str, Any]:
    """Returns the names of `dfw.__all__` with their values, and the classes of the core that these inherit from."""
    values = {name: getattr(dfw, name) for name in dfw.__all__ if not name.startswith("__")}
    bases = [base for value in values.values() for base in getattr(value, "__mro__", ()) if base.__module__.startswith("dfw.")]
    return values | {base.__name__: base for base in bases if not base.__name__.startswith("_")}


def home_of(name: str, value: Any) -> ModuleType:
    """Returns the module of the core whose source defines `name`."""
    modules = [
        module for key, module in sorted(sys.modules.items()) if key.startswith("dfw.") and vars(module).get(name) is value
    ]
    return next(module for module in modules if name in definitions(module))


def page_of(module: str) -> str:
    """Returns the stem of a module's page."""
    return module.rpartition(".")[2]


def link_to_kind(kind: str) -> str:
    """Returns a Markdown link from a folder next to `interfaces/` to the public class of a kind of component."""
    classes = {name: value for name, value in public().items() if isinstance(value, type)}
    name, cls = next((name, value) for name, value in classes.items() if vars(value).get("kind") == kind)
    return f"[{name}](../interfaces/{page_of(cls.__module__)}.md#{name.lower()})"


def page(module: ModuleType, names: list[str]) -> str:
    """Returns the page of `module` with its public `names`, in the order of the source."""
    known = definitions(module)
    stem = page_of(module.__name__)
    lines = [f"# {TITLES.get(stem, stem.capitalize().replace('_', ' '))}", "", *prose(module.__doc__)]
    for name in sorted(names, key=lambda name: known[name][0].lineno):
        lines += section(name, getattr(module, name), *known[name])
    return "\n".join(lines)


@cache
def definitions(module: ModuleType) -> dict[str, tuple[ast.stmt, str]]:
    """Returns name -> (statement that defines it, docstring) of everything at the top of a module's source."""
    return dict(_defined(ast.parse(inspect.getsource(module)).body))


def section(name: str, value: Any, node: ast.stmt, text: str) -> Iterator[str]:
    """Yields the lines of one public name."""
    yield from (f"## {name}", "")
    if isinstance(node, ast.ClassDef):
        yield from class_lines(name, value, node)
    elif isinstance(node, Function):
        yield from (*python(signature(name, node)), *prose(ast.get_docstring(node)))
    else:
        yield from (*python(ast.unparse(node)), *prose(text))


def class_lines(name: str, cls: type, node: ast.ClassDef) -> Iterator[str]:
    """Yields the lines of a class: bases, docstring, fields and methods of its own."""
    bases = [base for base in cls.__bases__ if base.__module__.startswith("dfw.")]
    fields = [(key, one, text) for key, (one, text) in _defined(node.body) if isinstance(one, ast.AnnAssign)]
    methods = [one for one in node.body if isinstance(one, Function) and not one.name.startswith("_")]
    if is_dataclass(cls):
        yield from python(f"{name}({', '.join(key + (f'={_default(one)}' if one.value else '') for key, one, _ in fields)})")
    else:
        yield from python(f"class {ast.unparse(ast.ClassDef(name, node.bases, [], [], []))[6:].rstrip(':')}")
    if bases:
        links = (f"[{base.__name__}]({page_of(base.__module__)}.md#{base.__name__.lower()})" for base in bases)
        yield from (f"It inherits from {' and '.join(links)}.", "")
    yield from prose(ast.get_docstring(node))
    rows = [
        (f"`{key}`", code(ast.unparse(one.annotation)), code(_default(one)), " ".join(text.split())) for key, one, text in fields
    ]
    yield from (*table(("field", "type", "default", ""), rows), *([""] if rows else []))
    for method in methods:
        yield from method_lines(name, method)


def method_lines(owner: str, node: Function) -> Iterator[str]:
    """Yields the lines of one method or property."""
    marks = {ast.unparse(mark).rpartition(".")[2] for mark in node.decorator_list}
    yield from (f"### {owner}.{node.name}", "")
    if marks & {"property", "cached_property"}:
        yield from python(f"{node.name}: {ast.unparse(node.returns) if node.returns else ''}".rstrip(": "))
    else:
        kind = next((f"@{mark}\n" for mark in ("classmethod", "staticmethod") if mark in marks), "")
        yield from python(kind + signature(node.name, node))
    if "abstractmethod" in marks:
        yield from ("*A subclass must define it.*", "")
    yield from prose(ast.get_docstring(node))


def signature(name: str, node: Function) -> str:
    """Returns the call of a function, with types: one line, or one line for each parameter if it is long."""
    result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    parts = list(parameters(node.args))
    line = f"{name}({', '.join(parts)}){result}"
    return line if len(line) <= 100 else f"{name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){result}"


def parameters(arguments: ast.arguments) -> Iterator[str]:
    """Yields each parameter with its type and default, without `self` and `cls`."""
    places = [*arguments.posonlyargs, *arguments.args]
    defaults = chain(repeat(None, len(places) - len(arguments.defaults)), arguments.defaults)
    named = [_parameter(one, value) for one, value in zip(places, defaults, strict=True)]
    yield from (text for text in named if text not in ("self", "cls"))
    if arguments.vararg or arguments.kwonlyargs:
        yield "*" + (_parameter(arguments.vararg) if arguments.vararg else "")
    yield from (_parameter(one, value) for one, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True))
    if arguments.kwarg:
        yield f"**{_parameter(arguments.kwarg)}"


def python(text: str) -> list[str]:
    """Returns a code block."""
    return ["```python", text, "```", ""]


def prose(text: str | None) -> list[str]:
    """Returns a docstring as Markdown. A deeper block becomes a code block, so that its columns stay."""
    lines: list[str] = []
    for line in inspect.cleandoc(text or "").splitlines():
        if line.startswith("    ") and lines and lines[-1] and not lines[-1].startswith("    "):
            lines.append("")
        lines.append(line)
    return [*lines, ""] if lines else []


def _defined(body: list[ast.stmt]) -> Iterator[tuple[str, tuple[ast.stmt, str]]]:
    """Yields public names with their statement and the docstring under it."""
    for node, after in zip(body, [*body[1:], ast.Pass()], strict=True):
        under = after.value if isinstance(after, ast.Expr) else None
        text = inspect.cleandoc(under.value) if isinstance(under, ast.Constant) and isinstance(under.value, str) else ""
        for name in _names(node):
            if not name.startswith("_") and name != "model_config":
                yield name, (node, text)


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _default(node: ast.AnnAssign) -> str:
    return "" if node.value is None else ast.unparse(node.value)


def _parameter(node: ast.arg, default: ast.expr | None = None) -> str:
    kind = f": {ast.unparse(node.annotation)}" if node.annotation else ""
    equals = " = " if kind else "="
    return node.arg + kind + (f"{equals}{ast.unparse(default)}" if default else "")


if __name__ == "__main__":
    sys.exit(main(pages, ["interfaces"]))
