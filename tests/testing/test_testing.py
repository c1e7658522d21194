"""The kit itself: outcomes, expected failures, and how pytest and the command line show them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch._dynamo  # noqa: F401  torch loads it late, and pytester forgets what was loaded under it
from command_line import fresh_plugins, run_dfw
from fake_packages import on_path, write_package

from dfw.cli.main import main
from dfw.errors import ConfigError, PluginError
from dfw.plugins.discovery import Entry
from dfw.plugins.registry import Registry, registry
from dfw.testing import LossTests, Skip, checks_of, run_checks
from dfw.testing.check import Request, find, kit_for, survey
from dfw.testing.outcomes import outcome_of
from dfw_renderers.plane import Plane

pytest_plugins = ["pytester"]

PLUGIN = """
import dfw
from dfw import ComponentConfig, Loss


class Bright(Loss):
    class Config(ComponentConfig):
        '''How much.'''

        strength: float{default}
        '''Factor.'''

    def __init__(self, config):
        super().__init__()
        self.config = config

    def forward(self, inputs):
        return self.config.strength * inputs.render.colour.{reduce}()


dfw.register("loss", "bright", Bright)
"""
KIT = """
from dfw.testing import LossTests
from bright import Bright


class TestBright(LossTests):
    expected_failures = {"test_any_batch_size": "adds up views, on purpose"}

    def make(self):
        return Bright(Bright.Config(strength=2.0))
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    fresh_plugins()
    yield
    fresh_plugins()


def write(path: Path, reduce: str = "mean", default: str = " = 1.0") -> Path:
    path.write_text(PLUGIN.format(reduce=reduce, default=default), encoding="utf-8")
    return path


def raising(error: BaseException) -> Any:
    def check() -> None:
        raise error

    return check


def test_a_check_passes_fails_or_is_skipped() -> None:
    assert outcome_of("a", lambda: None).status == "passed"
    assert outcome_of("a", raising(Skip("no GPU"))).reason == "no GPU"
    failed = outcome_of("a", raising(AssertionError("density is negative")))
    assert (failed.status, failed.reason) == ("failed", "density is negative")
    assert outcome_of("a", raising(SystemExit(3))).reason == "SystemExit: 3"


def test_expected_failures_are_strict() -> None:
    expected = outcome_of("a", raising(ValueError("x")), "known")
    assert (expected.status, expected.reason) == ("expected failure", "known")
    assert outcome_of("a", lambda: None, "known").status == "failed"
    assert outcome_of("a", raising(Skip("no GPU")), "known").status == "skipped"
    with pytest.raises(KeyboardInterrupt):
        outcome_of("a", raising(KeyboardInterrupt()))


def test_an_expected_failure_must_name_a_check() -> None:
    with pytest.raises(TypeError, match="no check named 'test_scalars'; did you mean 'test_scalar'"):
        type("Mine", (LossTests,), {"expected_failures": {"test_scalars": "typing error"}})


def test_a_kit_without_a_component_says_what_to_write() -> None:
    outcomes = {outcome.check: outcome for outcome in run_checks(LossTests)}
    assert set(outcomes) == set(checks_of(LossTests))
    assert "def make(self)" in outcomes["test_scalar"].reason


def test_pytest_shows_skips_and_strict_expected_failures(pytester: pytest.Pytester) -> None:
    write(pytester.path / "bright.py", reduce="sum")
    pytester.makepyfile(test_bright=KIT)
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=19, skipped=3, xfailed=1)
    write(pytester.path / "bright.py")
    failing = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-k", "any_batch_size")
    failing.assert_outcomes(failed=1)
    failing.stdout.fnmatch_lines(["*XPASS(strict)*adds up views*"])


