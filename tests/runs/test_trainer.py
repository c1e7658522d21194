"""The loop on parts whose answer is known: pixels under the closed-form Gaussian guidance."""

import json
import os
import signal

import pytest
import torch

from dfw import hookimpl
from dfw.cli.main import main
from dfw.compose import compose
from dfw.config.settings import RunConfig
from dfw.errors import CheckpointError, ConfigError, DivergedError
from dfw.interfaces.poses import orbit
from dfw.runs import drive
from dfw.runs.checkpoint_folder import newest_checkpoint
from dfw.runs.directory import RunDirectory
from dfw.runs.drive import MEASURED
from dfw.runs.outputs import preview
from dfw.runs.runner import resume, run
from dfw.runs.start import make_trainer
from dfw.runs.trainer import pick_device

MEAN = [0.8, 0.3, 0.1]


def make_config(tmp_path, **changes) -> RunConfig:
    base = {
        "prompt": "a red square",
        "output": str(tmp_path / "runs"),
        "device": "cpu",
        "geometry": {"type": "image", "width": 16, "height": 16},
        "renderer": {"type": "plane"},
        "guidance": {"type": "gaussian", "means": {"a red square": MEAN}, "resolution": 16},
        "losses": {"sds": {"guidance_scale": 1}},
        "prompter": {"type": "plain"},
        "cameras": {"width": 16, "batch_size": 1},
        "optimizer": {"lr": {"from": 0.05, "to": 0.001}},
        "trainer": {"steps": 40, "preview_every": 20, "checkpoint_every": 10, "preview_width": 16},
    }
    return RunConfig.model_validate(base | changes)


def train(config):
    records = []
    trainer = make_trainer(config, compose(config).build())
    trainer.train(lambda: False, records.append)
    return trainer, records


def final_bits(trainer):
    return {name: p.detach().clone() for name, p in trainer.geometry.named_parameters()}


def test_pixels_arrive_at_the_mean_of_the_prompt(tmp_path):
    """The expected SDS gradient is w a s (x - mu)/(a^2 std^2 + s^2): its only zero is the mean."""
    trainer, records = train(make_config(tmp_path, trainer={"steps": 300}))
    image = trainer.renderer(trainer.geometry, _one_camera(trainer)).colour.detach()
    torch.testing.assert_close(image.mean((0, 1, 2)), torch.tensor(MEAN), atol=0.02, rtol=0)
    assert records[-1].losses["sds"] < records[0].losses["sds"]
    assert [r.step for r in records] == list(range(300))


def _one_camera(trainer):
    return orbit(1, 0.0, 3.0, 40.0, 16, 16, trainer.device)


def test_same_seed_same_bits_another_seed_others(tmp_path):
    one, two, other = (train(make_config(tmp_path, seed=seed))[0] for seed in (3, 3, 4))
    for name, value in final_bits(one).items():
        assert torch.equal(value, final_bits(two)[name])
        assert not torch.equal(value, final_bits(other)[name])


@pytest.mark.parametrize("stop_at", [7, 23])
def test_an_interrupted_run_resumes_to_the_same_bits(tmp_path, stop_at):
    config = make_config(tmp_path, seed=5)
    whole, whole_records = train(config)
    parts, records = make_trainer(config, compose(config).build()), []
    parts.train(lambda: parts.step == stop_at, records.append)
    path = parts.save(tmp_path / "checkpoints")
    again = make_trainer(config, compose(config).build())
    again.restore(path)
    again.train(lambda: False, records.append)
    for name, value in final_bits(whole).items():
        assert torch.equal(value, final_bits(again)[name])
    assert [(r.step, r.loss, r.losses, r.grad_norm) for r in records] == [
        (r.step, r.loss, r.losses, r.grad_norm) for r in whole_records
    ]


def test_weights_scale_the_sum_and_zero_weight_costs_nothing(tmp_path):
    config = make_config(
        tmp_path,
        losses={
            "a": {"type": "sds", "weight": 3.0},
            "b": {"type": "sds", "weight": {"from": 0, "to": 2, "start": 0.5, "end": 0.5}},
        },
        trainer={"steps": 4},
    )
    _, records = train(config)
    assert set(records[0].losses) == {"a"}
    assert records[0].loss == pytest.approx(3 * records[0].losses["a"])
    assert records[3].loss == pytest.approx(3 * records[3].losses["a"] + 2 * records[3].losses["b"])


