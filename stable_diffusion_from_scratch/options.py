"""The flags of training, and what they are where the user leaves them open."""

import argparse
from pathlib import Path

import checkpoint
import console
from data import NAMES
from model import FINE, SD15, SMALL

SHAPES64 = {"unet": {**SMALL["unet"], "multipliers": [1, 2, 4], "attention": [True, True, True],
                     "context": 128},
            "vae": {**SMALL["vae"], "multipliers": [1, 2, 4, 4]},
            "text": {**SMALL["text"], "layers": 4, "channels": 128}}
SIZES = {"small": SMALL, "fine": FINE, "shapes64": SHAPES64, "sd15": SD15}
RECIPES = {
    "small": {"image_size": 32, "steps": 5900, "vae_steps": 2400, "batch_size": 32,
              "vae_batch_size": 8, "lr": 1e-3, "vae_lr": 1e-3, "ema": 0.995, "warm_up": 50,
              "delta": 1.0, "stage": "both", "train_text": True},
    "fine": {"image_size": 32, "steps": 11_000, "vae_steps": 3000, "batch_size": 128,
             "vae_batch_size": 8, "lr": 1e-3, "vae_lr": 1e-3, "ema": 0.998, "warm_up": 50,
             "delta": 30.0, "stage": "both", "train_text": True},
    "shapes64": {"image_size": 64, "steps": 14_000, "vae_steps": 5000, "batch_size": 32,
                 "vae_batch_size": 8, "lr": 7e-4, "vae_lr": 1e-3, "ema": 0.998, "warm_up": 100,
                 "delta": 1.0, "stage": "both", "train_text": True},
    "sd15": {"image_size": 512, "steps": 1000, "vae_steps": 500, "batch_size": 1,
             "vae_batch_size": 1, "lr": 1e-5, "vae_lr": 1e-5, "ema": 0.999, "warm_up": 100,
             "delta": 1.0, "stage": "diffusion", "train_text": False},
}
QUICK = {"steps": 24, "vae_steps": 12, "batch_size": 8, "vae_batch_size": 4, "warm_up": 3}
LINES = 15           # evaluations of a run
# Kept by --resume: they make the model, the data or their order.
FIXED = ("data", "batch_size", "seed", "quick", "out_dir", "preset", "stage", "vae_steps",
         "vae_batch_size", "weights", "tokenizer", "image_size", "kl", "gamma", "delta",
         "ema", "drop_captions", "train_text")


def resolved(text: str) -> str:
    """A path as a checkpoint keeps it, as an argparse type: a resumed run may be told again."""
    return str(Path(text).resolve())


def parser() -> argparse.ArgumentParser:
    """The parser of `train.py`."""
    parser = console.training_parser("Train Stable Diffusion: the autoencoder, then the U-Net.",
                                     data=NAMES, length="steps")
    add, open_to_preset = parser.add_argument, "(default: the preset's)"
    add("--preset", choices=SIZES, default="small", help="small: two cores; fine: a GPU, two "
        "things in order; shapes64: 64 pixels; sd15: on from --weights (default: small)")
    add("--stage", choices=("both", "vae", "diffusion"),
        help=f"what to train; diffusion needs --weights with an autoencoder {open_to_preset}")
    add("--vae-steps", metavar="N", type=console.positive_int,
        help=f"how many of the steps train the autoencoder, the first ones {open_to_preset}")
    add("--vae-batch-size", metavar="N", type=console.positive_int,
        help=f"pictures a step of the autoencoder {open_to_preset}")
    add("--vae-lr", metavar="X", type=console.positive_float,
        help=f"the highest learning rate of the autoencoder {open_to_preset}")
    add("--weights", metavar="PATH", type=resolved,
        help="begin with these: a checkpoint of a run, or published weights")
    add("--tokenizer", metavar="PATH", type=resolved,
        help="where the vocabulary of published weights lies, as bpe_simple_vocab_16e6.txt.gz")
    add("--image-size", metavar="N", type=console.positive_int,
        help=f"side of the squares that pictures become {open_to_preset}")
    add("--kl", metavar="X", type=console.non_negative_float, default=0.01,
        help="price of a nat of the latents (default: %(default)g)")
    add("--gamma", metavar="X", type=console.positive_float, default=5.0,
        help="up to which ratio of signal to noise an error counts (default: 5)")
    add("--delta", metavar="X", type=console.positive_float,
        help=f"the most that an error counts where nearly all is noise {open_to_preset}")
    add("--ema", metavar="X", type=console.share,
        help=f"what an update keeps of the averaged weights {open_to_preset}")
    add("--drop-captions", metavar="X", type=console.share, default=0.1,
        help="share of captions that is withheld, for guidance (default: 0.1)")
    add("--train-text", action=argparse.BooleanOptionalAction, default=None,
        help="whether the text encoder learns, too (default: unless it is a published one)")
    add("--warm-up", metavar="N", type=console.natural,
        help=f"steps in which the rate rises, in each stage {open_to_preset}")
    add("--weight-decay", metavar="X", type=console.non_negative_float, default=0.01,
        help="pull of the matrices towards zero (default: 0.01)")
    add("--clip", metavar="X", type=console.non_negative_float, default=1.0,
        help="length to which a longer gradient is cut, 0 for none (default: 1)")
    return parser


