"""The batch of a training step: which pictures or latents, with which noise, at which times.

All of it is a function of seed and step, and not of what was drawn before. So a resumed run
goes on with the same batches, and several processes share each of them.
"""

# N pictures, B pictures in a batch, C channels, H height and W width of latents, P pixels of a
# side, S tokens of a prompt

from typing import NamedTuple

import torch
from torch import Tensor

from pipeline import floats
from schedulers import TRAINED

SEEDS = 1_000_003    # apart: so far that runs of neighbouring seeds never meet
LARGEST = 2**63      # of the seeds that a generator takes, one more


class Latents(NamedTuple):
    """What the encoder says of pictures, means and deviations (N, C, H, W) already scaled.

    Kept instead of draws: every time that a picture is used, its latents are drawn anew.
    """

    mean: Tensor
    deviation: Tensor


class Batch(NamedTuple):
    """Latents and noise, each (B, C, H, W), times (B,), tokens of the captions (B, S)."""

    latents: Tensor
    noise: Tensor
    t: Tensor
    tokens: Tensor


def chosen(count: int, size: int, seed: int, step: int) -> Tensor:
    """The numbers of the pictures of a step: (B,). All are seen before one comes again."""
    first, numbers = step * size, []
    while len(numbers) < size:
        epoch, place = divmod(first + len(numbers), count)
        generator = torch.Generator().manual_seed((seed * SEEDS + epoch) % LARGEST)
        order = torch.randperm(count, generator=generator)             # (N,)
        numbers += order[place : place + size - len(numbers)].tolist()
    return torch.tensor(numbers)                                       # (B,)


def draw_times(size: int, generator: torch.Generator) -> Tensor:
    """Times (B,), each equally probable, and as different in a batch as can be.

    D. Kingma and others, "Variational Diffusion Models", 2021, appendix I.1.
    """
    spread = torch.arange(size) / size + torch.rand((), generator=generator)   # (B,)
    return (spread % 1 * TRAINED).long().clamp(max=TRAINED - 1)        # (B,)


def generator_of(seed: int, step: int) -> torch.Generator:
    """Where all that is drawn in a step comes from."""
    return torch.Generator().manual_seed(((seed + 1) * SEEDS**2 + step) % LARGEST)


def picture_batch(images: Tensor, size: int, seed: int, step: int,
                  latents: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Pictures (B, 3, P, P) of a step, and the noise that their latents are drawn with."""
    x = floats(images[chosen(len(images), size, seed, step)])          # (B, 3, P, P)
    return x, torch.randn((size, *latents), generator=generator_of(seed, step))


def latent_batch(known: Latents, tokens: Tensor, empty: Tensor, size: int, seed: int, step: int,
                 drop: float) -> Batch:
    """The batch of a step; a share `drop` of the captions is replaced by the `empty` one."""
    picked, generator = chosen(len(tokens), size, seed, step), generator_of(seed, step)
    shape = (size, *known.mean.shape[1:])
    fresh, noise = (torch.randn(shape, generator=generator) for _ in range(2))
    latents = known.mean[picked] + known.deviation[picked] * fresh     # (B, C, H, W)  (1)
    t = draw_times(size, generator)                                    # (B,)
    without = torch.rand(size, generator=generator) < drop             # (B,)
    said = torch.where(without[:, None], empty, tokens[picked])        # (B, S)
    return Batch(latents, noise, t, said)


def share(batch: tuple[Tensor, ...], rank: int, ranks: int,
          device: torch.device) -> list[Tensor]:
    """What one of several processes has of a batch, on its device."""
    return [each[rank::ranks].to(device) for each in batch]
