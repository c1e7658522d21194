"""Runs of several stages: composed as a whole, resumed where they stopped, each an ordinary run."""

from __future__ import annotations

import shutil
from pathlib import Path
from textwrap import dedent

import pytest
import torch
import yaml
from safetensors.torch import load_file
from small_runs import SCENE

from dfw import hookimpl
from dfw.cli.main import main
from dfw.config.load import load_stages
from dfw.errors import CheckpointError, ConfigError, DivergedError
from dfw.runs.checkpoint_folder import newest_checkpoint
from dfw.runs.directory import RunDirectory, stage_directories
from dfw.runs.life import status_of
from dfw.runs.runner import export
from dfw.runs.stages import compose_stages, resume_stages, run_stages


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("base.yaml").write_text(yaml.safe_dump(SCENE))
    Path("two.yaml").write_text(
        dedent("""\
        name: two
        prompt: a blue square
        stages:
          coarse: {extends: base.yaml}
          fine:
            extends: coarse
            start: {stage: coarse}
            optimizer: {lr: 0}
            trainer: {steps: 2}
        """)
    )


class StopIn:
    """Presses Ctrl-C in one step of the run of that many steps."""

    def __init__(self, steps: int, step: int) -> None:
        self.steps, self.step = steps, step

    @hookimpl
    def dfw_step_ended(self, step) -> None:
        import signal

        if (step.progress.total, step.progress.step) == (self.steps, self.step):
            signal.raise_signal(signal.SIGINT)


def geometry(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(newest_checkpoint(directory / "checkpoints") / "geometry.safetensors")


def test_a_stage_merges_base_common_keys_and_its_own():
    stages = load_stages("two.yaml", ["seed=3", "stages.fine.trainer.steps=1"])
    assert [one.config.prompt for one in stages.values()] == ["a blue square"] * 2
    assert [one.config.trainer.steps for one in stages.values()] == [4, 1]
    assert [one.config.seed for one in stages.values()] == [3, 3]
    assert stages["fine"].config.optimizer.lr == 0
    assert stages["coarse"].config.start is None
    assert stages["fine"].provenance.where(("trainer", "steps")) == "override 'stages.fine.trainer.steps=1'"
    assert stages["fine"].provenance.where(("optimizer", "lr")) == "two.yaml:8"


def test_stages_run_one_after_another_and_export_without_the_first():
    result = run_stages(compose_stages(load_stages("two.yaml")), listeners=[])
    coarse, fine = stage_directories(result.directory.parent)
    assert [path.name for path in (coarse, fine)] == ["1-coarse", "2-fine"]
    assert result.directory == fine
    theirs, ours = geometry(coarse), geometry(fine)
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    shutil.rmtree(coarse)
    root = result.directory.parent
    assert RunDirectory.open(root).path == fine
    assert export(root)["ply"].is_file()


@pytest.mark.parametrize(("steps", "step"), [(4, 1), (2, 0)])
def test_resume_goes_on_with_the_first_stage_that_is_not_finished(steps: int, step: int):
    whole = run_stages(compose_stages(load_stages("two.yaml", ["stages.fine.optimizer.lr=0.01"])), listeners=[])
    stopped = run_stages(
        compose_stages(load_stages("two.yaml", ["stages.fine.optimizer.lr=0.01"])), listeners=[StopIn(steps, step)]
    )
    assert stopped.status == "interrupted"
    root = stopped.directory.parent
    assert status_of(root) == "interrupted"
    assert resume_stages(root, listeners=[]).status == "finished"
    assert status_of(root) == "finished"
    theirs = geometry(whole.directory)
    assert all(torch.equal(value, theirs[name]) for name, value in geometry(root / "2-fine").items())
    with pytest.raises(CheckpointError, match="all 2 stages are finished"):
        resume_stages(root, listeners=[])


class Diverge:
    """Ends the run of the last stage."""

    @hookimpl
    def dfw_step_ended(self, step) -> None:
        if step.progress.total == 2:
            raise DivergedError("no more")


def test_the_folder_of_the_stages_says_which_stage_ended_it_and_how():
    with pytest.raises(DivergedError):
        run_stages(compose_stages(load_stages("two.yaml")), listeners=[Diverge()])
    (root,) = Path("runs/two").iterdir()
    said = RunDirectory(root).read_json("status.json")
    assert [said[key] for key in ("status", "stage", "stages")] == ["diverged", "fine", ["coarse", "fine"]]
    assert "no more" in said["diagnosis"]
    assert [status_of(path) for path in stage_directories(root)] == ["finished", "diverged"]


def test_a_mistake_in_the_last_stage_costs_no_step(capsys: pytest.CaptureFixture[str]):
    text = Path("two.yaml").read_text().replace("optimizer: {lr: 0}", "renderer: {type: volum}")
    Path("two.yaml").write_text(text)
    assert main(["run", "two.yaml"]) == 3
    err = capsys.readouterr().err
    assert "two.yaml:8: no renderer named 'volum' (stages.fine.renderer.type). Did you mean 'volume'?" in err
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "start: {stage: coarse}",
            "start: {stage: fine}",
            r"two\.yaml:7: stages\.fine\.start\.stage: no stage before this one is called 'fine'; there are coarse",
        ),
        ("extends: coarse", "extends: corse", r"extends: no configuration named 'corse'.*stages before it: coarse"),
        ("  coarse: {extends: base.yaml}", "  coarse: base.yaml", "must map names to configurations"),
        ("trainer: {steps: 2}", "trainer: {stepps: 2}", r"two\.yaml:9: stages\.fine\.trainer\.stepps: unknown key"),
    ],
)
def test_mistakes_in_stages(old: str, new: str, message: str):
    Path("two.yaml").write_text(Path("two.yaml").read_text().replace(old, new))
    with pytest.raises(ConfigError, match=message):
        compose_stages(load_stages("two.yaml"))


def test_an_override_for_a_stage_that_does_not_exist():
    with pytest.raises(ConfigError, match=r"override 'stages\.fin\.seed=1': write stages\.NAME\.key=value, with NAME one of"):
        load_stages("two.yaml", ["stages.fin.seed=1"])


def test_dry_run_prints_every_stage(capsys: pytest.CaptureFixture[str]):
    assert main(["run", "two.yaml", "--dry-run"]) == 0
    tree = yaml.safe_load(capsys.readouterr().out)
    assert list(tree["stages"]) == ["coarse", "fine"]
    start = tree["stages"]["fine"]["start"]
    assert (start["run"], start["stage"], start["mesh"], start["take"]) == (None, "coarse", None, ["geometry"])
    assert not Path("runs").exists()


def test_a_staged_configuration_is_refused_where_one_run_is_meant(capsys: pytest.CaptureFixture[str]):
    assert main(["sample", "two.yaml"]) == 2
    assert "two.yaml: has stages" in capsys.readouterr().err
