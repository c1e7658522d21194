"""The device that stands in for a GPU: it computes what the CPU does, and refuses what a GPU refuses."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from dfw.testing import Skip
from dfw.testing.experimental_device import NAME, StandInTensor, stand_in

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a real second device")


def place() -> torch.device:
    return torch.device(f"{NAME}:0")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator(place()).manual_seed(seed)


def test_tensors_are_there_and_come_back() -> None:
    with stand_in() as second:
        there = torch.arange(3.0).to(place())
        assert there.device == second.device == place()
        assert not there.is_cpu
        for made in (there + 1, there[1:], torch.zeros(2, device=place()), torch.tensor([1, 2], device=there.device)):
            assert made.device == place()
        assert there.cpu().device == torch.device("cpu")
        assert there.tolist() == [0.0, 1.0, 2.0]
        moved = torch.zeros(3)
        moved.to(place()).add_(1)
        assert moved.tolist() == [0.0] * 3


def network(where: str | torch.device) -> nn.Module:
    stream = torch.Generator().manual_seed(0)
    made = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.SiLU(), nn.Linear(4, 1))
    for parameter in made.parameters():
        parameter.data = torch.rand(parameter.shape, generator=stream)
    return made.to(where)


def trained(where: str | torch.device) -> list[torch.Tensor]:
    """The parameters of a small network after three steps of Adam."""
    made = network(where)
    optimizer = torch.optim.Adam(made.parameters(), lr=0.1)
    draws = torch.Generator(where).manual_seed(4)
    for _ in range(3):
        optimizer.zero_grad()
        made(torch.randn(8, 3, generator=draws, device=where)).square().mean().backward()
        nn.utils.clip_grad_norm_(made.parameters(), 1.0)
        optimizer.step()
    return [parameter.detach().cpu() for parameter in made.parameters()]


def test_training_there_gives_the_numbers_of_the_cpu() -> None:
    here = trained("cpu")
    with stand_in():
        there = trained(place())
    torch.testing.assert_close(there, here)


def test_modules_change_their_dtype_there() -> None:
    with stand_in():
        made = network(place()).double()
        for parameter in made.parameters():
            assert isinstance(parameter, StandInTensor)
            assert parameter.dtype == parameter.here.dtype == torch.float64


def test_writing_through_a_view_and_in_place() -> None:
    with stand_in():
        there = torch.zeros(2, 3, device=place())
        there[0] = 1
        there.view(-1)[4:].add_(2)
        there[:, 0].copy_(torch.tensor([7.0, 8.0]))
        assert there.tolist() == [[7, 1, 1], [8, 2, 2]]


def test_the_data_of_a_parameter_can_be_replaced() -> None:
    with stand_in():
        parameter = nn.Parameter(torch.full((2,), 3.0, device=place()))
        parameter.data = parameter.data.clamp(max=1)
        parameter.data[0] = 5
        (2 * parameter).sum().backward()
        assert parameter.tolist() == [5, 1]
        assert parameter.grad is not None
        assert parameter.grad.tolist() == [2, 2]


class Shared(nn.Module):
    """One parameter under two names, one more in a plain list, and an optimiser from before it moves."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(2, 2), nn.Linear(2, 2)
        self.two.weight = self.one.weight
        self.listed = [self.one.bias]
        self.optimizer = torch.optim.SGD(self.parameters(), lr=1.0)


def test_parameters_stay_the_same_objects_as_on_a_gpu() -> None:
    with stand_in() as second:
        module = Shared().to(second.device)
        assert module.two.weight is module.one.weight
        assert module.listed[0].device == second.device
        (module.one.weight.sum() + module.listed[0].sum()).backward()
        before = module.one.weight.tolist()
        module.optimizer.step()
        torch.testing.assert_close(module.one.weight.cpu(), torch.tensor(before) - 1)


