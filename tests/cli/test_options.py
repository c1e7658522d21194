"""`--block` and `--plugin` hold for one command, also where a process gives several."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_packages import LOSS, write_package
from hostile_site import dfw, one_error, only_run

import dfw as framework
from dfw.plugins.registry import rediscover, registry

FILE = f"import dfw\n{LOSS.format(name='Glow')}\ndfw.register('loss', 'glow', Glow)\n"
FILE += "\nfrom dfw import hookimpl\n\n@hookimpl\ndef dfw_run_started(run):\n    print('heard')\n"


@pytest.fixture(autouse=True)
def nothing_by_hand() -> Iterator[None]:
    rediscover([])
    yield
    rediscover([])


def test_a_block_ends_with_its_command(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_package(site, "acme-glow", "0.3", "[dfw.loss]\nglow = acme_glow:Glow\n", {"acme_glow": LOSS.format(name="Glow")})
    use = ("run", "tiny.yaml", "losses.glow.type=acme-glow/glow", "--dry-run")
    code, _, err = dfw(*use, "--block", "acme-glow", "--block", "acme-glw", capsys=capsys)
    assert code == 3
    assert "blocked" in one_error(err)
    assert "no distribution 'acme-glw'" in err
    assert "DFW_BLOCK_PLUGINS" not in os.environ
    assert any(entry.name == "glow" for entry in registry().entries("loss"))  # at once, without a new look
    code, _, err = dfw(*use, capsys=capsys)
    assert (code, err) == (0, "")


def test_what_the_environment_blocks_stays_blocked(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("acme-a", "acme-b"):
        write_package(site, name, "0.3", f"[dfw.loss]\n{name} = nothing:At\n")
    monkeypatch.setenv("DFW_BLOCK_PLUGINS", "acme-a")
    code, _, err = dfw("run", "tiny.yaml", "losses.b.type=acme-b/acme-b", "--block", "acme-b", capsys=capsys)
    assert (code, "acme-b 0.3 provides it and is blocked" in one_error(err)) == (3, True)
    assert os.environ["DFW_BLOCK_PLUGINS"] == "acme-a"


def test_a_plugin_file_ends_with_its_command_and_runs_again_in_the_next(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.py").write_text(FILE)
    use = ("run", "tiny.yaml", "losses.glow.type=local/glow")
    modules = set(sys.modules)
    for _ in range(2):
        code, out, err = dfw(*use, "--plugin", "mine.py", capsys=capsys)
        assert (code, err, out.count("heard")) == (0, "", 1)
        assert not any(name.startswith("dfw_plugin_") for name in sys.modules.keys() - modules)
        assert not [entry for entry in registry().entries("loss") if entry.distribution == "local"]
    code, _, err = dfw(*use, capsys=capsys)
    assert code == 3
    assert "no loss named 'local/glow'" in one_error(err)
    code, out, _ = dfw("run", "tiny.yaml", capsys=capsys)
    assert (code, "heard" in out) == (0, False)


def test_what_a_notebook_registers_stays(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space: dict[str, object] = {"__name__": "notebook"}
    exec(LOSS.format(name="Glow"), space)
    framework.register("loss", "mine", space["Glow"])  # type: ignore[arg-type]
    Path("mine.py").write_text(FILE)
    assert dfw("run", "tiny.yaml", "losses.glow.type=local/glow", "--plugin", "mine.py", capsys=capsys)[0] == 0
    assert dfw("run", "tiny.yaml", "losses.mine.type=local/mine", "output=again", capsys=capsys)[0] == 0
    assert only_run().is_dir()


def test_a_plugin_file_that_fails_leaves_nothing_behind(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.py").write_text(f"{FILE}\n1 / 0\n")
    code, _, err = dfw("run", "tiny.yaml", "--plugin", "mine.py", capsys=capsys)
    assert code == 3
    assert "ZeroDivisionError" in one_error(err)
    assert not [entry for entry in registry().entries("loss") if entry.distribution == "local"]
