"""Views that are larger than any guidance sees them are warned about: by a dry run, and once when a run starts."""

import logging

import pytest
from small_runs import GAUSSIAN, SCENE, config

from dfw.cli.main import main
from dfw.compose import compose
from dfw.runs.runner import run
from dfw.runs.wide_views import wide_views

SDS = {"guidance_scale": 1}


@pytest.fixture
def said(tmp_path):
    def call(sides=None, **changes) -> list[str]:
        return wide_views(compose(config(SCENE, tmp_path, **changes)), sides)

    return call


def test_views_of_the_size_that_the_guidance_sees_are_not_mentioned(said):
    assert said(cameras={"width": 16}) == []
    assert said(cameras={"width": 8}) == []


@pytest.mark.parametrize(
    ("cameras", "largest", "times"),
    [
        ({"width": 64}, 64, "16"),
        ({"width": {"from": 8, "to": 32, "start": 0.5, "end": 0.5}}, 32, "4"),
        ({"width": {"from": 32, "to": 8, "start": 0, "end": 1}}, 32, "4"),
        ({"width": 64, "height": 32}, 32, "4"),
        ({"type": "orthogonal", "width": 32}, 32, "4"),
    ],
)
def test_the_sentence_names_both_sizes_and_what_they_cost(said, cameras, largest, times):
    (sentence,) = said(cameras=cameras)
    assert sentence.startswith(f"cameras: views go up to {largest}x{largest} pixels, and guidance sees them at 16x16")
    assert f"about {times} times the pixels" in sentence


def test_a_guidance_that_is_loaded_knows_best(said):
    assert said({"guidance": 64}, cameras={"width": 64}) == []
    assert "sees them at 8x8" in said({"guidance": 8}, cameras={"width": 16})[0]


def test_the_guidance_that_sees_most_counts(said):
    models = {"coarse": GAUSSIAN, "fine": GAUSSIAN | {"resolution": 32}}
    both = {"a": {"type": "sds", "guidance": "coarse"} | SDS, "b": {"type": "sds", "guidance": "fine"} | SDS}
    options = {"guidance": None, "guidances": models, "cameras": {"width": 64}}
    assert "fine sees them at 32x32" in said(losses=both, **options)[0]
    assert "coarse sees them at 16x16" in said(losses={"a": both["a"]}, **options)[0]


def test_a_guidance_that_is_not_known_is_not_guessed(said):
    prior = {"type": "stable-diffusion", "model": "sd21-base"}
    assert said(guidance=prior, cameras={"width": 1024}) == []
    assert "sees them at 512x512" in said({"guidance": 512}, guidance=prior, cameras={"width": 1024})[0]


def test_the_shipped_prior_is_known_before_it_is_loaded(said):
    prior = {"type": "stable-diffusion", "model": "embedded"}
    assert "sees them at 64x64" in said(guidance=prior, cameras={"width": 256})[0]


def test_a_resolution_that_is_chosen_is_the_one_seen(said):
    prior = {"type": "stable-diffusion-xl", "resolution": 512}
    assert "sees them at 512x512" in said(guidance=prior, cameras={"width": 1024})[0]


def test_a_dry_run_warns(capsys):
    assert main(["run", "dreamfusion", "cameras.width=256", "--dry-run"]) == 0
    captured = capsys.readouterr()
    assert captured.err.count("about 16 times the pixels") == 1
    assert "WARNING: cameras: views go up to 256x256" in captured.err
    assert "times the pixels" not in captured.out


def test_a_run_warns_once(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "dfw"):
        run(config(SCENE, tmp_path, cameras={"width": 32}, trainer={"steps": 2}, export={"formats": []}), listeners=[])
    assert [record.getMessage() for record in caplog.records if "times the pixels" in record.getMessage()] == [
        "cameras: views go up to 32x32 pixels, and guidance sees them at 16x16; that is about 4 times the pixels, "
        "for antialiasing only"
    ]
