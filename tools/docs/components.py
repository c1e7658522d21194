"""Makes `docs/components/`: a page per kind with every built-in component, its options, and what it needs and offers.

python tools/docs/components.py [--check]
"""

from __future__ import annotations

import sys

from interfaces import link_to
from pages import main, table

from dfw.config.kinds import KINDS, Kind
from dfw.plugins.describe import Description, Option, describe
from dfw.plugins.discovery import BUILT_IN
from dfw.plugins.registry import registry

PLURAL = {"geometry": "Geometries", "loss": "Losses", "guidance": "Guidance", "cameras": "Cameras", "noise": "Noise"}
"""Kind -> title, if it is not the kind with an s."""


def pages() -> dict[str, str]:
    """Returns one page for each kind."""
    return {f"components/{kind.name}.md": page(kind) for kind in KINDS.values()}


def page(kind: Kind) -> str:
    """Returns the page of one kind, in Markdown."""
    known = registry()
    found = [describe(entry, known.load(entry)) for entry in known.entries(kind.name) if entry.distribution == BUILT_IN]
    head = f"# {PLURAL.get(kind.name, f'{kind.name.capitalize()}s')}\n\n*{kind.answers}* These components come with dfw. "
    head += f"`{kind.option}` chooses one. " if kind.option else ""
    head += "`dfw plugins info NAME` prints the same for any installed component. "
    head += f"They implement {link_to(kind.interface, '../interfaces/')}.\n\n"
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
