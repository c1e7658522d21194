"""Reads which plugins are installed, from package metadata alone: nothing is imported, and a broken package breaks only itself.

Imports no torch. Environment: `DFW_BLOCK_PLUGINS` holds distribution names, separated by commas, that are left out;
`DFW_NO_PLUGINS=1` leaves out everything that is not built in.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.metadata import Distribution, EntryPoint, distribution, distributions

from dfw.config.kinds import KINDS
from dfw.errors import PluginError
from dfw.plugins.fence import plugin_code, waiting
from dfw.text import printable

BUILT_IN = "dreamfw"
"""The distribution the built-in components belong to; it cannot be blocked."""
BLOCKED = "blocked (--block, DFW_BLOCK_PLUGINS or DFW_NO_PLUGINS)"
"""What messages say of a distribution that the user left out."""
LOCAL = "local"
"""The distribution name of what a notebook or a `--plugin` file registered."""

BLOCKS = "DFW_BLOCK_PLUGINS"
"""The variable of the environment that names blocked distributions."""

LISTENER = "listener"
"""The kind of an entry of group `dfw`; components are of a kind of `KINDS`."""

MODELS = "models"
"""The kind of an entry that is a function without arguments: it returns the models (`dfw.Model`) that a program loads."""

INTERFACE = 1
"""Version of the plugin interface that this core speaks: group `dfw.<kind>`; a break of it makes `dfw2.<kind>`."""

NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
"""What a component may be called."""
_GROUP = re.compile(r"^dfw(\d*)(\..+)?$")


@dataclass(frozen=True)
class Provider:
    """Who a plugin comes from: a `distribution`, by its normalised name, and its `version`."""

    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True)
class Entry:
    """What a distribution offers: a component of some `kind`, or a listener, at `target` ("module:attribute" or "module")."""

    kind: str
    name: str
    distribution: str
    version: str
    target: str
    value: object = field(default=None, repr=False)
    """What was registered by hand; None: what stands at `target`."""

    @property
    def provider(self) -> Provider:
        """Whose it is."""
        return Provider(self.distribution, self.version)

    @property
    def qualified(self) -> str:
        """`distribution/name`, which is never ambiguous."""
        return f"{self.distribution}/{self.name}"

    @property
    def label(self) -> str:
        """For messages: `acme/nerf 0.3`."""
        return f"{self.qualified} {self.version}"

    def facts(self) -> dict[str, str]:
        """Returns what the manifest of a run says of it."""
        module = self.target.partition(":")[0]
        return {"name": self.qualified, "distribution": self.distribution, "version": self.version, "module": module}


@dataclass(frozen=True)
class Problem:
    """Something of `provider` that cannot be used: `subject` says what, `reason` why."""

    provider: Provider
    subject: str
    reason: str

    def __str__(self) -> str:
        return f"{self.provider}: {self.subject}: {self.reason}"


@dataclass(frozen=True)
class Scan:
    """What the installed distributions offer: usable entry points, those the user `blocked`, and what is wrong with the rest."""

    found: tuple[Entry, ...]
    blocked: tuple[Entry, ...]
    problems: tuple[Problem, ...]

    def listeners(self, name: str | None = None) -> tuple[Entry, ...]:
        """Returns all listeners, or those that `name` means, bare or `distribution/name`."""
        return tuple(one for one in self.found if one.kind == LISTENER and name in (None, one.name, one.qualified))

    def models(self) -> tuple[Entry, ...]:
        """Returns the programs that name models."""
        return tuple(one for one in self.found if one.kind == MODELS)


def normalise(name: str) -> str:
    """Writes a distribution name as PEP 503 compares it: lower case, runs of `-_.` as one hyphen."""
    return re.sub(r"[-_.]+", "-", name).lower()


def blocked_names() -> frozenset[str]:
    """Returns the distributions of `DFW_BLOCK_PLUGINS`, normalised. Raises PluginError if the built-in one is among them."""
    names = frozenset(normalise(name.strip()) for name in os.environ.get(BLOCKS, "").split(",") if name.strip())
    if BUILT_IN in names:
        raise PluginError(f"{BUILT_IN} holds the built-in components and cannot be blocked; block the other distribution instead")
    return names


def block(names: tuple[str, ...]) -> None:
    """Adds distributions to `DFW_BLOCK_PLUGINS` for this process and those it starts."""
    known = [name for name in os.environ.get(BLOCKS, "").split(",") if name.strip()]
    os.environ[BLOCKS] = ",".join([*known, *names])


def useless_blocks() -> list[str]:
    """Returns a sentence for each name of `DFW_BLOCK_PLUGINS` that blocks nothing, with the nearest one that would."""
    names = blocked_names()
    if not names:
        return []
    offered = scan()
    providers = [one.provider for one in (*offered.found, *offered.blocked)] + [one.provider for one in offered.problems]
    known = {provider.distribution for provider in providers} - {BUILT_IN}
    sentences = []
    for name in sorted(names - known):
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else "dfw plugins list shows all"
        sentences.append(f"--block or DFW_BLOCK_PLUGINS: no distribution '{printable(name)}' with plugins is installed; {hint}")
    return sentences


def built_ins_only() -> bool:
    """Returns whether `DFW_NO_PLUGINS` asks for the built-in components alone."""
    return os.environ.get("DFW_NO_PLUGINS", "").strip().lower() not in ("", "0", "false", "no")


def scan() -> Scan:
    """Reads the entry points of all groups `dfw` and `dfw.*` on the import path; imports nothing.

    Of a distribution that is on the path twice the first copy counts, as for imports.
    """
    names, only_built_in = blocked_names(), built_ins_only()
    found: list[Entry] = []
    blocked: list[Entry] = []
    problems: list[Problem] = []
    for owner in _owners(problems):
        provider = Provider(normalise(owner.metadata["Name"]), owner.version)
        try:
            entry_points = list(owner.entry_points)
        except Exception as error:  # a malformed entry_points.txt must not hide the other packages
            problems.append(Problem(provider, "entry_points.txt", f"cannot be read ({error})"))
            continue
        out = provider.distribution in names or (only_built_in and provider.distribution != BUILT_IN)
        seen: set[tuple[str, str]] = set()
        for point in entry_points:
            _sort(point, provider, seen, blocked if out else found, problems)
    return Scan(tuple(found), tuple(blocked), tuple(problems))


def _owners(problems: list[Problem]) -> Iterator[Distribution]:
    seen: set[str] = set()
    for candidate in distributions():
        try:
            text = candidate.read_text("entry_points.txt") or ""
            if "[dfw" not in text.replace(" ", ""):
                continue
            name = normalise(candidate.metadata["Name"] or "")
            first = distribution(name)
            version = first.version
            hides = _place(first) != _place(candidate) and _hides(first, candidate)
        except Exception as error:  # metadata without a name, unreadable files
            problems.append(Problem(Provider(_place(candidate), "of unknown version"), "metadata", f"cannot be read ({error!r})"))
            continue
        if hides:
            reason = f"comes first on the import path and hides the other one, in {_place(candidate)}; uninstall one of the two"
            problems.append(Problem(Provider(name, version), f"the one in {_place(first)}", reason))
        if name in seen:
            continue
        seen.add(name)
        if version:
            yield first
        else:
            reason = f"has no Version; correct {_place(first)}/METADATA, or install {name} again"
            problems.append(Problem(Provider(name, "of unknown version"), "metadata", reason))


def _hides(first: Distribution, other: Distribution) -> bool:
    """Returns whether `first` lets nobody find the plugins of another copy; of the built-in ones all must be found."""
    there = _points(first)
    lost = _points(other) - there
    return bool(lost) and (not there or normalise(first.metadata["Name"]) == BUILT_IN)


def _points(owner: Distribution) -> set[tuple[str, str]]:
    """Returns group and name of each entry point of a distribution that is for dfw."""
    return {(point.group, point.name) for point in owner.entry_points if _GROUP.match(point.group)}


def _place(owner: Distribution) -> str:
    """Returns the folder that holds a distribution's metadata."""
    return str(getattr(owner, "_path", "a package on the import path"))


