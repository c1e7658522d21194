"""Editing objectives against a prior of Gaussians, where everything can be written down; float64.

eps(z_t; p) = sigma (z_t - alpha mu_p) / (alpha^2 s^2 + sigma^2), and encoded colours run from -1 to 1.
"""

from __future__ import annotations

import math

import pytest
import torch
from dreamfw_editing.collaborative import Collaborative, stein
from dreamfw_editing.dds import DDS
from dreamfw_editing.in2n import In2N
from dreamfw_editing.instruct import Instruct
from dreamfw_editing.pds import PDS, posterior_weights
from torch import Tensor

import dfw
from dfw import CameraBatch, ConfigError, LossInputs, LossSetup, NoiseSchedule, Progress, PromptBatch, RenderOutput, Views

STD = 0.3
COLOURS = {"new": (0.9, 0.2, 0.4), "old": (0.3, 0.6, 0.1), "none": (0.5, 0.45, 0.7)}
SIDE = 2


def prior():
    made = dfw.build("guidance", "gaussian", means=COLOURS, std=STD, resolution=SIDE)
    return made.double()


def mu(text: str) -> Tensor:
    return 2 * torch.tensor(COLOURS[text], dtype=torch.float64).view(1, 3, 1, 1) - 1


def picture(seed: int, count: int = 1) -> Tensor:
    return torch.rand(count, SIDE, SIDE, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bound(loss, model, source: Tensor):
    """The loss with a source of these pixels (1, H, W, 3)."""
    plane = dfw.build("geometry", "image", width=SIDE, height=SIDE).double()
    with torch.no_grad():
        plane.values.copy_(source)
    loss.bind(LossSetup(model, plane, dfw.build("renderer", "plane"), torch.Generator().manual_seed(0)))
    with torch.no_grad():
        plane.values.zero_()  # what is edited goes on; the source stays
    return loss


def ask(model, image: Tensor, seed: int = 3) -> LossInputs:
    count = len(image)
    cameras: CameraBatch = dfw.orbit(count, 0.0, 3.0, 40.0, SIDE, SIDE)
    ones = torch.ones_like(image[..., 0])
    texts = {"old": model.encode_text(["old"] * count)}
    prompt = PromptBatch(model.encode_text(["new"] * count), model.encode_text(["none"] * count), texts=texts)
    generator = torch.Generator().manual_seed(seed)
    return LossInputs(RenderOutput(image, ones, 0 * ones), Views(cameras), prompt, model, Progress(0, 100), generator)


def options(t: int, **more) -> dict:
    return {"source_prompt": "old", "t_min": t / 1000, "t_max": t / 1000, "guidance_scale": 3.0, **more}


def delta(model, t: int, z: Tensor, source: Tensor) -> Tensor:
    """eps_hat - eps_hat of the source: the noise cancels, for any draw."""
    alpha, sigma = (float(x[t].double()) for x in (model.schedule.alpha, model.schedule.sigma))
    ours, theirs = (mu("none") + 3.0 * (mu(text) - mu("none")) for text in ("new", "old"))
    return sigma * alpha / (alpha**2 * STD**2 + sigma**2) * ((z - ours) - (source - theirs))


@pytest.mark.parametrize("t", [60, 500, 940])
@pytest.mark.parametrize("seed", [1, 2])
def test_dds_has_no_noise_and_is_the_difference_of_two_pulls(t: int, seed: int):
    model, image, source = prior(), picture(1), picture(2)
    loss = bound(DDS(DDS.Config(**options(t))), model, source)
    inputs = ask(model, image, seed)
    z, z_source = (2 * one.permute(0, 3, 1, 2) - 1 for one in (image, source))
    torch.testing.assert_close(loss.residual(inputs.encoded, inputs), delta(model, t, z, z_source))


def test_an_edit_to_the_same_text_of_the_same_picture_is_nothing():
    model, image = prior(), picture(1)
    loss = bound(DDS(DDS.Config(**options(500))), model, image)
    inputs = ask(model, image)
    same = LossInputs(
        inputs.render, inputs.views, PromptBatch(inputs.prompt.texts["old"], inputs.prompt.negative, texts=inputs.prompt.texts),
        model, inputs.progress, inputs.generator,
    )  # fmt: skip
    assert float(loss.residual(same.encoded, same).abs().max()) < 1e-12


@pytest.mark.parametrize("stride", [1, 2, 40])
def test_pds_is_the_difference_of_stochastic_latents(stride: int):
    """From the definition: (x_s - mu(x_t, eps_hat)) / deviation for scene and source, with shared noise."""
    model, image, source, t = prior(), picture(1), picture(2), 500
    loss = bound(PDS(PDS.Config(**options(t, stride=stride))), model, source)
    inputs = ask(model, image)
    z, z_source = (2 * one.permute(0, 3, 1, 2) - 1 for one in (image, source))
    alpha, sigma = model.schedule.alpha.double(), model.schedule.sigma.double()
    s, beta = t - stride, 1 - (alpha[t] / alpha[t - 1]) ** 2
    noise, later = (torch.randn(z.shape, generator=torch.Generator().manual_seed(k), dtype=torch.float64) for k in (7, 8))
    deviation = (beta * sigma[s] ** 2 / sigma[t] ** 2).sqrt()

    def latent(clean: Tensor, text: str) -> Tensor:
        x_t, x_s = alpha[t] * clean + sigma[t] * noise, alpha[s] * clean + sigma[s] * later
        mean = mu("none") + 3.0 * (mu(text) - mu("none"))
        eps = sigma[t] * (x_t - alpha[t] * mean) / (alpha[t] ** 2 * STD**2 + sigma[t] ** 2)
        x_0 = (x_t - sigma[t] * eps) / alpha[t]
        posterior = alpha[s] * beta / sigma[t] ** 2 * x_0 + (1 - beta).sqrt() * sigma[s] ** 2 / sigma[t] ** 2 * x_t
        return (x_s - posterior) / deviation

    expected = latent(z, "new") - latent(z_source, "old")
    torch.testing.assert_close(loss.residual(inputs.encoded, inputs), expected, rtol=1e-5, atol=1e-7)


def stable_diffusion() -> NoiseSchedule:
    """The betas of Stable Diffusion: the square of a line from 0.00085^(1/2) to 0.012^(1/2)."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64).square()
    abar = torch.cumprod(1 - betas, 0)
    return NoiseSchedule(abar.sqrt(), (1 - abar).sqrt())


def test_the_hold_on_the_source_is_nothing_for_neighbouring_steps():
    timestep = torch.tensor([100, 300, 500, 900])
    hold, drive = posterior_weights(stable_diffusion(), timestep, 1)
    assert float(hold.abs().max()) < 1e-10
    assert (drive > 0).all()
    hold, _ = posterior_weights(stable_diffusion(), timestep, 2)
    assert hold.tolist() == pytest.approx([0.32, 0.080, 0.032, 0.0062], rel=0.03)


def test_pds_wants_a_schedule_that_preserves_variance():
    model = prior()
    level = (torch.arange(1000, dtype=torch.float64) + 1) / 1001
    model.schedule = NoiseSchedule(1 - level, level)
    with pytest.raises(ConfigError, match="pds is made of DDPM's posterior"):
        bound(PDS(PDS.Config(**options(500))), model, picture(2))


def test_stein_is_the_sum_over_views_written_out():
    views, score = (torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(k), dtype=torch.float64) for k in (1, 2))
    flat = views.flatten(1)
    squared = [[float((a - b).square().sum()) for b in flat] for a in flat]
    pairs = sorted(squared[i][j] for i in range(4) for j in range(4) if i != j)
    bandwidth = pairs[(len(pairs) - 1) // 2] / math.log(4)
    expected = torch.zeros_like(flat)
    for i in range(4):
        for j in range(4):
            kernel = math.exp(-squared[j][i] / bandwidth)
            expected[i] += (kernel * score.flatten(1)[j] - 2 / bandwidth * (flat[i] - flat[j]) * kernel) / 4
    torch.testing.assert_close(stein(views, score).flatten(1), expected)
    torch.testing.assert_close(stein(views[:1], score[:1]), score[:1])
    same = views[:1].expand(4, -1, -1, -1)
    torch.testing.assert_close(stein(same, score), score.mean(0, keepdim=True).expand_as(score))


def test_collaborative_has_one_timestep_and_mixes_deltas():
    model, image, source = prior(), picture(1, 3), picture(2)
    loss = bound(Collaborative(Collaborative.Config(**options(500, t_max=0.9))), model, source)
    inputs = ask(model, image)
    query = loss.query(inputs.encoded.detach(), inputs)
    assert len(set(query.timestep.tolist())) == 1
    z, z_source = (2 * one.permute(0, 3, 1, 2) - 1 for one in (image, source))
    expected = stein(z, delta(model, int(query.timestep[0]), z, z_source))
    torch.testing.assert_close(loss.direction(query), expected)


@pytest.mark.parametrize("kind", [DDS, PDS, Collaborative])
def test_the_source_is_part_of_the_state_and_never_trained(kind):
    model = prior()
    loss = bound(kind(kind.Config(**options(500))), model, picture(2))
    other = bound(kind(kind.Config(**options(500))), model, picture(5))
    other.load_state_dict(loss.state_dict())
    torch.testing.assert_close(other.scene.values, loss.scene.values)
    assert not any(p.requires_grad for p in loss.parameters())
    assert loss.parameter_groups() == {}
    loss.train()
    assert not loss.scene.training


def test_without_a_scene_it_says_what_to_write():
    loss = DDS(DDS.Config(**options(500)))
    with pytest.raises(ConfigError, match="start the run from a finished one"):
        loss.bind(LossSetup(prior(), None, None, torch.Generator()))


class Shown(type(prior())):
    """The Gaussian prior, whose answer grows by the source's picture."""

    def predict(self, noisy, timestep, conditioning):
        assert conditioning.control is not None
        return super().predict(noisy, timestep, conditioning) + conditioning.control


def test_an_instruction_is_score_distillation_that_sees_the_source():
    """w (eps_hat - eps): both parts of the guidance see the source's picture, which the scale therefore leaves as it is."""
    model, image, source = Shown(prior().config).double(), picture(1), picture(2)
    loss = bound(Instruct(Instruct.Config(t_min=0.5, t_max=0.5, guidance_scale=3.0)), model, source)
    inputs = ask(model, image)
    found = loss.residual(inputs.encoded, inputs)
    inputs = ask(model, image)
    query = loss.query(inputs.encoded, inputs)
    alpha, sigma = (float(x[500].double()) for x in (model.schedule.alpha, model.schedule.sigma))
    mean = mu("none") + 3.0 * (mu("new") - mu("none"))
    noisy = alpha * (2 * image.permute(0, 3, 1, 2) - 1) + sigma * query.noise
    expected = sigma * (noisy - alpha * mean) / (alpha**2 * STD**2 + sigma**2) + source.permute(0, 3, 1, 2) - query.noise
    torch.testing.assert_close(found, sigma**2 * expected)


@pytest.mark.parametrize("steps", [1, 3])
def test_in2n_is_half_the_squared_distance_to_the_repainted_view(steps: int):
    """DDIM written out for the Gaussian prior: z0 and the noise that is left, from t down in equal steps."""
    model, image = prior(), picture(1)
    options = {"t_min": 0.6, "t_max": 0.6, "guidance_scale": 3.0, "steps": steps}
    loss = bound(In2N(In2N.Config(**options)), model, picture(2))
    image = image.requires_grad_()
    asked = ask(model, image)
    state = asked.generator.get_state()
    loss(asked).backward()
    z = 2 * image.detach().permute(0, 3, 1, 2) - 1
    asked.generator.set_state(state)
    query = loss.query(z, asked)
    alpha, sigma = (one.double() for one in (model.schedule.alpha, model.schedule.sigma))
    wanted = mu("none") + 3.0 * (mu("new") - mu("none"))
    at = 600
    noisy = alpha[at] * z + sigma[at] * query.noise
    for left in range(steps - 1, -1, -1):
        noise = sigma[at] * (noisy - alpha[at] * wanted) / (alpha[at] ** 2 * STD**2 + sigma[at] ** 2)
        clean = (noisy - sigma[at] * noise) / alpha[at]
        at = round(600 * left / steps)
        noisy = alpha[at] * clean + sigma[at] * noise
    expected = image.detach() - (clean / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    torch.testing.assert_close(image.grad, expected, rtol=1e-6, atol=1e-6)


def test_in2n_shows_the_prior_the_source():
    """Every call of its sampling carries the frozen scene from the step's cameras."""
    model, source, seen = prior(), picture(2), []
    predict = type(model).predict

    class Watched(type(model)):
        def predict(self, noisy, timestep, conditioning):
            seen.append(conditioning.control)
            return predict(self, noisy, timestep, conditioning)

    model.__class__ = Watched
    loss = bound(In2N(In2N.Config(t_min=0.6, t_max=0.6, guidance_scale=3.0, steps=3)), model, source)
    loss(ask(model, picture(1)))
    assert len(seen) == 3
    for control in seen:
        torch.testing.assert_close(control[:1], source.permute(0, 3, 1, 2))
