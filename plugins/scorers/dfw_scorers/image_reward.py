"""ImageReward (Xu et al. 2023, arXiv 2304.05977): what people would say of a picture of a text.

BLIP's text encoder looks at the picture by cross-attention, and a few linear layers make a number of its first token.
transformers' classes hold BLIP. The published file is `ImageReward.pt`, which names weights as BLIP's own code does. It is read
as tensors alone, without the code that a pickle can hold. Facts: `ImageReward/ImageReward.py` of the authors' repository.

Legend: B views, D width of the text encoder. transformers is imported when a model loads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from pydantic import field_validator
from torch import Tensor, nn

from dfw import ComponentConfig, Model, Score, Scorer, Shown
from dfw_scorers.clip import NO_TEXT
from dfw_scorers.hub import loading, settled

WEIGHTS, TEXT_CONFIG = "ImageReward.pt", "med_config.json"
MEAN, DEVIATION = 0.16717362830052426, 1.0333394966054072
"""Of the network's numbers over the authors' data: the score has mean 0 and deviation 1 there."""
TOKENS = 35
HEAD = 64
"""Width of an attention head in BLIP's vision transformers of all sizes."""
COLOUR_MEAN, COLOUR_DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""CLIP's, which BLIP's pictures are normalised by."""
BERT = "google-bert/bert-base-uncased"

_VISION = (
    (r"^cls_token$", "embeddings.class_embedding"),
    (r"^pos_embed$", "embeddings.position_embedding"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embedding."),
    (r"^blocks\.", "encoder.layers."),
    (r"\.attn\.proj\.", ".self_attn.projection."),
    (r"\.attn\.", ".self_attn."),
    (r"\.norm([12])\.", r".layer_norm\1."),
    (r"^norm\.", "post_layernorm."),
)
"""Names of BLIP's own vision transformer -> those of transformers."""


class Blip(nn.Module):
    """The frozen network, with its preparation of pictures and texts."""

    def __init__(self, model: str, tokenizer: str) -> None:
        """Loads a hub id, or a folder with `ImageReward.pt` and `med_config.json`. Raises GuidanceError."""
        super().__init__()
        with loading(model):
            weights, text = torch.load(_file(model, WEIGHTS), map_location="cpu", weights_only=True), _file(model, TEXT_CONFIG)
            networks = _networks(weights, json.loads(text.read_text(encoding="utf-8")))
        self.vision: Any
        self.text: Any
        self.head: Any
        self.vision, self.text, self.head = networks
        with loading(tokenizer):
            from transformers import BertTokenizer

            self.tokenizer: Any = BertTokenizer.from_pretrained(tokenizer)
        self.eval().requires_grad_(False)

    def rewards(self, run: Shown) -> Tensor:
        """Returns the scores (B,) of a run's views, on the CPU."""
        device: torch.device = self.head[0].weight.device
        options = {"padding": "max_length", "truncation": True, "max_length": TOKENS, "return_tensors": "pt"}
        words = self.tokenizer(run.prompt, **options).to(device)
        found = []
        for part in torch.split(run.colour, 16):
            seen = self.vision(pixel_values=self._pictures(part).to(device)).last_hidden_state
            read = self.text(
                input_ids=words.input_ids.expand(len(part), -1),
                attention_mask=words.attention_mask.expand(len(part), -1),
                encoder_hidden_states=seen,
                encoder_attention_mask=torch.ones(seen.shape[:2], dtype=torch.long, device=device),
                is_decoder=False,
            ).last_hidden_state[:, 0]
            found.append((self.head(read.float())[:, 0] - MEAN) / DEVIATION)
        return torch.cat(found).cpu()

    def _pictures(self, colour: Tensor) -> Tensor:
        """Bytes (B, H, W, 3) of square views -> (B, 3, side, side), as the authors prepare them: bicubic, then normalised."""
        side: int = self.vision.config.image_size
        sized = [Image.fromarray(one.numpy()).resize((side, side), Image.Resampling.BICUBIC) for one in colour]
        pixels = torch.stack([torch.frombuffer(bytearray(one.tobytes()), dtype=torch.uint8).view(side, side, 3) for one in sized])
        scaled = (pixels.float() / 255 - torch.tensor(COLOUR_MEAN)) / torch.tensor(COLOUR_DEVIATION)
        return scaled.permute(0, 3, 1, 2)


