"""The prompt as it is written."""

from __future__ import annotations

import torch
from counting_prior import cameras

from dfw_prompters.plain import Plain


def test_every_view_is_described_by_the_prompt_alone() -> None:
    prompter = Plain(Plain.Config())
    assert prompter.texts("a car") == ("a car",)
    found = prompter.choose(cameras([0, 90, 180], [0, 80, -80]))
    assert found.rows.tolist() == [[0], [0], [0]]
    assert found.rows.dtype == torch.int64
    assert found.weights.tolist() == [[1], [1], [1]]
    assert (found.away_rows, found.away_weights, prompter.views()) == (None, None, None)
