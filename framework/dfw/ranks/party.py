"""The processes of a run that torchrun has started: one leads, the others follow; how they find each other, and part.

The leader says in a store, which torchrun or the leader serves, what is to be trained (`announce`). All build it, and are
connected while they train. In the store a process also says why it ends, so that the others can say it too.
"""

from __future__ import annotations

import json
import logging
import os
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

import dfw.errors
from dfw.errors import ConfigError, DfwError, ProcessError, one_line
from dfw.interfaces.data import CameraBatch, RenderOutput
from dfw.interfaces.geometry import Geometry
from dfw.interfaces.guidance import Guidance
from dfw.interfaces.renderer import Renderer
from dfw.ranks.alone import Alone
from dfw.ranks.environment import COUNT, LOCAL, RANK
from dfw.ranks.group import Connection
from dfw.ranks.sharing import Sharing, share_guidance

log = logging.getLogger("dfw.ranks")

POLL = 0.05  # seconds between looks into the store; a signal is handled between two
FAREWELL = 5.0  # seconds that processes wait for each other's last word
LISTENING = 60.0  # seconds that the leader has to notice that another has failed: it may be in a preview
FINDING = timedelta(minutes=10)  # until the processes have found the store: a second machine may start late
GO_ON = "go on with the same command and --resume RUN"


class Dismissed(Exception):
    """The leader has ended, and said why to whom it concerns."""


class Signalled(KeyboardInterrupt):
    """A signal has ended another process."""


