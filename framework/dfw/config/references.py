"""References: `${trainer.steps}` in a configuration stands for the value of another field. Imports no torch.

A text that is one reference becomes the value itself; inside longer text it becomes part of the text. `\\${` is the text `${`.
OmegaConf replaces them. What else its `${...}` can do is refused before: a configuration calls no function and reads no variable
of the environment, so that no secret gets into a run's files.
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
_WHOLE = re.compile(r"\$\{([^}]*)\}")
_NAME = re.compile(r"[\w-]+(?:\.[\w-]+)*")


class ReferenceError(ValueError):  # Python's own is about weak references
    """A reference cannot be followed. `path`: where it stands."""

    def __init__(self, path: KeyPath, problem: str) -> None:
        super().__init__(problem)
        self.path = path


def resolve(tree: dict[str, Any]) -> dict[str, Any]:
    """Returns a configuration with its references replaced. Raises ReferenceError."""
    references = _References(tree)
    references.check(tree, (), ())
    if not references.found:
        return tree
    from omegaconf import OmegaConf  # takes a tenth of a second, and few configurations have references
    from omegaconf.errors import OmegaConfBaseException

    try:
        plain = OmegaConf.to_container(OmegaConf.create(_plain(tree)), resolve=True)
    except OmegaConfBaseException as error:  # `???`, which means a missing value there, or a name that only we allow
        raise ReferenceError((), f"a reference cannot be followed: {shortened(str(error).partition(chr(10))[0])}") from None
    written: dict[str, Any] = references.written(tree, plain)
    return written


def escape(value: Any) -> Any:
    """Returns plain values whose text `resolve` gives back as it is."""
    if isinstance(value, dict):
        return {key: escape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [escape(item) for item in value]
    return _START.sub(r"\1\1\\${", value) if isinstance(value, str) else value


class _References:
    """The references of a configuration, checked before they are replaced: each stands for something, and none for too much."""

    def __init__(self, tree: dict[str, Any]) -> None:
        self._tree = tree
        self._sizes: dict[str, int] = {}
        self.found = False

    def check(self, node: Any, path: KeyPath, open: tuple[str, ...]) -> int:
        """Returns how many values and characters a node at `path` becomes. `open`: the references that led to it."""
        if isinstance(node, dict | list):
            items = node.items() if isinstance(node, dict) else enumerate(node)
            size = 1 + sum(self.check(item, (*path, str(key)), open) for key, item in items)
        else:
            size = 1 + (len(node) if isinstance(node, str) else 0)
            if isinstance(node, str) and "${" in node:
                self.found = True
                size += sum(self._size(name, node, path, open) for name in _names(node, path))
        if size > MOST and self.found:
            raise ReferenceError(path, f"its references multiply to more than {MOST:,} values")
        return size

    def _size(self, name: str, text: str, path: KeyPath, open: tuple[str, ...]) -> int:
        if name in open:
            raise ReferenceError(path, f"the references go in a circle: {shortened(' -> '.join((*open, name)), 200)}")
        if name not in self._sizes:
            self._sizes[name] = self.check(self._at(name, path, (*open, name)), tuple(name.split(".")), (*open, name))
        if not _WHOLE.fullmatch(text) and not isinstance(self._at(name, path, (*open, name)), str | int | float):
            raise ReferenceError(path, f"${{{shortened(name)}}} is not text or a number, so it cannot stand inside text")
        return self._sizes[name]

    def _at(self, name: str, path: KeyPath, open: tuple[str, ...]) -> Any:
        """Returns the node that `name` stands for, at the end of a chain of references."""
        node: Any = self._tree
        for key in name.split("."):
            try:
                node = node[int(key)] if isinstance(node, list) else node[key]
            except (KeyError, IndexError, ValueError, TypeError):
                raise ReferenceError(path, f"${{{shortened(name)}}} names a field that does not exist") from None
            whole = _WHOLE.fullmatch(node) if isinstance(node, str) else None
            if whole:
                if whole[1] in open:
                    chain = shortened(" -> ".join((*open, whole[1])), 200)
                    raise ReferenceError(path, f"the references go in a circle: {chain}")
                _check(whole[1], "}", path)
                node = self._at(whole[1], path, (*open, whole[1]))
        return node

    def written(self, node: Any, resolved: Any) -> Any:
        """Returns a resolved node, in which text knows again which file it was written in."""
        whole = _WHOLE.fullmatch(node) if isinstance(node, str) else None
        if whole:
            return self.written(self._at(whole[1], (), ()), resolved)
        if isinstance(node, dict):
            return {key: self.written(item, resolved[key]) for key, item in node.items()}
        if isinstance(node, list):
            return [self.written(item, part) for item, part in zip(node, resolved, strict=True)]
        return Written.like(node, resolved) if isinstance(node, str) else resolved


def _plain(node: Any) -> Any:
    """Returns a tree whose text is of the class str itself: OmegaConf takes no other."""
    if isinstance(node, dict):
        return {key: _plain(item) for key, item in node.items()}
    if isinstance(node, list):
        return [_plain(item) for item in node]
    return str(node) if isinstance(node, str) else node


def _names(text: str, path: KeyPath) -> list[str]:
    """Returns the names of the references in `text`. Raises ReferenceError for what is none."""
    names = []
    for match in _START.finditer(text):
        if len(match[1]) % 2 == 0:
            name, closed, _ = text[match.end() :].partition("}")
            _check(name, closed, path)
            names.append(name)
    return names


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
