"""References: `${trainer.steps}` in a configuration stands for the value of another field. Imports no torch.

A text that is one reference becomes the value itself; inside longer text it becomes part of the text. `\\${` is the text `${`.
There is nothing else: a configuration calls no function and reads no variable of the environment, so that no secret gets into a
run's files.
"""

from __future__ import annotations

import re
from typing import Any

from dfw.config.origins import KeyPath
from dfw.config.paths import Written
from dfw.text import shortened

MOST = 1_000_000
"""Values and characters that the references of a configuration bring in together."""

_START = re.compile(r"(\\*)\$\{")
_NAME = re.compile(r"[\w-]+(?:\.[\w-]+)*")


class ReferenceError(ValueError):  # Python's own is about weak references
    """A reference cannot be followed. `path`: where it stands."""

    def __init__(self, path: KeyPath, problem: str) -> None:
        super().__init__(problem)
        self.path = path


def resolve(tree: dict[str, Any]) -> dict[str, Any]:
    """Returns a configuration with its references replaced. Raises ReferenceError."""
    resolved: dict[str, Any] = _Resolver(tree).value(tree, (), ())
    return resolved


def escape(value: Any) -> Any:
    """Returns plain values whose text `resolve` gives back as it is."""
    if isinstance(value, dict):
        return {key: escape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [escape(item) for item in value]
    return _START.sub(r"\1\1\\${", value) if isinstance(value, str) else value


class _Resolver:
    def __init__(self, tree: dict[str, Any]) -> None:
        self._tree = tree
        self._brought = 0

    def value(self, node: Any, path: KeyPath, open: tuple[str, ...]) -> Any:
        """Resolves a node at `path`. `open`: the references that led to it."""
        if open:
            self._brought += 1 + (len(node) if isinstance(node, str) else 0)
            if self._brought > MOST:
                raise ReferenceError(path, f"its references multiply to more than {MOST:,} values")
        if isinstance(node, dict):
            return {key: self.value(item, (*path, key), open) for key, item in node.items()}
        if isinstance(node, list):
            return [self.value(item, (*path, str(index)), open) for index, item in enumerate(node)]
        return self._text(node, path, open) if isinstance(node, str) and "${" in node else node

    def _text(self, text: str, path: KeyPath, open: tuple[str, ...]) -> Any:
        parts: list[Any] = []
        end = 0
        for match in _START.finditer(text):
            parts.append(text[end : match.start()] + match[1][: len(match[1]) // 2])
            end = match.end()
            if len(match[1]) % 2:
                parts.append("${")
                continue
            name, closed, _ = text[end:].partition("}")
            _check(name, closed, path)
            found = self._named(name, path, open)
            end += len(name) + 1
            if match.end() == len("${") and end == len(text):
                return found
            if not isinstance(found, str | int | float):
                raise ReferenceError(path, f"${{{shortened(name)}}} is not text or a number, so it cannot stand inside text")
            parts.append(str(found).lower() if isinstance(found, bool) else str(found))
        return Written.like(text, "".join([*parts, text[end:]]))

    def _named(self, name: str, path: KeyPath, open: tuple[str, ...]) -> Any:
        if name in open:
            raise ReferenceError(path, f"the references go in a circle: {shortened(' -> '.join((*open, name)), 200)}")
        node: Any = self._tree
        for key in name.split("."):
            if isinstance(node, str):
                node = self.value(node, path, (*open, name))
            try:
                node = node[int(key)] if isinstance(node, list) else node[key]
            except (KeyError, IndexError, ValueError, TypeError):
                raise ReferenceError(path, f"${{{shortened(name)}}} stands for nothing: there is no such field") from None
        return self.value(node, tuple(name.split(".")), (*open, name))


def _check(name: str, closed: str, path: KeyPath) -> None:
    if closed and _NAME.fullmatch(name):
        return
    said = shortened(f"${{{name}{closed}")
    if ":" in name:
        raise ReferenceError(
            path,
            f"{said} is not read: a configuration calls nothing and sees no variable of the environment; "
            'give the value on the command line, where the shell fills it in: KEY="$NAME"',
        )
    raise ReferenceError(path, f"{said} names no field; write a dotted path, as in ${{trainer.steps}}, or \\${{ for the text ${{")
