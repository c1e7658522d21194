"""What is said about a prompt before a model loads, by every verb that checks a configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import fresh_plugins, run_dfw
from hostile_site import one_error

ELSEWHERE = "(about an hour on a CPU, downloads 1.8 GB once), or dreamfusion-sd on a GPU with 6 GB"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fresh_plugins()


def said(verb: list[str], *overrides: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code, out, err = run_dfw(*verb, "dreamfusion", *overrides, capsys=capsys)
    assert not Path("runs").exists()
    return code, out, err


@pytest.mark.parametrize("verb", [["run", "--dry-run"], ["run"], ["config", "validate"], ["config", "show"], ["sample"]])
def test_every_verb_refuses_a_prompt_that_the_model_cannot_read(verb: list[str], capsys: pytest.CaptureFixture[str]):
    code, out, err = said(verb, "prompt=a dragon", capsys=capsys)
    assert (code, out) == (2, "")
    assert one_error(err).startswith(
        "error: override 'prompt=a dragon': prompt: this model does not know 'dragon'. It makes a cube, "
    )
    assert one_error(err).endswith(ELSEWHERE)
    assert len(err) < 600


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a couch", "this model does not know 'couch' (the nearest is 'sofa'). For any other prompt"),
        ("a bunny on an automobile", "'bunny' (the nearest is 'duck'), 'automobile' (the nearest is 'car'). For any"),
        ("a crimson mushrom", "'crimson' (the nearest is 'red'), 'mushrom' (did you mean 'mushroom'?). For"),
        ("a blue coche of doom", "does not know 'coche', 'doom', 'of'. It makes a cube, "),
        ("DSLR photo of a corgi, highly detailed", "'dslr', 'photo', 'corgi', 'highly' and 2 words more. It makes"),
        ("a red mushroom in the style of rad", "'style', 'in', 'the', 'of' and 1 word more. It"),
        ("a rad car", "does not know 'rad' (did you mean 'red'?). For"),
        ("红色蘑菇", "this model does not know '红色蘑菇'. It makes"),
        ("🍄", "this prompt has no words. It makes a cube, "),
        ("!!!", "this prompt has no words. It makes"),
        ("   ", "this prompt has no words. It makes"),
        ("a red", "this prompt names nothing that this model can make. It makes"),
    ],
)
def test_what_to_write_instead(prompt: str, expected: str, capsys: pytest.CaptureFixture[str]):
    code, _, err = said(["config", "validate"], f"prompt={prompt}", capsys=capsys)
    assert code == 2
    assert expected in one_error(err)


def test_a_word_of_the_negative_prompt_is_blamed_on_it(capsys: pytest.CaptureFixture[str]):
    Path("x.yaml").write_text("extends: dreamfusion\nseed: 1\nnegative_prompt: ugly, a chair\n")
    code, _, err = run_dfw("run", "x.yaml", "--dry-run", capsys=capsys)
    assert code == 2
    assert one_error(err).startswith("error: x.yaml:3: negative_prompt: this model does not know 'ugly'.")


@pytest.mark.parametrize(
    ("prompt", "remark"),
    [
        ("a chair", 'no colour named; this model learned things with one, and others come out dark: prompt="a brown chair"'),
        ("a red 🍄 car!", "this model reads words only, so 🍄 ! changes nothing"),
    ],
)
def test_a_remark_stops_nothing(prompt: str, remark: str, capsys: pytest.CaptureFixture[str]):
    code, out, err = said(["run", "--dry-run"], f"prompt={prompt}", capsys=capsys)
    assert (code, err) == (0, f"WARNING: override 'prompt={prompt}': prompt: {remark}\n")
    assert "guidance:" in out


@pytest.mark.parametrize("prompt", ["a blue car", "A blue Car, front view", "a red ball on a blue cube"])
def test_nothing_is_said_about_what_it_was_taught(prompt: str, capsys: pytest.CaptureFixture[str]):
    assert said(["config", "validate"], f"prompt={prompt}", capsys=capsys)[::2] == (0, "")


def test_a_model_from_a_hub_takes_any_words(capsys: pytest.CaptureFixture[str]):
    assert said(["config", "validate"], "prompt=🍄 of doom", "guidance.model=sd15", capsys=capsys)[::2] == (0, "")


def test_a_guidance_with_prompts_of_its_own(capsys: pytest.CaptureFixture[str]):
    code, _, err = run_dfw("config", "validate", "gaussian-2d", "prompt=a con", capsys=capsys)
    assert code == 2
    assert (
        one_error(err)
        == "error: override 'prompt=a con': prompt: no mean for 'a con'; known: a coin, a sky. Add it to guidance.means"
    )
