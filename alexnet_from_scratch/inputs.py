"""What the network is given: grey levels without the mean picture of the training set."""

# B pictures in a batch, S side of what the network reads

import torch
from torch import Tensor

from augment import centre_crop, colour_axes
from model import SPREAD
from parts import Part

SAMPLE = 2_000     # training pictures that are measured, if there are more


def measure(part: Part, size: int, in_grey_levels: bool) -> dict:
    """Mean picture, scale and axes of colour of a training set, for crops of `size` pixels.

    The paper leaves grey levels as they are, so they vary by about sixty: the weights of the
    first layer move far from their random start and become smooth. We take a milder scale.
    """
    order = torch.randperm(len(part.labels), generator=torch.Generator().manual_seed(0))
    sample, _ = part.take(order[:SAMPLE])
    sums = [some.float().sum(0) for some in sample.split(100)]      # not all at once
    mean = centre_crop(torch.stack(sums).sum(0) / len(sample), size)       # (3, S, S)
    axes = colour_axes(sample)                                         # (3, 3)
    deviation = axes.square().sum().div(3).sqrt().item()    # of a pixel, whatever its colour
    return {"mean": mean, "std": 1.0 if in_grey_levels else deviation / SPREAD,
            "colour_axes": axes}


def to_input(crops: Tensor, config: dict) -> Tensor:
    """Crops (B, 3, S, S) without the mean picture, in units of the scale.

    All crops of a picture lose the same mean, its middle, as in the code of 2012.
    """
    ready = (crops - config["mean"].to(crops.device)) / _scale(config, crops.device)
    return ready.contiguous(memory_format=torch.channels_last)         # (B, 3, S, S)


def _scale(config: dict, device: torch.device) -> Tensor | float:
    return config["std"].to(device) if isinstance(config["std"], Tensor) else config["std"]
