"""What is each part of the encoder good for? Take one away, train again, count what is right.

    python ablation.py                       # the hard sentences
    python ablation.py --data my_texts.csv --only nothing positions

Every row is trained from scratch with each seed, and the weights that validated best are
tested once. A difference smaller than the spread between seeds says nothing.
"""

# no tensors here: accuracies are shares from 0 to 1, the tables are in percent

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import torch

import console
import devices
import measures
import options
import pictures
from data import NAMES, Data, load
from train import QUICK, Run, evaluate, restore_best, train

WITHOUT = {   # what is taken out, and the flags that do it
    "nothing": [],
    "positions": ["--no-positions"],
    "warm-up": ["--warm-up", "1"],           # fading from the first step
    "smoothing": ["--smoothing", "0"],
    "hidden-words": ["--hide", "0"],
    "post-norm": ["--norm", "pre"],          # pre-norm instead
    "relu": ["--activation", "gelu"],        # GELU instead
}
GRID = [(layers, heads) for layers in (1, 2, 3) for heads in (1, 4)]


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=main.__doc__, allow_abbrev=False)
    console.add_data_flags(parser, NAMES, default="hard")
    add = parser.add_argument
    add("--epochs", metavar="N", type=console.positive_int,
        help="epochs of each training (default: what suits the data)")
    add("--seeds", metavar="N", type=console.seed, nargs="+", default=[0, 1, 2],
        help="the seeds to train with (default: 0 1 2)")
    table = parser.add_mutually_exclusive_group()
    table.add_argument("--only", metavar="PART", choices=tuple(WITHOUT), nargs="+",
                       default=list(WITHOUT), help="rows of the table (default: all)")
    table.add_argument("--sizes", action="store_true",
                       help="instead: accuracy by layers and heads, drawn")
    add("--out", metavar="DIR", type=Path, default=Path(__file__).with_name("runs"),
        help="where results.json and sizes.png go (default: runs/ in this folder)")
    add("--quick", action="store_true", help="a smoke run: one epoch, the first seed")
    add("--debug", action="store_true", help="show the traceback of an error")
    args = parser.parse_args(argv)
    if args.quick:
        args.epochs, args.seeds = args.epochs or 1, args.seeds[:1]
    return args


def attempt(args: argparse.Namespace, data: Data, device: torch.device,
            stop: console.Stop) -> Run:
    """A run that leaves nothing behind but its averaged weights, those that validated best."""
    with tempfile.TemporaryDirectory() as folder:
        mine = argparse.Namespace(**{**vars(args), "out_dir": Path(folder), "log_every": 0})
        run = Run(mine, data, device)
        train(run, stop)
        if not stop.requested:
            restore_best(run)
        run.metrics.file.close()      # Windows removes no open file
    return run


class Stopped(Exception):
    """Somebody has asked to stop, and the step at hand is done."""


def accuracies(flags: list[str], args: argparse.Namespace, data: Data,
               stop: console.Stop) -> list[float]:
    """The test accuracy of each seed, in percent, of a training with these flags."""
    length = [f"--epochs={args.epochs}"] if args.epochs else []
    found = []
    for seed in args.seeds:
        mine = options.parser().parse_args(["--data", args.data, *length, *flags, "--seed",
                                            str(seed)])
        options.set_defaults(mine)
        run = attempt(mine, data, devices.choose("auto"), stop)
        if stop.requested:
            raise Stopped
        found.append(100 * evaluate(run.average, run.test)[1])
    return found


def spread(values: list[float]) -> str:
    """Each value, mean and standard deviation, as columns of a table."""
    deviation = f"{statistics.stdev(values):.1f}" if len(values) > 1 else "-"
    each = ", ".join(f"{value:.1f}" for value in values)
    return f"{each} | {statistics.mean(values):.1f} | {deviation}"


def print_linear(data: Data) -> dict[str, list[float]]:
    """The rows of the models that count sequences of words; their accuracies in percent."""
    found = {}
    for name, answers in measures.linear_answers(data).items():
        right = 100 * (answers == data.test.labels).double().mean().item()
        print(f"| {name} on one to three words in a row | {right:.1f} | {right:.1f} | - |",
              flush=True)
        found[name] = [right]
    return found


@console.one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Print the table of parts, or of sizes."""
    args = parse(argv)
    data = load(args.data, args.data_dir)
    data = data.shortened(QUICK) if args.quick else data
    rows = {f"{layers} layers, {heads} heads": ["--layers", str(layers), "--heads", str(heads)]
            for layers, heads in GRID}
    rows = rows if args.sizes else {name: WITHOUT[name] for name in args.only}
    print(f"| {'size' if args.sizes else 'without'} | test accuracy (%), each seed | mean | "
          "standard deviation |\n|---|---|---|---|", flush=True)
    found = {}
    with console.Stop() as stop:
        try:
            for name, flags in rows.items():
                found[name] = accuracies(flags, args, data, stop)
                print(f"| {name} | {spread(found[name])} |", flush=True)
        except Stopped:
            return stop.exit_code
    if args.sizes:
        pictures.draw_sizes(dict(zip(GRID, found.values())), args.out / "sizes.png")
        console.say(f"wrote {console.from_here(args.out / 'sizes.png')}")
    else:
        found |= print_linear(data)
    console.write_results(args.out, "ablation.py", args, test_accuracy={
        name: [value / 100 for value in values] for name, values in found.items()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
