"""A study to compare: one real run, and copies of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from copied_runs import HOSTILE, copied_run
from small_runs import SCENE, config

from dfw.runs.runner import run
from dfw.studies.axes import axis
from dfw.studies.plan import planned, write_plan
from dfw.studies.states import refusal


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real run with a turntable of eight frames and a GLB."""
    settings = config(SCENE, tmp_path_factory.mktemp("real"), export={"formats": ["glb"], "turntable_frames": 8})
    return run(settings, listeners=[]).directory


@pytest.fixture(scope="session")
def study(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two prompts by two methods by two seeds; one hostile prompt that failed; one run to come, and one that could not begin."""
    folder = tmp_path_factory.mktemp("a study # with odd ? name")
    for method, scale in (("one", 7.5), ("two", 30)):
        for prompt in ("a red square", "a blue square"):
            for seed in (0, 1):
                place = folder / f"{method}-{prompt[2:5]}-{seed}"
                copied_run(made, place, name=method, prompt=prompt, seed=seed, losses__sds__guidance_scale=scale)
    (folder / "one-red-0" / "tags.txt").write_text("good\nfigure-3\n")
    failed = {"status": "diverged", "diagnosis": f"loss is NaN {HOSTILE}"}
    copied_run(made, folder / "z-bad", failed, name="two", prompt=HOSTILE, losses__sds__guidance_scale=30)
    plan = planned([str(made / "resolved.yaml")], [axis("prompt=a green square"), axis("name=one,two")])
    write_plan(folder, plan)
    refusal(folder, plan[1]).parent.mkdir(parents=True)
    refusal(folder, plan[1]).write_text("the model is not there")
    return folder
