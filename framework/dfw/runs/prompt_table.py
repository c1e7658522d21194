"""The texts of a run as one guidance reads them: encoded once, then looked up for each step's views without leaving the device.

Legend: B views, V texts of the prompter, L tokens, D width of an embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dfw.errors import ConfigError, PromptError
from dfw.interfaces.checks import check_condition, check_conditioning, check_texts, check_wording
from dfw.interfaces.data import CameraBatch, Conditioning, PromptBatch, Wording
from dfw.interfaces.guidance import Guidance
from dfw.interfaces.prompter import Prompter


class PromptTable:
    """What one guidance is conditioned on: the prompt's texts, the negative one, and those that losses ask for.

    Each distinct text is encoded once, at construction. `shared`: texts as `Loss.texts` gives them; `by_view`: as
    `Loss.view_texts` does. A guidance that does not provide `text` is asked for its own conditions instead.
    """

    def __init__(
        self,
        guidance: Guidance,
        prompter: Prompter | None,
        prompt: str,
        negative_prompt: str = "",
        shared: Sequence[str] = (),
        by_view: Sequence[str] = (),
    ) -> None:
        self._prompter = prompter
        self._reads_text = "text" in type(guidance).provides(guidance.config)
        with torch.no_grad():
            if self._reads_text:
                self._encode(guidance, prompt, negative_prompt, shared, by_view)
            else:
                self._views, self._negative = guidance.conditional(), _nothing(guidance)
                check_condition(guidance, "conditional", self._views)
                self._others = {"": self._negative} if "" in shared else {}

    @property
    def prompter(self) -> Prompter:
        """What writes the prompt for views. Raises ConfigError in a run without one."""
        if self._prompter is None:
            raise ConfigError("this guidance reads text, and the run has no prompter")
        return self._prompter

    def _encode(
        self, guidance: Guidance, prompt: str, negative_prompt: str, shared: Sequence[str], by_view: Sequence[str]
    ) -> None:
        written = {text: self._written(text, prompt, text in by_view) for text in (*shared, *by_view)}
        texts = self._texts(prompt)
        wanted = dict.fromkeys([*texts, negative_prompt, *(row for rows in written.values() for row in rows)])
        own = type(guidance).unconditional is not Guidance.unconditional
        distinct = [text for text in wanted if text or not own]
        try:
            encoded = guidance.encode_text(distinct)  # all in one call: a large text encoder is loaded for it alone
        except PromptError as error:
            raise PromptError(f"prompt: {error}") from error
        check_conditioning(guidance, distinct, encoded)

        def table(rows: Sequence[str]) -> Conditioning:
            if own and tuple(rows) == ("",):
                return _nothing(guidance)
            return encoded.select(torch.tensor([distinct.index(row) for row in rows], device=encoded.embedding.device))

        self._views, self._negative = table(texts), table([negative_prompt])
        if negative_prompt and type(guidance).encode_negative is not Guidance.encode_negative:
            self._negative = guidance.encode_negative(negative_prompt)
            check_condition(guidance, "encode_negative", self._negative)
        self._others = {text: table(rows) for text, rows in written.items()}

    def _written(self, text: str, prompt: str, by_view: bool) -> tuple[str, ...]:
        """A loss's text for each view where it asks for that or names the prompt, else once."""
        return self._texts(text.replace("{prompt}", prompt)) if by_view or "{prompt}" in text else (text,)

    def _texts(self, prompt: str) -> tuple[str, ...]:
        return check_texts(self.prompter, self.prompter.texts(prompt))

    def batch(self, cameras: CameraBatch) -> PromptBatch:
        """What the guidance reads for the views of `cameras`, B rows each."""
        wording = self._wording(cameras) if self._reads_text else None

        def seen(table: Conditioning) -> Conditioning:
            if len(table) == 1 or wording is None:
                found = table.mapped(lambda tensor: tensor.expand(len(cameras), *tensor.shape[1:]))
            else:
                found = mixed(table, wording.rows, wording.weights)
            return replace(found, cameras=cameras)

        positive, negative = seen(self._views), seen(self._negative)
        texts = {text: seen(table) for text, table in self._others.items()}
        if wording is None or wording.away_rows is None:
            return PromptBatch(positive, negative, texts=texts)
        rows = wording.away_rows.unbind(1)
        away = tuple(replace(self._views.select(row), cameras=cameras) for row in rows)
        return PromptBatch(positive, negative, away, wording.away_weights, texts)

    def _wording(self, cameras: CameraBatch) -> Wording:
        found = self.prompter.choose(cameras)
        check_wording(self.prompter, found, len(cameras))
        return found.to(self._views.embedding.device)


def _nothing(guidance: Guidance) -> Conditioning:
    """No condition at all, as a guidance says it itself."""
    found = guidance.unconditional()
    check_condition(guidance, "unconditional", found)
    return found


def mixed(table: Conditioning, rows: Tensor, weights: Tensor) -> Conditioning:
    """The rows (B, K) of a table, mixed with weights (B, K): one as it is, two interpolated, more summed."""
    parts = [table.select(row) for row in rows.unbind(1)]
    if len(parts) == 1:
        return parts[0]

    def mix(*tensors: Tensor) -> Tensor:
        shares = [share.to(tensors[0]).view(-1, *[1] * (tensors[0].dim() - 1)) for share in weights.unbind(1)]
        if len(tensors) == 2:
            return torch.lerp(tensors[0], tensors[1], shares[1])
        return torch.stack([share * tensor for share, tensor in zip(shares, tensors, strict=True)]).sum(0)

    first = parts[0]
    pooled = None if first.pooled is None else mix(*(part.pooled for part in parts if part.pooled is not None))
    extras = {name: mix(*(part.extras[name] for part in parts)) for name in first.extras}
    return replace(first, embedding=mix(*(part.embedding for part in parts)), pooled=pooled, extras=extras)
