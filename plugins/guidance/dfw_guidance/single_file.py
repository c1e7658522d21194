"""Reads a whole Stable Diffusion from one .safetensors file, as civitai serves them, through diffusers' `from_single_file`.

Such a file holds weights alone. Settings and words come from the folder of the model that it was fine-tuned from.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from pathlib import Path
from typing import Any

from safetensors import safe_open

from dfw import GuidanceError
from dfw_guidance.damage import damage
from dfw_guidance.files import Files
from dfw_guidance.hub import conversion, find_model
from dfw_guidance.layouts import Layout

_ENCODERS = {
    "conditioner.embedders.1.model.": ("sdxl", "stable-diffusion-xl"),
    "cond_stage_model.transformer.": ("sd15", "stable-diffusion"),
}
"""Start of the names of a text encoder's tensors -> the model whose settings fit, and its family."""


@dataclass(frozen=True)
class SingleFile(Files):
    """One `file` with the networks of a model, and the `folder` that holds its settings and words."""

    file: Path
    pipeline: str

    @cached_property
    def _encoders(self) -> Any:
        """The pipeline with its text encoders alone: transformers' classes have no loader of their own for such a file."""
        import diffusers

        kind = getattr(diffusers, self.pipeline)
        absent = dict.fromkeys({"unet", "vae", "safety_checker", "feature_extractor"} & set(signature(kind.__init__).parameters))
        return kind.from_single_file(str(self.file), config=str(self.folder), local_files_only=True, **absent)

    def network(self, kind: Any, part: str, **options: Any) -> Any:
        """Loads the network `part` of the file. Raises ValueError if one of its tensors is not in the file."""
        if not hasattr(kind, "from_single_file"):
            network = getattr(self._encoders, part)
            tensors = network.state_dict(keep_vars=True)
            lost = sorted(name for name, value in tensors.items() if value.is_meta)
            if lost:
                raise ValueError(f"{part} lacks {len(lost)} of {len(tensors)} tensors, the first is {lost[0]!r}; fetch it again")
            return network
        try:
            return kind.from_single_file(str(self.file), config=str(self.folder), subfolder=part, local_files_only=True)
        except NotImplementedError:  # diffusers moves the network, and what the file did not fill has no data to move
            raise ValueError(f"{part} lacks tensors, the file does not hold the whole network; fetch it again") from None

    def weights(self, layout: Layout) -> dict[str, Path]:
        """Returns the file under its name."""
        return {self.file.name: self.file}


def open_file(file: Path, layout: Layout, pipeline: str, family: str) -> SingleFile:
    """Opens a .safetensors file of `family`. Raises GuidanceError if it is damaged, of another kind, or has no settings here."""
    where = f"guidance.model: {str(file)!r}"
    fault = damage(file)
    if fault:
        raise GuidanceError(f"{where} {fault}")
    with safe_open(file, "numpy") as table:
        names = list(table.keys())
    found = next((base for start, base in _ENCODERS.items() if any(name.startswith(start) for name in names)), None)
    if found is None or "v_pred" in names:
        raise GuidanceError(
            f"{where} is one file, but not a whole Stable Diffusion 1.x or XL that predicts noise; a folder in diffusers' layout "
            f"of the same model works: {conversion(file, family)}"
        )
    model, owner = found
    if owner != family:
        raise GuidanceError(f"{where} is a {owner}; write guidance.type={owner}")
    try:
        folder = find_model(model, layout.settings(), family=family)
    except GuidanceError as error:
        raise GuidanceError(
            f"{where} is one file, so its settings and words come from {model} (2 MB). {error}. "
            f"Or convert it where there is a network: {conversion(file, family)}"
        ) from None
    return SingleFile(folder, None, file, pipeline)
