"""LeNet-5's distortions against torchvision's, its batch normalisation, and its time to 99 %.

    python tests/benchmarks/lenet5.py --data-dir ../shared/data

The distortions are timed in turn with torchvision's `RandomAffine` and `ElasticTransform`, one
picture at a time, as a `DataLoader` would call them; medians of five rounds and their ratio are
printed. Then a run of five epochs is timed until it reads 99 % of the test pictures.
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
from torchvision.transforms import v2

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support import load

lenet5 = load("lenet5_from_scratch")
BATCH, ROUNDS, GOAL, EVERY, EPOCHS = 64, 5, 0.99, 200, 5


class StopAfter:
    """Asks to stop after a number of steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    @property
    def requested(self) -> bool:
        """Asked once a step."""
        self.left -= 1
        return self.left <= 0


def seconds(work: object, times: int) -> float:
    """Seconds of one call, the mean of several."""
    start = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - start) / times


def compare(name: str, ours: object, peer: object, times: tuple[int, int]) -> None:
    """Time both in turn and print the medians and their ratio."""
    pairs = [(seconds(ours, times[0]), seconds(peer, times[1])) for _ in range(ROUNDS)]
    ratios = [theirs / mine for mine, theirs in pairs]
    mine, theirs = (1e3 * statistics.median(column) for column in zip(*pairs))
    print(f"{name}: {mine:.2f} ms against {theirs:.2f} ms, ratio "
          f"{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})")


def compare_parts(data: object) -> None:
    """A batch distorted, and a batch normalised, each in two ways."""
    images = data.train.images[:BATCH]
    transform = v2.Compose([
        v2.RandomAffine(12, translate=(0.05, 0.05), scale=(0.88, 1.12), shear=(-8, 8)),
        v2.ElasticTransform(alpha=34.0, sigma=4.0)])
    compare(f"{BATCH} pictures distorted, torchvision one by one",
            lambda: lenet5.augment.distort(images, 1.0, 0),
            lambda: [transform(image) for image in images[:, None]], (20, 2))
    x = torch.randn(BATCH, 6, 28, 28)
    norm = lenet5.model.BatchNorm(6)
    compare("batch normalisation fused, written out", lambda: norm(x),
            lambda: norm.written_out(x), (50, 50))


def time_to_goal(data: object, data_dir: Path) -> tuple[float, int]:
    """Seconds and steps until 99 % of the test set are read; testing is not counted."""
    with tempfile.TemporaryDirectory() as out:
        args, _ = lenet5.options.parse(["--data", "mnist", "--data-dir", str(data_dir),
                                        "--out-dir", out, "--epochs", str(EPOCHS)],
                                       lenet5.model.NAME)
        lenet5.options.set_defaults(args, len(data.train.labels))
        run, spent = lenet5.train.Run(args, data, torch.device("cpu")), 0.0
        while not run.done:
            start = time.perf_counter()
            with contextlib.redirect_stdout(None):
                lenet5.train.train(run, data, StopAfter(EVERY))
            spent += time.perf_counter() - start
            _, error, _ = lenet5.train.evaluate(run.model, data.test, run.config)
            if 1 - error >= GOAL:
                break
        return spent, run.step


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--data-dir", type=Path, required=True)
    data_dir = parser.parse_args().data_dir
    data = lenet5.data.load("mnist", data_dir)
    torch.set_num_threads(1)   # as in train.py
    print("1 thread")
    compare_parts(data)
    spent, steps = time_to_goal(data, data_dir)
    print(f"to 99 % of the test set: {spent:.0f} s, {steps} steps of {EPOCHS} epochs, seed 0")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory {peak:.2f} GB")


if __name__ == "__main__":
    main()
