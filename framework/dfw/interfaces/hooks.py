"""The hooks a listener may implement, in group `dfw` of its distribution's entry points. Imports no torch.

Each call is fenced: a listener that raises is reported once, with its distribution and version, and switched off; the run goes
on. One exception passes on purpose: a listener stops the run by raising `dfw.DivergedError` with its diagnosis. Each listener
gets a copy of the event of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    import click

    from dfw.interfaces.events import PhaseBegan, RunEnded, RunStarted, StepEnded
    from dfw.runs.controls import Controls
    from dfw.runs.scene import Scene

hookspec = pluggy.HookspecMarker("dfw")
"""Marks the specifications below."""
hookimpl = pluggy.HookimplMarker("dfw")
"""Marks a function or method, named as one of the hooks, as a listener's implementation."""


@hookspec
def dfw_phase_began(phase: PhaseBegan) -> None:
    """Called when something begins that takes a while and is not a step: the turntable, the mesh. Before the run has started only
    the console hears it."""


@hookspec
def dfw_run_started(run: RunStarted) -> None:
    """Called once, after composition and before the first step."""


@hookspec
def dfw_step_ended(step: StepEnded) -> None:
    """Called after each optimiser step, on the loop's thread: be quick."""


@hookspec
def dfw_scene_lent(scene: Scene, controls: Controls) -> None:
    """Called between steps with the scene as it is now: `scene.render(..., milliseconds=20)`. Change nothing of it.

    The run waits, so be quick, or say so: `with controls.paused()`. A picture costs no random draw, so that the run keeps its
    bits. `controls` also stops the run, exports the scene, shows the step's cameras and asks the prior. Leave out the arguments
    that you do not use.
    """


@hookspec
def dfw_run_ended(run: RunEnded) -> None:
    """Called once, after the last file is written, also when the run was interrupted or failed."""


@hookspec
def dfw_register_commands(cli: click.Group) -> None:
    """Called before the command line lists or looks up verbs: `cli.add_command(...)`. A built-in verb cannot be replaced."""
