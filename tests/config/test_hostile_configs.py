"""Configs that break fail by their own name; the survey, the schema, other plugins and other runs are as without them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_packages import write_package
from hostile_site import dfw, one_error

LOSS = """
from collections.abc import Callable

import torch
from dfw import ComponentConfig, Loss
from pydantic import Field, field_validator, model_validator


class Thing(Loss):
    class Config(ComponentConfig):
        model_config = {{"arbitrary_types_allowed": True}}
        {0}

    def __init__(self, config):
        super().__init__()
        self.config = config

    def forward(self, inputs):
        return inputs.render.colour.mean()
"""
FIELDS = {
    "key-error": """strength: float = 1.0
        "Factor."
        @model_validator(mode="after")
        def check(self):
            return {}["nope"]""",
    "dtype": """dtype: torch.dtype = torch.float32
        "Of the sums." """,
    "function": """function: Callable[[float], float] = abs
        "Of the sums." """,
    "refusing": """strength: float = 1.0
        "Factor."
        @model_validator(mode="after")
        def check(self):
            if self.strength > 0.5:
                raise ValueError("strength is at most 0.5")
            return self""",
    "range": """strength: float = Field(-1.0, gt=0)
        "Factor." """,
    "inner": """needed: float
        "Factor."
        strength: float = Field(-1.0, gt=0)
        "Factor." """,
    "one-way": """size: tuple[int, int] = "8x8"
        "Pixels."
        @field_validator("size", mode="before")
        def read(cls, value):
            return tuple(int(part) for part in value.split("x")) if isinstance(value, str) else (0, 0)""",
    "needy": """needed: float
        "Factor." """,
    "good": """strength: float = 1.0
        "Factor." """,
}
"""Name -> the fields of a loss's Config; the last two are right."""
SURVEY = {
    "key-error": "config failed  its Config breaks on its defaults: KeyError: 'nope'",
    "dtype": "config failed  PydanticSerializationError: Unable to serialize unknown type: <class 'torch.dtype'>",
    "function": "config failed  PydanticSerializationError: Unable to serialize unknown type: <class 'builtin",
    "refusing": "config failed  it refuses its own defaults: strength is at most 0.5",
    "range": "config failed  it refuses its own defaults: strength: must be greater than 0 (is -1.0)",
    "inner": "config failed  it refuses its own defaults: needed: missing; it says: Factor.; strength: must be greater than 0",
    "one-way": "config failed  a Config survives YAML; written as 'size: - 8 - 8' it came back as",
    "needy": "imports  not built: its options have no default for needed",
    "good": "builds from its defaults",
}


def install(site: Path, *names: str) -> None:
    """`acme-<name>` 0.3 with the loss `<name>`, each a module of its own."""
    for name in names:
        module = f"acme_{name.replace('-', '_')}"
        write_package(site, f"acme-{name}", "0.3", f"[dfw.loss]\n{name} = {module}:Thing\n", {module: LOSS.format(FIELDS[name])})


def test_the_survey_tells_of_every_config_and_goes_on(site: Path, capsys: pytest.CaptureFixture[str]):
    install(site, *FIELDS)
    code, out, err = dfw("plugins", "check", capsys=capsys)
    assert (code, err) == (2, "")
    lines = [line for line in out.splitlines() if line.split()[:1] == ["loss"]]
    said = {line.split()[1]: line.split(" 0.3", 1)[1].strip() for line in lines if line.split()[1].startswith("acme-")}
    assert said.keys() == {f"acme-{name}/{name}" for name in FIELDS}
    for name, expected in SURVEY.items():
        assert said[f"acme-{name}/{name}"].startswith(expected), name
    assert any(line.split()[1] == "dreamfw/opacity" for line in lines)


def test_a_check_of_a_config_that_raises_is_one_sentence(site: Path, capsys: pytest.CaptureFixture[str]):
    install(site, "key-error")
    code, _, err = dfw("plugins", "check", "key-error", capsys=capsys)
    assert code == 3
    assert err == "error: loss (acme-key-error/key-error, acme-key-error 0.3) failed to check its options: KeyError: 'nope'\n"


def test_the_options_of_a_config_that_raises_are_shown(site: Path, capsys: pytest.CaptureFixture[str]):
    install(site, "key-error")
    code, out, err = dfw("plugins", "info", "key-error", capsys=capsys)
    assert code == 0
    assert "  strength: number; default 1.0" in out.splitlines()
    assert err == "WARNING: loss acme-key-error/key-error 0.3: its Config breaks on its defaults: KeyError: 'nope'\n"


def test_the_schema_leaves_out_what_it_cannot_describe_and_names_it(site: Path, capsys: pytest.CaptureFixture[str]):
    code, clean, err = dfw("config", "schema", capsys=capsys)
    assert (code, err) == (0, "")
    install(site, "dtype", "function")
    code, among, err = dfw("config", "schema", capsys=capsys)
    assert code == 0
    assert json.loads(among) == json.loads(clean)
    lines = err.splitlines()
    assert len(lines) == 2
    for line, name in zip(lines, ("dtype", "function"), strict=True):
        start = f"WARNING: left out of the schema: loss acme-{name}/{name} 0.3: its Config cannot be described: Pydantic"
        assert line.startswith(start)
    install(site, "good")
    among = dfw("config", "schema", capsys=capsys)[1]
    assert json.loads(among)["$defs"].keys() - json.loads(clean)["$defs"].keys() == {
        "loss.acme-good.good",
        "acme_good__Thing__Config",
    }


