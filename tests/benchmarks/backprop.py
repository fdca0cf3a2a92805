"""Our NumPy against scikit-learn's MLPClassifier and against micrograd, side by side.

    python tests/benchmarks/backprop.py                              # speed, on noise
    python tests/benchmarks/backprop.py --data-dir ../shared/data    # all, on MNIST

The same network, batches, optimizer and numbers train an epoch; then the same small network
takes a step on 100 moons here and in micrograd. With MNIST there follow how reliably XOR is
solved, the accuracy on the digits over ten seeds and on MNIST over three, also early in
training, and R² on diabetes beside MLPRegressor.
"""

import contextlib
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import timing
import training
from micrograd.nn import MLP
from sklearn.datasets import make_moons
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

from support import load

backprop = load("backprop_from_scratch")
BATCH, HIDDEN = 128, (300, 100)


def build(sizes: list[int], dtype: str, rng: np.random.Generator) -> object:
    """One of our ReLU networks."""
    return backprop.model.build({"sizes": sizes, "activation": "relu", "init": "he",
                                 "dropout": 0.0, "dtype": dtype}, rng)


def against_sklearn(data_dir: Path, quick: bool) -> timing.Pair:
    """One epoch, 784-300-100-10, Adam, batches of 128, float32."""
    x, y = (part[: training.QUICK if quick else None]
            for part in backprop.data.mnist(data_dir).train)
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

    return timing.Pair(f"an epoch of {len(y):,} pictures", "MLPClassifier", our_epoch,
                       lambda: peer.partial_fit(x, y, classes=range(10)),
                       amount=(len(y), "pictures"))


def against_micrograd() -> timing.Pair:
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

    return timing.Pair("a step on 100 moons", "micrograd", our_step, their_step, (100, 1))


def solve_xor() -> dict[str, int]:
    """How many of a hundred seeds solve it for each activation, with demo.py's settings."""
    solved = {}
    for activation in backprop.model.ACTIVATIONS:
        start = time.perf_counter()
        attempts = [backprop.demo.solve_xor(activation, seed) for seed in range(100)]
        seconds = (time.perf_counter() - start) / 100
        solved[activation] = sum(attempt.solved for attempt in attempts)
        print(f"XOR, {activation}: {solved[activation]} of 100 seeds, {seconds:.3f} s a seed",
              flush=True)
    return solved


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


def diabetes_against_sklearn(seeds: range) -> tuple[float, float]:
    """R² of the last weights, 10-16-1, the same optimizer, batches, epochs and penalty: means.

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
    return float(np.mean(ours)), float(np.mean(theirs))


def digits_of_sklearn(seeds: range) -> float:
    """Test accuracy of MLPClassifier as it comes, trained on all that is not for testing."""
    data = backprop.data.digits()
    config = {**backprop.scaling.measure(data), "task": "classification", "dtype": "float64"}
    parts = [backprop.scaling.standardised(part, config) for part in data[3:]]
    x, y = (np.concatenate(pair) for pair in zip(*parts[:2]))
    return float(np.mean([MLPClassifier(random_state=seed).fit(x, y).score(*parts[2])
                          for seed in seeds]))


def accuracy_after(steps: int, data_dir: Path) -> float:
    """Validation accuracy on MNIST after the first steps of the default recipe."""
    data = backprop.data.mnist(data_dir)
    with tempfile.TemporaryDirectory() as out, contextlib.redirect_stdout(None):
        args, _ = backprop.train.parse(["--data", "mnist", "--out-dir", out])
        backprop.train.set_defaults(args, data)
        run = backprop.train.Run(args, data, None)
        backprop.train.train(run, data, training.StopAfter(steps))
        part = backprop.scaling.standardised(data.validation, run.config)
        return backprop.train.evaluate(run.network, part, "classification")[1]


def pairs(data_dir: Path, quick: bool) -> Iterator[timing.Pair]:
    """Both peers."""
    yield against_sklearn(data_dir, quick)
    yield against_micrograd()


def quality(data_dir: Path) -> dict[str, object]:
    """Print how well all of it learns; what `tests/results.py` takes from here."""
    solved, diabetes = solve_xor(), diabetes_against_sklearn(range(20))
    ours, theirs = our_scores(range(10), "--data", "digits"), digits_of_sklearn(range(10))
    print(f"digits: mean of ten seeds {np.mean(ours):.4f}, MLPClassifier {theirs:.4f}")
    flags = "--data", "mnist", "--data-dir", str(data_dir)
    print(f"MNIST: mean of three seeds {np.mean(our_scores(range(3), *flags)):.4f}")
    after = {steps: accuracy_after(steps, data_dir) for steps in (129, 1_290, 12_900)}
    for steps, accuracy in after.items():
        print(f"MNIST: validation accuracy {accuracy:.4f} after {steps} steps")
    return {"xor": solved, "diabetes": diabetes[0], "diabetes_of_sklearn": diabetes[1],
            "digits_of_sklearn": theirs, "accuracy_after": after}


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = timing.parser(__doc__)
    training.add_data_dir(parser)
    args = timing.parse(parser, argv)
    warnings.simplefilter("ignore", ConvergenceWarning)
    with training.mnist(args.data_dir, args.quick) as data_dir:
        timing.measure("backprop", lambda: pairs(data_dir, args.quick), args)
    if args.data_dir and not args.quick:
        timing.set_threads(args.threads[0])
        timing.add(args.json, **quality(args.data_dir))
    return 0


if __name__ == "__main__":
    sys.exit(main())
