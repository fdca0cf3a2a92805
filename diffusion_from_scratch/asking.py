"""The flags that say how pictures are drawn, shared by all scripts that draw some."""

# no tensors here

import argparse

import console
from diffusion import SAMPLERS, VARIANCES, Sampling

FEW, MANY = 50, 1000     # steps where none are given: of DDIM, of DDPM


def whole_share(text: str) -> float:
    """A number from 0 to 1, as an argparse type."""
    value = console.non_negative_float(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"{text!r} is more than 1")
    return value


def add_sampling_flags(parser: argparse.ArgumentParser) -> None:
    """Add `--sampler`, `--steps`, `--eta`, `--variance`, `--guidance` and `--no-clip`."""
    add = parser.add_argument
    add("--sampler", choices=SAMPLERS, default="ddim", help="default: %(default)s")
    add("--steps", metavar="N", type=console.positive_int,
        help=f"steps of sampling (default: {FEW} for ddim, all times for ddpm)")
    add("--eta", metavar="X", type=whole_share,
        help="share of fresh noise in a step of ddim, from 0 to 1 (default: 0)")
    add("--variance", choices=VARIANCES,
        help="noise of a step of ddpm (default: posterior)")
    add("--guidance", metavar="X", type=console.non_negative_float, default=0.0,
        help="how much more than training to insist on the label (default: 0)")
    add("--clip", action=argparse.BooleanOptionalAction, default=True,
        help="cut guesses to the range of pixels (default: yes)")


def sampling_of(args: argparse.Namespace, times: int = MANY) -> Sampling:
    """What the flags say, for a model with so many times.

    Raises Refusal for flags that the sampler has no use for.
    """
    other = args.variance if args.sampler == "ddim" else args.eta
    if other is not None:
        name, whose = ("--variance", "ddpm") if args.sampler == "ddim" else ("--eta", "ddim")
        raise console.Refusal(f"{name} is a flag of --sampler {whose}: leave it out")
    steps = args.steps or (min(FEW, times) if args.sampler == "ddim" else times)
    return Sampling(args.sampler, steps, args.eta or 0.0, args.variance or "posterior",
                    args.guidance, args.clip)
