"""The generators of pages: fields and their docstrings from the source, nested models, commands, pages that are not current."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import pytest
from pydantic import BaseModel, ConfigDict

sys.path.insert(0, str(Path(__file__).parents[2] / "tools" / "docs"))
import commands
import configuration
import generate
import interfaces
import pages

SOURCE = '''"""Records.

Shapes
    B  views
    N  samples
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

Either = int | None
"""A number, or none."""


@dataclass(frozen=True)
class Sky(ABC):
    """One sky."""

    blue: float
    """Share of blue,
    in [0, 1]."""
    clouds: int | None = None
    _hidden: int = 0

    @property
    @abstractmethod
    def light(self) -> float:
        """Light in lux."""

    @staticmethod
    def of(*names: str, wide: bool = False, **rest: int) -> "Sky":
        """Makes a sky."""

    def _secret(self) -> None: ...
'''

PAGE = """# Records

Records.

Shapes

    B  views
    N  samples

## Either

```python
Either = int | None
```

A number, or none.

## Sky

```python
Sky(blue, clouds=None)
```

One sky.

| field | type | default |  |
|---|---|---|---|
| `blue` | <code>float</code> |  | Share of blue, in [0, 1]. |
| `clouds` | <code>int &#124; None</code> | <code>None</code> |  |

### Sky.light

```python
light: float
```

*A subclass must define it.*

Light in lux.

### Sky.of

```python
@staticmethod
of(*names: str, wide: bool = False, **rest: int) -> 'Sky'
```

Makes a sky.
"""


def test_a_module_as_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "records.py").write_text(SOURCE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    import records  # type: ignore[import-not-found]

    assert interfaces.page("records", {records: ["Sky", "Either"]}) == PAGE


def test_a_long_signature_has_a_line_for_each_parameter() -> None:
    ((_, (node, _)),) = interfaces._defined(
        interfaces.ast.parse("def f(first: " + "a" * 60 + ", second: " + "b" * 60 + "): ...").body
    )
    assert interfaces.signature("f", node) == f"f(\n    first: {'a' * 60},\n    second: {'b' * 60},\n)"


def test_every_public_name_has_one_section() -> None:
    import dfw

    text = "\n".join(interfaces.pages().values())
    for name in dfw.__all__:
        assert text.count(f"\n## {name}\n") == (not name.startswith("__")), name


class Leaf(BaseModel):
    """A leaf."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    size: float = 1.0
    """Its size."""


class Branch(BaseModel):
    """A branch, which may carry a whole tree."""

    tree: Tree | None = None
    leaf: Leaf = Leaf()


class Tree(BaseModel):
    """A tree."""

    leaves: dict[str, Leaf] = {}
    branches: list[Branch] = []


Branch.model_rebuild()


def test_the_navigation_names_the_pages_of_generated_folders() -> None:
    made = {"components/sky.md": "# Skies\n\ntext", "interfaces/sea.md": "# The sea\n", "commands.md": "# Commands\n"}
    text = "a\n  # <interfaces>\n  old\n  # </interfaces>\nb\n  # <components>\n  # </components>\n"
    skies, sea = '      { "Skies" = "components/sky.md" },\n', '      { "The sea" = "interfaces/sea.md" },\n'
    expected = f"a\n  # <interfaces>\n{sea}  # </interfaces>\nb\n  # <components>\n{skies}  # </components>\n"
    assert generate.navigation(text, made) == expected


def test_models_are_found_below_each_other_and_no_circle_is_followed() -> None:
    found = [(Tree, ""), (Leaf, "leaves.NAME"), (Branch, "branches"), (Leaf, "branches.leaf")]
    assert list(configuration.models(Tree, "")) == found
    section = configuration.section(Leaf, ["leaves.NAME", "branches.leaf"])
    assert section.startswith("## `leaves.NAME`, `branches.leaf`\n\nA leaf.\n\n| field |")
    assert "\n| `size` | number | `1.0` | Its size. |\n" in section


def test_a_command_and_its_commands() -> None:
    @click.group("top")
    def top() -> None:
        """Does things."""

    @top.command("one")
    @click.argument("name")
    @click.option("--count", type=click.IntRange(1, 9), default=4, show_default=True, help="How many.")
    @click.option("--dry", is_flag=True, help="Only looks.")
    def one(name: str, count: int, dry: bool) -> None:
        """Does one thing."""

    first, second = commands.sections_of(top, "dfw top", click.Context(click.Group(), info_name="dfw"))
    assert first.startswith("## `dfw top`\n\n```text\ndfw top [OPTIONS] COMMAND [ARGS]...\n```\n\nDoes things.")
    assert "dfw top one [OPTIONS] NAME" in second
    assert "| <code>--count N</code> | <code>4</code> | How many. N is in [1, 9]. |" in second
    assert "| <code>--dry</code> |  | Only looks. |" in second


def test_pages_that_differ_are_missing_or_are_left_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "DOCS", tmp_path)
    wanted = {"a/one.md": "1", "a/two.md": "2", "three.md": "3"}
    pages.write({"a/old.md": "0", "a/one.md": "other", "three.md": "3"})
    assert pages.stale(wanted, ["a"]) == ["a/one.md", "a/two.md", "a/old.md"]
    pages.write(wanted, ["a"])
    assert pages.stale(wanted, ["a"]) == []
    assert not (tmp_path / "a" / "old.md").exists()
