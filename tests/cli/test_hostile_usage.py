"""What people write wrongly around plugins, and metadata that nobody can read: one sentence, one exit code, or one warning."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fake_packages import LOSS, write_package
from hostile_site import dfw, one_error

from dfw.compose import compose
from dfw.config.load import load_config
from dfw.errors import ConfigError
from dfw.plugins.discovery import useless_blocks
from dfw.plugins.registry import Registry
from dfw.plugins.requirements import check_requirements

LISTENER = "from dfw import hookimpl\n@hookimpl\ndef dfw_step_ended(step): ...\n"


@pytest.fixture(autouse=True)
def blocks(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DFW_BLOCK_PLUGINS", "")  # `--block` writes to the environment; this brings it back afterwards


@pytest.mark.parametrize("place", ["folder", "missing.py", "notes.txt"])
def test_what_is_no_python_file_is_one_sentence(place: str, capsys: pytest.CaptureFixture[str]):
    Path("folder").mkdir()
    Path("notes.txt").write_text("x")
    code, _, err = dfw("config", "validate", "tiny.yaml", "--plugin", place, capsys=capsys)
    path = Path(place).resolve()
    assert (code, err) == (3, f"error: --plugin {path}: no such Python file; give the path of a .py file\n")


def test_a_check_of_a_listener_says_what_looks_at_listeners(site: Path, capsys: pytest.CaptureFixture[str]):
    points = "[dfw]\nlog = acme_log\n[dfw.loss]\nlog = acme_glow:Log\n"
    write_package(site, "acme", "0.3", "[dfw]\nlog = acme_log\n", {"acme_log": LISTENER})
    for name in ("log", "acme/log"):
        code, _, err = dfw("plugins", "check", name, capsys=capsys)
        assert code == 3
        assert one_error(err).startswith(
            f"error: '{name}' is a listener, and the kits check components; dfw plugins check, without"
        )
        assert f"dfw plugins info {name} " in err
    write_package(site, "acme-glow", "0.1", points.split("[dfw.loss]")[1].join(["[dfw.loss]", ""]))
    (site / "acme_glow.py").write_text(LOSS.format(name="Log").replace("= 1.0", '= 1.0\n        "Factor."'))
    code, out, _ = dfw("plugins", "check", "log", capsys=capsys)  # a component of that name is what is meant
    assert (code, out.splitlines()[0]) == (0, "loss acme-glow/log 0.1 (acme_glow:Log)")


@pytest.mark.parametrize("device", ["banana", "meta", *([] if torch.cuda.is_available() else ["cuda"]), "cuda:99"])
def test_a_check_on_a_device_that_is_not_there(device: str, capsys: pytest.CaptureFixture[str]):
    code, out, err = dfw("plugins", "check", "opacity", "--device", device, capsys=capsys)
    assert (code, out) == (2, "")
    assert one_error(err).startswith(f"error: --device {device}: not usable here (")
    assert err.endswith("; write cpu, or a device that dfw doctor lists\n")
    assert err.count("\n") == 1
    assert len(err) < 400


@pytest.mark.parametrize("prompts", [("x",), ("x", "y")])
def test_a_prompt_for_what_reads_none_is_refused(prompts: tuple[str, ...], capsys: pytest.CaptureFixture[str]):
    options = [word for prompt in prompts for word in ("--prompt", prompt)]
    code, out, err = dfw("plugins", "check", "dreamfw/opacity", *options, capsys=capsys)
    assert (code, out) == (2, "")
    assert one_error(err).startswith("error: --prompt is for guidance, and dreamfw/opacity ")
    assert err.endswith(" is a loss; leave it out\n")


@pytest.mark.parametrize("options", [["--prompt", "x"], ["--device", "cuda"], ["--set", "a=1"], ["--kind", "loss"]])
def test_options_of_one_component_need_its_name(options: list[str], capsys: pytest.CaptureFixture[str]):
    code, out, err = dfw("plugins", "check", *options, capsys=capsys)
    assert (code, out) == (2, "")
    assert "NAME" in err


@pytest.mark.parametrize("text", ["acme-x@0.5", "acme-x @ 0.5", "acme-x@ 0.5"])
def test_a_version_written_as_an_address_is_refused(site: Path, text: str, capsys: pytest.CaptureFixture[str]):
    write_package(site, "acme-x", "0.3", "[dfw.loss]\nx = acme_x:X\n")
    Path("pinned.yaml").write_text(f"extends: tiny.yaml\nplugins: ['{text}']\n")
    code, _, err = dfw("run", "pinned.yaml", capsys=capsys)
    assert code == 2
    assert err == f'error: pinned.yaml:2: plugins: {text!r} asks for an address, not for a version; write "acme-x==0.5"\n'
    assert not Path("runs").exists()


def test_requirements_that_are_right_or_wrong_in_another_way_are_left_to_others():
    check_requirements(["dreamfw", "dreamfw>=0.1", "dreamfw @ https://example.org/dreamfw-0.1.0-py3-none-any.whl"])
    with pytest.raises(ConfigError, match="'acme@1' asks for an address"):
        check_requirements(["dreamfw>=0.1", "acme@1"], "x.yaml:1: plugins")
    with pytest.raises(ConfigError, match=r"'acme >> 1' is not a requirement \(.*[Ee]xpected .*\); write"):
        check_requirements(["acme >> 1"])
    config = load_config("tiny.yaml").model_copy(update={"plugins": ("acme@1",)})
    with pytest.raises(ConfigError, match=r"^plugins: 'acme@1' asks for an address"):
        compose(config, Registry.discover())


WARNED = "WARNING: --block or DFW_BLOCK_PLUGINS: no distribution 'acme-lss' with plugins is installed; "


@pytest.mark.parametrize("arguments", [("config", "validate", "tiny.yaml"), ("plugins", "list"), ("plugins", "info", "opacity")])
def test_a_block_of_nothing_is_told_once_with_the_nearest_name(
    site: Path, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    write_package(site, "acme-loss", "0.3", "[dfw.loss]\nx = acme_x:X\n")
    monkeypatch.setenv("DFW_BLOCK_PLUGINS", "acme_lss")
    code, _, err = dfw(*arguments, capsys=capsys)
    assert (code, err) == (0, f"{WARNED}did you mean 'acme-loss'?\n")
    monkeypatch.setenv("DFW_BLOCK_PLUGINS", "")
    if arguments[1] != "list":
        code, _, err = dfw(*arguments, "--block", "Acme.Loss", "--block", "acme-lss", capsys=capsys)
        assert (code, err) == (0, f"{WARNED}did you mean 'acme-loss'?\n")
    monkeypatch.setenv("DFW_BLOCK_PLUGINS", "acme-loss")
    assert dfw(*arguments, capsys=capsys)[2] == ""


def test_a_sentence_about_a_block_is_printable(monkeypatch: pytest.MonkeyPatch):
    """Not only on dfw's own terminal: pytest-xdist, for one, cannot send a log line that is not UTF-8."""
    monkeypatch.setenv("DFW_BLOCK_PLUGINS", "\x1b[2J\udcff")
    (sentence,) = useless_blocks()
    assert sentence.isprintable(), ascii(sentence)


