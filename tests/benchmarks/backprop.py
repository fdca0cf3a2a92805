"""Our NumPy against scikit-learn's MLPClassifier and against micrograd, side by side.

    python tests/benchmarks/backprop.py --data-dir ../shared/data

The same network, batches, optimizer and numbers train one epoch of MNIST in turn, five times;
then the same small network takes one step on 100 moons here and in micrograd, five times. The
medians and their ratio are printed, then how reliably XOR is solved, the accuracy on the digits
over ten seeds and on MNIST over three, also early in training, and R² on diabetes beside
MLPRegressor.
"""

import argparse
import contextlib
import os
import random
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from micrograd.nn import MLP
from sklearn.datasets import make_moons
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor
from threadpoolctl import threadpool_info

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support import load

backprop = load("backprop_from_scratch")
ROUNDS, BATCH, HIDDEN = 5, 128, (300, 100)


def build(sizes: list[int], dtype: str, rng: np.random.Generator) -> object:
    """One of our ReLU networks."""
    return backprop.model.build({"sizes": sizes, "activation": "relu", "init": "he",
                                 "dropout": 0.0, "dtype": dtype}, rng)


def compare(name: str, theirs: Callable[[], None], ours: Callable[[], None]) -> None:
    """Time both in turn, once to warm up and five times to count, and print the ratio."""
    times = []
    for _ in range(ROUNDS + 1):
        pair = []
        for work in (theirs, ours):
            start = time.perf_counter()
            work()
            pair.append(time.perf_counter() - start)
        times.append(pair)
    times = times[1:]
    medians = [statistics.median(column) for column in zip(*times)]
    ratios = [mine / peer for peer, mine in times]
    print(f"{name}: theirs {medians[0]:.4g} s, ours {medians[1]:.4g} s; ratio "
          f"{statistics.median(ratios):.3g} ({min(ratios):.3g} to {max(ratios):.3g})")


def against_sklearn(data_dir: Path) -> None:
    """One epoch of MNIST, 784-300-100-10, Adam, batches of 128, float32."""
    x, y = backprop.data.mnist(data_dir).train
    x = (x / np.float32(255)).astype(np.float32)
    peer = MLPClassifier(HIDDEN, batch_size=BATCH, solver="adam", alpha=0.0)
    rng, loss = np.random.default_rng(0), backprop.losses.CrossEntropy()
    network = build([784, *HIDDEN, 10], "float32", rng)
    optimizer = backprop.optimizers.Adam(network.parameters, 1e-3)

    def our_epoch() -> None:
        order = rng.permutation(len(y))
        for start in range(0, len(y), BATCH):
            chosen = order[start : start + BATCH]
            loss.forward(network.forward(x[chosen]), y[chosen])
            network.backward(loss.backward())
            optimizer.step(network.gradients)

    compare("an epoch of MNIST against MLPClassifier",
            lambda: peer.partial_fit(x, y, classes=range(10)), our_epoch)


def against_micrograd() -> None:
    """A full-batch step on 100 moons, 2-16-16-1, hinge loss with L2 as in micrograd's demo."""
    random.seed(0)
    x, y = make_moons(100, noise=0.1, random_state=0)
    sign = 2 * y - 1
    peer = MLP(2, [16, 16, 1])

    def their_step() -> None:
        scores = [peer(list(row)) for row in x]
        hinges = [(1 + -label * score).relu() for label, score in zip(sign.tolist(), scores)]
        penalty = 1e-4 * sum(p * p for p in peer.parameters())
        total = sum(hinges) * (1 / len(hinges)) + penalty
        peer.zero_grad()
        total.backward()
        for p in peer.parameters():
            p.data -= 0.1 * p.grad

    network = build([2, 16, 16, 1], "float64", np.random.default_rng(0))
    optimizer = backprop.optimizers.SGD(network.parameters, 0.1, l2=2e-4)
    targets = sign[:, None].astype(float)

    def our_step() -> None:
        margin = 1 - targets * network.forward(x)
        network.backward(np.where(margin > 0, -targets, 0.0) / len(x))
        optimizer.step(network.gradients)

    compare("a step on moons against micrograd", their_step, our_step)


def solve_xor() -> None:
    """A hundred seeds for each activation, with the settings of demo.py."""
    for activation in backprop.model.ACTIVATIONS:
        start = time.perf_counter()
        attempts = [backprop.demo.solve_xor(activation, seed) for seed in range(100)]
        seconds = (time.perf_counter() - start) / 100
        print(f"XOR, {activation}: {sum(attempt.solved for attempt in attempts)} of 100 seeds, "
              f"{seconds:.3f} s a seed", flush=True)


