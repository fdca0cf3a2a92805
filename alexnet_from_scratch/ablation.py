"""What is each part of AlexNet good for? Take one out at a time, train again, count errors.

    python ablation.py --data FOLDER --epochs 12 --width 0.25     # the table of parts
    python ablation.py --data FOLDER --rectifiers                 # ReLU against tanh, figure 1

Every row is trained from scratch with each seed, and the weights that validated best are
tested once. A difference smaller than the spread between seeds says nothing.
"""

# no tensors here: errors are shares from 0 to 1, the tables are in percent

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

import console
import devices
import options
from data import NAMES, QUICK, SHAPES, Data, load, typical_side
from evaluation import evaluate
from pictures import read_metrics
from train import Run, restore_best, train

WITHOUT = {   # what is taken out, and the flags that do it
    "nothing": [],
    "local response normalisation": ["--no-lrn"],
    "overlapping pooling": ["--no-overlap"],
    "dropout": ["--dropout", "0"],
    "ReLU (tanh instead)": ["--activation", "tanh"],
    "two groups (one instead)": ["--groups", "1"],
    "colour noise": ["--colour", "0"],
    "He's start (the paper's instead)": ["--init", "paper"],
}
PLAIN = ["--dropout", "0", "--colour", "0", "--weight-decay", "0", "--patience",
         "999"]        # as the paper's figure 1: no regularisation, and a rate that stays
RATES = (0.01, 0.03)   # each activation may choose the better
GOAL = 0.25        # training error of the paper's figure 1


def spread(values: list[float]) -> str:
    """Mean and standard deviation as two columns."""
    deviation = f"{statistics.stdev(values):.1f}" if len(values) > 1 else "-"
    return f"{statistics.mean(values):.1f} | {deviation}"


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=main.__doc__, allow_abbrev=False)
    console.add_data_flags(parser, NAMES, default="shapes")
    parser.add_argument("--epochs", metavar="N", type=console.positive_int,
                        help="epochs of each training (default: what suits the data)")
    parser.add_argument("--width", metavar="X", type=console.positive_float,
                        help="factor on channels and hidden layers (default: the preset's)")
    parser.add_argument("--seeds", metavar="N", type=console.seed, nargs="+", default=[0, 1, 2],
                        help="the seeds to train with (default: 0 1 2)")
    parser.add_argument("--only", metavar="PART", choices=tuple(WITHOUT), nargs="+",
                        default=list(WITHOUT), help="rows of the table (default: all)")
    parser.add_argument("--rectifiers", action="store_true",
                        help="epochs until a quarter of the training pictures is missed")
    parser.add_argument("--quick", action="store_true",
                        help="a smoke run: one epoch, the first seed, few pictures")
    parser.add_argument("--out", metavar="DIR", type=Path,
                        default=Path(__file__).with_name("runs"),
                        help="where results.json goes (default: runs/ in this folder)")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    args = parser.parse_args(argv)
    if args.quick:
        args.epochs, args.seeds = args.epochs or 1, args.seeds[:1]
    return args


def settings(flags: list[str], args: argparse.Namespace, seed: int) -> argparse.Namespace:
    """The options of a training with these flags."""
    typed = {"epochs": args.epochs, "width": args.width}
    same = [f"--{name}={value}" for name, value in typed.items() if value]
    mine = options.parser().parse_args([*same, *flags, "--seed", str(seed)])
    options.set_defaults(mine, typical_side(args.data))
    return mine


class Race(Run):
    """A run that ends with the first epoch in which training missed few enough."""

    reached = False

    @property
    def done(self) -> bool:
        """Whether the goal is reached, or all epochs were run."""
        return self.reached or super().done

    def finish_epoch(self, data: Data) -> None:
        """As any run does, but look at the training error before it is put away."""
        self.reached = self.error_sum < GOAL * self.seen
        super().finish_epoch(data)


def attempt(args: argparse.Namespace, data: Data, device: torch.device,
            stop: console.Stop, kind: type[Run] = Run) -> tuple[Run, list[dict]]:
    """A run that leaves nothing behind but its best weights and the rows of its metrics."""
    with tempfile.TemporaryDirectory() as folder:
        mine = argparse.Namespace(**{**vars(args), "out_dir": Path(folder), "log_every": 0})
        run = kind(mine, data, device)
        train(run, data, stop)
        if not stop.requested:
            restore_best(run)
        run.metrics.file.close()      # Windows removes no open file
        return run, read_metrics(run.metrics.path)


class Stopped(Exception):
    """Somebody has asked to stop, and the step at hand is done."""


class Laboratory:
    """Trains with flags and seeds on the same data, until somebody asks to stop."""

    def __init__(self, args: argparse.Namespace, stop: console.Stop) -> None:
        self.args, self.stop, self.device = args, stop, devices.choose("auto")
        size = settings([], args, 0).image_size
        counts = QUICK if args.quick else SHAPES
        data = load(args.data, args.data_dir, size, counts=counts)
        self.data = data.shortened(counts) if args.quick else data

    def trained(self, flags: list[str],
                kind: type[Run] = Run) -> Iterator[tuple[Run, list[dict]]]:
        """The finished run of each seed, with the rows of its metrics."""
        for seed in self.args.seeds:
            run, rows = attempt(settings(flags, self.args, seed), self.data, self.device,
                                self.stop, kind)
            if self.stop.requested:
                raise Stopped
            yield run, rows

    def errors(self, flags: list[str]) -> list[float]:
        """The test error of each seed in percent."""
        return [100 * evaluate(run.model, self.data.test, run.config)[1]
                for run, _ in self.trained(flags)]

    def epochs_to_goal(self, flags: list[str]) -> list[float | None]:
        """The epoch of each seed in which training first missed under a quarter of pictures."""
        first = []
        for _, rows in self.trained(flags, Race):
            reached = [row["epoch"] for row in rows if row["train_error"] < GOAL]
            first.append(reached[0] if reached else None)
        return first


def print_parts(laboratory: Laboratory, only: list[str]) -> dict[str, list[float]]:
    """The table of what each part is good for; the errors, from 0 to 1, by what is left out."""
    found = {}
    print("| without | test error (%), each seed | mean | standard deviation |")
    print("|---|---|---|---|", flush=True)
    for name in only:
        errors = laboratory.errors(WITHOUT[name])
        found[name] = [error / 100 for error in errors]
        each = ", ".join(f"{error:.1f}" for error in errors)
        print(f"| {name} | {each} | {spread(errors)} |", flush=True)
    return found


def print_rectifiers(laboratory: Laboratory) -> dict[str, list[float | None]]:
    """The table of how fast both activations learn, each at two rates; None: not reached."""
    found = {}
    print("| activation | rate | epochs to 25 % training error, each seed |")
    print("|---|---|---|", flush=True)
    for name in ("relu", "tanh"):
        for rate in RATES:
            flags = [*PLAIN, "--activation", name, "--lr", str(rate)]
            epochs = found[f"{name}, {rate}"] = laboratory.epochs_to_goal(flags)
            each = ", ".join("not reached" if epoch is None else f"{epoch:.0f}"
                             for epoch in epochs)
            print(f"| {name} | {rate} | {each} |", flush=True)
    return found


@console.one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Print the table of parts, or the race of both activations."""
    args = parse(argv)
    with console.Stop() as stop:
        laboratory = Laboratory(args, stop)
        try:
            found = ({"epochs": print_rectifiers(laboratory)} if args.rectifiers else
                     {"test_error": print_parts(laboratory, args.only)})
        except Stopped:
            return stop.exit_code
    console.write_results(args.out, "ablation.py", args, **found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
