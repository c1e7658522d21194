"""Makes `docs/interfaces/`: signature, docstring, fields and methods of every public name, read from the source by `ast`.

python tools/docs/interfaces.py [--check]

A page holds the public names (`dfw.__all__`) of one module of `dfw.interfaces`, or of another room of the core, and the classes
that they inherit from. A field's docstring is the string under it.
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
    "geometry": "Geometry",
    "renderer": "Renderer",
    "guidance": "Guidance",
    "loss": "Loss",
    "cameras": "Cameras",
    "prompter": "Prompter",
    "noise": "Noise",
    "background": "Background",
    "exporter": "Exporter",
    "launcher": "Launcher",
    "scorer": "Scorer",
    "models": "Models that components name",
    "weights": "The hub",
    "data": "What travels between components",
    "distillation": "Building blocks of objectives",
    "config": "Configurations in Python",
    "plugins": "Registering and nesting components",
    "events": "What listeners receive",
    "hooks": "Hooks of listeners",
    "errors": "Errors that plugins raise",
    "api": "Runs in Python",
    "runs": "Scenes in Python",
    "poses": "Camera poses",
    "draws": "Random numbers of views",
    "mesh": "Meshes",
    "export": "Axes and mesh files",
}
"""Page -> title, in the order of the navigation. Another page takes its own name, and comes last."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def pages() -> dict[str, str]:
    """Returns one page for each place of public names."""
    found: dict[str, dict[ModuleType, list[str]]] = {}
    for name, value in public().items():
        module = home_of(name, value)
        found.setdefault(page_of(module.__name__), {}).setdefault(module, []).append(name)
    order = sorted(found, key=lambda stem: (list(TITLES).index(stem) if stem in TITLES else len(TITLES), stem))
    return {f"interfaces/{stem}.md": page(stem, found[stem]) for stem in order}


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
    """Returns the stem of a module's page: its own name for an interface, else that of its room."""
    parts = module.split(".")
    return parts[-1] if parts[1] == "interfaces" else parts[1]


def link_to(interface: str, folder: str = "") -> str:
    """Returns a Markdown link to a class, given as `module:Class`."""
    module, _, name = interface.partition(":")
    return f"[{name}]({folder}{page_of(module)}.md#{name.lower()})"


def page(stem: str, modules: dict[ModuleType, list[str]]) -> str:
    """Returns the page of some modules with their public names, in the order of the source."""
    lines = [f"# {TITLES.get(stem, stem.capitalize().replace('_', ' '))}", ""]
    for module in sorted(modules, key=lambda module: module.__name__):
        known = definitions(module)
        lines += prose(module.__doc__)
        for name in sorted(modules[module], key=lambda name: known[name][0].lineno):
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
        links = (link_to(f"{base.__module__}:{base.__name__}") for base in bases)
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
