"""The kit for guidance: a frozen score model that encodes, adds noise and predicts it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from dfw.testing.compare import bounds, require_finite, require_same
from dfw.testing.guidance_prediction import PredictionChecks
from dfw.testing.outcomes import Skip, require
from dfw.testing.untouched import left_alone


class GuidanceTests(PredictionChecks):
    """Checks of a `Guidance`. Write `make`, and `prompts` if it does not know the words of these.

    A model that sees several views of a scene at once is asked with as many, and with their cameras in groups.
    """

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

    def test_shapes(self) -> None:
        """Sizes are as the attributes say: images of `resolution`, encoded to (B, `channels`, `latent_resolution`, same)."""
        guidance = self._guidance()
        side, image, count = guidance.latent_resolution, self._image(guidance, 2), 2 * self._sees(guidance)
        require(guidance.space in ("pixel", "latent"), "space is pixel or latent", f"it is {guidance.space!r}", "Write one")
        with torch.no_grad():
            encoded = guidance.encode_image(image)
            decoded = guidance.decode_image(encoded)
            asked, timestep = self._asked(guidance, [0, 1]), self._timesteps(guidance, 2)
            predicted = guidance.predict(encoded, timestep, asked)
            seen_from = replace(asked, cameras=asked.cameras or self._cameras(2, self._sees(guidance)))
            from_cameras = guidance.predict(encoded, timestep, seen_from)
        said = type(guidance).side(guidance.config)
        promise, seen = "side(config) is None or `resolution`", f"it is {said!r}, and resolution is {guidance.resolution}"
        require(said in (None, guidance.resolution), promise, seen, "Return None where the model must be loaded to know")
        expected = (count, guidance.channels, side, side)
        for name, value, shape in (
            ("encode_image", encoded, expected),
            ("decode_image", decoded, tuple(image.shape)),
            ("predict", predicted, expected),
            ("predict, when the conditioning has cameras,", from_cameras, expected),
        ):
            promise = f"{name} gives {shape}, as channels, resolution and latent_resolution say"
            seen = f"it gave {tuple(value.shape)} in {value.dtype}"
            remedy = "Set the attributes to what the model really uses, and keep the dtype of the input"
            require(tuple(value.shape) == shape and value.dtype == image.dtype, promise, seen, remedy)
        with torch.no_grad():
            low, high = bounds(torch.cat([decoded, guidance.decode_image(3 * self._noisy(guidance, 2))]))
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

    def test_renewed_it_is_as_new(self) -> None:
        """If `renew` returns True, a used guidance gives the bits that a new one gives."""
        new, used = self.observe(self.fresh()), self.fresh()
        if "text" in type(used).provides(used.config):
            for text in reversed(self.prompts):  # one by one, and in another order than a run would
                used.encode_text([text])
        self.observe(used)
        self.exercise(used)
        if not used.renew():
            raise Skip("renew() returns False: each run loads the model anew")
        promise, remedy = "a renewed guidance gives the bits of a new one", "Forget what was asked, or return False"
        require_same(new, self.observe(used), 0 if self.device == "cpu" else self.tolerance, promise, remedy)

    def test_batch_invariance(self) -> None:
        """Each image and text of a batch is answered as if it were alone; each scene, for a model that sees several views."""
        guidance = self._guidance()
        image, noisy, timestep = self._image(guidance, 3), self._noisy(guidance, 3), self._timesteps(guidance, 3)
        views, which = self._sees(guidance), [0, 1, 0]
        asked = self._asked(guidance, which)

        def ask(scenes: range) -> dict[str, Tensor]:
            rows = slice(views * scenes.start, views * scenes.stop)
            encoded = guidance.encode_image(image[rows])
            answers = {"encode_image": encoded, "decode_image": guidance.decode_image(encoded)}
            if self._reads_text(guidance):
                answers["encode_text"] = self._text(guidance, [self.prompts[which[scene]] for scene in scenes]).embedding
            return answers | {"predict": guidance.predict(noisy[rows], timestep[rows], asked.select(rows))}

        with torch.no_grad():
            whole, parts = ask(range(3)), [ask(range(scene, scene + 1)) for scene in range(3)]
        joined = {name: torch.cat([part[name] for part in parts]) for name in whole}
        promise = f"{'an image' if views == 1 else f'a scene of {views} views'} of a batch is answered as if it were alone"
        remedy = "Use no statistics over the batch (BatchNorm, mean over dim 0), and one timestep per image"
        require_same(whole, joined, 10 * self.tolerance, promise, remedy)

    def test_leaves_its_inputs_alone(self) -> None:
        """No call changes a tensor that it is given, nor whether gradients are recorded."""
        guidance = self._guidance()
        image, noisy, timestep = self._image(guidance, 2), self._noisy(guidance, 2), self._timesteps(guidance, 2)
        noise, texts = self._noisy(guidance, 2, seed=7), [self._asked(guidance, [index] * 2) for index in (0, 1)]
        calls: dict[str, Callable[[], object]] = {
            "encode_image": lambda: guidance.encode_image(image),
            "decode_image": lambda: guidance.decode_image(noisy),
            "predict": lambda: guidance.predict(noisy, timestep, texts[0]),
            "add_noise": lambda: guidance.add_noise(noisy, noise, timestep),
            "predict_noise_guided": lambda: guidance.predict_noise_guided(noisy, timestep, texts[0], texts[1], 7.5),
            "predict_clean": lambda: guidance.predict_clean(noisy, timestep, noise),
        }
        given = {"image": image, "noisy": noisy, "timestep": timestep, "noise": noise, "conditioning": texts}
        for name, call in calls.items():
            with torch.no_grad(), left_alone(f"{name} only looks", given):
                call()
        with torch.enable_grad():
            guidance.predict(noisy, timestep, texts[0])
            kept = torch.is_grad_enabled()
        promise, remedy = "a call leaves torch's grad mode alone", "Write `with torch.no_grad():`"
        require(kept, promise, "predict switched gradients off for all that follows", remedy)
