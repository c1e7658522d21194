"""The ideal noise predictor of a mixture of Gaussians, and the same with trainable means and standard deviations.

Legend: B images, K components of all prompts together, C = 3 channels of side h, d = 3 h^2 numbers of an image. The covariance
matrices have size n: n = 3 is over the channels, the same at every pixel; n = d is over all numbers. m = d / n.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dfw import Adapter, Conditioning, NoiseSchedule


def ideal_noise(
    noisy: Tensor, alpha_sigma: tuple[Tensor, Tensor], probabilities: Tensor, means: Tensor, axes: Tensor, variances: Tensor
) -> Tensor:
    """Returns E[eps | z_t] (B, C, h, h) for `noisy` z_t: -sigma_t times the score of the diffused mixture.

    alpha_sigma: alpha_t and sigma_t (B, 1, 1, 1). probabilities of the components: (B, K). means: (K, C, h, h). axes: (K, n, n),
    with the covariances' eigenvectors as rows. variances: (K, n), their eigenvalues.
    """
    axes = axes.to(noisy)
    whitened_BKnm, variance_BKn = _whiten(noisy, alpha_sigma, means.to(noisy), axes, variances.to(noisy))
    repeats = whitened_BKnm.shape[-1]
    distance_BK = (whitened_BKnm.square().sum(-1) / variance_BKn + repeats * variance_BKn.log()).sum(-1)
    posterior_BK = (probabilities.to(noisy).log() - distance_BK / 2).softmax(-1)
    pull_BKnm = posterior_BK[:, :, None, None] * whitened_BKnm / variance_BKn[..., None]
    return alpha_sigma[1] * torch.einsum("kjn,bkjm->bnm", axes, pull_BKnm).reshape(noisy.shape)


def _whiten(
    noisy: Tensor, alpha_sigma: tuple[Tensor, Tensor], means: Tensor, axes: Tensor, variances: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns each component's z - alpha mu in the axes of its covariance (B, K, n, m), and the diffused variances (B, K, n)."""
    alpha, sigma = alpha_sigma
    away = noisy[:, None] - alpha[:, None] * means
    flat = away.reshape(*away.shape[:2], axes.shape[-1], -1)
    diffused = alpha.view(-1, 1, 1) ** 2 * variances + sigma.view(-1, 1, 1) ** 2
    return torch.einsum("kjn,bknm->bkjm", axes, flat), diffused


class GaussianAdapter(Adapter):
    """`ideal_noise` with trainable means and standard deviations along each axis. It is exact for renders that are Gaussian.

    It starts as the model itself for every prompt. A single isotropic component stays N(m, s^2 I), with one s per channel. It
    reads no camera.
    """

    def __init__(self, schedule: NoiseSchedule, means: Tensor, axes: Tensor, variances: Tensor) -> None:
        """Copies the model's own numbers, in the dtype and on the device of `means`."""
        super().__init__()
        self._schedule = schedule
        self._axes = axes
        self.means = nn.Parameter(means.detach().clone())
        self.log_std = nn.Parameter(variances.detach().log() / 2)

    def forward(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """Returns eps (B, C, h, h), with gradients to means (K, C, h, h) and log_std (K, n)."""
        alpha_sigma = self._schedule.at(timestep, noisy)
        variances = (2 * self.log_std).exp()
        return ideal_noise(noisy, alpha_sigma, conditioning.embedding[:, 0], self.means, self._axes, variances)
