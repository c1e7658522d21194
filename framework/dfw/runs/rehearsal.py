"""A checkpoint in memory, before the first step: state that no checkpoint holds is found by name, and not after 200 steps.

Every function raises PluginError, which names the component, its distribution and version.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from safetensors.torch import save
from torch import Size, Tensor, nn

from dfw.errors import PluginError, one_line
from dfw.interfaces.component import Component, name_of
from dfw.interfaces.loss import Loss
from dfw.plugins.fence import renaming
from dfw.runs.checkpoint import optimizer_tensors

log = logging.getLogger("dfw.runs")

Shapes = dict[str, Size]
_KEY = re.compile(r"[A-Za-z0-9][\w.-]{0,49}")  # it becomes a part of a file name


def unfit(component: Component, what: str) -> PluginError:
    """The error to raise: `losses.glow (acme/glow, acme 0.3) cannot be kept in a checkpoint: state_dict() ...`."""
    return PluginError(f"{name_of(component)} cannot be kept in a checkpoint: {what}")


def state_of(component: Component, unmade: bool = False) -> dict[str, Tensor]:
    """Returns the state_dict of a component that is a torch module; all of it can be written to a file.

    `unmade`: tensors without a shape are left out, which a new component may still have.
    """
    assert isinstance(component, nn.Module)
    with renaming(lambda error: str(unfit(component, f"state_dict() raised {one_line(error)}"))):
        state: object = component.state_dict()
    if not isinstance(state, Mapping):
        raise unfit(component, f"state_dict() gave a {type(state).__name__}, not a dict of names to tensors")
    found = {name: value for name, value in state.items() if not (unmade and torch.nn.parameter.is_lazy(value))}
    for name, value in found.items():
        wrong = _wrong_with(name, value)
        if wrong:
            raise unfit(component, wrong)
    return found


def _wrong_with(name: object, value: object) -> str:
    if not isinstance(name, str):
        return f"state_dict() has the name {name!r}, which is not text"
    if not isinstance(value, Tensor):
        source = "get_extra_state() gave" if name.endswith("_extra_state") else f"{name!r} of state_dict() is"
        return f"{source} a {type(value).__name__}, and a file holds tensors alone; keep it in a tensor, by register_buffer"
    if torch.nn.parameter.is_lazy(value):
        return f"{name!r} has no shape before the first step; give it one in __init__"
    if value.layout != torch.strided:
        return f"{name!r} is {str(value.layout).removeprefix('torch.')}; keep a dense tensor, e.g. its indices and its values"
    try:
        save({name: value.detach().reshape(-1)[:1].cpu().clone()})
    except Exception as error:  # a dtype that safetensors does not know
        return f"{name!r} of {value.dtype} cannot be written ({one_line(error)})"
    return ""


def rehearse(component: Component) -> None:
    """Puts the state of a component back into it, and compares: values, names, and which tensors it trains."""
    assert isinstance(component, nn.Module)
    before = {name: tensor.detach().clone() for name, tensor in state_of(component).items()}
    trained = {name: id(parameter) for name, parameter in component.named_parameters()}
    with torch.no_grad(), renaming(lambda error: str(unfit(component, f"load_state_dict() raised {one_line(error)}"))):
        component.load_state_dict(before)
    after = state_of(component)
    if before.keys() != after.keys():
        raise unfit(component, f"after load_state_dict() it has other names: {_some(before.keys() ^ after.keys())}")
    different = [name for name, tensor in before.items() if not _same(tensor, after[name])]
    if different:
        raise unfit(
            component, f"load_state_dict(state_dict()) does not restore {_some(different)}; copy every tensor back as it was"
        )
    if trained != {name: id(parameter) for name, parameter in component.named_parameters()}:
        raise unfit(
            component, "load_state_dict() puts new parameters in place of those that the optimizer trains; copy into them"
        )


def _same(a: Tensor, b: Tensor) -> bool:
    """Returns whether two tensors agree bit for bit, NaN included."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return torch.equal(*(one.detach().contiguous().reshape(-1).view(torch.uint8) for one in (a, b)))


