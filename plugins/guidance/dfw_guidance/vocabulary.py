"""The words a small model knows, from the `vocabulary.json` in its folder. Imports no torch."""

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
    """All `words` a model was trained on, among them those worth telling a user: `kinds` of object and `colours`."""

    words: frozenset[str]
    kinds: tuple[str, ...]
    colours: tuple[str, ...]

    @staticmethod
    def read(folder: Path) -> Vocabulary | None:
        """The vocabulary of the model in `folder`; None for models that ship none, and so accept any words."""
        path = folder / "vocabulary.json"
        if not path.is_file():
            return None
        table = json.loads(path.read_text(encoding="utf-8"))
        kinds, colours = tuple(table["kinds"]), tuple(table["colours"])
        words = {part.lower() for text in (*table["words"], *kinds, *colours) for part in _WORD.findall(text)}
        return Vocabulary(frozenset(words), kinds, colours)

    def check(self, texts: Sequence[str]) -> None:
        """Raises PromptError naming the unknown words of `texts`, what is known, and how to choose a model that knows more."""
        said = dict.fromkeys(word.lower() for text in texts for word in _WORD.findall(text))
        unknown = [word for word in said if word not in self.words]
        if not unknown:
            return
        near = {word: difflib.get_close_matches(word, sorted(self.words), n=1) for word in unknown}
        listed = ", ".join(f"{word!r} (did you mean {near[word][0]!r}?)" if near[word] else repr(word) for word in unknown)
        raise PromptError(
            f"prompt: this model does not know {listed}. It knows the objects {', '.join(self.kinds)}; "
            f"the colours {', '.join(self.colours)}; and 'on', as in 'a {self.colours[0]} {self.kinds[0]} on a "
            f"{self.colours[-1]} {self.kinds[-1]}'. For any other prompt name a real model: guidance.model=sd21"
        )
