"""Finds the folder of a model by its name, or raises an error that says what to do. Imports no torch.

The hub's own settings apply: HF_HOME (cache), HF_HUB_OFFLINE, HF_TOKEN, HF_ENDPOINT.
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
from dfw_guidance.layouts import GUIDANCE_OF, Layout, read_index


def find_model(
    model: str,
    layout: Layout,
    revision: str | None = None,
    variant: str | None = None,
    family: str = "stable-diffusion",
    field: str = "guidance.model",
) -> Path:
    """Returns the folder that holds `model`, complete as `layout` says. Downloads what is missing.

    `model` is an alias of `family`, a folder or a hub id. Raises GuidanceError if no such model can be found. The message names
    the configuration's `field`, the reason and the remedy.
    """
    try:
        places = candidates(model, family)
    except ValueError as error:
        raise GuidanceError(f"{field}: {error}") from None
    refused = []
    for place in places:
        if Path(place).is_absolute() or Path(place).is_dir():
            return _checked(Path(place), model, layout, variant, family, field)
        try:
            folder = snapshot_download(place, revision=revision, allow_patterns=layout.patterns(variant))
            return _checked(Path(folder), place, layout, variant, family, field)
        except DfwError:
            raise
        except Exception as error:  # the hub's client also raises its transport's own classes, so no narrower list is complete
            refused.append(_reason(place, revision, error))
    raise GuidanceError(
        f"{field}: cannot get {model!r}: {'; '.join(refused)}. A local folder in diffusers' layout works as well "
        f"({field}=path/to/folder), and guidance.type=stable-diffusion guidance.model=embedded needs no download"
    )


def _checked(folder: Path, model: str, layout: Layout, variant: str | None, family: str, field: str) -> Path:
    """Returns `folder` if every file that will be read is there. Raises GuidanceError that names the missing files."""
    pipeline = read_index(folder).get("_class_name", "")
    owner = GUIDANCE_OF.get(pipeline, family)
    if owner != family:
        raise GuidanceError(f"{field}: {model!r} ({folder}) is a {pipeline}; write guidance.type={owner}")
    missing = layout.missing(folder, variant)
    if missing:
        hint = f"; check that it has a variant {variant!r}" if variant else ""
        raise GuidanceError(
            f"{field}: {model!r} ({folder}) lacks {', '.join(missing)}: it is not a complete {layout.name} "
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
