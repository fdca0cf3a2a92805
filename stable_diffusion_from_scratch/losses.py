"""What each stage of training makes small, and the error of a picture in decibels."""

# B pictures or latents, C channels, H height and W width

import math

import torch
from torch import Tensor

from schedulers import alpha_bars
from vae_model import Gaussian


def vae_losses(drawn: Tensor, x: Tensor, found: Gaussian, price: float) -> Tensor:
    """How far pictures (B, C, H, W) are from what was drawn, and what their latents cost.

    The mean error of a number and its square: the first keeps edges sharp, the second brings
    the colours there early. Then the error of the difference between neighbours, which is that
    of edges; the release has a network that compares textures, and another one that tells
    drawn pictures from real ones, instead. A nat costs `price` where errors are summed over a
    picture; here they are averaged, so it costs less by the size of a picture.
    """
    error = drawn - x                                                  # (B, C, H, W)
    far = (error.abs() + error.square()).flatten(1).mean(1)            # (B,)
    for side in (2, 3):
        far = far + error.diff(dim=side).abs().flatten(1).mean(1)      # (B,)
    return far + price * found.kl() / x[0].numel()                     # (B,)  (18)


def noised(latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Latents (B, C, H, W) at times t (B,) of the noising."""
    bars = torch.from_numpy(alpha_bars()).to(latents.device)[t]        # (B,)
    signal, level = (part.float()[:, None, None, None] for part in
                     (bars.sqrt(), (1 - bars).sqrt()))                 # each (B, 1, 1, 1)
    return signal * latents + level * noise                            # (B, C, H, W)  (5)


def time_weights(t: Tensor, gamma: float, delta: float) -> Tensor:     # (B,)
    """How much the error in the noise counts at each time.

    Less, where there is little noise: T. Hang and others, "Efficient Diffusion Training via
    Min-SNR Weighting Strategy", 2023. An error in the noise is one in the latents, smaller by
    the ratio of signal to noise; that ratio is counted up to `gamma`. More, up to `delta`
    times, where there is hardly anything but noise: there it is decided what will be where.
    """
    bars = torch.from_numpy(alpha_bars()).to(t.device)[t]              # (B,)
    ratio = bars / (1 - bars)                                          # (B,)
    few, much = (gamma / ratio).clamp(max=1), (1 / ratio).clamp(1, delta)   # each (B,)
    return (few * much).float()                                        # (B,)  (19)


def noise_losses(seen: Tensor, noise: Tensor, t: Tensor, gamma: float,
                 delta: float) -> Tensor:
    """The squared error of the noise (B, C, H, W) that the model sees, weighted by the time."""
    return time_weights(t, gamma, delta) * (seen - noise).square().flatten(1).mean(1)  # (B,)


def decibels(square: float, span: float = 2.0) -> float:
    """PSNR: how far a mean squared error lies below the square of the span of a pixel."""
    return 10 * math.log10(span**2 / max(square, 1e-12))
