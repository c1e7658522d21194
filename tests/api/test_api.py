"""dfw from Python: what is returned, what overrides mean, and that importing it costs nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from small_runs import PIXELS, SCENE

import dfw
from dfw import ConfigError, DfwError, Distillation, Run, Scene, StepRecord
from dfw.errors import CheckpointError, PluginError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def made() -> Run:
    return dfw.run(SCENE, "trainer.steps=3", prompt="a blue square", trainer={"preview_width": 8}, listeners=[])


def test_run_gives_a_run(made: Run):
    assert made.status == "finished"
    assert made.config.prompt == "a blue square"
    assert (made.config.trainer.steps, made.config.trainer.preview_width) == (3, 8)
    assert [row["step"] for row in made.metrics] == [0, 1, 2]
    assert {"ply", "turntable", "report"} <= set(made.artifacts)
    assert all(path.is_file() for path in made.artifacts.values())
    assert made.manifest["components"]["geometry"]["name"] == "dreamfw/nerf"
    assert repr(made) == f"Run({str(made.directory)!r}, finished)"


def test_open_reads_what_is_there(made: Run):
    again = dfw.open(made.directory, device="cpu")
    assert again.config == made.config
    assert isinstance(again.scene, Scene)
    assert again.scene.render(azimuth=30, elevation=15, width=16).image().size == (16, 16)
    assert again._repr_png_().startswith(b"\x89PNG")
    assert again.stages[0].directory == made.directory


def test_export_takes_settings(made: Run):
    files = made.export(formats=["obj"], resolution=20, out="meshes")
    assert files["obj"] == Path("meshes/object.obj")
    with pytest.raises(ConfigError, match=r"argument: export\.resolution: must be less than or equal to 1024"):
        made.export(resolution=5000)


def test_resume_makes_it_longer(made: Run):
    longer = made.resume("trainer.steps=5", listeners=[])
    assert len(longer.metrics) == 5


def test_stages_are_runs_of_their_own():
    tree = {"name": "two", "stages": {"a": SCENE, "b": SCENE | {"start": {"stage": "a"}}}}
    last = dfw.run(tree, listeners=[])
    assert [run.directory.name for run in last.stages] == ["1-a", "2-b"]
    assert dfw.open(last.directory.parent).directory == last.directory


def test_a_loop_of_ones_own():
    with dfw.trainer(PIXELS, trainer={"steps": 5}) as trainer:
        steps = []
        for record in trainer:
            assert isinstance(record, StepRecord)
            steps.append(record.step)
            if record.step == 2:
                with torch.no_grad():
                    trainer.geometry.values.zero_()
    assert steps == [0, 1, 2, 3, 4]
    assert list(Path().iterdir()) == []


def test_a_loop_of_ones_own_has_the_bits_of_a_run():
    with dfw.trainer(PIXELS) as trainer:
        for _ in trainer:
            pass
    run = dfw.run(PIXELS, listeners=[])
    assert torch.equal(run.scene.geometry.values, trainer.geometry.values)


def test_build_makes_one_component():
    loss = dfw.build("loss", "sds", guidance_scale=3.0)
    assert isinstance(loss, Distillation)
    assert loss.config.guidance_scale == 3.0
    with pytest.raises(ConfigError, match=r"loss\.guidance_skale: unknown key, did you mean 'guidance_scale'"):
        dfw.build("loss", "sds", guidance_skale=3.0)
    with pytest.raises(ConfigError, match="noise"):
        dfw.build("loss", "sds", noise={"type": "gaussian", "x": 1})
    with pytest.raises(PluginError, match=r"no noise named 'gausian' \(loss\.noise\.type\)\. Did you mean 'gaussian'"):
        dfw.build("loss", "sds", noise="gausian")
    with pytest.raises(PluginError, match="no kind of component named 'los'"):
        dfw.build("los", "sds")


def test_mistakes_are_one_sentence_and_say_which_argument():
    with pytest.raises(ConfigError, match=r"argument: trainer\.stepps: unknown key, did you mean 'steps'"):
        dfw.run(PIXELS, trainer={"stepps": 5})
    with pytest.raises(DfwError, match="no configuration named 'dreamfussion'"):
        dfw.run("dreamfussion")
    with pytest.raises(CheckpointError, match="nowhere: not a run directory"):
        dfw.open("nowhere")
    assert list(Path().iterdir()) == []


def test_a_file_and_a_mapping_are_the_same_configuration():
    Path("run.yaml").write_text(yaml.safe_dump(PIXELS))
    from dfw.config.load import load_config

    assert load_config("run.yaml") == load_config(PIXELS)
    assert load_config({"extends": "run.yaml", "seed": 4}).seed == 4
