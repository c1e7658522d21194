"""The kit for exporters: whole files that say the mesh and nothing else."""

from __future__ import annotations

import time
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from dfw.errors import ConfigError, ExportError
from dfw.export.load import load_mesh
from dfw.interfaces.exporter import Exporter
from dfw.interfaces.mesh import Mesh, TexturedMesh
from dfw.testing import meshes
from dfw.testing.base import ComponentTests
from dfw.testing.outcomes import Skip, require
from dfw.testing.untouched import left_alone

TITLES = (
    "",
    'a "quoted" {0} mushroom',
    "line one\nline two\r\n# three",
    "</script>&amp;<!--",
    "Würfel 立方体",
    "../../up",
    "a" * 300,
)
"""Names of objects that nothing inside a file may stumble over."""
_DAY = 86_400.0
_MANY = 22_016
"""Triangles whose 66,048 corners do not fit into indices of 16 bits."""


class ExporterTests(ComponentTests[Exporter]):
    """Checks of an `Exporter`. Write `make`. Files that trimesh can read are read back."""

    interface: ClassVar[type[Any]] = Exporter

    def exercise(self, made: Exporter) -> None:
        """Writes one file after the other."""
        for title in TITLES[:3]:
            made.files(meshes.ball(), "thing", title)

    def observe(self, made: Exporter, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """The bytes of every file of a small mesh."""
        found = made.files(meshes.ball(), "thing", "a red mushroom")
        return {suffix: torch.tensor(list(data), dtype=torch.uint8) for suffix, data in found.items()}

    # -- checks --------------------------------------------------------------------------------------------------------

    def test_suffixes(self) -> None:
        """`suffixes` is a tuple of different endings, each with its dot."""
        suffixes: object = getattr(type(self.fresh()), "suffixes", None)
        words = isinstance(suffixes, tuple) and len(suffixes) > 0 and all(isinstance(one, str) for one in suffixes)
        right = words and isinstance(suffixes, tuple) and all(one.startswith(".") and len(one) > 1 for one in suffixes)
        promise, remedy = "suffixes is a tuple of endings with their dots", 'Write e.g. suffixes = (".obj", ".mtl")'
        require(right and len(set(suffixes)) == len(suffixes), promise, f"it is {suffixes!r}", remedy)  # type: ignore[call-overload,arg-type]

    def test_files(self) -> None:
        """There are bytes for the first of `suffixes`, for others as the mesh needs them, and for nothing else."""
        made = self.fresh()
        for mesh in (meshes.ball(), meshes.shiny_ball()):
            found: object = made.files(mesh, "thing", "a red mushroom")
            promise = "files gives bytes for the first of suffixes, and only for those"
            require(isinstance(found, dict), promise, f"it gave a {type(found).__name__}", "Return {ending: bytes}")
            assert isinstance(found, dict)
            seen = f"suffixes are {', '.join(made.suffixes)}, and it gave {', '.join(map(str, found)) or 'nothing'}"
            require({made.suffixes[0]} <= set(found) <= set(made.suffixes), promise, seen, "Return {ending: bytes}")
            for suffix, data in found.items():
                seen = f"{suffix} is a {type(data).__name__} of length {len(data)}"
                require(isinstance(data, bytes) and len(data) > 0, promise, seen, "Return {ending: bytes}")

    def test_files_name_each_other(self) -> None:
        """Of several files each except the main one is named by another, with the stem that the core gives, and no other is."""
        made, stem = self.fresh(), "object-7"
        if len(made.suffixes) == 1:
            raise Skip("it writes one file")
        for mesh in (meshes.ball(), meshes.shiny_ball()):
            found = made.files(mesh, stem, "a red mushroom")
            promise, remedy = "files that belong together name each other by their stem", "Write f'{stem}.mtl' and the like"
            for suffix in made.suffixes[1:]:
                named = any(f"{stem}{suffix}".encode() in data for other, data in found.items() if other != suffix)
                wrong = f"no file names {stem}{suffix}" if suffix in found else f"a file names {stem}{suffix}, which is not there"
                require(named == (suffix in found), promise, wrong, remedy)

    def test_same_bytes_tomorrow(self) -> None:
        """The same mesh gives the same bytes on another day, so that files can be compared."""
        made = self.fresh()
        today = made.files(meshes.ball(), "thing", "a red mushroom")
        now = time.time
        with patch("time.time", lambda: now() + _DAY):
            tomorrow = made.files(meshes.ball(), "thing", "a red mushroom")
        changed = [suffix for suffix, data in today.items() if tomorrow.get(suffix) != data]
        remedy = "Write no date, and give archives a fixed one"
        require(not changed, "the same mesh gives the same bytes", f"{', '.join(changed)} differs a day later", remedy)

    def test_reads_back(self) -> None:
        """Another program reads the same triangles: as many, as large, and as they are turned."""
        made = self.fresh()
        for mesh in (meshes.ball(), meshes.shiny_ball()):
            self._require_read_back(made, mesh, "a red mushroom", "a file holds the mesh's triangles")

    def test_few_triangles(self) -> None:
        """A mesh of one triangle is written as any other."""
        made = self.fresh()
        self._require_read_back(made, meshes.triangles(1), "one", "a mesh of one triangle can be written")

    def test_many_vertices(self) -> None:
        """A mesh of 66,048 vertices keeps its triangles: indices do not run over."""
        made = self.fresh()
        promise = "indices hold 66,048 vertices"
        self._require_read_back(made, meshes.triangles(_MANY), "many", promise)

    def test_title(self) -> None:
        """The object's name breaks no file, whatever characters it has."""
        made = self.fresh()
        for title in TITLES:
            self._require_read_back(made, meshes.ball(), title, f"the title {title[:40]!r} breaks no file", needed=False)

    def test_leaves_its_inputs_alone(self) -> None:
        """No array of the mesh is changed."""
        made, mesh = self.fresh(), meshes.ball()
        with left_alone("an exporter only looks", {"mesh": mesh}):
            made.files(mesh, "thing", "a red mushroom")

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _require_read_back(self, made: Exporter, mesh: TexturedMesh, title: str, promise: str, needed: bool = True) -> None:
        """Requires that the files are read as `mesh`, up to a rotation; of a format that nobody reads, that there are files."""
        expected = _measures(mesh.mesh)
        try:
            found = made.files(mesh, "thing", title)
        except ExportError as error:
            raise Skip(f"the format cannot hold this mesh: {error}") from error
        except Exception as error:
            require(False, promise, f"files raised {type(error).__name__}: {error}", "Write it, or raise ExportError")
        main = made.suffixes[0]
        if main.lstrip(".") not in import_module("trimesh").available_formats():
            if needed:
                raise Skip(f"trimesh reads no {main} files, so that the triangles are not looked at")
            return
        with TemporaryDirectory() as folder:
            for suffix, data in found.items():
                (Path(folder) / f"thing{suffix}").write_bytes(data)
            try:
                back = load_mesh(Path(folder) / f"thing{main}").mesh
            except ConfigError as error:
                require(False, promise, str(error).removeprefix(folder).rstrip("."), "Look at the file with another program")
        seen = _measures(back)
        for name, value in expected.items():
            off = abs(seen[name] - value) > 1e-3 * max(1.0, abs(value))
            require(not off, promise, f"{name} {value:.6g} is read as {seen[name]:.6g}", "Look at indices, winding and scale")


def _measures(mesh: Mesh) -> dict[str, float]:
    """What no rotation changes."""
    a, b, c = np.moveaxis(mesh.corners.astype(np.float64), 1, 0)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    middle = float((np.linalg.norm((a + b + c) / 3, axis=1) * area).sum() / max(area.sum(), 1e-12))
    return {
        "the number of triangles": float(len(mesh.faces)),
        "the area": float(area.sum()),
        "the signed volume": mesh.volume,
        "the mean distance from the origin": middle,
    }
