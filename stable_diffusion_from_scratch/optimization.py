"""How the weights follow the gradient."""

import math
from collections.abc import Iterable

import torch
from torch import nn

LEAST = 0.05         # of the highest rate, at the end


def make_optimizer(parameters: Iterable[nn.Parameter],
                   weight_decay: float) -> torch.optim.Optimizer:
    """AdamW, whose decay pulls at matrices and kernels only.

    Squares of gradients are averaged over about a hundred steps: runs of few thousand have no
    time for a memory of a thousand.
    """
    parameters = list(parameters)
    decayed = [p for p in parameters if p.ndim > 1]
    others = [p for p in parameters if p.ndim <= 1]
    return torch.optim.AdamW([{"params": decayed, "weight_decay": weight_decay},
                              {"params": others, "weight_decay": 0.0}], betas=(0.9, 0.99),
                             fused=True)


def rate_share(step: int, steps: int, warm_up: int) -> float:
    """The share of the highest rate in step 1, 2, … of `steps`: up a line, down a cosine."""
    fall = 0.5 * (1 + math.cos(math.pi * step / (steps + 1)))
    return min(1.0, step / max(warm_up, 1)) * (LEAST + (1 - LEAST) * fall)     # (21)


def clip(parameters: Iterable[nn.Parameter], longest: float) -> None:
    """Shorten the gradient to a length of `longest`, if it is longer; 0 leaves it alone."""
    if longest:
        torch.nn.utils.clip_grad_norm_(parameters, longest)
