"""The moving average of parameters, by hand."""

from __future__ import annotations

import torch
from torch import nn

from dfw import Resized
from dfw.runs.average import Average


def test_rows_that_continue_keep_their_average_and_new_ones_begin_at_their_values() -> None:
    module = nn.Module()
    module.rows = nn.Parameter(torch.tensor([[1.0], [2.0], [3.0]]))
    average = Average({"part": module}, 0.5)
    with torch.no_grad():
        module.rows += 10
    average.update()  # decay min(0.5, 2/11): the average moves by 9/11 of the step
    (held,) = (tensor for name, tensor in average.named_buffers() if name != "steps")
    torch.testing.assert_close(held, torch.tensor([[1.0], [2.0], [3.0]]) + 10 * 9 / 11)
    before = held.clone()
    module.rows.data = torch.tensor([[13.0], [7.0]])
    average.update([Resized(module.rows, module.rows.data, torch.tensor([2, -1]))])
    (held,) = (tensor for name, tensor in average.named_buffers() if name != "steps")
    kept = 3 / 12  # of decay min(0.5, 3/12)
    torch.testing.assert_close(held, torch.stack([kept * before[2] + (1 - kept) * 13.0, torch.tensor([7.0])]))
