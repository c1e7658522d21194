"""References between fields of a configuration: what they become, and what they cannot do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from base_config import BASE

from dfw.config.load import load_config, to_yaml
from dfw.config.paths import Written
from dfw.config.references import MOST, ReferenceError, escape, resolve
from dfw.errors import ConfigError


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ({"a": "${b.c}", "b": {"c": 3}}, {"a": 3, "b": {"c": 3}}),
        ({"a": "${b}", "b": {"c": [1, "${d}"]}, "d": None}, {"a": {"c": [1, None]}, "b": {"c": [1, None]}, "d": None}),
        ({"a": "${b.1}", "b": [1, 2]}, {"a": 2, "b": [1, 2]}),
        ({"a": "${b.c}", "b": "${d}", "d": {"c": 3}}, {"a": 3, "b": {"c": 3}, "d": {"c": 3}}),
        ({"a": "<${b}-${c}|${d}>", "b": 1, "c": "x", "d": True}, {"a": "<1-x|True>", "b": 1, "c": "x", "d": True}),
        ({"a": "\\${b}", "b": "\\\\${c}", "c": 1}, {"a": "${b}", "b": "\\1", "c": 1}),
        ({"a": "$b $ {b} $}"}, {"a": "$b $ {b} $}"}),
    ],
)
def test_what_references_become(tree: dict[str, Any], expected: dict[str, Any]):
    assert resolve(tree) == expected


@pytest.mark.parametrize("text", ["${", "${a}", "\\${a}", "\\\\${a}", "${oc.env:HOME}", "$\\{", "a${b}\\", "\\"])
def test_escaped_text_comes_back(text: str):
    assert resolve(escape({"x": [text, {"y": text}]})) == {"x": [text, {"y": text}]}


@pytest.mark.parametrize(
    ("tree", "path", "problem"),
    [
        ({"a": "${b}", "b": "${a}"}, ("a",), "go in a circle: b -> a -> b"),
        ({"a": {"b": "${a}"}}, ("a", "b"), "go in a circle: a -> a"),
        ({"a": ["x${c.d}"], "c": 1}, ("a", "0"), "${c.d} names a field that does not exist"),
        ({"a": "x${b}", "b": [1]}, ("a",), "${b} is not text or a number, so it cannot stand inside text"),
        ({"a": "${"}, ("a",), "${ names no field"),
        ({"a": "${b", "b": 1}, ("a",), "${b names no field"),
        ({"a": "${..b}"}, ("a",), "${..b} names no field"),
        ({"a": "${b c}"}, ("a",), "${b c} names no field"),
        ({"a": "${oc.env:HOME}"}, ("a",), "${oc.env:HOME} is not read: a configuration calls nothing and sees no variable"),
        ({"a": "${oc.decode:'['}"}, ("a",), "${oc.decode:'['} is not read"),
        ({"a": "${" + "b" * 5000}, ("a",), "${bbb"),
        ({"a": "${b}", "b": "???"}, (), "a reference cannot be followed"),
    ],
)
def test_what_they_cannot_do(tree: dict[str, Any], path: tuple[str, ...], problem: str):
    with pytest.raises(ReferenceError) as caught:
        resolve(tree)
    assert caught.value.path == path
    assert problem in str(caught.value)
    assert len(str(caught.value)) < 400


def test_they_cannot_multiply_without_end():
    tree = {"a": "${b}" * 20, "b": "${c}" * 40, "c": "x" * 20_000}
    with pytest.raises(ReferenceError, match=f"multiply to more than {MOST:,} values"):
        resolve(tree)
    with pytest.raises(ReferenceError, match="multiply"):
        resolve({f"a{i}": [f"${{a{i + 1}}}"] * 10 for i in range(7)} | {"a7": 1})


def test_text_around_a_reference_stays_relative_to_its_file():
    written = Written.within({"a": "${b}/c", "b": "d"}, Path("/folder"))
    found = resolve(written | {"b": "d"})["a"]
    assert (found, found.folder) == ("d/c", Path("/folder"))


@pytest.mark.parametrize("field", ["prompt", "negative_prompt", "output"])
def test_no_variable_of_the_environment_gets_into_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DFW_SECRET", "s3cr3t")
    Path("base.yaml").write_text(BASE)
    for text in ("${oc.env:DFW_SECRET}", "$DFW_SECRET", "${DFW_SECRET}", "x-${oc.env:DFW_SECRET}"):
        try:
            written = to_yaml(load_config("base.yaml", [f"{field}={text}"]))
        except ConfigError as error:
            written = str(error)
        assert "s3cr3t" not in written