class Party(Alone):
    """One of the several processes of a run."""

    def __init__(self, rank: int, count: int) -> None:
        """Finds the others. Raises ProcessError where that fails."""
        self.rank, self.count = rank, count
        try:
            self._store: Any = next(rendezvous("env://", rank, count, timeout=FINDING))[0]
        except (ValueError, dist.DistError) as error:
            raise ProcessError(
                f"{COUNT}={count} says that this is one of several processes; they do not find each other: {one_line(error)}; "
                f"start them with torchrun, or unset {COUNT}"
            ) from error
        self._call = self._orders = 0
        self._leads = False
        self._connection: Connection | None = None
        self._sharing: Sharing | None = None
        self._in_step = self._ended = False

    # The store: what is said there stays, so that who comes later finds it.

    def _key(self, *names: object) -> str:
        return "/".join(("dfw", *map(str, names)))

    def _said(self, *names: object) -> bool:
        return bool(self._store.check([self._key(*names)]))

    def _read(self, *names: object) -> Any:
        return json.loads(self._store.get(self._key(*names)))

    def _say(self, value: object, *names: object) -> None:
        self._store.set(self._key(*names), json.dumps(value))

    def _others(self) -> list[int]:
        return [one for one in range(self.count) if one != self.rank]

    # The leader.

    @contextmanager
    def leading(self) -> Iterator[None]:
        """Inside, the leader makes runs; then it dismisses the others. May be nested."""
        if self._leads:
            yield
            return
        self._call, self._orders, self._leads = self._call + 1, 0, True
        lost = False
        try:
            yield
        except ProcessError:
            lost = True
            raise
        finally:
            self._leads = False
            self._say(None, self._call, "over")
            until = time.monotonic() + FAREWELL
            while not lost and time.monotonic() < until and not all(self._said(self._call, "bye", r) for r in self._others()):
                time.sleep(POLL)

    def announce(self, orders: Callable[[], dict[str, Any]]) -> None:
        """As `Alone.announce`."""
        if self._leads:
            self._orders += 1
            self._say(orders(), self._call, "orders", self._orders)

    # The others.

    @contextmanager
    def following(self) -> Iterator[Iterator[dict[str, Any]]]:
        """Gives what the leader announces, one after another, until it ends. Tells the leader what goes wrong here.

        Raises Dismissed when the leader has ended, and ProcessError if it ended without a word.
        """
        self._call, self._orders = self._call + 1, 0
        failed = False
        try:
            yield self._all_orders()
        except BaseException as error:
            failed = not isinstance(error, Dismissed | ProcessError)
            if failed:
                self._fail(error)
            raise
        finally:
            if not failed:  # one that has failed still listens (`heard`)
                self._part()

    def _part(self) -> None:
        with _gone_store():
            self._say(None, self._call, "bye", self.rank)

    def _all_orders(self) -> Iterator[dict[str, Any]]:
        while True:
            self._orders += 1
            self._wait(lambda: self._said(self._call, "orders", self._orders))
            yield self._read(self._call, "orders", self._orders)

    def _fail(self, error: BaseException) -> None:
        """Says why this process ends."""
        text = str(error) if isinstance(error, DfwError) else one_line(error)
        trace = "".join(traceback.format_exception(error))
        with _gone_store():
            said = {"kind": type(error).__name__, "text": text, "trace": trace}
            self._say(said | {"interrupted": isinstance(error, KeyboardInterrupt)}, self._call, "failed", self.rank)

    def heard(self) -> bool:
        """Waits for the leader to say how the run ends, after this process has failed. Returns whether it did."""
        until = time.monotonic() + LISTENING
        over = False
        with _gone_store():
            while not over and time.monotonic() < until:
                time.sleep(POLL)
                over = self._said(self._call, "over")
        self._part()
        return over

    # All of them.

    def _wait(self, there: Callable[[], bool]) -> None:
        """Waits until `there()`. Raises as `_lost` does if a process that is waited for has ended."""
        try:
            while not there():
                self._look()
                time.sleep(POLL)
        except dist.DistError as error:  # the store is gone, with the leader that served it
            raise self._gone([0]) from error

    def _look(self) -> None:
        """Raises what ends this process, if another has said that it ends."""
        if self.rank and self._said(self._call, "over"):
            raise Dismissed
        for one in self._others():
            if self._said(self._call, "failed", one):
                if self.rank:
                    raise Dismissed  # the leader says it
                said = self._read(self._call, "failed", one)
                log.info("process %d of %d: %s", one, self.count, said["trace"])
                if said["interrupted"]:
                    raise Signalled
                kind = getattr(dfw.errors, said["kind"], ProcessError)
                raise kind(f"process {one} of {self.count}: {said['text']}")

    def _lost(self, error: Exception) -> Exception:
        """What to raise when the connection breaks with `error`."""
        try:
            self._say(None, self._call, self._orders, "noticed", self.rank)
            until = time.monotonic() + FAREWELL
            missing = self._others()
            while missing and time.monotonic() < until:
                self._look()
                missing = [one for one in self._others() if not self._said(self._call, self._orders, "noticed", one)]
                time.sleep(POLL)
        except (Dismissed, DfwError) as known:
            return known
        except dist.DistError:
            missing = [0]
        if missing:
            return self._gone(missing)
        return ProcessError(f"the processes of this run lost touch: {one_line(error)}; {GO_ON}")

    def _gone(self, missing: list[int]) -> ProcessError:
        who = " and ".join(map(str, missing))
        return ProcessError(
            f"process {who} of the {self.count} of this run has gone without a word: killed, or out of memory; {GO_ON}"
        )

    @contextmanager
    def training(self, state: Callable[[], list[Tensor]], step: int) -> Iterator[None]:
        """As `Alone.training`. Ends in all processes when it ends in one."""
        if not (self._orders or self._leads):
            yield  # a trainer of its own, which nobody announced
            return
        self._say(None, self._call, self._orders, "here", self.rank)
        self._ended = False
        try:
            self._wait(lambda: all(self._said(self._call, self._orders, "here", one) for one in self._others()))
        except Signalled:
            self._ended = True
        if self._ended:
            yield  # no step is taken (`agree`), and the run ends as by a signal to this process
            return
        tensors = state()
        store = PrefixStore(self._key(self._call, self._orders, "connection"), self._store)
        self._connection = Connection(store, self.rank, self.count, tensors[0].device, self._lost)
        try:
            self._sharing = Sharing(self._connection)
            self._compare(step, tensors)
            yield
            self._connection.tell(None)  # nobody hangs up while another still hears
        except BaseException as error:  # one that follows says it in `following`, when it is known whose error it is
            if self._leads and not isinstance(error, ProcessError):
                self._say(None, self._call, "over")  # at once: the leader still writes how the run ended
            raise
        finally:
            connection, self._connection, self._sharing = self._connected(), None, None
            connection.close()

    def _compare(self, step: int, tensors: list[Tensor]) -> None:
        sums = [(list(one.shape), repr(float(one.detach().double().sum()))) for one in tensors]
        told = self._connected().tell((step, sums))
        odd = [one for one in range(self.count) if told[one] != told[0]]
        if odd:
            raise ProcessError(
                f"process {' and '.join(map(str, odd))} begins with another scene than process 0; use GPUs of one type, and the "
                "same versions everywhere"
            )

    def _connected(self) -> Connection:
        assert self._connection is not None
        return self._connection

    def agree(self, stop: bool) -> bool:
        """Whether any process says `stop`."""
        return stop or self._ended if self._connection is None else any(self._connection.tell(stop))

    # What is shared.

    @contextmanager
    def in_step(self) -> Iterator[None]:
        """As `Alone.in_step`."""
        self._in_step = True
        try:
            yield
        finally:
            self._in_step = False

    def _now(self) -> Sharing | None:
        return self._sharing if self._in_step else None

    def share(self, guidances: Iterable[Guidance]) -> None:
        """As `Alone.share`."""
        for one in guidances:
            share_guidance(one, self._now)

    def render(self, renderer: Renderer, geometry: Geometry, cameras: CameraBatch, generator: torch.Generator) -> RenderOutput:
        """As `Alone.render`; every process renders some views."""
        now = self._now()
        if now is None:
            return super().render(renderer, geometry, cameras, generator)
        return now.render(renderer, geometry, cameras, generator)

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replaces gradients by their mean over the processes, so that all step to the same bits."""
        if self._connection is None:
            return
        trained = [*parameters]
        told = self._connection.tell([None if one.grad is None else list(one.shape) for one in trained])
        shapes = [next((shape for shape in shapes if shape is not None), None) for shapes in zip(*told, strict=True)]
        for one, shape in zip(trained, shapes, strict=True):
            if shape is not None and list(one.shape) != shape:
                raise ProcessError("the scenes of the processes have grown apart; report it, with the configuration")
            if shape is not None and one.grad is None:
                one.grad = torch.zeros_like(one)
        grads = [one.grad for one in trained if one.grad is not None]
        self._connection.sum(grads)
        for grad in grads:
            grad.div_(self.count)

    # This process.

    def placed(self, device: str) -> str:
        """`cuda` and `auto` are the process's own GPU. Raises ConfigError for one device that all would share."""
        wanted = device
        if device == "auto":
            wanted = "cuda" if torch.cuda.is_available() else "cpu"
        if wanted == "cpu":
            return wanted
        if wanted != "cuda":
            raise ConfigError(f"device: {device} is one device, and this run has {self.count} processes; write device=auto")
        local, there = int(os.environ.get(LOCAL, self.rank)), torch.cuda.device_count()
        if there == 1 and os.environ.get("CUDA_VISIBLE_DEVICES", "").strip():
            return "cuda:0"  # the scheduler shows each process its own
        if local >= there:
            raise ConfigError(
                f"device: {device}: process {self.rank} is number {local + 1} on this machine, which has {there} GPUs; start it "
                f"with torchrun --nproc-per-node {there}, or write device=cpu"
            )
        return f"cuda:{local}"

    @contextmanager
    def apart(self) -> Iterator[None]:
        """As `Alone.apart`."""
        kept = {name: os.environ.pop(name) for name in (RANK, COUNT, LOCAL) if name in os.environ}
        try:
            yield
        finally:
            os.environ.update(kept)


@contextmanager
def _gone_store() -> Iterator[None]:
    """Lets it pass that the store is gone, with the leader that served it: then nobody is there to hear."""
    try:
        yield
    except dist.DistError:
        log.info("the leader is gone")
