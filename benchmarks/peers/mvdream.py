"""Holds the guidances `mvdream` and `imagedream` to the authors' own networks on the same random weights. It fetches nothing.

    python benchmarks/peers/mvdream.py MVDream                                  # a checkout of bytedance/MVDream; needs einops
    python benchmarks/peers/mvdream.py --imagedream ImageDream/extern/ImageDream    # one of bytedance/ImageDream

The authors' U-Net is built with two levels, and its tensors become a checkpoint in their layout. `dfw_guidance.convert` makes a
folder of it on a small base, and the guidance reads that. Both then answer for the same noise, words and cameras, each with a
function of its own for cameras. The words' embeddings and the picture's latents and CLIP features are those of the guidance: the
authors take them from Stable Diffusion and OpenCLIP. Attention, which they take from xformers, is torch's.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import HEADER, attention, compare, finish, shake, stand_ins
from PIL import Image
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModel

from dfw import CameraBatch, Conditioning, cameras_at
from dfw_guidance.convert import convert
from dfw_guidance.imagedream import ImageDream
from dfw_guidance.imagedream_weights import convert_imagedream
from dfw_guidance.mvdream import MVDream

sys.path.insert(0, str(Path(__file__).parents[1]))
from random_sd import write

ABSENT = ("omegaconf", "omegaconf.listconfig", "pkg_resources", "xformers", "xformers.ops", "xformers.info")
CHANNELS, WIDTH = (64, 128), 64
SIZES: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 64,
    "attention_resolutions": [1],
    "num_res_blocks": 2,
    "channel_mult": [1, 2],
    "num_head_channels": 64,
    "transformer_depth": 1,
    "context_dim": WIDTH,
    "camera_dim": 16,
}
MORE = {"image_size": 32, "use_spatial_transformer": True, "use_linear_in_transformer": True, "use_checkpoint": False}
ELEVATION, SCALE, SIDE = 15.0, 5.0, 16


def base(folder: Path) -> Path:
    """Makes the small model that the authors' checkpoint is put on. As Stable Diffusion 2.1 base it predicts noise."""
    settings = write(folder, CHANNELS, WIDTH) / "scheduler" / "scheduler_config.json"
    settings.write_text(settings.read_text(encoding="utf-8").replace("v_prediction", "epsilon"), encoding="utf-8")
    return folder


def ring() -> CameraBatch:
    """Two rings of four views."""
    azimuth, full = torch.tensor([0.0, 90, 180, -90] * 2), torch.ones(8)
    return cameras_at(azimuth, ELEVATION * full, 3 * full, 40 * full, SIDE, SIDE).in_groups(4)


def guided(guidance: MVDream, noisy: Tensor, timestep: Tensor, words: Conditioning, negative: Conditioning) -> dict[str, Tensor]:
    """Returns the guidance's answers for the prompt, for the negative one, and guided."""
    return {
        "noise for the prompt": guidance.predict(noisy, timestep, words),
        "noise for the negative prompt": guidance.predict(noisy, timestep, negative),
        "noise, guided": guidance.predict_noise_guided(noisy, timestep, words, negative, SCALE),
    }


