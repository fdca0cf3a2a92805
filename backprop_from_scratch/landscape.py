"""The loss as a landscape over two directions in the space of all parameters.

Two ways to choose them: at random, each unit's weights in proportion to its own, which shows
how sharp a minimum is; or along the way that training took, which shows the way.
"""

# S stations of a path, P parameters, A and B places along the two directions, N samples

import numpy as np

from data import Part
from model import Network, flat

Direction = dict[str, np.ndarray]


def random_direction(network: Network, rng: np.random.Generator) -> Direction:
    """A random direction that is as long as the weights of each unit; 0 for biases.

    So it means the same for networks that differ only in scale: make weights and biases of a
    ReLU layer ten times larger and the weights that read it ten times smaller, and network and
    landscape stay the same. (Li and others, "Visualizing the Loss Landscape of Neural Nets",
    2018.)
    """
    direction = {}
    for name, w in network.parameters.items():
        d = rng.normal(size=w.shape)
        length, wanted = (np.linalg.norm(array, axis=0) for array in (d, w))
        direction[name] = d * (wanted / length) if w.ndim > 1 else np.zeros_like(w)   # (25)
    return direction


def surface(network: Network, loss: object, part: Part, directions: tuple[Direction, Direction],
            across: np.ndarray, up: np.ndarray) -> np.ndarray:
    """The loss at w + a·d₁ + b·d₂ for every a (A,) in `across` and b (B,) in `up`: (B, A).

    w are the network's parameters now; they are put back.
    """
    parameters = network.parameters
    home = {name: w.copy() for name, w in parameters.items()}
    first, second = directions
    heights = np.empty((len(up), len(across)))                         # (B, A)
    for row, b in enumerate(up):
        for column, a in enumerate(across):
            for name, w in parameters.items():
                w[...] = home[name] + a * first[name] + b * second[name]   # (26)
            heights[row, column] = loss.forward(network.forward(part.x), part.y)
    for name, w in parameters.items():
        w[...] = home[name]
    return heights


def plane_of_path(network: Network, path: np.ndarray) -> tuple[tuple, np.ndarray, float]:
    """The two directions in which a path (S, P) that ends at the network mostly runs.

    Returns them, the path's coordinates in them (S, 2), seen from its end, and the share of its
    squared distances from the end that they account for.
    """
    steps = path - flat(network.parameters)                            # (S, P)
    _, lengths, axes = np.linalg.svd(steps, full_matrices=False)
    axes = axes[:2]                                                    # (2, P)
    share = float((lengths[:2] ** 2).sum() / (lengths**2).sum())
    return tuple(_as_arrays(network, axis) for axis in axes), steps @ axes.T, share


def _as_arrays(network: Network, row: np.ndarray) -> Direction:
    """Numbers in a row (P,) in the shapes of the network's parameters."""
    sizes = [w.size for w in network.parameters.values()]
    pieces = np.split(row, np.cumsum(sizes)[:-1])
    return {name: piece.reshape(w.shape)
            for (name, w), piece in zip(network.parameters.items(), pieces)}
