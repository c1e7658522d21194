"""The volume renderer against scenes whose pictures are known: balls, slabs, boxes, nothing; and its promises about state."""

import math
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from render_fields import DIAGONAL, Blobs, Shape, along, ball, box, chord, looking, nothing, slab, turn
from volumes import generator, trained, volume

from dfw import ConfigError, Progress
from dfw_geometry.image import Image
from dfw_geometry.nerf import NeRF
from dfw_geometry.sdf_scene import SdfScene
from dfw_renderers.volume import Volume


@pytest.mark.parametrize("samples", [96, 512])
@pytest.mark.parametrize("training", [False, True])
def test_homogeneous_ball(training, samples):
    sigma, radius = 2.0, 0.6
    field, cameras = ball(sigma, radius), looking((3.0, 0.0, 0.0), (0.0, -3.0, 0.4), size=16)
    step = DIAGONAL / samples
    renderer = trained(field, samples=samples) if training else volume(samples=samples)
    output = renderer(field, cameras, generator())
    length = chord(cameras, radius)
    # a sample more or less; random looks can also miss a cell that holds a sliver, 0.054 across, at either end
    missed = 2 * DIAGONAL / 64 if training else 0.0
    low, high = (1 - torch.exp(-sigma * (length + shift).clamp(min=0)) for shift in (-step - missed, step))
    inner = length > 0
    assert (output.opacity >= low - 1e-4).all()
    assert (output.opacity[inner] <= high[inner] + 1e-5).all()
    assert (output.opacity[~inner] == 0).all()
    expected = output.opacity[..., None] * torch.tensor(field.colour) + (1 - output.opacity[..., None]) * torch.tensor(
        [0.0, 0, 1]
    )
    assert torch.allclose(output.colour, expected, atol=1e-5)


def test_stratified_samples_are_right_on_average():
    field, renderer = ball(1.0, 0.6), volume(True, samples=32, occupancy={"enabled": False})
    cameras = along(0).select(torch.zeros(4000, dtype=torch.long))
    with torch.no_grad():
        output = renderer(field, cameras, generator())
    thickness = -torch.log1p(-output.opacity)
    # each ray holds floor or ceil of L/step samples; the mean number is L/step
    step = DIAGONAL / 32
    assert thickness.mean().item() == pytest.approx(1.2, abs=4 * 0.5 * step / math.sqrt(4000))
    assert thickness.std() > 0


def test_slab_seen_straight_and_aslant():
    sigma, half = 3.0, 0.3
    cameras = looking((3.0, 0.0, 0.0), (3.0, 0.5, 0.4), size=1)
    renderer = volume(samples=1000)
    output = renderer(slab(sigma, half), cameras)
    cosine = cameras.rays().direction[..., 0].abs()
    assert torch.allclose(output.opacity, 1 - torch.exp(-sigma * 2 * half / cosine), atol=sigma * DIAGONAL / 1000)


class Sheets(Shape):
    """A slab |x| <= half of thin sheets: what a ray meets goes with |cos| of its angle to x, and `length` must be the step's."""

    def __init__(self, sigma: float, half: float, step: float) -> None:
        super().__init__(sigma, lambda x: x[..., 0].abs() <= half)
        self.step = step

    def segment(self, points, directions, length, normals=False):
        torch.testing.assert_close(length, torch.full_like(points[:, 0], self.step))
        torch.testing.assert_close(directions.norm(dim=-1), torch.ones_like(length))
        found = self.sample(points, normals)
        return replace(found, density=found.density * directions[:, 0].abs())


def test_a_field_is_asked_along_its_rays():
    """The slab of sheets is as thick aslant as it is straight: 2 sigma half."""
    sigma, half = 3.0, 0.3
    cameras = looking((3.0, 0.0, 0.0), (2.0, 2.0, 1.0), size=1)
    output = volume(samples=1000)(Sheets(sigma, half, DIAGONAL / 1000), cameras)
    expected = torch.full_like(output.opacity, 1 - math.exp(-2 * sigma * half))
    assert torch.allclose(output.opacity, expected, atol=sigma * DIAGONAL / 1000)


