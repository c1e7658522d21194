"""A geometry that is no density field: it is looked at, watched and exported through its own files."""

import pytest
import torch
from torch import nn

import dfw
from dfw import ComponentConfig, Geometry, Renderer, RenderOutput
from dfw.config.settings import RunConfig
from dfw.errors import DivergedError, ExportError
from dfw.plugins.registry import Registry, registry
from dfw.runs.runner import export, run


class Dot(Geometry):
    """One number in [0, 1]: how opaque every pixel is. Exports it as text."""

    class Config(ComponentConfig):
        """Where it starts, and what its export does."""

        start: float = 0.5
        """The number."""
        mode: str = "good"
        """good, raises, or lies."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.value = nn.Parameter(torch.full((1,), config.start))

    def export_assets(self, folder):
        assert not self.training
        assert not torch.is_grad_enabled()
        if self.config.mode == "raises":
            raise RuntimeError("no ink")
        path = folder / "dot.txt"
        if self.config.mode == "good":
            path.write_text(f"{self.value.item():.3f}")
        return {"dot": path}


class Uniform(Renderer):
    """Every pixel as opaque as the dot says."""

    @classmethod
    def provides(cls, config):
        return frozenset({"colour", "opacity", "depth"})

    def __init__(self, config):
        super().__init__()
        self.config = config

    def forward(self, geometry, cameras, generator=None):
        opacity = geometry.value.expand(len(cameras), cameras.height, cameras.width)
        return RenderOutput(opacity[..., None].expand(*opacity.shape, 3), opacity, torch.zeros_like(opacity))


@pytest.fixture
def make_config(tmp_path, monkeypatch):
    monkeypatch.setattr("dfw.plugins.registry._default", [Registry(registry().entries())])
    dfw.register("geometry", "dot", Dot)
    dfw.register("renderer", "uniform", Uniform)

    def make(**geometry):
        return RunConfig.model_validate(
            {
                "prompt": "a dot",
                "output": str(tmp_path),
                "device": "cpu",
                "geometry": {"type": "dot", **geometry},
                "renderer": {"type": "uniform"},
                "losses": {"opacity": {}},
                "cameras": {"width": 8, "batch_size": 1},
                "optimizer": {"lr": 1e-6},
                "trainer": {"steps": 40, "preview_width": 8, "preview_every": 40},
                "export": {"turntable_frames": 2, "turntable_width": 8},
            }
        )

    return make


def test_its_files_are_artifacts_of_the_run_and_of_every_export(make_config):
    result = run(make_config(), listeners=[])
    assert set(result.artifacts) == {"turntable", "dot", "report"}
    assert result.artifacts["dot"] == result.directory / "export" / "dot.txt"
    assert result.artifacts["dot"].read_text() == "0.500"
    assert 'href="export/dot.txt"' in result.artifacts["report"].read_text()
    again = export(result.directory)
    beside = export(result.directory, out=result.directory / "export")
    assert again["dot"] == result.directory / "export-2" / "dot.txt"
    assert beside["dot"] == result.directory / "export" / "dot-2.txt"
    assert sorted(p.name for p in (result.directory / "export").iterdir()) == ["dot-2.txt", "dot.txt", "turntable.webp"]


@pytest.mark.parametrize(
    ("mode", "words"),
    [("raises", "could not export its assets: RuntimeError: no ink"), ("lies", "there is no such file in")],
)
def test_an_export_that_fails_names_the_geometry_and_leaves_a_report(make_config, tmp_path, mode, words):
    with pytest.raises(ExportError, match=words):
        run(make_config(mode=mode), listeners=[])
    directory = next((tmp_path / "run").iterdir())
    report = (directory / "report.html").read_text()
    assert words.split(":")[0] in report
    assert "geometry (local/dot, local " in report
    assert [p.name for p in (directory / "export").iterdir()] == ["turntable.webp"]


@pytest.mark.parametrize(("start", "words"), [(0.0, "scene is empty"), (1.0, "fills every pixel")])
def test_it_is_watched(make_config, start, words):
    with pytest.raises(DivergedError, match=words):
        run(make_config(start=start), listeners=[])
