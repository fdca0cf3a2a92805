"""AlexNet against torchvision's: a training step and a forward pass, and what its parts cost.

    python tests/benchmarks/alexnet.py

Both networks get the same pictures; ours has them channels last, as train.py does.
"""

import sys
from collections.abc import Iterator

import timing
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from support import load

alexnet = load("alexnet_from_scratch")
BATCH = 16


def step(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    """Forward, backward, and the gradients away."""
    model.train().zero_grad(set_to_none=True)
    F.cross_entropy(model(images), labels).backward()


@torch.no_grad()
def answer(model: nn.Module, images: torch.Tensor) -> None:
    """A forward pass as inference does it."""
    model.eval()(images)


def both_ways(norm: nn.Module, maps: torch.Tensor) -> None:
    """A normalisation, forward and backward."""
    norm(maps.detach().requires_grad_()).sum().backward()


def pairs(quick: bool) -> Iterator[timing.Pair]:
    """The torchvision variant as train.py and inference.py run it; the norm of the original."""
    torch.manual_seed(0)
    batch = 2 if quick else BATCH
    last = {"memory_format": torch.channels_last}
    ours = alexnet.model.AlexNet(1000, "torchvision").to(**last)
    theirs = torchvision.models.alexnet()
    images, labels = torch.randn(batch, 3, 224, 224), torch.randint(1000, (batch,))
    mine = images.to(**last)
    yield timing.Pair(f"training step, batch {batch}, 224 pixels", "torchvision",
                      lambda: step(ours, mine, labels), lambda: step(theirs, images, labels))
    yield timing.Pair(f"forward pass, batch {batch}, 224 pixels", "torchvision",
                      lambda: answer(ours, mine), lambda: answer(theirs, images))
    maps = torch.rand(batch, 96, 55, 55).to(**last)
    norms = alexnet.model.LocalResponseNorm(), nn.LocalResponseNorm(5, 5e-4, 0.75, 2.0)
    yield timing.Pair("local response normalisation, both ways", "nn.LocalResponseNorm",
                      lambda: both_ways(norms[0], maps), lambda: both_ways(norms[1], maps))


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    args = timing.parse(timing.parser(__doc__), argv, rounds=7)
    timing.measure("alexnet", lambda: pairs(args.quick), args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