def test_a_learning_rate_that_explodes_is_diagnosed_with_exit_code_4(tmp_path):
    config = make_config(tmp_path, optimizer={"lr": 1e300}, trainer={"steps": 10})
    with pytest.raises(DivergedError, match="is nan since step") as caught:
        run(config, listeners=[])
    assert caught.value.exit_code == 4
    directory = next((tmp_path / "runs" / "run").iterdir())
    status = json.loads((directory / "status.json").read_text())
    assert status["status"] == "diverged"
    assert "is nan since step" in status["diagnosis"]
    assert (directory / "report.html").is_file()


def test_run_leaves_a_whole_directory_and_a_second_one_another(tmp_path):
    config = make_config(tmp_path)
    first, second = run(config, listeners=[]), run(config, listeners=[])
    assert first.status == "finished"
    assert first.directory != second.directory
    names = {p.name for p in first.directory.iterdir()}
    assert {"config.yaml", "resolved.yaml", "manifest.json", "run.log", "metrics.jsonl", "status.json", "report.html"} <= names
    rows = RunDirectory.open(first.directory).read_metrics()
    assert [row["step"] for row in rows] == list(range(40))
    assert [step for step, _ in RunDirectory.open(first.directory).previews()] == [0, 20, 40]
    manifest = json.loads((first.directory / "manifest.json").read_text())
    assert manifest["components"]["guidance"]["distribution"] == "dreamfw"


class InterruptAt:
    """A listener that presses Ctrl-C during one step."""

    def __init__(self, step):
        self.step = step

    @hookimpl
    def dfw_step_ended(self, step):
        if step.progress.step == self.step:
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_checkpoints_and_resume_writes_the_same_metrics(tmp_path):
    config = make_config(tmp_path, seed=8)
    whole = run(config, listeners=[])
    stopped = run(config, listeners=[InterruptAt(13)])
    assert stopped.status == "interrupted"
    assert json.loads((stopped.directory / "status.json").read_text())["step"] == 14
    assert resume(stopped.directory, listeners=[]).status == "finished"

    def numbers(directory):
        return [{k: v for k, v in row.items() if k not in MEASURED} for row in RunDirectory.open(directory).read_metrics()]

    assert numbers(stopped.directory) == numbers(whole.directory)
    ours = (stopped.directory / "checkpoints" / "step-000040" / "geometry.safetensors").read_bytes()
    assert ours == (whole.directory / "checkpoints" / "step-000040" / "geometry.safetensors").read_bytes()
    with pytest.raises(CheckpointError, match="already finished"):
        resume(stopped.directory, listeners=[])


@pytest.mark.parametrize("step", [0, 20, 40])
def test_ctrl_c_in_a_preview(tmp_path, monkeypatch, step):
    """The preview between two steps is finished first; the last one, after all steps, is broken off and made by the resume."""
    config = make_config(tmp_path)
    whole = run(config, listeners=[])

    def pressed(scene, directory):
        if scene.step == step:
            os.kill(os.getpid(), signal.SIGINT)
        return preview(scene, directory)

    monkeypatch.setattr(drive, "preview", pressed)
    stopped = run(config, listeners=[])
    directory = RunDirectory.open(stopped.directory)
    said = directory.read_json("status.json")
    assert (stopped.status, stopped.signal, said["status"], said["step"]) == ("interrupted", signal.SIGINT, "interrupted", step)
    assert [at for at, _ in directory.previews()] == [at for at in (0, 20) if at <= step]
    assert newest_checkpoint(directory.checkpoints).name == f"step-{step:06d}"
    monkeypatch.undo()
    assert resume(stopped.directory, listeners=[]).status == "finished"
    for name in ("checkpoints/step-000040/geometry.safetensors", *(f"images/step-{at:06d}.png" for at in (0, 20, 40))):
        assert (stopped.directory / name).read_bytes() == (whole.directory / name).read_bytes()


def test_device_names():
    assert pick_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "count", "right"), [("cuda", 1, True), ("cuda:1", 2, True), ("cuda:1", 1, False), ("cuda", 0, False)]
)
def test_a_device_that_is_not_there_is_one_sentence(name, count, right, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    if right:
        assert pick_device(name) == torch.device(name)
        return
    with pytest.raises(
        ConfigError, match=rf"^device: {name} is not there, torch .* sees {count or 'none'} of that kind here; write"
    ):
        pick_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("words", [["run"], ["guidance", "check"], ["sample"]])
def test_every_command_says_so_before_a_model_loads(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dfw_guidance.gaussian.Gaussian.__init__", lambda self, config: pytest.fail("the guidance was built"))
    assert main([*words, "gaussian-2d", "device=cuda"]) == 2
    assert capsys.readouterr().err.startswith("error: device: cuda is not there")
    assert list(tmp_path.iterdir()) == []
