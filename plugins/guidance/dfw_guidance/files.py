"""Loads the parts of a model from its folder, and refuses one whose tensors are not exactly those of its class."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from dfw_guidance.damage import read_table
from dfw_guidance.layouts import Layout, read_index

log = logging.getLogger("dfw.guidance")

HARMLESS = ("position_ids",)
"""Ends of the names of tensors that a file may lack or have on top: counters that every release computes anew."""


@dataclass(frozen=True)
class Files:
    """The complete `folder` of a model in diffusers' layout, and the `variant` of its weights to read."""

    folder: Path
    variant: str | None

    def network(self, kind: Any, part: str, **options: Any) -> Any:
        """Loads sub-folder `part` as diffusers' or transformers' class `kind`, from safetensors only.

        Raises ValueError if the folder holds another class, or if its tensors are not exactly those of the class: a library
        would fill the others with random numbers.
        """
        from transformers import PreTrainedModel

        name = part or "it"
        table = read_table(self.folder / part / "config.json")
        found = table.get("_class_name", kind.__name__)
        if found != kind.__name__:
            raise ValueError(f"{name} holds {found}, and this guidance reads {kind.__name__}")
        if "quantization_config" in table:
            raise ValueError(
                f"{name} holds quantised weights (quantization_config), and dfw reads plain ones; name the original model"
            )
        if issubclass(kind, PreTrainedModel):  # else a model's own file could name a kernel, which is code, to download
            options["attn_implementation"] = "sdpa" if kind._supports_sdpa else "eager"
        network, report = kind.from_pretrained(
            str(self.folder),
            subfolder=part or None,
            variant=self.variant,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # only so that they are counted
            **options,
        )
        check_tensors(name, network, report)
        return network

    def tokenizer(self, kind: Any, part: str) -> Any:
        """Loads sub-folder `part` as a tokenizer of class `kind`."""
        return kind.from_pretrained(str(self.folder), subfolder=part, local_files_only=True, trust_remote_code=False)

    def scheduler(self) -> dict[str, Any]:
        """Reads the settings of the noise schedule."""
        return read_table(self.folder / "scheduler" / "scheduler_config.json")

    def weights(self, layout: Layout) -> dict[str, Path]:
        """Returns the weight files of `layout`, by their place in the folder."""
        return {name: self.folder / name for name in layout.weight_files(self.folder, self.variant)}

    def index(self) -> dict[str, Any]:
        """Reads the table in `model_index.json`."""
        return read_index(self.folder)


def check_tensors(name: str, network: nn.Module, report: Mapping[str, Any]) -> None:
    """Raises ValueError unless a file had every tensor of `network` in its shape, as the library's loading `report` says."""
    lost = sorted(key for key in report["missing_keys"] if not key.endswith(HARMLESS))
    others = sorted(key for key in report["unexpected_keys"] if not key.endswith(HARMLESS))
    shapes = sorted((key, tuple(theirs), tuple(ours)) for key, theirs, ours in report["mismatched_keys"])
    count = len({id(value) for value in network.state_dict(keep_vars=True).values()})  # T5 has one tensor under two names
    more = f"; the file has {len(others)} others, the first is {others[0]!r}" if others else ""
    if lost:
        raise ValueError(f"{name} lacks {len(lost)} of {count} tensors, the first is {lost[0]!r}{more}; fetch it again")
    if shapes:
        key, theirs, ours = shapes[0]
        raise ValueError(
            f"{len(shapes)} of {count} tensors of {name} have another shape than its config.json says, the first is {key!r}: "
            f"{theirs}, not {ours}; fetch both files again from one model"
        )
    if others:
        log.warning("guidance: %s does not use %d tensors of its file, the first is %r", name, len(others), others[0])
