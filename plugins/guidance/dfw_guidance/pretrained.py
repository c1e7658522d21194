"""The common part of all models from files: it finds, loads, freezes and casts them, and embeds each text once.

No module of a guidance imports diffusers, transformers or the hub's client before a model loads. They take seconds, and a check
of a configuration needs the `Config` alone.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from pydantic import field_validator
from torch import Tensor, nn

from dfw import ComponentConfig, Conditioning, DfwError, Guidance, GuidanceError, Model, NoiseSchedule, path_or_name
from dfw_guidance.additions import (
    INVERSION_FILES,
    LORA_FILES,
    Lora,
    TextualInversion,
    add_inversion,
    add_lora,
    pipeline_of,
    tokens_of,
    without_tokens,
)
from dfw_guidance.aliases import FAMILIES, candidates, settled
from dfw_guidance.checksums import fingerprint
from dfw_guidance.damage import read_table
from dfw_guidance.files import Files
from dfw_guidance.hub import find_file, find_model, model_facts
from dfw_guidance.known import models_of
from dfw_guidance.layouts import Layout
from dfw_guidance.precision import Precision, chosen_precision, name_of_precision
from dfw_guidance.vocabulary import Vocabulary

MOST_TIMESTEPS = 100_000
"""Most levels of a noise schedule; published models have 1,000. A schedule holds them all."""
LARGEST_SIDE = 8_192
"""Largest side of the images that a model may ask for, pixels."""

Self = TypeVar("Self", bound="Pretrained")


class PretrainedConfig(ComponentConfig):
    """Which model, and how it is held in memory."""

    family: ClassVar[str]

    model: str
    """A known name, a hub id, or a folder in diffusers' layout. A run keeps a folder with its absolute path."""
    revision: str | None = None
    """Branch, tag or commit of the hub repository."""
    variant: str | None = None
    """Variant of the weight files, e.g. fp16 for diffusion_pytorch_model.fp16.safetensors."""
    lora: tuple[Lora, ...] = ()
    """Low-rank weights to merge into the model, e.g. [{path: style.safetensors, scale: 0.8}]. Several are added up."""
    precision: Precision = "auto"
    """Precision of the frozen weights: fp32, fp16 or bf16. auto: fp16 on CUDA (bf16 for flow models), bf16 on a CPU that has
    instructions for it (AVX512-BF16 or AMX), fp32 elsewhere."""
    channels_last: bool = False
    """Stores convolution weights in channels-last memory order, which is often faster on recent GPUs in fp16."""

    @field_validator("model", mode="before")
    @classmethod
    def _path(cls, value: object) -> object:
        return path_or_name(value, FAMILIES[cls.family])

    @field_validator("model")
    @classmethod
    def _name(cls, value: str) -> str:
        return settled(value, cls.family)


def ddpm_schedule(settings: dict[str, Any]) -> tuple[NoiseSchedule, Any]:
    """Returns noise schedule and prediction type of a variance-preserving diffusion, from diffusers' scheduler settings.

    Raises ValueError if the scheduler is of another kind.
    """
    steps = settings.get("num_train_timesteps", 1000)
    if not isinstance(steps, int) or not 1 <= steps <= MOST_TIMESTEPS:
        raise ValueError(f"its scheduler says num_train_timesteps: {steps!r}, and 1 to {MOST_TIMESTEPS} are possible")
    if "beta_schedule" not in settings:
        raise ValueError(
            f"its scheduler {settings.get('_class_name')} has no betas; this guidance reads DDPM-like noise schedules"
        )
    from diffusers import DDPMScheduler

    scheduler: Any = DDPMScheduler.from_config(settings)  # type: ignore[no-untyped-call]
    return NoiseSchedule.from_alphas_cumprod(scheduler.alphas_cumprod), scheduler.config.prediction_type


