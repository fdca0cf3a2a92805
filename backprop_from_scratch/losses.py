"""What is wrong with an answer, as a number and its slope, safe from overflow for any logits.

A loss has the two verbs of a layer: `forward(outputs, targets)` is the mean over the batch,
`backward()` its gradient for the outputs.
"""

# N samples in a batch, O outputs, K classes

import numpy as np

# ---------------------------------------------------------------- without overflow


def exp(z: np.ndarray) -> np.ndarray:
    """eᶻ for z of at most 0, and exactly 0 where it is too small for its square to exist."""
    least = np.log(np.finfo(z.dtype).tiny) / 2     # -354 in float64
    return np.where(z < least, 0, np.exp(np.maximum(z, least)))


def sigmoid(z: np.ndarray) -> np.ndarray:
    """1 / (1 + e⁻ᶻ), computed from e to a negative number on both sides of 0."""
    e = exp(-np.abs(z))
    return np.where(z >= 0, 1, e) / (1 + e)                                # (5)


def softmax(z: np.ndarray) -> np.ndarray:
    """e to each number over the sum of its row; taking the maximum away changes nothing."""
    e = exp(z - z.max(axis=1, keepdims=True))                              # (N, K)
    return e / e.sum(axis=1, keepdims=True)                                # (N, K)  (7)


# ---------------------------------------------------------------- losses: means over the batch


class CrossEntropy:
    """How surprised a softmax of the logits is by the labels, in nats, on average."""

    def forward(self, logits: np.ndarray, labels: np.ndarray) -> float:    # (N, K), (N,)
        """The mean loss; labels are whole numbers from 0 to K - 1, else ValueError."""
        samples, classes = logits.shape
        fits = labels.shape == (samples,) != (0,) and labels.dtype.kind in "iu"
        if not fits or labels.min() < 0 or labels.max() >= classes:
            raise ValueError(f"{samples} rows of {classes} logits need {samples} labels from 0 "
                             f"to {classes - 1}")
        self.rows, self.labels = np.arange(samples), labels                # each (N,)
        shifted = logits - logits.max(axis=1, keepdims=True)               # (N, K)
        e = exp(shifted)                                                   # (N, K)
        total = e.sum(axis=1, keepdims=True)                               # (N, 1)
        self.p = e / total                                                 # (N, K)
        return float((np.log(total[:, 0]) - shifted[self.rows, labels]).mean())   # (9)

    def backward(self) -> np.ndarray:
        """∂L/∂logits: belief minus truth, over the number of samples."""
        grad = self.p.copy()                                               # (N, K)
        grad[self.rows, self.labels] -= 1
        return grad / len(grad)                                            # (N, K)  (10)


class MeanSquaredError:
    """The squared distance from the targets, averaged over samples and outputs."""

    def forward(self, outputs: np.ndarray, targets: np.ndarray) -> float:  # (N, O), (N, O)
        """The mean loss; ValueError if the shapes differ, which NumPy would broadcast."""
        _same_shape(outputs, targets)
        self.difference = outputs - targets                                # (N, O)
        return float((self.difference**2).mean())                          # (12)

    def backward(self) -> np.ndarray:
        """∂L/∂outputs."""
        return 2 * self.difference / self.difference.size                  # (N, O)


class BinaryCrossEntropy:
    """The surprise, in nats, of independent yes-or-no answers whose logits are the outputs."""

    def forward(self, logits: np.ndarray, targets: np.ndarray) -> float:   # (N, O), (N, O)
        """The mean loss; targets lie between 0 (no) and 1 (yes)."""
        _same_shape(logits, targets)
        self.difference = sigmoid(logits) - targets                        # (N, O)
        rest = np.log1p(exp(-np.abs(logits)))                              # (N, O)
        return float((np.maximum(logits, 0) - logits * targets + rest).mean())   # (11)

    def backward(self) -> np.ndarray:
        """∂L/∂logits: belief minus truth again."""
        return self.difference / self.difference.size                      # (N, O)


def _same_shape(outputs: np.ndarray, targets: np.ndarray) -> None:
    if outputs.shape != targets.shape:
        raise ValueError(f"outputs of shape {outputs.shape} need targets of the same shape, "
                         f"not {targets.shape}")
