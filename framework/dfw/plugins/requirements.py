"""What a run asks for in `plugins:`, held against what is installed. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

from packaging.requirements import InvalidRequirement, Requirement

from dfw.errors import ConfigError, PluginError
from dfw.plugins.discovery import BLOCKED, normalise, scan


def version_of(distribution: str) -> str:
    """Returns the installed version of a distribution, or `unknown`."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown"


def check_requirements(requirements: Iterable[str], where: str = "plugins") -> None:
    """Checks from metadata alone that what a run requires is installed. `where` begins the message.

    Raises ConfigError for text that is not a requirement. Raises PluginError, with the `pip install` line, for what is missing or
    too old.
    """
    lacking: list[str] = []
    blocked = {entry.provider for entry in scan().blocked}
    for text in requirements:
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            first = str(error).splitlines()[0]
            raise ConfigError(f'{where}: {text!r} is not a requirement ({first}); write e.g. "dreamfw-acme>=0.3"') from error
        if requirement.url is not None and "://" not in requirement.url:
            name = requirement.name
            raise ConfigError(f'{where}: {text!r} asks for an address, not for a version; write "{name}=={requirement.url}"')
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
        raise PluginError(
            f"{where}: this run needs {', '.join(lacking)}; run: pip install {line} (or give pip the folder or git address)"
        )