def asked(guidance: MVDream) -> tuple[Tensor, Tensor, Conditioning, Conditioning]:
    """Returns noisy latents of two scenes, timesteps, a prompt and a negative one."""
    noisy = torch.randn(8, 4, SIDE // 2, SIDE // 2, generator=torch.Generator().manual_seed(1))
    words = replace(guidance.encode_text(["a red cube"] * 8), cameras=ring())
    away = guidance.encode_negative("a blue car")
    negative = replace(away.select(torch.zeros(8, dtype=torch.int64)), cameras=ring())
    return noisy, torch.tensor([100] * 4 + [800] * 4), words, negative


def pairs(theirs: list[Tensor], ours: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Returns the authors' answers for both prompts, and what classifier-free guidance makes of them, next to ours."""
    positive, negative = theirs
    answers = (positive, negative, negative + SCALE * (positive - negative))
    return {name: (answer, own) for answer, (name, own) in zip(answers, ours.items(), strict=True)}


def mvdream(checkout: Path, folder: Path) -> float:
    """Compares MVDream."""
    sys.path.insert(0, str(checkout))
    with stand_ins(ABSENT, OmegaConf=None, ListConfig=list, memory_efficient_attention=attention):
        from mvdream.camera_utils import get_camera  # type: ignore[import-not-found]
        from mvdream.ldm.modules.diffusionmodules.openaimodel import MultiViewUNetModel  # type: ignore[import-not-found]

        with redirect_stdout(StringIO()):  # their layers say what they are
            authors = MultiViewUNetModel(**SIZES, **MORE)
    shake(authors)
    torch.save({f"model.diffusion_model.{name}": value for name, value in authors.state_dict().items()}, folder / "4view.pt")
    convert(folder / "4view.pt", folder / "made", base(folder / "base"))
    options = {"model": str(folder / "made"), "resolution": SIDE, "precision": "fp32"}
    guidance = MVDream(MVDream.Config.model_validate(options))
    noisy, timestep, words, negative = asked(guidance)
    camera = get_camera(4, elevation=ELEVATION, azimuth_start=90).repeat(2, 1)
    theirs = [authors(noisy, timestep, one.embedding, camera=camera, num_frames=4) for one in (words, negative)]
    return compare(pairs(theirs, guided(guidance, noisy, timestep, words, negative)))


def imagedream(checkout: Path, folder: Path, pixels: bool) -> float:
    """Compares ImageDream, with or without the picture as a further view."""
    sys.path.insert(0, str(checkout))
    with stand_ins(ABSENT, OmegaConf=None, ListConfig=list, memory_efficient_attention=attention):
        from imagedream.camera_utils import get_camera  # type: ignore[import-not-found]
        from imagedream.ldm.modules.diffusionmodules.openaimodel import MultiViewUNetModel  # type: ignore[import-not-found]

        sizes = {**SIZES, "ip_dim": 16}
        with redirect_stdout(StringIO()):
            authors = MultiViewUNetModel(**sizes, **MORE, with_ip=True, ip_mode="local_resample")
    shake(authors)
    table = {f"model.diffusion_model.{name}": value for name, value in authors.state_dict().items()}
    torch.manual_seed(0)
    clip = CLIPVisionConfig(
        hidden_size=1280, intermediate_size=64, num_hidden_layers=2, num_attention_heads=16, image_size=SIDE, patch_size=8
    )
    CLIPVisionModel(clip).save_pretrained(folder / "encoder")
    pixel = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    Image.fromarray(pixel).save(folder / "picture.png")
    convert_imagedream(table, base(folder / "base"), folder / "encoder", folder / "made", sizes)
    options = {"model": str(folder / "made"), "image": str(folder / "picture.png"), "share": None, "pixels": pixels}
    guidance = ImageDream(ImageDream.Config.model_validate({**options, "resolution": SIDE, "precision": "fp32"}))
    noisy, timestep, words, negative = asked(guidance)
    camera = get_camera(4, elevation=ELEVATION, azimuth_start=90, extra_view=pixels).repeat(2, 1)
    frames, theirs = 4 + pixels, []
    for known, one in ((1, words), (0, negative)):
        rows = [noisy, timestep, one.embedding]
        if pixels:  # their append_extra_view: a view without noise after those of each scene
            rows = [torch.cat([part[:4], part[3:4], part[4:], part[7:]]) for part in rows]
        ip = known * guidance.features.expand(2 * frames, -1, -1)
        more = {"ip_img": known * guidance.latents} if pixels else {}
        found = authors(rows[0].clone(), *rows[1:], camera=camera, num_frames=frames, ip=ip, **more)
        theirs.append(found.view(2, frames, *found.shape[1:])[:, :4].flatten(0, 1))
    return compare(pairs(theirs, guided(guidance, noisy, timestep, words, negative)))


@torch.no_grad()
def main() -> None:
    """Prints a table for each network. The exit code is 1 if they differ by more than rounding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mvdream", type=Path, nargs="?", help="a checkout of bytedance/MVDream")
    parser.add_argument("--imagedream", type=Path, help="the folder extern/ImageDream of a checkout of bytedance/ImageDream")
    given = parser.parse_args()
    torch.manual_seed(0)  # the authors' constructors take no generator
    worst = 0.0
    with tempfile.TemporaryDirectory() as place:
        if given.mvdream:
            print(f"MVDream\n{HEADER}")
            (Path(place) / "mvdream").mkdir()
            worst = mvdream(given.mvdream, Path(place) / "mvdream")
        for pixels in (True, False) if given.imagedream else ():
            print(f"ImageDream, {'with' if pixels else 'without'} the picture as a view\n{HEADER}")
            folder = Path(place) / f"imagedream-{pixels}"
            folder.mkdir()
            worst = max(worst, imagedream(given.imagedream, folder, pixels))
    finish(worst)


if __name__ == "__main__":
    main()
