"""A device that stands in for a GPU, on any machine: what goes wrong between a CPU and a GPU goes wrong on it too.

Experimental: it rests on private parts of torch, so a new torch may break it. The kits use it for `test_other_device`, and skip
that check where it does not work. Its names may change at any time.

Its tensors keep their numbers on the CPU, and every operator is computed there. What a second device forbids is forbidden: to
mix tensors of both, to draw from the other's generator, to read memory. Where the program waits for the device is written down.
Kernels of a component's own cannot run on it: it takes its plain-torch path, as on any device that it has no kernels for.

torch has to know of a device before the first backward pass of the process, so importing this module makes it known. On a
machine that has a real one nothing is made known: the checks run on that.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from dfw.testing.outcomes import Skip

NAME = "standin"
"""The device's type in messages: `standin:0`."""

_aten = torch.ops.aten
_COPIES = (_aten.copy_.default, _aten._to_copy.default)
_LOOKUPS = (_aten.index.Tensor, _aten.index_put_.default, _aten.index_put.default, _aten._unsafe_index.Tensor)
_JOINS = (_aten.cat.default, _aten.stack.default)
_READS = (
    *(_aten._local_scalar_dense.default, _aten.nonzero.default, _aten.masked_select.default, _aten.equal.default),
    *(_aten.bincount.default, _aten._unique2.default, _aten.unique_consecutive.default, _aten.unique_dim.default),
)


@dataclass(frozen=True)
class StandIn:
    """The stand-in in use: its `device`, and in `waits` where the program waited for it so far.

    A wait is the operator, and the place (file:line) of the innermost call outside of torch. Reading a number or a list, looking
    for what a mask selects and copying between the devices are waits; on a GPU each costs what the device still has to do.
    """

    device: torch.device
    waits: list[tuple[str, str]] = field(default_factory=list)


class StandInTensor(Tensor):
    """A tensor that is on the stand-in, as far as anybody can see; `here` is what it holds."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> StandInTensor:
        """Wraps a CPU tensor, without a copy."""
        made: StandInTensor = Tensor._make_wrapper_subclass(
            cls, here.shape, strides=here.stride(), storage_offset=here.storage_offset(), dtype=here.dtype, device=_device()
        )
        made.here = here
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        """Every operator on such tensors."""
        return _run(func, args, kwargs or {})

    @property
    def data(self) -> Tensor:
        """As torch's: the same numbers without a graph; may be set."""
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        Tensor.data.__set__(self, value)  # type: ignore[attr-defined]
        self.here = _here(value)

    def tolist(self) -> Any:
        """The numbers, brought to the CPU."""
        return self.cpu().tolist()

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"StandInTensor({tuple(self.shape)}, {self.dtype})"


class StandInGenerator(torch.Generator):
    """A random stream on the stand-in: what `torch.Generator("standin")` makes."""

    alive: ClassVar[WeakValueDictionary[int, torch.Generator]] = WeakValueDictionary()
    """All there are, by address, which is all that the torch.Generator operators are handed has in common with one."""

    def __init__(self) -> None:
        super().__init__()
        self.alive[_address(self)] = self

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """The stand-in."""
        return _device()


class _GeneratorType(type):
    """torch.Generator as long as the stand-in is there: the same class, but for what it makes."""

    plain = torch.Generator

    def __call__(cls, device: Any = "cpu") -> torch.Generator:
        return StandInGenerator() if torch.device(device).type == NAME else cls.plain(device)

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, cls.plain)


class _Generator(metaclass=_GeneratorType): ...


