"""How the weights follow the gradient: momentum, decay, and a rate that falls on plateaus."""

import torch
from torch import nn

MOMENTUM = 0.9            # paper, section 5
WEIGHT_DECAY = 5e-4       # paper, section 5: of weights; the released code spares the biases
BIAS_RATE = 2             # times the rate of the weights: released code (epsB = 0.02)
FALL, DROPS = 10, 3       # paper, section 5: divided by ten, three times before the end


def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """SGD with momentum, in two groups: weights, and biases, which do not decay."""
    weights = [p for p in model.parameters() if p.ndim > 1]
    biases = [p for p in model.parameters() if p.ndim == 1]
    return torch.optim.SGD([{"params": weights}, {"params": biases}], momentum=MOMENTUM)


def set_rate(optimizer: torch.optim.Optimizer, rate: float, weight_decay: float) -> None:
    """Set the rate of the weights; the biases go twice as fast."""
    weights, biases = optimizer.param_groups
    weights["lr"], weights["weight_decay"] = rate, weight_decay
    biases["lr"], biases["weight_decay"] = BIAS_RATE * rate, 0.0
