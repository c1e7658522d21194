"""Encodes texts with CLIP's text encoders (Radford et al. 2021), as the Stable Diffusion family reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from dfw import PromptError


def tokenise(tokenizer: Any, texts: Sequence[str], length: int) -> Any:
    """Returns token ids (B, `length`) and their attention mask, padded. Raises PromptError if a text has more tokens."""
    for text in texts:
        own = len(tokenizer("", verbose=False).input_ids)
        count = len(tokenizer(text, verbose=False).input_ids)
        if count > length:
            raise PromptError(f"{text!r} has {count - own} tokens and this model reads {length - own}; shorten it")
    return tokenizer(list(texts), padding="max_length", max_length=length, return_tensors="pt")


def context_length(tokenizer: Any, encoder: Any) -> int:
    """Returns the number of tokens that both tokenizer and encoder can hold."""
    return int(min(tokenizer.model_max_length, encoder.config.max_position_embeddings))


def last_hidden(tokenizer: Any, encoder: Any, texts: Sequence[str]) -> Tensor:
    """Returns the last layer's output (B, L, D), float32. Stable Diffusion 1 and 2 read it."""
    tokens = tokenise(tokenizer, texts, context_length(tokenizer, encoder)).to(encoder.device)
    masked = getattr(encoder.config, "use_attention_mask", False)
    hidden: Tensor = encoder(tokens.input_ids, attention_mask=tokens.attention_mask if masked else None)[0]
    return hidden.float()


def penultimate_hidden(tokenizer: Any, encoder: Any, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Returns the output of the layer before the last (B, L, D) and the pooled output (B, P), float32.

    Stable Diffusion XL (Podell et al. 2023) and 3 (Esser et al. 2024) read both. The pooled output is the encoder's projection
    if it has one, else the last layer's output at the end of the text.
    """
    tokens = tokenise(tokenizer, texts, context_length(tokenizer, encoder)).to(encoder.device)
    output = encoder(tokens.input_ids, output_hidden_states=True)
    pooled: Tensor = output.text_embeds if hasattr(output, "text_embeds") else output.pooler_output
    hidden: Tensor = output.hidden_states[-2]
    return hidden.float(), pooled.float()
