"""The page of a comparison: complete, escaped, and made of files."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from command_line import run_dfw
from copied_runs import HOSTILE, copied_run, entry

from dfw.comparison.entries import entries_of
from dfw.comparison.page import POINTS, write_page
from dfw.report.data import Series


class Page(HTMLParser):
    """Tags and scripts of a page, as a browser's parser cuts them."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self._in_script = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in_script = tag == "script"
        self.scripts += [""] if self._in_script else []

    def handle_endtag(self, tag: str) -> None:
        self._in_script = self._in_script and tag != "script"

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts[-1] += data
        else:
            self.words.append(data)

    def all(self, tag: str, kind: str = "") -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag and (not kind or kind in (attrs.get("class") or "").split(" "))]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def compared(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("compared"))
        from dfw.cli.main import main

        arguments = ["--out", "c.html", "--contact-sheet", "s.png", "--table", "t.csv"]
        assert main(["compare", str(study), *arguments]) == 0
        return Path("c.html").resolve()


def test_each_run_has_a_tile_and_pictures_are_files_that_are_there(compared: Path) -> None:
    page = Page(compared)
    tiles = page.all("button", "tile")
    assert len(tiles) == 11
    assert [tile["data-status"] for tile in tiles].count("finished") == 8
    assert {tile["data-tag"] for tile in tiles} == {"", "good figure-3"}
    pictures = [attrs for attrs in page.all("img") if attrs.get("src")]
    assert len(pictures) == 9
    assert all(attrs["loading"] == "lazy" for attrs in pictures)
    assert all((compared.parent / str(attrs["src"])).is_file() for attrs in pictures)
    assert "the model is not there" in page.text
    assert page.text.count("no run") == 1  # the hostile prompt, by the other method
    assert (compared.parent / "s.png").is_file()
    assert (compared.parent / "t.csv").is_file()
    assert all(tile["data-report"] for tile in tiles if tile["data-status"] in ("finished", "diverged"))


def test_a_second_page_takes_the_place_of_the_first(compared: Path, study: Path) -> None:
    files = sorted(compared.parent.rglob("*"))
    write_page(compared, entries_of([study]), "again")
    assert sorted(compared.parent.rglob("*")) == files
    assert Page(compared).text.startswith("again")


def test_text_of_runs_stays_text_and_only_our_script_runs(compared: Path) -> None:
    page = Page(compared)
    assert " ".join(HOSTILE.split()) in page.text
    assert len(page.scripts) == 2
    assert json.loads(page.scripts[0])["names"]
    policy = next(str(meta["content"]) for meta in page.all("meta") if meta.get("http-equiv"))
    digest = base64.b64encode(hashlib.sha256(page.scripts[1].encode()).digest()).decode()
    assert re.findall(r"script-src ([^;]*);", policy) == [f"'sha256-{digest}'"]
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    assert not [attrs for _, attrs in page.tags if str(attrs.get("src", "")).startswith(("http", "x"))]


def test_only_settings_that_differ_are_listed(compared: Path) -> None:
    text = compared.read_text(encoding="utf-8")
    rows = re.findall(r'<tr><th scope="row">([\w.]+)</th><td>([^<]*)</td><td>([^<]*)</td></tr>', text)
    assert rows == [("losses.sds.guidance_scale", "7.5", "30")]


def test_a_curve_is_the_means_of_equal_parts(tmp_path: Path) -> None:
    values = [float(step) for step in range(10 * POINTS)]
    values[5] = float("nan")
    one = replace(entry("a", "duck"), method="a", series=[Series("loss", list(range(10 * POINTS)), values)])
    page = Page(write_page(tmp_path / "c.html", [one], "x"))
    (run,) = json.loads(page.scripts[0])["runs"]
    first, last, means = run["lines"]["0"]
    assert (first, last, len(means)) == (0, 10 * POINTS - 1, POINTS)
    assert means[0] == pytest.approx((45 - 5) / 9, abs=1e-3)  # without the one that is not a number
    assert means[1:] == [pytest.approx(10 * part + 4.5, rel=1e-3) for part in range(1, POINTS)]


def test_what_a_page_holds_grows_little_with_each_run(made: Path, tmp_path: Path) -> None:
    """600 runs make a page of a few megabytes: each adds less than 6 kB, with its curves."""
    copied_run(made, tmp_path / "runs" / "0")
    (one,) = entries_of([tmp_path / "runs"])
    long = [Series(series.name, list(range(500)), [0.123456 * k for k in range(500)]) for series in one.series]
    runs = [replace(one, series=long, record=replace(one.record, subject=f"thing {k}")) for k in range(40)]
    sizes = [write_page(tmp_path / "c.html", runs[:count], "x").stat().st_size for count in (20, 40)]
    assert (sizes[1] - sizes[0]) / 20 < 6000


def test_mistakes_are_said_in_one_sentence(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.html"
    other.write_text("mine")
    for arguments, said in (
        ((str(study), "--out", str(other)), "is there, and is not a comparison, so it is not replaced"),
        ((str(study), "--out", str(tmp_path / "c.pdf")), "a page ends in .html"),
        ((str(study), "--out", str(tmp_path / "c.html"), "--contact-sheet", "s.jpg"), "a contact sheet ends in .png"),
        ((str(study), "--out", str(tmp_path / "c.html"), "--table", "t.doc"), "a table ends in .tex or .csv"),
        ((str(tmp_path / "nowhere"), "--out", str(tmp_path / "c.html")), "there is no such folder"),
        ((str(tmp_path), "--out", str(tmp_path / "c.html")), "holds no run"),
        ((str(study), "--out", "/proc/nowhere/c.html"), "cannot write /proc/nowhere/c.html"),
    ):
        code, _, error = run_dfw("compare", *arguments, capsys=capsys)
        assert code == 2
        assert said in error
        assert "Traceback" not in error
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("other.html", "mine")]
