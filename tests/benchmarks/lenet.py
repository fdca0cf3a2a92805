"""LeNet against the loop that everybody writes first: DataLoader, ToTensor, the same network.

    python tests/benchmarks/lenet.py                               # some thousand pictures
    python tests/benchmarks/lenet.py --data-dir ../shared/data     # MNIST

Both train epochs of the same pictures with the same network, batches and optimizer; ours
validates and saves checkpoints, too, as train.py does. With MNIST the default recipe is then
timed until it reads 98.5 % of the test pictures.
"""

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import timing
import torch
import torch.nn.functional as F
import training
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms

from support import load

lenet = load("lenet_from_scratch")
BATCH, GOAL = 64, 0.985


def usual_loop(data_dir: Path, count: int) -> Callable[[], None]:
    """An epoch of so many pictures as in the tutorials (no worker processes)."""
    transform = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    pictures = Subset(datasets.MNIST(data_dir, train=True, transform=transform), range(count))
    loader = DataLoader(pictures, batch_size=BATCH, shuffle=True)
    model = lenet.model.LeNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)

    def epoch() -> None:
        for images, labels in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
    return epoch


def our_run(data: object, data_dir: Path, out: str) -> object:
    """A run of train.py as its flags would make it, before its first epoch."""
    args, _ = lenet.train.parse(["--data", "mnist", "--data-dir", str(data_dir), "--out-dir",
                                 out, "--log-every", "1000", "--batch-size", str(BATCH)])
    lenet.train.set_defaults(args, data)
    args.epochs = 0
    return lenet.train.Run(args, data, torch.device("cpu"), None)


def one_more_epoch(run: object, data: object) -> None:
    """An epoch of ours, validation and checkpoints included."""
    run.args.epochs += 1
    with contextlib.redirect_stdout(None):
        lenet.train.train(run, data, training.StopAfter())


def pairs(data: object, data_dir: Path) -> Iterator[timing.Pair]:
    """An epoch, with as much to validate on as MNIST has for as many pictures."""
    count = len(data.train.labels)
    data = data._replace(validation=lenet.data.Part(
        *(part[: count // 11] for part in data.validation)))
    with tempfile.TemporaryDirectory() as out:
        run = our_run(data, data_dir, out)
        yield timing.Pair(f"an epoch of {count:,} pictures", "the DataLoader loop",
                          lambda: one_more_epoch(run, data), usual_loop(data_dir, count),
                          amount=(count, "pictures"))


def time_to_goal(data: object, data_dir: Path) -> float:
    """Seconds from the untrained network to 98.5 % of the test set; testing is not counted."""
    with tempfile.TemporaryDirectory() as out:
        run, spent = our_run(data, data_dir, out), 0.0
        while True:
            start = time.perf_counter()
            one_more_epoch(run, data)
            spent += time.perf_counter() - start
            _, error, _ = lenet.train.evaluate(run.model, data.test, run.config)
            if 1 - error >= GOAL:
                return spent


def error_after(steps: int, data: object, data_dir: Path) -> float:
    """Validation error after the first steps of the default recipe."""
    with tempfile.TemporaryDirectory() as out:
        run = our_run(data, data_dir, out)
        run.args.epochs = -(-steps // -(-len(data.train.labels) // BATCH))
        with contextlib.redirect_stdout(None):
            lenet.train.train(run, data, training.StopAfter(steps))
        return lenet.train.evaluate(run.model, data.validation, run.config)[1]


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = timing.parser(__doc__)
    training.add_data_dir(parser)
    args = timing.parse(parser, argv)
    with training.mnist(args.data_dir, args.quick) as data_dir:
        data = lenet.data.load("mnist", data_dir)
        timing.measure("lenet", lambda: pairs(data, data_dir), args)
        if args.data_dir and not args.quick:
            seconds = time_to_goal(data, data_dir)
            print(f"to 98.5 % {seconds:.2f} s, default recipe, seed 0", flush=True)
            errors = {steps: error_after(steps, data, data_dir) for steps in (172, 1720, 17200)}
            for steps, error in errors.items():
                print(f"after {steps} steps {error:.2%} validation error")
            print(f"peak memory {timing.peak_memory():.2f} GB")
            timing.add(args.json, seconds_to_goal=seconds, error_after=errors)
    return 0


if __name__ == "__main__":
    sys.exit(main())
