"""How the weights follow the gradient, and how slowly the KL comes to its full price."""

import math

import torch
from torch import nn

RISE = 100           # steps in which the rate rises
MEMORY = 0.05        # share by which σ² moves towards the error of each batch


def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """Adam with its usual averages (the paper had Adagrad)."""
    return torch.optim.Adam(model.parameters(), fused=True)


def rate_share(step: int, steps: int) -> float:
    """The share of the highest rate in step 1, 2, … of `steps`: up a line, down a cosine."""
    fall = 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
    rise = min(1.0, step / min(RISE, 1 + steps // 10))
    return rise * max(fall, 0.01)                                      # (12)


def beta(step: int, warm_up: int, highest: float) -> float:
    """The price of a nat of KL in step 1, 2, …: up to its highest in a line, then constant."""
    return highest * min(1.0, step / max(warm_up, 1))                  # (11)
