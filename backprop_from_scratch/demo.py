"""A guided walk: five small experiments with backpropagation, to be checked by hand.

    python demo.py                      # all five, in the order in which they build up
    python demo.py --demo trace         # one forward and one backward pass, number by number
"""

# N samples, O outputs of a layer, U units of the hidden layer

import argparse
import contextlib
import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

import console
from autograd import Value
from by_hand import print_trace
from data import moons
from gradient_check import gradient_check
from losses import BinaryCrossEntropy, CrossEntropy
from model import ACTIVATIONS, Layer, Linear, Network, ReLU, Softmax, build
from optimizers import Adam
from scaling import measure, to_input

# ---------------------------------------------------------------- autograd


def handed_on_at_once(value: Value, grad: float) -> None:
    """The mistake: pass a gradient on as soon as it arrives, before all of it is there."""
    value.grad += grad
    for parent, slope in value.parents:
        handed_on_at_once(parent, slope * value.grad)


def autograd() -> None:
    """Why the graph is sorted before gradients flow: b = a + a, c = b + b."""
    print("b = a + a and c = b + b, so c = 4a and the slope of c in a is 4. b is used twice.")
    for name in ("at once", "sorted"):
        a = Value(1.0, "a")
        b = a + a
        c = b + b
        if name == "sorted":
            c.backward()
        else:
            handed_on_at_once(c, 1.0)
        print(f"  gradients handed on {name:8} ∂c/∂b = {b.grad:g}, ∂c/∂a = {a.grad:g}"
              f"  {'right' if a.grad == 4 else 'WRONG'}")
    print("At once, b speaks too early: its first half, 1, reaches a twice, and when the\n"
          "second has come, all of it, 2, reaches a twice again: 2 + 4. Sorted, b waits, and\n"
          "speaks once.")
    x, longest = Value(1.0, "x"), 100_000
    y = x
    for _ in range(longest):
        y = y * 1.00001
    y.backward()
    print(f"The sort needs no recursion: after {longest:,} multiplications by 1.00001 the\n"
          f"slope is {x.grad:.6g} (by formula {1.00001**longest:.6g}).")


# ---------------------------------------------------------------- gradient check


class Square(Layer):
    """A layer of a reader's own, with its gradient right: y = x²."""

    def forward(self, x: np.ndarray) -> np.ndarray:                    # (N, O)
        self.x = x
        return x * x

    def backward(self, grad: np.ndarray) -> np.ndarray:
        """∂L/∂x = 2x·∂L/∂y."""
        return 2 * self.x * grad


class WrongReLU(ReLU):
    """A planted bug: the mask is taken from the gradient instead of from the input."""

    def backward(self, grad: np.ndarray) -> np.ndarray:
        """∂L/∂x, wrongly."""
        return np.maximum(grad, 0)


def check() -> None:
    """Correct layers pass the comparison with measured slopes, a planted bug does not."""
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(8, 4)), rng.integers(0, 3, 8)         # (8, 4), (8,)
    for about, layer in (("ReLU", ReLU()), ("softmax, whose slopes form a matrix", Softmax()),
                         ("a layer of your own, y = x²", Square()),
                         ("ReLU whose mask comes from the gradient", WrongReLU())):
        network = Network([Linear(4, 5, rng), layer, Linear(5, 3, rng)])
        result = gradient_check(network, CrossEntropy(), x, labels)
        print(f"4-5-3 with {about}: {'passed' if result.passed else 'FAILED'}")
        print("\n".join(f"  {line}" for line in str(result).splitlines()))
    print("The bug spoils what lies before it and nothing behind it: that is where to look.")


# ---------------------------------------------------------------- XOR

SOLVED, MOST_STEPS = 1e-3, 5_000


def truth_table() -> tuple[np.ndarray, np.ndarray]:
    """The four questions (4, 2), pairs of 0 and 1, and whether the two differ (4, 1)."""
    x = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])                   # (4, 2)
    return x, (x[:, :1] != x[:, 1:]).astype(float)


class Attempt(NamedTuple):
    """How an attempt at XOR ended: steps taken, the last loss, and the network."""

    steps: int
    loss: float
    network: Network

    @property
    def solved(self) -> bool:
        """Whether the loss, in nats, has come below a thousandth."""
        return self.loss < SOLVED

    @property
    def units(self) -> np.ndarray:
        """The hidden units' answers to the four questions (4, U)."""
        first, activation = self.network.layers[:2]
        return activation.forward(first.forward(truth_table()[0]))     # (4, U)

    @property
    def dead(self) -> np.ndarray:
        """Which units are 0 for all four questions."""
        return (self.units == 0).all(axis=0)                           # (U,)


def solve_xor(activation: str, seed: int, hidden: int = 16) -> Attempt:
    """Train 2-hidden-1 with Adam on the four questions until the loss is below 0.001."""
    init = "he" if activation == "relu" else "xavier"
    network = build({"sizes": [2, hidden, 1], "activation": activation, "init": init,
                     "dropout": 0.0, "dtype": "float64"}, np.random.default_rng(seed))
    loss, optimizer = BinaryCrossEntropy(), Adam(network.parameters, lr=0.1)
    questions, answers = truth_table()
    for step in range(MOST_STEPS + 1):
        cost = loss.forward(network.forward(questions), answers)
        network.backward(loss.backward())
        if cost < SOLVED or step == MOST_STEPS:
            return Attempt(step, cost, network)
        optimizer.step(network.gradients)


