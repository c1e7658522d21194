"""Networks with one hidden layer, in C++ kernels that Warp compiles, for float32 on the CPU.

These replace `dfw_geometry.layers.layers` and the gradient that torch takes of them. torch writes every layer's
values for all points to memory, and reads them again. Here eight points go through the whole network at once, within the
processor's cache. The way back computes the hidden layer again, so only the inputs are kept. `field` calls the functions below.
Without it the part of a step outside the diffusion model takes 1.18 times as long (default run), and a whole step 1.06 times.

Legend: N points, D inputs, H hidden units, K outputs, C chunks of points.

With z = W1 x + b1, m = (z > 0), y = W2 (m z) + b2 and K = 1, the gradient in the inputs is u = W1^T (m W2). `slopes` asks for it.
For upstream gradients g of y and q of u, and p = g x + q, let M be the sum of m p^T, and s that of m g, over all points. Then the
gradients are W2 M for W1, W2 s for b1, (W1 M) 1 + b1 s for W2, and g u for x.

A chunk sums the parameters' gradients over its points, and torch sums over the chunks. So the number of threads changes no bit.
"""

# mypy: ignore-errors
# (annotations below are Warp types, which only Warp checks)

from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from dfw import in_parallel, load_warp
from dfw_geometry.layers import layers

from .modules import load_kernels

enabled = True  # tests and benchmarks/fast_paths.py switch it off, to compare with the twin

_CHUNK = 2048  # points; float32 sums of more would lose digits, and a chunk's start costs as much as 20 points
_LARGEST = 2**14  # weights of the first layer: those of larger networks leave the nearest caches

