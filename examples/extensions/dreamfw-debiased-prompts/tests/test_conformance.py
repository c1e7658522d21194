"""dfw's own promises of a prompter, by its conformance kit."""

from __future__ import annotations

from dreamfw_debiased_prompts.prompter import Debiased

from dfw.testing import PrompterTests


class TestDebiased(PrompterTests):
    """With a table that speaks of one of the kit's words."""

    expected_failures = {  # noqa: RUF012
        "test_texts_hold_the_prompt": "a view's text lacks the words that contradict it"
    }
    component = Debiased
    options = {"table": {"quokka": {"front": 9}}}  # noqa: RUF012
