"""From samples to pixels, in C++ kernels that Warp compiles, for float32 on the CPU.

This replaces `dfw_renderers.pixels.pixels`, which is plain torch: shading, weights and sums, as some thirty operations on all
samples. Here each ray is walked along once, and back once for the gradients.

With transmittances T_i, weights w_i = T_i - T_(i+1) and upstream gradients g_i of w_i, the gradient in the optical thickness of
sample i is T_(i+1) g_i - sum over k > i of w_k g_k.

Legend: R rays, N samples packed, B views, E extra channels.
"""

# mypy: ignore-errors
# (annotations below are Warp types, which only Warp checks)

import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from dfw import load_warp
from dfw_renderers import pixels as twin
from dfw_renderers.marching import Samples
from dfw_renderers.shading import Lighting

enabled = True  # tests and benchmarks/fast_paths.py switch it off, to compare with the twin

_START = """
    const size_t* at = (const size_t*)arrays;
    const float *density = (const float*)at[0], *albedo = (const float*)at[1], *extras = (const float*)at[2];
    const float *normal = (const float*)at[3], *points = (const float*)at[4];
    const long long *views = (const long long*)at[5], *rays = (const long long*)at[6];
    const float *distance = (const float*)at[7], *length = (const float*)at[8], *lights = (const float*)at[9];
    float *weight = (float*)at[10], *after = (float*)at[11], *total = (float*)at[12];
    const int width = 5 + channels;
    float to_light[3], cosine, bright, bare, diffuse;
    const auto light = [&](size_t i) {  // sets the above; a row of `lights`: position, ambient, diffuse, textureless
        const float *one = lights + 6 * views[i], *p = points + 3 * i, *n = normal + 3 * i;
        const float x = one[0] - p[0], y = one[1] - p[1], z = one[2] - p[2], far = sqrtf(x * x + y * y + z * z);
        const float scale = 1 / (far < 1e-8f ? 1e-8f : far);
        to_light[0] = x * scale; to_light[1] = y * scale; to_light[2] = z * scale;
        cosine = n[0] * to_light[0] + n[1] * to_light[1] + n[2] * to_light[2];
        diffuse = one[4];
        bare = one[5];
        bright = diffuse * (cosine < 0 ? 0 : cosine) + one[3];
    };
"""
_FORWARD = (
    _START
    + """
    double before = 0, reaches = 1;
    for (size_t i = 0; i < count; ++i) {
        if (i == 0 || rays[i] != rays[i - 1]) { before = 0; reaches = 1; }
        double thickness = (double)density[i] * (double)length[i];
        before += thickness > thickest ? (double)thickest : thickness;
        const double left = exp(-before);
        const float w = (float)(reaches - left);
        weight[i] = w;
        after[i] = (float)left;
        reaches = left;
        float* sum = total + width * rays[i];
        if (lights) light(i);
        for (int c = 0; c < 3; ++c) {
            const float a = albedo[3 * i + c];
            sum[c] += w * (lights ? (a + bare * (1 - a)) * bright : a);
        }
        sum[3] += w;
        sum[4] += w * distance[i];
        for (int c = 0; c < channels; ++c) sum[5 + c] += w * extras[channels * i + c];
    }
"""
)
_BACKWARD = (
    _START
    + """
    const float *to_weight = (const float*)at[13], *to_total = (const float*)at[14];
    float *to_density = (float*)at[15], *to_albedo = (float*)at[16], *to_extras = (float*)at[17], *to_normal = (float*)at[18];
    double behind = 0;
    for (size_t i = count; i-- > 0;) {
        if (i + 1 == count || rays[i] != rays[i + 1]) behind = 0;
        const float *g = to_total + width * rays[i], w = weight[i];
        float each = g[3] + g[4] * distance[i] + (to_weight ? to_weight[i] : 0.0f), bent = 0;
        if (lights) light(i);
        for (int c = 0; c < 3; ++c) {
            const float a = albedo[3 * i + c], mixed = lights ? a + bare * (1 - a) : a;
            each += g[c] * (lights ? mixed * bright : a);
            bent += w * g[c] * mixed;
            to_albedo[3 * i + c] = w * g[c] * (lights ? bright * (1 - bare) : 1.0f);
        }
        if (lights)
            for (int c = 0; c < 3; ++c) to_normal[3 * i + c] = cosine < 0 ? 0 : bent * diffuse * to_light[c];
        for (int c = 0; c < channels; ++c) {
            each += g[5 + c] * extras[channels * i + c];
            to_extras[channels * i + c] = w * g[5 + c];
        }
        const bool thick = (double)density[i] * (double)length[i] > thickest;
        to_density[i] = thick ? 0.0f : (float)((after[i] * (double)each - behind) * length[i]);
        behind += (double)w * each;
    }
"""
)


