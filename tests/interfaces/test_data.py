"""Records: copies keep every field; pictures of a render by closed forms and finite differences; what a guidance is shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import pytest
import torch
from known_prior import prior
from torch import Tensor

from dfw import CameraBatch, Conditioning, LossInputs, Progress, PromptBatch, RenderOutput, Views, cameras_at
from dfw.interfaces import data
from dfw.interfaces.data import Batch, Record, Wording
from dfw.interfaces.draws import Share, draw_views, sharing


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def whole(*shape: int) -> Tensor:
    return torch.arange(torch.Size(shape).numel()).view(shape)


def camera_batch(count: int = 4) -> CameraBatch:
    """Every field is set."""
    return CameraBatch(numbers(count, 4, 4), *(numbers(count, seed=s) for s in range(4)), 3, 5, time=numbers(count), together=2)


def conditioning(count: int = 4) -> Conditioning:
    extras = {"picture": numbers(count, 3, 2), "speed": numbers(count)}
    control = numbers(count, 3, 4, 4)
    return Conditioning(numbers(count, 3, 5), numbers(count, 6), camera_batch(count), control, extras)


def wording(count: int = 4) -> Wording:
    return Wording(whole(count, 2), numbers(count, 2), whole(count, 3), numbers(count, 3))


def ray_samples() -> data.RaySamples:
    return data.RaySamples(numbers(4), whole(4), numbers(4), numbers(4, 3), numbers(4, 3), {"roughness": numbers(4, 1)})


def render_output() -> RenderOutput:
    pictures = numbers(4, 3, 5, 3), numbers(4, 3, 5), numbers(4, 3, 5), numbers(4, 3, 5, 3)
    return RenderOutput(*pictures, ray_samples(), latent=True, extras={"albedo": numbers(4, 3, 5, 3)})


def prompt_batch() -> PromptBatch:
    texts = {"": conditioning(), "{prompt}, sharp": conditioning()}
    return PromptBatch(conditioning(), conditioning(), (conditioning(), conditioning()), numbers(4, 2), texts)


RECORDS: tuple[Record, ...] = (
    data.Rays(numbers(2, 3), numbers(2, 3)),
    camera_batch(),
    Views(camera_batch(), {"colour": numbers(4, 3, 5, 3), "index": whole(4)}),
    data.FieldSample(numbers(7), numbers(7, 3), numbers(7, 3), {"sdf": numbers(7, 1)}),
    ray_samples(),
    render_output(),
    conditioning(),
    data.NoiseSchedule(numbers(9), numbers(9)),
    wording(),
    prompt_batch(),
    data.Triangles(numbers(5, 3), whole(2, 3)),
    data.TextureCoordinates(numbers(4, 2), whole(2, 3), 8),
    data.SurfacePoints(numbers(4, 3), whole(4), numbers(4, 3)),
    data.Material(numbers(4, 3), numbers(4), numbers(4), numbers(4, 3)),
)
BATCHES = tuple(record for record in RECORDS if isinstance(record, Batch))
name_of = pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
batch_of = pytest.mark.parametrize("batch", BATCHES, ids=lambda batch: type(batch).__name__)


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every tensor and every plain value with its path, by a walk that knows nothing of `mapped`."""
    if isinstance(value, Record):
        for one in fields(value):  # type: ignore[arg-type]
            yield from leaves(getattr(value, one.name), f"{path}.{one.name}")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, f"{path}[{key!r}]")
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from leaves(item, f"{path}[{index}]")
    else:
        yield path, value


def same(one: Record, other: Record) -> bool:
    ours, theirs = dict(leaves(one)), dict(leaves(other))
    equal = (torch.equal(v, theirs[k]) if isinstance(v, Tensor) else v == theirs[k] for k, v in ours.items())
    return type(one) is type(other) and ours.keys() == theirs.keys() and all(equal)


# copies


def test_every_kind_of_record_is_looked_at_with_every_field_set() -> None:
    """So that a record, or a field, that is added finds its place here."""

    def below(cls: type[Record]) -> set[type[Record]]:
        return {cls, *(kind for child in cls.__subclasses__() for kind in below(child))}

    kinds = {kind for kind in below(Record) if kind.__module__ == "dfw.interfaces.data"}
    assert {type(record) for record in RECORDS} == kinds - {Record, Batch}
    for record in RECORDS:
        unset = [path for path, value in leaves(record) if value is None or value in ({}, ())]
        assert unset == []


