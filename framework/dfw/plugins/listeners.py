"""Listeners: found by metadata, loaded one by one, called behind a fence. Also `--plugin` files.

Imports no torch.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout, suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.util import module_from_spec, spec_from_file_location
from io import FileIO
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pluggy

from dfw.config.paths import exists
from dfw.errors import DivergedError, PluginError, one_line
from dfw.interfaces import hooks
from dfw.plugins.discovery import BLOCKS, BUILT_IN, LISTENER, LOCAL, Entry, Problem, Provider, import_target, scan
from dfw.plugins.fence import end_copy, plugin_code, renaming, waiting
from dfw.plugins.registry import rediscover, registered
from dfw.plugins.requirements import version_of
from dfw.text import shortened

if TYPE_CHECKING:
    import click

    from dfw.interfaces.events import PhaseBegan, RunEnded, RunStarted, StepEnded
    from dfw.runs.controls import Controls
    from dfw.runs.scene import Scene

log = logging.getLogger("dfw.plugins.listeners")

HOOKS = (
    *("dfw_phase_began", "dfw_run_started", "dfw_step_ended", "dfw_scene_lent", "dfw_run_ended"),
    "dfw_register_commands",
)
"""All hooks, in the order of a run."""
STOPPING = HOOKS[1:3]
"""Those in which a listener may end the run with DivergedError."""

_FILE = "dfw_plugin_"
_files: dict[Path, PluginFile] = {}


@dataclass(frozen=True)
class PluginFile:
    """A file that `--plugin` has run, as it was then."""

    path: Path
    """Absolute."""
    module: ModuleType
    source: bytes

    @property
    def digest(self) -> str:
        """The SHA-256 of the source."""
        return hashlib.sha256(self.source).hexdigest()


@dataclass(frozen=True)
class Listener:
    """An object with hook implementations, and where it comes from.

    Each has a manager of its own, so that none can hide another: pluggy's compare and hash what they hold.
    """

    entry: Entry
    instance: object
    manager: pluggy.PluginManager = field(default_factory=lambda: pluggy.PluginManager("dfw"), repr=False)

    @property
    def name(self) -> str:
        """Its qualified name."""
        return self.entry.qualified

    @property
    def provider(self) -> Provider:
        """Whose it is."""
        return self.entry.provider

    @property
    def who(self) -> str:
        """For messages: `listener 'acme/listener' of acme 0.4`."""
        return f"listener '{self.name}' of {self.provider}"

    @property
    def is_of_the_core(self) -> bool:
        """Whether its class belongs to dfw itself, such as the console and the viewer."""
        return self.provider.distribution == BUILT_IN and self.entry.target.partition(":")[0].partition(".")[0] == "dfw"

    @property
    def hooks(self) -> list[str]:
        """The hooks it implements, in the order of `HOOKS`."""
        return [hook for hook in HOOKS if getattr(self.manager.hook, hook).get_hookimpls()]

    def listen(self) -> str:
        """Finds its hooks. Says what is wrong with them: a name, arguments, or that there is none; nothing where all is well."""
        self.manager.add_hookspecs(hooks)
        try:
            with plugin_code(self.who, "has hooks that cannot be called", ()):
                self.manager.register(self.instance, name=self.name)
                self.manager.check_pending()
        except PluginError as error:
            return f"{one_line(error.__cause__ or error)}{self._advice()}"
        return "" if self.hooks else f"it has no hook of dfw{self._advice()}"

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


AT_WORK = ".at-work"


class AtWork:
    """A file in a run's directory that says whose code is at work, for whoever finds that the process ended without a word."""

    def __init__(self, run: Path) -> None:
        """Warns of what the file says: the process that wrote it has ended meanwhile."""
        self._path = run / AT_WORK
        said = ""
        with suppress(OSError):  # there is none, or it is somebody else's
            said = self._path.read_text(encoding="utf-8", errors="replace").strip()
        if said:
            log.warning("this run ended without a word while %s; --block leaves a distribution out", said)
        self._file: FileIO | None = None
        with suppress(OSError):  # a run goes on without this file
            self._file = self._path.open("wb", buffering=0)

    @contextmanager
    def noted(self, what: str) -> Iterator[None]:
        """Has the file say `what` while the code inside runs."""
        self._say(what)
        try:
            yield
        finally:
            self._say("")

    def _say(self, what: str) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.seek(0)
                self._file.write(what.encode()[:200].ljust(200))  # as long as before, so that it fits on a full disk too

    def end(self) -> None:
        """Deletes the file."""
        if self._file is not None:
            self._file.close()
            with suppress(OSError):
                self._path.unlink(missing_ok=True)


