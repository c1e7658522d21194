"""`dfw plugins info`: what is shown of a component, worked out by hand from a Config that has everything."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import pytest
from fake_packages import LOSS, on_path, write_package
from pydantic import Field, PositiveFloat

from dfw import Background, ComponentConfig, Noise, Part, Schedule
from dfw.cli.main import main
from dfw.config.kinds import KINDS
from dfw.plugins.describe import Option, options_of
from dfw.plugins.listeners import _files
from dfw.plugins.registry import rediscover


class Fine(ComponentConfig):
    """One way."""

    type: Literal["fine"] = "fine"
    cells: Annotated[int, Field(ge=2, le=8)] = 4
    """How many."""


class Coarse(ComponentConfig):
    """Another way."""

    type: Literal["coarse"] = "coarse"
    size: float = 0.5
    """How large."""


class Everything(ComponentConfig):
    """Options of every sort."""

    needed: str
    """Must be given."""
    scale: PositiveFloat = 2.0
    """Factor, world units."""
    amount: Schedule = 1.0
    """A schedule."""
    mode: Literal["a", "b"] = "b"
    """One
    of two."""
    pair: tuple[float, int] = (1.0, 2)
    """Two numbers."""
    names: dict[str, float] = {}  # noqa: RUF012
    """By name."""
    grid: Annotated[Fine | Coarse, Field(discriminator="type")] = Fine(cells=6)
    """A choice."""
    inner: Coarse | None = None
    """Perhaps."""
    noise: Part[Noise] = Part[Noise](type="dreamfw/fixed")
    """Another component."""
    behind: Part[Background] | None = None
    """One that may be missing."""
    more: tuple[Part[Noise], ...] = ()
    """Several."""


def test_options_have_path_type_default_and_help():
    assert list(options_of(Everything)) == [
        Option("needed", "text", "required", "Must be given."),
        Option("scale", "number > 0", "2.0", "Factor, world units."),
        Option("amount", "number or ramp", "1.0", "A schedule."),
        Option("mode", "'a' or 'b'", "b", "One of two."),
        Option("pair", "[number, whole number]", "[1.0, 2]", "Two numbers."),
        Option("names", "mapping of names to number", "as below", "By name."),
        Option("grid", "mapping (fine) or mapping (coarse)", "fine", "A choice."),
        Option("grid.cells", "whole number >= 2 and <= 8", "6", "How many.", "grid.type is fine"),
        Option("grid.size", "number", "0.5", "How large.", "grid.type is coarse"),
        Option("inner", "mapping (coarse) or none", "none", "Perhaps."),
        Option("inner.size", "number", "0.5", "How large."),
        Option("noise", "noise (a component)", "dreamfw/fixed", "Another component."),
        Option("behind", "background (a component) or none", "none", "One that may be missing."),
        Option("more", "list of noise (a component)", "[]", "Several."),
    ]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("DFW_BLOCK_PLUGINS", "")
    monkeypatch.delenv("DFW_NO_PLUGINS", raising=False)
    with on_path(folder):
        yield folder
    rediscover()


def info(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    rediscover()
    code = main(["plugins", "info", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


GLOW = (
    LOSS.format(name="Glow")
    .replace(
        "class Glow(Loss):", 'class Glow(Loss):\n    """Shines."""\n\n    feature_hints = {"light": "strength is above 2"}\n'
    )
    .replace(
        "strength: float = 1.0",
        'strength: float = 1.0\n        """How much."""\n\n    @classmethod\n    def requires(cls, config):\n'
        "        return frozenset({'colour'} if config.strength > 0 else ())",
    )
)


def test_a_third_partys_component_is_shown_whole(site: Path, capsys: pytest.CaptureFixture[str]):
    write_package(site, "acme", "0.3", "[dfw.loss]\nglow = acme_info:Glow\n", {"acme_info": GLOW})
    code, out, err = info("glow", capsys=capsys)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "loss acme/glow",
        "  Shines.",
        "",
        "distribution  acme 0.3",
        "module        acme_info:Glow",
        "requires      colour",
        "provides      nothing",
        "              light when strength is above 2",
        "",
        "options",
        "  strength: number; default 1.0",
        "      How much.",
    ]
    assert info("acme/glow", capsys=capsys)[1] == out


def test_every_built_in_component_can_be_shown(site: Path, capsys: pytest.CaptureFixture[str]):
    entries = [entry for entry in rediscover().entries() if entry.distribution == "dreamfw"]
    assert {entry.kind for entry in entries} == set(KINDS)
    for entry in entries:
        code, out, err = info(entry.qualified, "--kind", entry.kind, capsys=capsys)
        assert (code, err) == (0, ""), entry
        assert out.startswith(f"{entry.kind} {entry.qualified}\n")
        assert f"module        {entry.target}" in out
        assert "required" in out or "default" in out or "no options" in out


def test_only_the_plugin_that_is_asked_about_is_imported(site: Path):
    write_package(site, "acme", "0.3", "[dfw.loss]\nglow = acme_only:Glow\n", {"acme_only": LOSS.format(name="Glow")})
    write_package(site, "acme-boom", "0.1", "[dfw.loss]\nboom = acme_boom:B\n[dfw]\nb = acme_boom\n", {"acme_boom": "1 / 0"})
    code = (
        "import sys; from dfw.cli.main import main; assert main(['plugins', 'info', 'glow']) == 0\n"
        "print([m for m in sys.modules if m.startswith(('dfw_', 'acme_'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(site)!r}); {code}"], capture_output=True, check=False
    )
    assert done.stderr == b""
    assert done.stdout.decode().splitlines()[-1] == "['acme_only']"


def test_one_name_of_several_kinds_or_distributions_asks_which(site: Path, capsys: pytest.CaptureFixture[str]):
    source = {"acme_many": LOSS.format(name="Image")}
    write_package(site, "acme-many", "0.3", "[dfw.loss]\nimage = acme_many:Image\n[dfw]\nimage = acme_many\n", source)
    write_package(site, "acme-other", "0.2", "[dfw.loss]\nimage = acme_many:Image\n")
    code, _, err = info("image", capsys=capsys)
    assert code == 2
    assert "'image' is the name of several kinds (geometry, loss, listener): add --kind geometry or --kind loss" in " ".join(
        err.replace("│", " ").split()
    )
    code, _, err = info("image", "--kind", "loss", capsys=capsys)
    assert code == 3
    assert "acme-many/image (acme-many 0.3), acme-other/image (acme-other 0.2)" in err
    assert info("dreamfw/image", capsys=capsys)[0] == 0
    assert info("acme-other/image", capsys=capsys)[1].startswith("loss acme-other/image\n")


def test_a_listener_is_shown_with_its_hooks(site: Path, capsys: pytest.CaptureFixture[str]):
    source = "from dfw import hookimpl\nclass Log:\n    @hookimpl\n    def dfw_step_ended(self, step): ...\n"
    write_package(site, "acme-log", "0.4", "[dfw]\nlog = acme_log:Log\nbad = acme_log:Nothing\n", {"acme_log": source})
    code, out, _ = info("acme-log/log", capsys=capsys)
    assert code == 0
    assert out.splitlines() == [
        "listener acme-log/log",
        "distribution  acme-log 0.4",
        "module        acme_log:Log",
        "hooks         dfw_step_ended",
    ]
    code, _, err = info("acme-log/bad", capsys=capsys)
    assert code == 3
    assert "error: acme-log 0.4: listener 'bad'" in err


def test_what_cannot_be_shown_is_one_sentence(site: Path, capsys: pytest.CaptureFixture[str]):
    odd = LOSS.format(name="Odd").replace(
        "strength: float = 1.0", "model_config = {'arbitrary_types_allowed': True}\n        x: type(len)"
    )
    write_package(site, "acme-odd", "0.1", "[dfw.loss]\nodd = acme_odd:Odd\nboom = acme_bang:B\n", {"acme_odd": odd})
    code, _, err = info("odd", capsys=capsys)
    assert code == 3
    assert err.startswith("error: loss acme-odd/odd 0.1: its Config cannot be described: ")
    assert err.count("\n") == 1
    code, _, err = info("boom", capsys=capsys)
    assert code == 3
    assert "loss 'boom' of acme-odd 0.1 failed to load from acme_bang:B: ModuleNotFoundError" in err
    code, _, err = info("nerv", capsys=capsys)
    assert (code, err) == (
        3,
        "error: no component or listener named 'nerv'; did you mean 'nerf'? dfw plugins list shows all\n",
    )


def test_a_plugin_file_can_be_shown(site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):

    path = tmp_path / "mine.py"
    path.write_text(LOSS.format(name="Glow") + "\nfrom dfw import register\nregister('loss', 'file-info', Glow)\n")
    try:
        code, out, _ = info("file-info", "--plugin", str(path), capsys=capsys)
        assert code == 0
        assert f"distribution  local {path}" in out
    finally:
        _files.clear()
        registry = rediscover()
        registry._entries = [entry for entry in registry.entries() if entry.distribution != "local"]
