"""The volume renderer in training: chunks, random draws, what it remembers, and gradients."""

import copy

import pytest
import torch
from render_fields import Blobs, ball, looking, turn
from volumes import generator, trained, volume

from dfw import Progress
from dfw_geometry.nerf import NeRF


@pytest.mark.parametrize("training", [False, True])
def test_chunks_change_nothing(training):
    outputs = []
    for chunk in (2**17, 1000, 37):
        renderer = trained(Blobs(), chunk=chunk, shading={"normals": "always"})
        outputs.append(renderer.train(training)(Blobs(), turn(2, 12), generator(3)))
    for other in outputs[1:]:
        for name in ("colour", "opacity", "depth", "normal"):
            assert torch.allclose(getattr(outputs[0], name), getattr(other, name), atol=1e-6)
        for name in ("weight", "ray", "distance", "direction", "normal"):
            assert torch.allclose(getattr(outputs[0].samples, name), getattr(other.samples, name), atol=1e-6)


def test_same_generator_state_same_bits():
    field = Blobs()
    options = {"background": "learned", "shading": {"mode": "lambertian", "start": 0.0}}
    first, second = (trained(field, **options)(field, turn(2, 12), generator(3)) for _ in range(2))
    assert torch.equal(first.colour, second.colour)
    other = trained(field, **options)(field, turn(2, 12), generator(4))
    assert not torch.equal(first.colour, other.colour)


def test_training_never_uses_the_global_generator():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    field = Blobs()
    renderer = trained(field, background={"type": "random"}, shading={"mode": "lambertian", "start": 0.0})
    renderer(field, turn(2, 8), generator())
    assert torch.equal(before, torch.get_rng_state())


def test_training_without_a_generator_is_refused():
    with pytest.raises(ValueError, match="generator"):
        volume(True)(Blobs(), turn(1, 4))


def test_previews_leave_training_as_it_was():
    def run(previews: bool):
        field = NeRF(NeRF.Config(encoding={"levels": 2, "log2_size": 8, "finest": 32}))
        renderer, g = volume(True, occupancy={"resolution": 16, "update_every": 2, "warmup": 2}), generator()
        field.initialise(g)
        optimizer = torch.optim.Adam(field.parameters(), 1e-2)
        for step in range(8):
            renderer.begin_step(field, Progress(step, 8), g)
            colour = renderer(field, turn(2, 8), g).colour
            optimizer.zero_grad()
            colour.square().mean().backward()
            optimizer.step()
            if previews and step % 3 == 0:
                renderer.eval()
                with torch.no_grad():
                    renderer(field, turn(3, 12))
                renderer.train()
        return colour, renderer.state_dict()

    (plain, state), (interrupted, other) = run(False), run(True)
    assert torch.equal(plain, interrupted)
    assert all(torch.equal(state[name], other[name]) for name in state)


def test_evaluation_depends_on_the_scene_alone():
    field = Blobs()
    fresh, old = volume(), trained(ball(50.0, 0.9)).eval()
    assert torch.equal(fresh(field, turn(2, 12)).colour, old(field, turn(2, 12)).colour)


def test_a_restored_renderer_continues_to_the_same_bits():
    field = Blobs()
    renderer = trained(field, 20, background="learned")
    other = volume(True, background="learned")
    other.load_state_dict(copy.deepcopy(renderer.state_dict()))
    outputs = []
    for each in (renderer, other):
        g = generator(8)
        for step in range(20, 40):
            each.begin_step(field, Progress(step, 100), g)
        outputs.append(each(field, turn(2, 8), g).colour)
    assert torch.equal(*outputs)


@pytest.mark.parametrize("shading", [{}, {"mode": "lambertian", "start": 0.0, "probability": 1.0}])
def test_gradients_of_a_picture_by_finite_differences(shading):
    field = Blobs(torch.float64)
    renderer = volume(True, samples=24, occupancy={"enabled": False}, shading=shading, background="learned")
    cameras = looking((2.5, 0.5, 0.3), size=3, dtype=torch.float64)
    scene = torch.nn.ModuleDict({"field": field})
    scene.forward = lambda: renderer(field, cameras, generator(2))  # type: ignore[method-assign]
    names = [name for name, _ in scene.named_parameters()]

    def picture(*values):
        output = torch.func.functional_call(scene, dict(zip(names, values, strict=True)), ())
        return output.colour, output.opacity, output.depth

    assert torch.autograd.gradcheck(picture, tuple(p.detach().clone().requires_grad_() for p in field.parameters()))


def test_gradients_reach_all_of_a_nerf():
    field = NeRF(NeRF.Config())
    field.initialise(generator())
    trained(field)(field, turn(2, 12), generator()).colour.square().sum().backward()
    for parameters in field.parameter_groups().values():
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in parameters)
