"""What a small model's word list says of a prompt, whatever the list holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dfw import PromptError
from dfw_guidance.vocabulary import Vocabulary


def listed(tmp_path: Path, kinds: list[str], colours: list[str]) -> Vocabulary:
    (tmp_path / "vocabulary.json").write_text(json.dumps({"words": ["a"], "kinds": kinds, "colours": colours}))
    found = Vocabulary.read(tmp_path)
    assert found is not None
    return found


@pytest.mark.parametrize("colours", [[], ["red"], ["red", "blue", "green"]])
def test_a_list_of_any_length_refuses_an_unknown_word_in_a_sentence(tmp_path: Path, colours: list[str]) -> None:
    with pytest.raises(PromptError, match=r"does not know 'dragon'\. It makes a duck"):
        listed(tmp_path, ["duck"], colours).check_prompt("a dragon")


def test_a_model_without_colours_misses_none(tmp_path: Path) -> None:
    assert listed(tmp_path, ["duck"], []).check_prompt("a duck") == []
    assert "no colour named" in listed(tmp_path, ["duck"], ["red"]).check_prompt("a duck")[0]