def _some(names: Iterable[str]) -> str:
    first, *others = sorted(names)
    return repr(first) + (f" and {len(others)} more" if others else "")


def optimizers_of(loss: Loss) -> dict[str, torch.optim.Optimizer]:
    """Returns what `Loss.optimizers` gives: optimisers under names that can be parts of file names."""
    given: Any = loss.optimizers()
    if not isinstance(given, Mapping):
        raise unfit(loss, f"optimizers() gave a {type(given).__name__}, not a dict of names to optimisers")
    for key, value in given.items():
        if not isinstance(key, str) or _KEY.fullmatch(key) is None:
            raise unfit(loss, f"optimizers() has the name {key!r:.80}; write letters, digits, '.', '_' and '-'")
        if not isinstance(value, torch.optim.Optimizer):
            raise unfit(loss, f"optimizers() has a {type(value).__name__} under {key!r}, not a torch.optim.Optimizer")
    return dict(given)


def check_optimizers(loss: Loss) -> None:
    """Checks that the state of the optimisers of a loss, as it is now, can be written and read: tensors, numbers and text."""
    again = optimizers_of(loss)
    for key, optimizer in optimizers_of(loss).items():
        if optimizer is not again.get(key):
            raise unfit(loss, f"optimizers() makes {key!r} anew with each call; make it once, in bind, and return that one")
        with renaming(lambda error: str(unfit(loss, f"the optimiser {key!r} has a state that {one_line(error)}"))):  # noqa: B023
            tensors, plain = optimizer_tensors(optimizer)
            json.dumps(plain)
        for wrong in filter(None, (_wrong_with(name, tensor) for name, tensor in tensors.items())):
            raise unfit(loss, f"the optimiser {key!r}: {wrong}")


def shapes_of(component: Component) -> Shapes:
    """Returns name -> shape of a component's state, as far as it is made."""
    return {name: tensor.shape for name, tensor in state_of(component, unmade=True).items()}


def grown(component: Component, new: Shapes) -> str:
    """Says how the state of a component differs from that of a `new` one, which a checkpoint is restored into. Nothing: it fits.

    A component that writes `allocate` makes room for whatever a checkpoint holds.
    """
    written = getattr(type(component), "allocate", None)
    if written is not None and not written.__module__.startswith("dfw.interfaces."):
        return ""
    now = shapes_of(component)
    for name in sorted(now.keys() | new.keys()):
        was, is_now = (f"has shape {tuple(found[name])}" if name in found else "is not there" for found in (new, now))
        if was != is_now:
            return (
                f"{name!r} {is_now}, and in a new component it {was}; make it in __init__ in its final shape, or write "
                "allocate(shapes), which is called before a checkpoint is restored"
            )
    return ""


class Rehearsal:
    """The components that a checkpoint holds, and what their state is like when they are new."""

    def __init__(self) -> None:
        self._met: list[tuple[Component, Shapes]] = []
        self._told: set[int] = set()

    def meet(self, *components: Component) -> None:
        """Looks at new components, before they are drawn or trained: so a resumed run finds them."""
        self._met += [(component, shapes_of(component)) for component in components]

    def before(self) -> None:
        """Before the first step: saves everything to memory and loads it back. The run keeps its bits."""
        for component, _ in self._met:
            rehearse(component)
            if isinstance(component, Loss):
                check_optimizers(component)

    def after(self) -> None:
        """After the first step: checks what was made or has grown in it."""
        for component, new in self._met:
            wrong = grown(component, new)
            if wrong:
                raise unfit(component, f"after the first step {wrong}")
            if isinstance(component, Loss):
                check_optimizers(component)

    def warn(self) -> None:
        """With each checkpoint: warns once of a component that has grown so that it cannot be restored."""
        for component, new in self._met:
            wrong = grown(component, new)
            if wrong and id(component) not in self._told:
                self._told.add(id(component))
                log.warning("%s", unfit(component, wrong))
