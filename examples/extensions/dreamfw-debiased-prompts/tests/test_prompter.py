"""The texts that a run gets, whoever writes the views' words; and what is said of options that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from dreamfw_debiased_prompts.prompter import Debiased

import dfw
from dfw import Prompter, cameras_at

SMILING = {"smiling": {"front": 20.0}, "beak": {"front": 4, "side": 4}}
"""P(back) is 1/23 with a smile and 1/4 without, so the ratio is 0.30."""


def debiased(**options: object) -> Prompter:
    made = dfw.build("prompter", "dreamfw-debiased-prompts/debiased", **{"table": SMILING, **options})
    assert isinstance(made, Debiased)
    return made


def test_each_view_keeps_the_words_that_suit_it() -> None:
    """A beak goes from back and overhead, where its ratio is (1/10) / ((1/10 + 1/4) / 2); a smile from the side too."""
    assert debiased().texts("a smiling duck") == (
        "a smiling duck, front view",
        "a duck, side view",
        "a duck, back view",
        "a duck, side view",
        "a duck, overhead view",
    )
    assert debiased().texts("a duck with a beak") == (
        "a duck with a beak, front view",
        "a duck with a beak, side view",
        "a duck with a, back view",
        "a duck with a beak, side view",
        "a duck with a, overhead view",
    )


@pytest.mark.parametrize(
    "inner", [{}, {"sectors": 8, "angles": 4, "mode": "interpolated"}, {"template": "{view} view of {prompt}"}]
)
@pytest.mark.parametrize("prompt", ["a smiling duck", "a duck", "smiling", ""])
def test_there_are_as_many_texts_as_the_other_prompter_has(inner: dict[str, object], prompt: str) -> None:
    made = debiased(prompter={"type": "dreamfw/directional", **inner})
    other = dfw.build("prompter", "dreamfw/directional", **inner)
    assert isinstance(other, Prompter)
    texts = made.texts(prompt)
    assert len(texts) == len(other.texts(prompt))
    if prompt != "a smiling duck":
        assert texts == tuple(other.texts(prompt))


def test_of_many_views_each_belongs_to_the_first_name_in_its_words() -> None:
    """Eight sectors at four heights: those with front in them keep the smile, except under an overhead angle."""
    inner = {"type": "dreamfw/directional", "sectors": 8, "angles": 4}
    texts = debiased(prompter=inner).texts("a smiling duck")
    assert len(texts) == 32
    assert [("smiling" in text) == ("front" in text and "overhead" not in text) for text in texts] == [True] * 32
    assert sum("smiling" in text for text in texts) == 9


def test_cameras_find_their_words_as_without_it() -> None:
    made, other = debiased(), dfw.build("prompter", "dreamfw/directional")
    assert isinstance(other, Prompter)
    azimuth = torch.tensor([0.0, 100.0, 180.0, 20.0])
    elevation, ones = torch.tensor([0.0, 0.0, 10.0, 80.0]), torch.ones(4)
    cameras = cameras_at(azimuth, elevation, 3 * ones, 40 * ones, 8, 8)
    assert torch.equal(made.choose(cameras).rows, other.choose(cameras).rows)
    shown = made.views()
    assert shown is not None
    assert len(shown) == len(made.texts("a duck"))


def test_only_the_words_that_may_go_do() -> None:
    assert debiased(words=["beak"]).texts("a smiling duck") == debiased(table={"x": {}}).texts("a smiling duck")
    assert debiased(words=["Smiling"]).texts("a smiling, old duck")[2] == "a old duck, back view"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"table": {}}, "give either table, e.g. table: {smiling: {front: 20}}, or model"),
        ({"model": "some/model"}, "give either table"),
        ({"table": {"smiling": {"left": 2}}}, "table.smiling: no view 'left'; the views are overhead, front, side, back"),
        ({"table": {"smiling": {"front": 0}}}, "greater than 0"),
        ({"question": "a {mask} view"}, "must hold {mask} and {prompt}"),
        ({"views": ["front"]}, "at least 2"),
    ],
)
def test_options_that_cannot_be_used_are_named(options: dict[str, object], said: str) -> None:
    with pytest.raises(dfw.ConfigError) as caught:
        debiased(**options)
    assert said in " ".join(str(caught.value).split())


def test_a_run_reads_the_shortened_texts(tmp_path: Path) -> None:
    """Gaussian data whose mean depends on the text: a text that is not among them would be refused before the first step."""
    texts = ["a duck, front view, front view", *(f"a duck, {view} view" for view in ("side", "back", "overhead"))]
    config = yaml.safe_load((Path(__file__).parents[1] / "debiased.yaml").read_text())
    config |= {
        "extends": None,
        "prompt": "a duck, front view",
        "geometry": {"type": "dreamfw/nerf", "encoding": {"type": "hash-grid", "levels": 2, "log2_size": 8}},
        "renderer": {"type": "dreamfw/volume", "samples": 16},
        "guidance": {"type": "dreamfw/gaussian", "means": {text: [0.5, 0.5, 0.5] for text in texts}, "resolution": 8},
        "losses": {"sds": {"guidance_scale": 1}},
        "cameras": {"width": 8, "batch_size": 4, "elevation": [0, 90]},
        "trainer": {"steps": 2},
        "device": "cpu",
    }
    config["prompter"] |= {"prompter": {"type": "dreamfw/directional"}}
    del config["extends"]
    with dfw.trainer(config) as trainer:
        assert len(list(trainer)) == 2
    with pytest.raises(dfw.DfwError, match="front view, side view"), dfw.trainer(config, prompter="dreamfw/directional"):
        pass
