"""The flags that say what is drawn and how, shared by all scripts that draw something."""

# no tensors here

import argparse
import re
from pathlib import Path

import console
from painter import PRECISIONS
from schedulers import SAMPLERS, TRAINED

GUIDANCE, GUIDANCE_PUBLISHED = 3.0, 7.5      # of models trained here, of published weights
STRENGTH = 0.8                               # of a picture to begin with


def steps(text: str) -> int:
    """A number of steps that a sampler can take, as an argparse type."""
    value = console.positive_int(text)
    if value > TRAINED:
        raise argparse.ArgumentTypeError(f"{text!r} is more than the {TRAINED:,} steps that "
                                         "there are")
    return value


def strength(text: str) -> float:
    """A number from 0 to 1, as an argparse type."""
    value = console.non_negative_float(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"{text!r} is more than 1, with which next to nothing "
                                         "is kept")
    return value


def size(text: str) -> tuple[int, int]:
    """Height and width of "512" or, width first, of "768x512", as an argparse type."""
    found = re.fullmatch(r"([1-9]\d{0,3})(?:[x×]([1-9]\d{0,3}))?", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 512 or 768x512")
    return int(found[2] or found[1]), int(found[1])


def add_drawing_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags about prompts and samplers, and those about the model."""
    add = parser.add_argument
    add("--prompt", metavar="TEXT", help="what to draw (default: some training captions)")
    add("--negative", metavar="TEXT", default="", help="what not to draw")
    add("--guidance", metavar="X", type=console.non_negative_float,
        help="how much more than the model to insist on the prompt; 1 is the model itself "
             f"(default: {GUIDANCE:g}, or {GUIDANCE_PUBLISHED:g} with --weights)")
    add("--steps", metavar="N", type=steps, default=25, help="of sampling (default: 25)")
    add("--sampler", choices=SAMPLERS, default="ddim", help="default: %(default)s")
    add("--size", metavar="WxH", type=size,
        help="pixels, multiples of what the autoencoder divides by (default: as in training)")
    add("--weights", metavar="PATH", type=Path,
        help="published weights instead of a checkpoint: a file, or a folder of diffusers")
    add("--tokenizer", metavar="PATH", type=Path,
        help="where the vocabulary of published weights lies, as bpe_simple_vocab_16e6.txt.gz")
    add("--precision", choices=("auto", *PRECISIONS), default="auto",
        help="auto is bf16 on GPUs that have it, else fp32 (default: auto)")


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End with 2 where flags contradict each other; give a value to those left to the model."""
    if args.weights and args.checkpoint:
        parser.error("argument --weights: not together with --checkpoint")
    if args.tokenizer and not args.weights:
        parser.error("argument --tokenizer: a checkpoint has its own, it belongs to --weights")
    if args.guidance is None:
        args.guidance = GUIDANCE_PUBLISHED if args.weights else GUIDANCE
