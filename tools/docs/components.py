"""Makes `docs/components/`: a page per kind with every built-in component, its options, and what it needs and offers.

python tools/docs/components.py [--check]
"""

from __future__ import annotations

import sys

from interfaces import link_to_kind
from pages import main, table

from dfw.config.kinds import KINDS
from dfw.plugins.describe import Description, Option, describe
from dfw.plugins.discovery import BUILT_IN
from dfw.plugins.registry import registry

PLURAL = {"geometry": "Geometries", "renderer": "Renderers", "guidance": "Guidance", "loss": "Losses"}


def pages() -> dict[str, str]:
    """Returns one page for each kind."""
    return {f"components/{kind}.md": page(kind) for kind in KINDS}


def page(kind: str) -> str:
    """Returns the page of one kind, in Markdown."""
    known = registry()
    found = [describe(entry, known.load(entry)) for entry in known.entries(kind) if entry.distribution == BUILT_IN]
    head = f"# {PLURAL.get(kind, kind.capitalize())}\n\nThese components come with dfw. `dfw plugins info NAME` prints the same "
    head += f"for any installed component. They implement {link_to_kind(kind)}.\n\n"
    return head + "\n".join(section(each) for each in found)


def section(described: Description) -> str:
    """Returns the section of one component."""
    lines = [f"## `{described.name.rpartition('/')[2]}`", "", described.summary, ""]
    for word, features in (("Requires", described.requires), ("Provides", described.provides)):
        if features:
            lines += [f"{word}: {', '.join(f'`{name}`' for name in sorted(features))}.", ""]
    lines += [f"`{feature}`: when {hint}.\n" for feature, hint in described.hints.items()]
    return "\n".join([*lines, *table(("option", "type", "default", ""), (row(option) for option in described.options)), ""])


def row(option: Option) -> tuple[str, str, str, str]:
    """Returns the cells of one option."""
    when = f" *When {option.when}.*" if option.when else ""
    return f"`{option.path}`", option.type, f"`{option.default or repr('')}`", option.help + when


if __name__ == "__main__":
    sys.exit(main(pages, ["components"]))
