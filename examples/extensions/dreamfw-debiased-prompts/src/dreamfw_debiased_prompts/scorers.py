"""How likely a view is, given a prompt: from a table of words, or from a masked language model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from dfw import ConfigError

from .rule import plain


class Table:
    """P(v | prompt) = prod_u f_u(v) / sum_v' prod_u f_u(v'), with a factor for each word u in the table and 1 for all others.

    This is naive Bayes with all views equally likely: f_u(v) says how many times as often v is seen with the word as without.
    """

    def __init__(self, views: Sequence[str], factors: Mapping[str, Mapping[str, float]]) -> None:
        self._views = views
        self._factors = {plain(word): row for word, row in factors.items()}

    def __call__(self, prompts: Sequence[str]) -> list[dict[str, float]]:
        """For each prompt the probability of each view."""
        return [self._of(prompt) for prompt in prompts]

    def _of(self, prompt: str) -> dict[str, float]:
        rows = [self._factors[plain(word)] for word in prompt.split() if plain(word) in self._factors]
        total = {view: math.prod(row.get(view, 1.0) for row in rows) for view in self._views}
        return {view: value / sum(total.values()) for view, value in total.items()}


class MaskedModel:
    """P(v | prompt) from a masked language model: what it puts in a gap in `question`, among the views' names.

    Loads the model in each call and lets it go, as a run asks once.
    """

    def __init__(self, views: Sequence[str], model: str, question: str) -> None:
        self._views = views
        self._model = model
        self._question = question

    def __call__(self, prompts: Sequence[str]) -> list[dict[str, float]]:
        """For each prompt the probability of each view. Raises ConfigError for a model that cannot be used."""
        import torch
        from transformers import AutoModelForMaskedLM, AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(self._model)
            model = AutoModelForMaskedLM.from_pretrained(self._model).eval()
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ConfigError(
                f"prompter.model: cannot load {self._model!r} as a masked language model ({reason}); "
                "name one such as bert-base-uncased, or a folder that holds one"
            ) from error
        if tokenizer.mask_token is None:
            raise ConfigError(f"prompter.model: {self._model!r} has no mask token; name a masked language model")
        ids = [self._token(tokenizer(f" {view}", add_special_tokens=False).input_ids, tokenizer, view) for view in self._views]
        asked = [self._question.replace("{mask}", tokenizer.mask_token).replace("{prompt}", prompt) for prompt in prompts]
        read = tokenizer(asked, padding=True, return_tensors="pt")
        with torch.no_grad():
            logits = model(**read).logits.float()
        gap = (read.input_ids == tokenizer.mask_token_id).int().argmax(1)
        chances = logits[torch.arange(len(prompts)), gap][:, ids].softmax(-1)  # over the views' names alone
        return [dict(zip(self._views, row, strict=True)) for row in chances.tolist()]

    def _token(self, ids: Sequence[int], tokenizer: object, view: str) -> int:
        if len(ids) != 1 or ids[0] == getattr(tokenizer, "unk_token_id", None):
            raise ConfigError(f"prompter.views: {self._model!r} has no single token for {view!r}; write another word")
        return int(ids[0])
