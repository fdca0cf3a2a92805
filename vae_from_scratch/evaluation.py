"""The bound on pictures that were not trained on: the very objective, with noise of its own."""

# B images in a batch, N pictures, C channels, H height and W width, L latents

import math
from typing import NamedTuple

import torch
from torch import Tensor

from data import Part, binarised, to_input
from measures import active_units, psnr
from model import VAE

AT_ONCE = 250        # pictures of a batch where nothing is learned


class Found(NamedTuple):
    """Means over pictures, in nats: both terms, the KL of each latent (L,), and more."""

    reconstruction: float
    kl: float
    units: Tensor
    active: int
    psnr: float

    @property
    def cost(self) -> float:
        """Minus the bound."""
        return self.reconstruction + self.kl


def inputs_of(part: Part, config: dict) -> Tensor:
    """All pictures of a part as the model reads them; binary ones are always the same draw."""
    x = to_input(part.images)                                          # (N, C, H, W)
    return binarised(x, config["seed"]) if config["binarise"] else x


def sigma_of(model: VAE) -> float:
    """The deviation of the noise of a pixel, not a number where pixels are coins."""
    return model.variance.sqrt().item() if model.likelihood == "gaussian" else math.nan


@torch.no_grad()
def encode(model: VAE, x: Tensor) -> Tensor:
    """The means of the codes of pictures (N, L), on the CPU."""
    device = model.variance.device
    return torch.cat([model.encode(some.to(device))[0].cpu() for some in x.split(AT_ONCE)])


@torch.no_grad()
def evaluate(model: VAE, x: Tensor, seed: int = 0) -> Found:
    """Both terms for pictures (N, C, H, W), one draw for each, the same in every call."""
    generator = torch.Generator().manual_seed(seed)
    reconstruction, kl = 0.0, torch.zeros(model.latents, dtype=torch.float64)
    means, again = [], []
    for some in x.split(AT_ONCE):
        some = some.to(model.variance.device)
        terms = model.elbo(some, generator)
        reconstruction += terms.reconstruction.double().sum().item()
        kl += terms.kl.double().sum(0).cpu()                           # (L,)
        means.append(model.encode(some)[0].cpu())                      # (B, L)
        again.append(model(some).cpu())                                # (B, C, H, W)
    units = kl / len(x)                                                # (L,)
    return Found(reconstruction / len(x), units.sum().item(), units,
                 active_units(torch.cat(means)), psnr(torch.cat(again), x.cpu()))
