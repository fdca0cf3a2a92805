"""More pictures than there are: random crops, reflections, and a change of light.

Paper, section 4.1. What is drawn at random is a function of the seed alone, for the whole
batch at once, so that several processes can share a batch and see the same pictures.
"""

# B pictures in a batch, N pictures, P pixels, S side of stored pictures, C side of a crop

from typing import NamedTuple

import torch
from torch import Tensor

STRENGTH = 0.1     # standard deviation of the factors on the axes of colour, from the paper


class Draws(NamedTuple):
    """The random part of augmenting a batch: where, whether mirrored, and how lit."""

    top: Tensor       # row of the crop's upper edge, int64 (B,)
    left: Tensor      # column of its left edge, int64 (B,)
    flip: Tensor      # whether left and right are exchanged, bool (B,)
    light: Tensor     # how far to go along each axis of colour, (B, 3), N(0, 1)

    def share(self, rank: int, ranks: int, count: int) -> "Draws":
        """Those of every `ranks`-th picture, beginning with `rank`, at most `count` of them."""
        return Draws(*(drawn[rank::ranks][:count] for drawn in self))

    def to(self, device: torch.device) -> "Draws":
        """The same on another device."""
        return Draws(*(drawn.to(device) for drawn in self))


def draw(count: int, room: int, seed: int) -> Draws:
    """Draw for `count` pictures whose crops can be moved by 0 to `room` pixels."""
    generator = torch.Generator().manual_seed(seed)
    top, left = torch.randint(room + 1, (2, count), generator=generator)     # each (B,)
    flip = torch.rand(count, generator=generator) < 0.5                # (B,)
    return Draws(top, left, flip, torch.randn(count, 3, generator=generator))


def crop(images: Tensor, draws: Draws, size: int) -> Tensor:
    """Each picture (B, 3, S, S) cropped at its own place, some of them reflected."""
    along = torch.arange(size, device=images.device)
    rows = draws.top[:, None] + along                                  # (B, C)
    columns = torch.where(draws.flip[:, None], along.flip(0), along) + draws.left[:, None]
    picture = torch.arange(len(images), device=images.device)[:, None, None]
    pixels = images[picture, :, rows[:, :, None], columns[:, None, :]]       # (B, C, C, 3)
    return pixels.permute(0, 3, 1, 2)                                  # (B, 3, C, C)


def colour_axes(images: Tensor) -> Tensor:
    """The principal axes of the colours of pictures, each as long as its standard deviation.

    Takes pictures (N, 3, S, S) in any unit and returns (3, 3), one axis a column, in that unit.
    The paper multiplies by eigenvalues, which are variances: in grey levels they are over a
    thousand. The released code says "stdevs", and only these mean the same in every unit.
    """
    count, total, products = 0, 0.0, 0.0
    for some in images.split(100):                # in double precision, but not all at once
        pixels = some.transpose(0, 1).flatten(1).double()              # (3, P)
        count, total = count + pixels.size(1), total + pixels.sum(1)
        products = products + pixels @ pixels.T                        # (3, 3)
    mean = total / count                                               # (3,)
    variances, axes = torch.linalg.eigh(products / count - mean.outer(mean))
    return (axes * variances.clamp(min=0).sqrt()).float()              # (3, 3)


def shift_colour(images: Tensor, draws: Draws, axes: Tensor, strength: float) -> Tensor:
    """Add one colour to all pixels of a picture (B, 3, C, C): brighter, darker, bluer."""
    shift = strength * draws.light @ axes.T                            # (B, 3)  (6)
    return images + shift[:, :, None, None]                            # (B, 3, C, C)


def centre_crop(images: Tensor, size: int) -> Tensor:
    """The middle of pictures (..., S, S)."""
    start = (images.size(-1) - size) // 2
    return images[..., start : start + size, start : start + size]     # (..., C, C)


def ten_crops(images: Tensor, size: int) -> Tensor:
    """Four corners and the middle of pictures (B, 3, S, S), each also reflected."""
    room = images.size(-1) - size
    places = ((0, 0), (0, room), (room, 0), (room, room), (room // 2, room // 2))
    five = torch.stack([images[..., top : top + size, left : left + size]
                        for top, left in places])                      # (5, B, 3, C, C)
    return torch.cat([five, five.flip(-1)])                            # (10, B, 3, C, C)
