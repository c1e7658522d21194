"""Pictures against a twin written from the definitions, closed forms, finite differences; kernels against plain torch."""

import math

import pytest
import torch
import twin
from clouds import GREY, camera, gaussians, renderer, single, stacked
from dreamfw_gaussians import compositing, rasteriser
from dreamfw_gaussians.projection import footprint, project
from dreamfw_gaussians.renderer import Splatting

from dfw import ConfigError, DfwError, Geometry

NAMES = ("means", "scales", "rotations", "opacities", "colours")


def gradients(geometry, picture, upstream):
    values = torch.autograd.grad((picture * upstream).sum(), list(geometry.parameters()))
    return dict(zip(NAMES, values, strict=True))


def noise(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_pictures_and_gradients_equal_the_slow_twins():
    """Two views of 16 Gaussians, opaque ones and some near the picture's edge among them."""
    geometry, cameras = gaussians(16).double(), camera(10.0, 130.0, height=9, width=14)
    picture = stacked(renderer()(geometry, cameras))
    cloud, grey = geometry.cloud(), torch.tensor(GREY, dtype=torch.float64)
    views = zip(cameras.camera_to_world, cameras.fov_y.tolist(), strict=True)
    slow = torch.stack([twin.render(*vars(cloud).values(), pose, fov, 9, 14, grey) for pose, fov in views])
    assert 0.2 < slow[..., 3].mean() < 0.95
    torch.testing.assert_close(picture, slow, rtol=0, atol=1e-12)
    upstream = noise(*slow.shape)
    fast, true = gradients(geometry, picture, upstream), gradients(geometry, slow, upstream)
    for name in NAMES:
        torch.testing.assert_close(fast[name], true[name], rtol=1e-9, atol=1e-9, msg=lambda text, n=name: f"{n}: {text}")


def test_gradients_agree_with_finite_differences():
    geometry, cameras = gaussians(3).double(), camera(30.0, height=4, width=4)
    values = [p.detach().clone().requires_grad_() for p in geometry.parameters()]

    def picture(*parameters):
        named = dict(zip((f"geometry.{name}" for name in NAMES), parameters, strict=True))
        return torch.func.functional_call(Rendered(geometry), named, (cameras,))

    assert torch.autograd.gradcheck(picture, values, eps=1e-6, atol=1e-5, rtol=1e-4)


class Rendered(torch.nn.Module):
    """Geometry and renderer as one function of the geometry's parameters."""

    def __init__(self, geometry):
        super().__init__()
        self.geometry = geometry
        self.splatting = renderer()

    def forward(self, cameras):
        return stacked(self.splatting(self.geometry, cameras))


@pytest.mark.parametrize(("count", "height", "width"), [(400, 41, 30), (60, 8, 8), (1, 5, 19)])
def test_kernels_equal_plain_torch(count, height, width):
    """Odd sizes, several tiles, occlusion until no light is left: values and all gradients."""
    fast = gaussians(count)
    slow = gaussians(count).double()
    single_, double = (camera(0.0, 70.0, 250.0, height=height, width=width, dtype=d) for d in (torch.float32, torch.float64))
    upstream = noise(3, height, width, 4)
    one, two = (renderer()(g, c) for g, c in ((fast, single_), (slow, double)))
    torch.testing.assert_close(one.colour.double(), two.colour, rtol=0, atol=2e-5)
    torch.testing.assert_close(one.opacity.double(), two.opacity, rtol=0, atol=2e-5)
    seen = two.opacity > 0.01
    torch.testing.assert_close(one.depth.double()[seen], two.depth[seen], rtol=0, atol=1e-3)
    ours = gradients(fast, stacked(one)[..., :4], upstream.float())
    true = gradients(slow, stacked(two)[..., :4], upstream)
    for name in NAMES:
        assert true[name].abs().max() > 0
        error = (ours[name].double() - true[name]).norm() / true[name].norm()
        assert error < 1e-3, f"{name}: {error:.2e}"


def test_the_number_of_threads_changes_no_bit():
    geometry, cameras = gaussians(300), camera(0.0, 120.0, height=40, width=40, dtype=torch.float32)
    found, before = [], torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            picture = stacked(renderer()(geometry, cameras))
            found.append([picture.detach(), *gradients(geometry, picture, torch.ones_like(picture)).values()])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_both_sorts_of_pairs_agree():
    tile = torch.randint(0, 7, (50,), generator=torch.Generator().manual_seed(0)).int()
    views = torch.cat([tile[:20], 7 + tile[20:]])
    tile_first = torch.cat([torch.zeros(1), views.bincount(minlength=14).cumsum(0)]).int()
    slot = rasteriser.sorted_slots(views, tile_first, torch.tensor([0, 20, 50]).int())
    assert torch.equal(slot.long().argsort(), torch.sort(views, stable=True).indices)


def test_a_known_point_lands_on_the_known_pixel():
    """From the front, y = 0.5 is to the right and z = 0.25 up; 90 degrees see y up to 2, z up to 1 at distance 1."""
    geometry = single(mean=(0.0, 0.5, 0.25), scale=0.001, opacity=0.9)
    picture = renderer()(geometry, camera(0.0, elevation=0.0, distance=1.0, fov=90.0, height=16, width=32))
    corners = picture.opacity[0, 5:7, 19:21]  # row 8 (1 - 0.25) = 6 and column 16 + 8 * 0.5 = 20 meet between four pixels
    torch.testing.assert_close(corners, picture.opacity.max().expand(2, 2), rtol=1e-4, atol=0)
    assert picture.opacity.sum() < 4.5 * corners[0, 0]


def test_a_pixel_sees_what_its_ray_meets():
    """Gaussians placed on the rays of `CameraBatch.rays()` are brightest at those pixels, also off the diagonal."""
    cameras = camera(35.0, elevation=-10.0, height=15, width=21)
    rays = cameras.rays()
    for row, column in ((2, 17), (11, 4), (7, 10)):
        point = rays.origin[0, row, column] + 2.6 * rays.direction[0, row, column]
        picture = renderer()(single(mean=tuple(point.tolist()), scale=0.02), cameras)
        assert divmod(int(picture.opacity[0].argmax()), 21) == (row, column)
        torch.testing.assert_close(picture.opacity[0, row, column].item(), 0.8, rtol=1e-9, atol=0)
        torch.testing.assert_close(picture.depth[0, row, column].item(), 2.6, rtol=1e-9, atol=0)


def test_footprint_of_one_gaussian():
    """Side by side with 1D formulas: at the optical axis the picture's deviation is f s / z, plus the low-pass."""
    cameras = camera(0.0, elevation=0.0, distance=2.0, fov=60.0, height=33, width=33)
    geometry = single(scale=(0.2, 0.1, 0.3), opacity=0.7)
    picture = renderer()(geometry, cameras)
    focal = 33 / 2 / math.tan(math.radians(30))
    across, down = ((focal * s / 2) ** 2 + 0.3 for s in (0.1, 0.3))
    offset = torch.arange(33, dtype=torch.float64) - 16
    expected = 0.7 * torch.exp(-0.5 * (offset[None] ** 2 / across + offset[:, None] ** 2 / down))
    expected = torch.where(expected >= 1 / 255, expected, 0.0)
    torch.testing.assert_close(picture.opacity[0], expected, rtol=1e-10, atol=1e-12)
    tint = torch.tensor([0.9, 0.3, 0.1], dtype=torch.float64)
    blend = expected[..., None] * tint + (1 - expected[..., None]) * torch.tensor(GREY, dtype=torch.float64)
    torch.testing.assert_close(picture.colour[0], blend, rtol=1e-10, atol=1e-12)


def test_a_turned_gaussian_has_a_turned_footprint():
    """A needle along z, turned by 30 degrees about the viewing axis (x): covariance from the 2D rotation."""
    angle = math.radians(30)
    geometry = single(scale=(0.05, 0.05, 0.3), rotation=(math.cos(angle / 2), math.sin(angle / 2), 0.0, 0.0))
    cameras = camera(0.0, elevation=0.0, distance=2.0)
    seen = project(geometry.cloud(), cameras)
    focal = 12 / 2 / math.tan(math.radians(20))
    long = torch.tensor([-math.sin(angle), -math.cos(angle)], dtype=torch.float64)  # of +z turned towards -y, on the picture
    short = torch.tensor([math.cos(angle), -math.sin(angle)], dtype=torch.float64)
    cov = (focal / 2) ** 2 * (0.3**2 * torch.outer(long, long) + 0.05**2 * torch.outer(short, short)) + 0.3 * torch.eye(
        2, dtype=torch.float64
    )
    inverse = torch.linalg.inv(cov)
    expected = torch.stack([inverse[0, 0], inverse[0, 1], inverse[1, 1]])
    torch.testing.assert_close(seen.conic[0, 0].detach(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_gaussians_composite_front_to_back(order):
    """Whatever their order in memory, and from behind the other way round."""
    place = torch.tensor([[0.5, 0.0, 0.0], [-0.5, 0.0, 0.0]])[list(order)]
    tint = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.1, 0.9]], dtype=torch.float64)[list(order)]
    geometry = single(mean=place.tolist(), opacity=0.6)
    with torch.no_grad():
        geometry.colours.copy_(tint.logit())
    cameras = camera(0.0, 180.0, elevation=0.0, height=1, width=1)
    pixels = renderer()(geometry, cameras)
    red, blue, grey = (torch.tensor(c, dtype=torch.float64) for c in ((0.9, 0.1, 0.1), (0.1, 0.1, 0.9), GREY))
    torch.testing.assert_close(pixels.colour[0, 0, 0], 0.6 * red + 0.24 * blue + 0.16 * grey)
    torch.testing.assert_close(pixels.colour[1, 0, 0], 0.6 * blue + 0.24 * red + 0.16 * grey)
    torch.testing.assert_close(pixels.opacity[:, 0, 0], torch.full((2,), 0.84, dtype=torch.float64))
    expected = (0.6 * 2.5 + 0.24 * 3.5) / 0.84
    torch.testing.assert_close(pixels.depth[:, 0, 0], torch.full((2,), expected, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_compositing_stops_when_no_light_is_left(dtype):
    """Six layers of opacity 0.9: after four, 1e-4 of the light is left; a fifth would leave less and is not composited."""
    geometry = single(mean=[[0.5 - 0.1 * i, 0.0, 0.0] for i in range(6)], opacity=0.8999).to(dtype)
    picture = renderer()(geometry, camera(0.0, elevation=0.0, height=1, width=1, dtype=dtype))
    assert 1 - picture.opacity.item() == pytest.approx(0.1001**4, rel=2e-3)


def test_alpha_is_cut_at_both_ends():
    cameras = camera(0.0, elevation=0.0, height=1, width=1)
    assert renderer()(single(opacity=0.9999), cameras).opacity.item() == pytest.approx(0.99)
    assert renderer()(single(opacity=0.0039), cameras).opacity.item() == 0
    assert renderer()(single(opacity=0.0040), cameras).opacity.item() == pytest.approx(0.0040)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_lies_behind_the_camera_or_beside_the_picture_is_not_drawn(dtype):
    far = single(mean=[[10.0, 0.0, 0.0], [2.98, 0.0, 0.0], [0.0, 30.0, 0.0], [0.0, 0.0, 0.0]], opacity=[0.9, 0.9, 0.9, 0.003]).to(
        dtype
    )
    cameras = camera(0.0, elevation=0.0, dtype=dtype)
    picture = renderer()(far, cameras)
    assert picture.opacity.abs().max() == 0
    assert picture.depth.abs().max() == 0
    grey = torch.tensor(GREY, dtype=dtype).expand_as(picture.colour)
    torch.testing.assert_close(picture.colour, grey, rtol=0, atol=1e-7)
    for gradient in torch.autograd.grad(picture.colour.sum(), list(far.parameters())):
        assert gradient.abs().max() == 0


def test_the_box_of_a_footprint_holds_every_visible_alpha():
    xx, yy, opacity = (torch.tensor([v], dtype=torch.float64) for v in (4.0, 9.0, 0.5))
    half = footprint(xx, yy, opacity)[0]
    at_edge = 0.5 * math.exp(-0.5 * half[0].item() ** 2 / 4)
    assert at_edge == pytest.approx(1 / 255)
    assert half[1] / half[0] == pytest.approx(1.5)


def test_views_of_a_batch_are_those_of_single_cameras():
    geometry, cameras = gaussians(200), camera(0.0, 90.0, 200.0, dtype=torch.float32)
    whole = stacked(renderer()(geometry, cameras))
    for index in range(3):
        alone = stacked(renderer()(geometry, cameras.select(slice(index, index + 1))))
        torch.testing.assert_close(whole[index : index + 1, ..., :4], alone[..., :4], rtol=0, atol=1e-5)


def test_backgrounds():
    geometry, cameras = single(opacity=0.001), camera(*range(200), height=1, width=1)
    solid = renderer(type="solid", colour=(0.1, 0.2, 0.3))
    assert solid(geometry, cameras).colour.float().unique().tolist() == torch.tensor([0.1, 0.2, 0.3]).tolist()
    random = renderer(type="random", probability=0.5, colour=(1, 1, 1))
    assert (random(geometry, cameras, torch.Generator()).colour == 1).all()
    random.train()
    one, two = (random(geometry, cameras, torch.Generator().manual_seed(5)).colour for _ in range(2))
    assert torch.equal(one, two)
    white = (one == 1).all(-1).double().mean()
    assert 0.35 < white < 0.65
    with pytest.raises(ValueError, match="pass one, or call eval"):
        random(geometry, cameras)


def test_any_background_stands_behind_the_gaussians():
    """A learned one has a colour for each direction, parameters in a group of their own, and a gradient where light is left."""
    geometry, cameras = single(opacity=0.5, scale=0.2), camera(0.0, 90.0, height=6, width=8)
    learned = renderer(type="learned", layers=1, width=8)
    learned.initialise(torch.Generator().manual_seed(0))
    assert set(learned.parameter_groups()) == {"renderer.background"}
    made = learned(geometry, cameras)
    behind = learned.background(cameras.rays().direction)
    bare = renderer(type="solid", colour=(0, 0, 0))(geometry, cameras).colour
    torch.testing.assert_close(made.colour, bare + (1 - made.opacity)[..., None] * behind)
    assert behind.flatten(0, 2).std(0).min() > 1e-4
    made.colour.sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in learned.parameters())
    assert renderer(type="checker").parameter_groups() == {}


def test_only_gaussians_are_rendered():
    class Nothing(Geometry):
        """No Gaussians."""

    with pytest.raises(ConfigError, match="splatting renders Gaussians, and Nothing has none; write geometry"):
        renderer()(Nothing(), camera())
    assert issubclass(ConfigError, DfwError)
    assert Splatting.requires(None) == {"gaussians"}


def test_plain_compositing_is_the_same_in_chunks():
    geometry, cameras = gaussians(50).double(), camera(0.0)
    seen, cloud = project(geometry.cloud(), cameras), geometry.cloud()
    own = torch.cat([cloud.opacity[:, None], cloud.colour], -1)[None]
    splat = torch.cat([seen.centre, seen.conic, own, seen.depth[..., None]], -1)
    whole, parts = (compositing.composite(splat, seen.depth, seen.visible, 12, 20, chunk) for chunk in (10_000, 7))
    torch.testing.assert_close(whole, parts, rtol=0, atol=1e-14)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_the_cpu():
    geometry, cameras = gaussians(400), camera(0.0, 70.0, height=41, width=30, dtype=torch.float32)
    here = stacked(renderer()(geometry, cameras))
    upstream = noise(*here.shape).float()
    true = gradients(geometry, here[..., :4], upstream[..., :4])
    there = gaussians(400).cuda()
    moved = type(cameras)(*(v.cuda() for v in list(vars(cameras).values())[:5]), height=41, width=30)
    picture = stacked(renderer()(there, moved))
    torch.testing.assert_close(picture.cpu()[..., :4], here[..., :4], rtol=0, atol=1e-4)
    for name, value in gradients(there, picture[..., :4], upstream[..., :4].cuda()).items():
        assert (value.cpu() - true[name]).norm() / true[name].norm() < 1e-3, name


def test_the_kernels_compile_for_cuda_without_a_device(tmp_path):
    """Each has an entry point in the PTX of Turing, the oldest architecture that torch's wheels support."""
    kernels = rasteriser._kernels("cpu")
    import warp

    if 75 not in warp.get_cuda_supported_archs():
        pytest.skip("this build of warp does not compile for CUDA")
    warp.compile_aot_module(kernels, arch=75, module_dir=tmp_path, use_ptx=True)
    (ptx,) = tmp_path.glob("*.ptx")
    assert ptx.read_text().count(".visible .entry") >= 5
