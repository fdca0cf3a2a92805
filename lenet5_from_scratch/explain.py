"""Three answers to "what in the picture made you say so?", and a test of the answers.

All three take a model with `maps` and `classify`, one standardised image (1, 1, 28, 28) and a
class, and return a map (28, 28): where it is large, the answer depends on it.
"""

# H height and W width of an image, C maps of the last convolution, h and w their size

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PATCH = 5           # side of the square that occlusion covers


def saliency(model: nn.Module, image: Tensor, target: int) -> Tensor:
    """How steeply the class's logit changes with each pixel, up or down.

    K. Simonyan, A. Vedaldi, A. Zisserman, "Deep Inside Convolutional Networks", 2014.
    """
    image = image.detach().requires_grad_()
    logit = model.classify(model.maps(image))[0, target]
    (slope,) = torch.autograd.grad(logit, image)
    return slope[0, 0].abs()                                           # (H, W)  (15)


@torch.no_grad()
def occlusion(model: nn.Module, image: Tensor, target: int, paper: float) -> Tensor:
    """How much of the class's logit is lost when a square of paper lies on each place.

    M. Zeiler, R. Fergus, "Visualizing and Understanding Convolutional Networks", 2014.
    `paper` is the value of an empty pixel; all places are tried in one batch.
    """
    height, width = image.shape[2:]
    rows, columns = torch.arange(height)[:, None], torch.arange(width)[:, None]
    down = (rows - rows.T).abs() <= PATCH // 2                         # (H, H)
    across = (columns - columns.T).abs() <= PATCH // 2                 # (W, W)
    covered = down[:, None, :, None] & across[None, :, None, :]        # (H, W, H, W)
    covered = covered.flatten(0, 1)[:, None].to(image.device)          # (H·W, 1, H, W)
    tried = torch.where(covered, paper, image)                         # (H·W, 1, H, W)
    whole = model.classify(model.maps(image))[0, target]
    left = model.classify(model.maps(tried))[:, target]                # (H·W,)
    return (whole - left).view(height, width)                          # (H, W)  (16)


def grad_cam(model: nn.Module, image: Tensor, target: int) -> Tensor:
    """The maps of the last convolution, weighted by what each does for the class, as a picture.

    R. Selvaraju and others, "Grad-CAM", 2017. The maps are half as fine as the picture and
    lie inside it, as nothing pads them: unit i looks at what is around pixel 2i + 4.5.
    """
    maps = model.maps(image).detach().requires_grad_()                 # (1, C, h, w)
    logit = model.classify(maps)[0, target]
    (slope,) = torch.autograd.grad(logit, maps)
    weight = slope.mean((2, 3), keepdim=True)                          # (1, C, 1, 1)  (17)
    heat = F.relu((weight * maps.detach()).sum(1, keepdim=True))       # (1, 1, h, w)
    margin = (image.size(2) - 2 * heat.size(2)) // 2       # where conv2 has no maps
    large = F.interpolate(heat, scale_factor=2, mode="bilinear", align_corners=False)
    return F.pad(large, 4 * (margin,))[0, 0]                           # (H, W)


def forgetful(model: nn.Module, seed: int = 0) -> nn.Module:
    """The same network, every kernel and matrix shuffled: its maps must not look the same.

    J. Adebayo and others, "Sanity Checks for Saliency Maps", 2018: some well-known maps are
    edge detectors that hardly depend on what a network has learned.
    """
    other, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in other.parameters():
            if weight.ndim > 1:
                order = torch.randperm(weight.numel(), generator=generator)
                weight.copy_(weight.flatten()[order.to(weight.device)].view_as(weight))
    return other


def likeness(one: Tensor, other: Tensor) -> float:
    """Spearman's rank correlation of two maps: 1 for the same order of pixels, 0 for none.

    Equal values share their mean rank; a map that is the same everywhere is like no other.
    """
    ranks = []
    for heat in (one, other):
        _, place, count = heat.flatten().unique(return_inverse=True, return_counts=True)
        middle = count.cumsum(0) - (count - 1) / 2
        ranks.append(middle[place].double())
    return float(torch.corrcoef(torch.stack(ranks))[0, 1].nan_to_num(0.0))
