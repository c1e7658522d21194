"""The occupancy grid remembers where matter is: against shapes whose cells are known, and pictures without a grid."""

import copy
import math

import pytest
import torch
from pydantic import ValidationError
from render_fields import DIAGONAL, Blobs, Shape, Soft, ball, nothing, turn

from dfw import Progress
from dfw_renderers.occupancy import OccupancyConfig, OccupancyGrid, Surveyor, occupied_cells, survey
from dfw_renderers.volume import Volume

SIDE = 2.0  # of the cube |x| <= 1: an optical thickness is a density times this


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def centres(size: int) -> torch.Tensor:
    """(G, G, G, 3) centres of the cells of the cube |x| <= 1."""
    axis = (torch.arange(size) + 0.5) * (2 / size) - 1
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)


def updated(field, steps: int, config: OccupancyConfig | None = None, seed: int = 0) -> OccupancyGrid:
    grid = OccupancyGrid(config or OccupancyConfig(resolution=16, update_every=1, warmup=1000))
    g = generator(seed)
    for step in range(steps):
        grid.update(field, Progress(step, steps), g)
    return grid


def test_a_grid_that_never_looked_takes_everything_for_occupied():
    grid = OccupancyGrid(OccupancyConfig(resolution=8))
    scene = grid.occupancy(1.0)
    assert scene.occupied.all()
    assert (scene.density == 0).all()


def test_cells_of_a_ball():
    scene = updated(ball(50.0, 0.6), 30).occupancy(1.0)
    distance, half_diagonal = centres(16).norm(dim=-1), math.sqrt(3) / 16
    assert scene.occupied[distance < 0.6 - half_diagonal].all()
    assert not scene.occupied[distance > 0.6 + half_diagonal].any()
    assert (scene.density[distance < 0.6 - half_diagonal] == 50).all()


def test_axes_are_x_y_z():
    scene = updated(ball(50.0, 0.2, centre=(0.5, -0.5, 0.25)), 10).occupancy(1.0)
    i, j, k = (scene.occupied.nonzero().float() + 0.5).mean(0) / 8 - 1
    assert (i, j, k) == pytest.approx((0.5, -0.5, 0.25), abs=0.05)


def test_matter_that_goes_is_forgotten_after_as_many_looks_as_the_decay_takes():
    config = OccupancyConfig(resolution=8, update_every=1, warmup=1000, decay=0.5, threshold=0.01)
    field = ball(40.0, 0.9)
    grid, g = OccupancyGrid(config), generator()
    grid.update(field, Progress(0, 100), g)
    with torch.no_grad():
        field.sigma.fill_(0.0)
    # the middle cell is free once 40 * 0.5^n * side <= 0.01
    looks = math.ceil(math.log(0.01 / (40 * SIDE)) / math.log(0.5))
    for n in range(1, looks + 1):
        occupied = (grid.peak[4, 4, 4] * SIDE > 0.01).item()
        assert occupied == (n <= looks)
        grid.update(field, Progress(n, 100), g)
    assert grid.peak[4, 4, 4].item() == pytest.approx(40 * 0.5**looks)
    assert grid.peak[4, 4, 4] * SIDE <= 0.01


def test_new_matter_is_found_once_every_cell_had_its_turn():
    config = OccupancyConfig(resolution=8, update_every=2, warmup=0, fraction=0.25)
    field = ball(0.0, 0.9)
    grid = updated(field, 8, config)
    assert (grid.peak == 0).all()
    with torch.no_grad():
        field.sigma.fill_(30.0)
    g = generator(1)
    inside = centres(8).norm(dim=-1) < 0.9 - math.sqrt(3) / 8
    found = []
    for step in range(8, 16):
        grid.update(field, Progress(step, 100), g)
        found.append((grid.peak[inside] == 30).float().mean().item())
    assert found[0] == pytest.approx(0.25, abs=0.05)
    assert found[1] == found[0]  # every second step
    assert found[-1] == 1


def test_a_late_start_looks_at_every_cell_first():
    grid = OccupancyGrid(OccupancyConfig(resolution=8, update_every=4, warmup=0))
    grid.update(ball(30.0, 0.6), Progress(400, 1000), generator())
    assert torch.isfinite(grid.peak).all()


def test_a_thin_scene_is_not_lost():
    peak = torch.full((4, 4, 4), 1e-4)
    peak[0] = 0
    occupied = occupied_cells(peak, 0.5, 0.01)
    assert occupied[1:].all()
    assert not occupied[0].any()


def test_a_density_that_is_no_number_stays_in_sight():
    peak = torch.zeros(4, 4, 4)
    peak[1, 1, 1] = torch.nan
    assert occupied_cells(peak, 0.5, 0.01)[1, 1, 1]


def test_a_restored_grid_continues_to_the_same_bits():
    field, config = Blobs(), OccupancyConfig(resolution=8, update_every=1, warmup=2)
    grid = updated(field, 5, config)
    other = OccupancyGrid(config)
    other.load_state_dict(copy.deepcopy(grid.state_dict()))
    for each in (grid, other):
        g = generator(9)
        for step in range(5, 12):
            each.update(field, Progress(step, 12), g)
    assert torch.equal(grid.peak, other.peak)
    assert torch.equal(grid.recent, other.recent)


