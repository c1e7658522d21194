"""Listeners: found by metadata, loaded one by one, called behind a fence. Also `--plugin` files.

Imports no torch.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pluggy

from dfw.errors import DivergedError, PluginError, one_line
from dfw.interfaces import hooks
from dfw.plugins.discovery import BUILT_IN, LOCAL, Found, Origin, Problem, Provider, import_target, scan
from dfw.plugins.requirements import version_of
from dfw.plugins.torch_state import kept

if TYPE_CHECKING:
    import click

    from dfw.interfaces.events import RunEnded, RunStarted, StepEnded
    from dfw.runs.scene import Scene

log = logging.getLogger("dfw.plugins.listeners")

HOOKS = ("dfw_run_started", "dfw_step_ended", "dfw_scene_lent", "dfw_run_ended", "dfw_register_commands")
"""All hooks, in the order of a run."""

_FILE = "dfw_plugin_"
_files: dict[Path, ModuleType] = {}


@dataclass(frozen=True)
class Listener:
    """An object with hook implementations, and who it comes from.

    Each has a manager of its own, so that none can hide another: pluggy's compare and hash what they hold.
    """

    name: str
    provider: Provider
    instance: object
    manager: pluggy.PluginManager = field(default_factory=lambda: pluggy.PluginManager("dfw"), repr=False)

    @property
    def origin(self) -> Origin:
        """Where it comes from, for the manifest."""
        module = self.instance.__name__ if isinstance(self.instance, ModuleType) else type(self.instance).__module__
        return Origin(self.name, self.provider.distribution, self.provider.version, module)

    @property
    def hooks(self) -> list[str]:
        """The hooks it implements, in the order of `HOOKS`."""
        return [hook for hook in HOOKS if getattr(self.manager.hook, hook).get_hookimpls()]

    def listen(self) -> None:
        """Finds its hooks. Raises PluginError for a wrong name or arguments, and where there is none."""
        self.manager.add_hookspecs(hooks)
        try:
            self.manager.register(self.instance, name=self.name)
            self.manager.check_pending()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise PluginError(f"{one_line(error)}{self._advice()}") from error
        if not self.hooks:
            raise PluginError(f"it has no hook of dfw{self._advice()}")

    def _advice(self) -> str:
        written = hook_like(self.instance)
        near = [(name, *get_close_matches(name, HOOKS, n=1)) for name in written if name not in HOOKS]
        if near and len(near[0]) > 1:
            return f"; did you mean {near[0][1]}?"
        bare = [name for name in written if name in HOOKS and name not in self.hooks]
        return f"; write @hookimpl above {bare[0]}" if bare else f"; the hooks are {', '.join(HOOKS)}"


def hook_like(instance: object) -> list[str]:
    """Names of attributes that look like hooks; modules of such a name (`import dfw_geometry`) do not."""
    return [n for n in dir(instance) if n.startswith("dfw_") and not isinstance(getattr(instance, n, None), ModuleType)]


class Listeners:
    """All listeners of a process or run. Each call is fenced: one that raises is reported once and switched off.

    `problems`: what could not be loaded, and what was switched off since.
    """

    def __init__(self) -> None:
        self._active: list[Listener] = []
        self.problems: list[Problem] = []

    @property
    def active(self) -> list[Listener]:
        """Those that are still switched on, in the order they were registered."""
        return list(self._active)

    def add(self, listener: Listener) -> None:
        """Registers one; what has no hooks, wrong ones, or is there already is left out, and a problem."""
        subject = f"listener '{listener.name}'"
        try:
            twin = next((other for other in self._active if other.instance is listener.instance), None)
            if twin is not None:
                raise PluginError(f"it is the same as {twin.name} of {twin.provider}")
            listener.listen()
        except PluginError as error:
            self.problems.append(Problem(listener.provider, subject, f"{error}; it is left out"))
            return
        self._active.append(listener)

    def load(self, found: Found) -> None:
        """Imports and registers one entry point of group `dfw`: a module, an object, or a class, of which one is made.

        A failure is a problem, and the rest goes on.
        """
        try:
            instance = import_target(found, f"listener '{found.name}'")
            if isinstance(instance, type):
                with kept(lambda changes: log.warning("%s of %s changed %s; put back", found.name, found.provider, changes)):
                    instance = instance()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit too, from the constructor
            cause = error.__cause__ if isinstance(error, PluginError) and error.__cause__ else error
            reason = f"failed to load from {found.target}: {one_line(cause)}; it is left out"
            self.problems.append(Problem(found.provider, f"listener '{found.name}'", reason))
            return
        self.add(Listener(f"{found.provider.distribution}/{found.name}", found.provider, instance))

    def warn(self) -> None:
        """Tells the user of the problems so far; those that come later are told as they come."""
        for problem in self.problems:
            log.warning("%s", problem)

    def run_started(self, run: RunStarted) -> None:
        """Tells everyone that a run begins."""
        self._call("dfw_run_started", "run", run)

    def step_ended(self, step: StepEnded) -> None:
        """Tells everyone that a step is done. Raises DivergedError when a listener asks for the run to stop."""
        self._call("dfw_step_ended", "step", step)

    def lend_scene(self, scene: Scene) -> None:
        """Lends everyone the scene between two steps."""
        self._each("dfw_scene_lent", lambda _, call: call(scene=scene))

    def run_ended(self, run: RunEnded) -> None:
        """Tells everyone that a run is over. There is nothing left to stop: DivergedError is a failure like any other."""
        self._call("dfw_run_ended", "run", run)

    def register_commands(self, cli: click.Group) -> None:
        """Lets everyone add verbs to `cli`; the first owner of a name keeps it."""
        import click

        def collect(listener: Listener, call: Callable[..., object]) -> None:
            collector = click.Group("dfw")
            call(cli=collector)
            for name, command in collector.commands.items():
                if cli.get_command(click.Context(cli), name) is None:
                    cli.add_command(command, name)
                else:
                    self._report(listener.provider, f"command '{name}'", "there is one of that name already; it is left out")

        self._each("dfw_register_commands", collect)

    def _call(self, hook: str, name: str, event: RunStarted | StepEnded | RunEnded) -> None:
        def tell(_: Listener, call: Callable[..., object]) -> None:
            call(**{name: event.copy()})

        self._each(hook, tell)

    def _each(self, hook: str, action: Callable[[Listener, Callable[..., object]], object]) -> None:
        """`action` for each listener that implements `hook`: in order of registration, but for pluggy's tryfirst and trylast."""
        heard = [(one, getattr(one.manager.hook, hook)) for one in self._active if hook in one.hooks]
        for listener, call in sorted(heard, key=lambda pair: _turn(pair[1])):
            self._fenced(listener, hook, lambda: action(listener, call))  # noqa: B023

    def _fenced(self, listener: Listener, hook: str, action: Callable[[], object]) -> None:
        def changed(changes: str) -> None:
            self._report(listener.provider, f"listener '{listener.name}'", f"{hook} changed {changes}; put back")

        try:
            with kept(changed):
                action()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit too: a listener must not end a run of hours
            if isinstance(error, DivergedError) and hook in ("dfw_run_started", "dfw_step_ended"):
                raise DivergedError(f"{error} (listener {listener.name}, {listener.provider})") from error
            self._active = [other for other in self._active if other is not listener]
            reason = f"{hook} raised {one_line(error)}; it is switched off, the run goes on"
            self._report(listener.provider, f"listener '{listener.name}'", reason)
            log.info("traceback of %s", listener.name, exc_info=error)

    def _report(self, provider: Provider, subject: str, reason: str) -> None:
        problem = Problem(provider, subject, reason)
        if problem in self.problems:
            return
        self.problems.append(problem)
        log.warning("%s", problem)


