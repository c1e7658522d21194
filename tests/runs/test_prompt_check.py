"""A run's prompts are read by every guidance that will read them, before a model loads."""

from __future__ import annotations

import pytest
from torch import Tensor

import dfw
from dfw import ComponentConfig, Conditioning, ConfigError, Guidance, Part, PromptError
from dfw.compose import compose
from dfw.config.load import load_with_provenance
from dfw.plugins.registry import registry
from dfw.runs.prompt_check import check_prompts


class Wrapper(Guidance):
    """A guidance that lets another answer, as multi-view ones do."""

    class Config(ComponentConfig):
        """The other one."""

        prior: Part[Guidance] = Part[Guidance](type="dreamfw/stable-diffusion")
        """Reads the text."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    @classmethod
    def provides(cls, config: Wrapper.Config) -> frozenset[str]:
        provided: frozenset[str] = config.prior.cls.provides(config.prior.config)
        return provided

    def encode_image(self, image: Tensor) -> Tensor:
        return image

    def decode_image(self, encoded: Tensor) -> Tensor:
        return encoded

    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        return noisy


@pytest.fixture(autouse=True)
def wrapper():
    dfw.register("guidance", "wrapper", Wrapper)
    yield
    registry()._entries = [entry for entry in registry().entries() if entry.distribution != "local"]


def test_a_component_knows_the_one_inside_before_it_is_built() -> None:
    prior = Wrapper.Config.model_validate({"prior": {"type": "stable-diffusion", "model": "embedded"}}).prior
    assert (prior.cls.__name__, prior.config.model) == ("StableDiffusion", "embedded")
    assert prior.cls.side(prior.config) == 64
    wrong = Wrapper.Config.model_validate({"prior": {"type": "stable-diffusion", "models": "embedded"}}).prior
    with pytest.raises(ConfigError, match="did you mean 'model'"):
        wrong.cls  # noqa: B018


@pytest.mark.parametrize("guidance", ["dreamfw/stable-diffusion", "local/wrapper"])
def test_the_prompt_is_read_by_the_model_that_knows_words(guidance: str, caplog: pytest.LogCaptureFixture) -> None:
    def check(prompt: str) -> None:
        loaded = load_with_provenance("dreamfusion", [f"prompt={prompt}", f"guidance={{type: {guidance}}}"])
        check_prompts(compose(loaded.config, registry(), loaded.provenance), loaded.provenance)

    check("a red mushroom")
    assert caplog.text == ""
    check("a mushroom")
    assert "colour" in caplog.text
    with pytest.raises(PromptError, match="unicorn"):
        check("a red unicorn")
