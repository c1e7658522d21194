"""The mixture of target views against independent float64 references, and that its score leads to the pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from dreamfw_views.guidance import Views
from PIL import Image
from torch import Tensor

from dfw import CameraBatch, Conditioning, GuidanceError

SIDE = 4
ANGLES = [(0.0, 0.0), (90.0, 0.0), (0.0, 90.0)]
STD = 0.3


def cameras(angles: list[tuple[float, float]]) -> CameraBatch:
    """Cameras at (azimuth, elevation), degrees, three units from the origin; only their places matter."""
    azimuth, elevation = torch.tensor(angles).unbind(1)
    a, e = torch.deg2rad(azimuth), torch.deg2rad(elevation)
    pose = torch.eye(4).repeat(len(angles), 1, 1)
    pose[:, :3, 3] = 3 * torch.stack([e.cos() * a.cos(), e.cos() * a.sin(), e.sin()], 1)
    return CameraBatch(pose, torch.full_like(a, 40.0), azimuth, elevation, torch.full_like(a, 3.0), SIDE, SIDE)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., tuple[Views, Tensor]]:
    """A guidance of the first `count` of three random pictures, and those pictures (count, 3, h, h) as they are on disk."""

    def build(count: int = 3, **options: object) -> tuple[Views, Tensor]:
        rng = np.random.default_rng(0)
        pixels = rng.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
        for index, image in enumerate(pixels):
            Image.fromarray(image).save(tmp_path / f"{index}.png")
        views = [{"file": f"{i}.png", "azimuth": az, "elevation": el} for i, (az, el) in enumerate(ANGLES[:count])]
        (tmp_path / "cameras.json").write_text(json.dumps({"views": views}))
        fields = {"folder": str(tmp_path), "std": STD, "resolution": SIDE, **options}
        return Views(Views.Config.model_validate(fields)), torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255

    return build


def noisy(batch: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(batch, 3, SIDE, SIDE, generator=generator), torch.randint(0, 1000, (batch,), generator=generator)


def seen_from(guidance: Views, angles: list[tuple[float, float]], condition: bool = True) -> Conditioning:
    row = guidance.conditional() if condition else guidance.unconditional()
    return Conditioning(row.embedding.expand(len(angles), -1, -1), None, cameras(angles))


def reference(z: np.ndarray, t: int, pictures: np.ndarray, log_weight: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Posterior (N,) and eps (3, h, h) for one image, from the definitions, in float64 and with Python's own arithmetic."""
    abar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[t]
    alpha, sigma = math.sqrt(abar), math.sqrt(1 - abar)
    v = alpha**2 * STD**2 + sigma**2
    means = 2 * pictures - 1
    log = [w - float(np.sum((z - alpha * y) ** 2)) / (2 * v) for w, y in zip(log_weight, means, strict=True)]
    terms = [math.exp(value - max(log)) for value in log]
    share = np.array(terms) / sum(terms)
    return share, sigma * (z - alpha * np.einsum("n,nchw->chw", share, means)) / v


