"""Where a scorer's model comes from, and one sentence for what does not load. Imports neither torch nor the hub's client."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from dfw import DfwError, GuidanceError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def settled(model: str) -> str:
    """Returns a hub id as it is, and the path of a folder as an absolute one. Raises ValueError for neither."""
    path = Path(model).expanduser()
    if path.is_dir() or path.is_absolute() or model.startswith((".", "~")):
        return str(path.absolute())
    if _HUB_ID.fullmatch(model):
        return model
    raise ValueError(f"{model!r} is neither a folder nor a hub id such as owner/name")


@contextmanager
def loading(model: str) -> Iterator[None]:
    """Turns any failure while a model loads into a GuidanceError that says what to do."""
    library: Any = import_module("transformers.utils.logging")
    level, bars = library.get_verbosity(), library.is_progress_bar_enabled()
    library.set_verbosity(logging.CRITICAL)
    library.disable_progress_bar()
    try:
        yield
    except DfwError:
        raise
    except Exception as error:  # the libraries raise anything for files that do not hold what they expect
        raise GuidanceError(f"{model}: {_reason(model, error)}") from error
    finally:
        library.set_verbosity(level)
        if bars:
            library.enable_progress_bar()


def _reason(model: str, error: Exception) -> str:
    if Path(model).is_absolute() and not Path(model).is_dir():
        return "is not there: no such folder"
    text = " ".join(str(error).split())
    said = f"{type(error).__name__}: {text[:200]}"
    if Path(model).is_absolute():
        return f"does not load as a CLIP model in transformers' layout ({said})"
    return f"does not load from the hub or its cache ({said}); fetch it with: dfw models fetch {model}"
