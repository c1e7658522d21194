"""The kit for prompters: texts that hold the prompt, and which of them describe a view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from dfw.interfaces.data import CameraBatch, Wording
from dfw.interfaces.poses import cameras_at
from dfw.interfaces.prompter import Prompter
from dfw.testing.base import ComponentTests
from dfw.testing.compare import require_finite, require_same
from dfw.testing.devices import DeviceChecks, DtypeChecks
from dfw.testing.experimental_device import stand_in
from dfw.testing.outcomes import Skip, require
from dfw.testing.untouched import left_alone


class PrompterTests(ComponentTests[Prompter], DtypeChecks[Prompter], DeviceChecks[Prompter]):
    """Checks of a `Prompter`. Write `make`."""

    interface: ClassVar[type[Any]] = Prompter
    prompts: ClassVar[tuple[str, ...]] = (
        "a quokka",
        "two {view} quokkas, 100 % \\ {prompt} \"of\" 'them'",
        "ein Würfel aus Glas",
    )
    """Prompts that texts are written for."""

    def exercise(self, made: Prompter) -> None:
        """Writes all texts, and chooses among them for many views."""
        for prompt in self.prompts:
            made.texts(prompt)
        made.choose(self._cameras())
        made.views()

    def observe(self, made: Prompter, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """The texts as numbers, and the share of each of them in each view, (B, V)."""
        texts = list(made.texts(self.prompts[0]))
        found = made.choose(self._cameras(dtype))
        codes = torch.tensor(list("\n".join(texts).encode()), dtype=dtype, device=self.device)
        shares = {"texts": codes, "shares": _shares(found.rows, found.weights, len(texts))}
        if found.away_rows is None or found.away_weights is None:
            return shares
        return shares | {"away": _shares(found.away_rows, found.away_weights, len(texts))}

    # -- checks --------------------------------------------------------------------------------------------------------

    def test_texts(self) -> None:
        """One text or more, as many for every prompt."""
        made = self.fresh()
        written = [made.texts(prompt) for prompt in self.prompts]
        for texts in written:
            given = isinstance(texts, Sequence) and not isinstance(texts, str) and len(texts) > 0
            words = given and all(isinstance(text, str) for text in texts)
            require(words, "texts gives one text or more", f"it gave {texts!r}", "Return a tuple of str")
        counts = sorted({len(texts) for texts in written})
        seen = f"it wrote {' and '.join(map(str, counts))}"
        require(len(counts) == 1, "there are as many texts for every prompt", seen, "Let the Config decide how many")

    def test_texts_hold_the_prompt(self) -> None:
        """The prompt stands in each text as it was written, whatever characters it has."""
        made = self.fresh()
        for prompt in self.prompts:
            lost = [text for text in made.texts(prompt) if prompt not in text]
            seen = f"{prompt!r} is not in {lost[0]!r}" if lost else ""
            remedy = "Put the prompt in last, so that nothing in it is replaced"
            require(not lost, "each text holds the prompt as it was written", seen, remedy)

    def test_choose(self) -> None:
        """Each view has K of the texts: rows that there are, and shares of 0 or more that sum to 1."""
        made = self.fresh()
        count = len(made.texts(self.prompts[0]))
        for views in (1, len(self._cameras())):
            found = made.choose(self._cameras().select(slice(0, views)))
            require(isinstance(found, Wording), "choose gives a Wording", f"it gave a {type(found).__name__}", "Return a Wording")
            self._require_rows("rows", found.rows, found.weights, views, count)
            total = float((found.weights.double().sum(1) - 1).abs().max())
            remedy = "Divide the weights by their sum"
            require(total <= 1e-4, "the shares of a view's texts sum to 1", f"a sum is off by {total:.3g}", remedy)
            promise = "away_rows and away_weights come together"
            both = (found.away_rows is None) == (found.away_weights is None)
            require(both, promise, "one of them is None", "Give both, or none")
            if found.away_rows is not None and found.away_weights is not None:
                self._require_rows("away_rows", found.away_rows, found.away_weights, views, count)

    def _require_rows(self, name: str, rows: Tensor, weights: Tensor, views: int, count: int) -> None:
        promise = f"{name} and their weights are ({views}, K) for {views} views"
        seen = f"they have shapes {tuple(rows.shape)} and {tuple(weights.shape)}"
        right = rows.dim() == 2 and len(rows) == views and rows.shape == weights.shape and rows.dtype == torch.int64
        require(right, promise, f"{seen}, {rows.dtype}", "Give a row for each view, of int64")
        low, high = int(rows.min()), int(rows.max())
        promise, seen = f"{name} are indices of the {count} texts", f"they run from {low} to {high}"
        require(low >= 0 and high < count, promise, seen, "Count from 0, in the order of texts()")
        require_finite({"weights": weights}, "weights are finite", "Look for 0/0")
        least = float(weights.min())
        require(
            least >= 0, f"the weights of {name} are 0 or more", f"the lowest is {least:.4g}", "Clamp them, then divide by the sum"
        )

    def test_any_turn_of_the_azimuth(self) -> None:
        """A view at azimuth 370 is one at azimuth 10."""
        made, cameras = self.fresh(), self._cameras()
        here = made.choose(cameras)
        promise, remedy = "a whole turn of the azimuth changes nothing", "Take torch.remainder(azimuth, 360)"
        for turn in (-360.0, 360.0):
            there = made.choose(replace(cameras, azimuth=cameras.azimuth + turn))
            require_same(_tensors(here), _tensors(there), 1e-3, promise, remedy)

    def test_batch_invariance(self) -> None:
        """A view in a batch is described as it is alone."""
        made, cameras = self.fresh(), self._cameras()
        whole = _tensors(made.choose(cameras))
        alone = [_tensors(made.choose(cameras.select(slice(k, k + 1)))) for k in range(len(cameras))]
        joined = {name: torch.cat([view[name] for view in alone]) for name in whole}
        promise = "a view in a batch is described as it is alone"
        require_same(whole, joined, self.tolerance, promise, "Use no statistics over views, and no index of a view")

    def test_choose_does_not_wait(self) -> None:
        """`choose` never waits for the device: it is called every step."""
        made = self.fresh()
        with stand_in() as there:
            cameras = self._cameras().to(there.device)
            there.waits.clear()
            made.choose(cameras)
            waits = list(there.waits)
        seen = f"it waits in {waits[0][1]} ({waits[0][0]})" if waits else ""
        remedy = "Write torch.where, gather or arithmetic in place of if, item(), tolist() and masks"
        require(not waits, "choose does not wait for the device", seen, remedy)

    def test_views(self) -> None:
        """`views` gives one camera for each text, which that text describes best; None where there are no such views."""
        made = self.fresh()
        cameras = made.views()
        if cameras is None:
            raise Skip("its texts belong to no view of their own")
        texts = made.texts(self.prompts[0])
        promise = f"views() gives one camera for each of the {len(texts)} texts"
        require(len(cameras) == len(texts), promise, f"it gave {len(cameras)}", "Give them in the order of the texts")
        found = made.choose(cameras)
        best = _shares(found.rows, found.weights, len(texts)).argmax(1).tolist()
        wrong = [row for row, text in enumerate(best) if texts[text] != texts[row]]
        seen = f"the camera of {texts[wrong[0]]!r} is described by {texts[best[wrong[0]]]!r}" if wrong else ""
        require(not wrong, "each camera of views() is described by its own text", seen, "Put it in the middle of its sector")

    def test_leaves_its_inputs_alone(self) -> None:
        """`choose` changes no tensor of the cameras."""
        made, cameras = self.fresh(), self._cameras()
        with left_alone("a prompter only looks", {"cameras": cameras}):
            made.choose(cameras)

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _cameras(self, dtype: torch.dtype = torch.float32) -> CameraBatch:
        """48 cameras all around, below and above, at angles that no sensible sector begins at, from three distances."""
        azimuth = torch.arange(-173.3, 180, 29.9, dtype=dtype).repeat(4)
        elevation = torch.tensor([-71.7, -3.3, 23.9, 77.1], dtype=dtype).repeat_interleave(len(azimuth) // 4)
        distance = torch.tensor([1.3, 2.9, 6.1], dtype=dtype).repeat(len(azimuth) // 3)
        fov = torch.full_like(azimuth, 40.0)
        return cameras_at(azimuth, elevation, distance, fov, 64, 48).to(self.device)


def _tensors(found: Wording) -> dict[str, Tensor]:
    given = {"rows": found.rows, "weights": found.weights, "away_rows": found.away_rows, "away_weights": found.away_weights}
    return {name: value for name, value in given.items() if value is not None}


def _shares(rows: Tensor, weights: Tensor, texts: int) -> Tensor:
    """The weight of each of `texts` in each view, (B, texts), in the weights' dtype."""
    return weights.new_zeros(len(rows), texts).scatter_add(1, rows.clamp(0, texts - 1), weights)
