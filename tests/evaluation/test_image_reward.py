"""ImageReward's score, against its formulas on a small random model under the names of BLIP's own code."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_image_reward import SIDE, WORDS, Weights, forward, image_reward_folder, random_weights

from dfw import Shown, orbit
from dfw.errors import GuidanceError
from dfw_scorers.image_reward import COLOUR_DEVIATION, COLOUR_MEAN, DEVIATION, MEAN, WEIGHTS, ImageReward


@pytest.fixture(scope="module")
def weights() -> Weights:
    return random_weights()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, weights: Weights) -> Path:
    return image_reward_folder(tmp_path_factory.mktemp("reward"), weights)


@pytest.fixture(scope="module")
def run() -> Shown:
    """18 views of coloured squares, more than one batch, wider than the model's pictures."""
    squares = torch.randint(0, 256, (18, 2, 2, 3), generator=torch.Generator().manual_seed(4), dtype=torch.uint8)
    colour = squares.repeat_interleave(25, 1).repeat_interleave(25, 2)
    return Shown("a red car", orbit(18, 0.0, 3.0, 40.0, 50, 50), colour, torch.full((18, 50, 50), 255, dtype=torch.uint8))


def scorer(folder: Path) -> ImageReward:
    return ImageReward(ImageReward.Config(model=str(folder), tokenizer=str(folder)))


def test_the_score_is_what_the_formulas_give(folder: Path, weights: Weights, run: Shown) -> None:
    with torch.no_grad():
        (found, another) = scorer(folder).score([run, replace(run, prompt="a blue cube")])
    for score, text in ((found, ("a", "red", "car")), (another, ("a", "blue", "cube"))):
        tokens = [WORDS.index(word) for word in ("[CLS]", *text, "[SEP]")]
        wanted = []
        for view in run.colour:
            small = np.asarray(Image.fromarray(view.numpy()).resize((SIDE, SIDE), Image.Resampling.BICUBIC)) / 255
            picture = torch.from_numpy((small - np.array(COLOUR_MEAN)) / np.array(COLOUR_DEVIATION)).permute(2, 0, 1).float()
            wanted.append((forward(weights, tokens, picture) - MEAN) / DEVIATION)
        assert score.per_view == pytest.approx(wanted, abs=2e-4)
        assert np.std(wanted) > 0.01, "the pictures make no difference"
    assert found.per_view != pytest.approx(another.per_view, abs=1e-2)


def test_a_run_without_a_prompt_has_no_score(folder: Path, run: Shown) -> None:
    (found,) = scorer(folder).score([replace(run, prompt="")])
    assert (found.value, found.per_view, found.details) == (None, None, {"why": "the run has no prompt"})


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("code ran",))


def test_what_is_not_its_file_is_one_sentence_and_no_code_of_a_pickle_runs(
    folder: Path, weights: Weights, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = image_reward_folder(tmp_path, {name: value for name, value in weights.items() if "blocks.1.attn.qkv" not in name})
    with pytest.raises(GuidanceError, match=r"reward: does not load .*self_attn\.qkv"):
        scorer(broken)
    torch.save({"something": torch.zeros(1)}, broken / WEIGHTS)
    with pytest.raises(GuidanceError, match="it is not ImageReward's"):
        scorer(broken)
    (broken / WEIGHTS).write_bytes(pickle.dumps(Evil()))
    with pytest.raises(GuidanceError):
        scorer(broken)
    assert "code ran" not in capsys.readouterr().out
