"""Checks of what a guidance predicts: the noise, by image, timestep and prompt."""

from __future__ import annotations

import torch
from torch import Tensor

from dfw.interfaces.guidance import Guidance
from dfw.testing.compare import require_same
from dfw.testing.guidance_shown import ShownToGuidance
from dfw.testing.outcomes import Skip, require


class PredictionChecks(ShownToGuidance):
    """For any guidance."""

    def test_predict_noise_follows_the_prediction_type(self) -> None:
        """`predict_noise` is what the network's output means: eps, alpha v + sigma z_t, (z_t - alpha x0)/sigma, z_t + alpha v."""
        guidance = self._guidance()
        timestep, noisy = self._timesteps(guidance, 3), self._noisy(guidance, 3)
        text = self._text(guidance, self.prompts[:1] * 3)
        kinds = ("epsilon", "v_prediction", "sample", "flow")
        promise = f"prediction_type is one of {', '.join(kinds)}"
        require(guidance.prediction_type in kinds, promise, f"it is {guidance.prediction_type!r}", "Write one of them")
        with torch.no_grad():
            output = guidance.predict(noisy, timestep, text)
            noise = guidance.predict_noise(noisy, timestep, text)
        alpha, sigma = guidance.schedule.at(timestep, noisy)
        meanings = {
            "epsilon": output,
            "v_prediction": alpha * output + sigma * noisy,
            "sample": (noisy - alpha * output) / sigma,
            "flow": noisy + alpha * output,
        }
        expected = {"noise": meanings[guidance.prediction_type]}
        promise = f"predict_noise reads predict's output as {guidance.prediction_type}"
        require_same(expected, {"noise": noise}, self.tolerance, promise, "Leave predict_noise as it is inherited")

    def test_predicts_the_noise(self) -> None:
        """Of much noise most is found: turned around in z_t, it turns around in the output, channel by channel.

        At alpha = 0.7 sigma, at 0.98 of the schedule and at its end. Compared is (output(z, eps) - output(z, -eps)) / 2, from
        which what the model knows of images has gone, with the same of a perfect output (`target`). At the end an output that is
        not the noise alone guesses a picture from noise: that guess may be as large as the noise.
        """
        if not self.trained:
            raise Skip("the model has not learned to find noise (trained)")
        guidance = self._guidance()
        count = max(1, 512 // guidance.latent_resolution**2)  # large images say enough alone
        schedule, last = guidance.schedule, len(guidance.schedule) - 1
        middle = int((schedule.alpha - 0.7 * schedule.sigma).abs().argmin())
        promise = f"predict answers with what a perfect {guidance.prediction_type} model would say of the noise"
        remedy = "Look at its sign, its axes and channels, prediction_type, and the order of timesteps"
        with torch.no_grad():
            clean, noise = guidance.encode_image(self._image(guidance, count)), self._noisy(guidance, count, seed=6)
            for step in (middle, int(0.98 * last), last):
                found = self._odd(guidance, clean, noise, step)
                timestep = torch.full((count,), step, device=self.device)
                perfect = (guidance.target(clean, noise, timestep) - guidance.target(clean, -noise, timestep)) / 2
                error = (found - perfect).square().mean((0, 2, 3)).sqrt() / noise.square().mean((0, 2, 3)).sqrt()
                allowed = self.noise_error if step == middle or guidance.prediction_type == "epsilon" else 1.0
                seen = f"at timestep {step} of {last} it is off by {100 * float(error.max()):.0f} % of the noise"
                require(float(error.max()) <= allowed, promise, seen, remedy)

    def _odd(self, guidance: Guidance, clean: Tensor, noise: Tensor, step: int) -> Tensor:
        """Half the difference of the outputs for `noise` and for its opposite."""
        timestep = torch.full((len(clean),), step, device=self.device)
        text = self._text(guidance, self.prompts[:1] * len(clean))
        one, other = (guidance.predict(guidance.add_noise(clean, n, timestep), timestep, text) for n in (noise, -noise))
        return (one - other) / 2

    def test_timestep_changes_the_prediction(self) -> None:
        """The same noisy images are answered in another way at another timestep."""
        guidance = self._guidance()
        noisy, text = self._noisy(guidance, 2), self._text(guidance, self.prompts[:1] * 2)
        steps = [int(share * len(guidance.schedule)) for share in (0.1, 0.5, 0.9)]
        with torch.no_grad():
            outputs = [guidance.predict(noisy, torch.full((2,), step, device=self.device), text) for step in steps]
        apart = min(float((one - outputs[1]).abs().max()) for one in (outputs[0], outputs[2]))
        seen = f"predictions at timesteps {', '.join(map(str, steps))} differ by at most {apart:.3g}"
        require(apart > 1e-6, "the timestep changes the prediction", seen, "Give `timestep` to the network as it is")

    def test_noisy_image_changes_the_prediction(self) -> None:
        """Two noisy images have two predictions."""
        guidance = self._guidance()
        text, timestep = (
            self._text(guidance, self.prompts[:1] * 2),
            torch.full((2,), len(guidance.schedule) // 2, device=self.device),
        )
        with torch.no_grad():
            one, other = (guidance.predict(self._noisy(guidance, 2, seed=seed), timestep, text) for seed in (4, 5))
        apart = float((one - other).abs().max())
        seen = f"predictions for two noisy images differ by at most {apart:.3g}"
        require(apart > 1e-6, "the noisy image changes the prediction", seen, "Give `noisy` to the network")

    def test_prompt_changes_the_prediction(self) -> None:
        """Two prompts give two predictions of the same noisy images."""
        guidance = self._guidance()
        noisy, timestep = self._noisy(guidance, 2), torch.full((2,), len(guidance.schedule) // 2, device=self.device)
        with torch.no_grad():
            one, other = (guidance.predict(noisy, timestep, self._text(guidance, [text] * 2)) for text in self.prompts)
        apart = float((one - other).abs().max())
        seen = f"predictions for {self.prompts[0]!r} and {self.prompts[1]!r} differ by at most {apart:.3g}"
        remedy = "Give conditioning.embedding to the network, or set `prompts` to two that the model tells apart"
        require(apart > 1e-6, "the prompt changes the prediction", seen, remedy)

    def test_guidance_scale_follows_diffusers(self) -> None:
        """`predict_noise_guided` is eps_u + s (eps_c - eps_u): 0 without the prompt, 1 with it, more beyond."""
        guidance = self._guidance()
        noisy, timestep = self._noisy(guidance, 2), self._timesteps(guidance, 2)
        given, without = (self._text(guidance, [text] * 2) for text in self.prompts)
        with torch.no_grad():
            eps_c, eps_u = (guidance.predict_noise(noisy, timestep, text) for text in (given, without))
            for scale in (0.0, 1.0, 7.5):
                found = guidance.predict_noise_guided(noisy, timestep, given, without, scale)
                promise = f"predict_noise_guided with scale {scale:g} is eps_u + {scale:g} (eps_c - eps_u)"
                expected = {"noise": eps_u + scale * (eps_c - eps_u)}
                remedy = "Leave it as it is inherited, or mind the order of the two prompts"
                require_same(expected, {"noise": found}, 100 * self.tolerance, promise, remedy)
