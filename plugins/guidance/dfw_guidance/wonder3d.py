"""Draws six views of the object in a picture, as colours and as normals, with Wonder3D (Long et al. 2024).

python -m dfw_guidance.wonder3d teddy.png teddy-views        # then: dfw run wonder3d-sd cameras.folder=teddy-views

The folder that it makes holds the views and a transforms.json, as the cameras `dataset` read them. A guidance gives a score for
any view. Wonder3D gives none: it knows six fixed views, without perspective, and colours together with normals. So its answer is
a set of posed pictures, as in the paper. Look at them before you fit a scene to them.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dfw import DfwError, GuidanceError, PictureConfig, over, read_reference
from dfw_guidance.clip_vision import as_processed, squared
from dfw_guidance.files import Files
from dfw_guidance.hub import find_model
from dfw_guidance.layouts import WONDER3D
from dfw_guidance.precision import chosen_precision
from dfw_guidance.pretrained import loading
from dfw_guidance.wonder3d_network import DOMAINS, PLACES, VIEWS, load_cross_domain_unet

AZIMUTHS = (0.0, 45.0, 90.0, 180.0, -90.0, -45.0)
"""Of the views around the picture's camera and at its height, degrees; 90 is on its right."""
FOV = 5.0
"""Degrees, of the cameras that the views are written for. The views have no perspective; so narrow a camera has almost none."""
SHARE = 0.75
"""Share of the square's side that the object's larger side takes: the authors' 192 of 256 pixels."""
SOLID = (1 + math.sqrt(3)) / 2
"""Longest normal that counts as one. The background of normals is white, which stands for a vector of length sqrt(3)."""


@dataclass(frozen=True)
class Drawn:
    """Six views of an object."""

    colour: Tensor
    """(6, H, H, 3) in [0, 1], on white."""
    normal: Tensor
    """(6, H, H, 3), unit vectors in the axes of each view's own camera: x to the right, y up, z towards it."""
    mask: Tensor
    """(6, H, H), 1 where the object is."""


