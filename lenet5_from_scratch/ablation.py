"""What is each modern part good for? Take one out at a time, train again, and count errors.

    python ablation.py --data digits                # a table in about ten minutes
    python ablation.py --data mnist --epochs 4      # in half an hour

Every row is trained from scratch with each seed, and the weights that validated best are
tested once. A difference smaller than the spread between seeds says nothing.
"""

# no tensors here: errors are shares from 0 to 1, the table is in percent

import argparse
import statistics
import sys
from pathlib import Path

import torch

import console
import devices
import options
from data import NAMES, load
from train import attempt, evaluate

WITHOUT = {   # what is taken out, and the flags that do it
    "nothing": [],
    "ReLU (tanh instead)": ["--activation", "tanh"],
    "batch normalisation": ["--no-batch-norm"],
    "dropout": ["--dropout", "0"],
    "nothing (dropout of 0.2 added)": ["--dropout", "0.2"],
    "He's start (PyTorch's instead)": ["--init", "pytorch"],
    "AdamW (SGD instead)": ["--optimizer", "sgd"],
    "one-cycle (constant rate instead)": ["--schedule", "constant"],
    "label smoothing": ["--smoothing", "0"],
    "distorted pictures": ["--augment", "0"],
    "all of it": ["--activation", "tanh", "--no-batch-norm", "--dropout", "0", "--init",
                  "pytorch", "--optimizer", "sgd", "--schedule", "constant", "--smoothing", "0",
                  "--augment", "0"],
}


def row(name: str, errors: list[float]) -> str:
    """A row of the table in Markdown: each seed, the mean, and the standard deviation."""
    each = ", ".join(f"{100 * error:.2f}" for error in errors)
    spread = f"{100 * statistics.stdev(errors):.2f}" if len(errors) > 1 else "-"
    return f"| {name} | {each} | {100 * statistics.mean(errors):.2f} | {spread} |"


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=main.__doc__, allow_abbrev=False)
    console.add_data_flags(parser, NAMES, default="digits")
    parser.add_argument("--epochs", metavar="N", type=console.positive_int,
                        help="epochs of each training (default: what suits the data)")
    parser.add_argument("--seeds", metavar="N", type=console.seed, nargs="+", default=[0, 1, 2],
                        help="the seeds to train with (default: 0 1 2)")
    parser.add_argument("--only", metavar="PART", choices=tuple(WITHOUT), nargs="+",
                        default=list(WITHOUT), help="rows of the table (default: all)")
    parser.add_argument("--quick", action="store_true",
                        help="a smoke run: one epoch and the first seed")
    parser.add_argument("--out", metavar="DIR", type=Path,
                        default=Path(__file__).with_name("runs"),
                        help="where results.json goes (default: runs/ in this folder)")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    args = parser.parse_args(argv)
    if args.quick:
        args.epochs, args.seeds = args.epochs or 1, args.seeds[:1]
    return args


def settings(name: str, args: argparse.Namespace, pictures: int,
             seed: int) -> argparse.Namespace:
    """The options of the training without a part."""
    length = ["--epochs", args.epochs, "--patience", args.epochs] if args.epochs else []
    flags = [*length, *WITHOUT[name], "--seed", seed]
    mine = options.parser().parse_args([str(flag) for flag in flags])
    options.set_defaults(mine, pictures)
    return mine


@console.one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Print the table of what each part is good for."""
    args = parse(argv)
    data, device = load(args.data, Path(args.data_dir)), devices.choose("auto")
    torch.set_num_threads(1)   # as in train.py
    pictures = len(data.train.labels)
    print("| without | test error (%), each seed | mean | standard deviation |")
    print("|---|---|---|---|", flush=True)
    table = {}
    with console.Stop() as stop:
        for name in args.only:
            errors = table[name] = []
            for seed in args.seeds:
                mine = settings(name, args, pictures, seed)
                if name != "nothing" and mine == settings("nothing", args, pictures, seed):
                    break                      # the recipe for these data lacks this part
                run = attempt(mine, data, device, stop)
                if stop.requested:
                    return stop.exit_code
                errors.append(evaluate(run.model, data.test, run.config)[1])
            print(row(name, errors) if errors else f"| {name} | not used here | - | - |",
                  flush=True)
    console.write_results(args.out, "ablation.py", args, test_error=table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
