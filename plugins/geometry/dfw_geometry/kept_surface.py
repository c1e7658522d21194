"""One extraction of the surface for all who ask for it in a step, so that they share its graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dfw import Triangles


@dataclass(frozen=True)
class Extracted:
    """A surface that was extracted from a grid."""

    triangles: Triangles
    """The triangles, with gradients."""
    ends: Tensor
    """(V, 2), signed values at both ends of each crossed edge, with gradients."""


class KeptSurface:
    """Keeps the last surface while it is the one that the parameters give. A backward pass frees its graph, and so ends it."""

    def __init__(self) -> None:
        self._key: Any = None
        self._value: Extracted | None = None

    def forget(self) -> None:
        """Lets go of the surface and of its graph."""
        self._key = self._value = None

    def of(self, parameters: Sequence[nn.Parameter], extract: Callable[[], Extracted]) -> Extracted:
        """Returns the kept surface, or extracts it anew if `parameters` have changed. Without gradients it keeps nothing."""
        if not torch.is_grad_enabled():
            return extract()
        key = [(id(one), one._version, one.dtype, one.device, len(one)) for one in parameters]
        if self._value is None or key != self._key:
            self._key, self._value = key, extract()
            for tensor in (self._value.triangles.vertices, self._value.ends):
                if tensor.requires_grad:
                    tensor.register_hook(self._used)  # type: ignore[no-untyped-call]
        return self._value

    def _used(self, gradient: Tensor) -> None:
        self.forget()

    def __deepcopy__(self, memo: object) -> KeptSurface:
        """A copied geometry extracts its own: tensors with a graph cannot be copied."""
        return KeptSurface()

    def __reduce__(self) -> tuple[type[KeptSurface], tuple[()]]:
        return KeptSurface, ()
