"""Which views are trained and how the prompt names them, as checked models. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from dfw.config.schedules import Ramp, Schedule

Range = tuple[float, float]


class Settings(BaseModel):
    """Base: frozen, unknown keys refused, the docstring under a field is its help."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True)


def at_least(value: Schedule, least: float, what: str) -> Schedule:
    """A schedule whose values, at both ends of a ramp, are `least` or more."""
    lowest = min(value.from_, value.to) if isinstance(value, Ramp) else value
    if lowest < least:
        raise ValueError(f"{lowest:g} is too small; {what}")
    return value


def ordered(value: Range) -> Range:
    """[low, high] as it is. Raises ValueError when it runs backwards."""
    if value[1] < value[0]:
        raise ValueError(f"[{value[0]:g}, {value[1]:g}] runs backwards; write [low, high]")
    return value


LOW_ANGLE, MEDIUM_ANGLE = 12.0, 36.0
"""Highest elevations, in degrees, of a low and of a medium angle."""


class ViewSettings(Settings):
    """View-dependent prompt text. DreamFusion (Poole et al. 2023), section 3.2."""

    mode: Literal["none", "discrete", "interpolated"] = "discrete"
    """`discrete`: the nearest view's words; `interpolated`: the nearest two views mixed; `none`: the prompt alone."""
    sectors: Literal[4, 8] = 4
    """4: front, side, back as in the paper. 8: left and right told apart, as the embedded prior has learned."""
    angles: Literal[1, 4] = 1
    """4: the elevation is named beside the sector, low angle up to 12 degrees, medium to 36, high, overhead, as the embedded
    prior has learned."""
    overhead: float = Field(default=60.0, ge=0, le=90)
    """Elevation in degrees above which a view is called overhead; with 4 angles more than 36."""
    front: Annotated[float, Field(gt=0, lt=180)] = 90.0
    """Width in degrees of the front sector, and of the back one, with 4 sectors."""
    template: str = "{prompt}, {view} view"
    """How prompt and view words join; has both {prompt} and {view}."""
    perp_neg: NonNegativeFloat = 0.0
    """Perp-Neg (Armandpour et al. 2023): factor of its weights, 1 as in the paper; pushes each view away from the words of other
    views, and of its own sector's edge. 0: off. The paper mixes the views' words: mode interpolated."""

    @field_validator("template")
    @classmethod
    def _fields(cls, value: str) -> str:
        if "{prompt}" not in value or "{view}" not in value:
            raise ValueError(f"{value!r} must hold {{prompt}} and {{view}}, e.g. '{{prompt}}, {{view}} view'")
        return value

    @model_validator(mode="after")
    def _views(self) -> ViewSettings:
        if self.perp_neg and self.mode == "none":
            raise ValueError("perp_neg compares views and mode none has no words for them; write mode: interpolated")
        if self.angles == 4 and self.overhead <= MEDIUM_ANGLE:
            limit = f"{MEDIUM_ANGLE:g}, where the high angle begins"
            raise ValueError(f"overhead: {self.overhead:g} is not above {limit}; write e.g. 60, or angles: 1")
        return self


class CameraSettings(Settings):
    """Where training cameras stand. Defaults suit the embedded prior; the paper's are in configs/dreamfusion-sd.yaml."""

    width: Schedule = 64
    """Pixels of a rendered view, square; a ramp is rounded to multiples of 8."""
    batch_size: PositiveInt = 4
    """Views per step."""
    distance: Range = (2.95, 3.05)
    """From the centre, world units, uniform."""
    fov: Range = (39.0, 41.0)
    """Vertical field of view, degrees, uniform."""
    azimuth: Range = (-180.0, 180.0)
    """Degrees, uniform; 0 is the front."""
    elevation: Range = (-10.0, 60.0)
    """Degrees above the horizon."""
    elevation_mix: float = Field(default=0.5, ge=0, le=1)
    """Share of draws uniform in angle; the rest uniform in area on the sphere. Paper: 0.5."""
    stratified_azimuth: bool = True
    """One view in each of `batch_size` equal parts of the azimuth range, instead of independent draws."""
    position_jitter: NonNegativeFloat = 0.0
    """Half-width of a uniform offset of the camera, world units. Paper: 0.1."""
    look_at_jitter: NonNegativeFloat = 0.0
    """Standard deviation of the point looked at, world units. Paper: 0.2."""
    up_jitter: NonNegativeFloat = 0.0
    """Standard deviation of the up vector. Paper: 0.02."""
    horizontal_warmup: float = Field(default=0.0, ge=0, le=1)
    """Fraction of the run over which elevation opens from the horizon to its full range."""

    @field_validator("distance", "fov", "azimuth", "elevation")
    @classmethod
    def _range(cls, value: Range) -> Range:
        return ordered(value)

    @field_validator("width")
    @classmethod
    def _width(cls, value: Schedule) -> Schedule:
        return at_least(value, 1, "write 1 pixel or more, e.g. 64")

    @field_validator("distance")
    @classmethod
    def _distance(cls, value: Range) -> Range:
        if value[0] <= 0:
            raise ValueError(f"[{value[0]:g}, {value[1]:g}] must lie above 0; the scene's centre is at 0")
        return value

    @field_validator("fov")
    @classmethod
    def _fov(cls, value: Range) -> Range:
        if value[0] <= 0 or value[1] >= 180:
            raise ValueError(f"[{value[0]:g}, {value[1]:g}] must lie inside (0, 180) degrees")
        return value

    @field_validator("elevation")
    @classmethod
    def _elevation(cls, value: Range) -> Range:
        if value[0] < -90 or value[1] > 90:
            raise ValueError(f"[{value[0]:g}, {value[1]:g}] must lie inside [-90, 90] degrees")
        return value