class _Factories(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees the operators without a tensor too, such as `torch.zeros(3, device=...)`."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


_in_use: list[StandIn] = []


@contextmanager
def stand_in() -> Iterator[StandIn]:
    """`with stand_in() as there:` and tensors can be on `there.device`. Raises Skip where it is not to be had."""
    if _absent:
        raise Skip(_absent)
    there = StandIn(_device())
    before = torch.Generator, torch.__future__.get_swap_module_params_on_conversion(), torch._C._only_lift_cpu_tensors()
    _in_use.append(there)
    try:
        torch.Generator = _Generator  # type: ignore[assignment, misc]
        torch.__future__.set_swap_module_params_on_conversion(True)  # parameters stay the same objects, as on a GPU
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor([...], device=...) is made on the CPU, then moved
        with _Factories():  # type: ignore[no-untyped-call]
            _try_backward()
            yield there
    finally:
        torch.Generator = before[0]  # type: ignore[misc]
        torch.__future__.set_swap_module_params_on_conversion(before[1])
        torch._C._set_only_lift_cpu_tensors(before[2])
        _in_use.pop()


def _device() -> torch.device:
    return torch.device(f"{NAME}:0")


@cache
def _try_backward() -> None:
    """Raises Skip if torch counted its devices before the stand-in was made known."""
    try:
        torch.ones((), device=_device(), requires_grad=True).mul(2).backward()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise Skip("a backward pass ran before dfw.testing was imported; import it first") from error


class _Module:
    """What torch asks a kind of device, `torch.standin`: outside of `stand_in` there is none of it."""

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return bool(_in_use)

    def device_count(self) -> int:
        return len(_in_use[:1])

    def current_device(self) -> int:
        return 0

    def _is_in_bad_fork(self) -> bool:
        return False

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def manual_seed_all(self, seed: int) -> None:
        """It has no global random state: generators are all there is."""

    def get_rng_state(self, device: object = None) -> Tensor:
        """Nothing."""
        return torch.empty(0, dtype=torch.uint8)

    def set_rng_state(self, state: Tensor, device: object = None) -> None:
        """Nothing to put back."""


_library = torch.library.Library("_", "IMPL")  # type: ignore[no-untyped-call]


def _make_known() -> str:
    """Tells torch of the stand-in; the reason why not, where that cannot be."""
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        return "this machine has a second device of its own"
    from torch.utils import backend_registration

    setup = getattr(backend_registration, "_setup_privateuseone_for_python_backend", None)
    if setup is None:
        return f"torch {torch.__version__} cannot make a device that stands in for a GPU; 2.10 can"
    try:
        setup(NAME, backend_module=_Module())
        _library.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")  # type: ignore[no-untyped-call]
    except RuntimeError:
        return f"another package has made the device {torch._C._get_privateuse1_backend_name()!r} known to torch"
    return ""


_absent = _make_known()


def _run(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """One operator: refuses what two devices refuse, computes on the CPU, and wraps what comes out."""
    torch._C._set_only_lift_cpu_tensors(True)  # again: it holds for a thread, and backward runs in one of its own
    leaves = tree_leaves((args, dict(kwargs)))
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    away = [tensor for tensor in tensors if isinstance(tensor, StandInTensor)]
    wanted = kwargs.get("device")
    to_there = bool(away) if wanted is None else torch.device(wanted).type == NAME
    if away and func not in _COPIES:
        _refuse_mixing(func, args, tensors)
    for leaf in leaves:
        if isinstance(leaf, torch.Generator) and (_address(leaf) in StandInGenerator.alive) != to_there:
            wanted, found = (NAME, "cpu") if to_there else ("cpu", NAME)
            raise RuntimeError(f"{func}: expected a {wanted!r} generator, found one of {found!r}")
    if func is _aten.copy_.default:
        to_there = isinstance(args[0], StandInTensor)
    if (away and (func in _READS or _masks(func, args))) or _crosses(func, args, kwargs, to_there):
        _note(func)
    here = {key: torch.device("cpu") if key == "device" and value is not None else _here(value) for key, value in kwargs.items()}
    out = func(*tree_map(_here, tuple(args)), **here)
    if func._schema.is_mutable:
        return _same(out, {id(_here(tensor)): tensor for tensor in tensors}, to_there)
    return tree_map(lambda value: StandInTensor(value) if isinstance(value, Tensor) and to_there else value, out)


def _address(generator: torch.Generator) -> int:
    return int(generator._cdata)  # type: ignore[attr-defined]


def _here(value: Any) -> Any:
    return value.here if isinstance(value, StandInTensor) else value


def _same(out: Any, given: Mapping[int, Tensor], to_there: bool) -> Any:
    """The tensors that an in-place operator was given, in place of what they hold."""

    def outside(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if id(value) not in given:
            return StandInTensor(value) if to_there else value
        if given[id(value)].shape != value.shape:
            raise Skip("the stand-in cannot change the shape of a tensor in place")
        return given[id(value)]

    return tree_map(outside, out)


def _refuse_mixing(func: Any, args: Sequence[Any], tensors: Sequence[Tensor]) -> None:
    """Raises where a tensor of the CPU meets one of the stand-in, as torch does on a GPU: single numbers and indices may."""
    changes = func._schema.is_mutable and isinstance(args[0], Tensor) and not isinstance(args[0], StandInTensor)
    indices = tree_leaves(args[1]) if func in _LOOKUPS and isinstance(args[0], StandInTensor) else []
    for tensor in tensors:
        if isinstance(tensor, StandInTensor) or any(tensor is index for index in indices):
            continue
        if tensor.dim() > 0 or func in _JOINS or changes:
            raise RuntimeError(f"{func}: expected all tensors on one device, found {_device()} and {tensor.device}")


def _crosses(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], to_there: bool) -> bool:
    """Whether a copy goes from one device to the other, and the program waits for it."""
    if func not in _COPIES:
        return False
    source = args[0] if func is _aten._to_copy.default else args[1]
    patient = bool(kwargs.get("non_blocking")) or any(args[2:])
    return isinstance(source, StandInTensor) != to_there and not (to_there and patient)


def _masks(func: Any, args: Sequence[Any]) -> bool:
    """Whether an indexing has a mask, whose number of elements the program has to wait for."""
    return func in _LOOKUPS and any(isinstance(i, Tensor) and i.dtype in (torch.bool, torch.uint8) for i in tree_leaves(args[1]))


def _note(func: Any) -> None:
    frames = [frame for frame in traceback.extract_stack() if "/torch/" not in frame.filename and frame.filename != __file__]
    place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "?"
    for there in _in_use:
        there.waits.append((str(func), place))