def test_expected_distance_in_a_homogeneous_slab():
    sigma, half = 3.0, 0.3
    output = volume(samples=2000)(slab(sigma, half), along(0))
    length = 2 * half
    # E[t | hit] = t_0 + 1/sigma - L exp(-sigma L)/(1 - exp(-sigma L))
    expected = 3 - half + 1 / sigma - length * math.exp(-sigma * length) / (1 - math.exp(-sigma * length))
    assert output.depth.item() == pytest.approx(expected, abs=DIAGONAL / 2000)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_opaque_box_shows_its_front(axis):
    field = box(2000.0, 0.5, colour=(0.9, 0.2, 0.1))
    output = volume()(field, along(axis, at=(0.1, -0.2)))
    assert output.opacity.item() == pytest.approx(1, abs=1e-5)
    assert output.depth.item() == pytest.approx(2.5, abs=DIAGONAL / 96)
    assert output.colour.flatten().tolist() == pytest.approx([0.9, 0.2, 0.1], abs=1e-4)


@pytest.mark.parametrize("training", [False, True])
def test_empty_scene_is_exactly_its_background(training):
    field = nothing()
    output = (trained(field) if training else volume())(field, turn(2, 8), generator())
    assert (output.colour == torch.tensor([0.0, 0.0, 1.0])).all()
    assert (output.opacity == 0).all()
    assert (output.depth == 0).all()


def test_an_empty_nerf_still_has_a_graph():
    field = NeRF(NeRF.Config(blob={"form": "linear", "scale": 1000.0, "width": 1e-3}))
    field.initialise(generator())
    output = trained(field)(field, turn(1, 4), generator())
    assert len(output.samples.ray) == 0
    output.colour.sum().backward()
    assert all(p.grad is not None for p in field.shape_network.parameters())


def test_weights_of_every_ray_sum_to_its_opacity():
    output = volume()(Blobs(), turn(2, 16))
    total = torch.zeros(2 * 256).index_add(0, output.samples.ray, output.samples.weight)
    assert torch.allclose(total, output.opacity.flatten())
    assert output.opacity.max() <= 1 + 1e-6
    order = output.samples.ray.double() * 100 + output.samples.distance
    assert (order.diff() > 0).all()
    assert torch.equal(output.samples.direction, turn(2, 16).rays().direction.view(-1, 3)[output.samples.ray])


def peak(output) -> tuple[float, float]:
    """(column, row) of the opacity's centre of mass in the first view."""
    opacity = output.opacity[0]
    height, width = opacity.shape
    column, row = torch.arange(width) + 0.5, torch.arange(height) + 0.5
    return ((opacity * column).sum() / opacity.sum()).item(), ((opacity * row[:, None]).sum() / opacity.sum()).item()


@pytest.mark.parametrize(
    ("camera", "centre"),
    [
        ((3.0, 0.0, 0.0), (0.0, 0.4, 0.3)),
        ((3.0, 0.0, 0.0), (0.5, -0.4, 0.0)),
        ((0.0, 3.0, 0.0), (0.4, 0.0, -0.3)),
        ((-3.0, 0.0, 0.0), (0.0, 0.4, 0.3)),
    ],
)
def test_a_small_ball_lands_on_its_pixel(camera, centre):
    cameras = looking(camera, size=40)
    output = volume()(ball(500.0, 0.1, centre=centre), cameras)
    forward = torch.tensor(camera) / -3.0
    right = torch.linalg.cross(forward, torch.tensor([0.0, 0.0, 1.0]))
    offset = torch.tensor(centre) - torch.tensor(camera)
    depth = offset @ forward
    focal = 20 / math.tan(math.radians(20))
    expected = (20 + focal * (offset @ right / depth).item(), 20 - focal * (offset[2] / depth).item())
    assert peak(output) == pytest.approx(expected, abs=0.35)


