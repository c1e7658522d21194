"""The command line: what it prints, where, and with which exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import fresh_plugins, run_dfw
from fake_packages import LOSS, on_path, write_package

from dfw import __version__
from dfw.cli.main import VERBS
from dfw.config.load import load_config, load_stages

TINY = """\
name: tiny
prompt: a red square
device: cpu
geometry: {type: dreamfw/image, width: 8, height: 8}
renderer: {type: dreamfw/plane}
losses:
  opacity: {type: dreamfw/opacity}
prompter: {type: dreamfw/plain}
cameras: {width: 8, batch_size: 1}
trainer: {steps: 3, preview_width: 8}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DFW_BLOCK_PLUGINS", raising=False)
    monkeypatch.delenv("DFW_NO_PLUGINS", raising=False)
    Path("tiny.yaml").write_text(TINY, encoding="utf-8")
    fresh_plugins()


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]):
    code, out, _ = run_dfw("--help", capsys=capsys)
    assert code == 0
    assert all(verb in out for verb in VERBS)


def test_where_a_mistake_comes_from_is_shown_when_asked_for(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DFW_TRACEBACK", "1")
    code, _, err = run_dfw("run", "tiny.yaml", "trainer.stepps=3", capsys=capsys)
    assert code == 2
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("error: override 'trainer.stepps=3'")


def test_version(capsys: pytest.CaptureFixture[str]):
    assert run_dfw("--version", capsys=capsys)[1].strip() == f"dfw, version {__version__}"


def test_a_mistake_is_one_sentence_on_stderr_and_exit_code_2(capsys: pytest.CaptureFixture[str]):
    code, out, err = run_dfw("run", "tiny.yaml", "trainer.stepps=3", capsys=capsys)
    assert (code, out) == (2, "")
    assert err == "error: override 'trainer.stepps=3': trainer.stepps: unknown key, did you mean 'steps'?\n"


def test_a_missing_plugin_is_exit_code_3(capsys: pytest.CaptureFixture[str]):
    code, _, err = run_dfw("run", "tiny.yaml", "geometry.type=acme/nerf", capsys=capsys)
    assert code == 3
    assert err.startswith("error: override 'geometry.type=acme/nerf': no geometry named 'acme/nerf' (geometry.type).")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rum"], "No such command"),
        (["run"], "give a CONFIG"),
        (["run", "prompt=a car"], "the configuration comes first"),
        (["run", "tiny.yaml", "--resume", "x"], "'tiny.yaml' is not an override; write key=value to change it"),
        (["run", "--bogus"], "No such option"),
        (["render", "x", "--frames", "0"], "0 is not in the range"),
        (["sample", "tiny.yaml", "--count", "many"], "not a valid integer"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]):
    code, _, err = run_dfw(*arguments, capsys=capsys)
    assert code == 2
    assert said in " ".join(err.replace("│", " ").split())


@pytest.mark.parametrize("verb", ["render", "export"])
def test_what_is_no_run_directory_is_told(verb: str, capsys: pytest.CaptureFixture[str]):
    code, _, err = run_dfw(verb, "nowhere", capsys=capsys)
    assert code == 2
    assert "nowhere: not a run directory" in err
    assert run_dfw("run", "--resume", "nowhere", capsys=capsys)[0] == 2


def test_a_dry_run_prints_the_resolved_configuration_and_makes_nothing(capsys: pytest.CaptureFixture[str]):
    code, out, _ = run_dfw("run", "tiny.yaml", "--dry-run", "seed=5", capsys=capsys)
    assert code == 0
    Path("resolved.yaml").write_text(out)
    resolved = load_config("resolved.yaml")
    assert resolved.seed == 5
    assert resolved.geometry.type == "dreamfw/image"
    assert not Path("runs").exists()
    assert run_dfw("config", "show", "tiny.yaml", "seed=5", capsys=capsys)[1] == out


def test_config_validate(capsys: pytest.CaptureFixture[str]):
    code, out, _ = run_dfw("config", "validate", "tiny.yaml", capsys=capsys)
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["tiny.yaml:", "valid"],
        ["geometry", "dreamfw/image", __version__],
        ["renderer", "dreamfw/plane", __version__],
        ["losses.opacity", "dreamfw/opacity", __version__],
        ["cameras", "dreamfw/random", __version__],
        ["prompter", "dreamfw/plain", __version__],
        ["export.formats.0", "dreamfw/glb", __version__],
        ["export.formats.1", "dreamfw/obj", __version__],
        ["export.formats.2", "dreamfw/ply", __version__],
    ]
    code, out, err = run_dfw("config", "validate", "tiny.yaml", "geometry.widht=3", capsys=capsys)
    assert (code, out) == (2, "")
    assert "geometry.widht: unknown key, did you mean 'width'?" in err


