"""The report's page: complete, escaped, self-contained; its curves and its time split against numbers known beforehand."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from PIL import Image

from dfw.config.schedules import Progress
from dfw.errors import ExportError
from dfw.export.pictures import save_turntable
from dfw.report import ReportData, write_report
from dfw.report.curves import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, curve, number
from dfw.report.data import Part, Series, duration_text, series, thinned, time_split

HOSTILE = "<script>alert(1)</script> & \"quotes\" 'and' {{ 7 * 7 }} </style>"
ROWS = [
    {
        "step": step,
        "loss": 2.0 - step,
        "losses": {"sds": 1.0, HOSTILE: step * 1.0},
        "opacity": 0.5,
        "note": "text",
        "flag": True,
        "seconds": {"render": 0.25, "guidance": 0.5, "optimizer": 0.25},
    }
    for step in range(4)
]


class Page(HTMLParser):
    """Tags, text and scripts of a page, as a browser's parser cuts them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self._inside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "script" in self._inside:
            self.scripts[-1] += data
        elif "style" not in self._inside:
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def run(tmp_path: Path) -> tuple[Path, ReportData]:
    (tmp_path / "export").mkdir()
    glb, turntable = tmp_path / "export" / "a b#.glb", tmp_path / "export" / "turntable.webp"
    glb.write_bytes(b"glTF binary")
    Image.new("RGB", (4, 4), (255, 0, 0)).save(turntable)
    previews = []
    for step in (0, 100):
        previews.append((step, tmp_path / f"step-{step:06d}.png"))
        Image.new("RGB", (4, 4), (0, step, 0)).save(previews[-1][1])
    return tmp_path, ReportData(
        prompt=HOSTILE,
        seed=7,
        status="finished",
        seconds=10.0,
        diagnosis=HOSTILE,
        artifacts={"glb": glb, "turntable": turntable, "gone": tmp_path / "gone"},
        metrics=ROWS,
        previews=previews,
        resolved_config=f"prompt: {HOSTILE}\n",
        times={"start": 4.0, "steps": 6.0},
        manifest={"device": HOSTILE, "versions": {HOSTILE: HOSTILE, "nested": {"a": [1, 2]}}, "empty": {}},
        facts={HOSTILE: HOSTILE},
    )


def test_everything_is_on_the_page(run: tuple[Path, ReportData]) -> None:
    directory, data = run
    path = write_report(directory, data)
    assert path == directory / "report.html"
    page = Page(path.read_text(encoding="utf-8"))
    viewer = page.all("model-viewer")[0]
    assert viewer["src"] == "data:model/gltf-binary;base64," + base64.b64encode(b"glTF binary").decode()
    assert viewer["alt"] == f"3D model: {HOSTILE}"
    assert [image["alt"] for image in page.all("img")][1:] == ["Preview at step 0", "Preview at step 100"]
    assert all(image["alt"] for image in page.all("img"))
    assert all(str(image["src"]).startswith("data:image/webp;base64,") for image in page.all("img"))
    assert [link["href"] for link in page.all("a")] == ["export/a%20b%23.glb", "export/turntable.webp"]
    assert len(page.all("svg")) == 2  # the loss and the loss that grows; the other loss and the opacity do not change
    for words in ("Loss sds, in every step 1", "Opacity, in every step 0.5"):
        assert words in page.text
    for words in ("finished", "seed 7", "4 steps", "10 s", "render", "optimiser", "rest of the steps", "start", "40 %"):
        assert words in page.text


def test_text_stays_text(run: tuple[Path, ReportData]) -> None:
    """Every hostile string comes back from the parser as it went in, and the only scripts are the two of ours."""
    directory, data = run
    text = write_report(directory, data).read_text(encoding="utf-8")
    page = Page(text)
    assert page.text.count(HOSTILE) >= 8
    assert len(page.scripts) == 2
    assert not any("alert(1)" in script for script in page.scripts)
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]


def test_only_our_scripts_may_run_and_nothing_may_be_fetched(run: tuple[Path, ReportData]) -> None:
    page = Page(write_report(*run).read_text(encoding="utf-8"))
    policy = next(str(meta["content"]) for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in page.scripts]
    assert re.findall(r"'sha256-([^']+)'", policy) == hashes
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]
    for tag, attrs in page.tags:
        for name in ("src", "href"):
            if name in attrs and tag != "a":
                assert str(attrs[name]).startswith("data:")


