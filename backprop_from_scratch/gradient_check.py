"""Is a backward pass right? Measure the slopes of the loss and compare.

    check = gradient_check(network, loss, x, y)
    print(check)                        # a line for each array
    assert check.passed

`network` may be a `Network` or a single layer, such as one of your own.
"""

import copy
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from model import Layer, Network
from optimizers import Adam

SMOOTH, KINKED = 1e-7, 1e-5     # relative errors up to which a gradient is right
STEP = {SMOOTH: 2.0**-15, KINKED: 2.0**-20}     # h; short where a kink may be near


class Check(NamedTuple):
    """What a gradient check found: for each array a relative error, 0 (equal) to 1 (opposite).

    Of `tried` slopes `skipped` were not compared, as a kink lay too near. `changed` names what
    a pass must leave alone and did not.
    """

    errors: dict[str, float]
    tolerance: float
    tried: int
    skipped: int
    changed: list[str]

    @property
    def passed(self) -> bool:
        """Whether everything agrees, and at least half of the slopes were compared."""
        right = all(error <= self.tolerance for error in self.errors.values())
        return right and not self.changed and 2 * self.skipped <= self.tried

    def __str__(self) -> str:
        lines = [f"{name:12} {error:9.1e}  {'ok' if error <= self.tolerance else 'WRONG'}"
                 for name, error in self.errors.items()]
        lines += [f"{name:12} was changed  WRONG" for name in self.changed]
        return "\n".join([*lines, f"{self.tried} slopes, {self.skipped} skipped near a kink"])


def gradient_check(network: Network | Layer, loss: object, x: np.ndarray, y: np.ndarray, *,
                   most: int | None = None, adam: Adam | None = None) -> Check:
    """Compare the gradients that `backward` gives with measured slopes of the loss.

    x (N, I) and y are a batch that network and loss accept; all slopes are measured, or `most`
    of each array, drawn at random. Dropout keeps one mask throughout, and its generator is
    given back as it was. An `adam` of your own is checked too, since its mistakes are not in
    gradients. ValueError unless x and the parameters are in float64.
    """
    watched = {**network.parameters, "input": x, "target": y}
    for name, array in [*network.parameters.items(), ("input", x)]:
        if array.dtype != np.float64:
            raise ValueError(f"slopes of {array.dtype} numbers (the {name}) have too few "
                             "digits: use float64")
    cost = _cost(network, loss, x, y)
    before = {name: array.copy() for name, array in watched.items()}
    for batch in (-1 - x, x):    # the first exposes who keeps an old batch or an old gradient
        value, sides = cost(batch)
        input_gradient = network.backward(loss.backward())
    gradients = {name: array.copy() for name, array in network.gradients.items()}
    names = list(network.parameters)
    if input_gradient is not None:
        gradients["input"], names = input_gradient.copy(), [*names, "input"]
    changed = [name for name in watched if not np.array_equal(watched[name], before[name])]

    tolerance = KINKED if sides else SMOOTH
    tried, skipped, errors, rng = 0, 0, {}, np.random.default_rng(0)
    for name in names:
        array = watched[name]
        chosen = rng.permutation(array.size)[:most]
        slopes = np.array([_slope(cost, array, i, sides, STEP[tolerance]) for i in chosen])
        near = np.isnan(slopes)
        tried, skipped = tried + len(chosen), skipped + int(near.sum())
        noise = 10 * np.finfo(float).eps * max(1.0, abs(value)) / STEP[tolerance]
        errors[name] = _relative_error(gradients.get(name), array.shape, chosen[~near],
                                       slopes[~near], noise / tolerance)
    if adam is not None:
        errors["Adam's step"] = _step_error(adam)
    return Check(errors, tolerance, tried, skipped, changed)


def _cost(network: Network | Layer, loss: object, x: np.ndarray, y: np.ndarray) -> Callable:
    """A function of a batch, x if none is given: its loss, and the side of each kink it is on.

    Whatever dice a layer throws fall as they would have fallen next, every time.
    """
    layers = getattr(network, "layers", [network])
    dice = [layer.rng for layer in layers if hasattr(layer, "rng")]
    states = [rng.bit_generator.state for rng in dice]

    def cost(batch: np.ndarray = x) -> tuple[float, list[np.ndarray]]:
        value = loss.forward(network.forward(batch), y)
        if batch is x and not np.isfinite(value):
            raise ValueError(f"the loss of this batch is {value}: nothing can be compared")
        for rng, state in zip(dice, states):
            rng.bit_generator.state = state
        return value, [side.copy() for layer in layers if (side := _sides(layer)) is not None]

    return cost


def _sides(layer: Layer) -> np.ndarray | None:
    return layer.sides() if hasattr(layer, "sides") else None


def _slope(cost: object, array: np.ndarray, i: int, sides: list[np.ndarray], h: float) -> float:
    """The central difference of fourth order at entry i; nan if a kink lies within 2h."""
    old, near, values = array.flat[i], False, []
    h *= max(1.0, abs(old))
    for distance in (-2, -1, 1, 2):
        array.flat[i] = old + distance * h
        value, here = cost()
        values.append(value)
        near = near or any(not np.array_equal(*pair) for pair in zip(sides, here))
    array.flat[i] = old
    slope = (8 * (values[2] - values[1]) - (values[3] - values[0])) / (12 * h)   # (22)
    return np.nan if near else slope


def _relative_error(gradient: np.ndarray | None, shape: tuple[int, ...], chosen: np.ndarray,
                    slopes: np.ndarray, least: float) -> float:
    """The distance of gradient and slopes over their sizes; below `least` is only noise."""
    if gradient is None or gradient.shape != shape:
        return 1.0
    ours = gradient.flat[chosen]
    size = np.linalg.norm(ours) + np.linalg.norm(slopes)
    floor = least * np.sqrt(max(1, len(slopes)))
    return float(np.linalg.norm(ours - slopes) / max(size, floor))        # (23)


def _step_error(adam: Adam) -> float:
    """How far ten steps are from η·g / (|g| + ε): the averages of a constant g must be g."""
    adam = copy.deepcopy(adam)
    for kept in (array for arrays in adam.memory.values() for array in arrays.values()):
        kept[...] = 0
    adam.l2, adam.steps, g, error = 0.0, 0, 0.5, 0.0
    expected = adam.lr * g / (g + adam.epsilon)
    for _ in range(10):
        before = {name: w.copy() for name, w in adam.parameters.items()}
        adam.step({name: np.full_like(w, g) for name, w in before.items()})
        steps = (before[name] - w for name, w in adam.parameters.items())
        error = max(error, *(np.abs(step / expected - 1).max() for step in steps))
    return float(error)
