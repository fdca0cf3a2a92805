"""What a test set says beyond one error rate: what is mixed up, and how sure to be."""

# N pictures, K classes

from typing import NamedTuple

from torch import Tensor


def confusion(labels: Tensor, answers: Tensor, classes: int) -> Tensor:
    """How many pictures of each class (row) got each answer (column), (K, K)."""
    pairs = classes * labels + answers                                 # (N,)
    return pairs.bincount(minlength=classes**2).view(classes, classes)  # (K, K)


class Calibration(NamedTuple):
    """Answers sorted into bins by how sure they were, and the expected calibration error.

    `sure`, `right` and `count` have one entry a bin: mean confidence, accuracy, pictures.
    """

    sure: Tensor
    right: Tensor
    count: Tensor
    error: float


def calibration(probabilities: Tensor, labels: Tensor, bins: int = 15) -> Calibration:
    """Whether 90 % sure means right nine times in ten: probabilities (N, K), labels (N,).

    M. P. Naeini and others, 2015; C. Guo and others, "On Calibration of Modern Neural
    Networks", 2017. Bins of equal width; empty ones count nothing.
    """
    belief, answers = probabilities.double().max(1)                    # each (N,)
    chosen = (belief * bins).ceil().long().clamp(1, bins) - 1          # (N,)
    count = chosen.bincount(minlength=bins)
    least = count.clamp(min=1)
    sure = chosen.bincount(belief, minlength=bins) / least
    right = chosen.bincount((answers == labels).double(), minlength=bins) / least
    error = (count * (right - sure).abs()).sum() / count.sum()         # (14)
    return Calibration(sure, right, count, error.item())
