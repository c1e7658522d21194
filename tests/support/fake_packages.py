"""Makes real installed-looking packages in a temporary folder: modules and a dist-info directory, found by importlib.metadata."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

LOSS = """
from dfw import ComponentConfig, Loss


class {name}(Loss):
    class Config(ComponentConfig):
        strength: float = 1.0

    def __init__(self, config):
        super().__init__()
        self.config = config

    def forward(self, inputs):
        return inputs.render.colour.mean() * self.config.strength
"""


def write_package(
    folder: Path,
    distribution: str,
    version: str,
    entry_points: str,
    modules: Mapping[str, str] | None = None,
    metadata: str | None = None,
) -> None:
    """Writes `modules` (name -> source) and the metadata of one distribution into `folder`."""
    info = folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    text = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n" if metadata is None else metadata
    (info / "METADATA").write_text(text, encoding="utf-8")
    (info / "entry_points.txt").write_text(dedent(entry_points), encoding="utf-8")
    for name, source in (modules or {}).items():
        (folder / f"{name}.py").write_text(dedent(source), encoding="utf-8")


@contextmanager
def on_path(*folders: Path) -> Iterator[None]:
    """Puts folders in front of the import path; their modules are forgotten afterwards."""
    before, modules = list(sys.path), set(sys.modules)
    sys.path[:0] = [str(folder) for folder in folders]
    try:
        yield
    finally:
        sys.path[:] = before
        places = tuple(str(folder) for folder in folders)
        for name in set(sys.modules) - modules:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(places):
                del sys.modules[name]
