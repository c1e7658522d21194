"""The hash grid's encoding and its derivatives, as torch functions over Warp kernels, for float32 on CPU and CUDA.

This replaces `dfw_geometry.hash_grid.hash_grid_twin`, which is plain torch and serves every device and float type.
Without it a step of the default run takes 2.6 times as long, and the part of it outside the diffusion model 6.4 times.

Legend: N points, L levels, F features per level, E table rows of all levels together.

With f(x, T) the encoding, linear in the table T, everything is made of six multilinear maps (see `hash_grid_kernels`):
encode f(x, T); scatter, its adjoint in T; input_gradient (df/dx)^T g; directional (df/dx) v, and its adjoint in T;
curvature d/dx of g . (df/dx) v. So first and second derivatives are complete, points included, where f is differentiable.

On a CPU the launches are split over torch.get_num_threads() Python threads. Their number changes no bit of a result: points are
split where each writes its own row, levels where rows are shared. On CUDA atomics sum the table's gradient, in no fixed order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dfw import in_parallel, load_warp

from . import hash_grid_vectors

enabled = True  # tests and benchmarks/fast_paths.py switch it off, to compare with the twin

_FEWEST = 2048  # points of a thread; a launch costs as much as 700 points, so that smaller parts would not pay
_Run = Callable[[int, range, range], None]  # tile size, tiles, levels: a part of one kernel's work


def serves(points: Tensor, table: Tensor) -> bool:
    """Whether there are kernels for this device and this float type."""
    return enabled and points.device.type in ("cpu", "cuda") and points.dtype == table.dtype == torch.float32


@cache
def _vector(features: int) -> Any:
    wp = load_warp()
    return wp.types.vector(length=features, dtype=wp.float32)


def _array_types(names: Sequence[str], features: int) -> list[Any]:
    """Warp's array types of a kernel's arrays."""
    wp, vec = load_warp(), _vector(features)
    types = {"rows": wp.array(dtype=vec), "features": wp.array2d(dtype=vec), "vectors": wp.array(dtype=wp.vec3)}
    return [types[name] for name in names]


_ARRAYS = {
    "encode": ("vectors", "rows", "features"),
    "scatter": ("vectors", "features", "rows"),
    "input_gradient": ("vectors", "rows", "features", "vectors"),
    "directional": ("vectors", "vectors", "rows", "features"),
    "directional_scatter": ("vectors", "vectors", "features", "rows"),
    "curvature": ("vectors", "vectors", "rows", "features", "vectors"),
}
"""What each kernel takes, and last what it writes: table rows (E,) or features (N, L) of F numbers, or vectors (N,) of 3."""

_PER_POINT = {"input_gradient", "curvature"}  # kernels that walk through the levels themselves


@cache
def _kernel(name: str, features: int, device: str) -> Any:
    """The kernel for F features, compiled and loaded on `device` before any thread launches it."""
    from . import hash_grid_kernels

    wp = load_warp()
    overloads = {}
    for each, arrays in _ARRAYS.items():
        *inputs, output = _array_types(arrays, features)
        numbers = [wp.int32] * (3 if each in _PER_POINT else 4)
        overloads[each] = wp.overload(getattr(hash_grid_kernels, each), [*inputs, wp.array2d(dtype=wp.int32), *numbers, output])
    wp.load_module(hash_grid_kernels, device=device)
    return overloads[name]


def _launch(name: str, tensors: Sequence[Tensor], meta: Tensor) -> None:
    """Runs one kernel over all points. `tensors` as `_ARRAYS` says: inputs, and last the output."""
    features = int(next(t for t, kind in zip(tensors, _ARRAYS[name], strict=True) if kind != "vectors").shape[-1])
    count, levels = int(tensors[0].shape[0]), int(meta.shape[0])
    if count == 0:
        return
    if meta.device.type == "cuda":
        _generic(name, tensors, meta, features)(1, range(count), range(levels))
        return
    run = _vectors(name, tensors, meta, features) or _generic(name, tensors, meta, features)
    if _ARRAYS[name][-1] == "rows":
        in_parallel([partial(run, count, range(1), range(level, level + 1)) for level in range(levels)])
    else:
        tile = max(_FEWEST, -(-count // torch.get_num_threads()))
        in_parallel([partial(run, tile, range(k, k + 1), range(levels)) for k in range(-(-count // tile))])


def _generic(name: str, tensors: Sequence[Tensor], meta: Tensor, features: int) -> _Run:
    """A call of the kernel that serves every device and number of features."""
    wp, device = load_warp(), meta.device
    kernel = _kernel(name, features, str(device))
    kinds = {"rows": _vector(features), "features": _vector(features), "vectors": wp.vec3}
    *inputs, output = [
        wp.from_torch(tensor.detach(), dtype=kinds[kind], requires_grad=False)
        for tensor, kind in zip(tensors, _ARRAYS[name], strict=True)
    ]
    grid, count = wp.from_torch(meta, dtype=wp.int32, requires_grad=False), int(tensors[0].shape[0])

    def run(tile: int, tiles: range, span: range) -> None:
        split = (len(tiles), len(span))
        dim, first = (split[:1], [tiles.start]) if name in _PER_POINT else (split, [tiles.start, span.start])
        stream = wp.stream_from_torch(torch.cuda.current_stream(device)) if device.type == "cuda" else None
        wp.launch(
            kernel, dim, [*inputs, grid, count, tile, *first], [output], device=str(device), stream=stream, record_tape=False
        )

    return run


def _vectors(name: str, tensors: Sequence[Tensor], meta: Tensor, features: int) -> _Run | None:
    """A call of the CPU's own kernel, or None where there is none."""
    if not hash_grid_vectors.serves(name, features):
        return None
    wp, kernel = load_warp(), hash_grid_vectors.kernels(features)[name]
    points, source, out = [tensor.data_ptr() for tensor in tensors]
    grid, levels, count = meta.data_ptr(), len(meta), len(tensors[0])

    def run(tile: int, tiles: range, span: range) -> None:
        inputs = [points, 0, source, 0, grid, levels, count, tile, tiles.start, span.start, span.stop, out]
        wp.launch(kernel, len(tiles), inputs, device="cpu", record_tape=False)

    return run


