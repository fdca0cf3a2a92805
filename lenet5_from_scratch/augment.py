"""New handwriting from old: every picture of a batch moved, turned, scaled and bent at random.

A digit that is a little to the left, larger, or written with a tremble is the same digit.
Saying so costs no new data: each time that a picture is shown it is distorted anew, so the
network never sees the same pixels twice. The elastic part is that of P. Simard, D. Steinkraus,
J. Platt, "Best Practices for Convolutional Neural Networks Applied to Visual Document
Analysis", 2003.
"""

# B pictures in a batch, H height, W width, G knots of the elastic grid in each direction

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

SHIFT = 1.5          # pixels, the most in each direction; all at strength 1
ROTATION = 12.0      # degrees
SLANT = 0.15         # pixels sideways for each pixel up or down
SCALE = 0.12         # share of the size
ELASTIC = 1.2        # pixels, standard deviation along each axis of a picture bent fully
SPACING = 4          # pixels between the knots that are displaced at random
SMOOTH = 4.0         # pixels, σ of the Gaussian between them


def distort(images: Tensor, strength: float, seed: int) -> Tensor:
    """Pictures (B, H, W) of any number type, each distorted in its own way, as float32.

    How much is drawn for each, from nothing to `strength`, so that some stay almost as they
    were: those are what the network will be asked to read. The same seed distorts a batch in
    the same way. What moves in from outside is black.
    """
    if strength == 0:
        return images.float()
    return sample(images, new_places(images, strength, seed))


def new_places(images: Tensor, strength: float, seed: int) -> Tensor:
    """Where in its old picture each pixel of the new ones comes from, (B, H·W, 2).

    Columns and rows from the picture's centre; only the size of `images` (B, H, W) matters.
    """
    size, generator = len(images), torch.Generator(images.device).manual_seed(seed)
    much = strength * torch.rand(size, generator=generator, device=images.device)    # (B,)

    def draw(*shape: int) -> Tensor:
        """Uniform numbers of this shape for each picture, between ± how much."""
        random = torch.rand(size, *shape, generator=generator, device=images.device)
        return (2 * random - 1) * much.view(-1, *[1] * len(shape))

    angle, slant = math.radians(ROTATION) * draw(), SLANT * draw()     # each (B,)
    width, height = (1 + SCALE * draw(2)).T                            # each (B,)
    cos, sin = angle.cos(), angle.sin()
    turn = torch.stack([cos, -sin, sin, cos], dim=1).view(-1, 2, 2)    # (B, 2, 2)
    zero = torch.zeros_like(slant)
    stretch = torch.stack([width, slant, zero, height], dim=1).view(-1, 2, 2)  # (B, 2, 2)
    places = pixel_places(images)                                      # (H·W, 2)
    places = places @ (turn @ stretch).transpose(1, 2)                 # (B, H·W, 2)  (9)
    return places + SHIFT * draw(1, 2) + bend(draw, images)            # (B, H·W, 2)


def pixel_places(images: Tensor) -> Tensor:
    """Column and row of each pixel of a picture, counted from the picture's centre."""
    height, width = images.shape[1:]
    rows = torch.arange(height, device=images.device) - (height - 1) / 2
    columns = torch.arange(width, device=images.device) - (width - 1) / 2
    return torch.cartesian_prod(rows, columns).flip(1)                 # (H·W, 2)


def bend(draw: Callable[..., Tensor], images: Tensor) -> Tensor:
    """A smooth random displacement of each pixel: knots moved at random, blurred between."""
    fields = []
    for pixels in images.shape[1:]:
        at = torch.arange(pixels, device=images.device)
        knots = torch.arange(0, pixels + SPACING, SPACING, device=images.device)
        distance = (at[:, None] - knots).float()                       # (H, G)
        bumps = (-distance.square() / (2 * SMOOTH**2)).exp()           # (H, G)
        # uniform noise has variance 1/3: so a picture that is bent fully has a variance of 1
        fields.append(bumps * (3**0.5 / bumps.square().sum(1, keepdim=True)).sqrt())
    down, across = fields                                              # (H, G) and (W, G)
    noise = draw(2, down.size(1), across.size(1))                      # (B, 2, G, G)
    field = down @ noise @ across.T                                    # (B, 2, H, W)  (10)
    return ELASTIC * field.flatten(2).transpose(1, 2)                  # (B, H·W, 2)


def sample(images: Tensor, places: Tensor) -> Tensor:
    """The brightness of each picture at these places, between pixels linearly, (B, H, W).

    `places` (B, H·W, 2) are columns and rows from the centre, one for each pixel to be.
    """
    size, height, width = images.shape
    half = places.new_tensor([width / 2, height / 2])
    grid = (places / half).view(size, height, width, 2)                # (B, H, W, 2)
    moved = F.grid_sample(images[:, None].float(), grid, align_corners=False)
    return moved.squeeze(1)                                            # (B, H, W)
