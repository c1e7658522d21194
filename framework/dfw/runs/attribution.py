"""Which component an exception comes out of: so that a crash inside a plugin is one sentence that names it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from traceback import walk_tb

from dfw.errors import DfwError, PluginError, one_line
from dfw.interfaces.component import Component, name_of


def culprit(error: BaseException, components: Iterable[Component]) -> Component | None:
    """The component in whose method `error` was raised, the innermost if they call each other; None when it was in none.

    A function without a `self` (the backward of an autograd function, say) counts for the component whose package it is in.
    """
    parts = list(components)
    frames = [frame for frame, _ in walk_tb(error.__traceback__)][::-1]
    for frame in frames:
        for component in parts:
            if id(frame.f_locals.get("self")) == id(component):
                return component
    for frame in frames:
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        for component in parts:
            if package == type(component).__module__.partition(".")[0] != __name__.partition(".")[0]:
                return component
    return None


@contextmanager
def naming(components: Iterable[Component], when: Callable[[], str], hint: str = "") -> Iterator[None]:
    """Turns what comes out of a component, other than a DfwError, into a PluginError: who, `when()`, what was raised, `hint`.

    Ctrl-C passes, and so does what comes out of no component. The cause keeps the traceback.
    """
    parts = list(components)
    try:
        yield
    except (DfwError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # SystemExit too: a component must not end the program
        found = culprit(error, parts)
        if found is None:
            raise
        raise PluginError(f"{name_of(found)} failed {when()}: {one_line(error)}{hint}") from error
