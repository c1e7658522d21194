"""Listeners behind their fence, requirements, and plugin files; packages are real folders on the import path."""

from __future__ import annotations

import logging
import signal
from pathlib import Path

import pytest
from fake_packages import LOSS, on_path, write_package

from dfw import hookimpl
from dfw.config.schedules import Progress
from dfw.errors import ConfigError, DivergedError, PluginError
from dfw.interfaces.events import StepEnded
from dfw.plugins.listeners import Listeners, _files, load_listeners, load_plugin_file
from dfw.plugins.requirements import check_requirements

COUNTER = """
from dfw import hookimpl
calls = []

@hookimpl
def dfw_step_ended(step):
    calls.append(step.progress.step)
"""
FAILING = """
from dfw import hookimpl
calls = []

@hookimpl
def dfw_step_ended(step):
    calls.append(step.progress.step)
    raise {error}
"""


def step(number: int) -> StepEnded:
    return StepEnded(Progress(number, 10), 0.5, {}, {})


class Recorder:
    def __init__(self) -> None:
        self.steps: list[int] = []

    @hookimpl
    def dfw_step_ended(self, step):
        self.steps.append(step.progress.step)


def test_listeners_are_called_in_order_with_the_event():
    seen: list[tuple[str, StepEnded]] = []

    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

        @hookimpl
        def dfw_step_ended(self, step):
            seen.append((self.name, step))

    class Late(Named):
        @hookimpl(trylast=True)
        def dfw_step_ended(self, step):
            seen.append((self.name, step))

    event = step(3)
    load_listeners([Late("last"), Named("first"), Named("second")]).step_ended(event)
    assert seen == [("first", event), ("second", event), ("last", event)]


@pytest.mark.parametrize("error", ["ValueError('no disk')", "SystemExit(1)", "BaseException('odd')"])
def test_a_listener_that_raises_is_reported_once_and_switched_off(tmp_path: Path, error: str, caplog: pytest.LogCaptureFixture):
    write_package(tmp_path, "acme-bad", "0.2", "[dfw]\nbad = acme_bad\n", {"acme_bad": FAILING.format(error=error)})
    write_package(tmp_path, "acme-good", "0.4", "[dfw]\ngood = acme_good\n", {"acme_good": COUNTER})
    mine = Recorder()
    with on_path(tmp_path), caplog.at_level(logging.WARNING, "dfw"):
        listeners = load_listeners([mine])
        for number in range(3):
            listeners.step_ended(step(number))
        import acme_bad
        import acme_good

        assert acme_bad.calls == [0]
        assert acme_good.calls == mine.steps == [0, 1, 2]
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert "acme-bad 0.2" in told[0]
    assert "dfw_step_ended" in told[0]
    assert "switched off" in told[0]


def test_a_listener_may_stop_the_run_and_ctrl_c_passes():
    class Stops:
        error: BaseException = DivergedError("the scene is empty since step 4; try another seed")

        @hookimpl
        def dfw_step_ended(self, step):
            if step.progress.step == 5:
                signal.raise_signal(signal.SIGINT)
            raise self.error

    stops = Stops()
    listeners = load_listeners([stops])
    with pytest.raises(DivergedError, match="since step 4"):
        listeners.step_ended(step(4))
    with pytest.raises(KeyboardInterrupt) as caught:
        listeners.step_ended(step(5))
    assert caught.value.__notes__[0].startswith("while waiting for listener 'dreamfw/Stops-0' of dreamfw")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import sys; sys.exit(0)", "SystemExit"),
        ("from dfw import hookimpl\n@hookimpl\ndef dfw_step_endet(step): ...", "dfw_step_endet"),
        ("from dfw import hookimpl\n@hookimpl\ndef dfw_step_ended(step, extra): ...", "extra"),
    ],
)
def test_a_listener_that_cannot_be_used_is_left_out_and_told(
    tmp_path: Path, source: str, reason: str, caplog: pytest.LogCaptureFixture
):
    write_package(tmp_path, "acme-odd", "0.1", "[dfw]\nodd = acme_odd\n", {"acme_odd": source})
    write_package(tmp_path, "acme-fine", "0.4", "[dfw]\nfine = acme_fine\n", {"acme_fine": COUNTER})
    with on_path(tmp_path), caplog.at_level(logging.WARNING, "dfw"):
        listeners = load_listeners()
        assert caplog.records == []  # whoever loads them says what becomes of it
        listeners.warn()
        assert [record.getMessage() for record in caplog.records] == [str(problem) for problem in listeners.problems]
        listeners.step_ended(step(0))
        import acme_fine

        assert acme_fine.calls == [0]
    assert [p.provider.distribution for p in listeners.problems] == ["acme-odd"]
    assert reason in str(listeners.problems[0])
    assert not any(listener.provider.distribution == "acme-odd" for listener in listeners.active)