def unreadable() -> Iterator[str]:
    """Gives a sentence for each distribution, with plugins or without, whose entry points Python cannot read.

    Libraries read those of all distributions when they are imported, pydantic and torch among them, and give up at such a one.
    """
    for owner in distributions():
        try:
            list(owner.entry_points)
        except Exception as error:
            yield (
                f"{_place(owner)}/entry_points.txt: cannot be read ({type(error).__name__}: {error}), and libraries that dfw "
                "needs read this file of every package; correct it, or delete its folder and install that package again"
            )


def _sort(point: EntryPoint, provider: Provider, seen: set[tuple[str, str]], into: list[Entry], problems: list[Problem]) -> None:
    """Adds an entry point of `provider` to `into`, or to `problems`. `seen`: kind and name of those that it has so far."""
    match = _GROUP.match(point.group)
    if match is None:
        return
    subject = f"{point.name} = {point.value} in group {point.group}"
    kind = point.group.removeprefix("dfw.") if match[2] else LISTENER
    if match[1]:
        reason = f"speaks plugin interface {match[1]}, this dfw speaks {INTERFACE}; install versions of both that agree"
        problems.append(Problem(provider, subject, reason))
    elif point.pattern.match(point.value) is None:
        problems.append(Problem(provider, subject, 'not of the form "module:name"'))
    elif match[2] and kind not in (*KINDS, MODELS):
        problems.append(Problem(provider, f"group {point.group}", f"no such kind; there are {', '.join((*KINDS, MODELS))}"))
    elif match[2] and not NAME.match(point.name):
        problems.append(Problem(provider, f"name {point.name!r}", "use letters, digits, '.', '_' and '-'"))
    elif (kind, point.name) in seen:
        problems.append(Problem(provider, subject, "named twice; the first one counts"))
    else:
        seen.add((kind, point.name))
        into.append(Entry(kind, point.name, provider.distribution, provider.version, point.value))


def import_target(entry: Entry) -> object:
    """Imports what `entry` points at. Whatever happens becomes a PluginError that names its distribution.

    What is printed meanwhile goes to stderr: the program's own output may be read by another program.
    """
    who = f"{entry.kind} '{entry.name}' of {entry.provider}"
    patience = nullcontext() if entry.distribution == BUILT_IN else waiting(who)
    with redirect_stdout(sys.stderr), patience, plugin_code(who, f"failed to load from {entry.target}", ()):
        return EntryPoint(entry.name, entry.target, "dfw").load()
