"""How the weights follow the gradient: Adam, with a rate that first rises and then fades."""

import torch
from torch import nn

BETAS, EPSILON = (0.9, 0.98), 1e-9     # section 5.3
MEMORY = 0.995                         # of the averaged weights: some 200 steps


def make_optimizer(model: nn.Module, weight_decay: float) -> torch.optim.Optimizer:
    """Adam, as in the paper; matrices may decay, which makes it AdamW."""
    parameters = list(model.parameters())
    groups = [{"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
              {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, betas=BETAS, eps=EPSILON, fused=True)


def highest_rate(channels: int, warm_up: int) -> float:
    """What the paper's schedule reaches at the end of its warm-up."""
    return (channels * warm_up) ** -0.5                                # (14)


def rate_share(step: int, warm_up: int) -> float:
    """Which share of the highest rate step 1, 2, … uses: a straight line up, a root down."""
    return min(step / warm_up, (warm_up / step) ** 0.5)                # (14)


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, step: int) -> None:
    """Move averaged weights a step towards the trained ones.

    The paper averages the last checkpoints of a run (section 6.1); a running average needs
    none. In the first steps it forgets faster, so that nothing of the start is left.
    """
    share = max(1 - MEMORY, 10 / (9 + step))
    for slow, fast in zip(average.parameters(), model.parameters()):
        slow.lerp_(fast, share)                                        # (15)