_START = """
    typedef float V __attribute__((ext_vector_type(8), aligned(4)));
    enum { P = 8 };  // points that go through the network at once: as many sums stay in registers
    const size_t* at = (const size_t*)arrays;
    const float *xs = (const float*)at[0], *w1 = (const float*)at[1], *b1 = (const float*)at[2];
    const float *w2 = (const float*)at[3], *b2 = (const float*)at[4];
    const V zero = 0.0f;
    const int DV = (D + 7) / 8, HV = (H + 7) / 8, begin = chunk * size, end = begin + size < count ? begin + size : count;
    V* memory = (V*)scratch;
    const auto take = [&](int vectors) {
        V* found = memory;
        for (int v = 0; v < vectors; ++v) found[v] = zero;
        memory += vectors;
        return found;
    };
    V *by_input = take(D * HV), *by_unit = take(H * DV), *first = take(HV), *second = take(K * HV);
    for (int j = 0; j < H; ++j) {
        ((float*)first)[j] = b1[j];
        for (int o = 0; o < K; ++o) ((float*)(second + o * HV))[j] = w2[o * H + j];
        for (int k = 0; k < D; ++k) {
            ((float*)(by_input + k * HV))[j] = w1[j * D + k];
            ((float*)(by_unit + j * DV))[k] = slopes ? w2[j] * w1[j * D + k] : w1[j * D + k];
        }
    }
    V *x = take(P * DV), *h = take(P * HV), *a = take(P * HV), *u = take(P * DV);
    const auto product = [&](V* out, const V* left, int width, const V* right, int rows, int vectors, const V* start) {
        for (int v = 0; v < vectors; ++v) {
            V sum[P];
            for (int p = 0; p < P; ++p) sum[p] = start ? start[v] : zero;
            for (int r = 0; r < rows; ++r) {
                const V one = right[r * vectors + v];
                for (int p = 0; p < P; ++p) sum[p] += ((const float*)(left + p * width))[r] * one;
            }
            for (int p = 0; p < P; ++p) out[p * vectors + v] = sum[p];
        }
    };
    const auto load = [&](V* to, const float* row) {
        for (int v = 0; v < D / 8; ++v) to[v] = *(const V*)(row + 8 * v);
        for (int k = D / 8 * 8; k < D; ++k) ((float*)to)[k] = row[k];
    };
    const auto store = [&](float* row, const V* from) {
        for (int v = 0; v < D / 8; ++v) *(V*)(row + 8 * v) = from[v];
        for (int k = D / 8 * 8; k < D; ++k) row[k] = ((const float*)from)[k];
    };
    const auto add = [&](float* row, const V* from, float factor) {
        for (int v = 0; v < D / 8; ++v) *(V*)(row + 8 * v) += factor * from[v];
        for (int k = D / 8 * 8; k < D; ++k) row[k] += factor * ((const float*)from)[k];
    };
    const auto hidden = [&](int i, int points) {
        for (int p = 0; p < points; ++p) load(x + p * DV, xs + (size_t)(i + p) * D);
        product(h, x, DV, by_input, D, HV, first);
        for (int v = 0; v < P * HV; ++v) h[v] = h[v] < zero ? zero : h[v];  // NaN stays NaN
    };
"""
_FORWARD = (
    _START
    + """
    float *ys = (float*)at[5], *us = (float*)at[6];
    for (int i = begin; i < end; i += P) {
        const int points = end - i < P ? end - i : P;
        hidden(i, points);
        for (int p = 0; p < points; ++p)
            for (int o = 0; o < K; ++o) {
                V sum = zero;
                for (int v = 0; v < HV; ++v) sum += h[p * HV + v] * second[o * HV + v];
                const auto four = sum.lo + sum.hi;
                const auto two = four.lo + four.hi;
                ys[(size_t)(i + p) * K + o] = b2[o] + (two.x + two.y);
            }
        if (!slopes) continue;
        for (int v = 0; v < P * HV; ++v) a[v] = h[v] <= zero ? zero : zero + 1;
        product(u, a, HV, by_unit, H, DV, 0);
        for (int p = 0; p < points; ++p) store(us + (size_t)(i + p) * D, u + p * DV);
    }
"""
)
_BACKWARD = (
    _START
    + """
    const float *gs = (const float*)at[5], *qs = (const float*)at[6], *us = (const float*)at[7];
    float *out = (float*)at[8], *sums = (float*)at[9] + (size_t)chunk * (H * D + H + K * H + K);
    V *m = take(H * DV), *s1 = take(HV), *g2 = take(K * HV);
    float *s2 = (float*)take((K + 7) / 8), *g = (float*)take((P * K + 7) / 8);
    for (int i = begin; i < end; i += P) {
        const int points = end - i < P ? end - i : P;
        hidden(i, points);
        for (int p = 0; p < P; ++p)
            for (int o = 0; o < K; ++o) {
                g[p * K + o] = p < points ? gs[(size_t)(i + p) * K + o] : 0.0f;
                s2[o] += g[p * K + o];
            }
        for (int v = 0; v < HV; ++v) {
            V sum[P], bias = s1[v];
            for (int p = 0; p < P; ++p) sum[p] = zero + (float)slopes;
            for (int o = 0; !slopes && o < K; ++o) {
                V total = g2[o * HV + v];
                for (int p = 0; p < P; ++p) {
                    sum[p] += g[p * K + o] * second[o * HV + v];
                    total += g[p * K + o] * h[p * HV + v];
                }
                g2[o * HV + v] = total;
            }
            for (int p = 0; p < P; ++p) {
                sum[p] = h[p * HV + v] <= zero ? zero : sum[p];
                bias += slopes ? g[p] * sum[p] : sum[p];
                a[p * HV + v] = sum[p];
            }
            s1[v] = bias;
        }
        if (!slopes) product(u, a, HV, by_unit, H, DV, 0);
        for (int p = 0; p < P; ++p) {
            const size_t row = (size_t)(i + p) * D;
            V* mine = x + p * DV;
            if (p >= points) {
                for (int v = 0; v < DV; ++v) mine[v] = zero;
            } else if (slopes) {
                load(u, us + row);
                add(out + row, u, g[p]);
                load(u, qs + row);
                for (int v = 0; v < DV; ++v) mine[v] = g[p] * mine[v] + u[v];
            } else store(out + row, u + p * DV);
        }
        for (int v = 0; v < DV; ++v) {
            V right[P];
            for (int p = 0; p < P; ++p) right[p] = x[p * DV + v];
            for (int j = 0; j < H; ++j) {
                V sum = m[j * DV + v];
                for (int p = 0; p < P; ++p) sum += ((const float*)(a + p * HV))[j] * right[p];
                m[j * DV + v] = sum;
            }
        }
    }
    for (int j = 0; j < H; ++j) {
        const float scale = slopes ? w2[j] : 1.0f, sum = ((const float*)s1)[j];
        float dot = b1[j] * sum;
        for (int k = 0; k < D; ++k) {
            const float each = ((const float*)(m + j * DV))[k];
            sums[j * D + k] = scale * each;
            dot += w1[j * D + k] * each;
        }
        sums[H * D + j] = scale * sum;
        for (int o = 0; o < K; ++o) sums[H * D + H + o * H + j] = slopes ? dot : ((const float*)(g2 + o * HV))[j];
    }
    for (int o = 0; o < K; ++o) sums[H * D + H + K * H + o] = s2[o];
"""
)


def serves(inputs: Tensor, weights: Sequence[Tensor]) -> bool:
    """Whether there is a kernel for inputs (N, D) and the weights W1, b1, W2, b2 of a network."""
    if not enabled or len(weights) != 4 or weights[0].numel() > _LARGEST or torch.is_autocast_enabled("cpu"):
        return False
    return inputs.dim() == 2 and all(each.device.type == "cpu" and each.dtype == torch.float32 for each in (inputs, *weights))


