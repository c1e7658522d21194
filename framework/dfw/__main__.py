"""`python -m dfw`."""

import sys

from dfw.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
