"""Silhouettes become smooth and differentiable: neighbouring pixels blend by where an edge passes between them.

Laine et al. 2020, "Modular Primitives for High-Performance Differentiable Rendering", section 3.4, with two changes. They look at
the edges of the triangle that a pixel shows, and so miss silhouettes of triangles that are smaller than a pixel. Here each
silhouette edge looks for the pairs of pixels between which it passes. And they use pairs in a row for edges that are more
upright than level, else pairs in a column; here both count, by shares that change smoothly with the edge's direction, so that
a picture does not jump when an edge turns.

Points of a view are as in `rasteriser`. Legend: B views, F triangles, E edges, M silhouettes of all views, K pairs of pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .rasteriser import NEAR

_SHARPNESS = 2  # both kinds of pairs count within 7 degrees of the diagonal; 0.5 blurs upright edges, more gains nothing


@dataclass(frozen=True)
class Edges:
    """What triangles share."""

    corners: Tensor
    """(E, 2) int64, vertices, the lower index first."""
    of_side: Tensor
    """(3 F,) int64, the edge of each side of each triangle: from its first corner to its second, and so on."""
    turn: Tensor
    """(3 F,) int32, 1 where the side runs from the lower index to the higher, else -1."""
    sides: Tensor
    """(E,) int32, how many triangles have the edge; 0 for one that begins where it ends."""


def edges_of(faces: Tensor) -> Edges:
    """Returns the edges of triangles (F, 3)."""
    start, end = faces.flatten(), faces.roll(-1, 1).flatten()
    low, high = torch.minimum(start, end), torch.maximum(start, end)
    count = faces.max() + 1 if len(faces) else faces.new_ones(())
    key, of_side = torch.unique(low * count + high, return_inverse=True)
    corners = torch.stack([key // count, key % count], dim=1)
    turn = torch.where(start < end, 1, -1).int()
    sides = torch.zeros(len(key), dtype=torch.int32, device=faces.device).index_add_(0, of_side, torch.ones_like(turn))
    return Edges(corners, of_side, turn, sides * (corners[:, 0] != corners[:, 1]))


class KnownEdges:
    """Edges of triangles, kept until others are asked about: many geometries have the same triangles in every step."""

    def __init__(self) -> None:
        self._faces: Tensor | None = None
        self._version = 0
        self._edges: Edges | None = None

    def __call__(self, faces: Tensor) -> Edges:
        """The edges of triangles (F, 3)."""
        if faces.is_inference():  # it does not count its changes
            return edges_of(faces)
        if self._edges is None or self._faces is not faces or self._version != faces._version:
            self._faces, self._version, self._edges = faces, faces._version, edges_of(faces)
        return self._edges


@dataclass(frozen=True)
class Silhouettes:
    """Edges whose triangles all lie on one side of them, as a view sees it."""

    view: Tensor
    """(M,) int64."""
    edge: Tensor
    """(M,) int64."""
    side: Tensor
    """(M,) int32, 1 or -1: the sign of (a x b) . c for the edge's points a and b and a third corner c."""


def silhouettes(turned: Tensor, edges: Edges) -> Silhouettes:
    """Returns the silhouettes, view by view. An edge of one triangle is one always. turned: (B, F), from `turned_away`."""
    facing = torch.where(turned, 1, -1).int().repeat_interleave(3, dim=1)
    score = torch.zeros(len(turned), len(edges.corners), dtype=torch.int32, device=turned.device)
    score.index_add_(1, edges.of_side, facing * edges.turn)
    view, edge = ((score.abs() == edges.sides) & (edges.sides > 0)).nonzero().unbind(-1)
    return Silhouettes(view, edge, score[view, edge].sign())