@cache
def chunk_function(name: str) -> Any:
    """The C++ function `forward` or `backward` of one chunk. `arrays` is the address of all arrays' addresses; 0 is none.

    `forward` reads x, W1, b1, W2, b2, and writes y and u. `backward` reads these five, g, q and u. It writes the gradient of x,
    or adds to it if `slopes` is set, and the parameters' gradients of the chunk.
    """
    wp = load_warp()

    def chunk_of_points(
        arrays: wp.uint64,
        scratch: wp.uint64,
        D: wp.int32,
        H: wp.int32,
        K: wp.int32,
        slopes: wp.int32,
        count: wp.int32,
        size: wp.int32,
        chunk: wp.int32,
    ): ...

    chunk_of_points.__name__ = chunk_of_points.__qualname__ = f"{name}_chunk"
    return wp.func_native({"forward": _FORWARD, "backward": _BACKWARD}[name])(chunk_of_points)


@cache
def _kernels() -> dict[str, Any]:
    """The kernels `forward` and `backward`, compiled and loaded."""
    return load_kernels(__name__, {name: _kernel(name) for name in ("forward", "backward")})


def _kernel(name: str) -> Any:
    wp, run = load_warp(), chunk_function(name)

    def kernel(
        arrays: wp.uint64,
        scratch: wp.uint64,
        D: wp.int32,
        H: wp.int32,
        K: wp.int32,
        count: wp.int32,
        size: wp.int32,
        skipped: wp.int32,
    ):
        run(arrays, scratch, D, H, K, 0, count, size, wp.tid() + skipped)

    return kernel


def addresses(tensors: Sequence[Tensor | None]) -> Tensor:
    """Where each tensor's numbers are, 0 for none."""
    return torch.tensor([0 if each is None else each.data_ptr() for each in tensors])


def sizes(weights: Sequence[Tensor]) -> tuple[int, int, int]:
    """D, H and K of a network."""
    hidden, inputs = weights[0].shape
    return inputs, hidden, len(weights[3])


def scratch(weights: Sequence[Tensor]) -> int:
    """How many numbers a chunk works with."""
    inputs, hidden, outputs = sizes(weights)
    wide = (hidden + 8) * (inputs + 8)  # at least what whole vectors of a layer's weights need
    return 3 * wide + 2 * (outputs + 10) * (hidden + inputs + 16) + 16 * outputs


def in_chunks(kernel: Any, arrays: Sequence[Tensor], memory: int, numbers: Sequence[int], count: int, size: int) -> None:
    """Runs a kernel on `count` points in chunks of `size`, with `memory` numbers to work with for each thread."""
    wp, chunks = load_warp(), -(-count // size)
    share = max(-(-chunks // torch.get_num_threads()), 1)

    def run(begin: int) -> None:
        own = torch.empty(memory)
        inputs = [*(each.data_ptr() for each in arrays), own.data_ptr(), *numbers, count, size, begin]
        wp.launch(kernel, min(share, chunks - begin), inputs, device="cpu", record_tape=False)

    in_parallel([partial(run, begin) for begin in range(0, chunks, share)])


def empty_sums(weights: Sequence[Tensor], count: int, size: int) -> Tensor:
    """Room for each chunk's sums of the parameters' gradients."""
    return weights[0].new_empty(-(-count // size), sum(each.numel() for each in weights))


def split_sums(sums: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    """The parameters' gradients, summed over the chunks."""
    found = torch.split(sums.sum(0), [each.numel() for each in weights])
    return [one.view_as(each) for one, each in zip(found, weights, strict=True)]


def _launch(name: str, tensors: Sequence[Tensor | None]) -> None:
    """Runs a kernel over all points. `tensors`: x, W1, b1, W2, b2, and what else the kernel reads and writes."""
    x, *weights = tensors[:5]
    in_chunks(_kernels()[name], [addresses(tensors)], scratch(weights), sizes(weights), len(x), _CHUNK)


def _gradients(tensors: Sequence[Tensor], g: Tensor) -> tuple[Tensor, ...]:
    """The gradients of x, W1, b1, W2 and b2."""
    x, *weights = tensors
    out, sums = torch.empty_like(x), empty_sums(weights, len(x), _CHUNK)
    _launch("backward", (*tensors, g.contiguous(), None, None, out, sums))
    return out, *split_sums(sums, weights)


class Values(torch.autograd.Function):
    """y (N, K) of x (N, D), W1 (H, D), b1 (H,), W2 (K, H) and b2 (K,). Differentiable any number of times."""

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> Tensor:
        """The network."""
        tensors = tuple(each.contiguous() for each in tensors)
        ctx.save_for_backward(*tensors)
        out = tensors[0].new_empty(len(tensors[0]), len(tensors[4]))
        _launch("forward", (*tensors, out, None))
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients. If they will be differentiated again, the twin computes them."""
        tensors = ctx.saved_tensors
        if not torch.is_grad_enabled():
            return _gradients(tensors, g)
        x, *weights = tensors
        wanted = [each for each, needed in zip(tensors, ctx.needs_input_grad, strict=True) if needed]
        found = iter(torch.autograd.grad(layers(x, weights), wanted, g, create_graph=True))
        return tuple(next(found) if needed else None for needed in ctx.needs_input_grad)


def values(x: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """y (N, K) of x (N, D), for the weights W1, b1, W2, b2 that `serves` has seen."""
    out: Tensor = Values.apply(x, *weights)
    return out
