"""Which precision a frozen model takes by itself, and what it costs in exactness."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_diffusion import save_tiny_model
from torch import Tensor
from torch.nn.functional import cosine_similarity

from dfw_guidance import precision
from dfw_guidance.precision import chosen_precision, cpu_multiplies_bf16
from dfw_guidance.stable_diffusion import StableDiffusion

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda"), torch.device("mps")


def with_cpu(monkeypatch: pytest.MonkeyPatch, bf16: bool) -> None:
    monkeypatch.setattr(precision, "cpu_multiplies_bf16", lambda: bf16)


@pytest.mark.parametrize(
    ("device", "bf16", "expected"),
    [
        (CPU, True, torch.bfloat16),
        (CPU, False, torch.float32),
        (CUDA, True, torch.float16),
        (CUDA, False, torch.float16),
        (MPS, True, torch.float32),
    ],
)
def test_auto_is_half_where_the_device_computes_in_it(monkeypatch, device, bf16, expected):
    with_cpu(monkeypatch, bf16)
    assert chosen_precision("auto", device, torch.float16) == expected
    assert chosen_precision("fp32", device, torch.float16) == torch.float32
    assert chosen_precision("bf16", device, torch.float16) == torch.bfloat16


def test_the_processor_says_whether_it_has_the_instructions():
    """The kernel's own list of the processor's flags, where there is one."""
    flags = Path("/proc/cpuinfo")
    if not flags.is_file():
        pytest.skip("this system has no list of the processor's flags")
    assert cpu_multiplies_bf16() == ("avx512_bf16" in flags.read_text(encoding="utf-8"))


def test_a_model_takes_it_says_so_and_gives_float32(tmp_path, monkeypatch):
    folder = save_tiny_model(tmp_path / "tiny")
    for bf16, name in ((True, "bf16"), (False, "fp32")):
        with_cpu(monkeypatch, bf16)
        model = StableDiffusion(StableDiffusion.Config(model=str(folder)))
        assert {part.dtype for part in model.children()} == {precision.DTYPES[name]}
        assert model.facts()["precision"] == name
        z = model.encode_image(torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
        assert z.dtype == model.predict(z, torch.tensor([500]), model.encode_text([""])).dtype == torch.float32


def ball(colour: tuple[float, float, float]) -> Tensor:
    """A shaded ball in front of grey (1, 3, 64, 64), as a render of a run may look."""
    along = torch.linspace(-1.2, 1.2, 64)
    y, x = torch.meshgrid(along, along, indexing="ij")
    depth = (1 - x**2 - y**2).clamp_min(0).sqrt()
    shade = 0.3 + 0.7 * (0.6 * depth - 0.5 * y + 0.4 * x).clamp(0, 1)
    inside = (x**2 + y**2 < 1).float()
    return (inside * shade * torch.tensor(colour).view(3, 1, 1) + 0.5 * (1 - inside))[None]


def test_bf16_turns_the_shipped_models_gradient_by_little():
    """The gradient that score distillation sends to the pixels, in bf16 and in fp32: cosine above 0.999.

    At low noise the difference from the drawn noise is smaller, and so is the cosine: 0.996 was measured at t = 28.
    """
    image = torch.cat([ball((0.9, 0.2, 0.1)), ball((0.1, 0.3, 0.9))])
    timestep = torch.tensor([500, 800])
    found = []
    for kind in ("fp32", "bf16"):
        model = StableDiffusion(StableDiffusion.Config(precision=kind))
        text, empty = model.encode_text(["a red mushroom", "a blue car"]), model.encode_text(["", ""])
        pixels = image.clone().requires_grad_()
        z = model.encode_image(pixels)
        noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            predicted = model.predict_noise_guided(model.add_noise(z, noise, timestep), timestep, text, empty, 10)
        found.append(torch.autograd.grad((z * (predicted - noise)).sum(), pixels)[0].flatten(1))
    assert cosine_similarity(*found).min() > 0.999
    assert not torch.equal(*found)
