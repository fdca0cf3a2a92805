"""How good are drawn pictures? Distances between clouds of features, and who is near whom.

No single number sees everything: a blur raises precision, and 500 pictures learned by heart
have a small Fréchet distance. So there are several, beside those of real pictures.
"""

# N pictures, K other pictures, F features

from typing import NamedTuple

import torch
from torch import Tensor

NEIGHBOURS = 3       # that make a real picture's neighbourhood
AT_ONCE = 500        # pictures whose distances to all others are computed together


def moments(features: Tensor) -> tuple[Tensor, Tensor]:                # (N, F)
    """Mean and covariance of features, in 64 bits."""
    features = features.double()
    return features.mean(0), features.T.cov()                          # (F,), (F, F)


def root(matrix: Tensor) -> Tensor:                                    # (F, F)
    """The square root of a covariance; its eigenvalues may be zero."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp(min=0).sqrt() @ vectors.T            # (F, F)


def frechet(these: Tensor, those: Tensor) -> float:                    # (N, F), (K, F)
    """The Fréchet distance of two clouds of features, divided by the trace of the second.

    Two Gaussians that fit them would be so far apart (Dowson and Landau, 1982); the division
    takes the arbitrary unit of the features away: 1 is the variance of real pictures.
    """
    (mean_a, cov_a), (mean_b, cov_b) = moments(these), moments(those)
    half = root(cov_a)                                                 # (F, F)
    cross = torch.linalg.eigvalsh(half @ cov_b @ half).clamp(min=0).sqrt().sum()
    spread = cov_a.trace() + cov_b.trace() - 2 * cross                 # ()
    return (((mean_a - mean_b).square().sum() + spread) / cov_b.trace()).item()   # (18)


def radii(features: Tensor) -> Tensor:                                 # (N, F)
    """The distance of each picture to its third neighbour among the others."""
    found = [torch.cdist(part, features).kthvalue(NEIGHBOURS + 1).values   # itself is nearest
             for part in features.split(AT_ONCE)]
    return torch.cat(found)                                            # (N,)


def covered(these: Tensor, those: Tensor) -> float:                    # (N, F), (K, F)
    """The share of these that lie in the neighbourhood of one of those."""
    reach = radii(those)                                               # (K,)
    inside = [(torch.cdist(part, those) <= reach).any(1) for part in these.split(AT_ONCE)]
    return torch.cat(inside).double().mean().item()                    # (19)


class Quality(NamedTuple):
    """What is measured of a set of pictures against real ones."""

    distance: float
    precision: float
    recall: float


def compare(drawn: Tensor, real: Tensor, most: int = 2000) -> Quality:    # (N, F), (K, F)
    """Distance, precision (are they real?) and recall (are all kinds of real ones there?).

    The last two by at most so many pictures of each, from all: they depend on the number. Drawn
    digits go round from 0 to 9, so that every fifth would be a 0 or a 5: these are mixed.
    """
    count = min(len(drawn), len(real), most)
    mixed = torch.randperm(len(drawn), generator=torch.Generator().manual_seed(0))
    some = drawn[mixed[:count]]
    others = real[torch.arange(count) * len(real) // count]
    return Quality(frechet(drawn, real), covered(some, others), covered(others, some))


def nearest(these: Tensor, those: Tensor) -> tuple[Tensor, Tensor]:
    """For each of these pictures its nearest of those, and the root mean square between them.

    Pictures (N, C, H, W) from 0 to 1; gives places (N,) and distances (N,), where 1/255 is a
    grey level.
    """
    flat = those.flatten(1)
    found = [torch.cdist(part.flatten(1), flat).min(1) for part in these.split(AT_ONCE)]
    distances = torch.cat([each.values for each in found]) / flat.size(1) ** 0.5     # (N,)
    return torch.cat([each.indices for each in found]), distances
