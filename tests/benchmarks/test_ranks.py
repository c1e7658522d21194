"""The curve of `benchmarks/ranks.py`, drawn from given times."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from matplotlib import pyplot as plt

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ranks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ranks", ROOT / "benchmarks" / "ranks.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules["ranks"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_curve_shows_each_way_against_the_views(ranks: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    figures = []
    monkeypatch.setattr(plt, "close", figures.append)
    one, two = "1 process, 1 thread", "2 processes, 1 thread each"
    rows = [
        ranks.Row(prior, views, way, 1.0, ratios)
        for prior in ("cheap", "dear")
        for views, measured in {16: (1.5, 1.8, 1.6), 4: (0.9, 1.2, 1.0)}.items()
        for way, ratios in {one: (1.0, 1.0, 1.0), two: measured}.items()
    ]
    ranks.draw(rows, tmp_path / "ranks.svg")
    (figure,) = figures
    monkeypatch.undo()
    assert [axis.get_title() for axis in figure.axes] == ["cheap", "dear"]
    for axis in figure.axes:
        ((line, _, (bars,)),) = axis.containers
        assert line.get_xydata().tolist() == [[4, 1.0], [16, 1.6]]
        assert [bar[:, 1].round(6).tolist() for bar in bars.get_segments()] == [[0.9, 1.2], [1.5, 1.8]]
        assert axis.get_legend_handles_labels()[1] == [two]
    plt.close(figure)
    assert (tmp_path / "ranks.svg").stat().st_size > 1000