def test_a_configuration_with_stages_is_shown_and_validated(capsys: pytest.CaptureFixture[str]):
    Path("staged.yaml").write_text("stages:\n  a: {extends: tiny.yaml}\n  b: {extends: a, start: {stage: a}}\n")
    code, out, _ = run_dfw("run", "staged.yaml", "--dry-run", "stages.b.seed=5", capsys=capsys)
    assert code == 0
    assert not Path("runs").exists()
    assert run_dfw("config", "show", "staged.yaml", "stages.b.seed=5", capsys=capsys)[1] == out
    Path("resolved.yaml").write_text(out)
    resolved = load_stages("resolved.yaml")
    assert {name: loaded.config.seed for name, loaded in resolved.items()} == {"a": 0, "b": 5}
    code, out, _ = run_dfw("config", "validate", "staged.yaml", capsys=capsys)
    assert code == 0
    assert [line.split()[:2] for line in out.splitlines()][8:10] == [
        ["stages.a.export.formats.2", "dreamfw/ply"],
        ["stages.b.geometry", "dreamfw/image"],
    ]
    code, _, err = run_dfw("config", "validate", "staged.yaml", "stages.b.geometry.widht=3", capsys=capsys)
    assert code == 2
    assert "stages.b.geometry.widht: unknown key, did you mean 'width'?" in err


def test_config_diff_shows_what_differs_defaults_included(capsys: pytest.CaptureFixture[str]):
    Path("other.yaml").write_text(TINY.replace("prompt: a red square", "prompt: a car") + "precision: fp32\nseed: 4\n")
    code, out, _ = run_dfw("config", "diff", "tiny.yaml", "other.yaml", capsys=capsys)
    assert code == 0
    assert out.splitlines() == ['prompt: "a red square" -> "a car"', "seed: 0 -> 4"]


def test_config_schema_goes_to_a_file_or_to_stdout(capsys: pytest.CaptureFixture[str]):
    code, out, _ = run_dfw("config", "schema", capsys=capsys)
    assert code == 0
    assert run_dfw("config", "schema", "--out", "schema.json", capsys=capsys)[:2] == (0, "")
    assert json.loads(Path("schema.json").read_text()) == json.loads(out)
    assert "losses" in json.loads(out)["properties"]
    assert run_dfw("config", "schema", "--out", "no/such/folder.json", capsys=capsys)[0] == 2


def test_plugins_list_shows_third_parties_problems_and_blocks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    from dfw.plugins.registry import rediscover

    site = tmp_path / "site"
    write_package(site, "acme", "0.3", "[dfw.loss]\nglow = acme_l:Glow\n[dfw]\nlog = acme_l\n")
    write_package(site, "acme-bad", "0.1", "[dfw.loss]\nodd = not a target!\n")
    with on_path(site):
        rediscover()
        lines = run_dfw("plugins", "list", capsys=capsys)[1].splitlines()
        assert any(line.split() == ["loss", "acme/glow", "0.3", "acme_l:Glow"] for line in lines)
        assert any(line.split() == ["listener", "acme/log", "0.3", "acme_l"] for line in lines)
        assert any(line.startswith("problem: acme-bad 0.1:") for line in lines)
        monkeypatch.setenv("DFW_BLOCK_PLUGINS", "acme")
        rediscover()
        assert "blocked: loss acme/glow 0.3" in run_dfw("plugins", "list", capsys=capsys)[1]
    monkeypatch.delenv("DFW_BLOCK_PLUGINS")
    rediscover()


def test_a_plugin_adds_a_verb_and_a_broken_one_does_not_stop_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = """
    import click
    from dfw import hookimpl

    @hookimpl
    def dfw_register_commands(cli):
        @cli.command("launch", help="Launch many runs.")
        @click.argument("what")
        def launch(what):
            click.echo(f"launched {what}")
    """
    site = tmp_path / "site"
    write_package(site, "acme-launch", "0.3", "[dfw]\nlaunch = acme_launch\n", {"acme_launch": source})
    write_package(site, "acme-crash", "0.1", "[dfw]\ncrash = acme_crash\n", {"acme_crash": "raise RuntimeError('boom')"})
    with on_path(site):
        code, out, err = run_dfw("--help", capsys=capsys)
        assert code == 0
        assert "Launch many runs." in out
        assert "acme-crash 0.1" in err
        assert run_dfw("launch", "it", capsys=capsys)[:2] == (0, "launched it\n")


