"""The kit for guidance: a frozen score model that encodes, adds noise and predicts it."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from dfw.contracts import Conditioning
from dfw.interfaces import Guidance
from dfw.testing.base import ComponentTests
from dfw.testing.compare import bounds, require_finite, require_same
from dfw.testing.outcomes import Skip, require


class GuidanceTests(ComponentTests[Guidance]):
    """Checks of a `Guidance`. Write `make`, and `prompts` if it does not know the words of these."""

    interface: ClassVar[type[Any]] = Guidance
    prompts: ClassVar[tuple[str, str]] = ("a red cube", "a blue car")
    """Two texts that the model can read and tell apart."""
    round_trip: ClassVar[float | None] = 0.1
    """Mean absolute error, of colours in [0, 1], that decode_image(encode_image(x)) makes on smooth images; None: no promise."""

    _shared: ClassVar[dict[type[Any], Guidance]] = {}

    def exercise(self, made: Guidance) -> None:
        """Asks everything in training mode."""
        made.train()
        self.observe(made)

    def observe(self, made: Guidance, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """Encoded images, decoded ones, and predictions for the first prompt at several timesteps."""
        with torch.no_grad():
            image = self._image(made, 2, dtype)
            noisy, timestep = self._noisy(made, 3, dtype), self._timesteps(made, 3)
            return {
                "encode_image": made.encode_image(image),
                "decode_image": made.decode_image(made.encode_image(image)),
                "predict": made.predict(noisy, timestep, self._text(made, self.prompts[:1] * 3)),
            }

    # -- checks --------------------------------------------------------------------------------------------------------

    def test_schedule(self) -> None:
        """alpha falls and sigma rises with the timestep, in (0, 1]: clean first, noise last.

        alpha^2 + sigma^2 = 1 for diffusion, alpha + sigma = 1 for a rectified flow (prediction_type flow).
        """
        guidance = self._guidance()
        alpha, sigma = guidance.schedule.alpha.double().cpu(), guidance.schedule.sigma.double().cpu()
        flow = guidance.prediction_type == "flow"
        promise = f"a schedule is {'a straight line' if flow else 'variance preserving'} and goes from clean to noise"
        remedy = "Build it with NoiseSchedule." + (
            "from_flow(s): alpha = 1 - s, sigma = s"
            if flow
            else "from_alphas_cumprod(abar): alpha = sqrt(abar), sigma = sqrt(1 - abar)"
        )
        require(alpha.dim() == 1 and alpha.shape == sigma.shape and len(alpha) > 1, promise, f"alpha is {alpha.shape}", remedy)
        require_finite({"alpha": alpha, "sigma": sigma}, promise, remedy)
        total, name = (alpha + sigma, "alpha + sigma") if flow else (alpha**2 + sigma**2, "alpha^2 + sigma^2")
        off = float((total - 1).abs().max())
        require(off <= 1e-4, promise, f"{name} is off 1 by {off:.3g}", remedy)
        rises = bool((alpha.diff() > 1e-6).any()) or bool((sigma.diff() < -1e-6).any())
        require(not rises, promise, "alpha rises or sigma falls with the timestep", remedy)
        seen = f"alpha runs from {float(alpha[0]):.3g} to {float(alpha[-1]):.3g}"
        require(alpha[0] > sigma[0] and alpha[-1] < sigma[-1], promise, seen, remedy)

    def test_noise_round_trip(self) -> None:
        """`add_noise` is alpha_t z + sigma_t eps, and `predict_clean` with the true noise gives z back."""
        guidance = self._guidance()
        timestep = self._timesteps(guidance, 5)
        clean, noise = self._noisy(guidance, 5, torch.float64, seed=1), self._noisy(guidance, 5, torch.float64, seed=2)
        alpha = guidance.schedule.alpha.double().to(self.device)[timestep].view(-1, 1, 1, 1)
        sigma = guidance.schedule.sigma.double().to(self.device)[timestep].view(-1, 1, 1, 1)
        noisy = guidance.add_noise(clean, noise, timestep)
        expected = {"add_noise": alpha * clean + sigma * noise}
        promise = "add_noise(z, eps, t) is alpha_t z + sigma_t eps"
        require_same(expected, {"add_noise": noisy}, 1e-5, promise, "Leave add_noise as it is inherited")
        back = guidance.predict_clean(noisy, timestep, noise)
        promise = "predict_clean undoes add_noise when given the true noise"
        require_same({"clean": clean}, {"clean": back}, 1e-5, promise, "Return (z_t - sigma_t eps) / alpha_t")

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

    def test_shapes(self) -> None:
        """Sizes are as the attributes say: images of `resolution`, encoded to (B, `channels`, `latent_resolution`, same)."""
        guidance = self._guidance()
        side, image = guidance.latent_resolution, self._image(guidance, 2)
        require(guidance.space in ("pixel", "latent"), "space is pixel or latent", f"it is {guidance.space!r}", "Write one")
        with torch.no_grad():
            encoded = guidance.encode_image(image)
            decoded = guidance.decode_image(encoded)
            predicted = guidance.predict(encoded, self._timesteps(guidance, 2), self._text(guidance, self.prompts))
        expected = (2, guidance.channels, side, side)
        for name, value, shape in (
            ("encode_image", encoded, expected),
            ("decode_image", decoded, tuple(image.shape)),
            ("predict", predicted, expected),
        ):
            promise = f"{name} gives {shape}, as channels, resolution and latent_resolution say"
            seen = f"it gave {tuple(value.shape)} in {value.dtype}"
            remedy = "Set the attributes to what the model really uses, and keep the dtype of the input"
            require(tuple(value.shape) == shape and value.dtype == image.dtype, promise, seen, remedy)
        low, high = bounds(decoded)
        promise, seen = "decode_image gives colours in [0, 1]", f"they run from {low:.3g} to {high:.3g}"
        require(low >= 0 and high <= 1, promise, seen, "Undo the scaling of encode_image and clamp")
        if guidance.space == "pixel":
            promise = "a pixel model adds noise to images: 3 channels of side `resolution`"
            seen = f"channels is {guidance.channels} and latent_resolution {side}, resolution {guidance.resolution}"
            require(guidance.channels == 3 and side == guidance.resolution, promise, seen, "Set space to latent, or fix them")

    def test_encode_is_differentiable(self) -> None:
        """The gradient through `encode_image` equals finite differences: without it nothing is learned."""
        guidance = self._guidance()
        image = self._image(guidance, 1).requires_grad_()
        with torch.no_grad():
            weight = torch.randn(guidance.encode_image(image).shape, generator=torch.Generator().manual_seed(5)).to(image)

        def score(x: Tensor) -> Tensor:
            return (guidance.encode_image(x).double() * weight.double()).sum()

        total, promise = score(image), "encode_image is differentiable in the image"
        remedy = "Take out no_grad and detach, and let autograd see the scaling to the model's range"
        require(total.requires_grad, promise, "its result carries no graph", remedy)
        (gradient,) = torch.autograd.grad(total, image)
        require(bool(torch.isfinite(gradient).all() and gradient.any()), promise, "the gradient is 0 or not finite", remedy)
        size = gradient.double().norm()
        along = (gradient / size).detach()
        step = 0.02
        with torch.no_grad():
            found = float((score(image + step * along) - score(image - step * along)) / (2 * step))
        seen = f"along the gradient autograd says {float(size):.4g} and finite differences {found:.4g}"
        require(abs(found - float(size)) <= 0.05 * float(size), promise, seen, remedy)

    def test_decode_inverts_encode(self) -> None:
        """`decode_image(encode_image(x))` is x, as near as `round_trip` promises."""
        if self.round_trip is None:
            raise Skip("no promise is made of decode_image(encode_image(x)) (round_trip)")
        guidance = self._guidance()
        image = self._image(guidance, 4)
        with torch.no_grad():
            back = guidance.decode_image(guidance.encode_image(image))
        error = float((back - image).abs().mean())
        promise = f"decode_image undoes encode_image within {self.round_trip:g} on average (round_trip)"
        remedy = "Give both the same scale and range ([0, 1] outside), or state the model's own error in round_trip"
        require(error <= self.round_trip, promise, f"colours are off by {error:.3g}", remedy)

    def test_frozen(self) -> None:
        """No parameter asks for gradients, and nothing that is asked in training mode changes the model."""
        guidance = self.fresh()
        hungry = [name for name, parameter in guidance.named_parameters() if parameter.requires_grad]
        promise, remedy = "a guidance is frozen", "Call self.requires_grad_(False).eval() at the end of __init__"
        require(not hungry, promise, f"{', '.join(hungry[:3])} and others ask for gradients ({len(hungry)} in all)", remedy)
        before = {name: tensor.clone() for name, tensor in guidance.state_dict().items()}
        outputs = self.observe(guidance)
        self.exercise(guidance)
        changed = [name for name, tensor in guidance.state_dict().items() if not torch.equal(tensor, before[name])]
        remedy = "Stay in evaluation mode: def train(self, mode=True): return super().train(False)"
        require(not changed, promise, f"{', '.join(changed[:3])} changed while it was asked in training mode", remedy)
        promise = "a frozen model answers in training mode as in evaluation mode"
        require_same(outputs, self.observe(guidance.train()), self.tolerance, promise, remedy)

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

    def test_batch_invariance(self) -> None:
        """Each image and text of a batch is answered as if it were alone."""
        guidance = self._guidance()
        image, noisy, timestep = self._image(guidance, 3), self._noisy(guidance, 3), self._timesteps(guidance, 3)
        texts = [self.prompts[0], self.prompts[1], self.prompts[0]]

        def ask(rows: slice) -> dict[str, Tensor]:
            text = self._text(guidance, texts[rows])
            encoded = guidance.encode_image(image[rows])
            answers = {"encode_text": text.embedding, "encode_image": encoded, "decode_image": guidance.decode_image(encoded)}
            return answers | {"predict": guidance.predict(noisy[rows], timestep[rows], text)}

        with torch.no_grad():
            whole, parts = ask(slice(None)), [ask(slice(row, row + 1)) for row in range(3)]
        joined = {name: torch.cat([part[name] for part in parts]) for name in whole}
        promise = "an image of a batch is answered as if it were alone"
        remedy = "Use no statistics over the batch (BatchNorm, mean over dim 0), and one timestep per image"
        require_same(whole, joined, 10 * self.tolerance, promise, remedy)

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

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _guidance(self) -> Guidance:
        """One model for all checks that do not change it: loading takes long."""
        key = type(self)
        if key not in self._shared:
            self._shared[key] = self.fresh()
        return self._shared[key].eval()

    def _image(self, guidance: Guidance, count: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Smooth images (B, 3, side, side) in [0.1, 0.9]: four strong colours, one in each corner."""
        corners = 0.1 + 0.8 * self.draw(count, 3, 2, 2, seed=3, dtype=dtype).round()
        side = guidance.resolution
        return torch.nn.functional.interpolate(corners, size=(side, side), mode="bilinear", align_corners=True)

    def _noisy(self, guidance: Guidance, count: int, dtype: torch.dtype = torch.float32, seed: int = 4) -> Tensor:
        side = guidance.latent_resolution
        drawn = torch.randn(count, guidance.channels, side, side, generator=torch.Generator().manual_seed(seed))
        return drawn.to(device=self.device, dtype=dtype)

    def _timesteps(self, guidance: Guidance, count: int) -> Tensor:
        """From a fiftieth to 49 fiftieths of the schedule."""
        length = len(guidance.schedule)
        return torch.linspace(0.02 * length, 0.98 * length, count, device=self.device).long().clamp(0, length - 1)

    def _text(self, guidance: Guidance, texts: tuple[str, ...] | list[str]) -> Conditioning:
        found = guidance.encode_text(list(texts))
        promise = "encode_text gives one row per text"
        seen = f"{len(texts)} texts gave an embedding of shape {tuple(found.embedding.shape)}"
        require(found.embedding.dim() == 3 and len(found) == len(texts), promise, seen, "Return Conditioning of (B, L, D)")
        return found