def test_a_block_that_is_like_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DFW_BLOCK_PLUGINS", "acme-lss")
    assert dfw("plugins", "list", capsys=capsys)[2] == f"{WARNED}dfw plugins list shows all\n"


def test_a_distribution_without_a_version_is_a_problem(site: Path, capsys: pytest.CaptureFixture[str]):
    write_package(site, "acme-nover", "1", "[dfw.loss]\nx = acme_x:X\n", metadata="Metadata-Version: 2.1\nName: acme-nover\n")
    code, out, _ = dfw("plugins", "list", capsys=capsys)
    assert code == 0
    (line,) = [line for line in out.splitlines() if "nover" in line]
    place = site / "acme_nover-1.dist-info" / "METADATA"
    assert line == (
        f"problem: acme-nover of unknown version: metadata: has no Version; correct {place}, or install acme-nover again"
    )
    assert dfw("run", "tiny.yaml", capsys=capsys)[0] == 0


UNREADABLE = {"line": b"[dfw.loss]\nfoo\n", "bytes": b"[dfw.loss]\nq\xff\xfe = a:b\n", "other": b"[console_scripts]\nfoo\n"}


@pytest.mark.parametrize("fault", UNREADABLE)
def test_entry_points_that_stop_other_libraries_are_named(site: Path, fault: str):
    write_package(site, "acme-odd", "0.3", "")
    place = site / "acme_odd-0.3.dist-info" / "entry_points.txt"
    place.write_bytes(UNREADABLE[fault])

    def run(*arguments: str) -> tuple[int, str, str]:
        environment = os.environ | {"PYTHONPATH": str(site)}
        done = subprocess.run(
            [sys.executable, "-m", "dfw", *arguments], env=environment, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout, done.stderr

    code, _, err = run("run", "tiny.yaml")
    assert code == 3
    text = one_error(err)
    assert text.startswith(f"error: {place}: cannot be read (")
    assert text.endswith("; correct it, or delete its folder and install that package again")
    code, out, err = run("plugins", "list")
    assert (code, err) == (0, "")
    assert ("problem: " in out) == (fault != "other")
    code, out, err = run("doctor")
    assert code == 3
    assert f"MISSING  {place}: cannot be read (" in out


def test_a_loss_that_rests_in_a_run_can_be_checked_with_its_options(site: Path, capsys: pytest.CaptureFixture[str]):
    Path("rest.yaml").write_text("extends: tiny.yaml\nlosses: {entropy: {type: dreamfw/entropy, weight: 0}}\n")
    code, out, err = dfw("plugins", "check", "dreamfw/entropy", "--config", "rest.yaml", capsys=capsys)
    assert (code, err) == (0, ""), out
    assert out.startswith("loss dreamfw/entropy")