def test_a_plugin_file_and_a_block(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DFW_BLOCK_PLUGINS", "")  # `--block` writes to the environment; this brings it back afterwards
    Path("mine.py").write_text(LOSS.format(name="Glow") + "\nfrom dfw import register\nregister('loss', 'glow', Glow)\n")
    arguments = ("config", "validate", "tiny.yaml", "losses.glow.strength=2")
    assert run_dfw(*arguments, capsys=capsys)[0] == 3
    assert "local/glow" in run_dfw(*arguments, "--plugin", "mine.py", capsys=capsys)[1]
    assert run_dfw(*arguments, "--plugin", "none.py", capsys=capsys)[0] == 3
    code, _, err = run_dfw(*arguments, "--block", "dreamfw", capsys=capsys)
    assert code == 3
    assert "cannot be blocked" in err


def test_doctor_looks_at_everything(capsys: pytest.CaptureFixture[str]):
    code, out, _ = run_dfw("doctor", capsys=capsys)
    assert code == 0, out
    assert all(
        word in out for word in ("python", "torch", "warp", "nerfacc", "cache", "dreamfw", "all that dfw requires is here")
    )


def test_a_crash_shows_its_traceback_and_is_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = """
    import click
    from dfw import hookimpl

    @hookimpl
    def dfw_register_commands(cli):
        cli.add_command(click.Command("x", callback=lambda: 1 / 0))
    """
    site = tmp_path / "site"
    write_package(site, "acme-x", "0.3", "[dfw]\nx = acme_x\n", {"acme_x": source})
    with on_path(site):
        code, _, err = run_dfw("x", capsys=capsys)
    assert code == 1
    assert "Traceback" in err
    assert "ZeroDivisionError" in err


def test_a_run_is_made_resumed_and_never_overwritten(capsys: pytest.CaptureFixture[str]):
    assert run_dfw("run", "tiny.yaml", capsys=capsys)[0] == 0
    assert run_dfw("run", "tiny.yaml", capsys=capsys)[0] == 0
    first, second = sorted(Path("runs/tiny").iterdir())
    for path in (first, second):
        assert json.loads((path / "status.json").read_text())["status"] == "finished"
        assert load_config(path / "resolved.yaml").prompt == "a red square"
    assert json.loads((first / "manifest.json").read_text())["components"]["geometry"]["name"] == "dreamfw/image"
    code, _, err = run_dfw("run", "--resume", str(first), capsys=capsys)
    assert code == 2
    assert "already finished" in err
    assert run_dfw("config", "diff", str(first), str(second), capsys=capsys)[:2] == (0, "")


def test_ctrl_c_while_a_resume_loads_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    run = tmp_path / "run"
    run.mkdir()
    (run / "resolved.yaml").write_text("name: x\n")

    def pressed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dfw.runs.runner.RunDirectory.open", pressed)
    code, _, err = run_dfw("run", "--resume", str(run), capsys=capsys)
    assert (code, err.splitlines()[-1]) == (130, f"interrupted; to continue: dfw run --resume {run}")


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_checkpoints_and_exits_130_and_the_run_can_be_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    command = [sys.executable, "-m", "dfw", "run", "tiny.yaml", "trainer.steps=100000", "trainer.checkpoint_every=100000"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        deadline = time.monotonic() + 120
        while not any(path.stat().st_size for path in tmp_path.glob("runs/tiny/*/metrics.jsonl")):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline, "no step was taken"
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, out
    assert "Traceback" not in out
    (run,) = Path("runs/tiny").iterdir()
    status = json.loads((run / "status.json").read_text())
    assert status["status"] == "interrupted"
    assert list((run / "checkpoints").iterdir())
    resolved = run / "resolved.yaml"
    resolved.write_text(resolved.read_text().replace("steps: 100000", f"steps: {status['step'] + 2}"))
    assert run_dfw("run", "--resume", str(run), capsys=capsys)[0] == 0
    assert json.loads((run / "status.json").read_text())["status"] == "finished"
