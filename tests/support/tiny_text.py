"""Text encoders of the real classes with a few thousand random weights, and their tokenizers, built here."""

from __future__ import annotations

from typing import Any

from tiny_diffusion import WORDS
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPTextConfig, CLIPTokenizer, PreTrainedTokenizerFast, T5Config, T5EncoderModel


def clip_encoder(kind: Any, words: CLIPTokenizer, width: int, length: int, projection: int = 8) -> Any:
    """A CLIP text encoder of two layers, with a projection where `kind` has one."""
    config = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=length,
        projection_dim=projection,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    return kind(config)


def t5_tokenizer(length: int = 77) -> PreTrainedTokenizerFast:
    """A unigram tokenizer as T5's: words of this grammar, else letters; </s> at the end."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((f"▁{word}", -1.0) for word in WORDS)]
    pieces += [(letter, -10.0) for letter in "▁abcdefghijklmnopqrstuvwxyz,"]
    tokenizer = Tokenizer(models.Unigram(list(dict(pieces).items()), unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=length
    )


def t5_encoder(width: int = 8) -> T5EncoderModel:
    """A T5 encoder of one layer with gated feed-forward, as version 1.1 has."""
    return T5EncoderModel(
        T5Config(vocab_size=48, d_model=width, d_kv=4, d_ff=16, num_layers=1, num_heads=2, feed_forward_proj="gated-gelu")
    )
