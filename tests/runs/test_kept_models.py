"""Models that a process keeps between runs: the same object where nothing differs, and the same bits in any case."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import small_runs
from small_runs import PIXELS

import dfw
from dfw.compose import compose
from dfw.runs import kept_models
from dfw.runs.kept_models import KeptModels
from dfw.runs.runner import run
from dfw_guidance.gaussian import Gaussian
from dfw_guidance.pretrained import Pretrained
from dfw_guidance.stable_diffusion import StableDiffusion

EMBEDDED: dict[str, Any] = PIXELS | {
    "prompt": "a red cube",
    "guidance": {"type": "stable-diffusion", "model": "embedded"},
    "trainer": PIXELS["trainer"] | {"steps": 1},
}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[type]:
    """The classes of the guidances that were constructed."""
    seen: list[type] = []
    for cls in (Gaussian, Pretrained):

        def init(self: Any, config: Any, right: Any = cls.__init__) -> None:
            seen.append(type(self))
            right(self, config)

        monkeypatch.setattr(cls, "__init__", init)
    return seen


def numbers(config: Any, path: Path) -> list[Any]:
    """What a run has computed."""
    rows = dfw.open(run(config, listeners=[], path=path).directory).metrics
    return [(row["loss"], row["grad_norm"]) for row in rows]


def test_the_next_run_uses_the_model_and_has_the_bits_it_has_alone(
    made: list[type], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second prompt is known from the first run. Which texts are embedded in one batch can change bits, so none is kept."""
    read: list[Sequence[str]] = []
    right = StableDiffusion._embed

    def embed(self: Any, texts: Sequence[str]) -> Any:
        read.append(texts)
        return right(self, texts)

    monkeypatch.setattr(StableDiffusion, "_embed", embed)
    first = small_runs.config(EMBEDDED, tmp_path, negative_prompt="a blue car")
    second = small_runs.config(EMBEDDED, tmp_path, prompt="a blue car")
    alone, batches = numbers(second, tmp_path / "alone"), [*read]
    assert made == [StableDiffusion]
    models = KeptModels()
    for number, config in enumerate((first, second)):
        with models.at_hand():
            found = numbers(config, tmp_path / f"kept-{number}")
    assert made == [StableDiffusion] * 2
    assert found == alone
    assert read[-len(batches) :] == batches


@pytest.mark.parametrize(
    "changes",
    [
        {"guidance": small_runs.GAUSSIAN | {"resolution": 8}},
        {"guidance": small_runs.GAUSSIAN | {"std": 0.3}},
    ],
)
def test_a_model_of_other_options_is_made_anew(made: list[type], tmp_path: Path, changes: dict[str, Any]) -> None:
    models = KeptModels()
    for config in (small_runs.config(PIXELS, tmp_path), small_runs.config(PIXELS, tmp_path, **changes)):
        with models.at_hand():
            run(config, listeners=[])
    assert len(made) == 2


def test_no_model_is_kept_after_a_run_that_broke_or_trained_an_adapter(made: list[type], tmp_path: Path) -> None:
    good = small_runs.config(PIXELS, tmp_path)
    models = KeptModels()

    def breaks() -> None:
        with models.at_hand():
            run(good, listeners=[])
            raise RuntimeError("after the run")

    with pytest.raises(RuntimeError, match="after the run"):
        breaks()
    with models.at_hand():
        run(good, listeners=[])
    assert len(made) == 2
    trains = small_runs.config(EMBEDDED, tmp_path, losses={"vsd": {"type": "vsd", "rank": 1}})
    for _ in range(2):
        with models.at_hand():
            kept_models.build(compose(trains))
    assert len(made) == 4


def test_a_guidance_that_does_not_promise_it_is_made_anew(
    made: list[type], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gaussian, "renew", dfw.Guidance.renew)
    models = KeptModels()
    for _ in range(2):
        with models.at_hand():
            run(small_runs.config(PIXELS, tmp_path), listeners=[])
    assert len(made) == 2


def test_two_guidances_of_the_same_options_are_two_models(tmp_path: Path) -> None:
    two = {"left": small_runs.GAUSSIAN, "right": small_runs.GAUSSIAN}
    losses = {name: {"type": "sds", "guidance": name, "guidance_scale": 1} for name in two}
    config = small_runs.config(PIXELS, tmp_path, guidance=None, guidances=two, losses=losses)
    models = KeptModels()
    for _ in range(2):
        with models.at_hand():
            parts = kept_models.build(compose(config))
            assert parts.guidances["left"] is not parts.guidances["right"]
            assert [one.dfw_path for one in parts.guidances.values()] == ["guidances.left", "guidances.right"]