def test_one_view_is_the_formula_of_one_gaussian(make: Callable[..., tuple[Views, Tensor]]) -> None:
    """eps = sigma (z - alpha y) / (alpha^2 s^2 + sigma^2), wherever the camera stands."""
    guidance, pictures = make(1)
    z, t = noisy(3)
    alpha, sigma = guidance.schedule.at(t, z)
    expected = sigma * (z - alpha * (2 * pictures - 1)) / (alpha**2 * STD**2 + sigma**2)
    found = guidance.predict(z, t, seen_from(guidance, [(0, 0), (77, 10), (180, -20)]))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_posterior_and_noise_agree_with_float64(make: Callable[..., tuple[Views, Tensor]]) -> None:
    """Weights from great-circle angles by arccos, likelihoods as squares: another road than the code's."""
    guidance, pictures = make(3, spread=25.0)
    z, _ = noisy(4)
    t = torch.tensor([999, 900, 750, 400])
    where = [(10.0, 5.0), (45.0, 45.0), (45.0, 0.0), (-170.0, -60.0)]
    found = guidance.predict(z, t, seen_from(guidance, where))
    shares = guidance.posterior(z, t, seen_from(guidance, where))
    mixed = 0
    for row, (azimuth, elevation) in enumerate(where):
        a, e = math.radians(azimuth), math.radians(elevation)
        angle = [math.acos(math.cos(e) * math.cos(a)), math.acos(math.cos(e) * math.sin(a)), math.pi / 2 - e]
        seen = [x <= max(3 * math.radians(25.0), min(angle)) for x in angle]
        weight = [(math.cos(x) - 1) / math.radians(25.0) ** 2 if s else -math.inf for x, s in zip(angle, seen, strict=True)]
        share, noise = reference(z[row].double().numpy(), int(t[row]), pictures.double().numpy(), weight)
        torch.testing.assert_close(shares[row].double(), torch.from_numpy(share), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(found[row].double(), torch.from_numpy(noise), rtol=1e-4, atol=1e-5)
        mixed += share.max() < 0.99
    assert mixed >= 2  # the posterior was put to the test


def test_the_prediction_is_the_score_of_the_diffused_mixture(make: Callable[..., tuple[Views, Tensor]]) -> None:
    """eps = -sigma d log p_t / dz, by autograd through log sum_i w_i N(z; alpha y_i, v I) in float64."""
    guidance, pictures = make(2, spread=40.0)
    guidance, t = guidance.double(), torch.tensor([800])
    z = noisy(1)[0].double().requires_grad_()
    asked = seen_from(guidance, [(30.0, 0.0)])
    alpha, sigma = guidance.schedule.at(t, z)
    v = alpha**2 * STD**2 + sigma**2
    cosine = torch.tensor([math.cos(math.radians(30)), math.sin(math.radians(30))], dtype=torch.float64)
    away = z - alpha * (2 * pictures.double() - 1)
    log_p = ((cosine - 1) / math.radians(40) ** 2 - away.square().sum((1, 2, 3)) / (2 * v.flatten())).logsumexp(0)
    (gradient,) = torch.autograd.grad(log_p, z)
    torch.testing.assert_close(guidance.predict(z.detach(), t, asked), -sigma * gradient, rtol=1e-6, atol=1e-7)


def test_weights_fall_with_the_angle_as_stated(make: Callable[..., tuple[Views, Tensor]]) -> None:
    """At `spread` degrees exp(-1/2) of the weight at 0, but for terms of fourth order; the same whichever way one turns."""
    guidance, _ = make(1, spread=5.0)
    weight = guidance.log_weights(seen_from(guidance, [(0, 0), (5, 0), (-5, 0), (0, 5), (0, -5), (10, 0)]))[:, 0].exp()
    torch.testing.assert_close(weight[:1], torch.ones(1))
    torch.testing.assert_close(weight[1:5], torch.full((4,), math.exp(-0.5)), rtol=1e-3, atol=0)
    assert weight[5].item() == pytest.approx(math.exp(-2), rel=1e-2)


def test_beyond_three_spreads_only_the_nearest_view_counts(make: Callable[..., tuple[Views, Tensor]]) -> None:
    """Views stand at azimuth 0 and 90: from 40 the reach of 3 x 20 degrees holds both, that of 3 x 15 the first; from 180 one."""
    for spread, azimuth, counted in ((20.0, 40.0, [True, True]), (15.0, 40.0, [True, False]), (15.0, 180.0, [False, True])):
        guidance, _ = make(2, spread=spread)
        found = guidance.log_weights(seen_from(guidance, [(azimuth, 0.0)]))[0]
        assert torch.isfinite(found).tolist() == counted


def test_a_scene_of_fronts_is_told_its_back(make: Callable[..., tuple[Views, Tensor]]) -> None:
    """The front's picture shown to the camera at the side: the clean estimate is the side's, however near the front's is."""
    guidance, pictures = make(2)
    t = torch.tensor([100])
    z = guidance.add_noise(2 * pictures[:1] - 1, torch.zeros(1, 3, SIDE, SIDE), t)
    torch.testing.assert_close(guidance.posterior(z, t, seen_from(guidance, [(90.0, 0.0)])), torch.tensor([[0.0, 1.0]]))


def test_the_nearest_view_is_the_one_that_is_shown(make: Callable[..., tuple[Views, Tensor]]) -> None:
    """Far from the pictures in noise, all are alike; the camera decides which one the clean estimate is."""
    guidance, pictures = make()
    z, t = noisy(3)[0], torch.full((3,), 999)
    noise = guidance.predict(z, t, seen_from(guidance, ANGLES))
    alpha, sigma = guidance.schedule.at(t, z)
    v = alpha**2 * STD**2 + sigma**2
    clean = guidance.predict_clean(z, t, noise)
    expected = (z - sigma**2 * (z - alpha * (2 * pictures - 1)) / v) / alpha
    torch.testing.assert_close(clean, expected, rtol=1e-3, atol=2e-3)


def test_without_condition_or_camera_all_views_are_alike(make: Callable[..., tuple[Views, Tensor]]) -> None:
    guidance, _ = make()
    z, t = noisy(2)
    nothing = guidance.predict(z, t, seen_from(guidance, ANGLES[:2], condition=False))
    without_cameras = Conditioning(guidance.conditional().embedding.expand(2, -1, -1))
    torch.testing.assert_close(nothing, guidance.predict(z, t, without_cameras))
    assert guidance.log_weights(seen_from(guidance, ANGLES, condition=False)).abs().max() == 0


def test_following_the_score_ends_at_the_picture_of_the_camera(make: Callable[..., tuple[Views, Tensor]]) -> None:
    """Gradient descent along eps_hat - eps, as score distillation does it: the distance to the right picture falls to noise."""
    guidance, pictures = make()
    generator = torch.Generator().manual_seed(0)
    image = torch.full((3, 3, SIDE, SIDE), 0.5)
    asked, start = seen_from(guidance, ANGLES), (image - pictures).abs().mean()
    for _ in range(400):
        t = torch.randint(20, 980, (3,), generator=generator)
        noise = torch.randn(image.shape, generator=generator)
        z = guidance.add_noise(guidance.encode_image(image), noise, t)
        _, sigma = guidance.schedule.at(t, z)
        image = image - 0.05 * sigma**2 * (guidance.predict_noise(z, t, asked) - noise)
    assert (image - pictures).abs().mean() < 0.1 * start


def test_transparent_pictures_lie_on_the_background(tmp_path: Path) -> None:
    """Half transparent red over (0, 0, 1): half of each."""
    Image.new("RGBA", (8, 8), (255, 0, 0, 128)).save(tmp_path / "a.png")
    (tmp_path / "cameras.json").write_text('{"views": [{"file": "a.png", "azimuth": 0, "elevation": 0}]}')
    made = Views(Views.Config(folder=str(tmp_path), resolution=2, background=(0, 0, 1)))
    seen = made.decode_image(made.views)[0].mean((1, 2))
    torch.testing.assert_close(seen, torch.tensor([128 / 255, 0, 127 / 255]), rtol=0, atol=0.003)


def test_nerfs_own_file_says_the_same(tmp_path: Path) -> None:
    """A pose three units along +y is azimuth 90; the ending of the file is implied."""
    Image.new("RGB", (2, 2)).save(tmp_path / "r_0.png")
    pose = [[1, 0, 0, 0.0], [0, 1, 0, 3.0], [0, 0, 1, 0.0], [0, 0, 0, 1]]
    document = {"camera_angle_x": 0.69, "frames": [{"file_path": "./r_0", "rotation": 0.01, "transform_matrix": pose}]}
    (tmp_path / "transforms.json").write_text(json.dumps(document))
    made = Views(Views.Config(folder=str(tmp_path), resolution=2))
    torch.testing.assert_close(made.directions, torch.tensor([[0.0, 1, 0]]))


@pytest.mark.parametrize(
    ("document", "size", "told"),
    [
        (None, 2, r"has no cameras\.json; write one"),
        ('{"views": []}', 2, r"cameras\.json: views: List should have at least 1 item"),
        ('{"views": [{"file": "a.png", "azimuth": 0}]}', 2, r"cameras\.json: views\.0\.elevation: Field required"),
        ('{"views": [{"file": "a.png", "azimuth": 0, "elevation": 95}]}', 2, r"views\.0\.elevation: .* less than or equal to 90"),
        ("{oops", 2, r"cameras\.json: Invalid JSON"),
        ('{"views": [{"file": "b.png", "azimuth": 0, "elevation": 0}]}', 2, r"cannot read the picture .*b\.png"),
        ('{"views": [{"file": "a.png", "azimuth": 0, "elevation": 0}]}', 3, r"a\.png is 3x2; crop it to a square"),
    ],
)
def test_what_cannot_be_used_is_told_with_its_file(tmp_path: Path, document: str | None, size: int, told: str) -> None:
    Image.new("RGB", (size, 2)).save(tmp_path / "a.png")
    if document is not None:
        (tmp_path / "cameras.json").write_text(document)
    with pytest.raises(GuidanceError, match=told):
        Views(Views.Config(folder=str(tmp_path), resolution=2))


def test_a_folder_that_is_not_there_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(
        GuidanceError, match=r"there is no folder .*gone.*: python -m dreamfw_views\.render_targets .* --out .*gone$"
    ):
        Views(Views.Config(folder=str(tmp_path / "gone"), resolution=2))
