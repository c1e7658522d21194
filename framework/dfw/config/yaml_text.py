"""YAML as configurations are written in it: one reader, and a writer of what that reader reads. Imports no torch.

Words mean what YAML 1.2 says. `on`, `yes`, `1:30`, `0x1f` and `2001-01-01` are text, and 0123 is the number 123. Numbers are
decimal, with or without a fraction and an exponent. Tags such as `!!set` and merge keys (`<<`) are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml  # type: ignore[import-untyped]
from yaml.composer import Composer, ComposerError  # type: ignore[import-untyped]
from yaml.parser import Parser  # type: ignore[import-untyped]
from yaml.reader import Reader  # type: ignore[import-untyped]
from yaml.resolver import BaseResolver  # type: ignore[import-untyped]
from yaml.scanner import Scanner  # type: ignore[import-untyped]

from dfw.config.origins import KeyPath
from dfw.text import printable, shortened

DEEPEST = 32
"""Levels of lists and mappings inside one another. A configuration has about six."""
MOST = 100_000
"""Values in one file, those behind an alias counted each time."""
LARGEST = 500_000  # characters; the parser reads about that many a second
"""Longest document."""
LONGEST_NUMBER = 400  # digits; Python itself refuses to read whole numbers of more than 4,300
"""Longest number, in characters."""

_TAG = "tag:yaml.org,2002:"
_WORDS = {
    "null": re.compile(r"~|null|Null|NULL|"),
    "bool": re.compile(r"true|True|TRUE|false|False|FALSE"),
    "int": re.compile(r"[-+]?[0-9]+"),
    "float": re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"),
}
"""Type -> what plain text means it. The first that fits counts."""


class YamlError(ValueError):
    """Text is not YAML that a configuration can hold. `line` counts from 1; None where no line is at fault."""

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(printable(shortened(problem, 200)))
        self.line = line


class _Loader(Reader, Scanner, Parser, Composer, BaseResolver):  # type: ignore[misc]
    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        BaseResolver.__init__(self)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        """Composes a node. The parser does not recurse and this does, so it is here that depth is limited."""
        self._depth += 1
        if self._depth > DEEPEST + 1:
            raise ComposerError(None, None, f"nested more than {DEEPEST} deep", self.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Puts text in quotes where this reader, or one of YAML 1.1, would take it for something else."""

    def ignore_aliases(self, data: Any) -> bool:
        """Writes equal values out each time."""
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar(f"{_TAG}str", str(text), style=None if text.isprintable() else '"')


_Dumper.add_multi_representer(str, _represent_text)
_Dumper.add_representer(str, _represent_text)
for _name, _pattern in _WORDS.items():
    _whole = re.compile(f"(?:{_pattern.pattern})$")
    _Loader.add_implicit_resolver(_TAG + _name, _whole, None)
    _Dumper.add_implicit_resolver(_TAG + _name, _whole, None)


def read_yaml(text: str) -> tuple[Any, dict[KeyPath, int]]:
    """Reads one document: its value, and the line of every key and list item. Keys are text. Raises YamlError."""
    if len(text) > LARGEST:
        raise YamlError(f"more than {LARGEST:,} characters")
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlError(str(error.problem or error.context), mark and mark.line + 1) from None
    except (yaml.YAMLError, ValueError, IndexError) as error:  # the last two come from an escape that names no character
        raise YamlError(" ".join(str(error).split())) from None
    if node is None:
        return None, {}
    construction = _Construction()
    value = construction.value(node, ())
    return value, {(): node.start_mark.line + 1} | construction.lines


class _Construction:
    """Turns nodes into plain values."""

    def __init__(self) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._count = 0

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        line = node.start_mark.line + 1
        self._count += 1
        if self._count > MOST:
            raise YamlError(f"more than {MOST:,} values", line)
        if len(path) > DEEPEST:  # behind an alias; what stands there may also hold itself
            raise YamlError(f"nested more than {DEEPEST} deep", line)
        wanted = {yaml.MappingNode: "map", yaml.SequenceNode: "seq"}.get(type(node))
        if wanted and node.tag != _TAG + wanted:
            raise YamlError(f"the tag {node.tag.replace(_TAG, '!!')} means nothing in a configuration", line)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._at(item, (*path, str(index)), item) for index, item in enumerate(node.value)]
        return _scalar(node)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode) or not (key.value or key.style):
                raise YamlError("a key must be a word or text", line)
            name = _text(key)
            if name == "<<" and not key.style:
                raise YamlError("merge keys (<<) are not read; write extends, or an alias for the whole mapping", line)
            if name in found:
                raise YamlError(f"found duplicate key {name!r}", line)
            found[name] = self._at(value, (*path, name), key)
        return found

    def _at(self, node: yaml.Node, path: KeyPath, start: yaml.Node) -> Any:
        self.lines[path] = start.start_mark.line + 1
        return self.value(node, path)


def _text(node: yaml.ScalarNode) -> str:
    text = str(node.value)
    if not is_text(text):
        raise YamlError("half of a surrogate pair is not text", node.start_mark.line + 1)
    return text


def is_text(text: str) -> bool:
    """Returns whether `text` can be written in UTF-8: it has no lone surrogates, as of arguments that are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _scalar(node: yaml.ScalarNode) -> Any:
    text, name, line = _text(node), node.tag.removeprefix(_TAG), node.start_mark.line + 1
    if name == "str":
        return text
    if name not in _WORDS or not _WORDS[name].fullmatch(text):
        raise YamlError(f"{node.tag.replace(_TAG, '!!')} {text!r} means nothing in a configuration", line)
    if name in ("int", "float") and len(text) > LONGEST_NUMBER:
        raise YamlError(f"a number of {len(text):,} characters", line)
    match name:
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int":
            return int(text)
        case _:
            return float(re.sub(r"\.(?=inf|nan)", "", text.lower()))


def write_yaml(tree: Mapping[str, Any]) -> str:
    """Writes plain values as text that `read_yaml` reads back. Nothing in it is a control character, except line ends."""
    text: str = yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return printable(text)  # what is not printable stands in double quotes, where YAML reads such escapes
