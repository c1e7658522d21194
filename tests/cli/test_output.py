"""What reaches a terminal, a file or a pipe, in any encoding; and settings that somebody wrote as options."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import fresh_plugins, run_dfw

from dfw.cli.config import differences
from dfw.cli.main import main
from dfw.cli.settings_options import as_setting
from dfw.text import bounded, printable, shortened

ESCAPE = "\x1b]0;owned\x07\x1b[2J"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fresh_plugins()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a 红 é🍄\n\tb", "a 红 é🍄\n\tb"), ("\x1b[2J\x9b\u202e\x00\r", "\\x1b[2J\\x9b\\u202e\\x00\\r"), ("\udcff", "\\udcff")],
)
def test_what_a_terminal_would_obey_is_an_escape(text: str, expected: str):
    assert printable(text) == expected


def test_long_texts_are_cut():
    assert shortened("x" * 80) == "x" * 80
    assert (len(shortened("x" * 5000)), shortened("abc" * 100, 20)) == (80, "abcabcabca ... bcabc"[:10] + " ... bcabc")
    assert bounded("\n".join(map(str, range(20))), lines=3) == "0\n1\n2\n... and 17 more"
    assert len(bounded("x" * 10_000_000)) == 600


@pytest.mark.parametrize(
    "arguments",
    [
        ["config", "show", "gaussian-2d", f"negative_prompt=a coin,{ESCAPE}"],
        ["config", "validate", f"{ESCAPE}.yaml"],
        ["config", "validate", ESCAPE],
        ["config", "validate", "gaussian-2d", f"{ESCAPE}=1"],
        ["config", "validate", "gaussian-2d", f"--{ESCAPE}"],
        ["config", "validate", "gaussian-2d", "--plugin", f"{ESCAPE}.py"],
        ["config", "validate", "keys.yaml"],
        ["config", "diff", "gaussian-2d", "other.yaml"],
        ["plugins", "info", ESCAPE],
        ["export", ESCAPE],
    ],
)
def test_no_verb_prints_a_control_character(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    Path("keys.yaml").write_text(f'extends: gaussian-2d\n"{ESCAPE.encode("unicode_escape").decode()}": 1\n')
    Path("other.yaml").write_text(
        f'extends: gaussian-2d\nname: x\nnegative_prompt: "a coin,{ESCAPE.encode("unicode_escape").decode()}"\n'
    )
    _, out, err = run_dfw(*arguments, capsys=capsys)
    assert "owned" in out + err
    assert all(one.isprintable() or one in "\n\t" for one in out + err)


def test_nor_does_a_warning(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    from dfw.cli import main

    monkeypatch.setattr(main.cli, "main", lambda *_, **__: logging.getLogger("dfw.x").warning("a %s", ESCAPE))
    main.main([])
    assert capsys.readouterr().err == "WARNING: a \\x1b]0;owned\\x07\\x1b[2J\n"


def run_as_user(*arguments: str, out: str = "out.txt", **environment: str) -> tuple[int, str, str]:
    with open(out, "w") as file:
        ended = subprocess.run(
            [sys.executable, "-m", "dfw", *arguments],
            stdout=file,
            stderr=subprocess.PIPE,
            env=os.environ | environment,
            timeout=300,
            check=False,
        )
    return ended.returncode, Path(out).read_bytes().decode("latin-1") if out == "out.txt" else "", ended.stderr.decode("latin-1")


def test_a_full_disk_is_a_sentence():
    code, _, err = run_as_user("config", "show", "gaussian-2d", out="/dev/full")
    assert (code, err) == (2, "error: cannot write the output: No space left on device; make room, or write it elsewhere\n")
    assert run_as_user("--help", out="/dev/full")[0] == 2


def test_no_output_at_all_is_no_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdout", None)
    assert main(["config", "show", "gaussian-2d"]) == 0


def test_an_encoding_that_lacks_a_character_gets_an_escape():
    code, out, err = run_as_user("config", "show", "gaussian-2d", "name=x", "prompt=a coin, ün🍄", PYTHONIOENCODING="cp1252")
    assert (code, err) == (0, "")
    assert "prompt: a coin, \xfcn\\U0001f344" in out
    code, _, err = run_as_user("config", "validate", "ün🍄", PYTHONIOENCODING="ascii")
    assert (code, "error: no configuration named '" in err, "Traceback" in err) == (2, True, False)


def test_colours_asked_for_by_the_environment_do_not_spoil_a_file():
    code, out, err = run_as_user("config", "validate", "gaussian-2d", FORCE_COLOR="1", LC_ALL="C")
    assert (code, err) == (0, "")
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("option", "arguments", "setting"),
    [
        ("--prompt", ["--prompt", "a car"], "prompt='a car'"),
        ("--seed", ["x", "--seed=3"], "seed=3"),
        ("--steps", ["--steps", "9"], "trainer.steps=9"),
        ("--keep-checkpoints", ["--keep-checkpoints"], "trainer.keep_checkpoints=..."),
        ("--trainer.steps", ["--trainer.steps", "9"], "trainer.steps=9"),
        ("--guidance.model", ["--guidance.model", "sd15"], "guidance.model=sd15"),
    ],
)
def test_an_option_that_is_a_setting(option: str, arguments: list[str], setting: str):
    assert as_setting(option, arguments) == f" Settings are written without dashes: {setting}"


def test_other_options_are_not_settings(capsys: pytest.CaptureFixture[str]):
    assert as_setting("--nope", ["--nope"]) == ""
    assert "without dashes" not in run_dfw("doctor", "--seed", "3", capsys=capsys)[2]
    assert "Settings are written without dashes: seed=3" in run_dfw("run", "dreamfusion", "--seed", "3", capsys=capsys)[2]


def test_a_prompt_without_its_key(capsys: pytest.CaptureFixture[str]):
    _, _, err = run_dfw("run", "dreamfusion", "a blue car", capsys=capsys)
    assert err == "error: override 'a blue car': write key=value; for a prompt, prompt=\"a blue car\"\n"
    _, _, err = run_dfw("run", "a blue car", capsys=capsys)
    assert (
        err == "error: no configuration named 'a blue car'; if it is a prompt, write dfw run dreamfusion prompt=\"a blue car\"\n"
    )


def test_a_run_directory_is_not_a_configuration(capsys: pytest.CaptureFixture[str]):
    Path("old").mkdir()
    Path("old/resolved.yaml").write_text("name: x\n")
    code, _, err = run_dfw("run", "old", capsys=capsys)
    assert (code, err) == (
        2,
        "error: old is a run; continue it with --resume old, or make another like it with old/resolved.yaml\n",
    )


def test_an_option_of_export_is_blamed_and_not_the_run(capsys: pytest.CaptureFixture[str]):
    Path("old").mkdir()
    _, out, _ = run_dfw("config", "show", "gaussian-2d", capsys=capsys)
    Path("old/resolved.yaml").write_text(out)
    for option, value, expected in (
        ("--formats", "stlx", "no exporter named 'stlx'"),
        ("--faces", "few", "export.faces: must be"),
    ):
        code, _, err = run_dfw("export", "old", option, value, capsys=capsys)
        assert code in (2, 3)
        assert err.startswith(f"error: {option} {value}: ")
        assert expected in err


def test_a_number_that_becomes_a_ramp_is_one_difference():
    before = {"a": {"weight": 1.0, "x": None}, "b": {"c": 1}}
    after = {"a": {"weight": {"from": 1, "to": 2}, "x": {"y": 3}}, "d": {}}
    assert list(differences(before, after)) == [
        ("a.weight", "1.0", '{"from": 1, "to": 2}'),
        ("a.x.y", "(none)", "3"),
        ("b.c", "1", "(none)"),
        ("d", "(none)", "{}"),
    ]
    assert list(differences(after, after)) == []