def test_updates_are_due_every_so_many_steps():
    config = OccupancyConfig(resolution=4, update_every=3, warmup=0)
    grid, g = OccupancyGrid(config), generator()
    changed = []
    for step in range(7):
        before = g.get_state()
        grid.update(Blobs(), Progress(step, 7), g)
        changed.append(not torch.equal(before, g.get_state()))
    assert changed == [True, False, False, True, False, False, True]


def test_survey_finds_all_of_a_ball_and_hides_only_what_is_behind_solid_matter():
    scene = survey(ball(80.0, 0.6), OccupancyConfig(resolution=32), torch.zeros(1))
    distance = centres(32).norm(dim=-1)
    assert scene.occupied[distance < 0.6 + 1 / 32].all()
    assert not scene.occupied[distance > 0.6 + 5 / 32].any()
    solid = distance < 0.6 - 5 / 32
    assert (scene.density[solid] == 80).all()
    assert (scene.density[distance > 0.6] == 0).all()


@pytest.mark.parametrize("at", [0.0, 0.013, 0.03, 0.047])
def test_survey_finds_a_sheet_of_half_a_cell(at):
    thin = 1 / 32 + 1e-4
    field = Shape(100.0, lambda x: (x[..., 0] - at).abs() <= thin / 2)
    scene = survey(field, OccupancyConfig(resolution=32), torch.zeros(1))
    cell = int((at + 1) * 16)
    assert scene.occupied[cell].all()


def test_surveyor_looks_again_only_after_a_change():
    looks = []
    field = ball(80.0, 0.6)
    inside = field.inside
    field.inside = lambda x: (looks.append(1), inside(x))[1]
    surveyor = Surveyor(OccupancyConfig(resolution=8))
    first = surveyor(field, torch.zeros(1))
    count = len(looks)
    assert surveyor(field, torch.zeros(1)) is first
    assert len(looks) == count
    with torch.no_grad():
        field.sigma.fill_(0.0)
    assert not surveyor(field, torch.zeros(1)).occupied.any()
    assert surveyor(ball(80.0, 0.6), torch.zeros(1)).occupied.any()
    count = len(looks)
    copy.deepcopy(surveyor)(field, torch.zeros(1))
    assert len(looks) > count


def picture(field, training: bool, **occupancy):
    background = {"type": "solid", "colour": (0.0, 0.0, 0.0)}
    renderer = Volume(Volume.Config.model_validate({"background": background, "occupancy": occupancy}))
    renderer.train(training)
    if training:
        g = generator()
        for step in range(40):
            renderer.begin_step(field, Progress(step, 100), g)
    return renderer(field, turn(4, 24), generator(7))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("threshold", [0.05, 0.4])
@pytest.mark.parametrize("field", [ball(60.0, 0.5), Blobs()], ids=["ball", "blobs"])
def test_same_picture_with_and_without_the_grid(field, threshold, training):
    off = picture(field, training, enabled=False)
    on = picture(field, training, resolution=32, update_every=1, threshold=threshold)
    rays = off.opacity.numel()
    skipped = torch.bincount(off.samples.ray, minlength=rays) - torch.bincount(on.samples.ray, minlength=rays)
    assert (skipped >= 0).all()
    assert skipped.sum() > 0.15 * len(off.samples.ray)
    # a skipped sample holds its share of the threshold, or less than 1e-4 of the light reaches it
    share = (2.5 if training else 1.2) * DIAGONAL / 96 / SIDE  # random looks miss the densest place of a cell
    bound = (1 - torch.exp(-threshold * share * skipped) + 1e-4).view_as(off.opacity)
    assert ((on.opacity - off.opacity).abs() <= bound).all()
    assert ((on.colour - off.colour).abs() <= bound[..., None]).all()


SOFT = pytest.mark.parametrize(("steepness", "sigma", "truth"), [(5.0, 10.0, 0.8124), (15.0, 20.0, 0.4598)])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("samples", [80, 256, 512, 1024])
@SOFT
def test_more_samples_hide_no_thin_matter(steepness, sigma, truth, samples, training):
    """A ball whose density falls off slowly. `truth`: the mean opacity of these rays with 4,096 samples each and no grid."""
    options = {"samples": samples, "background": "solid"}
    renderer, field = Volume(Volume.Config.model_validate(options)).train(training), Soft(steepness, sigma)
    with torch.no_grad():
        if training:
            renderer.begin_step(field, Progress(0, 100), generator())
            for step in range(16, 64, 16):
                renderer.begin_step(field, Progress(step, 100), generator(step))
        opacity = renderer(field, turn(4, 24), generator(7)).opacity
    assert opacity.mean().item() == pytest.approx(truth, rel=0.01)


def test_an_empty_scene_costs_nothing():
    assert len(picture(nothing(), True, resolution=8, update_every=1).samples.ray) == 0


@pytest.mark.parametrize("wrong", [{"resolution": 2}, {"decay": 1.0}, {"threshold": 0}, {"fraction": 0}, {"update_every": 0}])
def test_config_refuses(wrong):
    with pytest.raises(ValidationError):
        OccupancyConfig.model_validate(wrong)
