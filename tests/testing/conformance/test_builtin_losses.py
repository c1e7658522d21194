"""The kit over the built-in losses."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from dfw import LossInputs
from dfw.testing import LossTests
from dfw.testing.fields import CrossedEdges, Octahedron
from dfw_losses.asd import ASD
from dfw_losses.bootstrapped import Bootstrapped
from dfw_losses.bridge import Bridge
from dfw_losses.bsd import BSD
from dfw_losses.csd import CSD
from dfw_losses.diffusion import Diffusion
from dfw_losses.eikonal import Eikonal
from dfw_losses.entropy import Entropy
from dfw_losses.hifa import HiFA
from dfw_losses.img2img import Img2Img
from dfw_losses.ism import ISM
from dfw_losses.laplacian import Laplacian
from dfw_losses.mvdream import MVDream
from dfw_losses.nfsd import NFSD
from dfw_losses.normal_consistency import NormalConsistency
from dfw_losses.opacity import Opacity
from dfw_losses.orientation import Orientation
from dfw_losses.posed import Depth, Mask, Normal, Picture
from dfw_losses.rfds import RFDS
from dfw_losses.rfds_rev import RFDSRev
from dfw_losses.score import Score
from dfw_losses.sctd import SCTD
from dfw_losses.sdf_sign import SdfSign
from dfw_losses.sdi import SDI
from dfw_losses.sds import SDS
from dfw_losses.sjc import SJC
from dfw_losses.tv import TV
from dfw_losses.vsd import VSD
from dfw_losses.z_variance import ZVariance


class TestSDS(LossTests):
    """DreamFusion (Poole et al. 2023), eq. 3: sigma_t^2 (eps_u + s (eps_c - eps_u) - eps) / B."""

    component = SDS
    options: ClassVar[dict[str, Any]] = {"guidance_scale": 7.5}

    def expected_gradient(self, inputs: LossInputs) -> Tensor | None:
        guidance, prompt = inputs.guidance, inputs.prompt
        assert guidance is not None
        assert prompt is not None
        z = inputs.encoded.detach()
        t = torch.randint(20, 981, (len(z),), generator=inputs.generator)
        eps = torch.randn(z.shape, generator=inputs.generator, dtype=z.dtype)
        alpha, sigma = (part[t].to(z).view(-1, 1, 1, 1) for part in (guidance.schedule.alpha, guidance.schedule.sigma))
        z_t = alpha * z + sigma * eps
        variance = alpha**2 * 0.5**2 + sigma**2
        with_prompt, without = (
            sigma * (z_t - alpha * text.embedding.to(z).view(-1, 3, 1, 1)) / variance
            for text in (prompt.positive, prompt.negative)
        )
        return self.weight(alpha, sigma) * (without + 7.5 * (with_prompt - without) - eps) / len(z)

    def weight(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return sigma**2


class TestMVDream(LossTests):
    """On Gaussian data, whose clean estimate has a closed form."""

    component = MVDream
    options: ClassVar[dict[str, Any]] = {"guidance_scale": 7.5, "rescale": 0.3}

    def expected_gradient(self, inputs: LossInputs) -> Tensor:
        """(z - x0) / B, with E[z | z_t] = (alpha s^2 z_t + sigma^2 mu) / (alpha^2 s^2 + sigma^2) for the data N(mu, s^2)."""
        assert inputs.guidance is not None
        assert inputs.prompt is not None
        z, schedule = inputs.encoded.detach(), inputs.guidance.schedule
        t = torch.randint(20, 981, (len(z),), generator=inputs.generator)
        eps = torch.randn(z.shape, generator=inputs.generator, dtype=z.dtype)
        alpha, sigma = (values[t].to(z).view(-1, 1, 1, 1) for values in (schedule.alpha, schedule.sigma))
        noisy, s = alpha * z + sigma * eps, 0.5

        def clean(mean: Tensor) -> Tensor:
            return (alpha * s**2 * noisy + sigma**2 * mean.to(z).view(-1, 3, 1, 1)) / (alpha**2 * s**2 + sigma**2)

        plain, without = clean(inputs.prompt.positive.embedding), clean(inputs.prompt.negative.embedding)
        guided = without + 7.5 * (plain - without)
        factor = torch.stack([one.std() / other.std() for one, other in zip(plain, guided, strict=True)]).view(-1, 1, 1, 1)
        return (z - (0.3 * factor * guided + 0.7 * guided)) / len(z)


class TestOpacity(LossTests):
    component = Opacity
    gradient_of = "opacity"

    def expected_gradient(self, inputs: LossInputs) -> Tensor | None:
        opacity = inputs.render.opacity.detach()
        return opacity / (opacity.square() + 0.01).sqrt() / opacity.numel()


class TestEntropy(LossTests):
    component = Entropy
    gradient_of = "opacity"

    def expected_gradient(self, inputs: LossInputs) -> Tensor | None:
        opacity = inputs.render.opacity.detach()
        return torch.log2((1 - opacity) / opacity) / opacity.numel()


class TestOrientation(LossTests):
    component = Orientation
    gradient_of = "sample normal"

    def expected_gradient(self, inputs: LossInputs) -> Tensor | None:
        samples = inputs.render.samples
        assert samples is not None
        assert samples.normal is not None
        away = (samples.normal.detach() * samples.direction).sum(-1).clamp(min=0)
        return (2 * samples.weight.detach() * away)[:, None] * samples.direction / inputs.render.opacity.numel()


class TestScore(LossTests):
    component = Score


class TestDiffusion(LossTests):
    component = Diffusion
    options: ClassVar[dict[str, Any]] = {"guidance_scale": 2}


class TestSJC(LossTests):
    component = SJC


class TestCSD(LossTests):
    component = CSD
    options: ClassVar[dict[str, Any]] = {"negative_scale": 0.5}


class TestNFSD(LossTests):
    component = NFSD
    options: ClassVar[dict[str, Any]] = {"negative_prompt": ""}


class TestISM(LossTests):
    component = ISM


class TestTSM(LossTests):
    component = ISM
    options: ClassVar[dict[str, Any]] = {"gamma": 0.3}


class TestSDI(LossTests):
    component = SDI
    options: ClassVar[dict[str, Any]] = {"inversion_steps": 2}


class TestASD(LossTests):
    component = ASD


class TestBridge(LossTests):
    component = Bridge
    options: ClassVar[dict[str, Any]] = {"good": "{prompt}", "bad": "", "switch": 0}


class TestBSD(LossTests):
    component = BSD


class TestSCTD(LossTests):
    component = SCTD


class TestRFDS(TestSDS):
    """(1 + sigma_t / alpha_t) (eps_u + s (eps_c - eps_u) - eps) / B, at SDS's draws."""

    component = RFDS

    def weight(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return 1 + sigma / alpha


class TestRFDSRev(LossTests):
    component = RFDSRev
    options: ClassVar[dict[str, Any]] = {"guidance_scale": 7.5}


class TestHiFA(LossTests):
    component = HiFA


class TestImg2Img(LossTests):
    component = Img2Img


class TestVSD(LossTests):
    """Before the adapter has learned anything: sigma_t^2 (7.5 - 1) (eps_c - eps_u) / B, at the z_t of SDS's draws."""

    component = VSD
    factor: ClassVar[float] = 6.5

    def expected_gradient(self, inputs: LossInputs) -> Tensor | None:
        guidance, prompt = inputs.guidance, inputs.prompt
        assert guidance is not None
        assert prompt is not None
        z = inputs.encoded.detach()
        t = torch.randint(20, 981, (len(z),), generator=inputs.generator)
        alpha, sigma = (part[t].to(z).view(-1, 1, 1, 1) for part in (guidance.schedule.alpha, guidance.schedule.sigma))
        apart = (prompt.negative.embedding - prompt.positive.embedding).to(z).view(-1, 3, 1, 1)
        return (sigma**2 * self.factor * sigma * alpha * apart / (alpha**2 * 0.5**2 + sigma**2) / len(z)).expand_as(z)


class TestBootstrapped(TestVSD):
    """Outside of lessons, before either adapter has learned anything: as `vsd`."""

    component = Bootstrapped
    options: ClassVar[dict[str, Any]] = {"guidance_scale": 7.5, "cycle": 9, "share": 0.1}


class TestESD(TestVSD):
    """Its share of the prediction without text adds to the guidance: 7.5 - 1 + 0.5 for 7.5 - 1."""

    options: ClassVar[dict[str, Any]] = {"camera_free": 0.5}
    factor: ClassVar[float] = 7


class TestZVariance(LossTests):
    component = ZVariance
    gradient_of = "sample weight"


class TestLaplacian(LossTests):
    """|L v|^2 / 6 for the corners v, with L = A / 4 - 1: every corner of an octahedron has all others but one for neighbours."""

    component = Laplacian
    gradient_of = "geometry.corners"

    def expected_gradient(self, inputs: LossInputs) -> Tensor | None:
        geometry = inputs.geometry
        assert isinstance(geometry, Octahedron)
        opposite = torch.block_diag(*[torch.ones(2, 2)] * 3).double()  # corners 2k and 2k + 1
        away = (1 - opposite) / 4 - torch.eye(6)
        return 2 / 6 * away.T @ away @ geometry.corners.detach()


class TestNormalConsistency(LossTests):
    component = NormalConsistency


class TestSdfSign(LossTests):
    """Cross entropies of both ends, the mean over edges: each pulls with sigmoid(s_i) - sign(s_j)."""

    component = SdfSign
    gradient_of = "geometry.ends"

    def expected_gradient(self, inputs: LossInputs) -> Tensor | None:
        geometry = inputs.geometry
        assert isinstance(geometry, CrossedEdges)
        ends = geometry.ends.detach()
        return (torch.sigmoid(ends) - (ends.flip(1) >= 0).double()) / len(ends)


class TestEikonal(LossTests):
    component = Eikonal
    gradient_of = "sample gradient"

    def expected_gradient(self, inputs: LossInputs) -> Tensor | None:
        samples = inputs.render.samples
        assert samples is not None
        gradient = samples.extras["gradient"].detach()
        return 2 * (gradient - 1) / gradient.numel()


class TestTV(LossTests):
    component = TV
    gradient_of = "colour"


class TestTVOfOpacity(LossTests):
    component = TV
    of = "opacity"
    gradient_of = "opacity"


class TestPicture(LossTests):
    component = Picture
    gradient_of = "colour"

    def expected_gradient(self, inputs: LossInputs) -> Tensor | None:
        mask, colour = inputs.views.targets["mask"][..., None], inputs.render.colour.detach()
        return 2 * mask * mask * (colour - inputs.views.targets["colour"]) / colour.numel()


class TestMask(LossTests):
    component = Mask
    gradient_of = "opacity"

    def expected_gradient(self, inputs: LossInputs) -> Tensor | None:
        opacity = inputs.render.opacity.detach()
        return 2 * (opacity - inputs.views.targets["mask"]) / opacity.numel()


class TestDepth(LossTests):
    component = Depth
    gradient_of = "depth"

    def expected_gradient(self, inputs: LossInputs) -> Tensor | None:
        depth, targets = inputs.render.depth.detach(), inputs.views.targets
        return 2 * targets["mask"] * inputs.render.opacity.detach() * (depth - targets["depth"]) / depth.numel()


class TestDepthCorrelation(LossTests):
    component = Depth
    options: ClassVar[dict[str, Any]] = {"compare": "correlation"}


class TestNormal(LossTests):
    component = Normal
    gradient_of = "normal"

    def expected_gradient(self, inputs: LossInputs) -> Tensor | None:
        """Of a unit normal n: -(n' - (n . n') n) M O, over the pixels."""
        assert inputs.render.normal is not None
        normal, targets = inputs.render.normal.detach(), inputs.views.targets
        across = targets["normal"] - (normal * targets["normal"]).sum(-1, keepdim=True) * normal
        return -(targets["mask"] * inputs.render.opacity.detach())[..., None] * across / targets["mask"].numel()