def parse(argv: list[str] | None, folder: str) -> tuple[argparse.Namespace, dict | None]:
    """The options, and the checkpoint if a run is resumed."""
    args, saved = checkpoint.read_options(parser(), argv, folder, FIXED)
    for name in ("weights", "tokenizer"):
        value = getattr(args, name)
        setattr(args, name, Path(value) if value is not None else None)
    return args, saved


def set_defaults(args: argparse.Namespace, processes: int = 1) -> None:
    """What the flags leave open follows from the preset; of --steps alone, all parts shrink.

    Raises Refusal for what cannot be: stages without steps or without weights, batches that
    cannot be shared, sides that cannot be halved.
    """
    recipe = RECIPES[args.preset] | (QUICK if args.quick else {})
    args.stage = args.stage or recipe["stage"]
    part = {"both": recipe["vae_steps"] / recipe["steps"], "vae": 1, "diffusion": 0}[args.stage]
    if args.steps is None:
        args.steps = {"both": recipe["steps"], "vae": args.vae_steps or recipe["vae_steps"],
                      "diffusion": recipe["steps"] - recipe["vae_steps"]}[args.stage]
    if args.vae_steps is None:
        args.vae_steps = round(args.steps * part)
    for name, value in recipe.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    check(args, processes)
    args.log_every = args.log_every or -(-args.steps // (2 if args.quick else LINES))


def check(args: argparse.Namespace, processes: int) -> None:
    """Raises Refusal for numbers and stages that do not go together."""
    wanted = {"both": 0 < args.vae_steps < args.steps, "vae": args.vae_steps == args.steps,
              "diffusion": args.vae_steps == 0}[args.stage]
    if not wanted:
        raise console.Refusal(f"{args.vae_steps} of {args.steps} steps for the autoencoder do "
                              f"not fit --stage {args.stage}: change --vae-steps or --steps")
    if args.weights is None and (args.stage == "diffusion" or args.preset == "sd15"):
        raise console.Refusal(f"--preset {args.preset} --stage {args.stage} begins with a "
                              "trained autoencoder: name --weights")
    if args.delta < 1:
        raise console.Refusal(f"--delta {args.delta:g} would let errors count less where there "
                              "is hardly anything but noise: use 1 or more")
    for name in ("batch_size", "vae_batch_size"):
        if getattr(args, name) < processes:
            raise console.Refusal(f"a batch of {getattr(args, name)} cannot be shared among "
                                  f"{processes} processes: use a larger "
                                  f"--{name.replace('_', '-')}")
    factor = 2 ** (len(SIZES[args.preset]["vae"]["multipliers"]) - 1)
    if args.image_size % factor:
        raise console.Refusal(f"pictures of {args.image_size} pixels do not fit: --image-size "
                              f"has to be a multiple of {factor}")
