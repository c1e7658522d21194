"""How the kits make a component, and what their authors write. The checks themselves are in the modules beside this one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from dfw.interfaces.component import Component
from dfw.testing.outcomes import expecting_failure, plain, require

Made = TypeVar("Made", bound=Component)


class Core(Generic[Made]):
    """What a kit can be told about its component, and what its checks build and draw."""

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
        checks = checks_of(cls)
        for name in cls.__dict__.get("expected_failures", {}):
            if name not in checks:
                near = get_close_matches(name, checks, n=1)
                raise TypeError(
                    f"{cls.__name__}.expected_failures: no check named {name!r}"
                    + (f"; did you mean {near[0]!r}?" if near else "")
                )
        for name in checks:
            check, reason = getattr(cls, name), cls.expected_failures.get(name)
            if reason is not None:
                setattr(cls, name, expecting_failure(plain(check), reason))
            elif plain(check) is not check:  # a parent expects it to fail, and this class does not
                setattr(cls, name, plain(check))

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
        self.place(made)
        self.prepare(made, self.generator(seed))
        if isinstance(made, nn.Module):
            made.eval()
        return made

    def place(self, made: Made) -> None:
        """Moves a component to `device`, as a run does."""
        if isinstance(made, nn.Module):
            made.to(self.device)

    def generator(self, seed: int = 0) -> torch.Generator:
        """A random stream on `device`."""
        return torch.Generator(device=self.device).manual_seed(seed)

    def draw(self, *shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
        """Uniform numbers in [0, 1), drawn in float64 so that every dtype sees the same ones."""
        drawn = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return drawn.to(device=self.device, dtype=dtype)

    def _disturb(self, parameters: Iterable[Tensor]) -> None:
        """Moves parameters a little, so that they are nobody's initial values."""
        generator = self.generator(9)
        with torch.no_grad():
            for parameter in parameters:
                noise = torch.randn(parameter.shape, generator=generator, device=parameter.device, dtype=torch.float32)
                parameter.add_(0.01 * noise.to(parameter.dtype))

    def _component(self) -> type[Any]:
        if self.component is None:
            raise TypeError(
                f"{type(self).__name__} does not say what it tests; write "
                f"`def make(self): return Mine(Mine.Config())`, or `component = Mine`"
            )
        return self.component


def checks_of(tests: type[Core[Any]]) -> list[str]:
    """The names of a class's checks: those of its own kind first, as they are written."""
    names: dict[str, None] = {}
    for cls in tests.__mro__:
        names |= {name: None for name in vars(cls) if name.startswith("test_") and callable(getattr(tests, name))}
    return list(names)
