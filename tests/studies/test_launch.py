"""What `dfw sweep --on` means, and what a launcher that breaks does to a sweep."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import fresh_plugins, run_dfw
from small_runs import PIXELS

import dfw
from dfw import ComponentConfig, Launcher, RunOutcome, Sweep
from dfw.errors import ConfigError, PluginError
from dfw.studies.launch import launcher
from dfw_launchers.local import Local


class Strange(Launcher):
    """Breaks in the middle."""

    class Config(ComponentConfig):
        """Options of several sorts."""

        time: str = ""
        """A text with colons."""
        hosts: tuple[str, ...] = ()
        """A list."""
        gpus: int = 0
        """A number."""

    def __init__(self, config: Any) -> None:
        self.config = config

    def outcomes(self, sweep: Sweep) -> Generator[RunOutcome, None, None]:
        yield sweep.make(sweep.runs[0])
        raise RuntimeError("the cluster is gone")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    fresh_plugins()
    dfw.register("launcher", "strange", Strange)
    yield
    fresh_plugins()


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("strange", {}),
        ("local/strange:", {}),
        ("strange:gpus=2", {"gpus": 2}),
        ("strange:time=4:00:00,gpus=1,hosts=[a,b]", {"time": "4:00:00", "gpus": 1, "hosts": ("a", "b")}),
        ("{type: strange, time: '4:00:00', hosts: [a, b]}", {"time": "4:00:00", "hosts": ("a", "b")}),
    ],
)
def test_a_launcher_is_named_in_one_word(words: str, options: dict[str, object]) -> None:
    made = launcher(words)
    assert isinstance(made, Strange)
    assert made.config == Strange.Config(**options)


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        ("locl", PluginError, r"no launcher named 'locl'.*local"),
        ("local:procesess=2", ConfigError, r"--on: procesess: unknown key, did you mean 'processes'.*dreamfw/local"),
        ("local:processes=0", ConfigError, r"--on: processes: .*greater than 0"),
        ("local:2", ConfigError, r"--on 'local:2': write key=value"),
        ("{processes: 2}", ConfigError, r"--on: type: "),
        ("{type: local", ConfigError, r"--on '\{type: local': not valid YAML"),
        ("", PluginError, r"no launcher named ''"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_option(words: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        launcher(words)


def test_a_launcher_that_breaks_is_named_and_what_it_made_stays(capsys: pytest.CaptureFixture[str]) -> None:
    Path("tiny.yaml").write_text(yaml.safe_dump(PIXELS), encoding="utf-8")
    code, _, said = run_dfw("sweep", "tiny.yaml", "seed=0..1", "--out", "s", "--on", "nowhere", capsys=capsys)
    assert code == 3
    assert "no launcher named 'nowhere'" in said
    assert not Path("s").exists()
    code, told, said = run_dfw("sweep", "tiny.yaml", "seed=0..1", "--out", "s", "--on", "strange", capsys=capsys)
    assert code == 3
    assert "[1/2] finished" in told
    assert "local/strange" in said
    assert "failed to launch the runs: RuntimeError: the cluster is gone" in said
    code, told, _ = run_dfw("sweep", "--resume", "s", "--dry-run", capsys=capsys)
    assert "1 finished, 1 pending" in told


def test_the_default_is_this_machine() -> None:
    made = launcher("local")
    assert isinstance(made, Local)
    assert made.config.processes is None