class Listeners:
    """All listeners of a process or run. Each call is fenced: one that raises is reported once and switched off.

    `problems`: what could not be loaded, and what was switched off since.
    """

    def __init__(self) -> None:
        self._active: list[Listener] = []
        self._process = os.getpid()
        self._at_work: AtWork | None = None
        self.problems: list[Problem] = []

    def work_in(self, run: Path) -> None:
        """From now on a file in the directory of a run names whose code is at work. Warns if one is there already."""
        self._at_work = AtWork(run)

    @property
    def active(self) -> list[Listener]:
        """Those that are still switched on, in the order they were registered."""
        return list(self._active)

    def add(self, listener: Listener) -> None:
        """Registers one; what has no hooks, wrong ones, or is there already is left out, and a problem."""
        twin = next((other for other in self._active if other.instance is listener.instance), None)
        wrong = listener.listen() if twin is None else f"it is the same as {twin.name} of {twin.provider}"
        if wrong:
            self.problems.append(Problem(listener.provider, f"listener '{listener.name}'", f"{wrong}; it is left out"))
        else:
            self._active.append(listener)

    def load(self, entry: Entry) -> None:
        """Imports and registers a listener: a module, an object, or a class, of which one is made.

        A failure is a problem, and the rest goes on.
        """
        who = f"listener '{entry.name}' of {entry.provider}"
        try:
            with self._noted(f"{who} was loaded"):
                instance = import_target(entry)
                if isinstance(instance, type):
                    with waiting(who), plugin_code(who, "failed to start", ()):
                        instance = instance()
        except PluginError as error:
            reason = f"failed to load from {entry.target}: {one_line(error.__cause__ or error)}; it is left out"
            self.problems.append(Problem(entry.provider, f"listener '{entry.name}'", reason))
        else:
            self.add(Listener(entry, instance))

    def load_installed(self) -> None:
        """Loads those of `--plugin` files, then those of installed distributions."""
        for file in _files.values():
            if hook_like(file.module):  # else it registers components only
                target = file.module.__name__
                entry = Entry(LISTENER, target.removeprefix(_FILE), LOCAL, str(file.path), target)
                self.add(Listener(entry, file.module))
        for entry in scan().listeners():
            self.load(entry)

    def warn(self) -> None:
        """Warns of the problems so far. Later ones are warned of as they come."""
        for problem in self.problems:
            log.warning("%s", problem)

    def phase_began(self, phase: PhaseBegan) -> None:
        """Tells everyone what takes a while now."""
        self._call("dfw_phase_began", "phase", phase)

    def run_started(self, run: RunStarted) -> None:
        """Tells everyone that a run begins."""
        self._call("dfw_run_started", "run", run)

    def step_ended(self, step: StepEnded) -> None:
        """Tells everyone that a step is done. Raises DivergedError when a listener asks for the run to stop."""
        self._call("dfw_step_ended", "step", step)

    def lend_scene(self, scene: Scene, controls: Controls) -> None:
        """Lends everyone the scene between two steps, with what they may ask of the run."""
        self._each("dfw_scene_lent", lambda _, call: call(scene=scene, controls=controls))

    def run_ended(self, run: RunEnded) -> None:
        """Tells everyone that a run is over. There is nothing left to stop: DivergedError is a failure like any other."""
        self._call("dfw_run_ended", "run", run)
        if self._at_work is not None:
            self._at_work.end()

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

    def _call(self, hook: str, name: str, event: PhaseBegan | RunStarted | StepEnded | RunEnded) -> None:
        def tell(_: Listener, call: Callable[..., object]) -> None:
            call(**{name: event.copy()})

        self._each(hook, tell)

    def _each(self, hook: str, action: Callable[[Listener, Callable[..., object]], object]) -> None:
        """Runs `action` for each listener that has `hook`, in order of registration, except for pluggy's tryfirst and trylast."""
        end_copy(self._process, "a component of this run")
        heard = [(one, getattr(one.manager.hook, hook)) for one in self._active if hook in one.hooks]
        for listener, call in sorted(heard, key=lambda pair: _turn(pair[1])):
            self._fenced(listener, hook, lambda: action(listener, call))  # noqa: B023

    def _fenced(self, listener: Listener, hook: str, action: Callable[[], object]) -> None:
        def report(what: str) -> None:
            self._report(listener.provider, f"listener '{listener.name}'", f"{hook} {what}")

        try:
            passing = (DivergedError,) if hook in STOPPING else ()
            stranger = listener.provider.distribution != BUILT_IN
            said = listener.who
            if listener.is_of_the_core:  # it changes nothing of the process, and a comparison in each step costs 1 % of it
                fence = renaming(lambda error: f"{said} {hook}: {one_line(error)}", passing)
            else:
                fence = plugin_code(said, hook, passing, lambda it: report(f"changed {it}; put back"))
            with (
                self._noted(f"{listener.who} was in {hook}") if stranger else nullcontext(),
                waiting(listener.who) if stranger else nullcontext(),
                fence,
            ):
                action()
        except DivergedError as error:
            raise DivergedError(f"{error} (listener {listener.name}, {listener.provider})") from error
        except PluginError as error:
            self._active = [other for other in self._active if other is not listener]
            cause = error.__cause__ or error
            report(f"raised {one_line(cause)}; it is switched off, the run goes on")
            log.info("traceback of %s", listener.name, exc_info=cause)

    def _noted(self, what: str) -> AbstractContextManager[None]:
        return nullcontext() if self._at_work is None else self._at_work.noted(what)

    def _report(self, provider: Provider, subject: str, reason: str) -> None:
        problem = Problem(provider, subject, reason)
        if problem in self.problems:
            return
        self.problems.append(problem)
        log.warning("%s", problem)


