"""Checks of what a guidance predicts: the noise, by image, timestep and prompt."""

from __future__ import annotations

import torch
from torch import Tensor

from dfw.interfaces.data import Conditioning
from dfw.interfaces.guidance import Guidance
from dfw.interfaces.predictions import PREDICTIONS
from dfw.testing.compare import require_same
from dfw.testing.guidance_shown import ShownToGuidance
from dfw.testing.outcomes import Skip, require


class PredictionChecks(ShownToGuidance):
    """For any guidance."""

    def test_predict_noise_follows_the_prediction_type(self) -> None:
        """`predict_noise` is what the output means: of a perfect output (`target`) `noise_of` finds the very noise."""
        guidance = self._guidance()
        timestep, noisy = self._timesteps(guidance, 3), self._noisy(guidance, 3)
        text = self._asked(guidance, [0, 0, 0])
        promise = f"prediction_type is one of {', '.join(PREDICTIONS)}"
        require(guidance.prediction_type in PREDICTIONS, promise, f"it is {guidance.prediction_type!r}", "Write one of them")
        with torch.no_grad():
            output = guidance.predict(noisy, timestep, text)
            found = guidance.predict_noise(noisy, timestep, text)
            clean, noise = self._noisy(guidance, 3, seed=1), self._noisy(guidance, 3, seed=2)
            seen = guidance.add_noise(clean, noise, timestep)
            back = guidance.noise_of(guidance.target(clean, noise, timestep), seen, timestep)
            meant = PREDICTIONS[guidance.prediction_type].noise(output, noisy, *guidance.schedule.at(timestep, noisy))
        promise = f"predict_noise reads predict's output as {guidance.prediction_type}"
        require_same({"noise": meant}, {"noise": found}, self.tolerance, promise, "Leave predict_noise as it is inherited")
        promise = "noise_of finds the noise in target's perfect output"
        require_same({"noise": noise}, {"noise": back}, 1e-3, promise, "Leave noise_of and target as they are inherited")

    def test_predicts_the_noise(self) -> None:
        """Of much noise most is found: turned around in z_t, it turns around in the output, channel by channel.

        At alpha = 0.7 sigma, at 0.98 of the schedule and at its end. Compared is (output(z, eps) - output(z, -eps)) / 2, from
        which what the model knows of images has gone, with the same of a perfect output (`target`). At the end an output that is
        not the noise alone guesses a picture from noise: that guess may be as large as the noise.
        """
        if not self.trained:
            raise Skip("the model has not learned to find noise (trained)")
        guidance = self._guidance()
        count = max(1, 512 // guidance.latent_resolution**2 // self._sees(guidance))  # large images say enough alone
        schedule, last = guidance.schedule, len(guidance.schedule) - 1
        middle = int((schedule.alpha - 0.7 * schedule.sigma).abs().argmin())
        promise = f"predict answers with what a perfect {guidance.prediction_type} model would say of the noise"
        remedy = "Look at its sign, its axes and channels, prediction_type, and the order of timesteps"
        with torch.no_grad():
            clean, noise = guidance.encode_image(self._image(guidance, count)), self._noisy(guidance, count, seed=6)
            for step in (middle, int(0.98 * last), last):
                timestep = self._step(guidance, count, step)
                found = self._odd(guidance, clean, noise, timestep)
                perfect = (guidance.target(clean, noise, timestep) - guidance.target(clean, -noise, timestep)) / 2
                error = (found - perfect).square().mean((0, 2, 3)).sqrt() / noise.square().mean((0, 2, 3)).sqrt()
                allowed = self.noise_error if step == middle or guidance.prediction_type == "epsilon" else 1.0
                seen = f"at timestep {step} of {last} it is off by {100 * float(error.max()):.0f} % of the noise"
                require(float(error.max()) <= allowed, promise, seen, remedy)

    def _odd(self, guidance: Guidance, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """Half the difference of the outputs for `noise` and for its opposite."""
        asked = self._asked(guidance, [0] * (len(clean) // self._sees(guidance)))
        one, other = (guidance.predict(guidance.add_noise(clean, n, timestep), timestep, asked) for n in (noise, -noise))
        return (one - other) / 2

    def test_timestep_changes_the_prediction(self) -> None:
        """The same noisy images are answered in another way at another timestep."""
        guidance = self._guidance()
        noisy, asked = self._noisy(guidance, 2), self._asked(guidance, [0, 0])
        steps = [int(share * len(guidance.schedule)) for share in (0.1, 0.5, 0.9)]
        with torch.no_grad():
            outputs = [guidance.predict(noisy, self._step(guidance, 2, step), asked) for step in steps]
        apart = min(float((one - outputs[1]).abs().max()) for one in (outputs[0], outputs[2]))
        seen = f"predictions at timesteps {', '.join(map(str, steps))} differ by at most {apart:.3g}"
        require(apart > 1e-6, "the timestep changes the prediction", seen, "Give `timestep` to the network as it is")

    def test_noisy_image_changes_the_prediction(self) -> None:
        """Two noisy images have two predictions."""
        guidance = self._guidance()
        asked, timestep = self._asked(guidance, [0, 0]), self._step(guidance, 2, len(guidance.schedule) // 2)
        with torch.no_grad():
            one, other = (guidance.predict(self._noisy(guidance, 2, seed=seed), timestep, asked) for seed in (4, 5))
        apart = float((one - other).abs().max())
        seen = f"predictions for two noisy images differ by at most {apart:.3g}"
        require(apart > 1e-6, "the noisy image changes the prediction", seen, "Give `noisy` to the network")

    def test_prompt_changes_the_prediction(self) -> None:
        """Two prompts give two predictions of the same noisy images; without text the model's condition makes a difference."""
        guidance = self._guidance()
        noisy, timestep = self._noisy(guidance, 2), self._step(guidance, 2, len(guidance.schedule) // 2)
        with torch.no_grad():
            one, other = (guidance.predict(noisy, timestep, self._asked(guidance, [index] * 2)) for index in (0, 1))
        apart = float((one - other).abs().max())
        asked = f"{self.prompts[0]!r} and {self.prompts[1]!r}" if self._reads_text(guidance) else "its condition and for none"
        remedy = "Give conditioning.embedding to the network, or set `prompts` to two that the model tells apart"
        seen = f"predictions for {asked} differ by at most {apart:.3g}"
        require(apart > 1e-6, "the prompt changes the prediction", seen, remedy)

    def test_no_condition(self) -> None:
        """`unconditional` is one row, and what the empty text gives; so are `encode_negative`, and without text `conditional`."""
        guidance = self._guidance()
        with torch.no_grad():
            none = guidance.unconditional()
            _require_one_row("unconditional", none)
            if not self._reads_text(guidance):
                _require_one_row("conditional", guidance.conditional())
                return
            _require_one_row("encode_negative", guidance.encode_negative(self.prompts[0]))
            empty = self._text(guidance, [""])
        promise, remedy = "the empty text is no condition", "Return the same for encode_text(['']) and unconditional()"
        require_same({"embedding": none.embedding}, {"embedding": empty.embedding}, self.tolerance, promise, remedy)

    def test_views_of_a_scene_are_seen_together(self) -> None:
        """Of a model that sees several views: each is answered by all views of its scene, and by their cameras."""
        guidance = self._guidance()
        sees: object = type(guidance).sees(guidance.config)
        wanted = self.views or sees
        promise, remedy = "sees(config) is a number of 1 or more", "Return how many views of a scene the network sees at once"
        require(isinstance(sees, int) and sees >= 1, promise, f"it is {sees!r}", remedy)
        require(sees == wanted, f"the model sees {wanted} views (views)", f"sees(config) is {sees}", remedy)
        if sees == 1:
            raise Skip("the model sees one picture at a time")
        noisy, timestep = self._noisy(guidance, 1), self._step(guidance, 1, len(guidance.schedule) // 2)
        with torch.no_grad():
            first = guidance.predict(noisy, timestep, self._asked(guidance, [0]))
            moved = torch.cat([noisy[:1], self._noisy(guidance, 1, seed=8)[1:]])
            others = guidance.predict(moved, timestep, self._asked(guidance, [0]))
            turned = guidance.predict(noisy, timestep, self._asked(guidance, [0], turn=40.0))
        apart = float((first - others)[0].abs().max())
        seen = f"with other noise in the other views the first one's answer moves by {apart:.3g}"
        require(apart > 1e-6, "views of a scene are seen together", seen, "Attend across the views, or let sees() be 1")
        apart = float((first - turned).abs().max())
        remedy = "Give conditioning.cameras to the network"
        require(apart > 1e-6, "cameras change the prediction", f"from other places it differs by {apart:.3g}", remedy)

    def test_guidance_scale_follows_diffusers(self) -> None:
        """`predict_noise_guided` is eps_u + s (eps_c - eps_u): 0 without the prompt, 1 with it, more beyond."""
        guidance = self._guidance()
        noisy, timestep = self._noisy(guidance, 2), self._timesteps(guidance, 2)
        given, without = (self._asked(guidance, [index] * 2) for index in (0, 1))
        with torch.no_grad():
            eps_c, eps_u = (guidance.predict_noise(noisy, timestep, asked) for asked in (given, without))
            for scale in (0.0, 1.0, 7.5):
                found = guidance.predict_noise_guided(noisy, timestep, given, without, scale)
                promise = f"predict_noise_guided with scale {scale:g} is eps_u + {scale:g} (eps_c - eps_u)"
                expected = {"noise": eps_u + scale * (eps_c - eps_u)}
                remedy = "Leave it as it is inherited, or mind the order of the two prompts"
                require_same(expected, {"noise": found}, 100 * self.tolerance, promise, remedy)


def _require_one_row(name: str, found: object) -> None:
    """Requires what the core repeats for every view: a Conditioning of one row."""
    promise, remedy = f"{name} gives a Conditioning of one row (1, L, D)", "The core repeats it for every view"
    require(isinstance(found, Conditioning), promise, f"it gave a {type(found).__name__}", remedy)
    assert isinstance(found, Conditioning)
    shape = tuple(found.embedding.shape)
    require(len(shape) == 3 and shape[0] == 1, promise, f"its embedding has shape {shape}", remedy)
