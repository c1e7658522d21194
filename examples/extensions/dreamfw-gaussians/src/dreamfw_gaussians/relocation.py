"""Where new Gaussians come from: dead ones are moved onto live ones. 3DGS as Markov chain Monte Carlo (Kheradmand et al. 2024).

Legend: N Gaussians, K of them moved. The moved Gaussian and its host then share what the host showed alone.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

MOST = 51
"""A host counts as at most this many Gaussians, itself among them: further on, the sums of eq. 9 cancel to nothing in float64."""


@cache
def _coefficients() -> Tensor:
    """c[n, k] = (-1)^k / sqrt(k + 1) sum_{i=1}^{n} binomial(i - 1, k), float64, for n up to MOST."""
    table = torch.zeros(MOST + 1, MOST, dtype=torch.float64)
    for n in range(1, MOST + 1):
        for k in range(n):
            table[n, k] = (-1) ** k / math.sqrt(k + 1) * math.comb(n, k + 1)  # the sum over i: hockey-stick identity
    return table


def shared(opacity: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Opacity of each of `count` Gaussians in place of one of `opacity`, and the factor of their scales. Eq. 9; all float64 (K,).

    New opacity 1 - (1 - o)^(1/n), so that the centres composite to o; new scale s o / sum_{k<n} c[n, k] o_new^(k+1), so that
    an integral across the n Gaussians stays what it was.
    """
    fresh = 1 - (1 - opacity) ** (1 / count.double())
    powers = fresh[:, None] ** torch.arange(1, MOST + 1, dtype=torch.float64)
    return fresh, opacity / (_coefficients()[count] * powers).sum(-1)


def choose_hosts(opacity: Tensor, dead: Tensor, wanted: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The first dead Gaussians, as many as it takes for `wanted` live ones, and for each a live host: (K,) and (K,) rows.

    Hosts are drawn in proportion to their opacity (N,), with replacement. Both empty when none is missing, or none is alive.
    """
    live = ~dead
    missing = max(0, wanted - int(live.sum()))
    moved = dead.nonzero()[:missing, 0]
    if len(moved) == 0 or not bool(live.any()):
        return moved[:0], moved[:0]
    return moved, torch.multinomial(opacity * live, len(moved), replacement=True, generator=generator)
