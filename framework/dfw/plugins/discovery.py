"""Reads which plugins are installed, from package metadata alone: nothing is imported, and a broken package breaks only itself.

Imports no torch. Environment: `DFW_BLOCK_PLUGINS` holds distribution names, separated by commas, that are left out;
`DFW_NO_PLUGINS=1` leaves out everything that is not built in.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import Distribution, EntryPoint, distribution, distributions

from dfw.errors import PluginError, one_line
from dfw.plugins.torch_state import kept

log = logging.getLogger("dfw.plugins.listeners")

BUILT_IN = "dreamfw"
"""The distribution the built-in components belong to; it cannot be blocked."""
BLOCKED = "blocked (--block, DFW_BLOCK_PLUGINS or DFW_NO_PLUGINS)"
"""What messages say of a distribution that the user left out."""
LOCAL = "local"
"""The distribution name of what a notebook or a `--plugin` file registered."""

INTERFACE = 1
"""Version of the plugin interface that this core speaks: group `dfw.<kind>`; a break of it makes `dfw2.<kind>`."""

_GROUP = re.compile(r"^dfw(\d*)(\..+)?$")


@dataclass(frozen=True)
class Provider:
    """Who a plugin comes from: a `distribution`, by its normalised name, and its `version`."""

    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True)
class Found:
    """One entry point: `name` in `group`, pointing at `target` ("module:attribute" or "module"), offered by `provider`."""

    group: str
    name: str
    target: str
    provider: Provider


@dataclass(frozen=True)
class Origin:
    """Where a part of a run comes from: its qualified `name`, the distribution and its `version`, the `module` that holds it."""

    name: str
    distribution: str
    version: str
    module: str


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

    found: tuple[Found, ...]
    blocked: tuple[Found, ...]
    problems: tuple[Problem, ...]

    def group(self, name: str) -> tuple[Found, ...]:
        """The usable entry points of one group."""
        return tuple(found for found in self.found if found.group == name)

    def listeners(self, name: str) -> tuple[Found, ...]:
        """The listeners that `name` means, bare or `distribution/name`."""
        return tuple(one for one in self.group("dfw") if name in (one.name, f"{one.provider.distribution}/{one.name}"))


def normalise(name: str) -> str:
    """A distribution name as PEP 503 compares it: lower case, runs of `-_.` as one hyphen."""
    return re.sub(r"[-_.]+", "-", name).lower()


def blocked_names() -> frozenset[str]:
    """Normalised distribution names of `DFW_BLOCK_PLUGINS`. Raises PluginError when the built-in distribution is among them."""
    names = frozenset(normalise(name.strip()) for name in os.environ.get("DFW_BLOCK_PLUGINS", "").split(",") if name.strip())
    if BUILT_IN in names:
        raise PluginError(f"{BUILT_IN} holds the built-in components and cannot be blocked; block the other distribution instead")
    return names


def block(names: tuple[str, ...]) -> None:
    """Adds distributions to `DFW_BLOCK_PLUGINS` for this process and those it starts."""
    known = [name for name in os.environ.get("DFW_BLOCK_PLUGINS", "").split(",") if name.strip()]
    os.environ["DFW_BLOCK_PLUGINS"] = ",".join([*known, *names])


def useless_blocks() -> list[str]:
    """A sentence for each name of `DFW_BLOCK_PLUGINS` that blocks nothing, with the nearest one that would."""
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
        sentences.append(f"--block or DFW_BLOCK_PLUGINS: no distribution '{name}' with plugins is installed; {hint}")
    return sentences


def built_ins_only() -> bool:
    """Whether `DFW_NO_PLUGINS` asks for the built-in components alone."""
    return os.environ.get("DFW_NO_PLUGINS", "").strip().lower() not in ("", "0", "false", "no")


def scan() -> Scan:
    """Reads the entry points of all groups `dfw` and `dfw.*` on the import path; imports nothing.

    Of a distribution that is on the path twice the first copy counts, as for imports.
    """
    names, only_built_in = blocked_names(), built_ins_only()
    found: list[Found] = []
    blocked: list[Found] = []
    problems: list[Problem] = []
    for owner in _owners(problems):
        provider = Provider(normalise(owner.metadata["Name"]), owner.version)
        try:
            entry_points = list(owner.entry_points)
        except Exception as error:  # a malformed entry_points.txt must not hide the other packages
            problems.append(Problem(provider, "entry_points.txt", f"cannot be read ({error})"))
            continue
        out = provider.distribution in names or (only_built_in and provider.distribution != BUILT_IN)
        for point in entry_points:
            _sort(point, provider, blocked if out else found, problems)
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
        except Exception as error:  # metadata without a name, unreadable files
            problems.append(Problem(Provider(_place(candidate), "of unknown version"), "metadata", f"cannot be read ({error!r})"))
            continue
        if name in seen:
            continue
        seen.add(name)
        if version:
            yield first
        else:
            reason = f"has no Version; correct {_place(first)}/METADATA, or install {name} again"
            problems.append(Problem(Provider(name, "of unknown version"), "metadata", reason))


def _place(owner: Distribution) -> str:
    """The folder that holds a distribution's metadata."""
    return str(getattr(owner, "_path", "a package on the import path"))


def unreadable() -> Iterator[str]:
    """A sentence for each distribution, with plugins or without, whose entry points Python cannot read.

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


def _sort(point: EntryPoint, provider: Provider, into: list[Found], problems: list[Problem]) -> None:
    match = _GROUP.match(point.group)
    if match is None:
        return
    subject = f"{point.name} = {point.value} in group {point.group}"
    if match[1]:
        reason = f"speaks plugin interface {match[1]}, this dfw speaks {INTERFACE}; install versions of both that agree"
        problems.append(Problem(provider, subject, reason))
    elif point.pattern.match(point.value) is None:
        problems.append(Problem(provider, subject, 'not of the form "module:name"'))
    elif any((f.group, f.name, f.provider) == (point.group, point.name, provider) for f in into):
        problems.append(Problem(provider, subject, "named twice; the first one counts"))
    else:
        into.append(Found(point.group, point.name, point.value, provider))


def import_target(found: Found, subject: str) -> object:
    """Imports what `found` points at, fenced: whatever happens at import becomes a PluginError naming its distribution.

    Only KeyboardInterrupt passes, so that Ctrl-C stays Ctrl-C. What is printed meanwhile goes to stderr: the program's own output
    may be read by another program. What is changed of torch's global state is put back, and told.
    """
    who = f"{subject} of {found.provider}"
    try:
        with redirect_stdout(sys.stderr), kept(lambda changes: log.warning("importing %s changed %s; put back", who, changes)):
            return EntryPoint(found.name, found.target, found.group).load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too: a plugin must not end the program by being imported
        raise PluginError(f"{who} failed to load from {found.target}: {one_line(error)}") from error
