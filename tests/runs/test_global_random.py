"""Whoever draws from a global generator is noticed, and its state can be put back."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from dfw.runs.global_random import changed, global_states, kept_states, seed_globally

DRAWS = {"random": random.random, "numpy.random": np.random.rand, "torch": lambda: torch.rand(1)}


@pytest.mark.parametrize("name", DRAWS)
def test_a_draw_from_a_global_generator_is_named(name: str) -> None:
    with kept_states():
        seed_globally(0)
        before = global_states()
        assert not changed(before, global_states())
        DRAWS[name]()
        assert list(changed(before, global_states())) == [name]


@pytest.mark.parametrize("name", DRAWS)
def test_states_are_put_back(name: str) -> None:
    with kept_states():
        first = DRAWS[name]()
    assert DRAWS[name]() == first
