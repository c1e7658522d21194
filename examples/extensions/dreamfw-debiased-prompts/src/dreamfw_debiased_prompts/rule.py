"""Which words of a prompt contradict which view. Prompt debiasing of D-SDS (Hong et al., NeurIPS 2023). Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

Scorer = Callable[[Sequence[str]], Sequence[Mapping[str, float]]]
"""Prompts -> for each of them P(view | prompt) by the view's name."""


def contradictions(words: Sequence[str], tested: Sequence[int], score: Scorer, threshold: float) -> dict[str, set[int]]:
    """View -> the numbers of those `tested` words of a prompt that contradict it.

    A word u contradicts a view v where P(v | prompt) / P(v) < threshold. P(v) is the mean over prompts with and without the
    word, (P(v | prompt) + P(v | prompt without u)) / 2. The ratio is the exponential of the pointwise mutual information.
    """
    shorter = [" ".join([*words[:number], *words[number + 1 :]]) for number in tested]
    full, *parts = score([" ".join(words), *shorter])
    found: dict[str, set[int]] = {}
    for view, chance in full.items():
        means = [(chance + part[view]) / 2 for part in parts]
        found[view] = {number for number, mean in zip(tested, means, strict=True) if chance < threshold * mean}
    return found


def without(words: Sequence[str], dropped: set[int]) -> str:
    """The prompt without some of its words, and without a comma at its end; all of it where no word would be left."""
    kept = [word for number, word in enumerate(words) if number not in dropped]
    return " ".join(kept).rstrip(" ,;") or " ".join(words)


def plain(word: str) -> str:
    """A word as tables have it: in small letters, without punctuation around it."""
    return word.strip(".,;:!?()\"'").lower()
