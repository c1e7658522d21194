"""What the code of a plugin may change of the process around it: read before, compared after, and put back.

Imports no torch. Its settings count from the moment that it is imported, whoever imports it.
"""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from operator import attrgetter
from typing import Any


@dataclass(frozen=True)
class Setting:
    """Something of the process that code can change. A setting of several things has the frozenset of those that are on."""

    name: str
    read: Callable[[], Any]
    put_back: Callable[[Any], object]
    """Takes the value that was read before."""
    initial: Any = None
    """The value once the library that it belongs to has been imported; None: it depends on the machine."""
    shown: str = "{name} to {now}"
    """How messages say it. `now` is the new value, or what was switched on."""

    def undo(self, before: Any) -> str:
        """Puts the value `before` in place again. Returns what had changed; nothing where nothing had."""
        now = self.read()
        if before is None or now == before:
            return ""
        new: object = now
        if isinstance(now, frozenset):
            new = ", ".join(sorted(now - before))
        elif isinstance(now, dict):
            new = ", ".join(f"{key}={value}" for key, value in now.items() if before.get(key, value) != value)
        if new == "":
            return ""
        self.put_back(before)
        return self.shown.format(name=self.name, now=new)


@contextmanager
def kept(report: Callable[[str], None]) -> Iterator[None]:
    """Puts back what the code inside changes of this process (`settings`).

    `report` is called once, with what was changed: `torch's default dtype to torch.float64`.
    """
    before = {one.name: one.read() for one in settings()}
    try:
        yield
    finally:
        changes = [said for one in settings() if (said := one.undo(before.get(one.name, one.initial)))]
        if changes:
            report(" and ".join(changes))


def settings() -> tuple[Setting, ...]:
    """Returns all settings that there are now. Python's come first, since the others need it in order."""
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    known = _PROCESS if not hasattr(numpy, "geterr") else (*_PROCESS, _numpy(numpy))
    return known if not hasattr(torch, "get_default_device") else (*known, *_torch(torch))  # without: torch is half imported


# -- Python and the operating system -----------------------------------------------------------------------------------


def _hidden() -> frozenset[str]:
    """Returns the modules that None stands for in sys.modules, so that nobody can import them."""
    return frozenset([name for name, module in sys.modules.copy().items() if module is None])


def _show_again(before: frozenset[str]) -> None:
    for name in _hidden() - before:
        del sys.modules[name]


def _folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # the folder was deleted
        return None


def _return_to(folder: str) -> None:
    with suppress(OSError):
        os.chdir(folder)


def _umask() -> int:
    now = os.umask(0o077)  # reading it means to set it; what another thread makes meanwhile is private
    os.umask(now)
    return now


def _armed() -> frozenset[str]:
    """Returns the timers that will send a signal to this process."""
    timers = ("ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF")
    return frozenset(name for name in timers if hasattr(signal, name) and signal.getitimer(getattr(signal, name))[0] > 0)


def _disarm(before: frozenset[str]) -> None:
    for name in _armed() - before:
        signal.setitimer(getattr(signal, name), 0)


_STREAMS = {"stdout": 1, "stderr": 2}


def _closed() -> frozenset[str]:
    return frozenset(name for name in _STREAMS if getattr(getattr(sys, name), "closed", False))


def _open_again(before: frozenset[str]) -> None:
    """Opens standard streams anew: closing one leaves its descriptor open."""
    for name in _closed() - before:
        old = getattr(sys, name)
        encoding, errors = getattr(old, "encoding", None) or "utf-8", getattr(old, "errors", None)
        with suppress(OSError):
            raw = os.fdopen(_STREAMS[name], "wb", closefd=False)
            setattr(sys, name, io.TextIOWrapper(raw, encoding, errors, line_buffering=True))


def _muted() -> dict[str, Any]:
    """Returns what keeps the framework's own words from being heard: `logging.disable`, and loggers that are switched off."""
    loggers = [(name, one) for name, one in logging.root.manager.loggerDict.copy().items() if name.partition(".")[0] == "dfw"]
    off = tuple(name for name, one in loggers if getattr(one, "disabled", False))
    return {"disable": logging.root.manager.disable, "disabled": off, "handlers": tuple(logging.getLogger("dfw").handlers)}


def _speak_again(before: dict[str, Any]) -> None:
    logging.disable(before["disable"])
    for name in set(_muted()["disabled"]) - set(before["disabled"]):
        logging.getLogger(name).disabled = False
    logging.getLogger("dfw").handlers[:] = before["handlers"]


