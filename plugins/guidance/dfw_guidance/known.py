"""What the models with short names are: their files, size and licence, for `dfw models`. Imports no torch."""

from __future__ import annotations

from dfw import Model
from dfw_guidance.aliases import ALIASES, FAMILIES, SHIPPED
from dfw_guidance.layouts import WONDER3D, Layout

GIGABYTES = {
    "embedded": 0.02,
    "sd15": 2.1,
    "sd21": 2.6,
    "sd21-base": 2.6,
    "bk-tiny": 1.1,
    "bk-small": 1.4,
    "bk-base": 1.6,
    "tiny-sd": 1.1,
    "small-sd": 1.6,
    "sd-turbo": 2.6,
    "lcm": 2.1,
    "taesd": 0.005,
    "sdxl": 7.1,
    "if-m": 0.8,
    "if-l": 1.8,
    "if-xl": 8.6,
    "sd3-medium": 5.9,
    "sd35-medium": 6.7,
    "flux-schnell": 24.0,
    "flux-dev": 24.0,
    "depth": 0.7,
    "normals": 0.7,
    "wonder3d": 2.7,
}
"""Short name -> weights in half precision, without T5, by the published numbers of parameters."""

LICENCES = {
    "embedded": "apache-2.0",
    "sd15": "creativeml-openrail-m",
    "bk-tiny": "creativeml-openrail-m",
    "bk-small": "creativeml-openrail-m",
    "bk-base": "creativeml-openrail-m",
    "tiny-sd": "creativeml-openrail-m",
    "small-sd": "creativeml-openrail-m",
    "lcm": "mit",
    "taesd": "mit",
    "instruct-pix2pix": "mit",
    "ip-adapter": "apache-2.0",
    "zero123-xl": "mit",
    "mvdream-sd21": "openrail",
    "imagedream": "openrail",
    "wonder3d": "agpl-3.0",
    "depth": "openrail",
    "normals": "openrail",
    "sd21": "openrail++",
    "sd21-base": "openrail++",
    "sdxl": "openrail++",
    "if-m": "deepfloyd-if-license",
    "if-l": "deepfloyd-if-license",
    "if-xl": "deepfloyd-if-license",
    "sd3-medium": "stabilityai-ai-community",
    "sd35-medium": "stabilityai-ai-community",
    "flux-schnell": "apache-2.0",
    "flux-dev": "flux-1-dev-non-commercial-license",
}
"""Short name -> licence that the model card names. That of `sd-turbo` names none; those of the others were not seen."""


def models_of(family: str, layout: Layout, *names: str) -> tuple[Model, ...]:
    """Returns the models of a family, or those of the `names` in it. Their files are those of `layout`."""
    return tuple(_model(name, family, layout) for name in names or FAMILIES[family])


def wonder3d() -> tuple[Model, ...]:
    """Returns what the program `dfw_guidance.wonder3d` draws with."""
    return models_of("wonder3d", WONDER3D)


def _model(name: str, family: str, layout: Layout) -> Model:
    size, licence = GIGABYTES.get(name), LICENCES.get(name, "")
    if name == "embedded":
        return Model(name, folder=SHIPPED[family], gigabytes=size, licence=licence)
    return Model(name, ALIASES[name], files=tuple(layout.patterns(None)), gigabytes=size, licence=licence)