@name_of
def test_mapped_changes_every_tensor_and_nothing_else(record: Record) -> None:
    before, after = dict(leaves(record)), dict(leaves(record.mapped(lambda tensor: 2 * tensor)))
    assert before.keys() == after.keys()
    tensors = 0
    for path, value in before.items():
        if isinstance(value, Tensor):
            assert torch.equal(after[path], 2 * value), path
            tensors += 1
        else:
            assert after[path] == value, path
    assert tensors > 1


@name_of
def test_to_moves_every_tensor(record: Record) -> None:
    moved = dict(leaves(record.to("meta")))
    assert {str(value.device) for value in moved.values() if isinstance(value, Tensor)} == {"meta"}
    assert same(record.to("cpu"), record)


@batch_of
def test_select_takes_rows_of_every_tensor(batch: Batch) -> None:
    rows = torch.tensor([2, 0, 2])
    chosen = dict(leaves(batch.select(rows)))
    for path, value in leaves(batch):
        if isinstance(value, Tensor):
            assert torch.equal(chosen[path], torch.stack([value[2], value[0], value[2]])), path
        else:
            assert chosen[path] == value, path


@batch_of
def test_cat_puts_together_what_select_took_apart(batch: Batch) -> None:
    parts = [batch.select(slice(0, 1)), batch.select(slice(1, 3)), batch.select(slice(3, 4))]
    assert same(type(batch).cat(parts), batch)
    assert same(type(batch).cat([batch]), batch)


def test_renders_of_some_views_become_one_of_all_and_samples_keep_their_rays() -> None:
    """Two renders of 4 and of 1 views with 15 pixels each: the second one's rays begin at 60."""
    first = render_output()
    second = first.mapped(lambda tensor: tensor[1:2] if len(tensor) == 4 else tensor)
    joined = RenderOutput.cat([first, second])
    assert torch.equal(joined.colour, torch.cat([first.colour, first.colour[1:2]]))
    assert torch.equal(joined.extras["albedo"][4], first.extras["albedo"][1])
    assert joined.samples is not None
    assert joined.samples.ray.tolist() == [0, 1, 2, 3, 61]
    assert same(RenderOutput.cat([first]), first)
    bare = replace(first, samples=None)
    assert RenderOutput.cat([bare, bare]).samples is None
    with pytest.raises(ValueError, match="pictures differ in size"):
        RenderOutput.cat([first, second.mapped(lambda tensor: tensor[:, :2] if tensor.dim() > 2 else tensor)])
    with pytest.raises(ValueError, match="samples differs"):
        RenderOutput.cat([first, bare])


@pytest.mark.parametrize("pixels", [3, 4])
def test_a_device_that_shares_views_sees_that_a_render_was_made_in_pieces(pixels: int) -> None:
    """Numbers for one of two views would be cut in halves: where there are 4 of them nothing else could tell."""
    generator = torch.Generator().manual_seed(0)
    share = Share(generator, 0, 2, 4)
    with sharing(share):
        for _ in range(2):
            draw_views(torch.rand, (pixels,), generator, torch.device("cpu"))
        assert share.foreign == (pixels == 3)
        RenderOutput.cat([render_output(), render_output()])
    assert share.foreign


def test_cameras_at_a_moment_are_the_same_cameras() -> None:
    cameras = replace(camera_batch(), time=None)
    moments = numbers(4, seed=5)
    assert same(cameras.at_time(moments), replace(cameras, time=moments))
    assert cameras.at_time(0.25).time is not None
    assert torch.equal(cameras.at_time(0.25).select(slice(1, 3)).time, torch.tensor([0.25, 0.25], dtype=torch.float64))


def test_without_the_optional_fields_copies_have_none() -> None:
    bare = Conditioning(numbers(2, 3, 5))
    assert same(Conditioning.cat([bare.select(slice(0, 1)), bare.select(slice(1, 2))]), bare)
    cameras = replace(camera_batch(), time=None)
    assert CameraBatch.cat([cameras, cameras]).time is None
    assert cameras.select(slice(0, 2)).time is None


