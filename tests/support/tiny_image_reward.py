"""A small ImageReward with random weights, under the names of BLIP's own code, and its forward pass by hand."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import conv2d, gelu, layer_norm, linear, softmax

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "blue", "cube", "car"]
SIDE, PATCH, WIDTH, TEXT, HEADS = 32, 16, 128, 24, 2
Weights = dict[str, Tensor]


def random_weights(seed: int = 0) -> Weights:
    """Two layers of either transformer, and the five linear layers of the head."""
    generator, found = torch.Generator().manual_seed(seed), {}

    def add(name: str, *shape: int, around: float = 0.0) -> None:
        found[name] = around + 0.3 * torch.randn(*shape, generator=generator)

    def add_linear(name: str, inside: int, outside: int) -> None:
        found[f"{name}.weight"] = torch.randn(outside, inside, generator=generator) / inside**0.5
        add(f"{name}.bias", outside)

    def add_norm(name: str, width: int) -> None:
        add(f"{name}.weight", width, around=1.0)
        add(f"{name}.bias", width)

    eye, reader = "blip.visual_encoder.", "blip.text_encoder."
    add(f"{eye}cls_token", 1, 1, WIDTH)
    add(f"{eye}pos_embed", 1, 1 + (SIDE // PATCH) ** 2, WIDTH)
    add(f"{eye}patch_embed.proj.weight", WIDTH, 3, PATCH, PATCH)
    add(f"{eye}patch_embed.proj.bias", WIDTH)
    for block in (f"{eye}blocks.{number}." for number in range(2)):
        for norm in ("norm1", "norm2"):
            add_norm(block + norm, WIDTH)
        for name, inside, outside in (("attn.qkv", WIDTH, 3 * WIDTH), ("attn.proj", WIDTH, WIDTH)):
            add_linear(block + name, inside, outside)
        add_linear(f"{block}mlp.fc1", WIDTH, 48)
        add_linear(f"{block}mlp.fc2", 48, WIDTH)
    add_norm(f"{eye}norm", WIDTH)
    add(f"{reader}embeddings.word_embeddings.weight", len(WORDS) + 2, TEXT)
    add(f"{reader}embeddings.position_embeddings.weight", 40, TEXT)
    add_norm(f"{reader}embeddings.LayerNorm", TEXT)
    found[f"{reader}embeddings.position_ids"] = torch.arange(40)[None]
    for layer in (f"{reader}encoder.layer.{number}." for number in range(2)):
        for kind, seen in (("attention", TEXT), ("crossattention", WIDTH)):
            add_linear(f"{layer}{kind}.self.query", TEXT, TEXT)
            add_linear(f"{layer}{kind}.self.key", seen, TEXT)
            add_linear(f"{layer}{kind}.self.value", seen, TEXT)
            add_linear(f"{layer}{kind}.output.dense", TEXT, TEXT)
            add_norm(f"{layer}{kind}.output.LayerNorm", TEXT)
        add_linear(f"{layer}intermediate.dense", TEXT, 48)
        add_linear(f"{layer}output.dense", 48, TEXT)
        add_norm(f"{layer}output.LayerNorm", TEXT)
    for place, inside, outside in ((0, TEXT, 16), (2, 16, 12), (4, 12, 8), (6, 8, 4), (7, 4, 1)):
        add_linear(f"mlp.layers.{place}", inside, outside)
    add("blip.vision_proj.weight", 4, WIDTH)  # of the pretraining: nobody reads it
    return found


def image_reward_folder(parent: Path, weights: Weights) -> Path:
    """Saves it in `parent`/reward, with its words."""
    from transformers import BertTokenizerFast

    folder = parent / "reward"
    folder.mkdir()
    torch.save(weights, folder / "ImageReward.pt")
    text = {"hidden_size": TEXT, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": HEADS}
    text |= {"vocab_size": len(WORDS) + 2, "max_position_embeddings": 40, "hidden_act": "gelu", "layer_norm_eps": 1e-12}
    (folder / "med_config.json").write_text(json.dumps(text | {"pad_token_id": 0, "encoder_width": 7}))
    (parent / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    BertTokenizerFast(vocab=str(parent / "vocab.txt"), vocab_file=str(parent / "vocab.txt")).save_pretrained(folder)
    return folder


def forward(weights: Weights, tokens: list[int], image: Tensor) -> float:
    """The network's number for one prepared picture (3, SIDE, SIDE), by plain formulas. Padding is left out, as masks do."""

    def dense(name: str, x: Tensor) -> Tensor:
        return linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(name: str, x: Tensor, eps: float) -> Tensor:
        return layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], eps)

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        parts = []
        for q, k, v in zip(*(one.chunk(HEADS, dim=-1) for one in (query, key, value)), strict=True):
            parts.append(softmax(q @ k.T / q.shape[-1] ** 0.5, dim=-1) @ v)
        return torch.cat(parts, dim=-1)

    eye, reader = "blip.visual_encoder.", "blip.text_encoder."
    patches = conv2d(image[None], weights[f"{eye}patch_embed.proj.weight"], weights[f"{eye}patch_embed.proj.bias"], stride=PATCH)
    x = torch.cat([weights[f"{eye}cls_token"][0], patches[0].flatten(1).T]) + weights[f"{eye}pos_embed"][0]
    for block in (f"{eye}blocks.{number}." for number in range(2)):
        query, key, value = dense(f"{block}attn.qkv", norm(f"{block}norm1", x, 1e-6)).chunk(3, dim=-1)
        x = x + dense(f"{block}attn.proj", attend(query, key, value))
        x = x + dense(f"{block}mlp.fc2", gelu(dense(f"{block}mlp.fc1", norm(f"{block}norm2", x, 1e-6))))
    seen = norm(f"{eye}norm", x, 1e-6)
    words = weights[f"{reader}embeddings.word_embeddings.weight"][tokens]
    y = words + weights[f"{reader}embeddings.position_embeddings.weight"][: len(tokens)]
    y = norm(f"{reader}embeddings.LayerNorm", y, 1e-12)
    for layer in (f"{reader}encoder.layer.{number}." for number in range(2)):
        for kind in ("attention", "crossattention"):
            other = y if kind == "attention" else seen
            asked = [dense(f"{layer}{kind}.self.{name}", one) for name, one in (("query", y), ("key", other), ("value", other))]
            y = norm(f"{layer}{kind}.output.LayerNorm", y + dense(f"{layer}{kind}.output.dense", attend(*asked)), 1e-12)
        inner = gelu(dense(f"{layer}intermediate.dense", y))
        y = norm(f"{layer}output.LayerNorm", y + dense(f"{layer}output.dense", inner), 1e-12)
    out = y[0]
    for place in (0, 2, 4, 6, 7):
        out = dense(f"mlp.layers.{place}", out)
    return float(out)
