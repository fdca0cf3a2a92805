"""How the weights follow the gradient: which optimizer, and which rate at which step."""

import argparse
import math

import torch
from torch import nn

MOMENTUM = 0.9        # of SGD
WARM_UP = 0.25        # share of a one-cycle run in which the rate rises


def make_optimizer(model: nn.Module, args: argparse.Namespace) -> torch.optim.Optimizer:
    """AdamW or SGD; only weights decay: a bias or the γ of (3) has no reason to be small."""
    parameters = list(model.parameters())
    groups = [{"params": [p for p in parameters if p.ndim > 1],
               "weight_decay": args.weight_decay},
              {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0}]
    if args.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=args.lr, momentum=MOMENTUM, nesterov=True)
    return torch.optim.AdamW(groups, lr=args.lr, fused=True)


def rate_share(schedule: str, progress: float) -> float:
    """Which share of the highest rate is used when `progress` (0 to 1) of a run is done.

    One-cycle (L. Smith, 2018, with straight lines; half waves and numbers as in fast.ai and
    PyTorch) rises from 1/25 to 1 and falls to nothing: it starts carefully while nothing is
    known, explores with large steps, and settles with small ones.
    """
    def between(start: float, end: float, t: float) -> float:
        return end + (start - end) * (1 + math.cos(math.pi * t)) / 2
    if schedule == "constant":
        return 1.0
    if schedule == "cosine":
        return between(1, 0, progress)
    if progress < WARM_UP:
        return between(1 / 25, 1, progress / WARM_UP)                  # (8)
    return between(1, 0, (progress - WARM_UP) / (1 - WARM_UP))
