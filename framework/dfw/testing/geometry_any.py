"""Checks of any geometry: what trains it, how its parameters change their number, and from what it starts."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from dfw.config.schedules import Progress
from dfw.errors import ConfigError
from dfw.interfaces.component import ComponentConfig
from dfw.interfaces.data import Resized, SurfacePoints
from dfw.interfaces.geometry import DensityField, Geometry, Surface
from dfw.runs.optimizer import carry_over
from dfw.testing.base import ComponentTests
from dfw.testing.coloured_ball import ColouredBall
from dfw.testing.compare import projected, require_finite, require_same
from dfw.testing.devices import DeviceChecks, DtypeChecks
from dfw.testing.outcomes import Skip, require
from dfw.testing.state import StateChecks
from dfw.testing.trained import GradientChecks, GroupChecks
from dfw.testing.untouched import left_alone

_COLOURED = 2000  # triangles at most whose colours are looked at


class AnyGeometry(
    ComponentTests[Geometry],
    GroupChecks[Geometry],
    GradientChecks[Geometry],
    StateChecks[Geometry],
    DtypeChecks[Geometry],
    DeviceChecks[Geometry],
):
    """What every geometry promises, however it is asked."""

    interface: ClassVar[type[Any]] = Geometry
    steps: ClassVar[int] = 100
    """Steps of the run in which `end_step` may change the number of rows of parameters."""

    def prepare(self, made: Geometry, generator: torch.Generator) -> None:
        """Draws the initial parameters and goes to the last step of a run, where all parts of the geometry take part.

        A geometry that requires `start` begins as a ball with colours.
        """
        made.initialise(generator)
        if "start" in type(made).requires(made.config):
            with torch.no_grad():
                made.start_from(ColouredBall().to(self.device))
        made.begin_step(Progress(self.steps - 1, self.steps), generator)

    def exercise(self, made: Geometry) -> None:
        """Goes through some steps of a run; through all of them where `end_step` may change parameters."""
        self._train(made)

    def observe(self, made: Geometry, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """A field's density, albedo and normals at random points; a surface's corners and colours; an image's values; of another
        geometry its parameters.
        """
        if isinstance(made, DensityField):
            return self._look(made, self._inside(made, 256, dtype=dtype), normals=False)
        if isinstance(made, Surface):
            return self._corners(made)
        image = getattr(made, "image", None)
        if "image" in type(made).provides(made.config) and callable(image):
            return {"image": image()}
        return {name: tensor.clone() for name, tensor in made.named_parameters()}

    def restore(self, made: Geometry, state: dict[str, Tensor]) -> None:
        """As a run does: the geometry first makes parameters of the checkpoint's shapes."""
        made.allocate({name: tensor.shape for name, tensor in state.items()})
        super().restore(made, state)

    def test_every_parameter_gets_a_gradient(self) -> None:
        """What the geometry shows depends on each of its parameters, with a finite gradient that is not 0 everywhere."""
        made = self.fresh().train()
        parameters = dict(made.named_parameters())
        if not parameters:
            raise Skip("the geometry has no parameters to train")
        projected(self.observe(made), self.generator()).backward()  # type: ignore[no-untyped-call]
        for name, parameter in parameters.items():
            if not parameter.requires_grad:
                continue
            gradient = parameter.grad
            promise = "every parameter is trained by what the geometry shows"
            remedy = "Use it in density or albedo, without detach() or no_grad, or register it as a buffer"
            require(gradient is not None, promise, f"{name} gets no gradient", remedy)
            assert gradient is not None
            require(bool(torch.isfinite(gradient).all()), promise, f"the gradient of {name} is not finite", remedy)
            require(bool(gradient.any()), promise, f"the gradient of {name} is 0 everywhere", remedy)

    def test_end_step_resizes_its_own_parameters(self) -> None:
        """Where parameters change their number: each `Resized` fits its parameter, which stays the same object."""
        made = self.fresh()
        if type(made).end_step is Geometry.end_step:
            raise Skip("the geometry has no end_step, so its parameters keep their number")
        before = dict(made.named_parameters())
        resized = self._train(made)
        after = dict(made.named_parameters())
        same = before.keys() == after.keys() and all(after[name] is parameter for name, parameter in before.items())
        promise = "a parameter whose rows change stays the same object, so that the optimiser keeps it"
        require(same, promise, "end_step put another one in its place", "Return Resized(parameter, values, index)")
        if not resized:
            raise Skip(f"no parameter changed its number in {self.steps} steps; train it longer with `steps`")
        require_finite(self.observe(made), "a scene is finite after its parameters changed their number", "Look at new rows")

    def test_starts_from_its_own_class(self) -> None:
        """`start_from` takes over another scene of the same class: it then shows the same, and shares nothing with it."""
        source, made = self.fresh(1), self.fresh(2)
        self._disturb(source.parameters())
        self.exercise(source)
        shown = {name: value.detach().clone() for name, value in self.observe(source.eval()).items()}
        with left_alone("start_from only looks at its source", {"source": source}):
            try:
                with torch.no_grad():
                    made.start_from(source)
            except ConfigError as error:
                inherited = type(made).start_from is Geometry.start_from
                promise, remedy = "a scene starts from another one of its class and options", "Write allocate(shapes)"
                require(not inherited, promise, str(error), remedy)
                raise Skip(f"the geometry does not start from its own class: {error}") from error
            promise, remedy = "start_from takes over the source's state", "Copy the values of all parameters and buffers"
            require_same(shown, self.observe(made), self.tolerance, promise, remedy)
            self._disturb(made.parameters())

    def test_a_stranger_is_refused(self) -> None:
        """A source that offers no feature cannot be taken over: `start_from` says so with a ConfigError."""
        made = self.fresh()
        try:
            with torch.no_grad():
                made.start_from(_Stranger())
        except ConfigError:
            return
        promise = "start_from raises ConfigError for a source that it cannot take over"
        require(False, promise, "it took a geometry without any feature", "Ask isinstance(source, DensityField) or Surface first")

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _inside(self, field: DensityField, count: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
        return (2 * self.draw(count, 3, seed=seed, dtype=dtype) - 1) * (0.99 * field.radius)

    def _look(self, field: DensityField, points: Tensor, normals: bool) -> dict[str, Tensor]:
        found = field.sample(points, normals=normals)
        values = {"density": found.density, "albedo": found.albedo}
        return values if found.normal is None else values | {"normal": found.normal}

    def _corners(self, made: Surface) -> dict[str, Tensor]:
        """The vertices, and the colours in the middle of some 2,000 triangles: a step of a fine grid has too many for all."""
        found = made.surface()
        some = found.faces[:: max(1, len(found.faces) // _COLOURED)]
        return {"vertices": found.vertices, "albedo": made.material(SurfacePoints(found.vertices[some].mean(1))).albedo}

    def _train(self, made: Geometry) -> list[Resized]:
        """Some steps of a run, as the trainer takes them, and what changed its number of rows in them."""
        made.train()
        trained = [parameter for parameter in made.parameters() if parameter.requires_grad]
        optimizer = torch.optim.Adam(trained or [torch.zeros(())], lr=1e-3)
        changes = type(made).end_step is not Geometry.end_step
        resized: list[Resized] = []
        for step in range(self.steps) if changes else (0, self.steps // 2, self.steps - 1):
            progress, generator = Progress(step, self.steps), self.generator(step)
            made.begin_step(progress, generator)
            self._go_back(made)
            optimizer.step()
            for one in made.end_step(progress, generator):
                _require_fits(made, one)
                carry_over(optimizer, one)
                resized.append(one)
            optimizer.zero_grad(set_to_none=True)
        made.eval()
        return resized

    def _go_back(self, made: Geometry) -> None:
        """Gradients of a random sum of all that the scene shows; its graph goes, so that parameters may change their shape."""
        total = projected(self.observe(made), self.generator())
        if total.requires_grad:
            total.backward()  # type: ignore[no-untyped-call]


class _Stranger(Geometry):
    """A geometry that offers nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.config = ComponentConfig()


def _require_fits(made: Geometry, one: Resized) -> None:
    """Requires that new values and the rows that they continue fit the parameter that they belong to."""
    names = {id(parameter): name for name, parameter in made.named_parameters()}
    promise, remedy = "end_step returns Resized that fit", "Give a parameter of the geometry, (M, ...) values and an (M,) index"
    require(id(one.parameter) in names, promise, "one is of a parameter that is not the geometry's", remedy)
    name, old, values, index = names[id(one.parameter)], one.parameter, one.values, one.index
    like = values.shape[1:] == old.shape[1:] and (values.dtype, values.device) == (old.dtype, old.device)
    seen = f"for {name} {tuple(old.shape)} of {old.dtype} it gave {tuple(values.shape)} of {values.dtype}"
    require(like, promise, seen, remedy)
    right = index.dtype == torch.int64 and index.shape == values.shape[:1] and index.device == old.device
    require(right, promise, f"for {len(values)} rows of {name} the index is {tuple(index.shape)} of {index.dtype}", remedy)
    inside = bool(((index >= -1) & (index < len(old))).all())
    require(inside, promise, f"the index of {name} names rows outside of -1 to {len(old) - 1}", remedy)