def serves(density: Tensor, fixed: Sequence[Tensor]) -> bool:
    """Whether there is a kernel for samples of this density, with `fixed` tensors that must need no gradients."""
    plain = density.device.type == "cpu" and density.dtype == torch.float32
    return enabled and plain and not any(each.requires_grad for each in fixed)


@cache
def _kernels() -> dict[str, Any]:
    """The kernels, compiled and loaded. `arrays` is the address of all arrays' addresses; 0 stands for one that is absent."""
    wp = load_warp()

    @wp.func_native(_FORWARD)
    def walk_ahead(arrays: wp.uint64, count: wp.int64, channels: wp.int32, thickest: wp.float32): ...

    @wp.func_native(_BACKWARD)
    def walk_back(arrays: wp.uint64, count: wp.int64, channels: wp.int32, thickest: wp.float32): ...

    @wp.kernel(enable_backward=False)
    def forward(arrays: wp.uint64, count: wp.int64, channels: wp.int32, thickest: wp.float32):
        walk_ahead(arrays, count, channels, thickest)

    @wp.kernel(enable_backward=False)
    def backward(arrays: wp.uint64, count: wp.int64, channels: wp.int32, thickest: wp.float32):
        walk_back(arrays, count, channels, thickest)

    wp.load_module(sys.modules[__name__], device="cpu")
    return {"forward": forward, "backward": backward}


def _launch(name: str, tensors: Sequence[Tensor | None]) -> None:
    density, _, extras = tensors[:3]
    arrays = torch.tensor([0 if each is None or not each.numel() else each.data_ptr() for each in tensors])
    numbers = [arrays.data_ptr(), len(density), extras.shape[1], twin.THICKEST]
    load_warp().launch(_kernels()[name], 1, numbers, device="cpu", record_tape=False)


class Pixels(torch.autograd.Function):
    """As the twin, of density (N,), albedo (N, 3), extras (N, E) and normals (N, 3). Differentiable any number of times."""

    @staticmethod
    def forward(
        ctx: Any,
        density: Tensor,
        albedo: Tensor,
        extras: Tensor,
        normal: Tensor | None,
        points: Tensor,
        view: Tensor,
        samples: Samples,
        rays: int,
        lighting: Lighting | None,
    ) -> tuple[Tensor, Tensor]:
        """Weights and totals."""
        given = [each if each is None else each.contiguous() for each in (density, albedo, extras, normal, points, view)]
        lights = None
        if lighting is not None:
            columns = lighting.ambient, lighting.diffuse, lighting.textureless
            lights = torch.cat([lighting.position, torch.stack(columns, dim=1)], dim=1).float().contiguous()
        along = [each.contiguous() for each in (samples.ray, samples.distance, samples.length)]
        weight, after = torch.empty_like(given[0]), torch.empty_like(given[0])
        total = density.new_zeros(rays, 5 + extras.shape[1])
        arrays = [*given, *along, lights]
        _launch("forward", [*arrays, weight, after, total])
        ctx.save_for_backward(*arrays, weight, after)
        ctx.rest = points, view, samples, rays, lighting
        ctx.set_materialize_grads(False)
        return weight, total

    @staticmethod
    def backward(ctx: Any, to_weight: Tensor | None, to_total: Tensor | None) -> tuple[Tensor | None, ...]:
        """The gradients. If they will be differentiated again, the twin computes them."""
        *arrays, weight, after = ctx.saved_tensors
        density, albedo, extras, normal = arrays[:4]
        points, view, samples, rays, lighting = ctx.rest
        if torch.is_grad_enabled():
            leaves = [each for each, needed in zip(arrays, ctx.needs_input_grad, strict=False) if needed]
            both = zip(twin.pixels(*arrays[:4], points, view, samples, rays, lighting), (to_weight, to_total), strict=True)
            made, upstream = zip(*[pair for pair in both if pair[1] is not None], strict=True)
            found = iter(torch.autograd.grad(made, leaves, upstream, create_graph=True, allow_unused=True))
            return *(next(found) if needed else None for needed in ctx.needs_input_grad[:4]), *[None] * 5
        if to_total is None:
            to_total = density.new_zeros(rays, 5 + extras.shape[1])
        to_weight = to_weight if to_weight is None else to_weight.contiguous()
        out = [torch.empty_like(each) for each in (density, albedo, extras)]
        out.append(None if lighting is None else torch.empty_like(normal))
        _launch("backward", [*arrays, weight, after, None, to_weight, to_total.contiguous(), *out])
        return *out, *[None] * 5


def pixels(*given: Any) -> tuple[Tensor, Tensor]:
    """As the twin."""
    return Pixels.apply(*given)
