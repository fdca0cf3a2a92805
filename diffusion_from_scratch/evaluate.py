"""Are drawn digits good? Everything that can be counted, beside the same of real digits.

    python evaluate.py                                 # the newest run, else the pretrained
    python evaluate.py --data-dir DIR --count 2000     # of a model of MNIST
    python evaluate.py --guidance 1                    # what guidance buys, and what it costs
"""

# N drawn pictures, K real ones, F features

import argparse
import sys
import time

import torch
from torch import Tensor

import console
import devices
from asking import add_sampling_flags, sampling_of
from data import Data, Part, load, on_disk
from judge import Judge, open_judge, others
from measures import Quality, compare, nearest
from painter import Painter

LOOKED_AT = 500      # pictures whose nearest training pictures are sought


def as_floats(part: Part) -> Tensor:
    """The pictures of a part from 0 to 1."""
    return part.images.float() / 255                                   # (N, 1, 28, 28)


def spread_out(part: Part, count: int) -> Part:
    """At most so many pictures of a part, taken evenly from all of it."""
    count = min(count, len(part.images))
    return part.some(torch.arange(count) * len(part.images) // count)


def row(name: str, quality: Quality, answers: Tensor, labels: Tensor | None) -> dict:
    """Print a row of the table; its numbers, the last one None if no digit was asked for.

    `answers` are what the judge took the digits for (N,), `labels` what was asked for.
    """
    right = None if labels is None else (answers == labels).double().mean().item()
    print(f"{name:24} {len(answers):7,} {quality.distance:9.4f} {quality.precision:10.3f} "
          f"{quality.recall:7.3f} {'-' if right is None else format(right, '.1%'):>9}")
    return {**quality._asdict(), "as_asked": right}


def say_quality(judge: Judge, drawn: Tensor, labels: Tensor | None, data: Data) -> dict:
    """The table of drawn digits (N, 1, 28, 28), and of as many real ones, and its numbers."""
    real, _ = judge.judge(as_floats(data.test))                        # (K, F), (K,)
    features, answers = judge.judge(drawn)                             # (N, F), (N,)
    floor = spread_out(others(data), len(drawn))
    theirs, said = judge.judge(as_floats(floor))
    print(f"{'against ' + format(len(real), ',') + ' test digits':24} {'count':>7} "
          f"{'distance':>9} {'precision':>10} {'recall':>7} {'as asked':>9}")
    return {"drawn": row("drawn", compare(features, real), answers, labels),
            "real": row("real, the floor", compare(theirs, real), said, floor.labels)}


def say_memory(drawn: Tensor, data: Data) -> dict:
    """Whether samples are copies of training pictures: nearer to one than any test picture is.

    Test pictures cannot be copies, so the nearest of them shows how alike two writers can be.
    """
    train = as_floats(data.train)
    test = as_floats(spread_out(data.test, LOOKED_AT))
    ours, theirs = (nearest(x, train)[1] for x in (drawn[:LOOKED_AT], test))
    copies = int((ours < theirs.min()).sum())
    print(f"nearest training picture {255 * ours.median():.1f} grey levels away in the median, "
          f"{255 * ours.min():.1f} at least; of test digits {255 * theirs.median():.1f} and "
          f"{255 * theirs.min():.1f}; {copies} copies among {len(ours)}")
    return {"copies": copies, "nearest": 255 * ours.min().item(),
            "nearest_median": 255 * ours.median().item(),
            "test_nearest": 255 * theirs.min().item(),
            "test_nearest_median": 255 * theirs.median().item()}


def data_of(painter: Painter, args: argparse.Namespace) -> Data:
    """The digits to compare with. Raises Refusal if the model draws something else."""
    name = args.data or painter.config["data"]
    if name not in ("digits", "mnist"):
        raise console.Refusal("the judge knows digits only: --data is digits or mnist, and "
                              f"{name} is neither")
    if name == "mnist" and not args.data and not on_disk(name, args.data_dir):
        raise console.Refusal("mnist is not on this disk: say where with --data-dir, or --data "
                              "mnist to fetch it")
    if tuple(painter.config["shape"]) != (1, 28, 28):
        raise console.Refusal("the judge reads grey pictures of 28×28 pixels, this model draws "
                              f"{'×'.join(map(str, painter.config['shape']))}")
    return load(name, args.data_dir)


@console.one_line_errors
@torch.no_grad()
def main(argv: list[str] | None = None) -> int:
    """Draw many digits, and print the table."""
    parser = console.inference_parser("Measure a trained diffusion model of digits.")
    add = parser.add_argument
    add("--count", metavar="N", type=console.positive_int, default=1000,
        help="digits to draw (default: %(default)s)")
    add("--last", action="store_true", help="with the last weights instead of the average")
    add_sampling_flags(parser)
    console.add_data_flags(parser, ("digits", "mnist"), default=None)
    args = parser.parse_args(argv)
    if args.count < 100:
        parser.error("argument --count: a distance needs at least 100 pictures")
    painter = Painter.open(args.checkpoint, devices.choose(args.device), args.last)
    data, how = data_of(painter, args), sampling_of(args, painter.config["times"])
    labels = painter.labels(args.count)                                # (N,)
    started = time.monotonic()
    drawn = painter.samples(args.count, how, args.seed)                # (N, 1, 28, 28)
    seconds = time.monotonic() - started
    print(f"{how.sampler}, {how.steps} steps, guidance {how.guidance:g}: {args.count:,} digits "
          f"in {seconds:.1f} s; pixels from {drawn.min():.2f} to {drawn.max():.2f}")
    found = say_quality(open_judge(), drawn, labels, data)
    console.write_results(args.out, "evaluate.py", args, seconds=seconds, **found,
                          **say_memory(drawn, data))
    return 0


if __name__ == "__main__":
    sys.exit(main())
