"""Makes all generated pages of `docs/`: components, configuration, commands, interfaces.

python tools/docs/generate.py            # write the pages
python tools/docs/generate.py --check    # exit with 1 if a page is not what the code says
"""

from __future__ import annotations

import sys

import commands
import components
import configuration
import interfaces
from pages import main


def pages() -> dict[str, str]:
    """Returns all generated pages."""
    return components.pages() | configuration.pages() | commands.pages() | interfaces.pages()


if __name__ == "__main__":
    sys.exit(main(pages, ["components", "interfaces"]))
