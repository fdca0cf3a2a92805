"""The flags of training, and what they are where the user leaves them open.

Read by `train.py`, `sweep.py` and `collapse.py`; the numbers were found on validation pictures.
"""

import argparse

import checkpoint
import console
from data import NAMES, SIDES
from model import ACTIVATIONS, LIKELIHOODS, NETWORKS, SETTINGS

RECIPES = {
    "creatures": {"epochs": 16, "batch_size": 64, "lr": 4e-3, "latents": 32, "width": 32,
                  "network": "conv", "activation": "silu", "likelihood": "gaussian",
                  "binarise": False, "beta_warm_up": 500, "beta": 20.0},
    "mnist": {"epochs": 14, "batch_size": 100, "lr": 2e-3, "latents": 32, "width": 32,
              "network": "conv", "activation": "silu", "likelihood": "bernoulli",
              "binarise": True, "beta_warm_up": 1000, "beta": 1.0},
    "own": {"epochs": 30, "batch_size": 32, "lr": 2e-3, "latents": 32, "width": 32,
            "network": "conv", "activation": "silu", "likelihood": "gaussian",
            "binarise": False, "beta_warm_up": 500, "beta": 1.0},
}
MLP = {"width": 400, "activation": "relu", "lr": 3e-3}     # where it has one hidden layer
# Kept by --resume: they make the model, the data or their order.
FIXED = ("data", "batch_size", "seed", "quick", "out_dir", "image_size", "binarise",
         "beta", "free_nats", *SETTINGS)


def parser() -> argparse.ArgumentParser:
    """The parser of `train.py`."""
    parser = console.training_parser("Train a variational autoencoder.", data=NAMES,
                                     length="epochs")
    add, open_to_data = parser.add_argument, "(default: what suits the data)"
    add("--network", choices=NETWORKS, help=f"convolutions, or one hidden layer {open_to_data}")
    add("--latents", metavar="N", type=console.positive_int,
        help=f"numbers of a code {open_to_data}")
    add("--width", metavar="N", type=console.positive_int,
        help="channels of the first maps, or hidden features of mlp (default: 32, or 400)")
    add("--activation", choices=ACTIVATIONS, help="default: silu, or relu for mlp")
    add("--likelihood", choices=LIKELIHOODS,
        help=f"pixels are coins, or have noise of one σ that is found {open_to_data}")
    add("--binarise", action=argparse.BooleanOptionalAction, default=None,
        help=f"draw every pixel black or white, anew in every step {open_to_data}")
    add("--beta", metavar="X", type=console.positive_float,
        help=f"price of a nat of KL; 1 is the bound {open_to_data}")
    add("--free-nats", metavar="X", type=console.non_negative_float, default=0.0,
        help="KL of a latent that costs nothing (default: none)")
    add("--beta-warm-up", metavar="N", type=console.natural,
        help=f"steps in which the price rises to --beta {open_to_data}")
    add("--image-size", metavar="N", type=console.positive_int,
        help="side of the pictures of a folder (default: 32)")
    return parser


def parse(argv: list[str] | None, folder: str) -> tuple[argparse.Namespace, dict | None]:
    """The options, and the checkpoint if a run is resumed."""
    return checkpoint.read_options(parser(), argv, folder, FIXED)


def set_defaults(args: argparse.Namespace) -> None:
    """What the flags leave open follows from the data.

    Raises Refusal for another size than the data have, or for binary pixels with noise.
    """
    recipe = dict(RECIPES.get(args.data, RECIPES["own"]))
    side = SIDES.get(args.data)
    if side and args.image_size not in (None, side):
        raise console.Refusal(f"{args.data} has pictures of {side} pixels: leave out "
                              "--image-size, which is for folders")
    args.image_size = args.image_size or side or 32
    if args.network == "mlp":
        recipe |= MLP
    if args.quick:
        recipe |= {"epochs": 2, "beta_warm_up": 8}
    for name, value in recipe.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if args.binarise and args.likelihood == "gaussian":
        raise console.Refusal("black and white pixels have no noise to measure: leave out "
                              "--binarise, or use --likelihood bernoulli")
    args.log_every = args.log_every or -(-args.epochs // 15)
