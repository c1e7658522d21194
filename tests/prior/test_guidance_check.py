"""`dfw guidance check`: the plot, the closed form, and a prior that is wrong about itself."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import torch
from PIL import Image

from dfw import GuidanceError, register
from dfw.cli.main import main
from dfw.compose import compose
from dfw.config.load import load_config
from dfw.prior.check import FALSE_ALARMS, check_guidance_at, most_errors, read_image
from dfw.report.plot import Line, log_plot
from dfw_guidance.gaussian import Gaussian

SKY = ["prompt=a sky", "guidance.resolution=4", "device=cpu"]


class Shifted(Gaussian):
    """A Gaussian whose predictions are a little too small: what the check is for."""

    def predict(self, noisy, timestep, conditioning):
        return super().predict(noisy, timestep, conditioning) * 0.8


def test_the_mean_is_the_closed_form_and_the_pull_known():
    """The pull of N(mu, s^2) at grey is c |mu|, and the spreads are a^2 s^2 / v and sigma^2 / v."""
    means = {"a": (0.9, 0.2, 0.4)}
    config = load_config("gaussian-2d", ["prompt=a", "guidance.resolution=4", "device=cpu"])
    node = config.guidance.model_copy(update={"means": means, "std": 0.3})
    found = check_guidance_at(compose(config.model_copy(update={"guidance": node})), None, 1.0, 5, 4_000)
    assert found.closed_form
    schedule = Gaussian(Gaussian.Config(means=means)).schedule
    for probe in found.probes:
        a, s = float(schedule.alpha[probe.timestep]), float(schedule.sigma[probe.timestep])
        v = a**2 * 0.09 + s**2
        mean = math.sqrt(sum((2 * c - 1) ** 2 for c in means["a"]) / 3)
        assert probe.mean == pytest.approx(s * a / v * mean, rel=0.1)
        assert probe.sds == pytest.approx(a**2 * 0.09 / v, rel=0.03)
        assert probe.score == pytest.approx(s**2 / v, rel=0.03)
        assert probe.off < 5
    assert [probe.timestep for probe in found.probes] == [20, 260, 500, 739, 979]


def test_a_prior_that_disagrees_with_its_closed_form_is_caught(monkeypatch):
    monkeypatch.setattr(Shifted, "mean_residual", lambda self, clean, t, text: Gaussian.predict(
        self, self.schedule.at(t, clean)[0] * clean, t, text))  # fmt: skip
    register("guidance", "shifted", Shifted)
    config = load_config("gaussian-2d", SKY)
    node = config.guidance.model_copy(update={"type": "shifted"})
    with pytest.raises(GuidanceError, match=r"standard errors from its own closed form at timestep \d+"):
        check_guidance_at(compose(config.model_copy(update={"guidance": node})), None, 1.0, 4, 2_000)


class Overflowing(Gaussian):
    """A Gaussian whose predictions late in the schedule are not numbers. NaN is not above any limit."""

    def predict(self, noisy, timestep, conditioning):
        late = (timestep > 700).view(-1, 1, 1, 1)
        return torch.where(late, torch.nan, super().predict(noisy, timestep, conditioning))


@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_predictions_that_are_not_finite_are_refused(scale):
    register("guidance", "overflowing", Overflowing)
    config = load_config("gaussian-2d", SKY)
    node = config.guidance.model_copy(update={"type": "overflowing"})
    with pytest.raises(GuidanceError, match=f"not finite at timestep 979, for scale {scale:g}"):
        check_guidance_at(compose(config.model_copy(update={"guidance": node})), None, scale, 2, 100)


class AlmostRight(Gaussian):
    """Predictions 3 % too small: at 64 draws no number of the picture tells it alone; all of them together do."""

    def predict(self, noisy, timestep, conditioning):
        return 0.97 * super().predict(noisy, timestep, conditioning)

    def mean_residual(self, clean, timestep, conditioning):
        return Gaussian.predict(self, self.schedule.at(timestep, clean)[0] * clean, timestep, conditioning)


@pytest.mark.parametrize("seed", range(3))
def test_a_small_error_of_all_numbers_is_caught_at_the_draws_that_the_command_makes(seed):
    register("guidance", "almost", AlmostRight)
    config = load_config("gaussian-2d", [*SKY, f"seed={seed}", "guidance.resolution=16"])
    node = config.guidance.model_copy(update={"type": "almost"})
    with pytest.raises(GuidanceError, match=r"standard errors from its own closed form"):
        check_guidance_at(compose(config.model_copy(update={"guidance": node})), None, 1.0, 12, 64)


@pytest.mark.parametrize("draws", [2, 4, 16, 64])
def test_a_right_prior_is_not_accused_however_few_the_draws(draws):
    """5 seeds x 12 timesteps x 48 numbers: some mean of 2 draws is sure to be hundreds of its own standard errors off."""
    for seed in range(5):
        found = check_guidance_at(compose(load_config("gaussian-2d", [*SKY, f"seed={seed}"])), None, 1.0, 12, draws)
        assert found.closed_form
        worst = max(probe.off for probe in found.probes)
        assert f"at most {worst:.3g} standard errors off, of {found.limit:.3g} allowed" in found.table()


def test_the_limit_is_the_quantile_of_students_t():
    """One degree of freedom: Cauchy's, a tangent. Very many: the normal distribution's."""
    assert most_errors(2, 50) == pytest.approx(1 / math.tan(math.pi * FALSE_ALARMS / 100), rel=1e-6)
    normal = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), 1.0)
    expected = -normal.icdf(torch.tensor(FALSE_ALARMS / 1000, dtype=torch.float64))
    assert most_errors(10_000_000, 500) == pytest.approx(float(expected), rel=1e-4)


def test_a_mixture_or_a_scale_has_no_closed_form():
    assert not check_guidance_at(compose(load_config("gaussian-2d", [*SKY, "prompt=a coin"])), None, 1.0, 2, 8).closed_form
    assert not check_guidance_at(compose(load_config("gaussian-2d", SKY)), None, 3.0, 2, 8).closed_form


def test_the_command_writes_a_plot_and_keeps_an_old_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (9, 5), (100, 150, 230)).save("sky.png")
    command = ["guidance", "check", "gaussian-2d", *SKY, "--image", "sky.png", "--out", "plot.svg", "--points", "3"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "agrees with the closed form" in out
    assert out.splitlines()[-1] == "plot.svg"
    root = ET.parse("plot.svg").getroot()
    assert len(root.findall(".//{http://www.w3.org/2000/svg}polyline")) == 3
    assert main(command) == 0
    assert Path("plot-2.svg").is_file()


def test_what_cannot_be_read_or_asked_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["guidance", "check", "gaussian-2d", *SKY, "--image", "gone.png"]) == 2
    assert "--image gone.png: cannot be read as a picture" in capsys.readouterr().err


def test_the_image_is_stretched_to_the_priors_square(tmp_path):
    Image.new("RGB", (8, 2), (255, 0, 51)).save(tmp_path / "a.png")
    found = read_image(tmp_path / "a.png", 4)
    assert found.shape == (1, 3, 4, 4)
    torch.testing.assert_close(found[0, :, 1, 2], torch.tensor([1.0, 0.0, 0.2]))
    assert read_image(None, 2).unique().tolist() == [0.5]


def test_a_line_goes_where_its_logarithm_says():
    """Powers of ten at equal steps of height; what has no logarithm is left out; words are escaped."""
    svg = log_plot("a < b", "t", "y", [0, 1, 2, 3], [Line("one", [0.1, 1, 10, 0.0]), Line("two", [1, math.nan, 1, 1])])
    lines = ET.fromstring(svg).findall(".//{http://www.w3.org/2000/svg}polyline")
    one, two = ([tuple(map(float, pair.split(","))) for pair in line.get("points").split()] for line in lines)
    assert len(one) == len(two) == 3
    assert one[0][1] - one[1][1] == pytest.approx(one[1][1] - one[2][1], abs=0.2)
    assert one[0][1] > one[1][1] == two[0][1]
    with pytest.raises(ValueError, match="nothing to plot"):
        log_plot("", "", "", [0, 1], [Line("zero", [0.0, 0.0])])
