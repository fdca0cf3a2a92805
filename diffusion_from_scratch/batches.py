"""The batch of a training step: which pictures, at which times, with which noise and labels.

All of it is a function of seed and step, and not of what was drawn before. So a resumed run
goes on with the same batches, and several processes share each of them.
"""

# N pictures, B pictures in a batch, C channels, H height and W width

from typing import NamedTuple

import torch
from torch import Tensor

from data import Part, to_input

SEEDS = 1_000_003    # apart: so far that runs of neighbouring seeds never meet
LARGEST = 2**63      # of the seeds that a generator takes, one more


class Batch(NamedTuple):
    """Pictures x0 and noise, each (B, C, H, W), times (B,), labels (B,) or None."""

    x0: Tensor
    noise: Tensor
    t: Tensor
    labels: Tensor | None


def chosen(count: int, size: int, seed: int, step: int) -> Tensor:
    """The numbers of the pictures of a step: (B,). All are seen before one comes again."""
    first, numbers = step * size, []
    while len(numbers) < size:
        epoch, place = divmod(first + len(numbers), count)
        generator = torch.Generator().manual_seed(seed * SEEDS + epoch)
        order = torch.randperm(count, generator=generator)             # (N,)
        numbers += order[place : place + size - len(numbers)].tolist()
    return torch.tensor(numbers)                                       # (B,)


def draw_times(size: int, times: int, generator: torch.Generator) -> Tensor:
    """Times (B,), each equally probable, and as different in a batch as can be.

    D. Kingma and others, "Variational Diffusion Models", 2021, appendix I.1.
    """
    spread = torch.arange(size) / size + torch.rand((), generator=generator)   # (B,)
    return (spread % 1 * times).long().clamp(max=times - 1)            # (B,)


def make_batch(part: Part, size: int, seed: int, step: int, times: int, classes: int,
               drop: float, flip: bool, centred: bool) -> Batch:
    """The batch of a step. A share `drop` of the labels is withheld, as label `classes`."""
    picked = part.some(chosen(len(part.images), size, seed, step))
    generator = torch.Generator().manual_seed(((seed + 1) * SEEDS**2 + step) % LARGEST)
    x0 = to_input(picked.images, centred)                              # (B, C, H, W)
    noise = torch.randn(x0.shape, generator=generator)                 # (B, C, H, W)
    t = draw_times(size, times, generator)                             # (B,)
    without = torch.rand(size, generator=generator) < drop             # (B,)
    mirrored = torch.rand(size, generator=generator) < 0.5             # (B,)
    if flip:
        x0 = torch.where(mirrored[:, None, None, None], x0.flip(3), x0)    # (B, C, H, W)
    labels = picked.labels.masked_fill(without, classes) if classes else None
    return Batch(x0, noise, t, labels)


def share(batch: Batch, rank: int, ranks: int, device: torch.device) -> Batch:
    """What one of several processes has of a batch, on its device."""
    return Batch(*(None if each is None else each[rank::ranks].to(device) for each in batch))