def test_a_plugin_file_that_imports_a_module_named_like_a_hook_is_no_listener(tmp_path: Path):
    path = tmp_path / "imports.py"
    path.write_text("import dfw_geometry\nvalue = 3\n")
    load_plugin_file(path)
    listeners = load_listeners()
    assert listeners.problems == []
    assert not any("imports" in listener.name for listener in listeners.active)


def test_two_distributions_may_use_one_listener_name(tmp_path: Path):
    write_package(tmp_path, "acme-one", "1", "[dfw]\nlog = acme_one\n", {"acme_one": COUNTER})
    write_package(tmp_path, "acme-two", "1", "[dfw]\nlog = acme_two\n", {"acme_two": COUNTER})
    with on_path(tmp_path):
        load_listeners().step_ended(step(7))
        import acme_one
        import acme_two

        assert acme_one.calls == acme_two.calls == [7]


def test_blocked_distributions_have_no_listeners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_package(tmp_path, "acme-log", "1", "[dfw]\nlog = acme_log\n", {"acme_log": "raise RuntimeError('imported')"})
    monkeypatch.setenv("DFW_BLOCK_PLUGINS", "acme-log")
    with on_path(tmp_path):
        assert not load_listeners().problems


def test_commands_of_plugins_are_added_and_never_replace_others(tmp_path: Path):
    import click

    source = """
    import click
    from dfw import hookimpl

    @hookimpl
    def dfw_register_commands(cli):
        cli.add_command(click.Command("{0}", callback=lambda: None))
        cli.add_command(click.Command("run", callback=lambda: None))
    """
    write_package(tmp_path, "acme-a", "1", "[dfw]\na = acme_cli_a\n", {"acme_cli_a": source.format("launch")})
    write_package(tmp_path, "acme-b", "1", "[dfw]\nb = acme_cli_b\n", {"acme_cli_b": source.format("launch")})
    group = click.Group("dfw")
    own = click.Command("run")
    group.add_command(own)
    with on_path(tmp_path):
        listeners = load_listeners()
        listeners.register_commands(group)
    assert group.commands["run"] is own
    assert sorted(group.commands) == ["launch", "run"]
    assert len(listeners.problems) == 3  # `run` twice, and the second `launch`


def test_listeners_start_empty():
    assert Listeners().active == []


def test_requirements_are_checked_by_metadata_and_the_message_holds_the_pip_line(tmp_path: Path):
    write_package(tmp_path, "dreamfw-acme", "0.2.1", "", {})
    with on_path(tmp_path):
        check_requirements(["dreamfw-acme>=0.2", "dreamfw", "other; python_version < '3'"])
        with pytest.raises(PluginError) as caught:
            check_requirements(["dreamfw-acme>=0.3", "dreamfw_none", "dreamfw"], "x.yaml:3: plugins")
    text = str(caught.value)
    assert text.startswith("x.yaml:3: plugins: ")
    assert "dreamfw-acme>=0.3 (found: 0.2.1)" in text
    assert text.endswith('pip install "dreamfw-acme>=0.3" "dreamfw_none" (or give pip the folder or git address)')
    with pytest.raises(ConfigError, match="is not a requirement"):
        check_requirements(["not a requirement!!"])


