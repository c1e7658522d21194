"""The hash grid's kernels against their torch twin, the twin against finite differences, and both against closed forms."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dfw import load_warp
from dfw_geometry.fast import hash_grid as fast
from dfw_geometry.fast import hash_grid_kernels, hash_grid_vectors
from dfw_geometry.hash_grid import HashGrid, HashGridConfig, grid_layout, hash_grid_twin

SMALL = HashGridConfig(levels=4, features=2, log2_size=8, base=3, finest=17)  # two dense levels, two hashed ones
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")]),
]


def random_grid(config: HashGridConfig = SMALL, count: int = 500, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Points (N, 3), a table of normal values, an upstream (N, L, F), the layout."""
    generator = torch.Generator().manual_seed(seed)
    layout = grid_layout(config)
    rows = int(layout[-1, 1] + layout[-1, 2]) + 1
    points = torch.rand(count, 3, generator=generator)
    table = torch.randn(rows, config.features, generator=generator)
    return points, table, torch.randn(count, config.levels, config.features, generator=generator), layout


def close(a: Tensor, b: Tensor, tolerance: float = 2e-5) -> bool:
    return bool((a.double().cpu() - b.double().cpu()).abs().max() <= tolerance * (1 + b.double().abs().max().cpu()))


def test_layout_is_the_papers() -> None:
    layout = grid_layout(HashGridConfig(levels=8, features=4, log2_size=16, base=16, finest=256)).tolist()
    growth = (256 / 16) ** (1 / 7)
    assert [row[0] for row in layout] == [16, 23, 35, 52, 78, 115, 172, 256]
    assert all(row[0] == int(16 * growth**level + 1e-6) for level, row in enumerate(layout))
    assert layout[0] == [16, 0, 17**3 - 1, 17]
    assert [row[3] for row in layout] == [17, 24, 36, 0, 0, 0, 0, 0]  # 53^3 > 2^16
    assert all(b[1] == a[1] + a[2] + 1 for a, b in itertools.pairwise(layout))


def test_the_table_has_a_row_for_each_vertex_or_hash() -> None:
    """Sides of 4 and 8 cells: 125 vertices, and 729 of which 256 rows are shared."""
    config = HashGridConfig.model_validate({"levels": 2, "features": 3, "log2_size": 8, "base": 4, "finest": 8})
    assert HashGrid(config).table.shape == (125 + 256, 3)


@pytest.mark.parametrize("device", DEVICES)
def test_values_equal_the_twins(device: str) -> None:
    points, table, _, layout = random_grid()
    points = torch.cat([points, torch.tensor(list(itertools.product([0.0, 1.0, 0.5], repeat=3)))])
    out = fast.encode(points.to(device), table.to(device), layout.to(device))
    assert close(out, hash_grid_twin(points.double(), table.double(), layout))


@pytest.mark.parametrize("features", [1, 2, 3, 8])
def test_any_number_of_features(features: int) -> None:
    config = HashGridConfig(levels=3, features=features, log2_size=8, base=3, finest=17)
    points, table, upstream, layout = random_grid(config)
    table.requires_grad_()
    twin = table.detach().double().requires_grad_()
    fast.encode(points, table, layout).backward(upstream)
    hash_grid_twin(points.double(), twin, layout).backward(upstream.double())
    assert close(table.grad, twin.grad)  # type: ignore[arg-type]


@pytest.mark.parametrize("device", DEVICES)
def test_first_and_second_gradients_equal_the_twins(device: str) -> None:
    """A loss of the values, of (df/dx)^T g and of the table's gradient, differentiated to points, table and upstream."""
    points, table, upstream, layout = random_grid(count=300)
    mixed = torch.randn(300, 3, generator=torch.Generator().manual_seed(9))
    rows = torch.randn(table.shape, generator=torch.Generator().manual_seed(10))

    def gradients(native: bool) -> list[Tensor]:
        dtype, place = (torch.float32, device) if native else (torch.float64, "cpu")
        leaves = [t.to(place, dtype).requires_grad_() for t in (points, table, upstream)]
        where, layout_there = leaves[0], layout.to(place)
        out = (fast.encode if native else hash_grid_twin)(where, leaves[1], layout_there)
        to_points, to_table = torch.autograd.grad(out, leaves[:2], leaves[2], create_graph=True)
        loss = out.square().sum() + (to_points * mixed.to(to_points)).sum() + (to_table * rows.to(to_table)).sum()
        return [to_points, to_table, *torch.autograd.grad(loss, leaves)]

    for name, native, twin in zip(
        ["points", "table", "points again", "table again", "upstream"], gradients(True), gradients(False), strict=True
    ):
        assert close(native, twin, 1e-4), name


def test_twin_passes_gradcheck() -> None:
    config = HashGridConfig(levels=2, features=2, log2_size=5, base=2, finest=5)
    points, table, _, layout = random_grid(config, count=6, seed=3)
    inputs = (points.double().requires_grad_(), table.double().requires_grad_())

    def encode(where: Tensor, rows: Tensor) -> Tensor:
        return hash_grid_twin(where, rows, layout)

    assert torch.autograd.gradcheck(encode, inputs)
    assert torch.autograd.gradgradcheck(encode, inputs)


def test_a_linear_function_is_reproduced_exactly() -> None:
    """On a level without collisions, vertices holding a + b.x interpolate to a + b.x, with gradient b."""
    layout = grid_layout(HashGridConfig(levels=1, features=1, log2_size=12, base=8, finest=8))
    z, y, x = torch.meshgrid(*[torch.arange(9.0) / 8] * 3, indexing="ij")
    table = (0.5 + 2 * x - 3 * y + 0.25 * z).reshape(-1, 1)
    points, *_ = random_grid(count=200)
    points = torch.cat([points, torch.eye(3), torch.ones(1, 3)]).requires_grad_()
    out = fast.encode(points, table, layout)[:, 0, 0]
    assert torch.allclose(out, 0.5 + points @ torch.tensor([2.0, -3.0, 0.25]), atol=1e-5)
    (gradient,) = torch.autograd.grad(out.sum(), points)
    assert torch.allclose(gradient, torch.tensor([2.0, -3.0, 0.25]).expand_as(gradient), atol=1e-4)


