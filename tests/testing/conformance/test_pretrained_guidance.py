"""The kit over the larger priors: tiny random models of the real classes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from PIL import Image
from tiny_control import save_tiny_controlnet
from tiny_deep_floyd import save_tiny_deep_floyd
from tiny_diffusion import save_tiny_model
from tiny_flow import save_tiny_flux, save_tiny_sd3
from tiny_mvdream import save_published_imagedream, save_tiny_mvdream
from tiny_pictures import save_tiny_instruct, save_tiny_ip_adapter
from tiny_sdxl import save_tiny_sdxl
from tiny_zero123 import save_tiny_zero123

from dfw import Guidance
from dfw.testing import GuidanceTests
from dfw_guidance.controlnet import ControlNet
from dfw_guidance.deep_floyd import DeepFloyd
from dfw_guidance.flow import Flow
from dfw_guidance.imagedream import ImageDream
from dfw_guidance.instruct_pix2pix import InstructPix2Pix
from dfw_guidance.ip_adapter import IPAdapter
from dfw_guidance.mvdream import MVDream
from dfw_guidance.stable_diffusion_xl import StableDiffusionXL
from dfw_guidance.zero123 import Zero123


class Tiny(GuidanceTests):
    """A model that `save` writes once for all checks of the class, and `kind` reads."""

    __test__ = False
    prompts = ("a red car", "a blue cube")
    trained, round_trip = False, None  # the weights of U-Net and VAE are random
    kind: ClassVar[type[Guidance]]
    save: ClassVar[Callable[[Path], Path]]
    folder: ClassVar[Path]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def model(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        cls.folder = cls.save(tmp_path_factory.mktemp("models") / "tiny")

    def more(self) -> dict[str, Any]:
        """Further options of its Config."""
        return {}

    def make(self) -> Guidance:
        options = {"model": str(self.folder), "precision": "fp32", **self.more()}
        return self.kind(self.kind.Config.model_validate(options))


class TestDeepFloyd(Tiny):
    __test__ = True
    round_trip = 1e-6
    kind, save = DeepFloyd, staticmethod(save_tiny_deep_floyd)


class TestStableDiffusionXL(Tiny):
    __test__ = True
    kind, save = StableDiffusionXL, staticmethod(save_tiny_sdxl)


class TestStableDiffusion3(Tiny):
    __test__ = True
    kind, save = Flow, staticmethod(save_tiny_sd3)


class TestFlux(Tiny):
    __test__ = True
    kind, save = Flow, staticmethod(partial(save_tiny_flux, seed=1))  # seed 0's VAE bends too much for the check's difference

    def more(self) -> dict[str, Any]:
        return {"resolution": 16}


class TestControlNet(Tiny):
    __test__ = True
    kind, save = ControlNet, staticmethod(save_tiny_model)

    def more(self) -> dict[str, Any]:
        network = self.folder.with_name("network")
        return {"controlnet": str(network if network.is_dir() else save_tiny_controlnet(network))}


class SeesPicture(Tiny):
    """A model that is shown a picture of 16x16 pixels."""

    __test__ = False

    def more(self) -> dict[str, Any]:
        picture = self.folder.with_name("picture.png")
        Image.new("RGB", (16, 16), (200, 30, 30)).save(picture)
        return {"image": str(picture)}


class TestZero123(SeesPicture):
    __test__ = True
    kind, save = Zero123, staticmethod(save_tiny_zero123)

    def more(self) -> dict[str, Any]:
        return super().more() | {"share": None}


class TestInstructPix2Pix(SeesPicture):
    __test__ = True
    kind, save = InstructPix2Pix, staticmethod(save_tiny_instruct)


class TestIPAdapter(SeesPicture):
    __test__ = True
    kind, save = IPAdapter, staticmethod(save_tiny_model)

    def more(self) -> dict[str, Any]:
        adapter = self.folder.with_name("adapter")
        return super().more() | {"adapter": str(adapter if adapter.is_dir() else save_tiny_ip_adapter(adapter))}


class TestMVDream(Tiny):
    __test__ = True
    views = 4
    kind, save = MVDream, staticmethod(save_tiny_mvdream)


class TestImageDream(SeesPicture):
    __test__ = True
    views = 4
    kind, save = ImageDream, staticmethod(lambda folder: save_published_imagedream(folder)[0])

    def more(self) -> dict[str, Any]:
        return super().more() | {"share": None, "resolution": 16}
