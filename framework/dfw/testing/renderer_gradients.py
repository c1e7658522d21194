"""Checks of a picture's gradients: every part of it trains the scene, and by its true derivative."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.gradcheck import GradcheckError

from dfw.interfaces.data import CameraBatch, RenderOutput
from dfw.interfaces.geometry import Geometry
from dfw.interfaces.renderer import Renderer
from dfw.testing.compare import projected
from dfw.testing.outcomes import Skip, require
from dfw.testing.renderer_shown import ShownToRenderer


class PictureGradients(ShownToRenderer):
    """For any renderer."""

    def test_gradients_reach_the_scene(self) -> None:
        """A picture trains every parameter of the geometry, and of the renderer if it has some, with finite gradients."""
        made, geometry = self.fresh().train(), self._scene()
        output: RenderOutput = made(geometry, self._cameras(), self.generator())
        named = {f"geometry.{name}": p for name, p in geometry.named_parameters()}
        named |= {f"renderer.{name}": p for name, p in made.named_parameters()}
        if not named:
            raise Skip("the scene has no parameters to train")
        promise, remedy = "a picture trains the scene", "Look for a detach(), a no_grad or a threshold on the way"
        require(output.colour.requires_grad, promise, "its colour carries no graph", remedy)
        projected({"colour": output.colour}, self.generator()).backward()  # type: ignore[no-untyped-call]
        for name, parameter in named.items():
            gradient = parameter.grad
            require(gradient is not None and bool(gradient.any()), promise, f"{name} gets no gradient", remedy)
            require(bool(torch.isfinite(gradient).all()), promise, f"the gradient of {name} is not finite", remedy)  # type: ignore[arg-type]

    def test_every_output_carries_a_graph(self) -> None:
        """What changes when the scene's parameters are moved, carries gradients to them: losses train through any of it."""
        made, geometry = self.fresh().train(), self._scene()
        parameters = [p for module in (made, geometry) for p in module.parameters() if p.requires_grad]
        before = self._all_values(made(geometry, self._cameras(), self.generator()))
        self._disturb(parameters)
        after = self._all_values(made(geometry, self._cameras(), self.generator()))
        for name, value in before.items():
            fixed = name in after and value.shape == after[name].shape and torch.equal(value, after[name])
            promise = f"{name} of a picture trains the scene"
            seen = "it changes with the scene's parameters and carries no graph"
            require(fixed or value.requires_grad, promise, seen, "Look for a detach() or a no_grad on the way")

    def test_gradcheck(self) -> None:
        """In float64, evaluation mode: gradients of colour, opacity and depth equal finite differences (torch's gradcheck)."""
        if torch.float64 not in self.dtypes:
            raise Skip("the component does not work in float64 (dtypes)")
        made, geometry = self.fresh().double(), self._scene().double()
        bridge = _Bridge(made, geometry, self._cameras(1, torch.float64))
        names = [name for name, parameter in bridge.named_parameters() if parameter.requires_grad]
        if not names:
            raise Skip("the scene has no parameters to train")
        values = tuple(dict(bridge.named_parameters())[name].detach().clone().requires_grad_() for name in names)

        def picture(*moved: Tensor) -> tuple[Tensor, ...]:
            found: tuple[Tensor, ...] = torch.func.functional_call(bridge, dict(zip(names, moved, strict=True)), ())
            return found

        try:
            torch.autograd.gradcheck(picture, values, fast_mode=True, atol=1e-6, rtol=1e-4)
        except GradcheckError as error:
            first = str(error).strip().splitlines()[0]
            raise AssertionError(
                f"gradients are the derivatives of the picture; torch.autograd.gradcheck says: {first} "
                "Look for a detach(), or a backward() of your own."
            ) from error

    def _all_values(self, output: RenderOutput) -> dict[str, Tensor]:
        """The pictures, and the samples' weights and normals."""
        values, samples = self._values(output), output.samples
        if samples is not None:
            values["samples.weight"] = samples.weight
            if samples.normal is not None:
                values["samples.normal"] = samples.normal
        return values


class _Bridge(nn.Module):
    """Renderer and geometry as one module, so that all their parameters can be swapped for one call."""

    def __init__(self, renderer: Renderer, geometry: Geometry, cameras: CameraBatch) -> None:
        super().__init__()
        self.renderer, self.geometry, self.cameras = renderer, geometry, cameras

    def forward(self) -> tuple[Tensor, ...]:
        """Colour, opacity and depth."""
        output: RenderOutput = self.renderer(self.geometry, self.cameras)
        return tuple(value for value in (output.colour, output.opacity, output.depth) if value.requires_grad)
