"""The reader and the writer of YAML: what plain words mean, what is refused, and that text comes back as it was."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yaml_words import AMBIGUOUS

from dfw.config.yaml_text import DEEPEST, LARGEST, YamlError, read_yaml, write_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[
            (word, word)
            for word in ("on", "yes", "No", "y", "1:30", "0x1f", "0o17", "0b1", "2001-01-01", "=", "1_000", "1e", ".")
        ],
        *[("true", True), ("False", False), ("null", None), ("~", None), ("", None)],
        *[("7", 7), ("-0", 0), ("0123", 123), ("+5", 5), ("1e-3", 0.001), (".5", 0.5), ("2.", 2.0), ("1E3", 1000.0)],
        *[(".inf", math.inf), ("-.INF", -math.inf), ("1e400", math.inf)],
        *[("'7'", "7"), ('"true"', "true"), ("!!str 7", "7"), ("!!int 7", 7), ("!!float 7", 7.0)],
        *[("[1, a: 2]", [1, {"a": 2}]), ("{1: 2, on: b, 1.50: c}", {"1": 2, "on": "b", "1.50": "c"})],
        *[("[&a {b: 1}, *a]", [{"b": 1}, {"b": 1}])],
    ],
)
def test_what_a_word_means(text: str, value: Any):
    found, _ = read_yaml(f"key: {text}")
    assert found == {"key": value}
    assert type(found["key"]) is type(value)


def test_lines_are_those_of_keys_and_items():
    _, lines = read_yaml("a: 1\nb:\n  - 1\n  - c:\n      d\n")
    assert lines == {(): 1, ("a",): 1, ("b",): 2, ("b", "0"): 3, ("b", "1"): 4, ("b", "1", "c"): 4}


@pytest.mark.parametrize(
    ("text", "problem", "line"),
    [
        ("a: 1\nb: !!set {c}", "the tag !!set means nothing", 2),
        ("a: !!bool x", "!!bool 'x' means nothing", 1),
        ("a: !!int ''", "!!int '' means nothing", 1),
        ("a: !!timestamp x", "!!timestamp 'x' means nothing", 1),
        ("a: !!python/object/apply:os.system [id]", "python/object/apply:os.system means nothing", 1),
        ("a: " + "9" * 5000, "a number of 5,000 characters", 1),
        ('a: "\\ud800"', "half of a surrogate pair", 1),
        ('a: "\\U00110000"', "chr() arg not in range", None),
        ("a: 1\n\na: 2", "found duplicate key 'a'", 3),
        ("? [a]\n: 1", "a key must be a word", 1),
        ("?\n: 1", "a key must be a word", 1),
        ("a: &a {b: 1}\nc: {<<: *a}", "merge keys (<<) are not read", 2),
        ("a: &a [*a]", f"nested more than {DEEPEST} deep", 1),
        ("a: " + "[" * 900 + "]" * 900, f"nested more than {DEEPEST} deep", 1),
        ("a: " + "{a: " * 100_000, f"nested more than {DEEPEST} deep", 1),
        ("a: 1\n--- \nb: 2", "but found another document", 2),
        ("a: *b", "found undefined alias", 1),
        ("# " + "x" * LARGEST, "more than 500,000 characters", None),
    ],
)
def test_what_is_refused(text: str, problem: str, line: int | None):
    with pytest.raises(YamlError) as caught:
        read_yaml(text)
    assert problem in str(caught.value)
    assert caught.value.line == line
    assert len(str(caught.value)) <= 200


def test_aliases_cannot_multiply_without_end():
    laughs = "a0: &a0 [lol, lol]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9))
    with pytest.raises(YamlError, match="more than 100,000 values"):
        read_yaml(laughs)


@pytest.mark.parametrize("text", AMBIGUOUS)
def test_ambiguous_text_comes_back_as_text(text: str):
    tree = {"a": text, "b": [text, {text: text}]}
    written = write_yaml(tree)
    assert read_yaml(written)[0] == tree
    assert all(one.isprintable() or one == "\n" for one in written)


TEXT = st.text(st.characters(exclude_categories=("Cs",))) | st.sampled_from(AMBIGUOUS)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT


@settings(deadline=None, derandomize=True, max_examples=150)
@given(st.dictionaries(TEXT, LEAVES))
def test_any_value_comes_back(tree: dict[str, Any]):
    assert read_yaml(write_yaml(tree))[0] == tree


def test_a_reader_of_yaml_1_1_takes_the_same_texts_for_text():
    """Editors and other tools read a run's files too."""
    yaml = pytest.importorskip("yaml")
    words = ["on", "yes", "1:30", "0x1f", "0123", "2001-12-14", "1_000", "=", "1e-3"]
    assert yaml.safe_load(write_yaml({"a": words})) == {"a": words}
