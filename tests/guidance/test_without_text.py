"""Conditions besides text: a guidance's defaults, and a prior of poses, known exactly, in a table, losses, runs and sheets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from counting_prior import Counting
from PIL import Image
from posed_prior import STD, Posed, mu
from small_runs import PIXELS, config, trained

from dfw import (
    CameraBatch,
    Conditioning,
    ConfigError,
    GuidanceError,
    LossInputs,
    Progress,
    RenderOutput,
    Views,
    cameras_at,
    register,
)
from dfw.compose import compose
from dfw.config.settings import RunConfig
from dfw.errors import ContractError
from dfw.plugins.registry import registry
from dfw.prior.check import check_guidance_at
from dfw.prior.sample import sample
from dfw.runs.prompt_table import PromptTable
from dfw_guidance.gaussian import Gaussian
from dfw_losses.csd import CSD
from dfw_losses.sds import SDS
from dfw_prompters.plain import Plain

RING = {"type": "orthogonal", "count": 2, "batch_size": 4, "width": 2, "elevation": [10, 10]}


@pytest.fixture(autouse=True)
def _posed() -> Iterator[None]:
    register("guidance", "posed", Posed)
    try:
        yield
    finally:
        registry()._entries = [entry for entry in registry().entries() if entry.distribution != "local"]


def posed(views: int = 1) -> Posed:
    return Posed(Posed.Config(views=views))


def around(*azimuth: float, together: int = 1) -> CameraBatch:
    """Cameras at these azimuths; elevations 0, 30, 60 ..."""
    az, ones = torch.tensor(azimuth), torch.ones(len(azimuth))
    return cameras_at(az, 30.0 * torch.arange(len(azimuth)), 3 * ones, 40 * ones, 2, 2).in_groups(together)


# what a guidance says by itself


def test_no_condition_is_the_empty_text_unless_a_guidance_says_otherwise() -> None:
    model = Gaussian(Gaussian.Config(means={"a": (1, 0, 0), "b": (0, 0, 1)}))
    assert torch.equal(model.unconditional().embedding, torch.tensor([[[0.5, 0.5]]]))
    assert len(model.unconditional()) == 1
    assert torch.equal(posed().unconditional().embedding, torch.zeros(1, 1, 1))


def test_what_a_guidance_does_not_know_it_says_by_its_name() -> None:
    with pytest.raises(GuidanceError, match=r"guidance posed_prior\.Posed reads no text"):
        posed().encode_text(["a car"])
    model = Gaussian(Gaussian.Config(means={"a": (1, 0, 0)}))
    with pytest.raises(GuidanceError, match=r"gaussian\.Gaussian provides no 'text' .* write conditional\(\)"):
        model.conditional()


def test_a_model_sees_one_picture_at_a_time_unless_it_says_otherwise() -> None:
    config_of = Gaussian.Config(means={"a": (1, 0, 0)})
    assert Gaussian.sees(config_of) == 1
    assert [Posed.sees(Posed.Config(views=views)) for views in (1, 4)] == [1, 4]


# the table


def test_its_conditions_are_repeated_for_every_view_and_no_prompter_is_asked() -> None:
    cameras = around(0, 90, 200)
    batch = PromptTable(posed(), None, "").batch(cameras)
    assert torch.equal(batch.positive.embedding, torch.ones(3, 1, 1))
    assert torch.equal(batch.negative.embedding, torch.zeros(3, 1, 1))
    assert batch.positive.cameras is batch.negative.cameras is cameras
    assert (batch.negatives, batch.negative_weights, batch.texts) == ((), None, {})


def test_a_loss_may_ask_for_no_condition_and_other_texts_are_not_there() -> None:
    batch = PromptTable(posed(), None, "", shared=["", "ugly", "{prompt}, sharp"]).batch(around(0, 90))
    assert set(batch.texts) == {""}
    assert torch.equal(batch.texts[""].embedding, torch.zeros(2, 1, 1))


def test_a_row_is_mixed_with_none_and_copied_with_its_picture() -> None:
    class Shown(Posed):
        """Knows a picture besides."""

        def conditional(self) -> Conditioning:
            return Conditioning(torch.ones(1, 1, 1), torch.arange(4.0)[None], extras={"picture": torch.arange(3.0).view(1, 3)})

        def unconditional(self) -> Conditioning:
            return Conditioning(torch.zeros(1, 1, 1), torch.zeros(1, 4), extras={"picture": torch.zeros(1, 3)})

    batch = PromptTable(Shown(Shown.Config()), None, "").batch(around(0, 90))
    assert torch.equal(batch.positive.pooled, torch.arange(4.0).expand(2, 4))
    assert torch.equal(batch.positive.extras["picture"], torch.arange(3.0).expand(2, 3))
    joined = Conditioning.cat([batch.negative, batch.positive])
    assert torch.equal(joined.extras["picture"].sum(1), torch.tensor([0.0, 0, 3, 3]))


@pytest.mark.parametrize("method", ["conditional", "unconditional"])
@pytest.mark.parametrize(
    ("given", "seen"),
    [(Conditioning(torch.zeros(2, 1, 1)), r"an embedding of shape \(2, 1, 1\)"), (torch.zeros(1, 1, 1), "a Tensor")],
)
def test_a_condition_of_more_than_one_row_is_refused(method: str, given: Any, seen: str) -> None:
    model = posed()
    setattr(model, method, lambda: given)
    with pytest.raises(ContractError, match=rf"Posed breaks its contract: {method}\(\) gave {seen}"):
        PromptTable(model, None, "")


def test_a_guidance_with_text_may_say_itself_what_no_condition_is() -> None:
    """The empty negative prompt is then what it says, and the empty text is never encoded."""

    class Other(Counting):
        """No condition is a row of nines."""

        def unconditional(self) -> Conditioning:
            return Conditioning(torch.full((1, 3, 5), 9.0))

    model = Other()
    batch = PromptTable(model, Plain(Plain.Config()), "a car", "", shared=["", "ugly"]).batch(around(0, 90))
    assert model.asked == ["a car", "ugly"]
    assert torch.equal(batch.negative.embedding, torch.full((2, 3, 5), 9.0))
    assert torch.equal(batch.texts[""].embedding, torch.full((2, 3, 5), 9.0))


# a loss


def inputs(model: Posed, cameras: CameraBatch, shared: tuple[str, ...] = ()) -> tuple[torch.Tensor, LossInputs]:
    """A picture of random greys in float64, encoded, and what a loss gets of it."""
    image = torch.rand(len(cameras), 2, 2, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    opaque = torch.ones_like(image[..., 0])
    prompt = PromptTable(model, None, "", shared=shared).batch(cameras)
    render = RenderOutput(image, opaque, opaque)
    asked = LossInputs(render, Views(cameras), prompt, model, Progress(0, 10), torch.Generator().manual_seed(0))
    return asked.encoded, asked


@pytest.mark.parametrize(("views", "azimuth"), [(1, (0, 60, 180)), (2, (0, 180, 60, 240))])
def test_each_draw_of_sds_pulls_to_what_the_camera_sees(views: int, azimuth: tuple[float, ...]) -> None:
    """w (eps_hat - eps), eps_hat = sigma (z_t - alpha s mu) / v, with the mean of every camera written out."""
    model, cameras = posed(views), around(*azimuth, together=views)
    loss = SDS(SDS.Config(guidance_scale=5, weighting="one"))
    z, asked = inputs(model, cameras)
    query = loss.query(z, replace(asked, generator=torch.Generator().manual_seed(0)))
    means = []
    for index, angle in enumerate(azimuth):
        scene = [30 * i for i in range(len(azimuth)) if i // views == index // views]
        means.append(np.cos(np.radians(angle)) / 2 + sum(scene) / len(scene) / 180)
    alpha, sigma = (part.double() for part in model.schedule.at(query.timestep, z))
    pulled = 5 * torch.tensor(means, dtype=torch.float64).view(-1, 1, 1, 1)
    expected = sigma * (alpha * z + sigma * query.noise - alpha * pulled) / (alpha**2 * STD**2 + sigma**2) - query.noise
    torch.testing.assert_close(loss.residual(z, asked), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(mu(cameras, views).double(), pulled.flatten() / 5)


def test_a_loss_that_needs_no_condition_beside_its_own_works_without_text() -> None:
    """csd: c (0 - mu) for each camera, whatever the picture and the noise."""
    model, cameras, t = posed(), around(0, 60, 180), 400
    loss = CSD(CSD.Config(weighting="one", t_min=t / 1000, t_max=t / 1000))
    z, asked = inputs(model, cameras, loss.texts())
    alpha, sigma = (float(part[t].double()) for part in (model.schedule.alpha, model.schedule.sigma))
    expected = -sigma * alpha / (alpha**2 * STD**2 + sigma**2) * mu(cameras, 1).double().view(-1, 1, 1, 1)
    torch.testing.assert_close(loss.residual(z, asked), expected.expand_as(z), rtol=1e-5, atol=1e-6)


# a run


def run_of(folder: Path, **changes: Any) -> RunConfig:
    """Pixels of side 2 under the prior of poses, without a prompt."""
    base = {
        "prompt": None,
        "prompter": None,
        "geometry": {"type": "image", "width": 2, "height": 2},
        "guidance": {"type": "posed"},
        "cameras": {"width": 2, "batch_size": 2},
    }
    return config(PIXELS, folder, **base | changes)


def test_a_run_needs_no_prompt_and_has_no_prompter(tmp_path: Path) -> None:
    """One camera in front: the pixels go to its mean, (1 + 1/2) / 2, as far as noise lets them."""
    front = {"width": 2, "batch_size": 2, "azimuth": [0, 0], "elevation": [0, 0]}
    made = run_of(tmp_path, cameras=front, trainer={"steps": 200}, optimizer={"lr": {"from": 0.05, "to": 0.001}})
    assert compose(made).prompter() is None
    trainer, records = trained(made)
    assert trainer.prompter is None
    assert len(records) == 200
    shown = trainer.scene.render(trainer.scene.views(1, 2)).colours
    torch.testing.assert_close(shown, torch.full_like(shown, 0.75), rtol=0, atol=0.08)


def test_a_run_with_a_model_of_several_views(tmp_path: Path) -> None:
    """The model itself refuses cameras and timesteps that are not a scene's."""
    _, records = trained(run_of(tmp_path, guidance={"type": "posed", "views": 2}, cameras=RING))
    assert len(records) == 6
    assert all(record.losses["sds"] > 0 for record in records)


