"""What the four kits have in common: how a component is made, and the checks that hold for every kind."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from copy import copy
from difflib import get_close_matches
from typing import Any, ClassVar, Generic, Literal, TypeVar, get_args, get_origin

import torch
import yaml  # type: ignore[import-untyped]
from pydantic import BaseModel
from torch import Tensor

from dfw.component import ComponentConfig
from dfw.interfaces import Geometry, Guidance, Loss, Renderer
from dfw.testing.compare import projected, require_derivative, require_finite, require_same
from dfw.testing.outcomes import Skip, expecting_failure, require
from dfw.testing.randomness import changed, global_states, kept_states, seed_globally
from dfw.testing.stand_in import stand_in

Made = TypeVar("Made", Geometry, Renderer, Guidance, Loss)


class ComponentTests(Generic[Made]):
    """Base of the kits: subclass one of them and write `make`, or set `component` and `options`.

    Every method `test_*` is a check: it passes, raises AssertionError, or raises Skip. `expected_failures` names checks that
    this component is known not to pass, each with its reason; one of them that passes is a failure.
    """

    interface: ClassVar[type[Any]]
    component: ClassVar[type[Any] | None] = None
    """The class under test, if `make` is not written."""
    options: ClassVar[Mapping[str, Any]] = {}
    """Options of its Config, as a YAML would give them."""
    expected_failures: ClassVar[Mapping[str, str]] = {}
    """Check -> why this component does not pass it."""
    device: ClassVar[str] = "cpu"
    """Where the checks run."""
    dtypes: ClassVar[tuple[torch.dtype, ...]] = (torch.float32, torch.float64)
    """Floating-point types the component works in; take out float64 if its kernels know only float32."""
    tolerance: ClassVar[float] = 1e-4
    """Relative difference that rounding may make between two ways to compute the same thing."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        for name, reason in cls.__dict__.get("expected_failures", {}).items():
            check = getattr(cls, name, None)
            if not name.startswith("test_") or check is None:
                near = get_close_matches(name, checks_of(cls), n=1)
                raise TypeError(
                    f"{cls.__name__}.expected_failures: no check named {name!r}"
                    + (f"; did you mean {near[0]!r}?" if near else "")
                )
            setattr(cls, name, expecting_failure(inspect.unwrap(check), reason))

    # -- what an author writes -----------------------------------------------------------------------------------------

    def config(self) -> Any:
        """The checked Config of `component`, from `options`."""
        return self._component().Config.model_validate(dict(self.options))

    def make(self) -> Made:
        """A new component. Called several times; each call must build it anew."""
        made: Made = self._component()(self.config())
        return made

    def prepare(self, made: Made, generator: torch.Generator) -> None:
        """Brings a new component into the state in which it is checked: draws its initial parameters from `generator`.

        Override it for a state that says more, such as parameters after some training.
        """

    def exercise(self, made: Made) -> None:
        """Uses the component as a few steps of a run would, in training mode."""

    def observe(self, made: Made, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """All that others see of the component, as named tensors that depend on every parameter; inputs in `dtype`."""
        raise NotImplementedError

    def draws(self, made: Made) -> bool:
        """Whether what `observe` shows depends on random numbers, which differ between dtypes and devices."""
        return False

    # -- helpers -------------------------------------------------------------------------------------------------------

    def fresh(self, seed: int = 0) -> Made:
        """A new component on `device`, prepared with `seed`, in evaluation mode."""
        made = self.make()
        require(
            isinstance(made, self.interface),
            f"make() returns a dfw.{self.interface.__name__}",
            f"it returned {type(made).__name__}",
            "Return the component itself",
        )
        made.to(self.device)
        self.prepare(made, self.generator(seed))
        made.eval()
        return made

    def generator(self, seed: int = 0) -> torch.Generator:
        """A random stream on `device`."""
        return torch.Generator(device=self.device).manual_seed(seed)

    def draw(self, *shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
        """Uniform numbers in [0, 1), drawn in float64 so that every dtype sees the same ones."""
        drawn = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return drawn.to(device=self.device, dtype=dtype)

    def _component(self) -> type[Any]:
        if self.component is None:
            raise TypeError(
                f"{type(self).__name__} does not say what it tests; write "
                f"`def make(self): return Mine(Mine.Config())`, or `component = Mine`"
            )
        return self.component

    # -- checks for every kind -----------------------------------------------------------------------------------------

    def test_config_is_documented(self) -> None:
        """Config is a class of its own that refuses unknown keys, is frozen, and has a docstring under every field."""
        config = self.make().config
        promise = "a component keeps its checked Config as `self.config`"
        require(isinstance(config, ComponentConfig), promise, f"it has {type(config).__name__}", "Write self.config = config")
        settings = type(config).model_config
        promise = "a Config is frozen and refuses unknown keys, so that a typing error in a YAML is found"
        require(
            settings.get("frozen") and settings.get("extra") == "forbid",
            promise,
            f"frozen is {settings.get('frozen')} and extra is {settings.get('extra')!r}",
            "Derive it from dfw.ComponentConfig and leave model_config alone",
        )
        bare = sorted(f"{model.__name__}.{name}" for model, name in undocumented(type(config)))
        remedy = "Put a docstring under each: what it is, its unit, its range"
        require(not bare, "every field of a Config explains itself", f"no help for {', '.join(bare)}", remedy)

    def test_config_survives_yaml(self) -> None:
        """Written to YAML and read back, the Config is equal: what a run's resolved.yaml needs."""
        config = self.make().config
        written = yaml.safe_dump(config.model_dump(mode="json", by_alias=True))
        again = type(config).model_validate(yaml.safe_load(written))
        seen = f"written as {' '.join(written.split())!r} it came back as {again!r}, and was {config!r}"
        remedy = "Use plain types (numbers, text, lists, mappings, nested Configs) and validators that accept their own output"
        require(again == config, "a Config survives YAML", seen, remedy)

    def test_features_are_words(self) -> None:
        """`requires` and `provides` answer from the Config alone, with frozensets of words."""
        made = self.make()
        for question in ("requires", "provides"):
            answer = getattr(type(made), question)(made.config)
            require(
                isinstance(answer, frozenset) and all(isinstance(word, str) and word for word in answer),
                f"{question}() is a classmethod that returns a frozenset of words",
                f"it returned {answer!r}",
                "Write e.g. return frozenset({'normals'})",
            )

    def test_same_seed_same_result(self) -> None:
        """Two components made alike are alike, whatever the global random state was."""
        with kept_states():
            seed_globally(1)
            first = self.observe(self.fresh(7))
            seed_globally(2)
            second = self.observe(self.fresh(7))
        require_same(
            first,
            second,
            0 if self.device == "cpu" else self.tolerance,
            "the same seed gives the same component, bit for bit",
            "Draw initial values in initialise(generator), not in __init__ (nn.Linear draws from the global state when built)",
        )

    def test_no_global_rng(self) -> None:
        """Nothing that happens after construction touches the global random states: all randomness comes from generators."""
        made = self.fresh()
        with kept_states():
            before = global_states()
            self.observe(made)
            self.exercise(made)
            touched = changed(before, global_states())
        promise = "no call draws from a global random state"
        remedy = "Pass the generator to torch.rand, randn and randint, and use no dropout"
        require(not touched, promise, f"the state of {' and '.join(touched)} changed", remedy)

    def test_deterministic(self) -> None:
        """The same question gets the same answer twice."""
        made = self.fresh()
        tolerance = 0 if self.device == "cpu" else self.tolerance
        promise = "in evaluation mode the same input gives the same output"
        require_same(self.observe(made), self.observe(made), tolerance, promise, "Keep no state between calls")

    def test_outputs_are_finite(self) -> None:
        """No output is infinite or no number."""
        require_finite(self.observe(self.fresh()), "every output is a finite number", "Look for 0/0 and log 0")

    def test_state_dict_restores_behaviour(self) -> None:
        """The state of a used component, loaded into a new one, makes it behave the same: what --resume needs."""
        used = self.fresh(1)
        self._disturb(used)
        self.exercise(used)
        used.eval()
        state = {name: tensor.detach().cpu().clone() for name, tensor in used.state_dict().items()}
        restored = self.fresh(2)
        restored.load_state_dict(state)
        require_same(
            self.observe(used),
            self.observe(restored),
            0 if self.device == "cpu" else self.tolerance,
            "the state dict is all that a component is",
            "Register what changes as nn.Parameter or with register_buffer, and compute nothing from it only once in __init__",
        )

    def test_float64(self) -> None:
        """In float64 it gives float64 and agrees with float32."""
        if torch.float64 not in self.dtypes:
            raise Skip("the component does not work in float64 (dtypes)")
        single, double = self.fresh(), self.fresh()
        double.double()
        outputs = self.observe(double, torch.float64)
        for name, value in outputs.items():
            promise, remedy = (
                "float64 inputs give float64 outputs",
                "Create tensors like the inputs (new_zeros, zeros_like, .to(x))",
            )
            require(value.dtype == torch.float64, promise, f"{name} came as {value.dtype}", remedy)
        if self.draws(single):
            return  # the same generator gives other numbers in another dtype
        promise = "float64 and float32 agree but for rounding"
        require_same(self.observe(single), outputs, 10 * self.tolerance, promise, "Look for a value that was rounded on the way")

    def test_other_device(self) -> None:
        """On a second device, one that stands in for a GPU on any machine, it works as on the CPU and stays there."""
        if self.device != "cpu":
            raise Skip(f"the checks run on {self.device} already")
        here = self.observe(self.fresh())
        promise, remedy = (
            "device comes from the data",
            "Create tensors on the inputs' device; register what must move as a buffer",
        )
        with stand_in() as second:
            there = copy(self)
            there.device = str(second.device)  # type: ignore[misc]
            try:
                made = there.fresh()
                outputs = there.observe(made)
                back = {name: value.detach().cpu().clone() for name, value in outputs.items()}
                there.exercise(made)
            except (RuntimeError, TypeError) as error:
                raise AssertionError(f"{promise}; {str(error).splitlines()[0]}. {remedy}.") from error
            for name, value in outputs.items():
                require(value.device == second.device, promise, f"{name} came on {value.device}", remedy)
        promise = "two devices agree but for rounding"
        require_same(here, back, 10 * self.tolerance, promise, "Look for a path that only one device takes")

    def test_cuda(self) -> None:
        """On a CUDA device it gives CUDA tensors and agrees with the CPU."""
        if not torch.cuda.is_available():
            raise Skip("this machine has no CUDA device")
        if self.device != "cpu":
            raise Skip(f"the checks run on {self.device} already")
        made = self.fresh()
        here = self.observe(made)
        there = copy(self)
        there.device = "cuda"  # type: ignore[misc]
        made.to("cuda")
        outputs = there.observe(made)
        for name, value in outputs.items():
            promise, remedy = (
                "device comes from the data",
                "Create tensors on the inputs' device; move plain attributes in _apply",
            )
            require(value.is_cuda, promise, f"{name} came on {value.device}", remedy)
        if self.draws(made):
            return  # the same seed gives other numbers on another device
        promise = "CPU and CUDA agree but for rounding"
        require_same(here, outputs, 100 * self.tolerance, promise, "Look for a kernel that differs between the devices")

    def test_gradients_match_differences(self) -> None:
        """Along random directions of the parameters, gradients in float64 equal central finite differences."""
        if torch.float64 not in self.dtypes:
            raise Skip("the component does not work in float64 (dtypes)")
        made = self.fresh().double()
        parameters = [p for p in made.parameters() if p.requires_grad]
        if not parameters:
            raise Skip("the component has no parameters to train")

        def scalar() -> Tensor:
            return projected(self.observe(made, torch.float64), self.generator(3))

        shown = scalar()
        if not shown.requires_grad:
            raise Skip("what it shows carries no gradient")
        gradients = torch.autograd.grad(shown, parameters, allow_unused=True)
        for seed in (4, 5):
            require_derivative(scalar, parameters, gradients, self.generator(seed), "Look for a detach() or a wrong backward()")

    def _disturb(self, made: Made) -> None:
        """Moves all parameters a little, so that they are nobody's initial values."""
        generator = self.generator(9)
        with torch.no_grad():
            for parameter in made.parameters():
                noise = torch.randn(parameter.shape, generator=generator, device=parameter.device, dtype=torch.float32)
                parameter.add_(0.01 * noise.to(parameter.dtype))


def checks_of(tests: type[ComponentTests[Any]]) -> list[str]:
    """The names of a class's checks: those of its own kind first, as they are written."""
    names: dict[str, None] = {}
    for cls in tests.__mro__:
        names |= {name: None for name in vars(cls) if name.startswith("test_") and callable(getattr(tests, name))}
    return list(names)


def undocumented(model: type[BaseModel]) -> Iterator[tuple[type[BaseModel], str]]:
    """Fields of a Config, and of the Configs among its defaults, that have no help."""
    for name, info in model.model_fields.items():
        if not info.description and not (get_origin(info.annotation) is Literal and len(get_args(info.annotation)) == 1):
            yield model, name  # the tag of a union explains itself
        default = info.default
        if isinstance(default, BaseModel):
            yield from undocumented(type(default))
