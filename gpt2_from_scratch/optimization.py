"""How the weights follow the gradient: AdamW, with a rate that rises, and falls as a cosine."""

import math

import torch
from torch import Tensor, nn


def make_optimizer(model: nn.Module, weight_decay: float,
                   beta2: float) -> torch.optim.Optimizer:
    """AdamW (I. Loshchilov and F. Hutter, 2019) in two groups: only matrices decay.

    Biases and norms have no products whose growth the decay could hold back. The matrix of the
    tokens is one parameter, though it is used twice, and so it is stepped once.
    """
    parameters = list(model.parameters())
    groups = [{"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
              {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, betas=(0.9, beta2), fused=True)


def rate_share(step: int, steps: int, warm_up: int, floor: float) -> float:
    """Which share of the highest rate step 1, 2, … uses: up a line, down half a cosine.

    It is 1 at the end of the warm-up and `floor` at the last of all `steps`, and thereafter.
    """
    if step < warm_up:
        return step / warm_up
    done = min(1.0, (step - warm_up) / max(1, steps - warm_up))
    return floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2    # (18)


def clip(parameters: list[Tensor], limit: float) -> None:
    """Shorten the gradient, all parameters together, to the length `limit`; 0 leaves it."""
    if limit:
        nn.utils.clip_grad_norm_(parameters, limit)
