"""Listeners: found by metadata, loaded one by one, called behind a fence. Also the requirements of a run, and `--plugin` files.

Imports no torch.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pluggy
from packaging.requirements import InvalidRequirement, Requirement

from dfw import hookspecs
from dfw.discovery import BLOCKED, BUILT_IN, LOCAL, Found, Origin, Problem, Provider, import_target, normalise, scan
from dfw.errors import ConfigError, DivergedError, PluginError

if TYPE_CHECKING:
    import click

    from dfw.events import RunEnded, RunStarted, StepEnded

log = logging.getLogger("dfw.plugins")

HOOKS = ("dfw_run_started", "dfw_step_ended", "dfw_run_ended", "dfw_register_commands")
"""All hooks, in the order of a run."""

_FILE = "dfw_plugin_"
_files: dict[Path, ModuleType] = {}


@dataclass(frozen=True)
class Listener:
    """A registered object with hook implementations, and who it comes from."""

    name: str
    provider: Provider
    instance: object

    @property
    def origin(self) -> Origin:
        """Where it comes from, for the manifest."""
        module = self.instance.__name__ if isinstance(self.instance, ModuleType) else type(self.instance).__module__
        return Origin(self.name, self.provider.distribution, self.provider.version, module)


class Listeners:
    """All listeners of a process or run. Each call is fenced: one that raises is reported once and switched off.

    `problems`: what could not be loaded, and what was switched off since.
    """

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager("dfw")
        self._manager.add_hookspecs(hookspecs)
        self._by_instance: dict[int, Listener] = {}
        self.problems: list[Problem] = []

    @property
    def active(self) -> list[Listener]:
        """Those that are still switched on, in the order they were registered."""
        return list(self._by_instance.values())

    def add(self, listener: Listener) -> None:
        """Registers one; with a wrong hook name or signature it is left out, and a problem."""
        try:
            self._manager.register(listener.instance, name=listener.name)
            self._manager.check_pending()
        except Exception as error:
            if self._manager.is_registered(listener.instance):
                self._manager.unregister(listener.instance)
            self.problems.append(Problem(listener.provider, f"listener '{listener.name}'", f"{error}; it is left out"))
            return
        self._by_instance[id(listener.instance)] = listener

    def load(self, found: Found) -> None:
        """Imports and registers one entry point of group `dfw`: a module, an object, or a class, of which one is made.

        A failure is a problem, and the rest goes on.
        """
        try:
            instance = import_target(found, f"listener '{found.name}'")
            if isinstance(instance, type):
                instance = instance()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit too, from the constructor
            cause = error.__cause__ if isinstance(error, PluginError) and error.__cause__ else error
            reason = f"failed to load from {found.target}: {type(cause).__name__}: {cause}; it is left out"
            self.problems.append(Problem(found.provider, f"listener '{found.name}'", reason))
            return
        self.add(Listener(f"{found.provider.distribution}/{found.name}", found.provider, instance))

    def warn(self) -> None:
        """Tells the user of the problems so far; those that come later are told as they come."""
        for problem in self.problems:
            log.warning("%s", problem)

    def hooks_of(self, listener: Listener) -> list[str]:
        """The hooks that a listener implements, in the order of `HOOKS`."""
        heard = {caller.name for caller in self._manager.get_hookcallers(listener.instance) or ()}
        return [hook for hook in HOOKS if hook in heard]

    def run_started(self, run: RunStarted) -> None:
        """Tells everyone that a run begins."""
        self._call("dfw_run_started", "run", run)

    def step_ended(self, step: StepEnded) -> None:
        """Tells everyone that a step is done. Raises DivergedError when a listener asks for the run to stop."""
        self._call("dfw_step_ended", "step", step)

    def run_ended(self, run: RunEnded) -> None:
        """Tells everyone that a run is over."""
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

    def _each(self, hook: str, action: Callable[[Listener, Callable[..., object]], None]) -> None:
        """`action` for each listener that implements `hook`: in order of registration, but for pluggy's tryfirst and trylast."""
        caller = getattr(self._manager.hook, hook)
        implementations = caller.get_hookimpls()
        early = [i.plugin for i in implementations if i.tryfirst]
        late = [i.plugin for i in implementations if i.trylast and not i.tryfirst]
        plain = [i.plugin for i in implementations if not (i.tryfirst or i.trylast)]
        for plugin in [*early, *plain, *late]:
            listener = self._by_instance[id(plugin)]
            others = [other.instance for other in self.active if other.instance is not plugin]
            self._fenced(listener, hook, lambda: action(listener, self._manager.subset_hook_caller(hook, others)))  # noqa: B023

    def _fenced(self, listener: Listener, hook: str, action: Callable[[], None]) -> None:
        try:
            action()
        except KeyboardInterrupt:
            raise
        except DivergedError as error:
            raise DivergedError(f"{error} (listener {listener.name}, {listener.provider})") from error
        except BaseException as error:  # SystemExit too: a listener must not end a run of hours
            self._manager.unregister(listener.instance)
            del self._by_instance[id(listener.instance)]
            reason = f"{type(error).__name__} in {hook}: {error}; it is switched off, the run goes on"
            self._report(listener.provider, f"listener '{listener.name}'", reason)
            log.info("traceback of %s", listener.name, exc_info=error)

    def _report(self, provider: Provider, subject: str, reason: str) -> None:
        problem = Problem(provider, subject, reason)
        self.problems.append(problem)
        log.warning("%s", problem)


def load_listeners(extra: Sequence[object] = ()) -> Listeners:
    """`extra` (objects with hook implementations, built in), those of `--plugin` files, and those of installed distributions."""
    listeners = Listeners()
    for number, instance in enumerate(extra):
        provider = Provider(BUILT_IN, version_of(BUILT_IN))
        listeners.add(Listener(f"{BUILT_IN}/{type(instance).__name__}-{number}", provider, instance))
    for path, module in _files.items():
        listeners.add(Listener(f"{LOCAL}/{module.__name__.removeprefix(_FILE)}", Provider(LOCAL, str(path)), module))
    for found in scan().group("dfw"):
        listeners.load(found)
    return listeners


def version_of(distribution: str) -> str:
    """The installed version of a distribution, or `unknown`."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown"


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
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        del sys.modules[name]
        raise PluginError(f"--plugin {path} failed to load: {type(error).__name__}: {error}") from error
    _files[path] = module
    return module


def check_requirements(requirements: Iterable[str], where: str = "plugins") -> None:
    """That what a run requires is installed, from metadata alone. `where` begins the message.

    Raises ConfigError for text that is no requirement; PluginError, with the `pip install` line, for what is missing or too old.
    """
    lacking: list[str] = []
    blocked = {found.provider for found in scan().blocked}
    for text in requirements:
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            first = str(error).splitlines()[0]
            raise ConfigError(f'{where}: {text!r} is no requirement ({first}); write e.g. "dreamfw-acme>=0.3"') from error
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        for owner in blocked:
            if owner.distribution == normalise(requirement.name):
                raise PluginError(f"{where}: this run needs {text}, and {owner} is {BLOCKED}; lift that")
        installed = version_of(requirement.name)
        if installed == "unknown" or not requirement.specifier.contains(installed, prereleases=True):
            lacking.append(f"{text} (found: {'none' if installed == 'unknown' else installed})")
    if lacking:
        line = " ".join(f'"{text.rpartition(" (found")[0]}"' for text in lacking)
        raise PluginError(f"{where}: this run needs {', '.join(lacking)}; run: pip install {line}")
