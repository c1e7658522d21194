"""Writes the report: one HTML file that needs no network and no other file. Imports no torch."""

from __future__ import annotations

import base64
import hashlib
import io
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from dfw.atomic import write_text, writing
from dfw.errors import one_line
from dfw.report import curves
from dfw.report.data import ReportData, duration_text, thinned, time_split

log = logging.getLogger("dfw.report")

PICTURES = 24  # previews shown at most, because each one is embedded in the page
PATIENCE = 1200  # seconds, next to four times what lies between two previews, until a run that says nothing counts as gone
RENEW = 10  # seconds after which the page of a run that goes on loads itself again
MOVING = {".webp": "image/webp", ".gif": "image/gif", ".mp4": "video/mp4"}
"""Ending of a turntable that the page shows -> its type."""
PART_NAMES = {"optimizer": "optimiser", "other": "rest of the steps"}


@dataclass(frozen=True)
class Picture:
    """A picture inside the page: its step, and its data: URI."""

    step: int
    source: str


@dataclass(frozen=True)
class Link:
    """A file next to the report: label, relative URL, and size as text."""

    label: str
    url: str
    size: str


def write_report(run_directory: Path, data: ReportData) -> Path:
    """Writes `run_directory`/report.html atomically, replaces an older one, and returns its path.

    Without a GLB, the turntable or the newest preview takes the viewer's place. Raises ExportError if the directory cannot be
    written.
    """
    path = run_directory / "report.html"
    page = render_page(run_directory, data)
    with writing(path):
        write_text(path, page)
    return path


def render_page(run_directory: Path, data: ReportData) -> str:
    """Returns the page's HTML with all text escaped. Its content security policy allows only its own scripts, by their hash."""
    glb, turntable = _existing(data, "glb"), _existing(data, "turntable")
    viewer = _viewer_script() if glb else ""
    script = _resource("page.js")
    template, panels = _templates()
    shown = {
        "data": data,
        "directory": run_directory,
        "model": _data_uri(glb, "model/gltf-binary") if glb else "",
        "turntable": _data_uri(turntable, MOVING[turntable.suffix]) if turntable and turntable.suffix in MOVING else "",
        "pictures": [Picture(step, source) for step, path in thinned(data.previews, PICTURES) if (source := _picture(path))],
    }
    return template.render(
        **shown,
        panels=[Markup(panel.render(**shown)) for panel in panels],
        now=datetime.now().astimezone(),
        renew=RENEW,
        patience=round(PATIENCE + 4 * data.seconds / max(1, len(data.previews))),
        duration=duration_text(data.seconds),
        calls=int(sum(row.get("network_calls", 0) for row in data.metrics)),
        steps=int(data.metrics[-1]["step"]) + 1 if data.metrics else 0,
        style=Markup(_resource("page.css")),
        viewer_script=Markup(viewer),
        page_script=Markup(script),
        script_hashes=" ".join(script_hash(one) for one in (viewer, script) if one),
    )


@cache
def _templates() -> tuple[Template, list[Template]]:
    """Returns the template of the page and those of the panels, in the order of their file names.

    A new panel is one file in `panels`.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals |= {
        "chart_groups": curves.chart_groups,
        "links_of": _links,
        "part_names": PART_NAMES,
        "plot": curves,
        "tables_of": _tables,
        "time_split": time_split,
    }
    found = [one for one in files("dfw.report").joinpath("panels").iterdir() if one.name.endswith(".j2")]
    texts = [one.read_text(encoding="utf-8") for one in sorted(found, key=lambda one: one.name)]
    return environment.from_string(_resource("template.html.j2")), [environment.from_string(text) for text in texts]


def _resource(name: str) -> str:
    return files("dfw.report").joinpath(name).read_text(encoding="utf-8")


def _viewer_script() -> str:
    """Returns model-viewer without its reference to a source map, which is not shipped."""
    return _resource("viewer/model-viewer-umd.min.js").split("\n//# sourceMappingURL=")[0]


def script_hash(script: str) -> str:
    """Returns a Content-Security-Policy source that allows exactly `script`."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _existing(data: ReportData, name: str) -> Path | None:
    path = data.artifacts.get(name)
    return path if path is not None and path.is_file() else None


def _data_uri(path: Path, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _picture(path: Path) -> str:
    """Returns the picture at `path` as a data: URI, recompressed as WebP. Warns, and returns nothing, if it is damaged."""
    from PIL import Image

    try:
        return _compressed(path, path.stat().st_mtime_ns)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        log.warning("%s: cannot be read as a picture (%s); the report goes without it", path, one_line(error))
        return ""


@lru_cache(maxsize=2 * PICTURES)
def _compressed(path: Path, _changed: int) -> str:
    """Returns a picture as a data: URI. A run that goes on asks for the same ones at each preview."""
    from PIL import Image

    buffer = io.BytesIO()
    with Image.open(path) as image:
        image.convert("RGB").save(buffer, "WEBP", quality=85, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _links(data: ReportData, run_directory: Path) -> list[Link]:
    return [_link(run_directory, path) for path in data.artifacts.values() if path.exists()]


def _link(run_directory: Path, path: Path) -> Link:
    """Returns a link from the report to `path`, relative if both are on one drive."""
    try:
        url = quote(Path(os.path.relpath(path, run_directory)).as_posix())
    except ValueError:
        url = path.resolve().as_uri()
    size = sum(one.stat().st_size for one in (path.iterdir() if path.is_dir() else [path]))
    return Link(path.name, url, f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{max(1, round(size / 1e3))} kB")


def _tables(manifest: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Turns the manifest into titled tables: one per mapping, and one `run` for all single values."""
    single = [(str(key), _text(value)) for key, value in manifest.items() if not isinstance(value, Mapping)]
    tables = [("run", single)] if single else []
    for key, value in manifest.items():
        if isinstance(value, Mapping) and value:
            tables.append((str(key), [(str(name), _text(one)) for name, one in value.items()]))
    return tables


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_text(one)}" for key, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_text(one) for one in value)
    return str(value)