@pytest.mark.parametrize("field", ["pooled", "cameras", "control"])
@pytest.mark.parametrize("turned", [False, True])
def test_what_only_some_have_cannot_be_joined(field: str, turned: bool) -> None:
    parts = [conditioning(), replace(conditioning(), **{field: None})]
    kinds = "none, some" if turned else "some, none"
    with pytest.raises(ValueError, match=rf"records whose {field} differs \({kinds}\); give all of them one, or none"):
        Conditioning.cat(parts[::-1] if turned else parts)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"height": 4}, r"whose height differs \(3, 4\)"),
        ({"width": 8}, r"whose width differs \(5, 8\)"),
        ({"together": 4}, r"whose together differs \(2, 4\)"),
        ({"time": None}, r"whose time differs \(some, none\)"),
    ],
)
def test_cameras_that_differ_in_more_than_their_views_cannot_be_joined(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CameraBatch.cat([camera_batch(), replace(camera_batch(), **change)])
    changed = replace(conditioning(), cameras=replace(camera_batch(), **change))
    with pytest.raises(ValueError, match=message):  # inside another record, too
        Conditioning.cat([conditioning(), changed])


def test_other_extras_cannot_be_joined() -> None:
    with pytest.raises(ValueError, match="whose extras differs"):
        Conditioning.cat([conditioning(), replace(conditioning(), extras={"picture": numbers(4, 3, 2)})])
    with pytest.raises(ValueError, match="whose extras differs"):
        Conditioning.cat([conditioning(), replace(conditioning(), extras={})])


def test_a_field_that_a_subclass_adds_is_kept() -> None:
    """The trap of copies that name each field: a new one would be lost."""

    @dataclass(frozen=True)
    class Shifted(CameraBatch):
        shift: Tensor | None = None

    one = Shifted(**vars(camera_batch()), shift=numbers(4, 2))
    taken = one.select(slice(1, 3))
    assert taken.shift is not None
    assert torch.equal(taken.shift, numbers(4, 2)[1:3])
    assert same(Shifted.cat([one.select(slice(0, 2)), one.select(slice(2, 4))]), one)


def test_cameras_in_groups() -> None:
    cameras = replace(camera_batch(6), together=1)
    assert [cameras.in_groups(together).together for together in (1, 2, 3, 6)] == [1, 2, 3, 6]
    assert same(replace(cameras.in_groups(3), together=1), cameras)
    for together in (4, 0, -1, 12):
        with pytest.raises(ValueError, match=f"6 views cannot be split into groups of {together}"):
            cameras.in_groups(together)


def test_a_control_picture_reaches_every_conditioning_of_a_prompt() -> None:
    shown = numbers(4, 3, 2, 2, seed=9)
    found = prompt_batch().with_control(shown)
    all_of_them = [found.positive, found.negative, *found.negatives, *found.texts.values()]
    assert len(all_of_them) == 6
    assert all(one.control is shown for one in all_of_them)
    assert same(found.with_control(prompt_batch().positive.control), prompt_batch())
    assert found.with_control(None).texts[""].control is None


# pictures of a render


def around(azimuth: float, elevation: float = 0.0, height: int = 3, width: int = 5) -> CameraBatch:
    """One camera two units from the centre, 90 degrees high, float64."""
    one = torch.ones(1, dtype=torch.float64)
    return cameras_at(one * azimuth, one * elevation, one * 2, one * 90, height, width)


def rendered(height: int = 3, width: int = 5, **changes: Any) -> RenderOutput:
    """Something everywhere, all different."""
    shape = (1, height, width)
    normal = 2 * numbers(*shape, 3, seed=4) - 1
    made = RenderOutput(numbers(*shape, 3), numbers(*shape, seed=1), 1 + numbers(*shape, seed=2), normal)
    return replace(made, **changes)


def test_colour_is_as_it_is_latents_too() -> None:
    made = rendered()
    assert made.picture("colour", around(0)) is made.colour
    latent = rendered(colour=numbers(1, 3, 5, 4), latent=True)
    assert latent.picture("colour", around(0)) is latent.colour


def test_opacity_is_grey() -> None:
    made = rendered()
    found = made.picture("opacity", around(0))
    assert found.shape == (1, 3, 5, 3)
    assert all(torch.equal(found[..., channel], made.opacity) for channel in range(3))


def test_normals_are_world_axes_over_a_half() -> None:
    """+x is (1, 1/2, 1/2) from wherever it is seen; half a normal and nothing lie between it and grey."""
    normal = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    normal[0, 0, 0, 0], normal[0, 0, 1, 0] = 1, 0.5
    made = rendered(1, 3, normal=normal)
    expected = torch.tensor([[[[1, 0.5, 0.5], [0.75, 0.5, 0.5], [0.5, 0.5, 0.5]]]], dtype=torch.float64)
    for azimuth in (0, 120):
        torch.testing.assert_close(made.picture("normal", around(azimuth, height=1, width=3)), expected)


@pytest.mark.parametrize(
    ("azimuth", "elevation", "world", "colour"),
    [
        (0, 0, (1, 0, 0), (0.5, 0.5, 1)),
        (0, 0, (0, -2, 0), (1, 0.5, 0.5)),
        (0, 0, (0, 0, 0.1), (0.5, 1, 0.5)),
        (90, 0, (0, 1, 0), (0.5, 0.5, 1)),
        (180, 0, (0, 1, 0), (1, 0.5, 0.5)),
        (0, 30, (0, 0, 1), (0.5, 0.5 + 3**0.5 / 4, 0.75)),
        (77, 20, (0, 0, 0), (0.5, 0.5, 0.5)),
    ],
)
def test_camera_normals_are_red_left_green_up_blue_near(azimuth: float, elevation: float, world: Any, colour: Any) -> None:
    normal = torch.tensor(world, dtype=torch.float64).expand(1, 3, 5, 3)
    opaque = torch.ones(1, 3, 5, dtype=torch.float64)
    found = rendered(normal=normal, opacity=opaque).picture("camera-normal", around(azimuth, elevation))
    torch.testing.assert_close(found, torch.tensor(colour, dtype=torch.float64).expand(1, 3, 5, 3), rtol=0, atol=1e-6)
    nothing = rendered(normal=normal, opacity=0 * opaque).picture("camera-normal", around(azimuth, elevation))
    wall = torch.tensor([0.5, 0.5, 1], dtype=torch.float64)
    torch.testing.assert_close(nothing, wall.expand(1, 3, 5, 3))
    half = rendered(normal=normal, opacity=opaque / 2).picture("camera-normal", around(azimuth, elevation))
    torch.testing.assert_close(half, (found + nothing) / 2)


def test_normals_and_mask_are_a_latent_of_four_channels() -> None:
    """World-space normals over 0 as they are, below 0 too, and the opacity; whatever way the camera looks."""
    normal = torch.tensor([0.6, -0.8, 0], dtype=torch.float64).expand(1, 3, 5, 3)
    opacity = torch.full((1, 3, 5), 0.25, dtype=torch.float64)
    for azimuth in (0, 77):
        found = rendered(normal=0.25 * normal, opacity=opacity).picture("normal-mask", around(azimuth, 20))
        expected = torch.tensor([0.15, -0.2, 0, 0.25], dtype=torch.float64).expand(1, 3, 5, 4)
        torch.testing.assert_close(found, expected)


def along_rays(z: Tensor, cameras: CameraBatch) -> Tensor:
    """Distances (1, H, W) of what lies `z` (H, W) in front of the camera's plane; the tangent of half the view is 1."""
    height, width = z.shape
    y = 1 - (torch.arange(height, dtype=torch.float64) + 0.5) * 2 / height
    x = ((torch.arange(width, dtype=torch.float64) + 0.5) * 2 / width - 1) * width / height
    assert (cameras.height, cameras.width) == (height, width)
    return (z * (1 + y[:, None] ** 2 + x**2).sqrt())[None]


def test_depth_is_disparity_of_a_view_that_is_not_square() -> None:
    """Walls at 2, 3 and 8 in front of the camera: 1, 2/3 and 1/4, times the opacity; open sky is black; any unit of length."""
    cameras = around(33, 12)
    z = torch.tensor([2.0, 3, 8, 2, 2], dtype=torch.float64).expand(3, 5).clone()
    opacity = torch.ones(1, 3, 5, dtype=torch.float64)
    opacity[..., 3], opacity[..., 4] = 0.25, 0
    distance = along_rays(z, cameras) * (opacity > 0)
    expected = torch.tensor([1, 2 / 3, 1 / 4, 0.25, 0], dtype=torch.float64)[:, None].expand(1, 3, 5, 3)
    for scale in (1, 10):
        found = rendered(opacity=opacity, depth=scale * distance).picture("depth", cameras)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    faint = rendered(opacity=0.4 * opacity, depth=distance).picture("depth", cameras)
    assert torch.equal(faint, torch.zeros(1, 3, 5, 3, dtype=torch.float64))


def test_other_pictures_by_their_names() -> None:
    grey, coloured = numbers(1, 3, 5, 1), numbers(1, 3, 5, 3, seed=1)
    made = rendered(extras={"roughness": grey, "albedo": coloured})
    assert torch.equal(made.picture("roughness", around(0)), grey.expand(1, 3, 5, 3))
    assert torch.equal(made.picture("albedo", around(0)), coloured)
    with pytest.raises(ValueError, match=r"no picture named 'albdo'; it has colour, normal, .*, opacity, roughness, albedo"):
        made.picture("albdo", around(0))
    for of in ("normal", "camera-normal", "normal-mask"):
        with pytest.raises(ValueError, match="the render has no normals"):
            rendered(normal=None).picture(of, around(0))


@pytest.mark.parametrize("of", ["colour", "opacity", "normal", "camera-normal", "normal-mask", "roughness"])
def test_gradients_of_pictures_are_finite_differences(of: str) -> None:
    cameras, made = around(40, 15), rendered()
    values = [made.colour, made.opacity, made.normal, numbers(1, 3, 5, 1, seed=7)]
    leaves_ = [value.clone().requires_grad_() for value in values if value is not None]

    def picture(colour: Tensor, opacity: Tensor, normal: Tensor, roughness: Tensor) -> Tensor:
        extras = {"roughness": roughness}
        return RenderOutput(colour, opacity, made.depth, normal, extras=extras).picture(of, cameras)

    assert torch.autograd.gradcheck(picture, leaves_)
    assert picture(*leaves_).requires_grad


def test_gradients_of_disparity_are_finite_differences_with_the_nearest_pixel_held() -> None:
    """The nearest pixel only sets the picture's scale; O z_near / z of all others follows their distance and opacity."""
    cameras = around(40, 15)
    held = torch.zeros(1, 3, 5, dtype=torch.bool)
    held[0, 1, 2] = True
    distance = (2 + numbers(1, 3, 5)).requires_grad_()
    opacity = (0.55 + 0.4 * numbers(1, 3, 5, seed=1)).requires_grad_()

    def picture(depth: Tensor, seen: Tensor) -> Tensor:
        depth, seen = torch.where(held, 1.0, depth), torch.where(held, 0.7, seen)
        return rendered(depth=depth, opacity=seen).picture("depth", cameras)

    assert torch.autograd.gradcheck(picture, (distance, opacity))
    z = 1 / along_rays(torch.ones(3, 5, dtype=torch.float64), cameras)
    (slope,) = torch.autograd.grad(picture(distance, opacity).sum(), distance)
    near = z[0, 1, 2]
    expected = torch.where(held, 0.0, -3 * (opacity * near / (z * distance**2)))
    torch.testing.assert_close(slope, expected.detach())


def test_the_nearest_pixel_is_not_moved_by_what_the_others_show() -> None:
    """Its distance is the scale of the whole picture, and has a gradient only for its own brightness, O z_near / z."""
    cameras, distance = around(40, 15), 2 + numbers(1, 3, 5)
    distance[0, 1, 2] = 1
    depth, opacity = distance.requires_grad_(), torch.full((1, 3, 5), 0.8, dtype=torch.float64)
    picture = rendered(depth=depth, opacity=opacity).picture("depth", cameras)
    (slope,) = torch.autograd.grad(picture.sum() - picture[0, 1, 2].sum(), depth, retain_graph=True)
    assert slope[0, 1, 2] == 0
    assert slope.abs().max() > 0.1
    (own,) = torch.autograd.grad(picture[0, 1, 2].sum(), depth)
    torch.testing.assert_close(own[0, 1, 2], torch.tensor(-3 * 0.8, dtype=torch.float64))
    assert own.count_nonzero() == 1


@pytest.mark.parametrize("of", ["depth", "camera-normal", "normal", "normal-mask"])
def test_where_nothing_is_no_gradient_is_nan_or_huge(of: str) -> None:
    """A view with half of it empty, and one that is all empty: depth, opacity and normal are 0 there."""
    opacity = torch.ones(2, 3, 5, dtype=torch.float64)
    opacity[0, :, 3:], opacity[1] = 0, 0
    depth, normal = 2 * opacity, opacity[..., None] * torch.tensor([0.6, 0, 0.8], dtype=torch.float64)
    values = [value.clone().requires_grad_() for value in (opacity, depth, normal)]
    both = CameraBatch.cat([around(10), around(200)])
    made = RenderOutput(numbers(2, 3, 5, 3), *values)
    made.picture(of, both).sum().backward()
    for value in values:
        grad = torch.zeros_like(value) if value.grad is None else value.grad
        assert torch.isfinite(grad).all()
        assert grad.abs().max() < 10
    assert any(value.grad is not None and value.grad[0, :, :3].abs().max() > 0 for value in values)


def test_a_pixel_without_a_normal_pulls_at_none() -> None:
    """Matter whose normals cancel: the picture is half of the way from grey to itself, and the gradient is no larger than it."""
    normal = torch.zeros(1, 3, 5, 3, dtype=torch.float64, requires_grad=True)
    half = torch.full((1, 3, 5), 0.5, dtype=torch.float64)
    rendered(normal=normal, opacity=half).picture("camera-normal", around(30)).sum().backward()
    assert normal.grad is not None
    assert normal.grad.abs().max() < 1


# what a guidance is shown


def inputs(render: RenderOutput, side: int, of: str = "colour") -> LossInputs:
    model = prior(side)
    height, width = render.opacity.shape[1:]
    views = Views(around(20, 10, height, width))
    text = PromptBatch(model.encode_text(["y"]), model.encode_text([""]))
    return LossInputs(render, views, text, model, Progress(0, 1), torch.Generator(), of=of)


@pytest.mark.parametrize(
    ("height", "width", "rows", "columns"),
    [(4, 4, (0, 4), (0, 4)), (4, 6, (0, 4), (1, 5)), (4, 7, (0, 4), (1, 5)), (6, 4, (1, 5), (0, 4)), (9, 4, (2, 6), (0, 4))],
)
def test_of_a_view_that_is_not_square_the_guidance_sees_the_centred_square(
    height: int, width: int, rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    made = rendered(height, width)
    found = inputs(made, 4).image
    expected = made.colour[:, slice(*rows), slice(*columns)].permute(0, 3, 1, 2)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("side", [2, 8])
def test_the_square_is_resized_to_the_guidances_own_size(side: int) -> None:
    """What lies outside of the square has no say: a grey square between two white bars stays grey."""
    colour = torch.ones(1, 4, 8, 3, dtype=torch.float64)
    colour[:, :, 2:6] = 0.25
    found = inputs(rendered(4, 8, colour=colour), side).image
    assert found.shape == (1, 3, side, side)
    torch.testing.assert_close(found, torch.full_like(found, 0.25))


@pytest.mark.parametrize("of", ["normal", "camera-normal", "depth", "opacity"])
def test_the_guidance_is_shown_the_picture_that_the_loss_looks_at(of: str) -> None:
    made = rendered(4, 6)
    asked = inputs(made, 4, of)
    picture = made.picture(of, asked.cameras)
    assert torch.equal(asked.picture, picture)
    assert torch.equal(asked.image, picture[:, :, 1:5].permute(0, 3, 1, 2))
    assert torch.equal(asked.encoded, 2 * asked.image - 1)


def test_a_latent_of_normals_and_mask_is_resized_and_not_encoded() -> None:
    """Of a view of 4x6 the centred square, at the side of the latents; below 0 and not through the guidance's encoder."""
    made = rendered(4, 6)
    asked = inputs(made, 4, "normal-mask")
    assert asked.latent
    picture = made.picture("normal-mask", asked.cameras)
    assert float(picture.min()) < 0
    assert torch.equal(asked.encoded, picture[:, :, 1:5].permute(0, 3, 1, 2))
    assert not inputs(made, 4, "normal").latent


def test_a_picture_is_encoded_once_however_many_ask() -> None:
    asked = inputs(rendered(4, 4), 4)
    assert asked.guidance is not None
    calls = []
    inner = asked.guidance.encode_image
    asked.guidance.encode_image = lambda image: (calls.append(1), inner(image))[1]  # type: ignore[method-assign]
    assert asked.encoded is asked.encoded
    assert asked.image is asked.image
    assert calls == [1]


def test_latents_are_not_encoded_and_their_other_pictures_are() -> None:
    """The colour of a scene of latents is in the guidance's space already; its normals are a picture like any other."""
    latent = rendered(4, 4, colour=5 * numbers(1, 4, 4, 3), latent=True)
    assert torch.equal(inputs(latent, 4).encoded, latent.colour.permute(0, 3, 1, 2))
    normal = inputs(latent, 4, "normal")
    assert torch.equal(normal.encoded, 2 * normal.image - 1)


def test_without_guidance_there_is_nothing_to_show_it() -> None:
    bare = replace(inputs(rendered(), 4), guidance=None)
    with pytest.raises(ValueError, match="asks for the encoded render, and the run has no guidance"):
        _ = bare.encoded
