"""The closed-form prior against autograd of the log density it claims to know: mixtures, prompts, full covariances."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dfw.config.load import load_config
from dfw.plugins.registry import registry
from dfw_guidance.gaussian import Gaussian

OVER_COLOURS = ((0.09, 0.05, 0.0), (0.05, 0.16, -0.02), (0.0, -0.02, 0.04))
RED, BLUE, GREEN = (0.9, 0.2, 0.1), (0.1, 0.3, 0.8), (0.2, 0.7, 0.3)


def gaussian(**options: object) -> Gaussian:
    return Gaussian(Gaussian.Config.model_validate(options)).double()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def spread_over_everything(side: int, seed: int = 3) -> Tensor:
    """A positive definite matrix over all 3 x side x side numbers."""
    root = noise(3 * side**2, 3 * side**2, seed=seed) / 5
    return root @ root.T + 0.02 * torch.eye(3 * side**2, dtype=torch.float64)


def ideal(z: Tensor, t: int, model: Gaussian, components: list[tuple[float, tuple[float, float, float], Tensor]]) -> Tensor:
    """-sigma grad log p(z_t), the mixture's density written out with torch.distributions, weights and all."""
    z = z.clone().requires_grad_()
    alpha, sigma = model.schedule.alpha[t].double(), model.schedule.sigma[t].double()
    size = z[0].numel()
    terms = []
    for weight, colour, covariance in components:
        mean = (2 * torch.tensor(colour, dtype=torch.float64) - 1).repeat_interleave(size // 3)
        diffused = alpha**2 * covariance + sigma**2 * torch.eye(size, dtype=torch.float64)
        normal = torch.distributions.MultivariateNormal(alpha * mean, diffused)
        terms.append(math.log(weight) + normal.log_prob(z.flatten(1)))
    (score,) = torch.autograd.grad(torch.stack(terms).logsumexp(0).sum(), z)
    return -sigma * score


def channels(matrix: tuple[tuple[float, ...], ...], side: int) -> Tensor:
    return torch.kron(torch.tensor(matrix, dtype=torch.float64), torch.eye(side**2, dtype=torch.float64))


@pytest.mark.parametrize("t", [0, 150, 600, 999])
def test_a_prompt_is_a_mixture_and_its_prediction_the_densitys_gradient(t: int) -> None:
    """Weights, spreads and covariances differ among the components of one prompt; another prompt's are not looked at."""
    full = spread_over_everything(2)
    coin = [
        {"mean": RED, "weight": 3, "covariance": OVER_COLOURS},
        {"mean": BLUE, "weight": 1, "covariance": full.tolist()},
        {"mean": GREEN, "weight": 2},
    ]
    model = gaussian(means={"a coin": coin, "a wall": GREEN}, std=0.3, resolution=2)
    z = noise(5, 3, 2, 2) * 0.7
    plain = 0.09 * torch.eye(12, dtype=torch.float64)
    parts = [(1 / 2, RED, channels(OVER_COLOURS, 2)), (1 / 6, BLUE, full), (1 / 3, GREEN, plain)]
    found = model.predict_noise(z, torch.full((5,), t), model.encode_text(["a coin"] * 5))
    torch.testing.assert_close(found, ideal(z, t, model, parts), rtol=1e-9, atol=1e-10)
    wall = model.predict_noise(z, torch.full((5,), t), model.encode_text(["a wall"] * 5))
    torch.testing.assert_close(wall, ideal(z, t, model, [(1.0, GREEN, plain)]), rtol=1e-9, atol=1e-10)


def test_no_prompt_is_the_even_mixture_of_prompts_not_of_components() -> None:
    coin = [{"mean": RED}, {"mean": BLUE}, {"mean": RED, "std": 0.5}]
    model = gaussian(means={"a coin": coin, "a wall": GREEN}, std=0.2, resolution=2)
    z, eye = noise(4, 3, 2, 2), torch.eye(12, dtype=torch.float64)
    parts = [(1 / 6, RED, 0.04 * eye), (1 / 6, BLUE, 0.04 * eye), (1 / 6, RED, 0.25 * eye), (1 / 2, GREEN, 0.04 * eye)]
    found = model.predict_noise(z, torch.full((4,), 300), model.encode_text([""] * 4))
    torch.testing.assert_close(found, ideal(z, 300, model, parts), rtol=1e-9, atol=1e-10)


def test_covariance_over_colours_does_not_depend_on_the_image_size() -> None:
    """The same pixel in a larger image of that colour has the same prediction, for one Gaussian."""
    z = noise(2, 3, 1, 1)
    found = [
        gaussian(means={"a": {"mean": RED, "covariance": OVER_COLOURS}}, resolution=side).predict_noise(
            z.expand(2, 3, side, side), torch.tensor([100, 700]), gaussian(means={"a": RED}).encode_text(["a"] * 2)
        )
        for side in (1, 3)
    ]
    torch.testing.assert_close(found[0].expand(2, 3, 3, 3), found[1], rtol=1e-10, atol=1e-12)


def test_many_dimensions_do_not_overflow_the_posterior() -> None:
    model = gaussian(means={"a": [{"mean": RED, "std": 0.01}, {"mean": BLUE, "std": 0.02}]}, resolution=64)
    z = model.encode_image(torch.tensor(BLUE).view(1, 3, 1, 1).expand(1, 3, 64, 64).double())
    found = model.predict_noise(model.schedule.alpha[5] * z, torch.tensor([5]), model.encode_text(["a"]))
    assert torch.isfinite(found).all()
    assert found.abs().max() < 1e-6  # at the mean of the component that it surely belongs to


def test_the_mean_residual_is_known_for_one_gaussian_and_for_no_mixture() -> None:
    """E over eps of eps_hat - eps by the exact linear map, against 40,000 draws and their error."""
    model = gaussian(means={"a": {"mean": RED, "covariance": OVER_COLOURS}, "b": [{"mean": RED}, {"mean": BLUE}]}, resolution=1)
    clean, t, count = noise(1, 3, 1, 1, seed=2), torch.tensor([400]), 40_000
    text = model.encode_text(["a"])
    eps = noise(count, 3, 1, 1, seed=5)
    many = t.expand(count)
    drawn = model.predict_noise(model.add_noise(clean, eps, many), many, model.encode_text(["a"] * count)) - eps
    exact = model.mean_residual(clean, t, text)
    assert exact is not None
    error = drawn.std(0, keepdim=True) / count**0.5
    assert ((drawn.mean(0, keepdim=True) - exact) / error).abs().max() < 5
    assert (exact / error).abs().max() > 20
    assert model.mean_residual(clean, t, model.encode_text(["b"])) is None
    assert model.mean_residual(clean, t, model.encode_text([""])) is None


def test_float64_is_exact_and_float32_close() -> None:
    options = {"means": {"a": {"mean": RED, "covariance": OVER_COLOURS}}, "resolution": 1}
    model = gaussian(**options)
    assert model.means[0, :, 0, 0].tolist() == [2 * part - 1 for part in RED]
    rebuilt = model.axes[0].T @ torch.diag(model.variances[0]) @ model.axes[0]
    torch.testing.assert_close(rebuilt, torch.tensor(OVER_COLOURS, dtype=torch.float64), rtol=1e-12, atol=1e-15)
    single = Gaussian(Gaussian.Config.model_validate(options))
    assert single.means.dtype == torch.float32
    z, t = noise(1, 3, 1, 1), torch.tensor([30])
    exact = model.predict_noise(z, t, model.encode_text(["a"]))
    torch.testing.assert_close(
        single.predict_noise(z.float(), t, single.encode_text(["a"])).double(), exact, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("means", "message"),
    [
        ({"a": []}, "the list is empty"),
        ({"a": [{"mean": RED, "weight": 0}]}, "greater than 0"),
        ({"a": {"mean": (2, 0, 0)}}, r"three numbers in \[0, 1\]"),
        ({"a": {"mean": RED, "covariance": [[1, 0], [0, 1]]}}, "covariance is 2 x 2; it must be 3 x 3 or 12 x 12"),
        ({"a": {"mean": RED, "covariance": [[1, 0], [0, 1, 0], [0, 0, 1]]}}, "must be square"),
        ({"a": {"mean": RED, "covariance": [[1, 2, 0], [2, 1, 0], [0, 0, 1]]}}, "symmetric with eigenvalues above 0"),
        ({"a": {"mean": RED, "covariance": [[1, 0.5, 0], [0, 1, 0], [0, 0, 1]]}}, "symmetric with eigenvalues above 0"),
        ({"a": {"mean": RED, "std": 0.1, "covariance": OVER_COLOURS}}, "either std or covariance"),
    ],
)
def test_a_wrong_mixture_is_refused(means: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gaussian(means=means, resolution=2)


def test_the_shipped_playground_of_gaussians_composes() -> None:
    """YAML: a mixture of two colours and a covariance, read as written."""
    config = load_config("gaussian-2d")
    assert config.guidance is not None
    entry = registry().resolve("guidance", config.guidance.type, "guidance.type")
    model = Gaussian(registry().load(entry).Config.model_validate(config.guidance.options))
    assert model.encode_text([config.prompt]).embedding.count_nonzero() == 2
