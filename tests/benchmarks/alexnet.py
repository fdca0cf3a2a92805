"""AlexNet against torchvision's: a training step and a forward pass, and what its parts cost.

    python tests/benchmarks/alexnet.py

Both networks get the same pictures in the same process, in turn; medians of seven rounds and
the ratio theirs / ours are printed, so that more than 1 means that ours is faster.
"""

import os
import statistics
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support import load

alexnet = load("alexnet_from_scratch")
BATCH, ROUNDS = 16, 7


def seconds(work: object) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(name: str, ours: object, peer: object) -> None:
    """Time both in turn, after a round that does not count, and print medians and ratio."""
    ours(), peer()
    pairs = [(seconds(ours), seconds(peer)) for _ in range(ROUNDS)]
    ratios = [theirs / mine for mine, theirs in pairs]
    mine, theirs = (1e3 * statistics.median(column) for column in zip(*pairs))
    print(f"{name}: {mine:.0f} ms against {theirs:.0f} ms, ratio "
          f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def step(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    """Forward, backward, and the gradients away."""
    model.zero_grad(set_to_none=True)
    F.cross_entropy(model(images), labels).backward()


@torch.no_grad()
def answer(model: nn.Module, images: torch.Tensor) -> None:
    """A forward pass as inference does it."""
    model(images)


def compare_networks() -> None:
    """The torchvision variant as train.py and inference.py run it, and the original."""
    ours = alexnet.model.AlexNet(1000, "torchvision").to(memory_format=torch.channels_last)
    theirs = torchvision.models.alexnet()
    images, labels = torch.randn(BATCH, 3, 224, 224), torch.randint(1000, (BATCH,))
    mine = images.to(memory_format=torch.channels_last)
    compare(f"training step, batch {BATCH}, 224 pixels", lambda: step(ours, mine, labels),
            lambda: step(theirs, images, labels))
    ours.eval(), theirs.eval()
    compare(f"forward pass, batch {BATCH}, 224 pixels", lambda: answer(ours, mine),
            lambda: answer(theirs, images))


def compare_norms() -> None:
    """Local response normalisation of the first layer's maps, forward and backward."""
    maps = torch.rand(BATCH, 96, 55, 55).to(memory_format=torch.channels_last)
    ours, theirs = alexnet.model.LocalResponseNorm(), nn.LocalResponseNorm(5, 5e-4, 0.75, 2.0)

    def both_ways(norm: nn.Module) -> None:
        norm(maps.detach().requires_grad_()).sum().backward()

    compare("local response normalisation", lambda: both_ways(ours), lambda: both_ways(theirs))


def main() -> None:
    """Measure and print."""
    torch.manual_seed(0)
    for threads in (1, os.cpu_count() or 1):
        torch.set_num_threads(threads)
        print(f"{threads} threads")
        compare_networks()
        compare_norms()


if __name__ == "__main__":
    main()