def xor() -> None:
    """No line parts XOR, a hidden layer does; and why a narrow one can fail for ever."""
    print("With 16 hidden units, ten seeds each, until the loss is below 0.001:")
    for activation in ACTIVATIONS:
        attempts = [solve_xor(activation, seed) for seed in range(10)]
        steps = [attempt.steps for attempt in attempts if attempt.solved]
        pace = f", half of them within {int(np.median(steps))} steps" if steps else ""
        print(f"  {activation:8} {len(steps)} of 10 solved{pace}")
    print("With 3 hidden ReLU units (2 are enough in principle):")
    attempts = [solve_xor("relu", seed, hidden=3) for seed in range(10)]
    for seed, attempt in enumerate(attempts):
        end = "solved" if attempt.solved else f"stuck, {attempt.dead.sum()} of 3 units dead"
        print(f"  seed {seed}  loss {attempt.loss:.4f}  {end}")
    seed, worst = max(enumerate(attempts), key=lambda pair: pair[1].dead.sum())
    if worst.dead.any():
        explain_failure(seed, worst)


def explain_failure(seed: int, attempt: Attempt) -> None:
    """Show that some units are silent whatever is asked, and that nothing can wake them."""
    print(f"Seed {seed}, question by question; dead units are 0 for all of them:")
    for question, row in zip(truth_table()[0], attempt.units):
        print(f"  {question[0]:g} xor {question[1]:g}   units",
              " ".join(f"{unit:.3f}" for unit in row))
    slopes = attempt.network.layers[0].gradients["weight"]             # (2, U)
    print("A dead ReLU passes no gradient: the largest slope of its incoming weights is "
          f"{np.abs(slopes[:, attempt.dead]).max():g}.\nNo step will ever wake it. Cures: more "
          "units, a smaller rate, or an activation that is\nflat nowhere.")


# ---------------------------------------------------------------- vanishing gradients

DEPTH, WIDTH = 10, 32


def gradient_sizes(activation: str, init: str) -> list[float]:
    """The root mean square of ∂L/∂z after each linear layer of a fresh network, last first."""
    data = moons()
    network = build({"sizes": [2, *[WIDTH] * DEPTH, 2], "activation": activation, "init": init,
                     "dropout": 0.0, "dtype": "float64"}, np.random.default_rng(0))
    loss, config = CrossEntropy(), {**measure(data), "dtype": "float64"}
    loss.forward(network.forward(to_input(data.train.x, config)), data.train.y)
    grad, sizes = loss.backward(), []
    for layer in reversed(network.layers):
        if isinstance(layer, Linear):
            sizes.append(float(np.sqrt((grad**2).mean())))
        grad = layer.backward(grad)
    return sizes


def vanishing() -> None:
    """How much of the gradient is left ten layers down, for four ways to start."""
    starts = (("sigmoid", "xavier"), ("tanh", "xavier"), ("relu", "lecun"), ("relu", "he"))
    print(f"{DEPTH} hidden layers of {WIDTH} units, untrained: the size of ∂L/∂z behind each.")
    sizes = [gradient_sizes(*start) for start in starts]
    print("  layer", *(f"{' + '.join(start):>17}" for start in starts))
    for number, row in enumerate(zip(*sizes)):
        print(f"  {DEPTH + 1 - number:5}", *(f"{size:17.1e}" for size in row))
    print("  kept ", *(f"{column[-1] / column[0]:17.1e}" for column in sizes))
    print("A sigmoid's slope is at most ¼, (5): each layer takes its toll. ReLU's is 1 where\n"
          "it is not 0, and He's weights, (3), make up for the half that is.")


# ---------------------------------------------------------------- the walk

DEMOS: dict[str, Callable[[], None]] = {"trace": print_trace, "autograd": autograd,
                                        "gradient-check": check, "xor": xor,
                                        "vanishing": vanishing}


@console.one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Walk through one experiment, or through all of them."""
    parser = argparse.ArgumentParser(description=main.__doc__, allow_abbrev=False)
    parser.add_argument("--demo", choices=[*DEMOS, "all"], default="all",
                        help="what to show (default: %(default)s, with a stop at each in a "
                             "terminal)")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    chosen = parser.parse_args(argv).demo
    walk = list(DEMOS) if chosen == "all" else [chosen]
    for name in walk:
        print(f"== {name}: {DEMOS[name].__doc__}\n")
        DEMOS[name]()
        print()
        if name != walk[-1] and sys.stdin.isatty() and sys.stdout.isatty():
            with contextlib.suppress(EOFError):
                input("Enter for the next ")
    print("next: python train.py --data moons")
    return 0


if __name__ == "__main__":
    sys.exit(main())