def test_other_stages_are_linked_near_the_top(tmp_path: Path) -> None:
    links = {HOSTILE: "../1-a%20b/report.html", "Stage 3-last": "../3-last/report.html"}
    data = ReportData("a duck", 0, "finished", 1.0, links=links)
    text = write_report(tmp_path, data).read_text(encoding="utf-8")
    page = Page(text)
    assert [link["href"] for link in page.all("a")] == list(links.values())
    assert page.all("nav")[0]["aria-label"] == "Other stages of this run"
    assert text.index("<nav") < text.index("<main")
    assert HOSTILE in page.text
    assert not Page(write_report(tmp_path, ReportData("a duck", 0, "finished", 1.0)).read_text(encoding="utf-8")).all("nav")


@pytest.mark.parametrize(
    ("name", "tag", "source"),
    [("turn.webp", "img", "data:image/webp;"), ("turn.gif", "img", "data:image/gif;"), ("turn.mp4", "video", "data:video/mp4;")],
)
def test_a_turntable_of_each_kind_is_shown_and_linked(tmp_path: Path, name: str, tag: str, source: str) -> None:
    path = save_turntable(torch.rand(3, 16, 16, 3), tmp_path / "export" / name)
    data = ReportData("a duck", 0, "finished", 1.0, artifacts={"turntable": path})
    page = Page(write_report(tmp_path, data).read_text(encoding="utf-8"))
    (shown,) = page.all("img") + page.all("video")
    assert page.all(tag) == [shown]
    assert base64.b64decode(str(shown["src"]).removeprefix(f"{source}base64,")) == path.read_bytes()
    assert "a duck" in str(shown.get("alt") or shown["aria-label"])
    assert tag == "img" or {"autoplay", "loop", "muted"} <= set(shown)  # browsers start only silent videos by themselves
    assert [link["href"] for link in page.all("a")] == [f"export/{name}"]
    policy = next(str(meta["content"]) for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert "media-src data:;" in policy


def test_frames_in_a_folder_are_linked_with_their_size(tmp_path: Path) -> None:
    folder = tmp_path / "export" / "turntable"
    folder.mkdir(parents=True)
    for index in range(3):
        (folder / f"frame-{index:03d}.png").write_bytes(bytes(4000))
    data = ReportData("a duck", 0, "finished", 1.0, artifacts={"turntable": folder})
    page = Page(write_report(tmp_path, data).read_text(encoding="utf-8"))
    assert [link["href"] for link in page.all("a")] == ["export/turntable"]
    assert "turntable 12 kB" in page.text
    assert not page.all("img") + page.all("video")


def test_what_components_logged_has_curves_after_the_losses(tmp_path: Path) -> None:
    rows = [
        {
            "step": step,
            "geometry.gaussians": 100 + step,
            "loss": 1.0 - step,
            "losses": {"sds": 1.0 + step},
            "losses.sds.noise.scale": 0.5 * step,
            "grad_norm": 2.0 + step,
            "lr": 0.01,
            "schedules": {"losses.sds.guidance_scale": 10.0 - step},
        }
        for step in range(3)
    ]
    assert next((one.name, one.values) for one in series(rows)) == ("geometry.gaussians", [100.0, 101.0, 102.0])
    data = ReportData("a duck", 0, "finished", 1.0, metrics=rows)
    page = Page(write_report(tmp_path, data).read_text(encoding="utf-8"))
    labels = [str(svg["aria-label"]).partition(":")[0] for svg in page.all("svg")]
    named = ["Loss", "Loss sds", "Gradient norm", "losses.sds.guidance_scale", "geometry.gaussians", "losses.sds.noise.scale"]
    assert labels == named
    assert "geometry.gaussians: first 100, last 102" in str(page.all("svg")[4]["aria-label"])
    headings = ["Losses", "The step", "Schedules", "Numbers of components"]
    assert [page.text.index(heading) for heading in headings] == sorted(page.text.index(heading) for heading in headings)
    assert page.text.count(" step ") >= len(labels)  # the title of each horizontal axis
    for words in ("weighted sum", "before its weight", "length of the gradient", "Learning rate, in every step 0.01"):
        assert words in page.text


def test_a_panel_is_one_file(run: tuple[Path, ReportData], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from dfw.report import write

    shutil.copytree(str(files("dfw.report")), tmp_path / "report")
    (tmp_path / "report" / "panels" / "25-extra.html.j2").write_text("<section><h2>Seed {{ data.seed }} again</h2></section>")
    monkeypatch.setattr(write, "files", lambda _: tmp_path / "report")
    monkeypatch.setattr(write, "_templates", write._templates.__wrapped__)  # not those that are compiled already
    page = Page(write_report(*run).read_text(encoding="utf-8"))
    assert page.text.index("How it grew") < page.text.index("Seed 7 again") < page.text.index("Where the time went")


def test_a_run_without_anything_still_has_a_report(tmp_path: Path) -> None:
    data = ReportData(prompt="a red duck", seed=0, status="interrupted", seconds=0.4)
    text = write_report(tmp_path, data).read_text(encoding="utf-8")
    page = Page(text)
    assert "ended before its first preview" in page.text
    assert not page.all("model-viewer")
    assert not page.all("svg")
    assert len(page.scripts) == 1
    assert len(text) < 30_000


def test_a_run_that_goes_on_says_where_it_is_and_renews_its_page(tmp_path: Path) -> None:
    data = ReportData("a duck", 0, "running", 3.0, metrics=ROWS, going=Progress(40, 100))
    page = Page(write_report(tmp_path, data).read_text(encoding="utf-8"))
    assert "running seed 0 step 40 of 100 3 s" in page.text
    assert [one["data-renew"] for one in page.all("html")] == ["10"]
    over = Page(write_report(tmp_path, ReportData("a duck", 0, "finished", 3.0, metrics=ROWS)).read_text(encoding="utf-8"))
    assert "finished seed 0 4 steps 3 s" in over.text
    assert "data-renew" not in over.all("html")[0]


def test_a_diverged_run_says_why_and_where_the_numbers_end(tmp_path: Path) -> None:
    rows = [{"step": step, "loss": 1.0 if step < 3 else math.nan} for step in range(5)]
    picture = tmp_path / "step.png"
    Image.new("RGB", (2, 2)).save(picture)
    data = ReportData(
        "a duck", 0, "diverged", 3.0, "loss is NaN since step 3; try optimizer.lr=0.001", metrics=rows, previews=[(0, picture)]
    )
    page = Page(write_report(tmp_path, data).read_text(encoding="utf-8"))
    assert "loss is NaN since step 3; try optimizer.lr=0.001" in page.text
    assert "not a number from step 3 on" in page.text
    assert [image["alt"] for image in page.all("img")] == ["a duck, at step 0"]


def test_a_new_report_replaces_the_old_one_whole(run: tuple[Path, ReportData]) -> None:
    directory, data = run
    first = write_report(directory, data).read_bytes()
    assert write_report(directory, data).read_bytes() == first
    assert not list(directory.glob(".report*"))


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"cannot write .*report\.html.*choose another"):
        write_report(tmp_path / "no" / "where", ReportData("a", 0, "finished", 1.0))


def test_series_flatten_and_leave_out_what_is_no_curve() -> None:
    found = series(ROWS)
    assert [one.name for one in found] == ["loss", "losses.sds", f"losses.{HOSTILE}", "opacity"]
    assert found[0].values == [2.0, 1.0, 0.0, -1.0]
    assert found[0].steps == [0, 1, 2, 3]


def test_time_split_adds_up_to_the_wall_time() -> None:
    times = {"start": 3.0, "steps": 5.0, "previews": 0.5, "mesh": 1.5}
    parts = time_split(ROWS, times)
    assert [(part.name, part.seconds, part.share) for part in parts] == [
        ("start", 3.0, 0.3),
        ("render", 1.0, 0.1),
        ("guidance", 2.0, 0.2),
        ("optimizer", 1.0, 0.1),
        ("other", 1.0, 0.1),
        ("previews", 0.5, 0.05),
        ("mesh", 1.5, 0.15),
    ]
    assert [part.name for part in time_split(ROWS, {"steps": 3.0})] == ["render", "guidance", "optimizer"]
    assert sum(part.share for part in time_split(ROWS, {"steps": 3.0})) == pytest.approx(1)
    assert time_split([], {}) == []
    assert time_split([], {"start": 3.0}) == [Part("start", 3.0, 1.0)]


def test_a_curve_lies_where_its_axes_say() -> None:
    chart = curve(Series("loss", [0, 50, 100], [0.0, 1.0, 4.0]))
    assert chart is not None
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    middle = (LEFT + right) / 2
    quarter = bottom - (bottom - TOP) / 4
    assert chart.raw == f"M{LEFT:g} {bottom:g}L{middle:g} {quarter:g}L{right:g} {TOP:g}"
    assert [tick.label for tick in chart.y_ticks] == ["0", "1", "2", "3", "4"]
    assert [tick.at for tick in chart.y_ticks] == pytest.approx([bottom - index * (bottom - TOP) / 4 for index in range(5)])
    assert chart.x_ticks[0].label == "0"
    assert chart.x_ticks[0].at == LEFT
    assert chart.x_ticks[-1].label == "100"
    assert json.loads(chart.points)[1] == [middle, quarter, 50, 1.0]
    assert chart.summary == "Loss: first 0, last 4, smallest 0, largest 4"


def test_a_gap_in_the_numbers_is_a_gap_in_the_line() -> None:
    chart = curve(Series("loss", [0, 1, 2, 3, 4], [1.0, 2.0, math.inf, 2.0, 1.0]))
    assert chart is not None
    assert chart.raw.count("M") == 2
    assert chart.gap == "not a number from step 2 on"
    assert curve(Series("loss", [0, 1], [math.nan, math.nan])) is None


@pytest.mark.parametrize("value", [0.0, 0.01, -3.0, 1e9, 1e-12])
def test_a_constant_lies_inside_its_chart(value: float) -> None:
    chart = curve(Series("lr", [0, 1, 2], [value] * 3))
    assert chart is not None
    heights = {float(word.split()[1]) for word in re.split("[ML]", chart.raw) if word}
    assert len(heights) == 1
    assert TOP < heights.pop() < HEIGHT - BOTTOM
    assert 3 <= len(chart.y_ticks) <= 8


def test_one_point_and_very_many_points() -> None:
    assert curve(Series("loss", [7], [1.0])) is not None
    long = curve(Series("loss", list(range(100_000)), [float(step % 7) for step in range(100_000)]))
    assert long is not None
    points = json.loads(long.points)
    assert len(points) < 500
    assert points[-1][2] == 99_999


def test_numbers_are_short() -> None:
    assert [number(value) for value in (0, 0.25, -1.5, 1234.5678, 2.5e7, 1e-6)] == [
        "0",
        "0.25",
        "\u22121.5",
        "1235",
        "2.5e7",
        "1e\u22126",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"), (8.31, "8.3 s"), (9.96, "10 s"), (10.4, "10 s"), (42, "42 s"), (59.4, "59 s"), (59.6, "1 min 00 s"),
        (245.3, "4 min 05 s"), (3599.4, "59 min 59 s"), (3599.6, "1 h 00 min"), (3725, "1 h 02 min"),
    ],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_thinning_keeps_the_ends(tmp_path: Path) -> None:
    items = [(step, tmp_path) for step in range(100)]
    kept = [step for step, _ in thinned(items, 5)]
    assert kept == [0, 25, 50, 74, 99]
    assert thinned(items[:3], 5) == items[:3]


def test_the_bundled_viewer_comes_with_its_licences() -> None:
    folder = files("dfw.report").joinpath("viewer")
    script = folder.joinpath("model-viewer-umd.min.js").read_text(encoding="utf-8")
    licences = folder.joinpath("LICENSES.txt").read_text(encoding="utf-8")
    # inside a page, these would end or change the script
    assert "</script" not in script
    assert "<script" not in script
    for name in (
        "@google/model-viewer 4.4.0",
        "three.js",
        "lit 3",
        "gainmap-js",
        "fflate",
        "Apache License",
        "BSD 3-Clause",
        "MIT License",
    ):
        assert name in licences


def test_the_report_needs_no_torch() -> None:
    code = "import sys, dfw.report; assert 'torch' not in sys.modules, 'torch'"
    subprocess.run([sys.executable, "-c", code], check=True)
