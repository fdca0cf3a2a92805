"""Arithmetic with codes: from one picture to another, and what makes a creature have wings.

A change is a direction: the mean code of pictures with the new value minus that of the old.
"""

# N pictures, L latents, V values of an attribute, T steps

import torch
from torch import Tensor

from console import Refusal
from data import Data
from evaluation import encode, inputs_of
from measures import read_off
from model import VAE


class Attributes:
    """What the codes of the training pictures say of attributes: of each value the mean."""

    def __init__(self, model: VAE, data: Data, config: dict) -> None:
        self.values, self.known = data.values, data.train.known
        self.codes = encode(model, inputs_of(data.train, config))      # (N, L)

    def find(self, words: str) -> tuple[str, int | None]:
        """The attribute and the place of its value that "wings" or "horns=ears" mean.

        Raises Refusal, in words, for what does not exist.
        """
        name, _, value = words.partition("=")
        if not self.values:
            raise Refusal("nothing is known of these pictures but their pixels: name a "
                          "--checkpoint of creatures or mnist")
        if name not in self.values:
            raise Refusal(f"there is no attribute {name}: choose one of "
                          f"{', '.join(self.values)}")
        if value and value not in self.values[name]:
            raise Refusal(f"{name} has no value {value}: choose one of "
                          f"{', '.join(self.values[name])}")
        return name, self.values[name].index(value) if value else None

    def means(self, name: str) -> Tensor:
        """The mean code of each value of an attribute: (V, L)."""
        labels = self.known[name]
        return torch.stack([self.codes[labels == value].mean(0)
                            for value in range(len(self.values[name]))])    # (V, L)

    def read(self, name: str, z: Tensor) -> Tensor:
        """The values that a linear model reads off codes (N, L): (N,)."""
        return read_off(self.codes, self.known[name], z)

    def change(self, name: str, z: Tensor, old: Tensor, new: Tensor) -> Tensor:
        """Codes (N, L) of pictures that have the new values (N,) in place of the old (N,)."""
        means = self.means(name)                                       # (V, L)
        return z + means[new] - means[old]                             # (N, L)  (16)


def opposite(old: Tensor, value: int | None) -> Tensor:                # (N,)
    """The value to change to: the one named, else none becomes the first and any other none."""
    return (old == 0).long() if value is None else torch.full_like(old, value)


def between(a: Tensor, b: Tensor, steps: int) -> Tensor:
    """Codes on the arc from a (L,) to b (L,), both included: (T, L).

    A straight line would pass nearer to zero than nearly all codes lie. Length and direction
    change evenly; between parallel codes the arc is a line.
    """
    t = torch.linspace(0, 1, steps)[:, None]                           # (T, 1)
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=0).clamp(-1, 1)
    angle = torch.acos(cosine)                                         # ()
    if not 1e-3 < angle < torch.pi - 1e-3 or min(a.norm(), b.norm()) < 1e-6:
        return a + t * (b - a)                                         # there is no arc
    ends = a / a.norm(), b / b.norm()
    turned = (((1 - t) * angle).sin() * ends[0] + (t * angle).sin() * ends[1]) / angle.sin()
    return turned * (a.norm() + t * (b.norm() - a.norm()))             # (T, L)  (17)
