"""dfw: text-to-3D you can take apart.

Everything that plugin authors and users of Python need is here: `from dfw import Guidance, Loss, ...`, `dfw.run(...)`. The names
and where they live stand in `__init__.pyi`. They load on first use (PEP 562), so that `import dfw` costs nothing and imports no
torch.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, _names = lazy_loader.attach_stub(__name__, __file__)
__all__ = ["__version__", *_names]  # noqa: PLE0604
