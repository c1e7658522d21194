"""What a run tells its listeners, in a real run."""

from __future__ import annotations

from pathlib import Path

from dfw import RunEnded, StepEnded, hookimpl
from dfw.config.load import load_config
from dfw.runs.runner import run

CONFIG = Path(__file__).parents[2] / "examples" / "extensions" / "dreamfw-trackers" / "tracked.yaml"


class Recorder:
    """Keeps the images of each step, as they were when told."""

    def __init__(self) -> None:
        self.images: dict[int, list[tuple[str, int]]] = {}
        self.ended: list[RunEnded] = []

    @hookimpl
    def dfw_step_ended(self, step: StepEnded) -> None:
        self.images[step.progress.step] = [(path.name, path.stat().st_size) for path in step.images]

    @hookimpl
    def dfw_run_ended(self, run: RunEnded) -> None:
        self.ended.append(run)


def test_previews_are_told_with_the_step_they_were_made_before(tmp_path: Path) -> None:
    """Six steps with a preview every three: files of steps 0 and 3, written already; the last one is for the run's end."""
    seen = Recorder()
    made = run(load_config(CONFIG, [f"output={tmp_path}"]), listeners=[seen])
    assert {at: [name for name, size in files if size] for at, files in seen.images.items()} == {
        0: ["step-000000.png"], 1: [], 2: [], 3: ["step-000003.png"], 4: [], 5: [],
    }  # fmt: skip
    assert [(one.status, set(one.artifacts)) for one in seen.ended] == [("finished", set(made.artifacts))]