@contextmanager
def quiet() -> Iterator[None]:
    """Silences both libraries: what they would print, `Files.network` checks."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    libraries: tuple[Any, ...] = (diffusers_logging, transformers_logging)
    before = [(library, library.get_verbosity(), library.is_progress_bar_enabled()) for library in libraries]
    for library in libraries:
        library.set_verbosity(logging.CRITICAL)
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, level, shown in before:
            library.set_verbosity(level)
            if shown:
                library.enable_progress_bar()


@contextmanager
def loading(what: str) -> Iterator[None]:
    """Turns any failure while a model loads into a GuidanceError that starts with `what`. Silences the libraries.

    They raise anything for files that do not hold what they expect.
    """
    try:
        with quiet():
            yield
    except DfwError:
        raise
    except Exception as error:
        text = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise GuidanceError(f"{what} does not load: {' '.join(text.split())}") from error


class Pretrained(Guidance):
    """A frozen model from files. Its networks are its direct sub-modules; a subclass sets them in `_load`."""

    config: PretrainedConfig
    layout: Layout
    half_dtype: ClassVar[torch.dtype] = torch.float16
    """Precision that `auto` takes on CUDA."""

    @classmethod
    def provides(cls, config: Any) -> frozenset[str]:
        """Provides noise prediction and text."""
        return frozenset({"noise-prediction", "text"})

    @classmethod
    def models(cls) -> tuple[Model, ...]:
        """Returns the models that have short names."""
        return models_of(cls.Config.family, cls.layout)  # type: ignore[attr-defined]

    pipeline: str
    """Name of diffusers' pipeline for this kind of model, whose loaders read what is added to it."""
    one_file: ClassVar[bool] = False
    """Whether the model can also be one .safetensors file (`single_file`)."""
    tokens: tuple[str, ...] = ()
    """The words that textual inversion has added."""

    @classmethod
    def side(cls, config: Any) -> int | None:
        """Returns the `resolution` that the configuration chooses, or what the networks of a folder on this machine work at."""
        chosen: int | None = getattr(config, "resolution", None)
        if chosen is not None:
            return chosen
        try:
            folder = Path(candidates(config.model, config.family)[0])
            if not folder.is_absolute() or not (folder / "unet" / "config.json").is_file():
                return None
            side = read_table(folder / "unet" / "config.json").get("sample_size")
            return side * cls._shrinks(folder) if isinstance(side, int) else None
        except (ValueError, OSError):  # a name or a file is wrong, and loading says in which way
            return None

    @classmethod
    def _shrinks(cls, folder: Path) -> int:
        """Returns how many pixels a side of the space in which noise is added has for each of its own."""
        return 1

    @classmethod
    def check_prompt(cls, config: Any, text: str, negative: bool = False) -> Sequence[str]:
        """Compares the text with the vocabulary of a model that ships one. Loads no weights."""
        vocabulary, tokens = Vocabulary.of(config.model, config.family), tokens_of(getattr(config, "textual_inversion", ()))
        if vocabulary is None or tokens is None:
            return ()
        plain = without_tokens(text, tokens)
        if negative or plain != text:  # a new word names a thing too
            vocabulary.check([plain])
            return ()
        return vocabulary.check_prompt(text)

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        self.config = config
        self.files = self._open()
        self.folder = self.files.folder
        self.vocabulary = Vocabulary.read(self.folder)
        self._added: dict[str, list[Any]] = {}
        self._rows: dict[str, Conditioning] = {}
        folder = "" if config.model == str(self.folder) else f" ({self.folder})"
        with loading(f"guidance.model: {config.model!r}{folder}"):
            self._load(self.files)
            if not 1 <= self.resolution <= LARGEST_SIDE:
                raise ValueError(f"it works at {self.resolution} pixels, and 1 to {LARGEST_SIDE} are possible")
        self._add()
        if config.channels_last:
            for part in self.children():
                part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.requires_grad_(False).eval()
        self._cast(torch.device("cpu"))

    def _find(self) -> Path:
        config = self.config
        return find_model(config.model, self.layout, config.revision, config.variant, config.family)

    def _open(self) -> Files:
        """Finds the files of the model."""
        file = Path(self.config.model)
        if self.one_file and file.suffix == ".safetensors" and file.is_file():
            from dfw_guidance.single_file import open_file  # which needs Files

            return open_file(file, self.layout, self.pipeline, self.config.family)
        return Files(self._find(), self.config.variant)

    def _add(self) -> None:
        """Adds low-rank weights and new words to the loaded networks, in float32."""
        config = self.config
        words: tuple[TextualInversion, ...] = getattr(config, "textual_inversion", ())
        if not config.lora and not words:
            return
        parts = {name: part.float() for name, part in self.named_children()}
        tokenizers = {name: getattr(self, name) for name in ("tokenizer", "tokenizer_2") if hasattr(self, name)}
        with quiet():
            pipeline = pipeline_of(self.pipeline, parts | tokenizers)
        added: dict[str, list[Any]] = {"lora": [], "textual_inversion": []}
        for index, lora in enumerate(config.lora):
            where = f"guidance.lora.{index}"
            path = find_file(lora.path, LORA_FILES, where)
            with loading(f"{where}: {str(path)!r}"):
                add_lora(pipeline, path, lora.scale)
            added["lora"].append({"path": lora.path, "scale": lora.scale, "weights": fingerprint(path)})
        for index, word in enumerate(words):
            where = f"guidance.textual_inversion.{index}"
            path = find_file(word.path, INVERSION_FILES, where)
            with loading(f"{where}: {str(path)!r}"):
                self.tokens += (add_inversion(pipeline, path, word.token),)
            added["textual_inversion"].append({"path": word.path, "token": self.tokens[-1], "weights": fingerprint(path)})
        self._added = {name: entries for name, entries in added.items() if entries}

    @abstractmethod
    def _load(self, files: Files) -> None:
        """Sets the networks and every attribute that `Guidance` requires. Any exception becomes a GuidanceError."""

    @abstractmethod
    def _embed(self, texts: Sequence[str]) -> Conditioning:
        """Returns embeddings of new texts, float32, without gradients. Raises PromptError if a text is too long."""

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the denoising network, from `precision` and the device."""
        return chosen_precision(self.config.precision, self.device, self.half_dtype)

    def facts(self) -> dict[str, Any]:
        """Returns model, folder, commit, variant, a fingerprint of each file of weights, and the precision that `auto` takes.

        `checksums.fingerprint` says what the fingerprint covers.
        """
        model = model_facts(self.config.model, self.folder, self.files.weights(self.layout), self.files.variant)
        return {**model, **self._added, "precision": name_of_precision(self.dtype)}

    def train(self: Self, mode: bool = True) -> Self:
        """Stays in evaluation mode: the model is frozen and its dropout is off."""
        return super().train(False)

    def encode_text(self, texts: Sequence[str]) -> Conditioning:
        """Returns embeddings (B, L, D), float32, of B texts. Embeds each distinct text once in a run.

        Raises PromptError if a text is longer than the model can read, or has words outside the vocabulary that it ships.
        """
        new = [text for text in dict.fromkeys(texts) if text not in self._rows]
        if new:
            if self.vocabulary is not None:
                self.vocabulary.check([without_tokens(text, self.tokens) for text in new])
            with torch.no_grad(), self._own_precision():
                found = self._embed(new)
            self._rows.update({text: found.select(slice(row, row + 1)) for row, text in enumerate(new)})
        return Conditioning.cat([self._rows[text] for text in texts]).to(self.device)

    def renew(self) -> bool:
        """Forgets the texts: which of them are embedded in one batch can change the last bits."""
        self._rows.clear()
        return True

    def _own_precision(self) -> torch.autocast:
        """Switches a surrounding autocast off: this component chooses the precision of its frozen weights itself."""
        return torch.autocast(self.device.type, enabled=False)

    def _dtype_of(self, name: str, dtype: torch.dtype) -> torch.dtype:
        """Returns the precision of the network `name` if the model's is `dtype`."""
        return dtype

    def _cast(self, device: torch.device) -> None:
        chosen = chosen_precision(self.config.precision, device, self.half_dtype)
        for name, part in self.named_children():
            dtype = self._dtype_of(name, chosen)
            if part.dtype != dtype:
                nn.Module.to(part, dtype=dtype)  # diffusers' own .to() warns about modules that this model does not have

    def _apply(self: Self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves everything with `.to(device)`. The weights' dtype follows `precision`; the schedule stays in float32."""
        device = fn(torch.empty(0, device=self.device)).device
        self._cast(device)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._cast(device)
        self.schedule = self.schedule.to(device)
        self._rows = {text: row.to(device) for text, row in self._rows.items()}
        return self
