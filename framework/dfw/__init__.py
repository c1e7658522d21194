"""dfw: text-to-3D you can take apart.

Everything a plugin author needs is here: `from dfw import Guidance, Loss, ...`. Names load on first use (PEP 562), so that
`import dfw` costs nothing and imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from dfw.config.schedules import Progress as Progress
    from dfw.config.schedules import Ramp as Ramp
    from dfw.config.schedules import Schedule as Schedule
    from dfw.config.schedules import value_at as value_at
    from dfw.errors import ConfigError as ConfigError
    from dfw.errors import DfwError as DfwError
    from dfw.errors import DivergedError as DivergedError
    from dfw.errors import GuidanceError as GuidanceError
    from dfw.errors import PromptError as PromptError
    from dfw.interfaces.component import ComponentConfig as ComponentConfig
    from dfw.interfaces.data import CameraBatch as CameraBatch
    from dfw.interfaces.data import Conditioning as Conditioning
    from dfw.interfaces.data import FieldSample as FieldSample
    from dfw.interfaces.data import NoiseSchedule as NoiseSchedule
    from dfw.interfaces.data import PromptBatch as PromptBatch
    from dfw.interfaces.data import Rays as Rays
    from dfw.interfaces.data import RaySamples as RaySamples
    from dfw.interfaces.data import RenderOutput as RenderOutput
    from dfw.interfaces.events import RunEnded as RunEnded
    from dfw.interfaces.events import RunStarted as RunStarted
    from dfw.interfaces.events import StepEnded as StepEnded
    from dfw.interfaces.hooks import hookimpl as hookimpl
    from dfw.interfaces.kinds import Adapter as Adapter
    from dfw.interfaces.kinds import DensityField as DensityField
    from dfw.interfaces.kinds import Geometry as Geometry
    from dfw.interfaces.kinds import Guidance as Guidance
    from dfw.interfaces.kinds import Loss as Loss
    from dfw.interfaces.kinds import LossInputs as LossInputs
    from dfw.interfaces.kinds import Renderer as Renderer
    from dfw.interfaces.warp_kernels import load_warp as load_warp
    from dfw.plugins.registry import register as register

_HOME = {
    "Adapter": "interfaces.kinds",
    "ComponentConfig": "interfaces.component",
    "ConfigError": "errors",
    "DfwError": "errors",
    "DivergedError": "errors",
    "GuidanceError": "errors",
    "PromptError": "errors",
    "RunEnded": "interfaces.events",
    "RunStarted": "interfaces.events",
    "StepEnded": "interfaces.events",
    "hookimpl": "interfaces.hooks",
    "CameraBatch": "interfaces.data",
    "Conditioning": "interfaces.data",
    "DensityField": "interfaces.kinds",
    "FieldSample": "interfaces.data",
    "Geometry": "interfaces.kinds",
    "Guidance": "interfaces.kinds",
    "Loss": "interfaces.kinds",
    "LossInputs": "interfaces.kinds",
    "NoiseSchedule": "interfaces.data",
    "PromptBatch": "interfaces.data",
    "Rays": "interfaces.data",
    "RaySamples": "interfaces.data",
    "Renderer": "interfaces.kinds",
    "RenderOutput": "interfaces.data",
    "load_warp": "interfaces.warp_kernels",
    "register": "plugins.registry",
    "Progress": "config.schedules",
    "Ramp": "config.schedules",
    "Schedule": "config.schedules",
    "value_at": "config.schedules",
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
