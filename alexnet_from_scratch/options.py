"""The flags of training, and what they are where the user leaves them open.

Read by `train.py` and `ablation.py`. The constants of `paper` are from the paper (sections 3
to 5) and, where it is silent, from the code that its authors released.
"""

import argparse

import checkpoint
import console
from augment import STRENGTH
from data import NAMES
from model import ACTIVATIONS, STARTS, VARIANTS
from optimization import WEIGHT_DECAY

PRESETS = {
    "small": {"variant": "paper", "batch_size": 32, "init": "he", "colour": STRENGTH},
    "paper": {"variant": "paper", "batch_size": 128, "init": None, "colour": STRENGTH,
              "image_size": 224, "width": 1.0, "lr": 0.01, "dropout": 0.5, "epochs": 90,
              "patience": 8},
}
SMALL_PICTURES = {"image_size": 28, "width": 0.375, "lr": 0.01, "dropout": 0.5, "epochs": 50,
                  "patience": 4}     # the small preset where pictures have under 64 pixels
LARGE_PICTURES = {"image_size": 112, "width": 0.25, "lr": 0.01, "dropout": 0.2, "epochs": 30,
                  "patience": 2}     # the small preset for all others
HOT = 0.02                # above this rate the paper's start diverges
# Kept by --resume: they make the model, the data or their order.
FIXED = ("data", "batch_size", "seed", "quick", "out_dir", "preset", "variant", "width",
         "image_size", "groups", "lrn", "overlap", "dropout", "activation", "init", "colour")
SWITCHES = ("groups", "lrn", "overlap", "dropout", "activation", "init")


def parser() -> argparse.ArgumentParser:
    """The parser of `train.py`."""
    parser = console.training_parser("Train AlexNet.", data=NAMES, length="epochs")
    add, open_to_preset = parser.add_argument, "(default: the preset's)"
    add("--preset", choices=PRESETS, default="small",
        help="for two cores and minutes, or all as in 2012 (default: small)")
    add("--variant", choices=VARIANTS, help="who describes the network (default: paper)")
    add("--width", metavar="X", type=console.positive_float,
        help=f"factor on channels and hidden layers {open_to_preset}")
    add("--image-size", metavar="N", type=console.positive_int,
        help=f"pixels that the network reads {open_to_preset}")
    add("--classes", metavar="N", type=console.positive_int,
        help="refuse to train if the data have another number of classes")
    add("--patience", metavar="N", type=console.positive_int,
        help=f"epochs without progress until the rate falls {open_to_preset}")
    add("--weight-decay", metavar="X", type=console.non_negative_float, default=WEIGHT_DECAY,
        help="pull of the weights towards zero (default: %(default)s)")
    add("--colour", metavar="X", type=console.non_negative_float,
        help="strength of the colour noise, 0 for none (default: 0.1)")
    add("--groups", metavar="N", type=int, choices=(1, 2),
        help="of convolutions 2, 4, 5 (default: the variant's)")
    add("--lrn", action=argparse.BooleanOptionalAction, default=None,
        help="local response normalisation (default: the variant's)")
    add("--overlap", action=argparse.BooleanOptionalAction, default=None,
        help="pooling windows that overlap (default: with)")
    add("--dropout", metavar="X", type=console.share,
        help=f"share of features left out {open_to_preset}")
    add("--activation", choices=ACTIVATIONS, help="default: relu")
    add("--init", choices=STARTS, help="where the weights start (default: the preset's)")
    return parser


def parse(argv: list[str] | None, folder: str) -> tuple[argparse.Namespace, dict | None]:
    """The options, and the checkpoint if a run is resumed."""
    args, saved = checkpoint.read_options(parser(), argv, folder, FIXED)
    if saved and parser().parse_args(argv).lr is not None:
        saved["rate"] = args.lr         # typed anew, so it wins over one that has fallen
    return args, saved


def set_defaults(args: argparse.Namespace, side: int) -> None:
    """What the flags leave open follows from the preset and the side of the pictures.

    Raises Refusal if there is too little for the network to see.
    """
    recipe = {**(SMALL_PICTURES if side < 64 else LARGE_PICTURES), **PRESETS[args.preset]}
    if args.quick:
        recipe |= {"epochs": 2, "patience": 2}
    for name, value in recipe.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    plan = VARIANTS[args.variant]
    for name in SWITCHES:
        if getattr(args, name) is None:
            setattr(args, name, getattr(plan, name))
    if args.image_size < 15:
        raise console.Refusal(f"{args.image_size} pixels are too few: three poolings would "
                              "leave nothing, so use an --image-size of 15 or more")
    if args.lr > HOT and args.init == "paper":
        console.say(f"warning: with the paper's start a rate of {args.lr:g} diverges as a "
                    f"rule: stay at {HOT} or below, or use --init he")
    args.log_every = args.log_every or -(-args.epochs // 15)
