"""The shipped novel-view prior from its configurations: one picture becomes a NeRF or a sheet; wrong pictures are refused."""

from __future__ import annotations

import math
from pathlib import Path

import prior_parts  # noqa: F401  # the prior's tools on the import path
import pytest
import torch
from command_line import run_dfw
from PIL import Image

import dfw
from dfw import Conditioning, cameras_at
from dfw.prior.sample import ddim
from dfw_guidance.zero123 import Zero123

SMALL = (
    *("trainer.steps=2", "trainer.preview_every=2", "trainer.preview_width=16", "cameras.width=16", "renderer.samples=16"),
    *("view_sets.reference.width=16", "export.formats=[]", "export.turntable_frames=0", "device=cpu"),
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A red and a blue cube as the world draws them, and a red picture without a background."""
    from portraits import Portrait

    folder = tmp_path_factory.mktemp("pictures")
    for colour in ("red", "blue"):
        Portrait("cube", colour, 20.0, 25.0).save(folder / f"{colour}.png", torch.Generator().manual_seed(0), side=64)
    Image.new("RGB", (64, 64), (255, 0, 0)).save(folder / "opaque.png")
    return folder


@pytest.mark.parametrize(("name", "more"), [("zero123", {"sds"}), ("magic123", {"words", "sides"})])
def test_a_nerf_is_made_from_one_picture(name: str, more: set[str], pictures: Path, tmp_path: Path) -> None:
    words = ["prompt=a red cube"] if name == "magic123" else []
    run = dfw.run(name, f"image={pictures / 'red.png'}", *words, *SMALL, f"output={tmp_path}", listeners=[])
    assert run.status == "finished"
    always = more | {"picture", "mask", "opacity"}
    assert [set(row["losses"]) for row in run.metrics] == [always, always | {"entropy"}]  # its weight begins at 0
    assert all(math.isfinite(value) for row in run.metrics for value in row["losses"].values())
    assert run.metrics[0]["grad_norm"] > 0


def test_its_other_sides_have_the_colour_of_the_picture(pictures: Path) -> None:
    """Seen from behind, a red cube is red in its middle and a blue one blue; the pose is that of Stable Zero123."""
    angles = torch.tensor([[200.0, 20.0], [110.0, 30.0]])
    full = torch.ones(2)
    cameras = cameras_at(*angles.T, 3 * full, 40 * full, 64, 64)
    for colour, channel in (("red", 0), ("blue", 2)):
        config = Zero123.Config(image=str(pictures / f"{colour}.png"), share=0.65, azimuth=20, elevation=25, precision="fp32")
        made = Zero123(config)
        down, sine, cosine, last = made.relative_pose(cameras)[0].tolist()
        assert (down, last) == pytest.approx((math.radians(5), math.radians(65)))
        assert (sine, cosine) == pytest.approx((0, -1), abs=1e-6)
        prompts = [
            Conditioning(one.embedding.expand(2, -1, -1), extras={"known": one.extras["known"].expand(2)}, cameras=cameras)
            for one in (made.conditional(), made.unconditional())
        ]
        images = ddim(made, dfw.PromptBatch(*prompts), 8, 2.0, torch.Generator().manual_seed(1))
        middle = images[:, :, 24:40, 24:40].mean((2, 3))
        others = [other for other in range(3) if other != channel]
        assert (middle[:, channel] > middle[:, others].amax(1) + 0.15).all()


def test_a_sheet_shows_the_thing_from_the_cameras_of_the_run(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sheet.png"
    asked = (
        "sample",
        "zero123",
        f"image={pictures / 'red.png'}",
        "--count",
        "3",
        "--steps",
        "1",
        "--out",
        str(out),
        "device=cpu",
    )
    code, _, _ = run_dfw(*asked, capsys=capsys)
    assert code == 0
    with Image.open(out) as sheet:
        assert sheet.size == (3 * 64 + 2 * 2, 64)  # pictures of 64, gaps of 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "no picture is named; write image=PICTURE"),
        (["image=opaque.png"], "shows no background"),
        (["image=nowhere.png"], "nowhere.png"),
    ],
)
def test_a_wrong_picture_is_refused_in_one_sentence(
    given: list[str],
    said: str,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(pictures)
    code, _, err = run_dfw("run", "zero123", *given, f"output={tmp_path / 'runs'}", "device=cpu", capsys=capsys)
    assert code == 2
    assert said in err
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists()
