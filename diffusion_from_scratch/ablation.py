"""What is each part of the recipe good for? Change one at a time, train again, measure digits.

    python ablation.py --steps 600                      # the table
    python ablation.py --only nothing from-0-to-1       # some of its rows

Every row is trained from scratch with the same batches, and drawn with the same noise. The
Fréchet distance is measured by the judge; real digits, as many, are the floor. The last four
rows train nothing: they are other ways to draw with the model in which nothing is changed.
"""

# N pictures, F features

import argparse
import sys
import tempfile
from pathlib import Path

import console
import devices
import options
from data import QUICK, Data, load
from diffusion import Sampling
from evaluate import as_floats, spread_out
from judge import Judge, open_judge, others
from measures import frechet
from painter import Painter
from run import Run
from train import train

BASE = "nothing"
ROUGH = 5            # steps of drawing in a smoke run
CHANGES = {   # what is changed, and the flags that do it
    BASE: [],
    "predict-x0": ["--predict", "x0"],
    "predict-noise": ["--predict", "noise"],
    "min-snr": ["--gamma", "5"],
    "linear": ["--schedule", "linear"],
    "200-times": ["--times", "200", "--schedule", "linear"],
    "200-times-unscaled": ["--times", "200", "--schedule", "unscaled"],
    "from-0-to-1": ["--no-centre"],
}
WAYS = {   # how else to draw with the first model; "last" are its weights without average
    "no-ema": {"last": True},
    "no-clipping": {"clip": False},
    "ddim-10-steps": {"steps": 10},
    "ddpm-50-steps": {"sampler": "ddpm"},
}


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=main.__doc__, allow_abbrev=False)
    add = parser.add_argument
    console.add_data_flags(parser, ("digits", "mnist"), default="digits")
    add("--steps", metavar="N", type=console.positive_int, help="of each training")
    add("--count", metavar="N", type=console.positive_int,
        help="digits to draw for a row (default: 450, in smoke runs 100)")
    add("--seed", metavar="N", type=console.seed, default=0, help="default: 0")
    add("--only", metavar="ROW", choices=(*CHANGES, *WAYS), nargs="+",
        default=[*CHANGES, *WAYS],
        help=f"rows of the table, of {', '.join([*CHANGES, *WAYS])} (default: all)")
    add("--quick", action="store_true", help="a smoke run: a small network, few steps")
    add("--out", metavar="DIR", type=Path, default=Path(__file__).with_name("runs"),
        help="where results.json goes (default: runs/ in this folder)")
    add("--debug", action="store_true", help="show the traceback of an error")
    args = parser.parse_args(argv)
    args.count = args.count or (100 if args.quick else 450)
    if args.count < 100:
        parser.error("argument --count: a distance needs at least 100 pictures")
    return args


def settings(flags: list[str], args: argparse.Namespace, folder: str) -> argparse.Namespace:
    """The options of a training with these flags."""
    same = ["--data", args.data, "--seed", str(args.seed), "--out-dir", folder]
    same += ["--quick"] * args.quick
    same += ["--steps", str(args.steps)] if args.steps else []
    mine = options.parser().parse_args([*same, *flags])
    options.set_defaults(mine)
    mine.log_every = mine.steps                    # one evaluation, at the end
    return mine


class Silent(Run):
    """A run of which only the weights are of interest."""

    def show(self, row: tuple[float, ...]) -> None:
        """Print and draw nothing."""


class Laboratory:
    """Trains with flags on the same data, and measures what is drawn."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.device = args, devices.choose("auto")
        data = load(args.data, args.data_dir)
        self.data: Data = data.shortened(QUICK) if args.quick else data
        self.judge: Judge = open_judge()
        self.real, _ = self.judge.judge(as_floats(self.data.test))
        self.found: dict[str, dict[str, float]] = {}

    def trained(self, flags: list[str], stop: console.Stop) -> Run:
        """A finished run that leaves nothing behind; it was stopped if somebody asked."""
        with tempfile.TemporaryDirectory() as folder:
            run = Silent(settings(flags, self.args, folder), self.data, self.device)
            train(run, stop)
            run.metrics.file.close()      # Windows removes no open file
        return run

    def row(self, name: str, painter: Painter, how: Sampling) -> None:
        """Draw, measure, and print."""
        most = ROUGH if self.args.quick else painter.config["times"]
        how = how._replace(steps=min(how.steps, most))
        drawn = painter.samples(self.args.count, how, self.args.seed)  # (N, 1, 28, 28)
        features, answers = self.judge.judge(drawn)                    # (N, F), (N,)
        right = (answers == painter.labels(len(drawn))).double().mean().item()
        distance = frechet(features, self.real)
        print(f"| {name} | {distance:.4f} | {right:.1%} |", flush=True)
        self.found[name] = {"distance": distance, "as_asked": right}

    def floor(self) -> None:
        """The row of real digits."""
        floor = spread_out(others(self.data), self.args.count)
        features, _ = self.judge.judge(as_floats(floor))               # (N, F), (N,)
        distance = frechet(features, self.real)
        print(f"| real digits | {distance:.4f} | |", flush=True)
        self.found["real digits"] = {"distance": distance}


@console.one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Train with one thing changed at a time, draw digits, and print how good they are."""
    args = parse(argv)
    laboratory, first = Laboratory(args), None
    print("| changed | distance | as asked |\n|---|---|---|")
    laboratory.floor()
    with console.Stop() as stop:
        for name, flags in CHANGES.items():
            wanted = name in args.only or name == BASE and set(WAYS) & set(args.only)
            if not wanted:
                continue
            run = laboratory.trained(flags, stop)
            if stop.requested:
                return stop.exit_code
            first = first or run
            run.judged.eval()
            if name in args.only:
                laboratory.row(name, run.painter, Sampling())
    for name in [name for name in WAYS if name in args.only]:
        way = {"last": False, **WAYS[name]}
        network = first.model.eval() if way.pop("last") else first.judged
        laboratory.row(name, Painter(network, first.config, first.device), Sampling(**way))
    console.write_results(args.out, "ablation.py", args, rows=laboratory.found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
