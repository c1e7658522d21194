"""How the process `dfw` begins and ends. `dfw.cli.main` is what it does; tests and notebooks call that in their own process."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import sys
import threading
from collections.abc import Sequence
from typing import NoReturn

from dfw.cli.main import main

FEWER_COLLECTIONS = 100_000
"""Objects until Python looks for garbage; its default is 700.

Imports make a million objects that live to the end, and the default goes through them again and again: a fifth of the time
until a run's first step.
"""


def process(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line of this process, and ends the process with its exit code.

    Called with `arguments`, as the tests of a package do that load the console script, it runs these and returns the code.
    """
    if arguments is not None:
        return main(arguments)
    gc.set_threshold(FEWER_COLLECTIONS)
    end(main())


def end(code: int) -> NoReturn:
    """Ends the process without taking the interpreter apart: that takes 0.4 s once torch is there, and a dry run takes 1.5.

    What was registered to run at the end runs. A thread that Python would wait for is waited for.
    """
    if any(thread is not threading.main_thread() and not thread.daemon for thread in threading.enumerate()):
        sys.exit(code)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed or gone; `main` said so where it matters
            stream.flush()
    os._exit(code)
