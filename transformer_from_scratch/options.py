"""The flags of training, and what they are where the user leaves them open.

Read by `train.py` and `ablation.py`; the numbers were found on validation texts.
"""

import argparse

import checkpoint
import console
from data import NAMES
from model import ACTIVATIONS, NORMS, SETTINGS
from optimization import highest_rate

RECIPES = {    # for the drawn sentences, and for texts that people wrote
    "drawn": {"epochs": 20, "batch_size": 32, "warm_up": 200, "channels": 64, "heads": 4,
              "layers": 2, "hidden": 256, "dropout": 0.1, "hide": 0.1, "least": 1,
              "embedding_std": 1.0, "patience": 6},
    "own": {"epochs": 30, "batch_size": 32, "lr": 2e-3, "warm_up": 400, "channels": 64,
            "heads": 4, "layers": 1, "hidden": 64, "dropout": 0.5, "hide": 0.6, "least": 2,
            "embedding_std": 0.1, "patience": 6},
}
# Kept by --resume: they make the model, the data or their order.
FIXED = ("data", "batch_size", "seed", "quick", "out_dir", "least", "warm_up",
         *SETTINGS)


def parser() -> argparse.ArgumentParser:
    """The parser of `train.py`."""
    parser = console.training_parser("Train the Transformer's encoder to classify texts.",
                                     data=NAMES, length="epochs")
    add, open_to_data = parser.add_argument, "(default: what suits the data)"
    sizes = {"layers": "blocks", "channels": "numbers for a word",
             "heads": "attentions of a block", "hidden": "features of the feed-forward layers",
             "least": "occurrences of a word that is known",
             "warm-up": "steps in which the rate rises",
             "patience": "epochs without a better validation until training ends"}
    for name, meaning in sizes.items():
        add(f"--{name}", metavar="N", type=console.positive_int,
            help=f"{meaning} {open_to_data}")
    add("--longest", metavar="N", type=console.positive_int, default=128,
        help="words that are read of a text (default: %(default)s)")
    add("--dropout", metavar="X", type=console.share,
        help=f"share of numbers left out {open_to_data}")
    add("--hide", metavar="X", type=console.share,
        help=f"share of the words replaced by the unknown one {open_to_data}")
    add("--embedding-std", metavar="X", type=console.positive_float,
        help=f"size of a word's numbers at the start; waves have 0.7 {open_to_data}")
    add("--smoothing", metavar="X", type=console.share, default=0.1,
        help="share of the truth that is spread over all classes (default: %(default)s)")
    add("--weight-decay", metavar="X", type=console.non_negative_float, default=0.0,
        help="pull of the matrices towards zero (default: none)")
    add("--norm", choices=NORMS, default="post",
        help="normalise the sum, or what a sub-layer reads (default: post)")
    add("--activation", choices=ACTIVATIONS, default="relu", help="default: relu")
    add("--positions", action=argparse.BooleanOptionalAction, default=True,
        help="whether a word knows where it stands (default: yes)")
    return parser


def parse(argv: list[str] | None, folder: str) -> tuple[argparse.Namespace, dict | None]:
    """The options, and the checkpoint if a run is resumed."""
    return checkpoint.read_options(parser(), argv, folder, FIXED)


def set_defaults(args: argparse.Namespace) -> None:
    """What the flags leave open follows from the data.

    Raises Refusal if the heads cannot share the channels.
    """
    recipe = dict(RECIPES["drawn" if args.data in NAMES else "own"])
    if args.quick:
        recipe |= {"epochs": 2, "warm_up": 10, "lr": 2e-3}
    for name, value in recipe.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if args.channels % args.heads:
        raise console.Refusal(f"{args.channels} channels cannot be shared among {args.heads} "
                              f"heads: choose a multiple of {args.heads}")
    args.lr = args.lr or highest_rate(args.channels, args.warm_up)
    args.log_every = args.log_every or -(-args.epochs // 15)
