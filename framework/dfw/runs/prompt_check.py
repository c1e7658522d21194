"""Checks a run's prompts before a model loads. Imports no torch."""

from __future__ import annotations

import logging

from dfw.compose import Composition, features, guidance_path
from dfw.config.origins import Provenance
from dfw.errors import PromptError
from dfw.plugins.fence import plugin_code
from dfw.plugins.parts import Chosen

log = logging.getLogger("dfw.runs")


def check_prompts(composition: Composition, provenance: Provenance) -> None:
    """Lets every guidance that reads text look at both prompts, also one inside another, and warns of its remarks.

    Raises PromptError, which names the file or override, for a text that a guidance cannot read.
    """
    config = composition.config
    for name in composition.models:
        model = composition.chosen[guidance_path(config, name)]
        if "text" not in features(model, "provides"):
            continue
        for part in model.all():  # one that wraps another lets it read the text
            if part.entry.kind != "guidance" or "text" not in features(part, "provides"):
                continue
            for field, text in (("prompt", config.prompt), ("negative_prompt", config.negative_prompt)):
                _check(part, provenance.prefix((field,)), text, negative=field != "prompt")


def _check(part: Chosen, where: str, text: str, negative: bool) -> None:
    try:
        with plugin_code(part.who, "failed to check the prompt"):
            check = getattr(part.cls, "check_prompt")  # noqa: B009  # a Component's class is not known to be a guidance's
            remarks = check(part.config, text, negative=negative) if text else ()
    except PromptError as error:
        raise PromptError(f"{where}{error}") from None
    for remark in remarks:
        log.warning("%s%s", where, remark)
