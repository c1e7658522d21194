"""What of a step is shared out: the views that are rendered, and the rows that a guidance evaluates.

Legend: B views of the step. Every process has the step's whole records before and after.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dfw.errors import PluginError
from dfw.interfaces.checks import check_render, version_of
from dfw.interfaces.component import name_of
from dfw.interfaces.data import CameraBatch, Conditioning, Record, RenderOutput
from dfw.interfaces.draws import Share, sharing
from dfw.interfaces.geometry import Geometry
from dfw.interfaces.guidance import Adapter, Guidance
from dfw.interfaces.renderer import Renderer
from dfw.ranks.exchange import Rows, entering, gathered, shared_parameters
from dfw.ranks.group import Connection

log = logging.getLogger("dfw.ranks")

_SHARED = "_dfw_shared"


class Sharing:
    """Shares the work of the steps over the processes of one connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.inside = False
        """Whether this process works on rows of its own; what is called then is not shared again."""
        self._whole = False

    @contextmanager
    def own_rows(self) -> Iterator[None]:
        """Inside, this process works on rows of its own."""
        self.inside = True
        try:
            yield
        finally:
            self.inside = False

    def render(self, renderer: Renderer, geometry: Geometry, cameras: CameraBatch, generator: torch.Generator) -> RenderOutput:
        """Returns the render of all `cameras`: each process renders whole groups of `together` views.

        A renderer that draws from `generator` without `draw_views` renders all views in every process, from then on. So does
        one of pictures, which are not a scene in space. The gradient that reaches the parameters here is the process's own part
        times the number of processes: the mean over the processes (`Party.average`) is the gradient of the whole.
        """
        if self._whole or "image" in type(geometry).provides(geometry.config):
            output: RenderOutput = renderer(geometry, cameras, generator)
            return output
        ours = self.connection
        rows = Rows.of(len(cameras), cameras.together, ours.rank, ours.count)
        before, part = generator.get_state(), cameras.select(rows.slice(cameras.together))
        share = Share(generator, rows.slice(cameras.together).start, len(part), len(cameras))
        with sharing(share), self.own_rows(), _unchanged(renderer, renderer, geometry):
            own: RenderOutput = renderer(geometry, part, generator)
        check_render(renderer, geometry, part, own)
        samples = 0 if own.samples is None or not rows.kept else len(own.samples.weight)
        told = ours.tell((share.foreign, samples))
        if any(foreign for foreign, _ in told):
            log.info("%s draws numbers without draw_views, so every process renders all views", name_of(renderer))
            self._whole = True
            generator.set_state(before)
            return self.render(renderer, geometry, cameras, generator)
        return self._joined(own, rows, [count for _, count in told])

    def _joined(self, own: RenderOutput, rows: Rows, samples: list[int]) -> RenderOutput:
        """The render of all views, from each process's own; `samples`: how many each has of those along rays."""
        ours = self.connection

        def views(value: Any) -> Any:
            if isinstance(value, Tensor):
                return gathered(value, ours, rows.counts, ours.count)
            return {key: views(item) for key, item in value.items()} if isinstance(value, Mapping) else value

        found = {one.name: views(getattr(own, one.name)) for one in fields(own) if one.name != "samples"}
        if own.samples is None:
            return replace(own, **found)
        rays = own.opacity[0].numel()
        packed = replace(own.samples, ray=own.samples.ray + rows.first * rays)
        return replace(own, **found, samples=packed.mapped(lambda tensor: gathered(tensor, ours, samples, ours.count)))

    def by_rows(self, work: Callable[..., Tensor], block: int, module: nn.Module | None, given: tuple[Any, ...]) -> Tensor:
        """Returns `work(*given)`, of which each process computes some rows: `block` consecutive ones stay together.

        module: whose parameters `work` trains, if any. Gradients of tensors in `given` and of these parameters are whole.
        """
        ours = self.connection
        whole = _rows_of(given)
        if self.inside or not whole or whole % block:
            return work(*given)
        rows = Rows.of(whole, block, ours.rank, ours.count)
        parameters = {}
        if module is not None and torch.is_grad_enabled():
            parameters = {name: one for name, one in module.named_parameters() if one.requires_grad}
        with self.own_rows():
            mine = [_mapped(one, lambda tensor: entering(tensor, ours, rows, block)) for one in given]
            if module is None or not parameters:
                return gathered(work(*mine), ours, rows.counts)
            used = dict(zip(parameters, shared_parameters(ours, [*parameters.values()]), strict=True))
            found: Tensor = functional_call(module, used, tuple(mine))
            return gathered(found, ours, rows.counts)


def _rows_of(given: tuple[Any, ...]) -> int | None:
    """How many rows all tensors and records of `given` have; None where they differ."""
    counts = {len(one) if one.dim() else 0 for one in given if isinstance(one, Tensor)}
    counts |= {len(one) for one in given if isinstance(one, CameraBatch | Conditioning)}
    return counts.pop() if len(counts) == 1 else None


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Record):
        return value.mapped(change)
    return change(value) if isinstance(value, Tensor) else value


@contextmanager
def _unchanged(renderer: Renderer, *modules: nn.Module) -> Iterator[None]:
    """Raises PluginError for a buffer that rendering changes: it would differ between processes, which see other views."""
    before = [(name, buffer, version_of(buffer)) for one in modules for name, buffer in one.named_buffers()]
    yield
    for name, buffer, version in before:
        if version_of(buffer) != version:
            raise PluginError(
                f"{name_of(renderer)} changes {name!r} while it renders, which would differ between the processes of a run, "
                "since each renders other views; change it in begin_step or end_step, or run one process"
            )


def share_guidance(guidance: Guidance, current: Callable[[], Sharing | None]) -> None:
    """Lets `guidance`, and the adapters that it makes, evaluate rows in several processes, where `current` gives a Sharing.

    Once is enough: a process may keep a guidance from one run to the next.
    """
    if getattr(type(guidance), _SHARED, False):
        return
    sees = type(guidance).sees(guidance.config)

    def adapter(self: Guidance, rank: int, generator: torch.Generator) -> Adapter:
        found: Adapter = super(shared, self).adapter(rank, generator)
        own = own_class(found)
        own.forward = _by_rows(own, "forward", sees, current, trained=True)
        return found

    shared = own_class(guidance)
    shared.adapter = adapter
    setattr(shared, _SHARED, True)
    for name, block in (("predict", sees), ("encode_image", 1), ("decode_image", 1)):
        setattr(shared, name, _by_rows(shared, name, block, current))


def own_class(module: nn.Module) -> Any:
    """Gives a module a class of its own, below the one it has, whose methods can be replaced."""
    cls = type(module)
    own = type(cls.__name__, (cls,), {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__})
    module.__class__ = own
    return own


def _by_rows(
    cls: type, name: str, block: int, current: Callable[[], Sharing | None], trained: bool = False
) -> Callable[..., Tensor]:
    def method(self: Any, *given: Any, **named: Any) -> Tensor:
        work = getattr(super(cls, self), name)
        now = current()
        if now is None or named:
            found: Tensor = work(*given, **named)
            return found
        return now.by_rows(work, block, self if trained else None, given)

    return method
