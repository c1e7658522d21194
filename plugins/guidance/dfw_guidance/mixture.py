"""The ideal noise predictor of a mixture of Gaussians, and the same with means and standard deviations that are trained.

Legend: B images, K components (those of all prompts together), C = 3 channels of side h, d = 3 h^2 numbers of an image, n = 3 or
d the size of the covariance matrices: over the channels, alike at every pixel, or over all numbers; m = d / n.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dfw import Adapter, Conditioning, NoiseSchedule


def ideal_noise(
    noisy: Tensor, alpha_sigma: tuple[Tensor, Tensor], probabilities: Tensor, means: Tensor, axes: Tensor, variances: Tensor
) -> Tensor:
    """E[eps | z_t] (B, C, h, h) for `noisy` z_t: -sigma_t times the score of the diffused mixture.

    alpha_sigma: alpha_t and sigma_t (B, 1, 1, 1). probabilities: (B, K), of the components. means: (K, C, h, h). axes: (K, n, n),
    rows are the eigenvectors of the covariances; variances: (K, n), their eigenvalues.
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
    """z - alpha mu of each component in its covariance's axes (B, K, n, m), and the diffused variances there (B, K, n)."""
    alpha, sigma = alpha_sigma
    away = noisy[:, None] - alpha[:, None] * means
    flat = away.reshape(*away.shape[:2], axes.shape[-1], -1)
    diffused = alpha.view(-1, 1, 1) ** 2 * variances + sigma.view(-1, 1, 1) ** 2
    return torch.einsum("kjn,bknm->bkjm", axes, flat), diffused


class GaussianAdapter(Adapter):
    """`ideal_noise` with trainable means and, along each axis, standard deviations: exact for renders that are Gaussian.

    It starts as the model for every prompt, whatever its mixture; one isotropic component stays N(m, s^2 I) in m and s by
    channel. Reads no camera.
    """

    def __init__(self, schedule: NoiseSchedule, means: Tensor, axes: Tensor, variances: Tensor) -> None:
        """From the model's own numbers, which are copied; in the dtype and on the device of `means`."""
        super().__init__()
        self._schedule = schedule
        self._axes = axes
        self.means = nn.Parameter(means.detach().clone())
        self.log_std = nn.Parameter(variances.detach().log() / 2)

    def forward(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """eps (B, C, h, h), with gradients to means (K, C, h, h) and log_std (K, n)."""
        alpha_sigma = self._schedule.at(timestep, noisy)
        variances = (2 * self.log_std).exp()
        return ideal_noise(noisy, alpha_sigma, conditioning.embedding[:, 0], self.means, self._axes, variances)
