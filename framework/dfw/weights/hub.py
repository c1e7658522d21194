"""Why a model cannot be had from the Hugging Face hub, in words. The hub's client is imported when something has gone wrong."""

from __future__ import annotations


def hub_refusal(repository: str, revision: str | None, error: Exception) -> str:
    """Says what `error` of the hub's client means for `repository`, and what to do, as the end of a sentence."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

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
