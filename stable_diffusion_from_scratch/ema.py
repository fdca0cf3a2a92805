"""Weights averaged over the last steps of training: what pictures are drawn with."""

# no shapes here: every tensor of the network is averaged alike

import copy

import torch
from torch import nn


def decay_at(step: int, decay: float) -> float:
    """The share of the average that update number `step`, from 0, keeps: little at first.

    With 0.9999 from the start, half of the average would be the untrained weights for seven
    thousand steps.
    """
    return min(decay, (1 + step) / (10 + step))                        # (20)


class Average:
    """An exponential moving average of all weights and buffers of a network."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model, self.decay = copy.deepcopy(model).eval().requires_grad_(False), decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards the weights as they are after step 0, 1 and so on."""
        pairs = zip(self.model.state_dict().values(), model.state_dict().values())
        ours, theirs = (list(tensors) for tensors in zip(*pairs))
        torch._foreach_lerp_(ours, theirs, 1 - decay_at(step, self.decay))