def _features(like: Tensor, meta: Tensor, table: Tensor) -> Tensor:
    return like.new_empty(like.shape[0], meta.shape[0], table.shape[1])


class Encode(torch.autograd.Function):
    """f(x, T): points (N, 3) in [0, 1], table (E, F), meta (L, 4) int32 -> (N, L, F); float32, contiguous."""

    @staticmethod
    def forward(ctx: Any, points: Tensor, table: Tensor, meta: Tensor) -> Tensor:
        """Trilinear interpolation on every level."""
        ctx.save_for_backward(points, table, meta)
        out = _features(points, meta, table)
        _launch("encode", (points, table, out), meta)
        return out

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """Differentiable once more, in points, table and upstream."""
        points, table, meta = ctx.saved_tensors
        upstream = upstream.contiguous()
        to_points = input_gradient(points, table, upstream, meta) if ctx.needs_input_grad[0] else None
        to_table = scatter(points, upstream, meta, table.shape[0]) if ctx.needs_input_grad[1] else None
        return to_points, to_table, None


class Scatter(torch.autograd.Function):
    """The adjoint of f in T: points (N, 3), upstream (N, L, F) -> (E, F)."""

    @staticmethod
    def forward(ctx: Any, points: Tensor, upstream: Tensor, meta: Tensor, rows: int) -> Tensor:
        """Adds each point's upstream to the rows it was interpolated from."""
        ctx.save_for_backward(points, upstream, meta)
        out = upstream.new_zeros(rows, upstream.shape[2])
        _launch("scatter", (points, upstream, out), meta)
        return out

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        """The sum is linear in upstream, so this is an encoding again."""
        points, upstream, meta = ctx.saved_tensors
        cotangent = cotangent.contiguous()
        to_points = input_gradient(points, cotangent, upstream, meta) if ctx.needs_input_grad[0] else None
        to_upstream = encode(points, cotangent, meta) if ctx.needs_input_grad[1] else None
        return to_points, to_upstream, None, None


class InputGradient(torch.autograd.Function):
    """(df/dx)^T g: points (N, 3), table (E, F), upstream g (N, L, F) -> (N, 3)."""

    @staticmethod
    def forward(ctx: Any, points: Tensor, table: Tensor, upstream: Tensor, meta: Tensor) -> Tensor:
        """The gradient with respect to the points; in a cell's face, that of the cell above it."""
        ctx.save_for_backward(points, table, upstream, meta)
        out = torch.zeros_like(points)
        _launch("input_gradient", (points, table, upstream, out), meta)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, direction: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        """Gradients to points (mixed second derivatives), table and upstream. Not differentiable a third time."""
        points, table, upstream, meta = ctx.saved_tensors
        direction = direction.contiguous()
        to_points = to_table = to_upstream = None
        if ctx.needs_input_grad[0]:
            to_points = torch.zeros_like(points)
            _launch("curvature", (points, direction, table, upstream, to_points), meta)
        if ctx.needs_input_grad[1]:
            to_table = torch.zeros_like(table)
            _launch("directional_scatter", (points, direction, upstream, to_table), meta)
        if ctx.needs_input_grad[2]:
            to_upstream = _features(points, meta, table)
            _launch("directional", (points, direction, table, to_upstream), meta)
        return to_points, to_table, to_upstream, None


def encode(points: Tensor, table: Tensor, meta: Tensor) -> Tensor:
    """f(x, T): points (N, 3), table (E, F), meta (L, 4) -> (N, L, F)."""
    out: Tensor = Encode.apply(points, table, meta)  # type: ignore[no-untyped-call]
    return out


def scatter(points: Tensor, upstream: Tensor, meta: Tensor, rows: int) -> Tensor:
    """The adjoint of `encode` in the table: points (N, 3), upstream (N, L, F) -> (rows, F)."""
    out: Tensor = Scatter.apply(points, upstream, meta, rows)  # type: ignore[no-untyped-call]
    return out


def input_gradient(points: Tensor, table: Tensor, upstream: Tensor, meta: Tensor) -> Tensor:
    """(df/dx)^T g: points (N, 3), table (E, F), upstream (N, L, F) -> (N, 3)."""
    out: Tensor = InputGradient.apply(points, table, upstream, meta)  # type: ignore[no-untyped-call]
    return out
