"""dfw: text-to-3D you can take apart.

Everything a plugin author needs is here: `from dfw import Guidance, Loss, ...`. Names load on first use (PEP 562), so that
`import dfw` costs nothing and imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from dfw.component import ComponentConfig as ComponentConfig
    from dfw.contracts import CameraBatch as CameraBatch
    from dfw.contracts import Conditioning as Conditioning
    from dfw.contracts import FieldSample as FieldSample
    from dfw.contracts import NoiseSchedule as NoiseSchedule
    from dfw.contracts import PromptBatch as PromptBatch
    from dfw.contracts import Rays as Rays
    from dfw.contracts import RaySamples as RaySamples
    from dfw.contracts import RenderOutput as RenderOutput
    from dfw.errors import ConfigError as ConfigError
    from dfw.errors import DfwError as DfwError
    from dfw.errors import DivergedError as DivergedError
    from dfw.errors import GuidanceError as GuidanceError
    from dfw.errors import PromptError as PromptError
    from dfw.events import RunEnded as RunEnded
    from dfw.events import RunStarted as RunStarted
    from dfw.events import StepEnded as StepEnded
    from dfw.hookspecs import hookimpl as hookimpl
    from dfw.interfaces import Adapter as Adapter
    from dfw.interfaces import DensityField as DensityField
    from dfw.interfaces import Geometry as Geometry
    from dfw.interfaces import Guidance as Guidance
    from dfw.interfaces import Loss as Loss
    from dfw.interfaces import LossInputs as LossInputs
    from dfw.interfaces import Renderer as Renderer
    from dfw.registry import register as register
    from dfw.schedules import Progress as Progress
    from dfw.schedules import Ramp as Ramp
    from dfw.schedules import Schedule as Schedule
    from dfw.schedules import value_at as value_at

_HOME = {
    "Adapter": "interfaces",
    "ComponentConfig": "component",
    "ConfigError": "errors",
    "DfwError": "errors",
    "DivergedError": "errors",
    "GuidanceError": "errors",
    "PromptError": "errors",
    "RunEnded": "events",
    "RunStarted": "events",
    "StepEnded": "events",
    "hookimpl": "hookspecs",
    "CameraBatch": "contracts",
    "Conditioning": "contracts",
    "DensityField": "interfaces",
    "FieldSample": "contracts",
    "Geometry": "interfaces",
    "Guidance": "interfaces",
    "Loss": "interfaces",
    "LossInputs": "interfaces",
    "NoiseSchedule": "contracts",
    "PromptBatch": "contracts",
    "Rays": "contracts",
    "RaySamples": "contracts",
    "Renderer": "interfaces",
    "RenderOutput": "contracts",
    "register": "registry",
    "Progress": "schedules",
    "Ramp": "schedules",
    "Schedule": "schedules",
    "value_at": "schedules",
}

__all__ = ["__version__", *_HOME]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'dfw' has no attribute {name!r}")
    value = getattr(import_module(f"dfw.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
