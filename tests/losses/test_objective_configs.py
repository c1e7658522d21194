"""The shipped configurations of the objectives: each composes, and takes two steps with the shipped prior at a tiny size."""

from __future__ import annotations

import math

import pytest
import torch

from dfw import Guidance, Trainer
from dfw.compose import Composition, Parts, compose
from dfw.config.load import load_config
from dfw.runs.start import make_trainer

OBJECTIVES = (
    "score", "diffusion", "sjc", "csd", "nfsd", "ism", "sdi", "asd", "bridge", "hifa", "vsd",
    "esd", "tsm", "bsd", "sctd", "rfds", "rfds-rev", "textmesh",
)  # fmt: skip
TYPES = {"esd": "vsd", "tsm": "ism", "textmesh": "sds"}
"""Configuration -> the objective it has, where the names differ."""
TINY = [
    "device=cpu",
    "trainer.steps=2",
    "cameras.batch_size=1",
    "cameras.width=16",
    "geometry.encoding={type: hash-grid, levels: 2, features: 2, log2_size: 10, base: 4, finest: 8}",
]


@pytest.fixture(scope="module")
def prior():
    return compose(load_config("dreamfusion", TINY)).guidance("guidance")


def trainer_of(composition: Composition, prior: Guidance) -> Trainer:
    """A trainer of the run, with a prior that is loaded already."""
    scene = composition.geometry(), composition.renderer(), composition.cameras()
    parts = Parts(*scene, composition.prompter(), {"guidance": prior}, composition.losses())
    return make_trainer(composition.config, parts)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_it_composes_and_takes_two_steps(name, prior):
    config = load_config(name, [*TINY, "losses.entropy.weight=1"])
    composition = compose(config)
    assert config.name == name
    assert composition.chosen["losses", "sds"].entry.qualified == f"dreamfw/{TYPES.get(name, name)}"
    trainer = trainer_of(composition, prior)
    before = [p.detach().clone() for p in trainer.parameters]
    records = []
    assert trainer.train(lambda: False, records.append)
    assert len(records) == 2
    assert all(math.isfinite(record.loss) and record.losses["sds"] > 0 and record.grad_norm > 0 for record in records)
    assert any(not torch.equal(old, new) for old, new in zip(before, trainer.parameters, strict=True))


def test_perp_neg_with_interpolated_views_reaches_the_prior(prior):
    config = load_config("dreamfusion", [*TINY, "prompter.mode=interpolated", "prompter.perp_neg=1", "cameras.elevation=[0,1]"])
    trainer = trainer_of(compose(config), prior)
    sizes = []
    hook = prior.unet.register_forward_pre_hook(lambda module, given: sizes.append(len(given[0])))
    assert trainer.train(lambda: False, lambda record: None)
    hook.remove()
    assert sizes == [4, 4]  # negative, prompt and two other views, in one call of one image each