def _turn(caller: pluggy.HookCaller) -> int:
    """Whether a listener is called before the others (0), among them, or after them (2)."""
    (implementation, *_) = caller.get_hookimpls()
    return 0 if implementation.tryfirst else 2 if implementation.trylast else 1


def load_listeners(extra: Sequence[object] = ()) -> Listeners:
    """`extra` (objects with hook implementations, built in), those of `--plugin` files, and those of installed distributions."""
    listeners = Listeners()
    for number, instance in enumerate(extra):
        provider = Provider(BUILT_IN, version_of(BUILT_IN))
        listeners.add(Listener(f"{BUILT_IN}/{type(instance).__name__}-{number}", provider, instance))
    for path, module in _files.items():
        if hook_like(module):  # else it registers components only
            name = f"{LOCAL}/{module.__name__.removeprefix(_FILE)}"
            listeners.add(Listener(name, Provider(LOCAL, str(path)), module))
    for found in scan().group("dfw"):
        listeners.load(found)
    return listeners


def load_plugin_file(path: Path) -> ModuleType:
    """Runs a Python file that registers components (`dfw.register`) or holds hook implementations; a second call does nothing.

    Raises PluginError when it is missing or raises, whatever it raises.
    """
    path = path.resolve()
    if path in _files:
        return _files[path]
    same = sum(other.stem == path.stem for other in _files)
    name = f"{_FILE}{path.stem}" + (f"-{same + 1}" if same else "")
    spec = spec_from_file_location(name, path) if path.suffix == ".py" and path.is_file() else None
    if spec is None or spec.loader is None:
        raise PluginError(f"--plugin {path}: no such Python file; give the path of a .py file")
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        with redirect_stdout(sys.stderr), kept(lambda changes: log.warning("--plugin %s changed %s; put back", path, changes)):
            spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        del sys.modules[name]
        raise PluginError(f"--plugin {path} failed to load: {one_line(error)}") from error
    _files[path] = module
    return module
