"""The painted box with a roughness, a metallic value and a bump of its own on each side, and Khronos's validator."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from painted_box import CELL, CENTRE, HALF, SIDES, SIZE, painted_box

from dfw import ComponentConfig, Material, Surface, SurfacePoints, TextureCoordinates, Triangles

ROUGH = {side: 40 * index + 20 for index, side in enumerate(SIDES)}
METAL = {side: 255 - 40 * index for index, side in enumerate(SIDES)}
BUMPS = {side: 0.3 * np.roll(np.array(side), 1) for side in SIDES}
"""In world space: each side's normal leans to the next axis."""


class ShinyBox(Surface):
    """A surface with the box's own texture coordinates, whose material is one for each side."""

    def __init__(self) -> None:
        super().__init__()
        self.config = ComponentConfig()
        self.box = painted_box()
        self.register_buffer("sides", torch.tensor(HALF))

    @classmethod
    def provides(cls, config: ComponentConfig) -> frozenset[str]:
        return frozenset({"surface"})

    def surface(self) -> Triangles:
        return Triangles(torch.tensor(self.box.mesh.vertices), torch.tensor(self.box.mesh.faces))

    def texture_coordinates(self) -> TextureCoordinates:
        return TextureCoordinates(torch.tensor(self.box.uv), torch.tensor(self.box.faces), SIZE)

    def material(self, at: SurfacePoints) -> Material:
        sides = torch.tensor(list(SIDES), dtype=torch.float64)
        away = (at.position - torch.tensor(CENTRE)) / self.sides
        side = (away @ sides.T).argmax(-1) if at.face is None else at.face // 2

        def of(table: dict[Any, Any]) -> torch.Tensor:
            return torch.tensor(np.array(list(table.values()), np.float64))[side]

        return Material(of(SIDES) / 255, of(ROUGH) / 255, of(METAL) / 255, of(BUMPS))


def cell(side: tuple[int, int, int]) -> tuple[slice, slice]:
    """Rows and columns of a side's cell of the texture, without the border that no triangle covers."""
    index = list(SIDES).index(side)
    left, bottom = CELL * (index % 4), CELL * (index // 4)
    return slice(SIZE - bottom - CELL + 1, SIZE - bottom - 1), slice(left + 1, left + CELL - 1)


def validated(path: Path, folder: Path) -> dict[str, Any]:
    """What Khronos's glTF validator says of a file. Skips where node or the package gltf-validator is not installed."""
    if shutil.which("node") is None:
        pytest.skip("Khronos's validator needs node")
    script = folder / "validate.cjs"
    script.write_text(
        "const fs = require('fs'), validator = require('gltf-validator');\n"
        "validator.validateBytes(new Uint8Array(fs.readFileSync(process.argv[2]))).then(\n"
        "  report => console.log(JSON.stringify(report)), error => { console.error(error); process.exit(1); });\n"
    )
    found = subprocess.run(["node", str(script), str(path)], capture_output=True, text=True, check=False)
    if "Cannot find module 'gltf-validator'" in found.stderr:
        pytest.skip("Khronos's validator is not installed: npm install -g gltf-validator, and set NODE_PATH to `npm root -g`")
    assert found.returncode == 0, found.stderr
    report: dict[str, Any] = json.loads(found.stdout)
    return report
