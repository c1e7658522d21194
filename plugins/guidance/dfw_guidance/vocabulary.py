"""The words that a small model knows, from the `vocabulary.json` in its folder. Imports no torch."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dfw import PromptError
from dfw_guidance.aliases import candidates

_WORD = re.compile(r"[^\W_]+(?:[-'][^\W_]+)*")
_SIGN = re.compile(r"[^\w\s,.'-]|_")

ALIKE = 0.75  # "mushrom" and "mushroom" are 0.93 alike; "of" and "sofa", or "coche" and "cone", only 0.67
"""How alike two spellings are, from 0 to 1, for one to be suggested for the other."""
NAMED = 4
"""Unknown words that a message names."""

ELSEWHERE = (
    'For any other prompt: dfw run dreamfusion-laptop prompt="..." (about an hour on a CPU, downloads 1.8 GB once), '
    "or dreamfusion-sd on a GPU with 6 GB"
)
"""Where a prompt goes that a small model cannot read."""


@dataclass(frozen=True)
class Vocabulary:
    """The words that a model was trained on, and the groups that a message lists."""

    words: frozenset[str]
    """All words."""
    kinds: tuple[str, ...]
    """Kinds of object."""
    colours: tuple[str, ...]
    """Colours."""
    near: Mapping[str, str]
    """Word that it does not know -> a kind or colour of about that meaning."""

    @staticmethod
    def read(folder: Path) -> Vocabulary | None:
        """Reads the vocabulary of the model in `folder`. Returns None if the model ships no vocabulary and accepts any words."""
        path = folder / "vocabulary.json"
        if not path.is_file():
            return None
        table = json.loads(path.read_text(encoding="utf-8"))
        kinds, colours = tuple(table["kinds"]), tuple(table["colours"])
        words = {part.lower() for text in (*table["words"], *kinds, *colours) for part in _WORD.findall(text)}
        near = {word: known for known, others in table.get("near", {}).items() for word in others}
        return Vocabulary(frozenset(words), kinds, colours, near)

    @staticmethod
    def of(model: str, family: str) -> Vocabulary | None:
        """Reads the vocabulary of a model that is on this machine. None for models from a hub, which accept any words."""
        folders = [Path(place) for place in candidates(model, family) if Path(place).is_dir()]
        return Vocabulary.read(folders[0]) if folders else None

    def check(self, texts: Sequence[str]) -> None:
        """Raises PromptError if `texts` have unknown words. The message says what to write instead, and where others go."""
        used = dict.fromkeys(word.lower() for text in texts for word in _WORD.findall(text))
        unknown = sorted((word for word in used if word not in self.words), key=lambda word: len(word) < 4)  # "of", "the" last
        if not unknown:
            return
        instead = {word: self._instead(word) for word in unknown}
        listed = ", ".join(f"{word!r}{instead[word]}" for word in unknown[:NAMED])
        left = len(unknown) - NAMED
        more = f" and {left} word{'s' * (left > 1)} more" if left > 0 else ""
        raise PromptError(f"this model does not know {listed}{more}. {'' if all(instead.values()) else self._known()}{ELSEWHERE}")

    def check_prompt(self, prompt: str) -> list[str]:
        """Returns remarks on a prompt: signs that are not read, no colour. Raises PromptError if it names nothing it knows."""
        self.check([prompt])
        words = [word.lower() for word in _WORD.findall(prompt)]
        if not {*words} & {*self.kinds}:
            said = "this prompt names nothing that this model can make" if words else "this prompt has no words"
            raise PromptError(f"{said}. {self._known()}{ELSEWHERE}")
        remarks = []
        signs = dict.fromkeys(_SIGN.findall(prompt))
        if signs:
            remarks.append(f"this model reads words only, so {' '.join(signs)} changes nothing")
        if self.colours and not {*words} & {*self.colours}:
            kind = next(word for word in words if word in self.kinds)
            example = f'prompt="a {self.colours[-1]} {kind}"'
            remarks.append(f"no colour named; this model learned things with one, and others come out dark: {example}")
        return remarks

    def _instead(self, word: str) -> str:
        """Returns what to write for an unknown word, by its meaning or else by its spelling; "" where nothing is near."""
        if word in self.near:
            return f" (the nearest is {self.near[word]!r})"
        close = difflib.get_close_matches(word, [*self.kinds, *self.colours], n=1, cutoff=ALIKE)
        if not close and len(word) > 2:  # of three letters only two need to agree: "rad" is 0.67 like "red"
            alike = [colour for colour in self.colours if colour[0] == word[0]]
            close = difflib.get_close_matches(word, alike, n=1, cutoff=0.6)
        return f" (did you mean {close[0]!r}?)" if close else ""

    def _known(self) -> str:
        colours = f" in {', '.join(self.colours[:2])} and other plain colours" if len(self.colours) > 1 else ""
        example = f': prompt="a {self.colours[0]} {self.kinds[-1]}"' if self.colours and self.kinds else ""
        return f"It makes a {', '.join(self.kinds)}{colours}{example}. "