def _file(model: str, name: str) -> Path:
    if Path(model).is_absolute():
        return Path(model) / name
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(model, name))


def _networks(weights: Mapping[str, Tensor], text: Mapping[str, Any]) -> tuple[nn.Module, nn.Module, nn.Sequential]:
    """Builds the three networks in the sizes that the weights have, and fills them. Raises if one lacks a weight."""
    from transformers import BlipTextConfig, BlipVisionConfig, BlipVisionModel
    from transformers.models.blip.modeling_blip_text import BlipTextModel

    seen, read, head = (_below(weights, name) for name in ("blip.visual_encoder.", "blip.text_encoder.", "mlp."))
    patch, width = seen["patch_embed.proj.weight"], seen["cls_token"].shape[-1]
    vision = BlipVisionModel(
        BlipVisionConfig(
            hidden_size=width,
            intermediate_size=seen["blocks.0.mlp.fc1.weight"].shape[0],
            num_hidden_layers=1 + max(int(name.split(".")[1]) for name in seen if name.startswith("blocks.")),
            num_attention_heads=width // HEAD,
            image_size=round((seen["pos_embed"].shape[1] - 1) ** 0.5) * patch.shape[-1],
            patch_size=patch.shape[-1],
            hidden_act="gelu",
            layer_norm_eps=1e-6,
        )
    )
    kept = ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act"]
    kept += ["max_position_embeddings", "layer_norm_eps", "pad_token_id"]
    options = {name: text[name] for name in kept if name in text}
    reader = BlipTextModel(BlipTextConfig(**options, encoder_hidden_size=width, is_decoder=True), add_pooling_layer=False)
    layers: list[nn.Module] = []
    for name in sorted((one for one in head if one.endswith(".weight")), key=lambda one: int(one.split(".")[1])):
        layers.append(nn.Linear(head[name].shape[1], head[name].shape[0]))
    last = nn.Sequential(*layers)  # the authors put dropout between the layers, which does nothing here
    vision.load_state_dict({_renamed(name): value for name, value in seen.items()})
    reader.load_state_dict({name: value for name, value in read.items() if not name.endswith("position_ids")})
    order = sorted(head, key=lambda one: int(one.split(".")[1]))
    places = {name.split(".")[1]: None for name in order}
    at = {place: str(index) for index, place in enumerate(places)}
    last.load_state_dict({f"{at[name.split('.')[1]]}.{name.split('.')[2]}": value for name, value in head.items()})
    return vision, reader, last


def _below(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    found = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    if not found:
        raise ValueError(f"it has no weights {prefix}*, so it is not ImageReward's {WEIGHTS}")
    return found


def _renamed(name: str) -> str:
    for pattern, replacement in _VISION:
        name = re.sub(pattern, replacement, name)
    return name


class ImageReward(Scorer, nn.Module):
    """The score of each view with the prompt, averaged over the views or as the protocol does: T3Bench's own measure.

    It is about 0 for the pictures of its authors' data, with a deviation of 1. The weights come as `ImageReward.pt`.
    """

    class Config(ComponentConfig):
        """Which ImageReward."""

        model: str = "THUDM/ImageReward"
        """A hub id, or a folder that holds `ImageReward.pt` and `med_config.json`."""
        tokenizer: str = BERT
        """The words of BERT, which BLIP reads: a hub id, or a folder in transformers' layout."""

        @field_validator("model", "tokenizer")
        @classmethod
        def _place(cls, value: str) -> str:
            return settled(value)

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.blip = Blip(config.model, config.tokenizer)

    @classmethod
    def models(cls) -> tuple[Model, ...]:
        """Returns the published weights, and the words that they need."""
        return (
            Model("THUDM/ImageReward", ("THUDM/ImageReward",), files=(WEIGHTS, TEXT_CONFIG), gigabytes=0.9, licence="apache-2.0"),
            Model(BERT, (BERT,), files=("vocab.txt", "tokenizer*.json", "config.json"), gigabytes=0.001, licence="apache-2.0"),
        )

    def score(self, runs: Sequence[Shown]) -> list[Score]:
        """Returns a score for each run."""
        return [
            Score(per_view=tuple(self.blip.rewards(run).tolist())) if run.prompt else Score(details={"why": NO_TEXT})
            for run in runs
        ]
