"""Makes the gallery live: pictures of objects become 3D viewers, and the picture of a report becomes the report.

Where no site is built, the page shows the pictures. `docs/gallery/run` is the directory of a real run without its checkpoints.
"""

from __future__ import annotations

import json
import re
import shutil
from importlib.resources import as_file, files
from pathlib import Path

import yaml  # type: ignore[import-untyped]

from dfw.report import ReportData, write_report

VIEWER = "model-viewer-umd.min.js"
OBJECT = (
    '<model-viewer src="{name}.glb" poster="{name}.png" alt="{alt}" camera-controls touch-action="pan-y" '
    'camera-orbit="25deg 75deg auto" shadow-intensity="0.8" environment-image="neutral" tone-mapping="neutral" '
    'interaction-prompt="none" loading="lazy" style="width: 100%; height: 16rem"></model-viewer>'
)
STYLE = """<style>
article table, article .md-typeset__table { display: block !important; border: 0 !important }
article thead { display: none }
article tbody { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(16rem, 100%), 1fr)) }
article tr { display: contents }
article td { border: 1px solid #8884 !important; border-radius: .3rem }
</style>"""
"""The table of objects has as many columns as fit: one on a phone. Markdown's table has an empty head."""
REPORT = (
    '<iframe src="run/report.html" title="{alt}" loading="lazy" style="width: 100%; height: 50rem; border: 1px solid #8888">'
    "</iframe>"
    '<a href="run/report.html">The report as a page of its own</a>'
)


def add(site: Path) -> None:
    """Adds the viewer, its licences and the report to the built `site`, and puts them on the page."""
    folder = site / "gallery"
    with as_file(files("dfw.report").joinpath("viewer")) as viewer:
        script = (viewer / VIEWER).read_text(encoding="utf-8").split("\n//# sourceMappingURL=")[0]
        (folder / VIEWER).write_text(script, encoding="utf-8")
        shutil.copy(viewer / "LICENSES.txt", folder)
    report(folder / "run")
    page = folder / "index.html"
    text = re.sub(r'<img alt="([^"]*)" src="([^"]*)" ?/?>', lambda found: _live(folder, found), page.read_text(encoding="utf-8"))
    page.write_text(text.replace("</head>", f'{STYLE}<script defer src="{VIEWER}"></script></head>', 1), encoding="utf-8")


def _live(folder: Path, found: re.Match[str]) -> str:
    """Returns what takes the place of a picture in the gallery's page."""
    name = Path(found[2]).stem
    if name == "report":
        return REPORT.format(alt=found[1])
    return OBJECT.format(name=name, alt=found[1]) if (folder / f"{name}.glb").is_file() else found[0]


def report(run: Path) -> Path:
    """Writes report.html of the run directory `run` from its files, as the run wrote it, and returns its path."""
    status = json.loads((run / "status.json").read_text(encoding="utf-8"))
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    resolved = (run / "resolved.yaml").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    data = ReportData(
        prompt=yaml.safe_load(resolved)["prompt"],
        seed=manifest["seed"],
        status=status["status"],
        seconds=status["seconds"],
        times=status["times"],
        artifacts={name: run / path for name, path in status["artifacts"].items()},
        metrics=rows,
        previews=[(int(path.stem.removeprefix("step-")), path) for path in sorted((run / "images").glob("step-*.png"))],
        resolved_config=resolved,
        manifest=manifest,
        facts=status["facts"],
    )
    return write_report(run, data)
