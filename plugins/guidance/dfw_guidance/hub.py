"""From a model's name to a complete folder on this machine, or to an error that says what to do. Imports no torch.

The hub's own settings are honoured: HF_HOME (cache), HF_HUB_OFFLINE, HF_TOKEN, HF_ENDPOINT.
"""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from dfw import DfwError, GuidanceError
from dfw_guidance.aliases import candidates

WEIGHTS = {
    "text_encoder": "model",
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
}
"""Sub-folder of a Stable Diffusion -> stem of its weights file."""

_CONFIGS = (
    "scheduler/scheduler_config.json",
    "tokenizer/tokenizer_config.json",
    *(f"{part}/config.json" for part in WEIGHTS),
)


def find_model(model: str, revision: str | None = None, variant: str | None = None) -> Path:
    """The folder that holds `model` (alias, folder or hub id), complete, in diffusers' layout; downloads what is missing.

    Raises GuidanceError when nothing that `model` stands for can be had, with the reason and the remedy.
    """
    try:
        places = candidates(model)
    except ValueError as error:
        raise GuidanceError(f"guidance.model: {error}") from None
    refused = []
    for place in places:
        if Path(place).is_absolute() or Path(place).is_dir():
            return _checked(Path(place), model, variant)
        try:
            return _checked(Path(_download(place, revision, variant)), place, variant)
        except DfwError:
            raise
        except Exception as error:  # the hub's client also raises its transport's own classes; all end in the message below
            refused.append(_reason(place, revision, error))
    raise GuidanceError(
        f"guidance.model: cannot get {model!r}: {'; '.join(refused)}. A local folder in diffusers' layout works as well "
        "(guidance.model=path/to/folder), and guidance.model=embedded needs no download"
    )


def _download(repository: str, revision: str | None, variant: str | None) -> str:
    suffix = f".{variant}" if variant else ""
    weights = [
        f"{part}/{stem}{end}"
        for part, stem in WEIGHTS.items()
        for end in (f"{suffix}.safetensors", f"{suffix}-*.safetensors", f".safetensors.index{suffix}.json")
    ]
    patterns = ["model_index.json", "vocabulary.json", "scheduler/*.json", "tokenizer/*", "*/config.json", *weights]
    return snapshot_download(repository, revision=revision, allow_patterns=patterns)


def _checked(folder: Path, model: str, variant: str | None) -> Path:
    """The folder, if every file that will be read is there. Raises GuidanceError naming those that are not."""
    suffix = f".{variant}" if variant else ""
    missing = [name for name in _CONFIGS if not (folder / name).is_file()]
    if not (folder / "tokenizer/tokenizer.json").is_file():
        missing += [name for name in ("tokenizer/vocab.json", "tokenizer/merges.txt") if not (folder / name).is_file()]
    for part, stem in WEIGHTS.items():
        whole = folder / part / f"{stem}{suffix}.safetensors"
        if not whole.is_file() and not any(whole.parent.glob(f"{stem}{suffix}-*.safetensors")):
            missing.append(f"{part}/{whole.name}")
    if missing:
        hint = f"; is there a variant {variant!r}?" if variant else ""
        raise GuidanceError(
            f"guidance.model: {model!r} ({folder}) lacks {', '.join(missing)}: not a complete Stable Diffusion "
            f"in diffusers' layout with safetensors weights{hint}"
        )
    return folder


def _reason(repository: str, revision: str | None, error: Exception) -> str:
    page = f"{constants.ENDPOINT}/{repository}"
    match error:
        case GatedRepoError():
            return f"{repository} is gated: accept its licence at {page}, then `hf auth login` or set HF_TOKEN"
        case RepositoryNotFoundError():
            return f"{repository} is not on the hub, or private: check {page}, and `hf auth login` or HF_TOKEN if it is yours"
        case RevisionNotFoundError():
            return f"{repository} has no revision {revision!r}: see {page}/tree/main"
        case LocalEntryNotFoundError() | OfflineModeIsEnabled():
            why = "HF_HUB_OFFLINE is set" if constants.is_offline_mode() else "the hub cannot be reached"
            return f"{repository} is not complete in the cache ({constants.HF_HUB_CACHE}) and {why}"
        case HfHubHTTPError() if error.response is not None and error.response.status_code in (401, 403):
            return f"{repository} refuses this account: accept its licence at {page}, then `hf auth login` or set HF_TOKEN"
        case _:
            return f"{repository}: {type(error).__name__}: {' '.join(str(error).split())}"
