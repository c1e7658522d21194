"""Checks of a component's Config and of the features it names: what is known before anything is built."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from dfw.config.origins import Provenance
from dfw.config.yaml_text import read_yaml, write_yaml
from dfw.interfaces.component import ComponentConfig
from dfw.plugins.parts import Chooser, Part, found_in, put
from dfw.plugins.registry import registry
from dfw.testing.core import Core, Made
from dfw.testing.outcomes import require


class ConfigChecks(Core[Made]):
    """The Config explains itself and survives YAML; features are words."""

    def test_config_is_documented(self) -> None:
        """Config is a class of its own that refuses unknown keys, is frozen, and has a docstring under every field."""
        config = self.make().config
        promise = "a component keeps its checked Config as `self.config`"
        require(isinstance(config, ComponentConfig), promise, f"it has {type(config).__name__}", "Write self.config = config")
        settings = type(config).model_config
        promise = "a Config is frozen and refuses unknown keys, so that a typing error in a YAML is found"
        require(
            settings.get("frozen") and settings.get("extra") == "forbid",
            promise,
            f"frozen is {settings.get('frozen')} and extra is {settings.get('extra')!r}",
            "Derive it from dfw.ComponentConfig and leave model_config alone",
        )
        bare = sorted(f"{model.__name__}.{name}" for model, name in undocumented(type(config)))
        remedy = "Put a docstring under each: what it is, its unit, its range"
        require(not bare, "every field of a Config explains itself", f"no help for {', '.join(bare)}", remedy)

    def test_config_survives_yaml(self) -> None:
        """Written to YAML and read back, the Config is equal, and so are those of the components in it: as in resolved.yaml."""
        config = self.make().config
        written = write_yaml(config.model_dump(mode="json", by_alias=True))
        again = type(config).model_validate(read_yaml(written)[0])
        seen = f"written as {' '.join(written.split())!r} it came back as {again!r}, and was {config!r}"
        remedy = "Use plain types (numbers, text, lists, mappings, nested Configs) and validators that accept their own output"
        require(again == config, "a Config survives YAML", seen, remedy)
        full = _written_out(config)
        back = _written_out(type(config).model_validate(read_yaml(write_yaml(full))[0]))
        seen = f"with the components in it written as {full!r} it came back as {back!r}"
        require(back == full, "a Config survives YAML", seen, remedy)

    def test_features_are_words(self) -> None:
        """`requires` and `provides` answer from the Config alone, with frozensets of words."""
        made = self.make()
        for question in ("requires", "provides"):
            answer = getattr(type(made), question)(made.config)
            require(
                isinstance(answer, frozenset) and all(isinstance(word, str) and word for word in answer),
                f"{question}() is a classmethod that returns a frozenset of words",
                f"it returned {answer!r}",
                "Write e.g. return frozenset({'normals'})",
            )


def _written_out(config: ComponentConfig) -> dict[str, Any]:
    """A Config as resolved.yaml holds it: the components that stand in it with their qualified names and all their options."""
    chooser = Chooser(registry(), Provenance())
    inside = [chooser.choose(path, part.kind().name, part) for path, part in found_in(config, Part)]
    chooser.finish()
    tree: dict[str, Any] = config.model_dump(mode="json", by_alias=True)
    for one in inside:
        put(tree, one.path, one.written())
    return tree


def undocumented(model: type[BaseModel]) -> Iterator[tuple[type[BaseModel], str]]:
    """Fields of a Config, and of the Configs among its defaults, that have no help."""
    for name, info in model.model_fields.items():
        if not info.description and not (get_origin(info.annotation) is Literal and len(get_args(info.annotation)) == 1):
            yield model, name  # the tag of a union explains itself
        default = info.default
        if isinstance(default, BaseModel):
            yield from undocumented(type(default))
