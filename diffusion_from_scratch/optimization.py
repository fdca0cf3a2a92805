"""How the weights follow the gradient."""

import math

import torch
from torch import Tensor, nn


def make_optimizer(model: nn.Module, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW, whose decay pulls at matrices and kernels; without any it is the paper's Adam."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    return torch.optim.AdamW([{"params": decayed, "weight_decay": weight_decay},
                              {"params": others, "weight_decay": 0.0}], fused=True)


def rate_share(step: int, steps: int, warm_up: int, falls: bool) -> float:
    """The share of the highest rate in step 1, 2, … of `steps`: up a line, down a cosine.

    The paper's rate stays up.
    """
    rise = min(1.0, step / max(warm_up, 1))
    return rise * (0.5 * (1 + math.cos(math.pi * step / (steps + 1))) if falls else 1.0)  # (17)


def clip(parameters: list[Tensor], longest: float) -> None:
    """Shorten the gradient to a length of `longest`, if it is longer; 0 leaves it alone."""
    if longest:
        torch.nn.utils.clip_grad_norm_(parameters, longest)
