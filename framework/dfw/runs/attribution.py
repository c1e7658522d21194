"""Finds the component that raised an exception, so that a crash in a plugin becomes one sentence that names it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from traceback import walk_tb

from dfw.errors import one_line
from dfw.interfaces.component import Component, name_of
from dfw.plugins.fence import renaming


def culprit(error: BaseException, components: Iterable[Component]) -> Component | None:
    """Returns the component whose method raised `error`, the innermost if they call each other, or None.

    A function without `self`, such as the backward of an autograd function, counts for the component of the same package.
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
    """Turns an exception from a component into a PluginError that says who, `when()`, what was raised, and `hint`.

    A DfwError, Ctrl-C, and exceptions from no component pass unchanged. The cause keeps the traceback.
    """
    parts = list(components)

    def sentence(error: BaseException) -> str:
        found = culprit(error, parts)
        return "" if found is None else f"{name_of(found)} failed {when()}: {one_line(error)}{hint}"

    with renaming(sentence):
        yield