def test_a_plugin_file_registers_components_and_listeners(tmp_path: Path):
    from dfw.plugins.registry import registry

    path = tmp_path / "my_plugin.py"
    path.write_text(LOSS.format(name="Glow") + COUNTER + "\nfrom dfw import register\nregister('loss', 'file-glow', Glow)\n")
    try:
        module = load_plugin_file(path)
        assert load_plugin_file(path) is module
        assert registry().resolve("loss", "file-glow").qualified == "local/file-glow"
        load_listeners().step_ended(step(2))
        assert module.calls == [2]
    finally:
        _files.clear()
        registry()._entries = [entry for entry in registry().entries() if entry.distribution != "local"]


def test_two_plugin_files_of_one_name_are_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dfw.plugins.listeners._files", {})
    modules = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(COUNTER)
        modules.append(load_plugin_file(tmp_path / folder / "mine.py"))
    listeners = load_listeners()
    listeners.step_ended(step(2))
    assert [module.calls for module in modules] == [[2], [2]]
    assert not listeners.problems
    mine = [listener.entry for listener in listeners.active if listener.provider.distribution == "local"]
    assert [entry.version for entry in mine] == [str(tmp_path / folder / "mine.py") for folder in ("a", "b")]


def test_a_listener_may_be_a_class_and_each_run_gets_one_of_its_own(tmp_path: Path):
    source = "from dfw import hookimpl\nclass Log:\n    @hookimpl\n    def dfw_step_ended(self, step): ...\n"
    source += "class Picky:\n    def __init__(self, path): ...\n"
    write_package(tmp_path, "acme-cls", "1", "[dfw]\nlog = acme_cls:Log\npicky = acme_cls:Picky\n", {"acme_cls": source})
    with on_path(tmp_path):
        first, second = load_listeners(), load_listeners()
        (one,), (other,) = ([a for a in some.active if a.name == "acme-cls/log"] for some in (first, second))
        assert type(one.instance).__name__ == "Log"
        assert one.instance is not other.instance
        assert one.entry.facts()["module"] == "acme_cls"
        assert "acme-cls 1: listener 'picky': failed to load from acme_cls:Picky: TypeError" in str(first.problems[0])


def test_each_listener_gets_an_event_of_its_own():
    class Vandal(Recorder):
        @hookimpl
        def dfw_step_ended(self, step):
            step.metrics.clear()
            step.seconds["render"] = 9.0

    class Reader:
        seen: list[StepEnded]

        @hookimpl
        def dfw_step_ended(self, step):
            self.seen = [step]

    reader, event = Reader(), StepEnded(Progress(1, 2), 0.5, {"lr": 0.1}, {"render": 1.0})
    load_listeners([Vandal(), reader]).step_ended(event)
    assert reader.seen == [event] == [StepEnded(Progress(1, 2), 0.5, {"lr": 0.1}, {"render": 1.0})]


@pytest.mark.parametrize(("variable", "value"), [("DFW_BLOCK_PLUGINS", "Acme_Need"), ("DFW_NO_PLUGINS", "1")])
def test_what_a_run_requires_and_the_user_blocks_is_told(
    tmp_path: Path, variable: str, value: str, monkeypatch: pytest.MonkeyPatch
):
    write_package(tmp_path, "acme-need", "0.4", "[dfw.loss]\na = b:C\n")
    monkeypatch.setenv(variable, value)
    with on_path(tmp_path):
        check_requirements(["numpy"])
        with pytest.raises(PluginError, match=r"this run needs acme-need>=0\.1, and acme-need 0\.4 is blocked"):
            check_requirements(["acme-need>=0.1"])


def test_a_plugin_file_that_is_missing_or_raises_is_an_error(tmp_path: Path):
    with pytest.raises(PluginError, match="no such Python file"):
        load_plugin_file(tmp_path / "none.py")
    bad = tmp_path / "bad.py"
    bad.write_text("raise SystemExit(3)")
    with pytest.raises(PluginError, match=r"bad\.py failed to load: SystemExit: 3"):
        load_plugin_file(bad)
