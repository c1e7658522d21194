"""What a run leaves behind: assets of a geometry that is no density field, numbers it logs, and reports of stages that link."""

import json
import re
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import dfw
from dfw import ComponentConfig, Geometry, Renderer, RenderOutput
from dfw.config.settings import RunConfig
from dfw.errors import DivergedError, ExportError
from dfw.export.pictures import GAP
from dfw.plugins.registry import Registry, registry
from dfw.runs.directory import RunDirectory
from dfw.runs.outputs import stage_links, turntable
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

    def end_step(self, progress, generator):
        self.log("value", self.value.mean())
        self.log("rows", 10 + progress.step)
        return ()

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


def test_what_it_logs_is_in_the_metrics_and_on_the_report(make_config):
    result = run(make_config(), listeners=[])
    rows = [json.loads(line) for line in (result.directory / "metrics.jsonl").read_text().splitlines()]
    assert [row["geometry.rows"] for row in rows] == list(range(10, 50))
    assert all(row["geometry.value"] == pytest.approx(0.5, abs=1e-3) for row in rows)
    report = result.artifacts["report"].read_text()
    assert "geometry.rows: first 10, last 49, smallest 10, largest 49" in report
    assert "geometry.value: first 0.5" in report


def test_a_scenes_preview_and_turntable_are_its_renders(make_config, tmp_path):
    """Every pixel is as grey as the dot says: 0.25 of 255."""
    result = run(make_config(start=0.25), listeners=[])
    preview = Image.open(result.directory / "images" / "step-000040.png").convert("RGB")
    assert preview.size == (4 * 8 + 3 * GAP, 8)
    assert np.asarray(preview)[:, :8].tolist() == [[[64] * 3] * 8] * 8
    opened = dfw.open(result.directory)
    opened.scene.geometry.value.data.fill_(0.75)
    path = turntable(opened.scene, tmp_path / "frames", frames=3, width=8)
    assert [np.asarray(Image.open(frame)).flatten().tolist() for frame in sorted(path.iterdir())] == [[191] * 192] * 3


def staged(make_config, **changes):
    """Three stages, of which the last two start from the first."""
    base = make_config().model_dump(mode="json", by_alias=True)
    first = base | {"name": "dots", "trainer": base["trainer"] | {"steps": 3}}
    after = first | {"start": {"stage": "coarse-1"}} | changes
    return {"name": "dots", "stages": {"coarse-1": first, "finer": after, "last": after}}


def links(report):
    nav = report.read_text().partition("<nav")[2].partition("</nav>")[0]
    return re.findall(r'<a href="([^"]+)">([^<]+)</a>', nav)


def test_the_report_of_a_stage_links_those_before_it(make_config):
    last = dfw.run(staged(make_config), listeners=[])
    root = last.directory.parent
    reports = [root / name / "report.html" for name in ("1-coarse-1", "2-finer", "3-last")]
    assert [len(links(report)) for report in reports] == [0, 1, 2]
    assert links(reports[2]) == [
        ("../1-coarse-1/report.html", "Stage 1-coarse-1"),
        ("../2-finer/report.html", "Stage 2-finer"),
    ]
    for target, _ in links(reports[2]):
        assert (reports[2].parent / unquote(target)).is_file()
    assert links(run(make_config(), listeners=[]).artifacts["report"]) == []


def test_of_a_stage_begun_twice_the_last_report_is_linked(tmp_path):
    (tmp_path / "stages.yaml").write_text("stages: {coarse: {}, finer: {}, last: {}}")
    for name in ("1-coarse", "1-coarse-2", "1-coarse-10", "2-finer", "3-last"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "resolved.yaml").write_text("")
    for name in ("1-coarse", "1-coarse-10", "1-coarse-2", "3-last"):  # the second stage wrote no report
        (tmp_path / name / "report.html").write_text("")
    assert stage_links(RunDirectory(tmp_path / "3-last")) == {"Stage 1-coarse-10": "../1-coarse-10/report.html"}