class Wonder3D:
    """Wonder3D, loaded from a folder in diffusers' layout or by its name. It reads a picture and draws six views."""

    def __init__(self, model: str, device: str = "cpu", revision: str | None = None, variant: str | None = None) -> None:
        from diffusers import AutoencoderKL
        from transformers import CLIPVisionModelWithProjection

        files = Files(find_model(model, WONDER3D, revision, variant, "wonder3d", "--model"), variant)
        self.device = torch.device(device)
        self.dtype = chosen_precision("auto", self.device, torch.float16)
        with loading(f"--model: {model!r} ({files.folder})"):
            self.unet = load_cross_domain_unet(files)
            self.vae = files.network(AutoencoderKL, "vae")
            self.encoder = files.network(CLIPVisionModelWithProjection, "image_encoder").eval()
            self.scheduler = files.scheduler()
        for part in (self.unet, self.vae, self.encoder):
            part.requires_grad_(False).to(self.device, self.dtype)
        self.side = int(self.unet.config.sample_size)
        self.resolution = self.side * 2 ** (len(self.vae.config.block_out_channels) - 1)

    @torch.no_grad()
    def draw(self, picture: Tensor, steps: int, scale: float, generator: torch.Generator) -> Drawn:
        """Returns six views of the object in `picture` (1, 3, H, H), in [0, 1] and on white, H = `resolution`.

        DDIM (Song et al. 2021) with eta = 1, as the authors sample. `scale`: of guidance by the picture, 1 for none.
        """
        from diffusers import DDIMScheduler

        sampler: Any = DDIMScheduler.from_config(self.scheduler)  # type: ignore[no-untyped-call]
        sampler.set_timesteps(steps)
        token, beside = self.condition(picture)
        noisy = torch.randn((2 * VIEWS, 4, self.side, self.side), generator=generator)
        for timestep in sampler.timesteps:
            noise = self.predict(noisy, timestep, token, beside)
            if scale != 1:
                without = self.predict(noisy, timestep, 0 * token, 0 * beside)
                noise = without + scale * (noise - without)
            noisy = sampler.step(noise, timestep, noisy, eta=1.0, generator=generator).prev_sample
        plain = (noisy / self.vae.config.scaling_factor).to(self.device, self.dtype)
        pictures = torch.cat([self.vae.decode(one).sample for one in plain.split(1)]).float().cpu()
        normals, colours = (pictures / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).chunk(2)
        return read_views(colours, normals)

    def condition(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Returns what the network reads of a picture: a token (1, 1, D) of CLIP, and latents (1, 4, h, h)."""
        shown = picture.to(self.device, self.dtype)
        token = self.encoder(as_processed(picture, self.encoder.config.image_size).to(shown)).image_embeds[:, None]
        return token, self.vae.encode(2 * shown - 1).latent_dist.mode() * self.vae.config.scaling_factor

    def predict(self, noisy: Tensor, timestep: Tensor, token: Tensor, beside: Tensor) -> Tensor:
        """Returns the network's output (12, 4, h, h), float32, for six noisy views of normals and six of colours after them."""
        rows = torch.tensor([(*place, *domain) for domain in DOMAINS for place in PLACES])
        labels = torch.cat([rows.sin(), rows.cos()], 1).to(self.device, self.dtype)
        shown = torch.cat([noisy.to(beside), beside.expand(len(noisy), -1, -1, -1)], 1)
        found = self.unet(shown, timestep, encoder_hidden_states=token.expand(len(noisy), -1, -1), class_labels=labels).sample
        answer: Tensor = found.float().cpu()
        return answer


def read_views(colours: Tensor, normals: Tensor) -> Drawn:
    """Returns views from what the network draws: pictures (6, H, H, 3) in [0, 1] of colours, and of (n + 1) / 2.

    Its normals are in the axes of the first view's camera. They are turned to those of each view's own.
    """
    vector = 2 * normals - 1
    length = vector.norm(dim=-1)
    azimuth = torch.deg2rad(torch.tensor(AZIMUTHS))[:, None, None]
    right, up, near = vector.unbind(-1)
    turned = torch.stack([azimuth.cos() * right - azimuth.sin() * near, up, azimuth.sin() * right + azimuth.cos() * near], -1)
    unit = turned / length.clamp_min(1e-6)[..., None]
    return Drawn(colours, unit, (length < SOLID).float())


def save(drawn: Drawn, out: Path) -> None:
    """Writes six pictures, six maps of normals and transforms.json into the new folder `out`. Raises GuidanceError."""
    if out.exists():
        raise GuidanceError(f"{out} is there already; name a folder that is not")
    partly = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(partly, ignore_errors=True)
    frames = []
    try:
        partly.mkdir(parents=True)
        for place, (azimuth, colour, normal, mask) in enumerate(
            zip(AZIMUTHS, drawn.colour, drawn.normal, drawn.mask, strict=True)
        ):
            named = {"file_path": f"colour-{place}.png", "normal_file_path": f"normal-{place}.png"}
            _save(torch.cat([colour, mask[..., None]], -1), partly / named["file_path"])
            _save(normal / 2 + 0.5, partly / named["normal_file_path"])
            frames.append({**named, "transform_matrix": camera(azimuth)})
        transforms = {"camera_angle_x": math.radians(FOV), "frames": frames}
        (partly / "transforms.json").write_text(json.dumps(transforms, indent=1) + "\n", encoding="utf-8")
        partly.rename(out)
    except OSError as error:
        raise GuidanceError(f"{out}: {error.strerror or error}; name a folder that you may write to") from None
    finally:
        shutil.rmtree(partly, ignore_errors=True)


def camera(azimuth: float) -> list[list[float]]:
    """Returns the camera-to-world matrix of a view, z up, from which the square that the views show is 2 high at the centre."""
    angle, distance = math.radians(azimuth), 1 / math.tan(math.radians(FOV / 2))
    sine, cosine = math.sin(angle), math.cos(angle)
    return [[-sine, 0, cosine, distance * cosine], [cosine, 0, sine, distance * sine], [0, 1, 0, 0], [0, 0, 0, 1]]


def _save(picture: Tensor, path: Path) -> None:
    Image.fromarray((255 * picture).round().byte().numpy().astype(np.uint8)).save(path)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m dfw_guidance.wonder3d", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("picture", type=Path, help="a picture whose background is transparent")
    parser.add_argument("out", type=Path, help="folder to make")
    parser.add_argument("--mask", type=Path, help="a picture that is white where the object is, in place of transparency")
    parser.add_argument("--model", default="wonder3d", help="a hub id, or a folder in diffusers' layout (default: wonder3d)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, default=50, help="network calls (default: 50)")
    parser.add_argument("--scale", type=float, default=3.0, help="guidance by the picture; 1 for none (default: 3)")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    try:
        config = PictureConfig(image=str(asked.picture), mask=None if asked.mask is None else str(asked.mask), share=SHARE)
        picture = read_reference(config)  # before anything is downloaded
        if asked.out.exists():
            raise GuidanceError(f"{asked.out} is there already; name a folder that is not")
        model = Wonder3D(asked.model, asked.device)
        shown = squared(over(picture, picture[..., 3], config.background), model.resolution)
        save(model.draw(shown, asked.steps, asked.scale, torch.Generator().manual_seed(asked.seed)), asked.out)
    except DfwError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    print(asked.out)


if __name__ == "__main__":
    main()
