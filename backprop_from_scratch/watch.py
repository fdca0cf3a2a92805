"""Train a small network and write down, step by step, what happens inside it.

`train.py` keeps what a user needs; this keeps what a learner wants to see drawn.
"""

# N samples, S steps, E epochs, P parameters, L linear layers, I inputs, U units;
# H hidden layers

from typing import NamedTuple

import numpy as np

from console import Refusal
from data import Data, Part
from model import LOSSES, Linear, Network, build, flat
from optimizers import OPTIMIZERS
from scaling import measure, standardised

BATCH = 32


class Film(NamedTuple):
    """A training run as it looks from the inside.

    Of every step: `losses` (S,), `gradients` (S, L), the root mean square of ∂L/∂weight in
    each linear layer, and `ratios` (S, L), that of the weights' change over that of the
    weights. Before the first epoch and after each: `path` (E + 1, P), all parameters in a row,
    and `dead` (E + 1, H), the share of units that are 0 for all training samples.
    """

    network: Network
    loss: object
    part: Part
    config: dict
    losses: np.ndarray
    gradients: np.ndarray
    ratios: np.ndarray
    path: np.ndarray
    dead: np.ndarray


def root_mean_square(array: np.ndarray) -> float:
    """The usual size of an array's numbers."""
    return float(np.sqrt((array * array).mean()))


def dead_shares(network: Network, x: np.ndarray) -> list[float]:
    """For each hidden layer the share of its units that are 0 for every sample of x (N, I)."""
    shares = []
    for layer in network.layers:
        x = layer.forward(x)                                               # (N, U)
        if not isinstance(layer, Linear):
            shares.append(float((x == 0).all(axis=0).mean()))
    return shares


@np.errstate(over="ignore", invalid="ignore")     # a loss that is not finite is refused
def watch(data: Data, layers: list[int], activation: str, optimizer: str, lr: float,
          epochs: int, seed: int) -> Film:
    """Train a network on a data set that fits in memory, at a constant rate, and record it.

    Raises Refusal if the rate is so high that the loss is no longer a number.
    """
    config = {"sizes": [len(data.inputs), *layers, len(data.classes) or 1],
              "activation": activation, "init": "he" if activation == "relu" else "xavier",
              "dropout": 0.0, "dtype": "float64", "task": data.task, **measure(data)}
    network, loss = build(config, np.random.default_rng(seed)), LOSSES[data.task]()
    downhill = OPTIMIZERS[optimizer](network.parameters, lr)
    linear = [layer for layer in network.layers if isinstance(layer, Linear)]
    part = standardised(data.train, config)
    losses, gradients, ratios = [], [], []
    path, dead = [flat(network.parameters)], [dead_shares(network, part.x)]
    for epoch in range(epochs):
        order = np.random.default_rng([seed, epoch]).permutation(len(part.y))
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            losses.append(loss.forward(network.forward(part.x[chosen]), part.y[chosen]))
            if not np.isfinite(losses[-1]):
                raise Refusal(f"the loss of step {len(losses)} is not finite (learning rate "
                              f"{lr:g}): use a lower --lr")
            network.backward(loss.backward())
            before = [layer.parameters["weight"].copy() for layer in linear]
            downhill.step(network.gradients)
            gradients.append([root_mean_square(layer.gradients["weight"]) for layer in linear])
            ratios.append([root_mean_square(layer.parameters["weight"] - old)
                           / root_mean_square(old) for layer, old in zip(linear, before)])
        path.append(flat(network.parameters))
        dead.append(dead_shares(network, part.x))
    return Film(network, loss, part, config,
                *map(np.array, (losses, gradients, ratios, path, dead)))
