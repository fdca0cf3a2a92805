"""The flags of training, and what they are where the user leaves them open."""

import argparse
from pathlib import Path

import checkpoint
import console
import weights
from data import NAMES
from model import SIZES

PRESETS = {
    # For two cores and minutes; the numbers were found on the validation part of Shakespeare.
    "small": {**SIZES["small"], "vocabulary": 1024, "dropout": 0.0, "bias": False,
              "steps": 7000, "batch_size": 12, "accumulate": 1, "lr": 3e-3, "floor": 0.0,
              "warm_up": 100, "beta2": 0.99, "patience": 5},
    # nanoGPT's recipe of a GPU and minutes; a token is a byte.
    "shakespeare-gpu": {**SIZES["shakespeare-gpu"], "vocabulary": 256, "dropout": 0.2,
                        "bias": False, "steps": 5000, "batch_size": 64, "accumulate": 1,
                        "lr": 1e-3, "floor": 0.1, "warm_up": 100, "beta2": 0.99, "patience": 5},
    # nanoGPT's recipe to repeat GPT-2 on eight GPUs and days; the paper does not tell its own.
    "gpt2": {**SIZES["gpt2"], "vocabulary": 50257, "dropout": 0.0, "bias": False,
             "steps": 600_000, "batch_size": 480, "accumulate": 5, "lr": 6e-4, "floor": 0.1,
             "warm_up": 2000, "beta2": 0.95, "patience": 20,
             "log_every": 2000},
}
FINE_TUNING = {"dropout": 0.1, "bias": True, "steps": 200, "batch_size": 8, "accumulate": 8,
               "lr": 3e-5, "floor": 1.0, "warm_up": 10, "beta2": 0.99, "patience": 5}
# Of `small` where a text is so short that it is read thirty times, and learned by heart else.
SHORT = {"python-docs": {"dropout": 0.1, "steps": 4500}}
LINES = 15           # evaluations of a run
OF_WEIGHTS = ("vocabulary", "layers", "heads", "channels", "bias")   # come with --weights
# Kept by --resume: they make the model, the data or their order.
FIXED = ("data", "batch_size", "seed", "quick", "out_dir", "preset", "weights", "tokenizer",
         "vocabulary", "context", "layers", "heads", "channels", "bias", "dropout")


def parser() -> argparse.ArgumentParser:
    """The parser of `train.py`."""
    parser = console.training_parser("Train GPT-2.", data=NAMES, length="steps")
    add, open_to_preset = parser.add_argument, "(default: the preset's)"
    add("--preset", choices=PRESETS, default="small",
        help="for two cores and minutes, for a GPU and minutes, or GPT-2 (default: small)")
    numbers = {"vocabulary": "tokens to know, 256 for the bytes alone",
               "context": "tokens that are read at once", "layers": "blocks",
               "heads": "attentions of a block", "channels": "numbers for a token",
               "accumulate": "parts of a batch that are read one after the other",
               "warm-up": "steps in which the rate rises",
               "patience": "evaluations without a better one until training ends"}
    for name, meaning in numbers.items():
        add(f"--{name}", metavar="N", type=console.positive_int,
            help=f"{meaning} {open_to_preset}")
    add("--bias", action=argparse.BooleanOptionalAction, default=None,
        help=f"whether layers and norms add something {open_to_preset}")
    add("--dropout", metavar="X", type=console.share,
        help=f"share of numbers left out {open_to_preset}")
    add("--floor", metavar="X", type=console.non_negative_float,
        help=f"share of the highest rate that the last step has {open_to_preset}")
    add("--beta2", metavar="X", type=console.share,
        help=f"how long AdamW remembers squares {open_to_preset}")
    add("--weight-decay", metavar="X", type=console.non_negative_float, default=0.1,
        help="pull of the matrices towards zero (default: %(default)s)")
    add("--clip", metavar="X", type=console.non_negative_float, default=1.0,
        help="length to which a longer gradient is cut, 0 for none (default: %(default)s)")
    add("--compile", action="store_true", help="let PyTorch compile the model, for a GPU")
    add("--weights", metavar="NAME|PATH",
        help=f"published weights to begin with: {', '.join(weights.PUBLISHED)} in --data-dir, "
             "or a file or folder")
    add("--download", action="store_true", help="fetch the weights that --weights names")
    add("--tokenizer", metavar="DIR", type=Path,
        help="where encoder.json and vocab.bpe lie, to be used instead of learning one")
    return parser


def parse(argv: list[str] | None, folder: str) -> tuple[argparse.Namespace, dict | None]:
    """The options, and the checkpoint if a run is resumed."""
    return checkpoint.read_options(parser(), argv, folder, FIXED)


def refuse_what_is_given(args: argparse.Namespace) -> None:
    """Raises Refusal where a shape was typed that weights or tokenizer have themselves."""
    for source, names in ((args.weights, OF_WEIGHTS), (args.tokenizer, OF_WEIGHTS[:1])):
        for name in names if source is not None else ():
            if getattr(args, name) is not None:
                raise console.Refusal(f"{source} says what its {name} is: leave --{name} out")


def set_defaults(args: argparse.Namespace, processes: int = 1) -> None:
    """What the flags leave open follows from the preset. Raises Refusal if it cannot be."""
    if args.resume is None:
        refuse_what_is_given(args)
    short = SHORT.get(args.data, {}) if args.preset == "small" else {}
    recipe = {**PRESETS[args.preset], **(short if args.weights is None else FINE_TUNING)}
    if args.quick:
        recipe |= {**SIZES["tiny"], "steps": 40, "warm_up": 10, "patience": 40}
    steps = args.steps or recipe["steps"]        # a short run has to reach its rate as well
    recipe["warm_up"] = min(recipe["warm_up"], -(-steps // 4))
    for name, value in recipe.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if args.channels % args.heads:
        raise console.Refusal(f"{args.channels} channels cannot be shared among {args.heads} "
                              f"heads: choose a multiple of {args.heads}")
    if args.vocabulary < 256:
        raise console.Refusal(f"a vocabulary of {args.vocabulary} cannot name all bytes: use "
                              "256 or more")
    if args.floor > 1:
        raise console.Refusal(f"a floor of {args.floor:g} is above the highest rate: use 1 or "
                              "less")
    if args.batch_size < args.accumulate * processes:
        raise console.Refusal(f"{args.batch_size} windows cannot be shared among {processes} "
                              f"processes with {args.accumulate} parts each: use a larger "
                              "--batch-size or a smaller --accumulate")
    args.log_every = args.log_every or -(-args.steps // (2 if args.quick else LINES))
