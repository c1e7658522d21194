"""Whether a component can be called as the core calls it: what its methods take, looked at before anything is built."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

_HOME = "dfw.interfaces."
"""Where the interfaces are, whose public names are what the core calls."""


def mismatch(cls: type[Any]) -> str:
    """Says what `cls` overrides of its interface in a way that cannot be called, and the remedy. Returns "" for nothing."""
    if cls.__init__.__module__.startswith("torch."):
        return "has no constructor; write def __init__(self, config): super().__init__(); self.config = config"
    if not _takes(cls, 1):
        return f"is constructed with its Config, and its constructor is __init__{_written(cls)}; write __init__(self, config)"
    for name, promised in _promises(cls):
        given = inspect.getattr_static(cls, name)
        if isinstance(promised, property):
            if inspect.isfunction(given):
                return f"has {name} as a method, and it is read as a value; write @property above it"
        elif isinstance(promised, classmethod) and not isinstance(given, classmethod | staticmethod):
            return f"is asked {name}(config) before it is built; write @classmethod above `def {name}(cls, config)`"
        elif inspect.isfunction(promised) and inspect.isfunction(given) and not _fits(given, promised):
            return f"has {name}{_written(given)}, and is called as {name}{_written(promised)}; take the same arguments"
    return ""


def _promises(cls: type[Any]) -> Iterator[tuple[str, Any]]:
    """Gives the public methods and properties of the interfaces that `cls` overrides."""
    for base in cls.__mro__:
        if base.__module__.startswith(_HOME):
            for name, promised in vars(base).items():
                if not name.startswith("_") and inspect.getattr_static(cls, name) is not promised:
                    yield name, promised


def _fits(given: Any, promised: Any) -> bool:
    """Returns whether `given` takes what `promised` takes: by position, without what has a default, and that by its name."""
    parameters = list(inspect.signature(promised).parameters.values())
    needed = sum(parameter.default is parameter.empty for parameter in parameters)
    optional = [parameter.name for parameter in parameters if parameter.default is not parameter.empty]
    return _takes(given, len(parameters)) and _takes(given, needed) and _takes(given, needed, optional)


def _takes(function: Any, positional: int, named: list[str] | None = None) -> bool:
    try:
        inspect.signature(function).bind(*[None] * positional, **dict.fromkeys(named or ()))
    except TypeError:
        return False
    return True


def _written(function: Any) -> str:
    """Writes the names of what it takes, as in `(self, guidance, generator)`."""
    signature = inspect.signature(function)
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=signature.empty))