def test_check_passes_a_right_loss(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run_dfw("plugins", "check", "bright", "--plugin", str(write(Path("bright.py"))), capsys=capsys)
    assert code == 0, out
    assert "20 passed, 3 skipped" in out


def test_check_names_what_a_wrong_loss_breaks(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run_dfw("plugins", "check", "local/bright", "--plugin", str(write(Path("bright.py"), "sum")), capsys=capsys)
    assert code == 2
    (line,) = [line for line in out.splitlines() if " failed " in line]
    assert line.split()[0] == "test_any_batch_size"
    assert "1/B" in line
    assert "divide by the batch's size" in line


def test_options_come_from_set_or_from_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    plugin = str(write(Path("bright.py"), default=""))
    code, _, err = run_dfw("plugins", "check", "bright", "--plugin", plugin, capsys=capsys)
    assert code == 2
    assert "strength" in err
    assert "--set key=value" in err
    assert run_dfw("plugins", "check", "bright", "--plugin", plugin, "--set", "strength=2", capsys=capsys)[0] == 0
    Path("run.yaml").write_text(
        "prompt: a\ngeometry: {type: image}\nrenderer: {type: plane}\nlosses: {bright: {strength: 3}}\n", encoding="utf-8"
    )
    assert run_dfw("plugins", "check", "bright", "--plugin", plugin, "--config", "run.yaml", capsys=capsys)[0] == 0
    code, _, err = run_dfw("plugins", "check", "opacity", "--plugin", plugin, "--config", "run.yaml", capsys=capsys)
    assert code == 2
    assert "no loss dreamfw/opacity in this run; it has dreamfw/image, dreamfw/plane, local/bright" in err


def test_a_renderer_of_images_is_shown_one(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run_dfw("plugins", "check", "plane", capsys=capsys)
    assert code == 0, out


@pytest.mark.parametrize(
    "name", ["random --kind cameras", "directional", "fixed", "learned", "ply"], ids=lambda name: name.split()[0]
)
def test_check_knows_every_kind(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run_dfw("plugins", "check", *name.split(), capsys=capsys)
    assert code == 0, out
    assert int(out.splitlines()[-1].split()[0]) >= 14


def test_a_name_of_two_kinds_is_checked_as_both_unless_options_are_given(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run_dfw("plugins", "check", "random", capsys=capsys)
    assert code == 0, out
    titles = [line.split()[0] for line in out.splitlines() if not line.startswith(" ")]
    assert titles == ["cameras", "background"]
    code, _, err = run_dfw("plugins", "check", "random", "--set", "probability=1", capsys=capsys)
    assert code == 3
    assert "say which with --kind" in err


def test_options_of_a_part_come_from_the_run_that_it_stands_in() -> None:
    run = "prompt: a\ngeometry: {type: nerf}\nrenderer: {background: {type: checker, squares: 5}}\nlosses: {opacity: {}}\n"
    Path("run.yaml").write_text(run.replace("{background", "{type: volume, background"), encoding="utf-8")
    _, kit = kit_for(registry(), Request("checker", config="run.yaml"))
    assert kit().config().squares == 5


def test_names_are_found_or_explained() -> None:
    entries = [Entry("loss", "x", "acme", "1", "a:B"), Entry("geometry", "x", "acme", "1", "a:C")]
    with pytest.raises(PluginError, match="'x' names a geometry and a loss; say which with --kind geometry"):
        find(Registry(entries), "x")
    assert find(Registry(entries), "acme/x", "loss") is entries[0]
    with pytest.raises(PluginError, match="no component named 'acme/y'; did you mean 'acme/x'"):
        find(Registry(entries), "acme/y")
    assert find(Registry(entries[:1]), "ACME/x") is entries[0]
    with pytest.raises(ConfigError, match="no installed geometry provides image"):
        kit_for(Registry([Entry("renderer", "plane", "acme", "1", "a:B", Plane)]), Request("plane"))


@pytest.mark.parametrize(("breaks", "code"), [(False, 0), (True, 2)])
def test_a_check_of_everything_ends_with_its_verdict(
    breaks: bool, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken(Plane):
        def __init__(self, config: object) -> None:
            raise ValueError("no")

    entries = [Entry("renderer", "plane", "acme", "1", "a:B", Broken if breaks else Plane)]
    monkeypatch.setattr("dfw.plugins.registry.registry", lambda: Registry(entries))
    assert main(["plugins", "check"]) == code
    assert ("builds failed" if breaks else "builds from its defaults") in capsys.readouterr().out


def test_the_survey_tells_what_does_not_import_or_build(tmp_path: Path) -> None:
    points = "[dfw.loss]\ngone = nowhere:Loss\n"
    points += "".join(f"{name.lower()} = survey_probe:{name}\n" for name in ("Bare", "Needy", "Fine", "Sad"))
    source = """
    from dfw import ComponentConfig, Loss


    class Fine(Loss):
        class Config(ComponentConfig):
            '''None.'''

        def __init__(self, config):
            super().__init__()
            self.config = config

        def forward(self, inputs):
            return inputs.render.colour.mean()


    class Bare(Fine):
        class Config(ComponentConfig):
            strength: float = 1.0


    class Needy(Fine):
        class Config(ComponentConfig):
            strength: float
            '''Factor.'''


    class Sad(Fine):
        def __init__(self, config):
            raise SystemExit(1)
    """
    write_package(tmp_path, "acme-survey", "2.0", points, {"survey_probe": source})
    with on_path(tmp_path):
        ours = [entry for entry in Registry.discover().entries() if entry.distribution == "acme-survey"]
        found = list(survey(Registry(ours)))
    told = {checked.entry.name: (checked.outcome.check, checked.outcome.status) for checked in found}
    assert told == {
        "bare": ("config", "failed"),
        "fine": ("builds", "passed"),
        "gone": ("imports", "failed"),
        "needy": ("builds", "skipped"),
        "sad": ("builds", "failed"),
    }
    reasons = {checked.entry.name: checked.outcome.reason for checked in found}
    assert "Config.strength" in reasons["bare"]
    assert "acme-survey 2.0" in reasons["gone"]
    assert "no default for strength" in reasons["needy"]
    assert "SystemExit" in reasons["sad"]


def test_check_says_how_to_name_prompts_that_a_guidance_knows(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--set", "means={sunset: [1,0,0], forest: [0,1,0]}", "--set", "resolution=8"]
    code, out, _ = run_dfw("plugins", "check", "dreamfw/gaussian", "--kind", "guidance", *options, capsys=capsys)
    assert code == 2
    assert "no mean for 'a red cube'; known: sunset, forest" in out
    assert "--prompt A --prompt B on the command line" in out
    known = "--prompt", "sunset", "--prompt", "forest"
    code, out, _ = run_dfw("plugins", "check", "dreamfw/gaussian", "--kind", "guidance", *options, *known, capsys=capsys)
    assert code == 0, out
