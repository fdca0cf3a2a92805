"""How surprised a model is at a text, and how much of the machine its training uses."""

# N tokens of a text, B windows, T tokens of a window, V vocabulary

import math
import time
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import devices
import distributed
from batches import windows

AT_ONCE = 8192       # tokens that are read together where nothing is learned
SIDES = {"cpu": 1024, "cuda": 8192}     # of the matrices whose product shows what is possible
TIMES = 5


class Loss(NamedTuple):
    """The surprise at a text in the units in which people compare models."""

    token: float          # nats a token: depends on how long the tokens are
    character: float      # nats a character: does not

    @property
    def bits(self) -> float:
        """Bits a character."""
        return self.character / math.log(2)


def summed_loss(logits: Tensor, targets: Tensor) -> Tensor:            # (B, T, V), (B, T)
    """-log p of all targets together, in nats and in single precision."""
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="sum")


@torch.no_grad()
def evaluate(model: nn.Module, tokens: np.ndarray, context: int, characters: int,
             precision: str = "fp32") -> Loss:
    """The loss on every token (N,) but the first, which is there to be seen; nothing is drawn.

    The text is read in windows that touch: the first token of each has one before it to go
    by, the last has `context`. That is the harder of the usual ways, and nanoGPT's. Each
    process reads its share of the windows, and all get the sum over all `characters`.
    """
    device, training = next(model.parameters()).device, model.training
    model.eval()
    count = len(tokens) - 1
    whole, rest = divmod(count, context)
    rows = max(1, AT_ONCE // context)
    groups = [(range(first, min(first + rows, whole)), context)
              for first in range(0, whole, rows)]
    groups += [(range(whole, whole + 1), rest)] if rest else []
    nats = torch.zeros((), dtype=torch.float64)
    for group, length in groups[distributed.rank() :: distributed.ranks()]:
        inputs, targets = windows(tokens, [context * row for row in group], length, device)
        with devices.autocast(device, precision):
            logits = model(inputs)                                     # (B, T, V)
        nats += summed_loss(logits, targets).cpu().double()
    model.train(training)
    nats = distributed.total(nats, device).item()
    return Loss(nats / count, nats / characters)


def possible(device: torch.device, precision: str) -> float:
    """Operations a second of a product of large matrices, the best that training can hope for.

    The makers of GPUs print higher numbers, which no program reaches.
    """
    side = SIDES.get(device.type, SIDES["cpu"])
    x, best = torch.ones(side, side, device=device), math.inf
    with torch.no_grad(), devices.autocast(device, precision):
        for _ in range(TIMES):
            start = time.perf_counter()
            (x @ x)[0, 0].item()            # to read a number is to wait for it
            best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best
