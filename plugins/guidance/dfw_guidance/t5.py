"""Encodes texts with T5 (Raffel et al. 2020). The encoder is in memory only while it reads: a large one has 4.7 billion weights.

Legend: B texts, L tokens, D width of the encoder.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from dfw import GuidanceError, LocalPath
from dfw_guidance.clip import tokenise
from dfw_guidance.files import Files
from dfw_guidance.pretrained import PretrainedConfig, loading


class T5Config(PretrainedConfig):
    """Which model, how it is held in memory, and where the large text encoder's embeddings are kept."""

    embeddings: LocalPath | None = None
    """A .safetensors file of T5 embeddings. A text in the file needs no encoder; other texts are encoded and added to it."""


class EmbeddingFile:
    """T5's embeddings in one safetensors file. Each text is the name of a tensor (L, D)."""

    def __init__(self, path: Path, length: int, width: int) -> None:
        self.path, self.length, self.width = path, length, width

    def read(self) -> dict[str, Tensor]:
        """Returns all embeddings, or none if there is no file yet.

        Raises GuidanceError if the file is not safetensors, or belongs to another model.
        """
        if not self.path.is_file():
            return {}
        try:
            table: dict[str, Tensor] = safetensors.torch.load_file(self.path)
        except (OSError, SafetensorError) as error:
            raise GuidanceError(f"guidance.embeddings: cannot read {str(self.path)!r}: {error}") from None
        for text, rows in table.items():
            if rows.shape != (self.length, self.width):
                raise GuidanceError(
                    f"guidance.embeddings: {str(self.path)!r} belongs to another model: {text!r} has shape {tuple(rows.shape)}, "
                    f"and this model reads {(self.length, self.width)}; write the name of another file"
                )
        return table

    def add(self, answers: dict[str, Tensor]) -> None:
        """Adds `answers` and writes the file again, atomically. Raises GuidanceError if it cannot be written."""
        data = safetensors.torch.save(self.read() | answers)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=f".{self.path.name}.", suffix=".tmp", dir=self.path.parent)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                os.replace(name, self.path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise GuidanceError(
                f"guidance.embeddings: cannot write {str(self.path)!r}: {error.strerror}; make room, or name another file"
            ) from error


class TransientT5:
    """T5's hidden states. The encoder is loaded when a text is new, reads all new texts at once, and is dropped."""

    def __init__(
        self,
        find: Callable[[], Files],
        encoder: str,
        tokenizer: str,
        length: int,
        width: int,
        masked: bool,
        path: str | None,
    ) -> None:
        """Keeps what loading will need, and loads nothing.

        find: returns the files, with encoder and tokenizer; called only when a text is new. encoder, tokenizer: their
        sub-folders. length, width: L and D. masked: whether the encoder gets a mask of padding tokens. path: the file of
        embeddings, or None.
        """
        self.find, self.encoder, self.tokenizer = find, encoder, tokenizer
        self.length, self.masked = length, masked
        self.file = None if path is None else EmbeddingFile(Path(path), length, width)

    def __call__(self, texts: Sequence[str], device: torch.device, dtype: torch.dtype) -> Tensor:
        """Returns hidden states (B, L, D), float32, on `device`. The encoder works in `dtype`.

        Raises PromptError if a text has more than L tokens, and GuidanceError if the encoder is needed and cannot be loaded.
        """
        known = {} if self.file is None else self.file.read()
        new = [text for text in dict.fromkeys(texts) if text not in known]
        if new:
            answers = dict(zip(new, self._encode(new, device, dtype), strict=True))
            if self.file is not None:
                self.file.add(answers)
            known |= answers
        return torch.stack([known[text] for text in texts]).float().to(device)

    def _encode(self, texts: Sequence[str], device: torch.device, dtype: torch.dtype) -> list[Tensor]:
        from transformers import AutoTokenizer, T5EncoderModel

        try:
            files = self.find()
        except GuidanceError as error:
            if self.file is None:
                raise
            raise GuidanceError(f"guidance.embeddings: {str(self.file.path)!r} lacks {texts[0]!r}, and {error}") from None
        _check_tokenizer(files.folder / self.tokenizer)
        words = files.tokenizer(AutoTokenizer, self.tokenizer)
        tokens = tokenise(words, texts, self.length).to(device)
        with loading(f"guidance.model: {str(files.folder)!r}"):
            encoder = files.network(T5EncoderModel, self.encoder, dtype=dtype).to(device).eval()
        hidden: Tensor = encoder(tokens.input_ids, attention_mask=tokens.attention_mask if self.masked else None)[0]
        answers = [rows.contiguous() for rows in hidden.float().cpu()]
        del encoder
        if device.type == "cuda":
            torch.cuda.empty_cache()
        return answers


def exists(path: str | None) -> bool:
    """Returns whether the file of embeddings exists. If it does, the encoder may not be needed."""
    return path is not None and Path(path).is_file()


def _check_tokenizer(folder: Path) -> None:
    """Raises GuidanceError if the tokenizer needs SentencePiece and the packages that read it are not installed."""
    packages = [name for name in ("sentencepiece", "google.protobuf") if not _installed(name)]
    if packages and not (folder / "tokenizer.json").is_file():
        raise GuidanceError(
            f"guidance.model: {folder / 'spiece.model'} needs the packages sentencepiece and protobuf; "
            "run pip install sentencepiece protobuf, or name a model that has a tokenizer.json"
        )


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the parent package is missing
        return False
