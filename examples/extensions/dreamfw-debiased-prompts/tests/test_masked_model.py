"""A tiny random BERT in place of a trained one: the same classes, files and arithmetic."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from dreamfw_debiased_prompts.scorers import MaskedModel
from transformers import BertConfig, BertForMaskedLM

import dfw
from dfw import Prompter

VIEWS = ("overhead", "front", "side", "back")
QUESTION = "this image is depicting a {mask} view of {prompt}"
SENTENCE = ["this", "image", "is", "depicting", "a", "[MASK]", "view", "of"]
WORDS = list(dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *VIEWS, *SENTENCE, "smiling", "duck"]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp("bert")
    (place / "vocab.txt").write_text("\n".join(WORDS))
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = BertConfig(vocab_size=len(WORDS), initializer_range=1.0, **size)
    BertForMaskedLM(config).save_pretrained(place)
    return str(place)


def test_chances_are_what_the_model_puts_in_the_gap(folder: str) -> None:
    """Each prompt alone, without padding, token ids written by hand; softmax over the vocabulary, then over the four names."""
    found = MaskedModel(VIEWS, folder, QUESTION)(["a smiling duck", "a duck"])
    model = BertForMaskedLM.from_pretrained(folder).eval()
    number = {word: index for index, word in enumerate(WORDS)}
    for prompt, chances in zip(["a smiling duck", "a duck"], found, strict=True):
        said = ["[CLS]", *SENTENCE, *prompt.split(), "[SEP]"]
        with torch.no_grad():
            whole = model(torch.tensor([[number[word] for word in said]])).logits[0, said.index("[MASK]")].softmax(-1)
        expected = torch.stack([whole[number[view]] for view in VIEWS])
        torch.testing.assert_close(torch.tensor([chances[view] for view in VIEWS]), expected / expected.sum())
    assert found[0] != found[1]


def test_a_prompter_asks_it(folder: str) -> None:
    """The words that go are those that the rule finds with the model's probabilities, worked out here view by view."""
    made = dfw.build("prompter", "dreamfw-debiased-prompts/debiased", model=folder, question=QUESTION, threshold=1.0)
    assert isinstance(made, Prompter)
    full, *parts = MaskedModel(VIEWS, folder, QUESTION)(["a smiling duck", "smiling duck", "a duck", "a smiling"])
    expected = []
    for view in ("front", "side", "back", "side", "overhead"):
        kept = [w for w, part in zip(("a", "smiling", "duck"), parts, strict=True) if full[view] >= (full[view] + part[view]) / 2]
        expected.append(f"{' '.join(kept) or 'a smiling duck'}, {view} view")
    assert made.texts("a smiling duck") == tuple(expected)
    assert len(set(expected)) > 3  # the model has something to say


@pytest.mark.parametrize(("views", "word"), [(("front", "behind"), "behind"), (("front", "a view"), "a view")])
def test_views_must_be_words_that_the_model_knows(folder: str, views: tuple[str, ...], word: str) -> None:
    with pytest.raises(dfw.ConfigError, match=f"no single token for '{word}'"):
        MaskedModel(views, folder, QUESTION)(["a duck"])


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(dfw.ConfigError, match=r"cannot load .*nowhere.* as a masked language model"):
        MaskedModel(VIEWS, str(tmp_path / "nowhere"), QUESTION)(["a duck"])
