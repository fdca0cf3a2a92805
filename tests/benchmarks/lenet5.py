"""LeNet-5's distortions against torchvision's, its batch normalisation, and its time to 99 %.

    python tests/benchmarks/lenet5.py                               # pictures of noise
    python tests/benchmarks/lenet5.py --data-dir ../shared/data     # MNIST

The peers are torchvision's `RandomAffine` and `ElasticTransform`, one picture at a time, as a
`DataLoader` would call them, and PyTorch's batch normalisation, which ours uses unless it is
asked to write it out. With MNIST a run of five epochs is timed until it reads 99 % of the test
pictures. One thread, as in train.py, unless told otherwise.
"""

import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import timing
import torch
import training
from torchvision.transforms import v2

from support import load

lenet5 = load("lenet5_from_scratch")
BATCH, GOAL, EVERY, EPOCHS = 64, 0.99, 200, 5


def pairs(data: object, quick: bool) -> Iterator[timing.Pair]:
    """A batch distorted, and a batch normalised, each in two ways."""
    images = data.train.images[:BATCH]
    transform = v2.Compose([
        v2.RandomAffine(12, translate=(0.05, 0.05), scale=(0.88, 1.12), shear=(-8, 8)),
        v2.ElasticTransform(alpha=34.0, sigma=4.0)])
    yield timing.Pair(f"{BATCH} pictures distorted", "torchvision, one by one",
                      lambda: lenet5.augment.distort(images, 1.0, 0),
                      lambda: [transform(image) for image in images[:, None]],
                      (1, 1) if quick else (20, 2), (BATCH, "pictures"))
    x, norm = torch.randn(BATCH, 6, 28, 28), lenet5.model.BatchNorm(6)
    yield timing.Pair("batch normalisation fused", "ours, written out", lambda: norm(x),
                      lambda: norm.written_out(x), (1, 1) if quick else (50, 50),
                      remark=lambda ours, theirs:
                      f"they differ by {(ours - theirs).abs().max():.0e}")


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
                lenet5.train.train(run, data, training.StopAfter(EVERY))
            spent += time.perf_counter() - start
            _, error, _ = lenet5.train.evaluate(run.model, data.test, run.config)
            if 1 - error >= GOAL:
                break
        return spent, run.step


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = timing.parser(__doc__)
    parser.set_defaults(threads=[1])
    training.add_data_dir(parser)
    args = timing.parse(parser, argv)
    with training.mnist(args.data_dir, args.quick) as data_dir:
        data = lenet5.data.load("mnist", data_dir)
        timing.measure("lenet5", lambda: pairs(data, args.quick), args)
        if args.data_dir and not args.quick:
            spent, steps = time_to_goal(data, data_dir)
            print(f"to 99 % of the test set: {spent:.0f} s, {steps} steps of {EPOCHS} epochs, "
                  f"seed 0; peak memory {timing.peak_memory():.2f} GB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
