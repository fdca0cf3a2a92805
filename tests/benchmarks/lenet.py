"""LeNet against the loop that everybody writes first: DataLoader, ToTensor, the same network.

    python tests/benchmarks/lenet.py --data-dir ../shared/data

Both train one epoch of MNIST in turn, five times, on the same threads, batch and network, with
the same optimizer; the medians and their ratio are printed. Then the default recipe is timed
until it reads 98.5 % of the test pictures, and the peak memory of this process is shown.
"""

import argparse
import contextlib
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support import load

lenet = load("lenet_from_scratch")
BATCH, ROUNDS, GOAL = 64, 5, 0.985


def usual_epoch(data_dir: Path) -> float:
    """Seconds a picture of the usual loop, as in the tutorials (no worker processes)."""
    transform = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    pictures = datasets.MNIST(data_dir, train=True, transform=transform)
    loader = DataLoader(pictures, batch_size=BATCH, shuffle=True)
    model = lenet.model.LeNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)
    start = time.perf_counter()
    for images, labels in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    return (time.perf_counter() - start) / len(pictures)


class StopAfter:
    """Asks to stop after a number of steps; without a number, never."""

    def __init__(self, steps: float = float("inf")) -> None:
        self.left = steps

    @property
    def requested(self) -> bool:
        """Asked once a step."""
        self.left -= 1
        return self.left <= 0


def our_run(data: object, data_dir: Path, out: str, epochs: int) -> object:
    """A run of train.py as its flags would make it."""
    args, _ = lenet.train.parse(["--data", "mnist", "--data-dir", str(data_dir),
                                 "--out-dir", out, "--epochs", "1", "--log-every", "1000"])
    args.epochs = epochs
    lenet.train.set_defaults(args, data)
    return lenet.train.Run(args, data, torch.device("cpu"), None)


def our_epoch(data: object, data_dir: Path) -> float:
    """Seconds a picture of one epoch of ours, validation and checkpoints included."""
    with tempfile.TemporaryDirectory() as out:
        run = our_run(data, data_dir, out, epochs=1)
        start = time.perf_counter()
        with contextlib.redirect_stdout(None):
            lenet.train.train(run, data, StopAfter())
        return (time.perf_counter() - start) / len(data.train.labels)


def time_to_goal(data: object, data_dir: Path) -> float:
    """Seconds from the untrained network to 98.5 % of the test set; testing is not counted."""
    with tempfile.TemporaryDirectory() as out:
        run, spent = our_run(data, data_dir, out, epochs=0), 0.0
        while True:
            run.args.epochs += 1
            start = time.perf_counter()
            with contextlib.redirect_stdout(None):
                lenet.train.train(run, data, StopAfter())
            spent += time.perf_counter() - start
            _, error, _ = lenet.train.evaluate(run.model, data.test, run.config)
            if 1 - error >= GOAL:
                return spent


def error_after(steps: int, data: object, data_dir: Path) -> float:
    """Validation error, in per cent, after the first steps of the default recipe."""
    with tempfile.TemporaryDirectory() as out:
        run = our_run(data, data_dir, out, epochs=1)
        lenet.train.train(run, data, StopAfter(steps))
        return 100 * lenet.train.evaluate(run.model, data.validation, run.config)[1]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--data-dir", type=Path, required=True)
    data_dir = parser.parse_args().data_dir
    data = lenet.data.load("mnist", data_dir)
    usual, ours = [], []
    for _ in range(ROUNDS):
        usual.append(usual_epoch(data_dir))
        ours.append(our_epoch(data, data_dir))
    ratios = [u / o for u, o in zip(usual, ours)]
    print(f"{torch.get_num_threads()} threads, batches of {BATCH}, medians of {ROUNDS} rounds")
    print(f"usual loop  {60_000 * statistics.median(usual):6.2f} s for 60,000 pictures")
    print(f"ours        {60_000 * statistics.median(ours):6.2f} s for 60,000 pictures")
    print(f"ratio       {statistics.median(ratios):6.2f}, from {min(ratios):.2f} to "
          f"{max(ratios):.2f}")
    print(f"to 98.5 %   {time_to_goal(data, data_dir):6.2f} s, default recipe, seed 0")
    print(f"after 1 %   {error_after(172, data, data_dir):6.2f} % validation error, 172 steps")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory {peak:6.2f} GB")


if __name__ == "__main__":
    main()
