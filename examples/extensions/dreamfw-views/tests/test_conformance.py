"""dfw's own promises of a guidance, by its conformance kit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from dreamfw_views.guidance import Views
from PIL import Image

from dfw.testing import GuidanceTests


class TestViews(GuidanceTests):
    """On three small pictures."""

    expected_failures = {  # noqa: RUF012
        "test_prompt_changes_the_prediction": "the pictures are the condition; of a prompt only its absence is read"
    }

    @pytest.fixture(autouse=True)
    def _pictures(self, tmp_path: Path) -> None:
        drawn = torch.rand(3, 8, 8, 3, generator=torch.Generator().manual_seed(0))
        for index, image in enumerate((255 * drawn).byte().numpy()):
            Image.fromarray(image).save(tmp_path / f"{index}.png")
        views = [{"file": f"{index}.png", "azimuth": 120 * index, "elevation": 10} for index in range(3)]
        (tmp_path / "cameras.json").write_text(json.dumps({"views": views}))
        self.folder = tmp_path

    def make(self) -> Views:
        """A new one, of the same pictures."""
        return Views(Views.Config(folder=str(self.folder), resolution=8))
