"""The words that a small model knows, from the `vocabulary.json` in its folder. Imports no torch."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dfw import PromptError

_WORD = re.compile(r"[^\W_]+(?:[-'][^\W_]+)*")


@dataclass(frozen=True)
class Vocabulary:
    """The words that a model was trained on, and the groups that a message lists."""

    words: frozenset[str]
    """All words."""
    kinds: tuple[str, ...]
    """Kinds of object."""
    colours: tuple[str, ...]
    """Colours."""
    solids: tuple[str, ...]
    """Kinds that can stand on one another."""

    @staticmethod
    def read(folder: Path) -> Vocabulary | None:
        """Reads the vocabulary of the model in `folder`. Returns None if the model ships no vocabulary and accepts any words."""
        path = folder / "vocabulary.json"
        if not path.is_file():
            return None
        table = json.loads(path.read_text(encoding="utf-8"))
        kinds, colours, solids = (tuple(table[key]) for key in ("kinds", "colours", "solids"))
        words = {part.lower() for text in (*table["words"], *kinds, *colours) for part in _WORD.findall(text)}
        return Vocabulary(frozenset(words), kinds, colours, solids)

    def check(self, texts: Sequence[str]) -> None:
        """Raises PromptError if `texts` have unknown words. The message lists them, the known words, and a larger model."""
        used = dict.fromkeys(word.lower() for text in texts for word in _WORD.findall(text))
        unknown = [word for word in used if word not in self.words]
        if not unknown:
            return
        near = {word: difflib.get_close_matches(word, sorted(self.words), n=1) for word in unknown}
        listed = ", ".join(f"{word!r} (did you mean {near[word][0]!r}?)" if near[word] else repr(word) for word in unknown)
        raise PromptError(
            f"prompt: this model does not know {listed}. It knows {', '.join(self.kinds)} in {', '.join(self.colours)}, as in "
            f"'a {self.colours[0]} {self.kinds[0]}', and one on another of {', '.join(self.solids)}, as in "
            f"'a {self.colours[0]} {self.solids[0]} on a {self.colours[-1]} {self.solids[-1]}'. "
            "For other prompts name a real model: guidance.model=sd21-base"
        )
