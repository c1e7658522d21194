"""CLIP's scores, against transformers' own forward on a tiny random model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tiny_clip import clip_folder
from torch import Tensor

import dfw
from dfw import Score, Scorer, Shown, orbit
from dfw.errors import ConfigError, GuidanceError

TEXTS = ("a red car", "a", "a cube")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip_folder(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def run() -> Shown:
    """20 views of coloured squares, more than one batch, wider than the model's pictures."""
    squares = torch.randint(0, 256, (20, 2, 2, 3), generator=torch.Generator().manual_seed(4), dtype=torch.uint8)
    colour = squares.repeat_interleave(20, 1).repeat_interleave(20, 2)
    opacity = torch.full((20, 40, 40), 255, dtype=torch.uint8)
    return Shown(TEXTS[0], orbit(20, 0.0, 3.0, 40.0, 40, 40), colour, opacity, prompts=TEXTS)


@pytest.fixture(scope="module")
def cosines(folder: Path, run: Shown) -> Tensor:
    """(20, 3): each view by itself, each text by itself, as transformers' model card says."""
    from transformers import CLIPModel, CLIPProcessor

    model, processor = CLIPModel.from_pretrained(folder), CLIPProcessor.from_pretrained(folder)
    rows = []
    for picture in run.colour:
        row = []
        for text in TEXTS:
            read: Any = processor(text=text, images=Image.fromarray(picture.numpy()), return_tensors="pt")
            with torch.no_grad():
                row.append(float(model(**read).logits_per_image / model.logit_scale.exp()))
        rows.append(row)
    return torch.tensor(rows)


def scored(name: str, folder: Path, runs: list[Shown], **options: object) -> list[Score]:
    made = dfw.build("scorer", name, model=str(folder), **options)
    assert isinstance(made, Scorer)
    with torch.no_grad():
        return list(made.score(runs))


def test_clip_score_is_a_hundred_cosines(folder: Path, run: Shown, cosines: Tensor) -> None:
    (found,) = scored("clip-score", folder, [run])
    assert found.per_view == pytest.approx((100 * cosines[:, 0]).tolist(), abs=1e-3)
    assert found.value is None  # the protocol makes it of the views
    assert torch.tensor(found.per_view).std() > 1e-3


def test_r_precision_counts_views_that_find_their_prompt(folder: Path, run: Shown, cosines: Tensor) -> None:
    best = cosines.argmax(1)
    assert len(set(best.tolist())) > 1  # else the test says nothing
    for index, text in enumerate(TEXTS):
        (found,) = scored("clip-r-precision", folder, [replace(run, prompt=text)])
        assert found.value == pytest.approx(float((best == index).float().mean()))
        assert found.per_view == tuple((best == index).float().tolist())
        assert found.details == {"among": "3 prompts"}


def test_r_precision_takes_a_list_of_prompts(folder: Path, run: Shown, cosines: Tensor, tmp_path: Path) -> None:
    (tmp_path / "two.txt").write_text(f"# rivals\n{TEXTS[2]}\n\n{TEXTS[0]}\n")
    (found,) = scored("clip-r-precision", folder, [run], prompts=str(tmp_path / "two.txt"))
    assert found.value == pytest.approx(float((cosines[:, 0] > cosines[:, 2]).float().mean()))
    assert found.details == {"among": "2 prompts"}
    with pytest.raises(ConfigError, match=r"prompts: cannot read .*none\.txt: No such file.*or @embedded"):
        scored("clip-r-precision", folder, [run], prompts=str(tmp_path / "none.txt"))


def test_what_cannot_be_scored_says_why(folder: Path, run: Shown) -> None:
    for name in ("clip-score", "clip-r-precision"):
        (found,) = scored(name, folder, [replace(run, prompt="")])
        assert (found.value, found.per_view, found.details) == (None, None, {"why": "the run has no prompt"})
    (found,) = scored("clip-r-precision", folder, [replace(run, prompts=(run.prompt,))])
    assert str(found.details["why"]).startswith("there is no other prompt")


def test_diversity_compares_the_embeddings_of_the_same_views(folder: Path, run: Shown) -> None:
    turned = replace(run, colour=run.colour.roll(1, 0), seed=1)
    scores = scored("diversity", folder, [run, turned])
    from transformers import CLIPModel, CLIPProcessor

    model, processor = CLIPModel.from_pretrained(folder), CLIPProcessor.from_pretrained(folder)
    read: Any = processor(text=["a"], images=[Image.fromarray(one.numpy()) for one in run.colour], return_tensors="pt")
    with torch.no_grad():
        embedded = model(**read).image_embeds
    apart = float((1 - (embedded * embedded.roll(1, 0)).sum(1)).mean())
    assert [score.value for score in scores] == pytest.approx([apart, apart], abs=1e-5)


def test_a_model_that_is_not_there_is_one_sentence(run: Shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # the variable is read at import alone
    with pytest.raises(GuidanceError, match="no such folder"):
        scored("clip-score", tmp_path / "none", [run])
    (tmp_path / "empty").mkdir()
    with pytest.raises(GuidanceError, match="does not load as a CLIP model"):
        scored("clip-score", tmp_path / "empty", [run])
    with pytest.raises(GuidanceError, match="fetch it with: dfw models fetch nobody/nothing"):
        dfw.build("scorer", "clip-score", model="nobody/nothing")
    with pytest.raises(ConfigError, match="neither a folder nor a hub id"):
        dfw.build("scorer", "clip-score", model="nothing")
