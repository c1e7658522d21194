"""Components that only say what they are: a geometry, a renderer, two losses and a guidance of a distribution `acme`."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, field_validator

from dfw import ComponentConfig, Geometry, Guidance, Loss, Noise, Part, Renderer
from dfw.config.schedules import Schedule
from dfw.errors import GuidanceError
from dfw.plugins.discovery import Entry
from dfw.plugins.registry import Registry

built: list[str] = []


class Box(Geometry):
    """A geometry without parameters."""

    class Config(ComponentConfig):
        """Its size."""

        radius: float = 1.0
        colours: tuple[float, ...] = (0.5, 0.25)
        fail: Literal["no", "value", "dfw", "exit"] = "no"

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        built.append("box")
        if config.fail == "value":
            raise ValueError("no such file")
        if config.fail == "dfw":
            raise GuidanceError("the model is gated; accept its licence")
        if config.fail == "exit":
            raise SystemExit(0)

    @classmethod
    def provides(cls, config: Config) -> frozenset[str]:
        return frozenset({"density-field"})


class Tracer(Renderer):
    """A renderer that has normals when asked."""

    class Shading(BaseModel):
        """Nested options."""

        normals: Literal["none", "analytic"] = "none"
        amount: Schedule = 1.0

    class Config(ComponentConfig):
        """How it renders."""

        shading: Tracer.Shading

    feature_hints: ClassVar[dict[str, str]] = {"normals": "shading.normals is 'analytic'"}

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        built.append("tracer")

    @classmethod
    def requires(cls, config: Config) -> frozenset[str]:
        return frozenset({"density-field"})

    @classmethod
    def provides(cls, config: Any) -> frozenset[str]:
        return frozenset({"colour", "normals"} if config.shading.normals == "analytic" else {"colour"})

    def forward(self, geometry, cameras, generator=None):
        raise NotImplementedError


Tracer.Config.model_rebuild()


class Around(Renderer):
    """A renderer around another one, which looks at something else."""

    class Config(ComponentConfig):
        """The other one."""

        inner: Part[Renderer]

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    @classmethod
    def requires(cls, config: Config) -> frozenset[str]:
        return frozenset({"moving"})

    @classmethod
    def provides(cls, config: Config) -> frozenset[str]:
        return config.inner.cls.provides(config.inner.config) - {"normals"}

    def forward(self, geometry, cameras, generator=None):
        raise NotImplementedError


class Bend(Loss):
    """A loss on normals, or on another feature."""

    class Config(ComponentConfig):
        """What it needs, and a schedule."""

        needs: str = "normals"
        sharpness: Schedule = 1.0
        ramps: dict[str, Schedule] = {}  # noqa: RUF012

        @field_validator("needs")
        @classmethod
        def _known(cls, value: str) -> str:
            if value == "crash":
                raise RuntimeError("a validator with a bug")
            return value

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        built.append("bend")

    @classmethod
    def requires(cls, config: Config) -> frozenset[str]:
        if config.needs == "error":
            raise KeyError("oops")
        return frozenset({config.needs})

    def forward(self, inputs):
        raise NotImplementedError


class Shine(Loss):
    """A loss that asks a guidance, and holds components."""

    class Config(ComponentConfig):
        """What stands inside."""

        noise: Part[Noise] = Part[Noise](type="dreamfw/gaussian")
        more: dict[str, Part[Noise]] = {}  # noqa: RUF012

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        built.append("shine")
        self.noise = config.noise.build()

    @classmethod
    def requires(cls, config: Config) -> frozenset[str]:
        return frozenset({"noise-prediction"})

    def forward(self, inputs):
        raise NotImplementedError


class Seer(Guidance):
    """A model that sees some views at once, and may read text."""

    class Config(ComponentConfig):
        """What it sees."""

        views: int = 1
        reads: bool = False

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        built.append("seer")

    @classmethod
    def provides(cls, config: Config) -> frozenset[str]:
        return frozenset({"noise-prediction", "text"} if config.reads else {"noise-prediction"})

    @classmethod
    def sees(cls, config: Config) -> int:
        return config.views

    def encode_text(self, texts):
        raise NotImplementedError

    def encode_image(self, image):
        raise NotImplementedError

    def decode_image(self, encoded):
        raise NotImplementedError

    def predict(self, noisy, timestep, conditioning):
        raise NotImplementedError


def entry(kind: str, name: str, component: type) -> Entry:
    return Entry(kind, name, "acme", "0.3", f"{component.__module__}:{component.__name__}", component)


BUILT_IN = [one for one in Registry.discover().entries() if one.kind not in ("geometry", "renderer", "loss", "guidance")]
"""What a configuration means that does not name its cameras, prompter and file formats."""
OWN = [
    entry("geometry", "box", Box),
    entry("renderer", "tracer", Tracer),
    entry("renderer", "around", Around),
    entry("guidance", "seer", Seer),
    entry("loss", "bend", Bend),
    entry("loss", "shine", Shine),
]
TOY = Registry([*OWN, *BUILT_IN])
