"""The words of a sweep, by tables of what they mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from dfw.errors import ConfigError
from dfw.studies.axes import Axis, axis, combinations


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("seed=0..2", ["0", "1", "2"]),
        ("seed=-1..1", ["-1", "0", "1"]),
        ("seed=3..3", ["3"]),
        ("seed=0..1,7,9", ["0", "1", "7", "9"]),
        ("losses.sds.guidance_scale=7.5,30,100", ["7.5", "30", "100"]),
        ("seed=1,1,2", ["1", "2"]),
        ("prompt=a red duck,a blue car", ["a red duck", "a blue car"]),
        ("prompt=a car, blue and shiny", ["a car, blue and shiny"]),
        ("prompt=a baker's dozen,a duck", ["a baker's dozen", "a duck"]),
        ("prompt='a,b',c", ["'a,b'", "c"]),
        ('prompt="a,b"', ['"a,b"']),
        ("cameras.elevation=[-10,45],[0,30]", ["[-10,45]", "[0,30]"]),
        ("renderer.background={type: solid,color: [0,0,0]}", ["{type: solid,color: [0,0,0]}"]),
        ("name=", [""]),
        ("prompt=a=b,c", ["a=b", "c"]),
        ("trainer.steps=1..", ["1.."]),
    ],
)
def test_the_values_of_an_axis(text: str, values: list[str]) -> None:
    assert axis(text) == Axis(text.partition("=")[0], tuple(values))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a red duck", "write key=value"),
        ("=3", "write key=value"),
        ("seed=2..0", "a range goes up"),
        ("seed=0..1000000000000", "a range goes up, to at most 100000 numbers"),
        ("seed=0..999999", "at most 100000 numbers"),
        ("seed=1,,2", "one of its values is empty"),
        ("prompt=@nowhere.txt", "cannot read nowhere.txt: No such file"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_override(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        axis(text)
    assert repr(text) in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_lines_of_a_file_and_presets(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("# a comment\na duck, yellow\n\n  a car\n", encoding="utf-8")
    (tmp_path / "windows.txt").write_bytes(b"\xef\xbb\xbfa duck\r\na car\r\n")
    assert axis(f"prompt=@{tmp_path / 'windows.txt'}").values == ("a duck", "a car")
    (tmp_path / "few.txt").write_text("a tree\n", encoding="utf-8")
    assert axis(f"prompt=@{tmp_path / 'mine.txt'}").values == ("a duck, yellow", "a car")
    assert axis("prompt=@few,a house", tmp_path).values == ("a tree", "a house")
    with pytest.raises(ConfigError, match=r"cannot read fuw: No such file or directory; .*or @few; or @mine"):
        axis("prompt=@fuw", tmp_path)
    (tmp_path / "empty.txt").write_text("# nothing\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="holds no values"):
        axis("prompt=@empty", tmp_path)
    (tmp_path / "latin.txt").write_bytes("ein Käfer".encode("latin-1"))
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        axis("prompt=@latin", tmp_path)


def test_the_last_axis_changes_fastest() -> None:
    made = combinations([axis("seed=0..1"), axis("name=x"), axis("weight=3,4")])
    assert made == [
        ("seed=0", "name=x", "weight=3"),
        ("seed=0", "name=x", "weight=4"),
        ("seed=1", "name=x", "weight=3"),
        ("seed=1", "name=x", "weight=4"),
    ]
    assert combinations([]) == [()]
