"""A process of a run that another process leads: it builds and trains what the leader says, and writes nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from dfw.compose import compose
from dfw.config.load import load_config
from dfw.errors import ProcessError
from dfw.plugins.registry import registry
from dfw.ranks.party import Dismissed
from dfw.ranks.processes import together
from dfw.runs.attribution import naming
from dfw.runs.drive import RunResult
from dfw.runs.signals import stopping
from dfw.runs.start import find_start, make_trainer
from dfw.runs.trainer import StepRecord, Trainer


def follow() -> RunResult:
    """Trains what the leader announces until it ends, and then says `finished`: only the leader says how a run ended.

    It says `failed` where this process failed and the leader did not notice. Raises ProcessError where there is no leader.
    """
    party = together()
    try:
        with _silent(), stopping() as stop, party.following() as announced:
            while True:
                with stop.at_once() if stop.number is None else nullcontext():
                    trainer = _built(next(announced))
                with naming(trainer.components, partial(_at, trainer)):
                    trainer.train(lambda: stop.number is not None, _ignore)
    except Dismissed:
        return RunResult(Path(), "finished")
    except ProcessError:
        raise
    except BaseException:
        return RunResult(Path(), "finished" if party.heard() else "failed")


def _built(orders: dict[str, Any]) -> Trainer:
    """Builds what the leader trains, as the leader does."""
    composition = compose(load_config(orders["config"]), registry())
    checkpoint = orders["checkpoint"]
    stages = {name: Path(path) for name, path in orders["stages"].items()}
    start = None if orders["resumed"] else find_start(composition, stages)
    trainer = make_trainer(composition.config, composition.build(), start, orders["resumed"])
    if checkpoint is not None:
        trainer.restore(Path(checkpoint))
    return trainer


def _at(trainer: Trainer) -> str:
    return f"at step {trainer.step}"


def _ignore(record: StepRecord) -> None:
    """The leader writes what the steps give."""


@contextmanager
def _silent() -> Iterator[None]:
    """The leader warns of what all processes see."""
    logger = logging.getLogger("dfw")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