@dataclass(frozen=True)
class _Lines:
    """Silhouettes between two points a and b (M, 3) each, whose surface lies where side * (a x b) . d > 0."""

    view: Tensor
    a: Tensor
    b: Tensor
    side: Tensor

    def __getitem__(self, index: Tensor) -> _Lines:
        """Some of them. Unlike brackets, `index_select` sums gradients in the same order on any number of threads."""
        return _Lines(*(value.index_select(0, index) for value in (self.view, self.a, self.b, self.side)))

    @property
    def turned(self) -> _Lines:
        """With rows for columns. This mirrors the picture, so that the surface lies on the other side."""
        a, b = (torch.stack([end[:, 1], end[:, 0], end[:, 2]], dim=1) for end in (self.a, self.b))
        return _Lines(self.view, a, b, -self.side)

    @property
    def normal(self) -> Tensor:
        """a x b (M, 3), accurate for short edges."""
        across: Tensor = torch.linalg.cross(self.a, self.b - self.a)
        return across


@dataclass(frozen=True)
class _Crossings:
    """Where lines pass between a pixel and its right neighbour: K of them."""

    line: Tensor
    """(K,) int64, which line."""
    row: Tensor
    """(K,) int64."""
    left: Tensor
    """(K,) int64, the left pixel's column."""
    surface_left: Tensor
    """(K,) bool, whether the surface is on the left of the line."""
    depth: Tensor
    """(K,), of the line at the crossing."""


def _place(lines: _Lines, below: Tensor) -> Tensor:
    """How far (K,) right of the picture's middle each line passes the row that is `below` its middle, pixels."""
    normal = lines.normal
    return -(normal[:, 1] * below + normal[:, 2]) / normal[:, 0]


def _share(lines: _Lines) -> Tensor:
    """How much (M,) pairs in a row count for a line: 1 for an upright one, 0 for a level one."""
    x, y = lines.normal[:, 0].square(), lines.normal[:, 1].square()
    return (0.5 + _SHARPNESS * (x - y) / (x + y).clamp(min=torch.finfo(x.dtype).tiny)).clamp(0, 1)


def _crossings(lines: _Lines, height: int, width: int) -> _Crossings:
    """All crossings of centre lines of rows, between two columns, whether the surface is seen there or not."""
    a, b = lines.a, lines.b
    ahead = ((a[:, 2] >= NEAR) | (b[:, 2] >= NEAR)) & (a + b).isfinite().all(-1)
    step = (b - a)[:, 2]
    cut = ((NEAR - a[:, 2]) / torch.where(step == 0, 1, step))[:, None]
    at_plane = a + cut * (b - a)
    ends = [torch.where((end[:, 2] >= NEAR)[:, None], end, at_plane) for end in (a, b)]
    place = torch.stack([end[:, 1] / end[:, 2] for end in ends]) + 0.5 * height - 0.5
    top, bottom = place.amin(0).clamp(0, height).ceil(), place.amax(0).clamp(0, height).ceil()
    count = torch.where(ahead & (_share(lines) > 0), bottom - top, 0).long()
    line = torch.repeat_interleave(torch.arange(len(count), device=count.device), count)
    rank = torch.arange(len(line), device=line.device) - (count.cumsum(0) - count)[line]
    row = top.long()[line] + rank
    at = lines[line]
    below = row + 0.5 - 0.5 * height
    column = _place(at, below) + 0.5 * width - 0.5
    on_left = at.side * at.normal[:, 0] < 0
    column = column.clamp(-1, width)
    # a line through a centre leaves that pixel to the surface, as the rasteriser does, and so passes behind it
    left = torch.where(on_left, column.floor(), column.ceil() - 1).long()
    over, under = at.a[:, 1] - below * at.a[:, 2], at.b[:, 1] - below * at.b[:, 2]
    along = over / (over - under)
    depth = at.a[:, 2] + along * (at.b[:, 2] - at.a[:, 2])
    found = _Crossings(line, row, left, on_left, depth)
    kept = ((left >= 0) & (left < width - 1) & (depth >= NEAR)).nonzero()[:, 0]
    return _Crossings(*(getattr(found, name)[kept] for name in vars(found)))


