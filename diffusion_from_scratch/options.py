"""The flags of training, and what they are where the user leaves them open."""

import argparse

import checkpoint
import console
import schedule
from data import NAMES
from diffusion import PREDICTIONS
from model import PRESETS, SETTINGS

RECIPES = {
    "digits": {"width": 32, "steps": 2800, "batch_size": 32, "lr": 2e-3, "flip": False},
    "mnist": {"width": 48, "steps": 2200, "batch_size": 64, "lr": 2e-3, "flip": False},
    "cifar10": {"width": 64, "steps": 20_000, "batch_size": 64, "lr": 1e-3, "flip": True},
    "own": {"width": 48, "steps": 4000, "batch_size": 32, "lr": 1e-3, "flip": False},
}
SHARED = {"schedule": "cosine", "predict": "v", "ema": 0.999, "warm_up": 100, "falls": True,
          "weight_decay": 0.01, "drop_labels": 0.1}
PAPER = {"schedule": "linear", "predict": "noise", "ema": 0.9999, "warm_up": 5000,
         "falls": False, "weight_decay": 0.0, "drop_labels": 0.1, "steps": 800_000,
         "batch_size": 128, "lr": 2e-4, "flip": True}
QUICK = {"steps": 30, "batch_size": 16, "warm_up": 5}
LINES = 15           # evaluations of a run
# Kept by --resume: they make the model, the data or their order.
FIXED = ("data", "batch_size", "seed", "quick", "out_dir", "preset", "image_size", "schedule",
         "times", "predict", "gamma", "ema", "drop_labels", "flip", "centre", "labels",
         *SETTINGS)


def parser() -> argparse.ArgumentParser:
    """The parser of `train.py`."""
    parser = console.training_parser("Train a diffusion model.", data=NAMES, length="steps")
    add, open_to_preset = parser.add_argument, "(default: the preset's)"
    yes_or_no = argparse.BooleanOptionalAction
    add("--preset", choices=("small", "paper"), default="small",
        help="for two cores and minutes, or the paper's network and recipe (default: small)")
    add("--width", metavar="N", type=console.positive_int,
        help=f"channels of the first maps {open_to_preset}")
    add("--dropout", metavar="X", type=console.share,
        help=f"share of numbers left out in blocks {open_to_preset}")
    add("--schedule", choices=schedule.NAMES,
        help=f"how fast noise is added; unscaled: too little in few --times {open_to_preset}")
    add("--times", metavar="N", type=console.positive_int, default=1000,
        help="steps in which a picture becomes noise (default: %(default)s)")
    add("--predict", choices=PREDICTIONS,
        help=f"what the network says of a noisy picture {open_to_preset}")
    add("--gamma", metavar="X", type=console.positive_float,
        help="the most that a picture's error may count, 5 in the paper of min-SNR (default: "
             "no limit, the output's error counts alike at all times)")
    add("--ema", metavar="X", type=console.share,
        help=f"share that averaged weights keep in an update, 0: no average {open_to_preset}")
    add("--drop-labels", metavar="X", type=console.share,
        help="share of labels that is withheld, for guidance (default: 0.1)")
    add("--labels", action=yes_or_no, default=True, help="tell the network what it shows")
    add("--flip", action=yes_or_no, default=None,
        help="mirror half of the pictures (default: photographs of cifar10)")
    add("--centre", action=yes_or_no, default=True,
        help="pixels from -1 to 1; without it from 0 to 1")
    add("--warm-up", metavar="N", type=console.natural,
        help=f"steps in which the rate rises {open_to_preset}")
    add("--weight-decay", metavar="X", type=console.non_negative_float,
        help=f"pull of the matrices towards zero {open_to_preset}")
    add("--clip", metavar="X", type=console.non_negative_float, default=1.0,
        help="length to which a longer gradient is cut, 0 for none (default: %(default)s)")
    add("--image-size", metavar="N", type=console.positive_int,
        help="side of the squares that a folder's pictures become (default: as they are)")
    return parser


def parse(argv: list[str] | None, folder: str) -> tuple[argparse.Namespace, dict | None]:
    """The options, and the checkpoint if a run is resumed."""
    return checkpoint.read_options(parser(), argv, folder, FIXED)


def set_defaults(args: argparse.Namespace, processes: int = 1) -> None:
    """What the flags leave open follows from preset and data.

    Raises Refusal for a size where pictures have their own, or a batch that cannot be shared.
    """
    if args.image_size and args.data in NAMES:
        raise console.Refusal(f"{args.data} has pictures of one size: leave out --image-size, "
                              "which is for folders")
    recipe = {**PRESETS["small"], **SHARED, **RECIPES.get(args.data, RECIPES["own"])}
    if args.preset == "paper":
        recipe |= {**PRESETS["paper"], **PAPER, "flip": recipe["flip"]}
    if args.quick:
        recipe |= {**PRESETS["tiny"], **QUICK}
    for name, value in recipe.items():
        if getattr(args, name, None) is None:
            setattr(args, name, value)
    if args.batch_size < processes:
        raise console.Refusal(f"a batch of {args.batch_size} cannot be shared among "
                              f"{processes} processes: use a larger --batch-size")
    args.log_every = args.log_every or -(-args.steps // (2 if args.quick else LINES))
