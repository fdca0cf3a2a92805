"""The flags of training, and what they are where the user leaves them open.

Read by `train.py` and `ablation.py`; the numbers were found on validation pictures.
"""

import argparse

import checkpoint
import console
from data import NAMES
from model import ACTIVATIONS, STARTS

RECIPES = {
    "large": {"epochs": 30, "batch_size": 64, "lr": 3e-3, "weight_decay": 2e-2,
              "dropout": 0.0, "augment": 0.8, "smoothing": 0.02},
    "small": {"epochs": 60, "batch_size": 32, "lr": 4e-3, "weight_decay": 5e-2,
              "dropout": 0.1, "augment": 1.0, "smoothing": 0.05},
}
SMALL = 10_000  # pictures; with fewer, an epoch has few steps and more of them are needed
RATES = {"sgd": 10}    # SGD's rate is that many times AdamW's, whose steps have a fixed size
# Kept by --resume: the rate is a function of the step and of how many there will be.
FIXED = ("data", "batch_size", "epochs", "seed", "quick", "out_dir", "optimizer", "schedule",
         "activation", "batch_norm", "dropout", "init", "augment")


def parser() -> argparse.ArgumentParser:
    """The parser of `train.py`."""
    parser = console.training_parser("Train LeNet-5's plan with what was learned since.",
                                     data=NAMES, length="epochs")
    add, open_to_data = parser.add_argument, "(default: what suits the data)"
    add("--optimizer", choices=("adamw", "sgd"), default="adamw",
        help="sgd has Nesterov's momentum of 0.9 (default: adamw)")
    add("--schedule", choices=("one-cycle", "cosine", "constant"), default="one-cycle",
        help="the rate over the run; --lr is its highest (default: one-cycle)")
    add("--weight-decay", metavar="X", type=console.non_negative_float,
        help=f"pull of the weights towards zero {open_to_data}")
    add("--smoothing", metavar="X", type=console.share,
        help=f"share of the truth that is spread over all classes {open_to_data}")
    add("--augment", metavar="X", type=console.non_negative_float,
        help=f"strength of the distortions, 0 for none {open_to_data}")
    add("--patience", metavar="N", type=console.positive_int,
        help="stop after N epochs without a better validation (default: half of all)")
    add("--activation", choices=ACTIVATIONS, default="relu", help="default: relu")
    add("--batch-norm", action=argparse.BooleanOptionalAction, default=True,
        help="batch normalisation (default: with)")
    add("--dropout", metavar="X", type=console.share,
        help=f"share of the 120 and of the 84 features left out {open_to_data}")
    add("--init", choices=STARTS, default="he",
        help="where the weights start: He's, or PyTorch's own (default: he)")
    add("--tune", metavar="N", type=console.positive_int,
        help="do not train: try N settings, the better ones for longer, and say the best")
    return parser


def parse(argv: list[str] | None, folder: str) -> tuple[argparse.Namespace, dict | None]:
    """The options, and the checkpoint if a run is resumed."""
    typed = parser().parse_args(argv)
    if typed.tune and typed.resume is not None:
        raise console.Refusal("a search goes on by itself: leave --resume out")
    args, saved = checkpoint.read_options(parser(), argv, folder, FIXED)
    if args.quick and args.data == "auto":
        args.data = "digits"
    return args, saved


def set_defaults(args: argparse.Namespace, pictures: int) -> None:
    """What the flags leave open follows from the number of training pictures.

    Raises Refusal if batches are too small for batch normalisation.
    """
    recipe = dict(RECIPES["small" if pictures < SMALL else "large"])
    recipe["lr"] *= RATES.get(args.optimizer, 1)
    if args.quick:
        recipe["epochs"] = 2
    for name, value in recipe.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if args.batch_size == 1 and args.batch_norm:
        raise console.Refusal("batch normalisation needs two pictures a batch: use a larger "
                              "--batch-size, or --no-batch-norm")
    args.patience = args.patience or max(1, args.epochs // 2)
    args.log_every = args.log_every or -(-args.epochs // 15)