@dataclass(frozen=True)
class Blend:
    """Pixels that take a share of a neighbour's value."""

    target: Tensor
    """(K,) int64, of the B H W pixels."""
    source: Tensor
    """(K,) int64."""
    amount: Tensor
    """(K,), >= 0, at most 1 for all pairs of a target together, with gradients to the vertices."""

    def __call__(self, picture: Tensor) -> Tensor:
        """Blends a picture (B H W, C), in place."""
        change = self.amount[:, None] * (picture.index_select(0, self.source) - picture.index_select(0, self.target))
        return picture.index_add_(0, self.target, change)


def blend(points: Tensor, edges: Edges, turned: Tensor, shown: Tensor, depth: Tensor) -> Blend:
    """Returns how pixels blend at silhouettes.

    points: (B, V, 3) with gradients. turned: (B, F), from `turned_away`. shown, depth: (B, H, W), from `nearest`.
    """
    found = silhouettes(turned, edges)
    ends = edges.corners[found.edge]
    flat = points.reshape(-1, 3)
    first = found.view * points.shape[1]
    a, b = (flat.index_select(0, first + ends[:, k]) for k in range(2))
    lines = _Lines(found.view, a, b, found.side)
    index = torch.arange(depth.numel(), device=depth.device).view(depth.shape)
    pairs = [
        _pairs(lines, shown, depth, index),
        _pairs(lines.turned, *(image.transpose(1, 2) for image in (shown, depth, index))),
    ]
    target, source, amount = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    total = torch.zeros(depth.numel(), dtype=amount.dtype, device=amount.device).index_add(0, target, amount)
    return Blend(target, source, amount / total.index_select(0, target).clamp(min=1))


def _pairs(lines: _Lines, shown: Tensor, depth: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Targets, sources and amounts of pairs in a row."""
    height, width = depth.shape[1:]
    with torch.no_grad():
        exact = _Lines(lines.view, lines.a.double(), lines.b.double(), lines.side)
        found = _crossings(exact, height, width)
        view = lines.view[found.line]
        sides = [depth[view, found.row, found.left + shift] for shift in (0, 1)]
        near = torch.where(found.surface_left, sides[0], sides[1])
        far = torch.where(found.surface_left, sides[1], sides[0])
        differ = shown[view, found.row, found.left] != shown[view, found.row, found.left + 1]
        seen = differ & (near < far) & (found.depth < far)
        kept = seen.nonzero()[:, 0]
        line, row, left, on_left = (getattr(found, name)[kept] for name in ("line", "row", "left", "surface_left"))
        at = exact[line]
        reach = _reach(at, row, left, on_left, height, width)
        pair = (view[kept] * height + row) * width + left
        order = reach.argsort(stable=True)
        order = order[pair[order].argsort(stable=True)]  # by pair, the line that reaches farthest last
        pair = pair[order]
        last = torch.ones_like(pair, dtype=torch.bool)
        last[:-1] = pair[1:] != pair[:-1]
        chosen = order[last]
        line, row, left, on_left = line[chosen], row[chosen], left[chosen], on_left[chosen]
    at = lines[line]
    reach = _reach(at, row, left, on_left, height, width)
    here, there = index[at.view, row, left], index[at.view, row, left + 1]
    near_pixel, far_pixel = torch.where(on_left, here, there), torch.where(on_left, there, here)
    beyond = reach > 0.5
    amount = _share(at) * (reach - 0.5).abs()
    return torch.where(beyond, far_pixel, near_pixel), torch.where(beyond, near_pixel, far_pixel), amount


def _reach(lines: _Lines, row: Tensor, left: Tensor, on_left: Tensor, height: int, width: int) -> Tensor:
    """How far (K,) from the nearer pixel's centre to the farther one's the surface reaches, in [0, 1]."""
    part = _place(lines, row + 0.5 - 0.5 * height) + 0.5 * width - 0.5 - left
    return torch.where(on_left, part, 1 - part).clamp(0, 1)
