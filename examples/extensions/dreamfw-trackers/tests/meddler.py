"""For `dfw run --plugin`: a listener that does to a run what the environment says; without that it only listens.

MEDDLER_SPOILS=NAME puts a file where a tracker wants its folder, before it does. MEDDLER_STOPS_AFTER=N is Ctrl-C after step N.
"""

from __future__ import annotations

import os
import signal

import tracked

from dfw import RunStarted, StepEnded, hookimpl


@hookimpl(tryfirst=True)
def dfw_run_started(run: RunStarted) -> None:
    """Remembers the event, and spoils the folder."""
    tracked.heard.append(run)
    if name := os.environ.get("MEDDLER_SPOILS"):
        (run.directory / name).write_text("in the way")


@hookimpl
def dfw_step_ended(step: StepEnded) -> None:
    """Stops the run."""
    if os.environ.get("MEDDLER_STOPS_AFTER") == str(step.progress.step):
        signal.raise_signal(signal.SIGINT)
