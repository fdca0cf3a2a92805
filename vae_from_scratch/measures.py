"""What codes are worth: sharpness against PCA, units in use, attributes that a line can read.

All of it looks at a trained model from outside; nothing here changes a weight.
"""

# N pictures, L latents, K components, A attributes

import math
import warnings

import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression, LogisticRegression
from torch import Tensor

ACTIVE = 0.01        # variance of a unit's mean over pictures above which it says something
AT_ONCE = 250        # pictures of a batch


def psnr(x: Tensor, y: Tensor) -> float:
    """Peak signal-to-noise ratio in decibels, over all pixels at once, which lie in [0, 1]."""
    error = ((x - y) ** 2).double().mean().item()
    return -10 * math.log10(max(error, 1e-12))                         # (13)


def pca_psnr(train: Tensor, test: Tensor, components: int) -> float:
    """The decibels of the best linear code of that many numbers, learned from `train`.

    Of 4,000 pictures at most: the components hardly change beyond.
    """
    known, unseen = (part.flatten(1).numpy() for part in (train[:4000], test))
    count = min(components, *known.shape)
    pca = PCA(count, svd_solver="randomized", random_state=0).fit(known)
    again = pca.inverse_transform(pca.transform(unseen)).clip(0, 1)
    return psnr(torch.from_numpy(unseen), torch.from_numpy(again))


def active_units(means: Tensor) -> int:                                # (N, L)
    """How many latents say something of the picture (Burda and others, 2016)."""
    return int((means.var(0, unbiased=False) > ACTIVE).sum())          # (14)


def read_off(known: Tensor, labels: Tensor, unseen: Tensor) -> Tensor:
    """What logistic regression on codes (N, L) with labels (N,) answers to unseen codes."""
    mean, spread = known.mean(0), known.std(0) + 1e-6                  # (L,), (L,)
    with warnings.catch_warnings(action="ignore"):                     # it may stop early
        model = LogisticRegression(max_iter=300).fit(((known - mean) / spread).numpy(),
                                                     labels.numpy())
        return torch.from_numpy(model.predict(((unseen - mean) / spread).numpy()))


def on_circle(turns: Tensor) -> Tensor:                                # (N,)
    """Turns from 0 to 1 as points of a circle, on which 0.99 is beside 0.01."""
    angle = 2 * math.pi * turns
    return torch.stack([angle.cos(), angle.sin()], dim=1)              # (N, 2)


def hue_r2(known: Tensor, hues: Tensor, unseen: Tensor, truth: Tensor) -> float:
    """The share of the variance of the hue's point that a linear map of codes explains."""
    target = on_circle(truth)                                          # (N, 2)
    fit = LinearRegression().fit(known.numpy(), on_circle(hues).numpy())
    error = torch.from_numpy(fit.predict(unseen.numpy())) - target     # (N, 2)
    return (1 - error.square().sum() / (target - target.mean(0)).square().sum()).item()  # (15)


def nearest(these: Tensor, those: Tensor) -> tuple[Tensor, Tensor]:
    """For each of these pictures its nearest of those, and the root mean square between them.

    Pictures (N, C, H, W) from 0 to 1; gives places (N,) and distances (N,), where 1/255 is a
    grey level.
    """
    flat = those.flatten(1)
    found = [torch.cdist(part.flatten(1), flat).min(1) for part in these.split(AT_ONCE)]
    distances = torch.cat([each.values for each in found]) / flat.size(1) ** 0.5     # (N,)
    return torch.cat([each.indices for each in found]), distances