class Clipped(torch.autograd.Function):
    """Makes a constant on the device of its gradient, in a thread of autograd's."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
        return value * 2

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return torch.minimum(gradient * torch.tensor(2.0, device=gradient.device), gradient.new_tensor([1.5]))


def test_a_backward_may_make_tensors_there() -> None:
    with stand_in() as second:
        value = torch.ones(3, device=second.device, requires_grad=True)
        Clipped.apply(value).sum().backward()
        assert value.grad is not None
        assert value.grad.tolist() == [1.5] * 3


@pytest.mark.parametrize("action", [lambda there: there.unsqueeze_(0), lambda there: there.resize_(5)])
def test_what_it_cannot_do_is_a_skip_and_no_failure(action: Callable[[torch.Tensor], object]) -> None:
    with stand_in() as second, pytest.raises(Skip, match="cannot change the shape of a tensor in place"):
        action(torch.zeros(3, device=second.device))


def test_mixed_precision_and_checkpointing_work_there() -> None:
    """Autocast changes nothing: what is asked is where things are."""
    with stand_in():
        module = network(place())
        with torch.autocast(place().type, dtype=torch.bfloat16):
            shown = checkpoint(module, torch.ones(2, 3, device=place()), use_reentrant=False)
        shown.sum().backward()
        assert all(parameter.grad is not None for parameter in module.parameters())


REFUSED: dict[str, Callable[[torch.Tensor], object]] = {
    "a sum over two devices": lambda there: there + torch.ones(3),
    "a list of both": lambda there: torch.stack([there[0], torch.tensor(1.0)]),
    "a result written on the other device": lambda there: torch.zeros(()).add_(there[0]),
    "an index that is there": lambda there: torch.zeros(3)[there.long()],
    "a gather": lambda there: there.gather(0, torch.zeros(2, dtype=torch.long)),
    "a matrix product": lambda there: torch.ones(2, 3) @ there,
    "a draw there from a stream here": lambda there: torch.rand(3, device=there.device, generator=torch.Generator()),
    "a draw here from a stream there": lambda there: torch.rand(3, generator=generator()),
    "an in-place draw": lambda there: torch.zeros(3).normal_(generator=generator()),
    "reading its memory": lambda there: there.numpy(),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_second_device_refuses(name: str) -> None:
    with stand_in():
        there = torch.ones(3, device=place())
        with pytest.raises(RuntimeError):
            REFUSED[name](there)


def test_what_a_second_device_allows() -> None:
    """Single numbers, and indices on the CPU, meet tensors of a GPU: so they do here."""
    with stand_in():
        there = torch.arange(3.0, device=place())
        assert (there * torch.tensor(2.0)).tolist() == [0, 2, 4]
        assert there[torch.tensor([2, 0])].tolist() == [2, 0]
        assert torch.where(there > 1, there, torch.tensor(-1.0)).tolist() == [-1, -1, 2]


WAITS: dict[str, Callable[[torch.Tensor], object]] = {
    "a number read": lambda there: float(there.sum()),
    "a condition": lambda there: bool((there > 0).all()),
    "a list": lambda there: there.tolist(),
    "a mask": lambda there: there[there > 1],
    "places": lambda there: (there > 1).nonzero(),
    "numbers uploaded": lambda there: there.new_tensor([1.0, 2.0]),
    "a copy to the CPU": lambda there: there.cpu(),
    "a write into the CPU": lambda there: torch.zeros(3).copy_(there),
}
NO_WAITS: dict[str, Callable[[torch.Tensor], object]] = {
    "arithmetic": lambda there: (there * 2).sum(),
    "a factory": lambda there: there.new_full((2,), 3.0),
    "an index": lambda there: there[there.long()],
    "its shape": lambda there: there.shape,
    "an upload that is not waited for": lambda there: torch.ones(3).to(there.device, non_blocking=True),
    "where": lambda there: torch.where(there > 1, there, 0.0),
}


@pytest.mark.parametrize("name", [*WAITS, *NO_WAITS])
def test_where_the_program_waits_is_written_down(name: str) -> None:
    action = {**WAITS, **NO_WAITS}[name]
    with stand_in() as second:
        there = torch.arange(3.0, device=second.device)
        second.waits.clear()
        action(there)
    assert bool(second.waits) == (name in WAITS)
    assert all(__file__ in where for _, where in second.waits)


def test_nothing_of_it_is_left() -> None:
    plain = torch.Generator
    with stand_in():
        assert torch.Generator is not plain
        assert isinstance(generator(), torch.Generator)
        assert isinstance(plain(), torch.Generator)
    assert torch.Generator is plain
    assert not torch.accelerator.is_available()


LATE = """
import torch
torch.ones(3, requires_grad=True).sum().backward()
from dfw.testing import Skip
from dfw.testing.experimental_device import stand_in
try:
    with stand_in():
        print("there")
except Skip as skip:
    print(skip)
"""


def test_when_it_is_too_late_the_reason_is_said() -> None:
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "a backward pass ran before dfw.testing was imported; import it first"
