"""The parts of the small Stable Diffusion, in diffusers' own classes."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import torch
from captions import vocabulary
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

MAX_TOKENS = 16  # start, the 14 tokens of the longest caption, end; CLIP's 77 would only cost time
WIDTH = 128
"""Width of the text encoder."""


def build_vae() -> AutoencoderKL:
    """Makes the autoencoder: 64x64 images to 16x16x4 latents. It is narrow at full size, as each step goes back through it."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        norm_num_groups=1,
        latent_channels=4,
        sample_size=64,
        mid_block_add_attention=False,
    )


def build_unet(channels: tuple[int, ...] = (64, 96, 128), layers: int = 1) -> UNet2DConditionModel:
    """Makes the denoiser of 16x16x4 latents. It has attention only below full size."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=channels,
        layers_per_block=layers,
        down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * (len(channels) - 1)),
        up_block_types=(*("CrossAttnUpBlock2D",) * (len(channels) - 1), "UpBlock2D"),
        attention_head_dim=4,
        cross_attention_dim=WIDTH,
        norm_num_groups=16,
    )


def build_text(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Makes the text encoder: two transformer layers over at most ``MAX_TOKENS`` tokens."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        projection_dim=WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def build_scheduler() -> DDIMScheduler:
    """Makes the noise schedule of Stable Diffusion with v-prediction."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def _alphabet() -> list[str]:
    """Returns the printable stand-ins of the 256 bytes, in CLIP's order."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(b) for b in kept] + [chr(256 + n) for n in range(256 - len(kept))]


def build_tokenizer(folder: Path) -> CLIPTokenizer:
    """Writes a CLIP tokenizer to ``folder`` whose byte pairs join every word of the grammar into one token."""
    alphabet = _alphabet()
    tokens = [*alphabet, *(c + "</w>" for c in alphabet)]
    merges: list[str] = []
    for word in vocabulary():
        pieces = [*word[:-1], word[-1] + "</w>"]
        while len(pieces) > 1:
            rule = next((m for m in merges if tuple(m.split()) in set(pairwise(pieces))), None)
            if rule is None:
                rule = f"{pieces[0]} {pieces[1]}"
                merges.append(rule)
                tokens.append(rule.replace(" ", ""))
            left, right = rule.split()
            at = list(pairwise(pieces)).index((left, right))
            pieces[at : at + 2] = [left + right]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    table = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    (folder / "vocab.json").write_text(json.dumps(table), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    return CLIPTokenizer.from_pretrained(str(folder), model_max_length=MAX_TOKENS)


def count(module: torch.nn.Module) -> int:
    """Returns the number of parameters."""
    return sum(p.numel() for p in module.parameters())
