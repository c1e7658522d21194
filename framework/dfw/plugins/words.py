"""A component that a command line names in one word, for a kind that stands outside of a run. Imports no torch."""

from __future__ import annotations

from pydantic import ValidationError

from dfw.config.kinds import Kind
from dfw.config.merge import parse_overrides
from dfw.config.messages import explain
from dfw.config.origins import Provenance
from dfw.config.settings import ComponentSettings
from dfw.config.yaml_text import YamlError, read_yaml
from dfw.errors import ConfigError
from dfw.interfaces.component import Component
from dfw.plugins.parts import Chooser
from dfw.plugins.registry import registry
from dfw.text import separated, shortened


def from_words(kind: Kind, words: str) -> Component:
    """Builds the component that `words` name, of a kind that stands outside of a run (`Kind.option`).

    Words are `slurm`, `slurm:partition=gpu,time=120`, or a mapping in YAML. A comma separates options as `separated` says.
    Raises ConfigError and PluginError.
    """
    option = kind.option.split()[-1]
    called, provenance = f"{option} {shortened(words)!r}", Provenance({(): option})
    if words.lstrip().startswith("{"):
        try:
            tree, _ = read_yaml(words)
        except YamlError as error:
            raise ConfigError(f"{called}: not valid YAML ({error})") from None
    else:
        name, _, rest = words.partition(":")
        options = separated(rest) if rest.strip() else []
        tree, _ = parse_overrides(dict.fromkeys(options, called), {})
        tree = {"type": name.strip()} | tree
    try:
        settings = ComponentSettings.model_validate(tree)
    except ValidationError as error:
        raise ConfigError("\n".join(explain(error, tree, ComponentSettings, provenance))) from None
    chooser = Chooser(registry(), provenance)
    chosen = chooser.choose((), kind.name, settings)
    chooser.finish()
    return chosen.construct()