@pytest.mark.parametrize(
    ("views", "cameras", "given"),
    [(4, {"width": 2, "batch_size": 4}, 1), (4, RING, 2), (2, {"width": 2, "batch_size": 2}, 1), (2, RING | {"count": 4}, 4)],
)
def test_cameras_that_show_another_number_of_views_are_refused(tmp_path: Path, views: int, cameras: Any, given: int) -> None:
    remedy = rf"make the two equal, e\.g\. cameras: {{type: orthogonal, count: {views}, batch_size: {views}}}"
    message = rf"local/posed .*sees {views} views of one scene at once, and these cameras give {given}; {remedy}"
    with pytest.raises(ConfigError, match=message):
        compose(run_of(tmp_path, guidance={"type": "posed", "views": views}, cameras=cameras))


def test_a_model_of_single_pictures_takes_any_cameras(tmp_path: Path) -> None:
    _, records = trained(run_of(tmp_path, cameras=RING))
    assert len(records) == 6


def test_a_loss_that_asks_for_words_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nfsd .*needs text; guidance local/posed .*does not provide it"):
        compose(run_of(tmp_path, losses={"nfsd": {}}))


# a look at it alone


@pytest.mark.parametrize("views", [1, 2])
def test_a_sheet_of_samples_shows_what_the_runs_cameras_see(tmp_path: Path, views: int) -> None:
    """From one ring of two opposite views the means are 1/2 (1, -1) + 10 / 180. A row for each scene; else all in one row."""
    ring = RING | {"azimuth": [0, 0]}
    made = compose(run_of(tmp_path, guidance={"type": "posed", "views": views}, cameras=ring))
    sheet = np.asarray(Image.open(sample(made, 60 // views, 30, 1.0, tmp_path))).astype(float) / 255
    rows, columns = (1, 60) if views == 1 else (30, 2)
    assert sheet.shape == (4 * rows - 2, 4 * columns - 2, 3)
    tiles = np.stack(
        [sheet[4 * row : 4 * row + 2, 4 * column : 4 * column + 2] for row in range(rows) for column in range(columns)]
    )
    found, error = 2 * tiles.reshape(30, 2, -1).mean((0, 2)) - 1, STD / (30 * 12) ** 0.5
    np.testing.assert_allclose(found, [0.5 + 10 / 180, -0.5 + 10 / 180], atol=5 * error)


@pytest.mark.parametrize("views", [1, 2])
def test_its_pull_is_measured(tmp_path: Path, views: int) -> None:
    """At grey from the front and the back by turns: the pull is c times the mean over the views."""
    cameras = {"width": 2, "batch_size": 2, "azimuth": [0, 0], "elevation": [0, 0]} if views == 1 else RING
    made = compose(run_of(tmp_path, guidance={"type": "posed", "views": views}, cameras=cameras))
    found = check_guidance_at(made, None, 1.0, 3, 2_001)
    model = posed()
    assert not found.closed_form
    for probe in found.probes:
        alpha, sigma = (float(part[probe.timestep].double()) for part in (model.schedule.alpha, model.schedule.sigma))
        c = sigma * alpha / (alpha**2 * STD**2 + sigma**2)
        mean = 0.5 if views == 1 else 10 / 180
        assert probe.mean == pytest.approx(c * mean, abs=5 * probe.sds / 2_001**0.5 + c * 0.5 / 2_001**0.5)
