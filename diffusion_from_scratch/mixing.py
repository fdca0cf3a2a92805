"""Pictures that begin with other pictures: blends of two, and repairs of a part."""

# N pictures, C channels, H height and W width

import torch
from torch import Tensor

from console import Refusal
from diffusion import Sampling, gaussian
from painter import Painter


def blend(painter: Painter, x: Tensor, labels: Tensor | None, how: Sampling, frames: int,
          strength: float, seed: int) -> Tensor:
    """A row: one of two pictures (2, C, H, W), what lies between, the other (N+2, C, H, W).

    Both are noised with the same noise up to a share `strength` of the times, mixed, and
    denoised: what the noise has covered, the network decides anew. The first half of the way
    is labelled like the first.
    """
    s = painter.diffusion.schedule.spaced(how.steps)
    start = round(strength * len(s)) - 1                               # -1: the picture itself
    kept = s.exact[start].item() if start >= 0 else 1.0
    share = torch.linspace(0, 1, frames)[:, None, None, None]          # (N, 1, 1, 1)
    generator = torch.Generator().manual_seed(seed)
    noise = gaussian(x[:1], generator)                                 # (1, C, H, W)
    noised = kept**0.5 * x + (1 - kept) ** 0.5 * noise                 # (2, C, H, W)  (2)
    mixed = (1 - share) * noised[:1] + share * noised[1:]              # (N, C, H, W)  (14)
    told = None if labels is None else labels[(share.flatten() > 0.5).long()]
    between = painter.paint(mixed, told, how, seed, start)             # (N, C, H, W)
    ends = painter.show(x)                                             # (2, C, H, W)
    return torch.cat([ends[:1], between, ends[1:]])                    # (N+2, C, H, W)


def box_mask(x: Tensor, box: list[int] | None) -> Tensor:              # (N, C, H, W)
    """1 outside of a box, which is left, top, right and bottom in pixels; 0 inside.

    Without a box it is the lower half. Raises Refusal if it is empty or leaves nothing.
    """
    height, width = x.shape[2:]
    left, top, right, bottom = box or (0, height // 2, width, height)
    if not (left < right <= width and top < bottom <= height):
        raise Refusal(f"the box {left} {top} {right} {bottom} does not lie in a picture of "
                      f"{width}×{height} pixels")
    mask = torch.ones(len(x), 1, height, width)                        # (N, 1, H, W)
    mask[..., top:bottom, left:right] = 0
    return mask


def repair(painter: Painter, x: Tensor, labels: Tensor | None, how: Sampling, mask: Tensor,
           count: int, seed: int) -> Tensor:
    """The picture (1, C, H, W), with a hole, and several ways to fill it: (N, C, H, W)."""
    known = x.expand(count, *x.shape[1:]), mask.expand(count, *mask.shape[1:])
    told = None if labels is None else labels.expand(count)
    filled = painter.paint(painter.noise(count, seed), told, how, seed, known=known)
    shown = painter.show(x)                                            # (1, C, H, W)
    return torch.cat([shown, torch.where(mask > 0, shown, 0.5), filled])   # (N, C, H, W)
