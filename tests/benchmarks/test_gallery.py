"""Contact sheets of methods: a row for each, with the GLB of a run's last stage from two sides."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from gallery import LABEL, SIDE, TEXT, methods_sheet


def export(stage: Path, colour: tuple[int, int, int], when: int) -> None:
    shape = trimesh.creation.icosphere(3, 0.5)
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=Image.new("RGB", (4, 4), colour))
    shape.visual = trimesh.visual.TextureVisuals(uv=np.full((len(shape.vertices), 2), 0.5), material=material)
    (stage / "export").mkdir(parents=True)
    (stage / "resolved.yaml").write_text("prompt: a ball\n", encoding="utf-8")
    shape.export(stage / "export" / "object.glb", include_normals=True)
    os.utime(stage / "export" / "object.glb", (when, when))


def test_a_row_shows_the_last_stage_from_two_sides_and_leaves_places_empty(tmp_path: Path) -> None:
    export(tmp_path / "run" / "1-coarse", (0, 0, 255), 100)
    export(tmp_path / "run" / "2-refine", (255, 0, 0), 200)
    picture = np.asarray(methods_sheet([["one", "-"], ["two", str(tmp_path / "run")]]).convert("RGB"), int)
    assert picture.shape == (TEXT + 2 * SIDE, LABEL + 2 * SIDE, 3)
    balls = picture[TEXT + SIDE :, LABEL:]
    for middle in (SIDE // 2, SIDE + SIDE // 2):
        red, green, blue = balls[SIDE // 2, middle]
        assert red > 200
        assert max(green, blue) < 50
    assert (picture[TEXT : TEXT + SIDE, LABEL:] == 255).all()
    with pytest.raises(SystemExit, match="give the directory of a finished run"):
        methods_sheet([["one", str(tmp_path / "run" / "1-coarse" / "export")]])
