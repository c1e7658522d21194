"""Everything around the kernels, on a device that is not the CPU: `dfw.testing`'s stand-in, which every machine has.

The kernels themselves run on the CPU here, on what the stand-in's tensors hold. What is shown is the rest of the way that a GPU
takes: lists and their sorting, gradients, relocation, the PLY, and where the program waits for the device.
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from clouds import camera, gaussians, renderer, stacked
from dreamfw_gaussians import rasteriser

from dfw import Progress
from dfw.testing.experimental_device import stand_in

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a real second device")


@pytest.fixture
def second(monkeypatch):
    """The stand-in, with kernels that find the CPU's tensors."""
    launch, kernels = rasteriser._launch, rasteriser._kernels

    def on_cpu(name, count, lanes, inputs, offset_at, outputs):
        launch(
            name, count, lanes, [getattr(it, "here", it) for it in inputs], offset_at, [getattr(it, "here", it) for it in outputs]
        )

    monkeypatch.setattr(rasteriser, "_kernels", lambda device: kernels("cpu"))
    monkeypatch.setattr("dreamfw_gaussians.renderer.composite", rasteriser.Composite.apply)
    with stand_in() as there:
        monkeypatch.setattr(rasteriser, "_launch", on_cpu)
        yield there


def moved(cameras, device):
    names = ("camera_to_world", "fov_y", "azimuth", "elevation", "distance")
    return replace(cameras, **{name: getattr(cameras, name).to(device) for name in names})


def picture_and_gradients(geometry, cameras):
    picture = stacked(renderer().to(cameras.position.device)(geometry, cameras))
    upstream = torch.rand(picture.shape, generator=torch.Generator().manual_seed(1)).to(picture.device)
    return [picture, *torch.autograd.grad((picture * upstream).sum(), list(geometry.parameters()))]


def test_pictures_and_gradients_are_those_of_the_cpu(monkeypatch, second):
    """The lists there are sorted by torch, here by a kernel."""
    geometry, cameras = gaussians(60), camera(10.0, 130.0, height=20, width=30, dtype=torch.float32)
    there = picture_and_gradients(geometry.to(second.device), moved(cameras, second.device))
    assert {value.device for value in there} == {second.device}
    here = picture_and_gradients(gaussians(60), cameras)
    torch.testing.assert_close([value.cpu() for value in there], here, rtol=1e-5, atol=1e-6)
    assert all(value.abs().max() > 0 for value in here)


def test_a_picture_waits_for_the_numbers_that_memory_depends_on(second):
    """How many Gaussians are seen, and how many pairs of a Gaussian and a tile there are; the backward pass waits for nothing."""
    geometry, cameras = gaussians(60).to(second.device), moved(camera(10.0, dtype=torch.float32), second.device)
    look = renderer().to(second.device)
    second.waits.clear()
    picture = stacked(look(geometry, cameras))
    forward = Counter(Path(place.rpartition(":")[0]).name for _, place in second.waits)
    second.waits.clear()
    picture.sum().backward()
    assert forward == {"rasteriser.py": 2}
    assert second.waits == []


def test_relocation_moves_the_same_gaussians(second):
    """It draws on the CPU, so that a run gives the same Gaussians on every device."""
    options = {"capacity": 80, "relocation": {"every": 1, "start": 0, "end": 1}}
    here, there = gaussians(60, **options), gaussians(60, **options).to(second.device)
    for geometry in (here, there):
        geometry.begin_step(Progress(5, 10), torch.Generator())
    assert int(here.live) > 60
    for name, parameter in here.named_parameters():
        torch.testing.assert_close(there.get_parameter(name).cpu(), parameter)


def test_the_ply_is_the_same_file(second, tmp_path):
    files = []
    for name, geometry in {"here": gaussians(20), "there": gaussians(20).to(second.device)}.items():
        (tmp_path / name).mkdir()
        files.append(geometry.export_assets(tmp_path / name)["gaussians"].read_bytes())
    assert files[0] == files[1]
