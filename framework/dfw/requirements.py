"""What a run may ask for in `plugins:`, as text. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable

from packaging.requirements import InvalidRequirement, Requirement

from dfw.errors import ConfigError


def refuse_addresses(requirements: Iterable[str], where: str = "plugins") -> None:
    """That no requirement writes its version as an address, `acme@0.5`, which any version would satisfy. Raises ConfigError."""
    for text in requirements:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue  # told where requirements are compared with what is installed
        if requirement.url is not None and "://" not in requirement.url:
            name = requirement.name
            raise ConfigError(f'{where}: {text!r} asks for an address, not for a version; write "{name}=={requirement.url}"')
