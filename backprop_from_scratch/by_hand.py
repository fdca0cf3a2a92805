"""One forward and one backward pass through a small network, in numbers for a pencil.

`demo.py --demo trace` prints it. Nothing here computes a gradient: the formulas are text, the
numbers come from the layers of `model.py`, and a test checks that each line adds up.
"""

import re

import numpy as np

from losses import MeanSquaredError
from model import Linear, Network, Sigmoid, flat
from optimizers import SGD

RATE = 0.5       # learning rate of the step that ends the trace
FORWARD = """\
(1) z1 = w11·x1 + w21·x2 + b1
(1) z2 = w12·x1 + w22·x2 + b2
(5) h1 = 1 / (1 + e^(-z1))
(5) h2 = 1 / (1 + e^(-z2))
(1) o = v1·h1 + v2·h2 + c
(12) L = (o - y)²"""
BACKWARD = """\
(12) ∂o = 2·(o - y)
(2) ∂v1 = h1·∂o
(2) ∂v2 = h2·∂o
(2) ∂c = ∂o
(2) ∂h1 = v1·∂o
(2) ∂h2 = v2·∂o
(5) ∂z1 = ∂h1·h1·(1 - h1)
(5) ∂z2 = ∂h2·h2·(1 - h2)
(2) ∂w11 = x1·∂z1
(2) ∂w12 = x1·∂z2
(2) ∂w21 = x2·∂z1
(2) ∂w22 = x2·∂z2
(2) ∂b1 = ∂z1
(2) ∂b2 = ∂z2"""
PARAMETERS = "w11 w12 w21 w22 b1 b2 v1 v2 c".split()   # w21 leads from input 2 to unit 1
STEP = "\n".join(f"(14) {name}' = {name} - {RATE}·∂{name}" for name in PARAMETERS)


def traced_numbers() -> dict[str, float]:
    """Every number of one pass through a 2-2-1 network, as the layers of `model.py` find it.

    "∂v1" stands for ∂L/∂v1; "v1'" and "L'" are what they are after a step downhill.
    """
    rng, loss = np.random.default_rng(0), MeanSquaredError()
    network = Network([Linear(2, 2, rng), Sigmoid(), Linear(2, 1, rng)])
    start = ([[0.3, -0.2], [-0.4, 0.5]], [0.1, -0.3], [[0.7], [-0.6]], [0.2])
    for array, values in zip(network.parameters.values(), start):
        array[:] = values
    x, y = np.array([[1.0, 2.0]]), np.array([[1.0]])
    forward = [x]
    for layer in network.layers:
        forward.append(layer.forward(forward[-1]))
    cost = loss.forward(forward[-1], y)
    backward = [loss.backward()]
    for layer in reversed(network.layers):
        backward.append(layer.backward(backward[-1]))
    numbers = dict(zip("x1 x2 z1 z2 h1 h2 o".split(), np.concatenate(forward, axis=1)[0]))
    numbers |= zip("∂o ∂h1 ∂h2 ∂z1 ∂z2".split(), np.concatenate(backward[:3], axis=1)[0])
    numbers |= zip(PARAMETERS, flat(network.parameters))
    numbers |= zip([f"∂{name}" for name in PARAMETERS], flat(network.gradients))
    SGD(network.parameters, RATE).step(network.gradients)
    numbers |= zip([f"{name}'" for name in PARAMETERS], flat(network.parameters))
    return numbers | {"y": y[0, 0], "L": cost, "L'": loss.forward(network.forward(x), y)}


def in_numbers(formula: str, numbers: dict[str, float]) -> str:
    """A formula with each name replaced by its value, negative ones in brackets."""

    def value(match: re.Match) -> str:
        number = f"{numbers[match[0]]:.5g}"
        return f"({number})" if number.startswith("-") else number

    return re.sub(r"∂?\b(?!e\b)[a-zA-Z]\d*", value, formula)


def print_trace() -> None:
    """One forward and one backward pass, number by number, then a step downhill."""
    numbers = traced_numbers()

    def show(formulas: str) -> None:
        for line in formulas.splitlines():
            equation, name, formula = re.fullmatch(r"(\S+) (\S+) = (.*)", line).groups()
            print(f"{equation:>6} {name:>4} = {formula:21} = {in_numbers(formula, numbers):37}"
                  f" = {numbers[name]:.5g}")

    print("Two inputs, two sigmoid units, one output. ∂v1 is short for ∂L/∂v1; numbers in\n"
          "brackets are equations of the README. Take a pencil: each line needs only what\n"
          "stands above it.")
    given = (f"{name} = {numbers[name]:g}" for name in ["x1", "x2", "y", *PARAMETERS])
    print("given ", ", ".join(given))
    print("forward")
    show(FORWARD)
    print("backward, from the loss to the weights")
    show(BACKWARD)
    print(f"a step downhill with rate {RATE}")
    show(STEP)
    print(f"The loss was {numbers['L']:.5g}; " + "with the new weights it is {:.5g}.".format(
        numbers["L'"]))