def _turn(caller: pluggy.HookCaller) -> int:
    """Returns whether a listener is called before the others (0), among them (1), or after them (2)."""
    (implementation, *_) = caller.get_hookimpls()
    return 0 if implementation.tryfirst else 2 if implementation.trylast else 1


def load_listeners(extra: Sequence[object] = ()) -> Listeners:
    """Loads listeners: `extra` (built-in objects with hooks), those of `--plugin` files, and those of installed distributions."""
    listeners = own_listeners(extra)
    listeners.load_installed()
    return listeners


def own_listeners(instances: Sequence[object]) -> Listeners:
    """Registers built-in objects with hooks, and imports nothing."""
    listeners = Listeners()
    for number, instance in enumerate(instances):
        kind = type(instance)
        name, target = f"{kind.__name__}-{number}", f"{kind.__module__}:{kind.__qualname__}"
        listeners.add(Listener(Entry(LISTENER, name, BUILT_IN, version_of(BUILT_IN), target), instance))
    return listeners


@contextmanager
def plugins_for_now() -> Iterator[None]:
    """Takes back at its end what was blocked, loaded by `load_plugin_file` and registered inside."""
    blocked, files, by_hand = os.environ.get(BLOCKS), dict(_files), registered()
    try:
        yield
    finally:
        for path in _files.keys() - files.keys():
            sys.modules.pop(_files.pop(path).module.__name__, None)
        if blocked is None:
            os.environ.pop(BLOCKS, None)
        else:
            os.environ[BLOCKS] = blocked
        rediscover(by_hand)


def plugin_files() -> list[PluginFile]:
    """Returns the files that `--plugin` has run in this process."""
    return list(_files.values())


def load_plugin_file(path: Path) -> ModuleType:
    """Runs a Python file that registers components (`dfw.register`) or holds hook implementations; a second call does nothing.

    Raises PluginError when it is missing or raises, whatever it raises.
    """
    if not exists(path):
        raise PluginError(f"--plugin {shortened(str(path.absolute()), 300)}: no such Python file; give the path of a .py file")
    path = path.resolve()
    if path in _files:
        return _files[path].module
    same = sum(other.stem == path.stem for other in _files)
    name = f"{_FILE}{path.stem}" + (f"-{same + 1}" if same else "")
    spec = spec_from_file_location(name, path) if path.suffix == ".py" and path.is_file() else None
    if spec is None or spec.loader is None:
        raise PluginError(f"--plugin {path}: no such Python file; give the path of a .py file")
    module, source = module_from_spec(spec), path.read_bytes()
    sys.modules[name] = module
    try:
        with redirect_stdout(sys.stderr), plugin_code(f"--plugin {path}", "failed to load", ()):
            spec.loader.exec_module(module)
    except PluginError:
        del sys.modules[name]
        raise
    _files[path] = PluginFile(path, module, source)
    return module
