"""How the process `dfw` ends: with its exit code, and with nothing lost that Python would have done."""

import subprocess
import sys

import pytest

from dfw.cli.process import process


def ended(before: str, code: int) -> subprocess.CompletedProcess[str]:
    """Runs `before` in a process of its own, which `dfw.cli.process.end` then ends."""
    script = f"import atexit, sys, threading, time\nfrom dfw.cli.process import end\n{before}\nend({code})"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ("print('a line', end='')", "a line"),
        ("sys.stdout.write('x' * 1_000_000)", "x" * 1_000_000),
        ("atexit.register(print, 'at the end')", "at the end\n"),
        ("atexit.register(print, 'second'); atexit.register(print, 'first')", "first\nsecond\n"),
        ("threading.Thread(target=lambda: (time.sleep(0.3), print('from a thread'))).start()", "from a thread\n"),
        ("threading.Thread(target=time.sleep, args=(600,), daemon=True).start()", ""),
    ],
    ids=["unflushed", "long", "atexit", "order", "thread", "daemon"],
)
def test_what_python_does_at_the_end_is_done(before: str, said: str) -> None:
    done = ended(before, 3)
    assert (done.returncode, done.stdout, done.stderr) == (3, said, "")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_closed_stream_changes_nothing(stream: str) -> None:
    assert ended(f"sys.{stream}.close()", 2).returncode == 2
    assert ended(f"sys.{stream} = None", 2).returncode == 2


def test_the_command_and_the_module_end_alike() -> None:
    module = subprocess.run([sys.executable, "-m", "dfw", "run", "dreamfuson"], capture_output=True, text=True, check=False)
    script = "import sys; sys.argv = ['dfw', 'run', 'dreamfuson']\nfrom dfw.cli.process import process\nprocess()"
    command = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert module.returncode == command.returncode == 2
    assert module.stderr == command.stderr
    assert "did you mean 'dreamfusion'" in module.stderr


def test_a_caller_with_arguments_gets_the_exit_code() -> None:
    """So do tests of packages that load the console script."""
    assert process(["--version"]) == 0
    assert process(["run", "dreamfuson"]) == 2


def test_the_interpreter_is_not_taken_apart() -> None:
    """An object that says when it is deleted is not heard: that is the work which is left out."""
    assert ended("class Last:\n    def __del__(self): print('deleted')\nlast = Last()", 0).stdout == ""
