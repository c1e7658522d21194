"""CLIP (Radford et al. 2021): loads it with transformers' own classes, and scores views against prompts.

Legend: B views, N texts, D width of an embedding. transformers is imported when a model loads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pydantic import field_validator
from torch import Tensor, nn

from dfw import ComponentConfig, Model, Score, Scorer, Shown, prompt_list
from dfw_scorers.hub import loading, settled

BIG_G = "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k"


class Clip(nn.Module):
    """A frozen CLIP model with its own preparation of pictures and texts."""

    def __init__(self, model: str) -> None:
        """Loads a hub id or a folder in transformers' layout, with weights in safetensors. Raises GuidanceError."""
        super().__init__()
        with loading(model):
            from transformers import CLIPModel, CLIPProcessor

            loaded: Any = CLIPModel.from_pretrained(model, use_safetensors=True)
            self.network: Any = loaded.eval().requires_grad_(False)
            self.processor: Any = CLIPProcessor.from_pretrained(model)

    @property
    def device(self) -> torch.device:
        """Where it stands."""
        device: torch.device = self.network.device
        return device

    def views(self, run: Shown) -> Tensor:
        """Returns the embeddings (B, D) of a run's views, of unit length, on the CPU."""
        found = [self._embed(images=list(part.numpy()), text=[""])[0] for part in torch.split(run.colour, 16)]
        return torch.cat(found)

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Returns the embeddings (N, D) of texts, of unit length, on the CPU. Words beyond CLIP's 77 tokens are left out."""
        blank = torch.zeros(1, 8, 8, 3, dtype=torch.uint8).numpy()
        return self._embed(images=list(blank), text=list(texts))[1]

    def _embed(self, **inputs: Any) -> tuple[Tensor, Tensor]:
        read = self.processor(**inputs, return_tensors="pt", padding=True, truncation=True).to(self.device)
        with torch.no_grad():
            found = self.network(**read)
        return found.image_embeds.float().cpu(), found.text_embeds.float().cpu()


class ClipConfig(ComponentConfig):
    """Which CLIP."""

    model: str = "openai/clip-vit-large-patch14"
    """A hub id, or a folder in transformers' layout, with weights in safetensors. Papers name ViT-L/14 (the default), ViT-B/32
    (openai/clip-vit-base-patch32) and ViT-bigG/14 (laion/CLIP-ViT-bigG-14-laion2B-39B-b160k); their scores cannot be compared."""

    @field_validator("model")
    @classmethod
    def _place(cls, value: str) -> str:
        return settled(value)


FILES = ("*.json", "*.txt", "model.safetensors", "model-*.safetensors")
MODELS = (
    Model("openai/clip-vit-large-patch14", ("openai/clip-vit-large-patch14",), files=FILES, gigabytes=0.86),
    Model("openai/clip-vit-base-patch32", ("openai/clip-vit-base-patch32",), files=FILES, gigabytes=0.30),
    Model(BIG_G, (BIG_G,), files=FILES, gigabytes=5.1, licence="mit"),
)
"""The CLIPs that papers name."""


class _WithClip(Scorer, nn.Module):
    """A scorer that looks at views with CLIP."""

    Config: ClassVar[type[ComponentConfig]] = ClipConfig
    config: Any

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.clip = Clip(config.model)

    @classmethod
    def models(cls) -> tuple[Model, ...]:
        """Returns the CLIPs that papers name."""
        return MODELS


NO_TEXT = "the run has no prompt"


class ClipScore(_WithClip):
    """100 times the cosine between CLIP's embeddings of a view and of the prompt, averaged over the views.

    Text-to-3D papers report this number, or it without the factor (GaussianDreamer's table, for one). CLIPScore (Hessel et al.
    2021) is 2.5 times the cosine, where that is positive.
    """

    class Config(ClipConfig):
        """Which CLIP."""

    def score(self, runs: Sequence[Shown]) -> list[Score]:
        """Returns a score for each run."""
        return [self._one(run) for run in runs]

    def _one(self, run: Shown) -> Score:
        if not run.prompt:
            return Score(details={"why": NO_TEXT})
        cosine = self.clip.views(run) @ self.clip.texts([run.prompt])[0]
        return Score(per_view=tuple((100 * cosine).tolist()))


class ClipRPrecision(_WithClip):
    """The share of views whose own prompt CLIP ranks first among all prompts (Park et al. 2021, Jain et al. 2022).

    It says little for a few prompts: by chance it is one over their number.
    """

    class Config(ClipConfig):
        """Which CLIP, and what the prompt competes with."""

        prompts: str | None = None
        """A text file with a prompt in each line, or @NAME for a list that ships with dfw. By default those of all runs that are
        evaluated together. The run's own prompt is always among them."""

    ranks: ClassVar[bool] = True

    def __init__(self, config: Any) -> None:
        self.listed = None if config.prompts is None else prompt_list(config.prompts)
        super().__init__(config)

    def score(self, runs: Sequence[Shown]) -> list[Score]:
        """Returns a score for each run."""
        return [self._one(run) for run in runs]

    def _one(self, run: Shown) -> Score:
        if not run.prompt:
            return Score(details={"why": NO_TEXT})
        rivals = list(dict.fromkeys([run.prompt, *(run.prompts if self.listed is None else self.listed)]))
        if len(rivals) < 2:
            return Score(details={"why": "there is no other prompt; evaluate several runs, or write prompts=@NAME or a file"})
        first = ((self.clip.views(run) @ self.clip.texts(rivals).T).argmax(1) == 0).float()
        return Score(float(first.mean()), tuple(first.tolist()), {"among": f"{len(rivals)} prompts"})