def test_hash_is_the_papers() -> None:
    """At a vertex of a hashed level the value is row xor(x, 2654435761 y, 805459861 z) mod 2^k, here in plain integers."""
    layout = grid_layout(HashGridConfig(levels=1, features=1, log2_size=6, base=16, finest=16))
    table = torch.arange(64.0)[:, None]
    vertices = torch.randint(0, 17, (50, 3), generator=torch.Generator().manual_seed(1))
    expected = [(x ^ (y * 2654435761 % 2**32) ^ (z * 805459861 % 2**32)) % 64 for x, y, z in vertices.tolist()]
    out = fast.encode(vertices / 16, table, layout)[:, 0, 0]
    assert torch.allclose(out, torch.tensor(expected, dtype=torch.float32), atol=1e-4)


@pytest.mark.parametrize("features", [2, 4, 8])
@pytest.mark.parametrize("name", ["encode", "scatter"])
def test_the_cpus_own_kernels_equal_the_general_ones(monkeypatch: pytest.MonkeyPatch, name: str, features: int) -> None:
    """On the cube's faces, edges and corners too, where cells meet, and with rows that many points share."""
    config = HashGridConfig(levels=4, features=features, log2_size=8, base=3, finest=17)
    points, table, upstream, layout = random_grid(config, count=400)
    points = torch.cat([points, torch.tensor(list(itertools.product([0.0, 1.0, 0.5, 1 / 3], repeat=3))), points[:5]])
    upstream = torch.cat([upstream, upstream[: len(points) - 400]])
    source, like = (table, upstream) if name == "encode" else (upstream, table)
    results = []
    for enabled in (True, False):
        monkeypatch.setattr(hash_grid_vectors, "enabled", enabled)
        assert hash_grid_vectors.serves(name, features) == enabled
        results.append(torch.zeros_like(like))
        fast._launch(name, [points, source, results[-1]], layout)
    assert results[1].abs().max() > 0
    assert close(*results)


def run_all(points: Tensor, table: Tensor, upstream: Tensor, layout: Tensor) -> list[Tensor]:
    leaves = [t.detach().clone().requires_grad_() for t in (points, table, upstream)]
    out = fast.encode(leaves[0], leaves[1], layout)
    (slopes,) = torch.autograd.grad(out, leaves[0], leaves[2], create_graph=True)
    return [out.detach(), slopes.detach(), *torch.autograd.grad(out.square().sum() + slopes.square().sum(), leaves)]


def test_bits_do_not_depend_on_the_number_of_threads() -> None:
    arguments = random_grid(count=5 * fast._FEWEST + 17)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3, 2):
            torch.set_num_threads(threads)
            results.append(run_all(*arguments))
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], result, strict=True))


def test_permuted_and_split_points_give_the_same_rows() -> None:
    points, table, _, layout = random_grid(count=2 * fast._FEWEST + 5)
    whole = fast.encode(points, table, layout)
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(2))
    assert torch.equal(fast.encode(points[order].contiguous(), table, layout), whole[order])
    assert torch.equal(torch.cat([fast.encode(part, table, layout) for part in points.split(777)]), whole)


def test_no_points() -> None:
    points, table, upstream, layout = random_grid(count=0)
    results = run_all(points, table, upstream, layout)
    assert [tuple(r.shape) for r in results] == [(0, 4, 2), (0, 3), (0, 3), tuple(table.shape), (0, 4, 2)]
    assert results[3].abs().sum() == 0


def test_module_in_float64_takes_the_torch_path_and_agrees() -> None:
    grid = HashGrid(SMALL)
    grid.initialise(torch.Generator().manual_seed(5))
    points, *_ = random_grid(count=100)
    upstream = torch.randn(100, grid.width, generator=torch.Generator().manual_seed(6))
    weights = torch.tensor([1.0, 1.0, 0.5, 0.0])
    out, slope = grid(points, weights), grid.pullback(points, upstream, weights)
    assert (out[:, 6:] == 0).all()
    grid.double()
    assert close(out, grid(points.double(), weights.double()))
    assert close(slope, grid.pullback(points.double(), upstream.double(), weights.double()))


def test_table_starts_within_1e_4_from_the_generator() -> None:
    tables = []
    for seed in (0, 0, 1):
        grid = HashGrid(SMALL)
        assert grid.table.abs().sum() == 0
        grid.initialise(torch.Generator().manual_seed(seed))
        tables.append(grid.table.detach())
    assert torch.equal(tables[0], tables[1])
    assert not torch.equal(tables[0], tables[2])
    assert tables[0].abs().max() <= 1e-4
    assert tables[0].std() == pytest.approx(1e-4 / 3**0.5, rel=0.1)


def test_the_kernels_compile_for_cuda_without_a_device(tmp_path: Path) -> None:
    """Each has an entry point in the PTX of Turing, the oldest architecture that torch's wheels support."""
    fast._kernel("encode", 4, "cpu")
    warp = load_warp()
    if 75 not in warp.get_cuda_supported_archs():
        pytest.skip("this build of warp does not compile for CUDA")
    warp.compile_aot_module(hash_grid_kernels, arch=75, module_dir=tmp_path, use_ptx=True)
    (ptx,) = tmp_path.glob("*.ptx")
    assert ptx.read_text().count(".visible .entry") >= 6