_PROCESS = (
    Setting("the recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
    Setting("sys.modules", _hidden, _show_again, shown="{name} to None for {now}"),
    Setting("the current directory", _folder, _return_to),
    Setting("the umask", _umask, os.umask, shown="{name} to {now:#o}"),
    Setting("timers", _armed, _disarm, shown="the timer {now} to on"),
    Setting("logging", _muted, _speak_again),
    Setting("streams", _closed, _open_again, shown="{now} to closed"),
)


# -- libraries ---------------------------------------------------------------------------------------------------------


def _numpy(numpy: Any) -> Setting:
    initial = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}
    return Setting("numpy's handling of floating-point errors", numpy.geterr, lambda value: numpy.seterr(**value), initial)


@cache
def _torch(torch: Any) -> tuple[Setting, ...]:
    """Returns the settings of torch that can change the bits of a run, or end it."""

    def flag(path: str, initial: Any) -> Setting:
        owner, _, name = path.rpartition(".")
        place = attrgetter(owner)(torch)
        return Setting(f"torch.{path}", lambda: getattr(place, name), lambda value: setattr(place, name, value), initial)

    return (
        # Inference mode first: leaving it switches the gradients on.
        Setting("torch's inference mode", torch.is_inference_mode_enabled, lambda mode: _infer(torch, mode), False),
        Setting("torch's grad mode", torch.is_grad_enabled, torch.set_grad_enabled, True),
        Setting("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype, torch.float32),
        Setting("torch's default device", torch.get_default_device, lambda value: _set_device(torch, value), torch.device("cpu")),
        Setting("torch's number of threads", torch.get_num_threads, torch.set_num_threads),
        Setting("torch's precision of float32", lambda: _precision(torch), lambda value: _set_precision(torch, value), _FULL),
        Setting("torch's deterministic mode", torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode, 0),
        Setting("torch's anomaly mode", torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly, False),
        Setting(
            "autocast",
            lambda: frozenset(kind for kind in _AUTOCAST if torch.is_autocast_enabled(kind)),
            lambda before: [torch.set_autocast_enabled(kind, kind in before) for kind in _AUTOCAST],
            frozenset(),
            "torch's autocast to on for {now}",
        ),
        flag("backends.cudnn.benchmark", False),
        flag("backends.cudnn.deterministic", False),
        flag("backends.cudnn.enabled", True),
    )


_AUTOCAST = ("cpu", "cuda")
_FULL = {"float32_matmul_precision": "highest", "backends.cudnn.allow_tf32": True}
_GUARDS: list[Any] = []


def _infer(torch: Any, mode: bool) -> None:
    """Enters or leaves inference mode. Torch has only a guard for it, and what a guard did is undone when it is freed."""
    guard = torch.inference_mode(mode)
    guard.__enter__()
    _GUARDS.append(guard)


def _set_device(torch: Any, device: Any) -> None:
    torch.set_default_device(None if device.type == "cpu" else device)


_BACKENDS = ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn")


@cache
def _backends(torch: Any) -> tuple[tuple[str, Any], ...]:
    return tuple((name, attrgetter(name)(torch.backends)) for name in _BACKENDS)


def _precision(torch: Any) -> dict[str, Any]:
    """Returns how exact products of float32 are: what the older functions say, and since torch 2.9 each backend."""
    found: dict[str, Any] = {"backends.cudnn.allow_tf32": torch.backends.cudnn.allow_tf32}
    try:
        found["float32_matmul_precision"] = torch.get_float32_matmul_precision()
    except RuntimeError:  # torch refuses to say it where the backends differ
        found["float32_matmul_precision"] = "mixed"
    if hasattr(torch.backends, "fp32_precision"):
        found["backends.fp32_precision"] = torch.backends.fp32_precision
        for name, place in _backends(torch):
            found[f"backends.{name}.fp32_precision"] = place.fp32_precision
    return found


def _set_precision(torch: Any, value: dict[str, Any]) -> None:
    """Puts them back. The older functions come first, since they change the backends too."""
    torch.backends.cudnn.allow_tf32 = value["backends.cudnn.allow_tf32"]
    if value["float32_matmul_precision"] != "mixed":
        torch.set_float32_matmul_precision(value["float32_matmul_precision"])
    for path, precision in value.items():
        owner, _, name = path.rpartition(".")
        if name == "fp32_precision":
            setattr(attrgetter(owner)(torch), name, precision)