@pytest.mark.parametrize("name", ["dtype", "function"])
def test_a_run_with_options_that_cannot_be_written_makes_nothing(site: Path, name: str, capsys: pytest.CaptureFixture[str]):
    install(site, name)
    code, _, err = dfw("run", "tiny.yaml", f"losses.tested.type={name}", capsys=capsys)
    text = one_error(err)
    assert code == 3
    assert text.startswith(f"error: losses.tested (acme-{name}/{name}, acme-{name} 0.3) cannot write its options, which must be ")
    assert "PydanticSerializationError" in text
    assert not Path("runs").exists()
    code, _, err = dfw("plugins", "check", name, "--config", "tiny.yaml", "--set", "x=1", capsys=capsys)
    assert (code, "no loss" in one_error(err)) == (2, True)
    Path("with.yaml").write_text(f"extends: tiny.yaml\nlosses: {{tested: {{type: {name}}}}}\n")
    code, _, err = dfw("plugins", "check", name, "--config", "with.yaml", capsys=capsys)
    assert (code, "cannot write its options" in one_error(err)) == (3, True)


def test_a_default_that_is_refused_is_named(site: Path, capsys: pytest.CaptureFixture[str]):
    install(site, "range")
    code, _, err = dfw("run", "tiny.yaml", "losses.tested.type=range", capsys=capsys)
    assert code == 2
    assert one_error(err).endswith(": losses.tested.strength: must be greater than 0 (is -1.0) (acme-range/range 0.3)")
    code, _, err = dfw("plugins", "check", "range", capsys=capsys)
    assert code == 2
    assert err.startswith("error: strength: must be greater than 0 (is -1.0) (acme-range/range 0.3)\n")


GEOMETRY = """
import torch
from dfw import ComponentConfig, Geometry
from pydantic import model_validator


class Thing(Geometry):
    class Config(ComponentConfig):
        size: int = 1
        "Pixels."
        {config}

    {methods}
"""


@pytest.mark.parametrize(
    "parts",
    [
        {"config": "", "methods": "@classmethod\n    def provides(cls, config): return config.nope"},
        {"config": "", "methods": "def provides(self, config): return frozenset({'image'})"},
        {
            "config": "@model_validator(mode='after')\n        def check(self): return {}['nope']",
            "methods": "@classmethod\n    def provides(cls, config): return frozenset({'image'})",
        },
        {
            "config": "",
            "methods": "@classmethod\n    def provides(cls, config): return frozenset({'image'})\n"
            "    def __init__(self, config): raise SystemExit(3)",
        },
    ],
    ids=["provides raises", "no classmethod", "Config raises", "constructor exits"],
)
def test_a_geometry_that_breaks_does_not_hurt_the_check_of_a_renderer(
    site: Path, parts: dict[str, str], capsys: pytest.CaptureFixture[str]
):
    write_package(site, "acme-g", "0.3", "[dfw.geometry]\naaa = acme_g:Thing\n", {"acme_g": GEOMETRY.format(**parts)})
    write_package(site, "acme-p", "0.1", "[dfw.renderer]\nplane = acme_p:Plane\n[dfw.geometry]\nzzz = acme_g:Thing\n")
    (site / "acme_p.py").write_text("from dfw_renderers.plane import Plane")
    for name in ("dreamfw/plane", "acme-p/plane"):
        code, out, err = dfw("plugins", "check", name, capsys=capsys)
        assert (code, err) == (0, ""), out


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("@classmethod\n    def requires(cls, config): return config.nope", "AttributeError: 'Config' object has no attribute"),
        ("@classmethod\n    def requires(cls, config): return 'image'", "TypeError: it gave 'image', not a set of words"),
    ],
)
def test_a_component_that_cannot_say_what_it_requires(site: Path, method: str, reason: str, capsys: pytest.CaptureFixture[str]):
    source = LOSS.format(FIELDS["good"]).replace("    def forward", f"    {method}\n\n    def forward")
    write_package(site, "acme-x", "0.3", "[dfw.loss]\nthing = acme_x:Thing\n", {"acme_x": source})
    code, _, err = dfw("plugins", "check", "thing", capsys=capsys)
    assert code == 3
    assert one_error(err).startswith(f"error: loss (acme-x/thing, acme-x 0.3) cannot say what it requires: {reason}")
    assert dfw("plugins", "info", "thing", capsys=capsys)[0] == 0


@pytest.mark.parametrize(("hints", "seen"), [("['normals']", "a list"), ("'normals'", "a str"), ("None", "a NoneType")])
def test_hints_of_the_wrong_type(site: Path, hints: str, seen: str, capsys: pytest.CaptureFixture[str]):
    source = LOSS.format(FIELDS["good"]).replace("    def forward", f"    feature_hints = {hints}\n\n    def forward")
    write_package(site, "acme-x", "0.3", "[dfw.loss]\nthing = acme_x:Thing\n", {"acme_x": source})
    for verb in (["plugins", "info", "thing"], ["plugins", "check", "thing"], ["run", "tiny.yaml", "losses.tested.type=thing"]):
        code, _, err = dfw(*verb, capsys=capsys)
        assert code == 3
        text = one_error(err)
        assert f"loss 'thing' of acme-x 0.3 (acme_x:Thing): its feature_hints is {seen}; write a dict" in text
