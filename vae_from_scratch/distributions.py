"""The terms of the variational bound, in nats: what is compared, and what it costs.

Nothing here is learned. Every cost is a sum over the pixels or the latents of one image, never
an average: only then do the two terms have the same unit and may be added.
"""

# B images in a batch, C channels, H height and W width of images, L latents, N numbers in an
# image

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

LIMIT = 12.0                         # of the logarithm of a variance: e¹² and e⁻¹² are finite


def squeeze(logvar: Tensor) -> Tensor:
    """Any number becomes one from -12 to 12, and small ones hardly change.

    There is a slope as far as ±100 or so in 32 bits. `clamp` would have none beyond 12: a unit
    that got lost there would never come back.
    """
    return LIMIT * torch.tanh(logvar / LIMIT)                          # (5)


def kl_to_standard(mean: Tensor, logvar: Tensor) -> Tensor:            # each (B, L)
    """KL(N(μ, σ²) ‖ N(0, 1)) of each latent, in nats: zero if and only if μ = 0 and σ = 1."""
    return 0.5 * (mean**2 + logvar.exp() - 1 - logvar)                 # (B, L)  (4)


def log_normal(z: Tensor, mean: Tensor | float, logvar: Tensor | float) -> Tensor:
    """The logarithm of N(z; μ, σ²), summed over the last axis, in nats."""
    logvar = torch.as_tensor(logvar, dtype=z.dtype, device=z.device)
    error = (z - mean) ** 2 * (-logvar).exp()
    return -0.5 * (math.log(2 * math.pi) + logvar + error).sum(-1)


def bernoulli_cost(logits: Tensor, x: Tensor) -> Tensor:               # each (B, C, H, W)
    """Minus the log-probability of x, summed over pixels: (B,) nats.

    From logits, since the logarithm of a sigmoid that has rounded to 0 is lost.
    """
    cost = F.binary_cross_entropy_with_logits(logits, x, reduction="none")
    return cost.flatten(1).sum(1)                                      # (B,)  (6)


def gaussian_cost(mean: Tensor, x: Tensor, variance: Tensor) -> Tensor:
    """Minus the log-density of x (B, C, H, W), one variance for all pixels: (B,) nats."""
    error = ((x - mean) ** 2).flatten(1)                               # (B, N)
    constant = error.size(1) / 2 * torch.log(2 * math.pi * variance)
    return constant + error.sum(1) / (2 * variance)                    # (B,)  (7)


class Elbo(NamedTuple):
    """What the bound consists of, in nats an image: reconstruction (B,) and KL (B, L)."""

    reconstruction: Tensor
    kl: Tensor

    @property
    def bound(self) -> Tensor:
        """The evidence lower bound (B,): at most log p(x), and the higher the better."""
        return -self.reconstruction - self.kl.sum(1)                   # (2)

    def loss(self, beta: float = 1.0, free: float = 0.0) -> Tensor:
        """What training minimises; with β = 1 and no free nats, the mean of minus the bound.

        A latent's KL is averaged over the batch first and costs nothing below `free` nats: the
        other way round, images that use a latent little would have no gradient.
        """
        paid = self.kl.mean(0).clamp(min=free)                         # (L,)
        return self.reconstruction.mean() + beta * paid.sum()          # ()  (9)

    def means(self) -> tuple[float, float]:
        """Both terms as means over the batch, for the log."""
        return self.reconstruction.mean().item(), self.kl.sum(1).mean().item()
