"""A CLIP of the real class with a few thousand random weights, saved in transformers' own layout."""

from __future__ import annotations

from pathlib import Path

import torch
from tiny_diffusion import LENGTH, tokenizer
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

SIDE = 32


def clip_folder(parent: Path, seed: int = 0) -> Path:
    """Saves it in `parent`/clip: pictures of 32 pixels, 12 tokens, embeddings of width 8."""
    words = tokenizer(parent / "words")
    text = {
        "vocab_size": len(words),
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": LENGTH,
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id,
    }
    vision = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": SIDE, "patch_size": 8}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))
    folder = parent / "clip"
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return folder
