"""Work in blocks: the same values and gradients as in one go, a graph of one block only, and nothing drawn twice."""

import copy

import pytest
import torch
from render_fields import Blobs, turn
from volumes import generator, trained

from dfw import FieldSample
from dfw_geometry.nerf import NeRF
from dfw_renderers.blocks import Block, cut, in_blocks

CPU = torch.device("cpu")


def test_few_samples_are_one_block_with_all_rays():
    assert cut(torch.tensor([1, 1, 2]), 5, 3) == [Block(0, 3, 0, 5)]
    assert cut(torch.empty(0, dtype=torch.int64), 5, 3) == [Block(0, 0, 0, 5)]


def test_blocks_begin_with_the_ray_of_every_nth_sample():
    ray = torch.tensor([0, 0, 2, 2, 2, 2, 2, 2, 2, 5, 5, 6])
    assert cut(ray, 9, 3) == [Block(0, 2, 0, 2), Block(2, 9, 2, 5), Block(9, 12, 5, 9)]


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_blocks_hold_every_sample_and_every_ray_once(size):
    ray = torch.randint(0, 200, (3000,), generator=generator()).sort().values
    blocks = cut(ray, 210, size)
    longest = int(torch.bincount(ray).max())
    assert [block.start for block in blocks] == [0, *(block.stop for block in blocks[:-1])]
    assert [block.first for block in blocks] == [0, *(block.last for block in blocks[:-1])]
    assert (blocks[-1].stop, blocks[-1].last) == (3000, 210)
    for block in blocks:
        inside = ray[block.start : block.stop]
        assert block.first <= inside.min()
        assert inside.max() < block.last
        assert len(inside) < size + longest


def render(field, chunk: int, seed: int = 3, **options):
    """What a trained renderer shows of the field in one step."""
    renderer = trained(field, chunk=chunk, **options)
    return renderer(field, turn(2, 16), generator(seed))


LIT = {"mode": "lambertian", "start": 0.0, "probability": 1.0, "textureless": 0.5, "normals": "always"}


def nerf(**options) -> NeRF:
    field = NeRF(NeRF.Config.model_validate({"encoding": {"levels": 4, "log2_size": 10, "finest": 64}} | options))
    field.initialise(generator())
    return field


@pytest.mark.parametrize("shading", [{}, LIT], ids=["flat", "lit"])
def test_gradients_in_blocks_are_those_of_one_go(shading):
    gradients = []
    for chunk in (2**17, 500):
        field = nerf()
        output = render(field, chunk, shading=shading, background="learned")
        assert (len(cut(output.samples.ray, 512, chunk)) > 5) == (chunk == 500)
        loss = (output.colour.square().sum() + output.opacity.sin().sum() + output.depth.sum()) / 10
        loss = loss + (output.samples.weight * output.samples.distance).sum()
        if shading:
            loss = loss + output.normal[..., 0].sum() + (output.samples.normal[:, 1] * output.samples.weight.detach()).sum()
        loss.backward()
        gradients.append([parameter.grad for parameter in field.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert one.abs().max() > 0
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5 * float(one.abs().max()))


def test_the_same_blocks_give_the_same_bits():
    def once() -> list[torch.Tensor]:
        field = nerf()
        output = render(field, 500, shading=LIT)
        output.colour.square().sum().backward()
        return [output.colour.detach(), *(parameter.grad for parameter in field.parameters())]

    assert all(torch.equal(one, other) for one, other in zip(once(), once(), strict=True))


class Watched(Blobs):
    """Counts the points of which a graph is alive."""

    alive = most = 0

    def sample(self, points, normals=False):
        found = super().sample(points, normals)
        if not found.density.requires_grad:
            return found
        count = len(points)
        self.alive += count
        self.most = max(self.most, self.alive)
        density = _Counted.apply(found.density, self, count)
        return FieldSample(density, found.albedo, found.normal)


class _Counted(torch.autograd.Function):
    @staticmethod
    def forward(ctx, density, field, count):
        ctx.field, ctx.count = field, count
        return density.clone()

    @staticmethod
    def backward(ctx, upstream):
        ctx.field.alive -= ctx.count
        return upstream, None, None


def test_no_more_than_a_block_has_a_graph():
    field = Watched()
    output = render(field, 1000)
    samples = len(output.samples.ray)
    assert field.most == 0
    output.colour.sum().backward()
    assert 0 < field.most < 1000 + 96
    assert samples > 5 * field.most
    assert field.alive == 0


def test_every_gradient_that_is_asked_for_can_be_asked_for_again():
    field = Blobs()
    output = render(field, 500)
    first = torch.autograd.grad(output.colour.sum(), list(field.parameters()), retain_graph=True)
    second = torch.autograd.grad(output.colour.sum(), list(field.parameters()))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_parameters_that_change_before_the_way_back_are_reported():
    field = Blobs()
    output = render(field, 500)
    with torch.no_grad():
        field.height.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.colour.sum().backward()


class Made(Blobs):
    """A field whose heights are made once a step from another parameter, with a graph that all points share."""

    def __init__(self) -> None:
        super().__init__()
        self.root = torch.nn.Parameter(self.height.detach().sqrt())
        del self.height
        self.height = None

    def begin_step(self, progress, generator) -> None:
        self._height = self.root.square()

    def _parts(self, points):
        squared = (points[..., None, :] - self.centre).square().sum(-1)
        return self._height * torch.exp(-squared / (2 * self.size**2))


def test_a_graph_that_blocks_share_survives_them():
    gradients = []
    for chunk in (2**17, 500):
        field = Made()
        field.begin_step(None, None)
        render(field, chunk).colour.square().sum().backward()
        gradients.append(field.root.grad)
    assert gradients[0].abs().min() > 0
    assert torch.allclose(*gradients, rtol=1e-5)


def test_half_precision_is_the_same_on_the_way_back():
    weight = torch.nn.Parameter(torch.linspace(-1, 1, 12).view(3, 4))
    points = torch.rand(50, 4, generator=generator())

    def work(block: Block) -> dict[str, torch.Tensor]:
        return {"out": torch.nn.functional.linear(points[block.start : block.stop], weight)}

    blocks = cut(torch.arange(50), 50, 20)
    with torch.autocast("cpu", torch.bfloat16):
        out = in_blocks(work, blocks, [weight], CPU)["out"]
        assert out.dtype == torch.bfloat16
    (gradient,) = torch.autograd.grad(out.float().sum(), [weight])
    assert torch.allclose(gradient, points.sum(0).expand(3, 4), rtol=2e-2)


def test_previews_are_rendered_in_blocks_too():
    field, seen = Blobs(), []
    sample = field.sample
    field.sample = lambda points, normals=False: (seen.append(len(points)), sample(points, normals))[1]
    renderer = trained(field, chunk=500).eval()
    with torch.no_grad():
        renderer(copy.copy(field), turn(2, 16))
    assert len(seen) > 5
    assert max(seen) < 500 + 96
