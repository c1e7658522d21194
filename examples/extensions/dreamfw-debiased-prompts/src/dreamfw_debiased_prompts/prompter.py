"""A prompter around another one, whose prompt it shortens view by view."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, PositiveFloat, field_validator, model_validator

from dfw import CameraBatch, ComponentConfig, Model, Part, Prompter, Wording

from .rule import Scorer, contradictions, plain, without
from .scorers import MaskedModel, Table


class Debiased(Prompter):
    """Another prompter's texts, each without the words that contradict its view. D-SDS (Hong et al., NeurIPS 2023).

    "a smiling dog" is hardly ever seen from behind, so that its back view gets a face; "a dog, back view" does not.
    """

    class Config(ComponentConfig):
        """Whose texts, and who knows which words contradict which view: a table or a model."""

        prompter: Part[Prompter] = Part[Prompter](type="dreamfw/directional")
        """Writes the views' words and chooses among them."""
        views: tuple[str, ...] = Field(default=("overhead", "front", "side", "back"), min_length=2)
        """Names of the views. A text belongs to the first one that is among its words; a text without one keeps all words."""
        table: Mapping[str, Mapping[str, PositiveFloat]] = {}
        """Word -> view -> how many times as often that view is seen with the word, e.g. {smiling: {front: 20}}; 1 where none."""
        model: str | None = None
        """A masked language model of transformers: a folder or a name such as bert-base-uncased."""
        question: str = "This image is depicting a {mask} view of {prompt}"
        """What the model completes; has both {mask} and {prompt}."""
        words: tuple[str, ...] = ()
        """Words that may be dropped; none: all of the prompt's."""
        threshold: Annotated[float, Field(gt=0, lt=2)] = 0.95
        """A word goes where it lowers a view's probability to less than this share of the mean with and without it."""

        @field_validator("question")
        @classmethod
        def _fields(cls, value: str) -> str:
            if "{mask}" not in value or "{prompt}" not in value:
                raise ValueError(f"{value!r} must hold {{mask}} and {{prompt}}, e.g. 'A photo of the {{mask}} of {{prompt}}'")
            return value

        @model_validator(mode="after")
        def _one_source(self) -> Debiased.Config:
            if bool(self.table) == bool(self.model):
                raise ValueError("give either table, e.g. table: {smiling: {front: 20}}, or model, e.g. model: bert-base-uncased")
            for word, row in self.table.items():
                for view in row:
                    if view not in self.views:
                        raise ValueError(f"table.{word}: no view {view!r}; the views are {', '.join(self.views)}")
            return self

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self._prompter: Prompter = config.prompter.build()
        self._shortened: dict[str, dict[str, str]] = {}

    @classmethod
    def models(cls) -> tuple[Model, ...]:
        """The masked language model that `model` gives as an example."""
        return (Model("bert-base-uncased", ("google-bert/bert-base-uncased",), gigabytes=0.22, licence="apache-2.0"),)

    def texts(self, prompt: str) -> tuple[str, ...]:
        """The other prompter's texts, as many, each of the prompt without what contradicts its view."""
        shorter = self._shorter(prompt)
        written = {text: self._prompter.texts(text) for text in {prompt, *shorter.values()}}
        views = [self._view_of(text) for text in self._prompter.texts("")]
        return tuple(written[shorter.get(view, prompt)][number] for number, view in enumerate(views))

    def choose(self, cameras: CameraBatch) -> Wording:
        """As the other prompter."""
        return self._prompter.choose(cameras)

    def views(self) -> CameraBatch | None:
        """As the other prompter."""
        return self._prompter.views()

    def _view_of(self, text: str) -> str:
        """The first view that is among the words; empty where none is."""
        said = {plain(word) for word in text.split()}
        return next((view for view in self.config.views if view in said), "")

    def _shorter(self, prompt: str) -> dict[str, str]:
        """View -> the prompt for it, where that is another one; found once for each prompt."""
        if prompt not in self._shortened:
            words = prompt.split()
            may = {plain(word) for word in self.config.words}
            tested = [number for number, word in enumerate(words) if not may or plain(word) in may]
            found = contradictions(words, tested, self._scorer(), self.config.threshold) if tested else {}
            self._shortened[prompt] = {view: without(words, dropped) for view, dropped in found.items() if dropped}
        return self._shortened[prompt]

    def _scorer(self) -> Scorer:
        config = self.config
        if config.model is None:
            return Table(config.views, config.table)
        return MaskedModel(config.views, config.model, config.question)
