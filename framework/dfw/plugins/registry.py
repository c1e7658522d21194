"""Components by name: those of installed distributions and those registered by hand. A plugin is imported when used; no torch."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from inspect import isabstract
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from dfw.config.kinds import KINDS
from dfw.errors import PluginError
from dfw.plugins.discovery import BLOCKED, LOCAL, NAME, Entry, Problem, import_target, normalise, scan
from dfw.plugins.signatures import mismatch

if TYPE_CHECKING:
    from dfw.interfaces.component import Component


def check_component(entry: Entry, value: object) -> type[Component]:
    """Returns `value` as a class of `entry`'s kind. Raises PluginError for another thing, an abstract class, or a bad Config."""
    from dfw.interfaces.component import ComponentConfig

    interface = resolve_name(KINDS[entry.kind].interface)
    who = f"{entry.kind} '{entry.name}' of {entry.provider} ({entry.target})"
    if not (isinstance(value, type) and issubclass(value, interface)):
        raise PluginError(
            f"{who} is {_describe(value)}, not a subclass of dfw.{interface.__name__}; point the entry point at one"
        )
    if isabstract(value):
        missing = ", ".join(sorted(getattr(value, "__abstractmethods__", ())))
        raise PluginError(f"{who} does not implement {missing}")
    config = getattr(value, "Config", None)
    if not (isinstance(config, type) and issubclass(config, ComponentConfig)):
        raise PluginError(f"{who} has no Config derived from dfw.ComponentConfig; write `class Config(ComponentConfig): ...`")
    hints = getattr(value, "feature_hints", None)
    if not isinstance(hints, Mapping):
        raise PluginError(f"{who}: its feature_hints is {_describe(hints)}; write a dict, feature -> what to configure for it")
    taken = sorted(set(KINDS[entry.kind].reserved) & set(config.model_fields))
    if taken:
        raise PluginError(f"{who} has a Config field named '{taken[0]}', which a run's configuration keeps for itself; rename it")
    wrong = mismatch(value)
    if wrong:
        raise PluginError(f"{who} {wrong}")
    component: type[Component] = value
    return component


_SHOWN = 50
"""Most names, and most problems, that one message lists."""


def _ordered(entries: Iterable[Entry]) -> list[Entry]:
    """Sorts entries by kind and name."""
    order = {kind: place for place, kind in enumerate(KINDS)}
    return sorted(entries, key=lambda entry: (order[entry.kind], entry.name, entry.distribution))


def _describe(value: object) -> str:
    return f"the class {value.__module__}.{value.__qualname__}" if isinstance(value, type) else f"a {type(value).__name__}"


