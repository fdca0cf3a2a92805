"""The batches of a training epoch: which pictures, how cropped, reflected and lit.

All of it is a function of the seed, the epoch and the step, and not of what was drawn before.
So a resumed run goes on with the same batches, and several processes share each of them.
"""

# B pictures in a batch, N pictures, S side of what the network reads

from collections.abc import Iterator

import torch
from torch import Tensor
from tqdm import tqdm

import distributed
from augment import crop, draw, shift_colour
from inputs import to_input
from parts import Part

SEEDS = 1_000_003   # apart: so far that runs of neighbouring seeds never meet


def shuffled(count: int, seed: int, epoch: int) -> Tensor:
    """The order of an epoch."""
    generator = torch.Generator().manual_seed(seed * SEEDS + epoch)
    return torch.randperm(count, generator=generator)                  # (N,)


def prepared(part: Part, size: int, seed: int, config: dict, colour: float,
             device: torch.device, place: tuple[int, int, int],
             ) -> Iterator[tuple[int, Tensor, Tensor]]:
    """The batches that are left of an epoch, ready for the network.

    `place` is the epoch, the step, and how many batches of the epoch are done. Gives the
    number of pictures in all processes, and this one's inputs (B, 3, S, S) and labels (B,).
    """
    (epoch, step, done), rank, ranks = place, distributed.rank(), distributed.ranks()
    axes, room = config["colour_axes"].to(device), part.side - config["image_size"]
    left = shuffled(len(part.labels), seed, epoch).split(size)[done:]
    shares = part.stream(batch[rank::ranks] for batch in left)
    bar = tqdm(zip(left, shares), f"epoch {epoch + 1}", len(left), leave=False,
               disable=True if rank else None)
    for number, (batch, (images, labels)) in enumerate(bar, start=step):
        drawn = draw(len(batch), room, seed * SEEDS + number).share(rank, ranks, len(images))
        drawn = drawn.to(device)
        images = crop(images.to(device), drawn, config["image_size"]).float()    # (B, 3, S, S)
        images = shift_colour(images, drawn, axes, colour)             # (B, 3, S, S)
        yield len(batch), to_input(images, config), labels.to(device)