def our_scores(seeds: range, *flags: str) -> list[float]:
    """Test scores of train.py with these flags, seed by seed; prints each with its time."""
    scores = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as out, open(f"{out}/said", "w+") as said:
            start = time.perf_counter()
            with contextlib.redirect_stdout(said):
                backprop.train.main([*flags, "--seed", str(seed), "--out-dir", out])
            said.seek(0)
            scores += [float(line.split()[2]) for line in said if line.startswith("test ")]
            print(f"  seed {seed}: {scores[-1]:.4f} in {time.perf_counter() - start:.1f} s",
                  flush=True)
    return scores


def diabetes_against_sklearn(seeds: range) -> None:
    """R² of the last weights, 10-16-1, the same optimizer, batches, epochs and penalty.

    The peer takes half the squared error, and divides its penalty by the samples of a batch.
    """
    data = backprop.data.diabetes()
    config = {**backprop.scaling.measure(data), "task": "regression", "dtype": "float64"}
    train, _, test = (backprop.scaling.standardised(part, config) for part in data[3:])
    ours, theirs = [], []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as out, contextlib.redirect_stdout(None):
            backprop.train.main(["--data", "diabetes", "--decay", "1", "--init", "xavier",
                                 "--seed", str(seed), "--out-dir", out])
            saved = backprop.checkpoint.load(Path(out) / "checkpoint.npz")
        network = backprop.model.build(saved["config"])
        backprop.checkpoint.restore(network.parameters, saved["model"], Path(out))
        ours.append(backprop.train.evaluate(network, test, "regression")[1])
        chosen = saved["options"]
        peer = MLPRegressor(hidden_layer_sizes=chosen["layers"], max_iter=chosen["epochs"],
                            batch_size=chosen["batch_size"], learning_rate_init=chosen["lr"],
                            alpha=chosen["l2"] * chosen["batch_size"] / 2, tol=0.0,
                            n_iter_no_change=10_000, random_state=seed)
        theirs.append(peer.fit(train.x, train.y[:, 0]).score(test.x, test.y[:, 0]))
    print(f"diabetes, {len(seeds)} seeds, constant rate, last weights: R² {np.mean(ours):.4f}, "
          f"MLPRegressor {np.mean(theirs):.4f}", flush=True)


def digits_of_sklearn(seeds: range) -> float:
    """Test accuracy of MLPClassifier as it comes, trained on all that is not for testing."""
    data = backprop.data.digits()
    config = {**backprop.scaling.measure(data), "task": "classification", "dtype": "float64"}
    parts = [backprop.scaling.standardised(part, config) for part in data[3:]]
    x, y = (np.concatenate(pair) for pair in zip(*parts[:2]))
    return float(np.mean([MLPClassifier(random_state=seed).fit(x, y).score(*parts[2])
                          for seed in seeds]))


class StopAfter:
    """Asks to stop after a number of steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    @property
    def requested(self) -> bool:
        """Asked once a step."""
        self.left -= 1
        return self.left <= 0


def accuracy_after(steps: int, data_dir: Path) -> float:
    """Validation accuracy on MNIST after the first steps of the default recipe."""
    data = backprop.data.mnist(data_dir)
    with tempfile.TemporaryDirectory() as out, contextlib.redirect_stdout(None):
        args, _ = backprop.train.parse(["--data", "mnist", "--out-dir", out])
        backprop.train.set_defaults(args, data)
        run = backprop.train.Run(args, data, None)
        backprop.train.train(run, data, StopAfter(steps))
        part = backprop.scaling.standardised(data.validation, run.config)
        return backprop.train.evaluate(run.network, part, "classification")[1]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--data-dir", type=Path, required=True)
    data_dir = parser.parse_args().data_dir
    warnings.simplefilter("ignore", ConvergenceWarning)
    threads = {info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"}
    print(f"{os.cpu_count()} cores, BLAS threads {threads}, medians of {ROUNDS} rounds")
    against_sklearn(data_dir)
    against_micrograd()
    solve_xor()
    diabetes_against_sklearn(range(20))
    ours, theirs = our_scores(range(10), "--data", "digits"), digits_of_sklearn(range(10))
    print(f"digits: mean of ten seeds {np.mean(ours):.4f}, MLPClassifier {theirs:.4f}")
    flags = "--data", "mnist", "--data-dir", str(data_dir)
    print(f"MNIST: mean of three seeds {np.mean(our_scores(range(3), *flags)):.4f}")
    for steps in (129, 1_290):
        print(f"MNIST: validation accuracy {accuracy_after(steps, data_dir):.4f} after {steps} "
              "steps")


if __name__ == "__main__":
    main()