def test_left_right_and_up():
    # seen from +x (the front): +y is to the right of the picture's middle when the camera faces -x and z is up
    cameras = looking((3.0, 0.0, 0.0), size=20)
    assert peak(volume()(ball(500.0, 0.1, centre=(0.0, 0.5, 0.0)), cameras))[0] > 14
    assert peak(volume()(ball(500.0, 0.1, centre=(0.0, 0.0, 0.5)), cameras))[1] < 6


def test_an_exact_scene_straight_away():
    output = volume()(SdfScene(SdfScene.Config(shape="a red ball")), looking((3.0, 0.0, 0.0), size=9))
    assert output.opacity[0, 4, 4].item() == pytest.approx(1, abs=1e-3)
    assert output.opacity[0, 0, 0].item() == pytest.approx(0, abs=1e-3)
    red, green, blue = output.colour[0, 4, 4].tolist()
    assert red > 2 * max(green, blue)


def test_a_scene_of_another_size():
    field = Shape(50.0, lambda x: x.norm(dim=-1) <= 1.2, radius=2.0)
    output = volume()(field, looking((6.0, 0.0, 0.0), size=1))
    assert output.depth.item() == pytest.approx(4.8, abs=2 * DIAGONAL / 96)
    small = volume()(Shape(100.0, lambda x: x.norm(dim=-1) <= 0.6), looking((3.0, 0.0, 0.0), size=1))
    assert len(output.samples.ray) == len(small.samples.ray)  # the step grows with the scene


def test_features():
    assert Volume.requires(Volume.Config()) == {"density-field"}
    plain = {"colour", "opacity", "depth", "ray-samples"}
    assert Volume.provides(Volume.Config()) == plain
    assert Volume.provides(Volume.Config.model_validate({"shading": {"normals": "always"}})) == plain | {"normals"}
    assert "always" in Volume.feature_hints["normals"]


def test_nerfacc_without_cuda_is_refused_before_the_run():
    with pytest.raises(ConfigError, match=r"renderer.backend.*portable"):
        volume(backend="nerfacc")


def test_an_image_is_refused():
    with pytest.raises(ConfigError, match="plane"):
        volume()(Image(Image.Config()), turn(1, 4))


@pytest.mark.parametrize("wrong", [{"samples": 1}, {"early_stop": 0.5}, {"chunk": 0}, {"backend": "cuda"}, {"sample": 64}])
def test_config_refuses(wrong):
    with pytest.raises(ValidationError):
        Volume.Config.model_validate(wrong)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("training", [False, True])
def test_nerfacc_gives_the_portable_picture(training):
    field, cameras = Blobs().cuda(), turn(2, 32)
    moved = type(cameras)(
        *(getattr(cameras, n).cuda() for n in ("camera_to_world", "fov_y", "azimuth", "elevation", "distance")), 32, 32
    )
    g = torch.Generator("cuda")
    outputs = []
    for backend in ("portable", "nerfacc"):
        renderer = Volume(Volume.Config.model_validate({"backend": backend, "background": "solid"})).cuda().train(training)
        renderer.begin_step(field, Progress(0, 10), g.manual_seed(0))
        outputs.append(renderer(field, moved, g.manual_seed(1)))
    assert (outputs[0].opacity - outputs[1].opacity).abs().max() < 2e-2  # a sample on a cell's face may fall on either side
    assert (outputs[0].opacity - outputs[1].opacity).abs().mean() < 1e-4
    assert (outputs[0].colour - outputs[1].colour).abs().mean() < 1e-4


def test_written_configs_read_back_the_same():
    options = {
        "shading": {"mode": "lambertian", "probability": {"from": 0, "to": 0.75}},
        "background": "learned",
        "occupancy": {"resolution": 32},
    }
    config = Volume.Config.model_validate(options)
    assert Volume.Config.model_validate(config.model_dump(mode="json", by_alias=True)) == config
    assert "early_stop" in Volume.Config.model_json_schema()["properties"]
