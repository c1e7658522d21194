"""Rows that processes share, here threads of one process: values and gradients are those of one process with all rows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_diffusion import save_tiny_model
from torch import Tensor

from dfw import Conditioning
from dfw.ranks.exchange import Rows, entering, gathered, shared_parameters
from dfw.ranks.sharing import Sharing, share_guidance


class Meeting:
    """Where the threads exchange what they have."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._barrier = threading.Barrier(count, timeout=60)
        self._given: list[Any] = [None] * count

    def exchange(self, rank: int, given: Any) -> list[Any]:
        """Everybody's `given`."""
        self._given[rank] = given
        self._barrier.wait()
        found = list(self._given)
        self._barrier.wait()
        return found


class Seat:
    """One thread's place in a meeting: what `Connection` is to a process."""

    def __init__(self, meeting: Meeting, rank: int) -> None:
        self.meeting, self.rank, self.count = meeting, rank, meeting.count

    def tell(self, message: Any) -> list[Any]:
        return self.meeting.exchange(self.rank, message)

    def gather(self, part: Tensor, counts: Sequence[int]) -> Tensor:
        parts = self.meeting.exchange(self.rank, part.clone())
        assert [len(one) for one in parts] == list(counts)
        return torch.cat(parts)

    def sum(self, tensors: Sequence[Tensor]) -> None:
        for found in zip(*self.meeting.exchange(self.rank, [one.clone() for one in tensors]), tensors, strict=True):
            found[-1].copy_(torch.stack(found[:-1]).sum(0))


def each(count: int, work: Callable[[Seat], Any]) -> list[Any]:
    """What `work` gives in each of `count` threads."""
    meeting, found = Meeting(count), list[Any]([None] * count)

    def one(rank: int) -> None:
        try:
            found[rank] = work(Seat(meeting, rank))
        except BaseException as error:
            found[rank] = error
            meeting._barrier.abort()

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for value in found:
        if isinstance(value, BaseException) and not isinstance(value, threading.BrokenBarrierError):
            raise value
    return found


@pytest.mark.parametrize(
    ("rows", "block", "processes", "counts"),
    [(7, 1, 3, (3, 2, 2)), (8, 4, 3, (4, 4, 0)), (1, 1, 2, (1, 0)), (6, 2, 2, (4, 2)), (4, 1, 4, (1, 1, 1, 1))],
)
def test_rows_are_shared_out_in_whole_blocks(rows: int, block: int, processes: int, counts: tuple[int, ...]) -> None:
    shared = [Rows.of(rows, block, rank, processes) for rank in range(processes)]
    assert {one.counts for one in shared} == {counts}
    covered = [row for one in shared for row in range(one.first, one.first + one.kept)]
    assert covered == list(range(rows))
    assert all(one.slice(block).stop - one.slice(block).start >= block for one in shared)


@pytest.mark.parametrize(("rows", "count"), [(5, 2), (2, 3)])
def test_gradients_of_inputs_and_parameters_are_whole_in_every_process(rows: int, count: int) -> None:
    """Of a function that mixes the rows before and after the part that is shared."""
    x, weight = torch.randn(rows, 3, dtype=torch.float64), torch.randn(3, 2, dtype=torch.float64)

    def alone(x: Tensor, weight: Tensor) -> Tensor:
        return ((x.flip(0) * 2) @ weight).tanh().cumsum(0).square().sum()

    leaves = [one.clone().requires_grad_() for one in (x, weight)]
    expected = torch.autograd.grad(alone(*leaves), leaves)

    def shared(seat: Seat) -> tuple[Tensor, ...]:
        whole, trained = (one.clone().requires_grad_() for one in (x, weight))
        share = Rows.of(rows, 1, seat.rank, seat.count)
        (own,) = shared_parameters(seat, [trained])
        part = (entering(whole.flip(0) * 2, seat, share, 1) @ own).tanh()
        return torch.autograd.grad(gathered(part, seat, share.counts).cumsum(0).square().sum(), [whole, trained])

    for found in each(count, shared):
        for one, other in zip(found, expected, strict=True):
            assert torch.allclose(one, other, rtol=1e-12, atol=1e-12)


def test_an_adapter_trains_in_several_processes_as_in_one(tmp_path: Path) -> None:
    """Low-rank weights in a U-Net of the real class: predictions with and without gradients, gradients, the untouched model."""
    from dfw_guidance.stable_diffusion import StableDiffusion

    folder = save_tiny_model(tmp_path / "model")

    def model() -> StableDiffusion:
        return StableDiffusion(StableDiffusion.Config.model_validate({"model": str(folder), "precision": "fp32"}))

    making = threading.Lock()  # peft changes nn.Module itself while it makes one
    stream = torch.Generator().manual_seed(0)
    noisy, timestep = torch.randn(3, 4, 8, 8, generator=stream), torch.tensor([10, 500, 900])
    embedding = torch.randn(3, 12, 8, generator=stream)

    def asked(prior: StableDiffusion) -> tuple[Tensor, ...]:
        seen = Conditioning(embedding)
        with making:
            adapter = prior.adapter(2, torch.Generator().manual_seed(1))
        with torch.no_grad():
            for parameter in adapter.parameters():
                parameter.add_(0.1)
            quiet = adapter(noisy, timestep, seen)
        output = adapter(noisy, timestep, seen)
        grads = torch.autograd.grad(output.square().sum(), [*adapter.parameters()], allow_unused=True)
        image = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(2)).requires_grad_()
        encoded = prior.encode_image(image)
        (pull,) = torch.autograd.grad(encoded.cumsum(0).square().sum(), image)
        return quiet, output.detach(), prior.predict(noisy, timestep, seen).detach(), pull, *(g for g in grads if g is not None)

    models = [model() for _ in range(3)]
    expected = asked(models[0])

    def shared(seat: Seat) -> tuple[Tensor, ...]:
        prior = models[1 + seat.rank]
        sharing = Sharing(seat)  # type: ignore[arg-type]
        share_guidance(prior, lambda: sharing)
        return asked(prior)

    for found in each(2, shared):
        for one, other in zip(found, expected, strict=True):
            assert torch.allclose(one, other, rtol=0, atol=1e-6 + 1e-5 * float(other.abs().max()))