class Registry:
    """Names to entries. A name two distributions share is an error only for those who use it bare."""

    def __init__(self, entries: Iterable[Entry] = (), blocked: Iterable[Entry] = (), problems: Iterable[Problem] = ()) -> None:
        self._entries = list(entries)
        self._blocked = list(blocked)
        self._problems = list(problems)

    @classmethod
    def discover(cls) -> Registry:
        """Reads all components of the installed distributions from metadata, and imports none of them."""
        found = scan()
        entries, blocked = ([one for one in group if one.kind in KINDS] for group in (found.found, found.blocked))
        return cls(entries, blocked, found.problems)

    def entries(self, kind: str | None = None) -> list[Entry]:
        """Returns all entries, or those of one kind, sorted by kind and name."""
        return _ordered(entry for entry in self._entries if kind in (None, entry.kind))

    @property
    def blocked(self) -> list[Entry]:
        """Entries left out by `--block`, `DFW_BLOCK_PLUGINS` or `DFW_NO_PLUGINS`."""
        return list(self._blocked)

    @property
    def problems(self) -> list[Problem]:
        """What could not be read, and the components that failed to load so far."""
        return list(self._problems)

    def register(self, kind: str, name: str, component: type[Component]) -> Entry:
        """Adds a class by hand as `local/<name>`; a second registration of the name replaces the first. Raises PluginError."""
        if kind not in KINDS:
            raise PluginError(f"no kind of component named {kind!r}; there are {', '.join(KINDS)}")
        if not NAME.match(name):
            raise PluginError(f"{name!r} cannot name a {kind}: use letters, digits, '.', '_' and '-'")
        target = f"{getattr(component, '__module__', '?')}:{getattr(component, '__qualname__', component)}"
        entry = Entry(kind, name, LOCAL, _place(component), target, component)
        check_component(entry, component)
        self._entries = [e for e in self._entries if (e.kind, e.qualified) != (kind, entry.qualified)] + [entry]
        return entry

    def load(self, entry: Entry) -> type[Component]:
        """Imports and checks the class. Raises PluginError, with distribution, version and target, for whatever goes wrong.

        A failure is remembered for later messages.
        """
        try:
            return check_component(entry, import_target(entry) if entry.value is None else entry.value)
        except PluginError as error:
            subject = f"{entry.kind} '{entry.name}' ({entry.target})"
            problem = Problem(entry.provider, subject, str(error.__cause__ or error))
            if problem not in self._problems:
                self._problems.append(problem)
            raise

    def resolve(self, kind: str, name: str, where: str | None = None) -> Entry:
        """Finds the entry that `name` means, bare or `distribution/name`. `where`: the configuration path, for messages.

        Raises PluginError for an unknown name (with the nearest ones, the known ones and what failed to load) and for a bare name
        that several distributions provide.
        """
        where = f"{kind}.type" if where is None else where
        place = f" ({where})" if where else ""
        matches = self.matches(kind, name)
        if len(matches) == 1:
            return matches[0]
        if matches:
            providers = ", ".join(f"{entry.qualified} ({entry.provider})" for entry in matches)
            raise PluginError(f"{kind} '{name}'{place} is provided by several distributions; write one of {providers}")
        raise PluginError(f"no {kind} named '{name}'{place}.{self._advice(kind, name)}")

    def matches(self, kind: str, name: str) -> list[Entry]:
        """Returns all entries of a kind that `name` may mean, bare or qualified."""
        same = [entry for entry in self._entries if entry.kind == kind]
        return _ordered(entry for entry in same if name in (entry.name, entry.qualified)) or self._qualified(same, name)

    def kinds_of(self, name: str) -> list[str]:
        """Returns the kinds that have a component `name`, bare or qualified."""
        return [kind for kind in KINDS if self.matches(kind, name)]

    def unknown(self, name: str, what: str) -> PluginError:
        """Returns the error for a `name` that no kind has: the nearest one, and what cannot be used. `what` was looked for."""
        near = self.nearest(name)
        hint = f"did you mean {near!r}? " if near else ""
        return PluginError(f"no {what} named {name!r}; {hint}dfw plugins list shows all{self._broken()}")

    def nearest(self, name: str, kind: str | None = None) -> str | None:
        """Returns the known name, bare or qualified, that is most like `name`. None where none is."""
        names = {form.lower(): form for entry in self.entries(kind) for form in (entry.name, entry.qualified)}
        near = get_close_matches(name.lower(), names, n=1, cutoff=0.6)
        return names[near[0]] if near else None

    def _qualified(self, entries: Iterable[Entry], name: str) -> list[Entry]:
        owner, slash, tail = name.rpartition("/")
        distribution = normalise(owner)
        return [e for e in entries if slash and e.name == tail and e.distribution == distribution]

    def _broken(self) -> str:
        """Returns a line for each thing that cannot be used; a name may be missing because of it."""
        more = f"\n  and {len(self._problems) - _SHOWN} more: dfw plugins list" if len(self._problems) > _SHOWN else ""
        return "".join(f"\n  cannot be used: {problem}" for problem in self._problems[:_SHOWN]) + more

    def _advice(self, kind: str, name: str) -> str:
        blocked = [entry for entry in self._blocked if entry.kind == kind and name in (entry.name, entry.qualified)]
        if blocked:
            who = ", ".join(str(entry.provider) for entry in blocked)
            return f" {who} provides it and is {BLOCKED}."
        known = self.entries(kind)
        near = self.nearest(name, kind)
        names = list(dict.fromkeys(entry.name for entry in known))
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        listed = ", ".join(names[:_SHOWN]) + more or "none; is dreamfw itself installed?"
        text = (f" Did you mean '{near}'?" if near else "") + f" Known: {listed}."
        owner = name.partition("/")[0]
        if owner == LOCAL and "/" in name:
            text += " It was registered by hand: give the file that does so with --plugin FILE.py, or call dfw.register."
        elif "/" in name and all(entry.distribution != normalise(owner) for entry in self._entries):
            text += f' No installed distribution {owner} provides components; try pip install "{owner}", or its folder or URL.'
        return text + self._broken()


def _place(component: object) -> str:
    """Returns what stands in place of a version: the file that holds a class registered by hand, or `interactive`."""
    return str(getattr(sys.modules.get(getattr(component, "__module__", "")), "__file__", None) or "interactive")


_default: list[Registry] = []


def registry() -> Registry:
    """Returns the process-wide registry, discovered on first use."""
    if not _default:
        _default.append(Registry.discover())
    return _default[0]


def registered() -> list[Entry]:
    """Returns what was registered by hand."""
    return [entry for entry in (_default[0].entries() if _default else []) if entry.distribution == LOCAL]


def rediscover(by_hand: Iterable[Entry] | None = None) -> Registry:
    """Reads the installed distributions again (after a block, or an install in a notebook).

    What was registered by hand stays; `by_hand` replaces it.
    """
    kept = registered() if by_hand is None else list(by_hand)
    fresh = Registry.discover()
    _default[:] = [Registry([*fresh.entries(), *kept], fresh.blocked, fresh.problems)]
    return _default[0]


def register(kind: str, name: str, component: type[Component]) -> None:
    """Makes a class known in this process as `name` (and `local/<name>`): for notebooks, scripts and `--plugin` files.

    `kind` is a name of `dfw.config.kinds.KINDS`: `geometry`, `loss`, `noise` ... Raises PluginError when the class does not fit.
    """
    registry().register(kind, name, component)
