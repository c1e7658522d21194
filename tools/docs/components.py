"""Writes `docs/components/`: a page per kind with every built-in component, its options and what it needs and offers.

python tools/docs/components.py            # write the pages
python tools/docs/components.py --check    # exit with 1 if a page is not what the code says
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dfw.config.kinds import KINDS
from dfw.plugins.describe import Description, describe
from dfw.plugins.discovery import BUILT_IN
from dfw.plugins.registry import registry

PAGES = Path(__file__).parents[2] / "docs" / "components"
PLURAL = {"geometry": "Geometries", "renderer": "Renderers", "guidance": "Guidance", "loss": "Losses"}


def page(kind: str) -> str:
    """The page of one kind, in Markdown."""
    known = registry()
    found = [describe(entry, known.load(entry)) for entry in known.entries(kind) if entry.distribution == BUILT_IN]
    head = f"# {PLURAL[kind]}\n\nWhat comes with dfw; `dfw plugins info NAME` says the same of any installed component. "
    return head + f"The interface: [{kind}](../interfaces/{kind}.md).\n\n" + "\n".join(section(each) for each in found)


def section(described: Description) -> str:
    """One component."""
    lines = [f"## `{described.name.rpartition('/')[2]}`", "", described.summary, ""]
    for word, features in (("Requires", described.requires), ("Provides", described.provides)):
        if features:
            lines += [f"{word}: {', '.join(f'`{name}`' for name in sorted(features))}.", ""]
    lines += [f"`{feature}`: when {hint}.\n" for feature, hint in described.hints.items()]
    if described.options:
        lines += ["| option | type | default | |", "|---|---|---|---|"]
    for option in described.options:
        when = f" *When {option.when}.*" if option.when else ""
        cells = (f"`{option.path}`", option.type, f"`{option.default}`", option.help + when)
        lines.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |")
    return "\n".join([*lines, ""])


def main() -> int:
    """Writes or checks all pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = []
    for kind in KINDS:
        path, text = PAGES / f"{kind}.md", page(kind)
        if check and (not path.is_file() or path.read_text(encoding="utf-8") != text):
            stale.append(path.name)
        elif not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if stale:
        print(f"docs/components: {', '.join(stale)} not as the code says; run python tools/docs/components.py", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
