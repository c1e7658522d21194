"""What a run has come to: its whole checkpoints, its temporary files, and all that must be the same to the bit."""

from __future__ import annotations

import json
import re
from pathlib import Path

from safetensors.torch import load_file

from dfw.runs.directory import RunDirectory
from dfw.runs.drive import MEASURED


def whole(path: Path) -> bool:
    """Returns whether a checkpoint has all its files, and all can be read."""
    try:
        json.loads((path / "state.json").read_text())
        names = {p.name for p in path.glob("*.safetensors")}
        if not {"optimizer.safetensors", "streams.safetensors", "geometry.safetensors"} <= names:
            return False
        for name in names:
            load_file(path / name)
        return True
    except Exception:
        return False


def checkpoints(run: Path) -> list[Path]:
    """Returns the directories that count as checkpoints, oldest first."""
    return sorted(p for p in (run / "checkpoints").glob("step-*") if (p / "state.json").is_file())


def step_of(path: Path) -> int:
    """Returns the step of a checkpoint."""
    return int(path.name.split("-")[1])


def newest_whole(run: Path | None) -> int:
    """Returns the step of the newest whole checkpoint; 0 without one."""
    return max((step_of(p) for p in checkpoints(run) if whole(p)), default=0) if run else 0


def leftovers(run: Path) -> list[str]:
    """Returns the temporary files, which nobody may find after a run that finished."""
    found = [p for p in run.rglob("*") if p.name.startswith(".")]
    return sorted(str(p.relative_to(run)) for p in found)


def outcome(run: Path) -> dict[str, object]:
    """Returns what must be the same to the bit: tensors, metrics except what the machine measures, pictures, exported files."""
    found: dict[str, object] = {}
    last = checkpoints(run)[-1]
    for path in sorted(last.glob("*.safetensors")):
        found[f"checkpoint/{path.name}"] = path.read_bytes()
    state = json.loads((last / "state.json").read_text())
    found["optimizers"] = state["optimizers"]  # the rest holds where the run is
    found["metrics"] = [{k: v for k, v in row.items() if k not in MEASURED} for row in RunDirectory.find(run).read_metrics()]
    for path in sorted((run / "images").glob("*.png")):
        found[f"images/{path.name}"] = path.read_bytes() if path.is_file() else b"not a file"
    for path in sorted((run / "export").rglob("*")):
        if (
            path.is_file() and path.stat().st_size and not path.name.startswith(".")
        ):  # a new try takes the next free name: object-2.glb
            data = path.read_bytes()
            number = re.search(r"-\d+$", path.stem)
            if number and path.suffix in (".obj", ".mtl"):
                data = data.replace(path.stem.encode(), path.stem[: number.start()].encode())
            stem = path.stem[: number.start()] if number else path.stem
            found[f"export/{stem}{path.suffix}"] = data
    found["step"] = last.name
    return found
