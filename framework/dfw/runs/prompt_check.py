"""Checks a run's prompts before a model loads. Imports no torch."""

from __future__ import annotations

import logging

from dfw.compose import Composition, features, guidance_path
from dfw.config.origins import Provenance
from dfw.errors import PromptError
from dfw.plugins.fence import plugin_code

log = logging.getLogger("dfw.runs")


def check_prompts(composition: Composition, provenance: Provenance) -> None:
    """Lets every guidance that reads text look at the prompt and the negative prompt, and warns of its remarks.

    Raises PromptError, which names the file or override, for a text that a guidance cannot read.
    """
    config = composition.config
    for name in config.models:
        part = composition.chosen[guidance_path(config, name)]
        if "text" not in features(part, "provides"):
            continue
        for field, text in (("prompt", config.prompt), ("negative_prompt", config.negative_prompt)):
            where = provenance.prefix((field,))
            try:
                with plugin_code(part.who, "failed to check the prompt"):
                    check = getattr(part.cls, "check_prompt")  # noqa: B009  # a Component's class is not known to be a guidance's
                    remarks = check(part.config, text, negative=field != "prompt") if text else ()
            except PromptError as error:
                raise PromptError(f"{where}{error}") from None
            for remark in remarks:
                log.warning("%s%s", where, remark)
