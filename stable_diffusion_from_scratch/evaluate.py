"""Does it draw what it is asked for? Everything that can be counted, without any download.

    python evaluate.py                                 # the newest run, else the pretrained
    python evaluate.py --count 64 --steps 10           # roughly
    python evaluate.py --guidance 1                    # what guidance buys, and what it costs
"""

# N pictures, P pixels of a side

import argparse
import sys
import time
from collections.abc import Sequence

import console
import devices
from adherence import interval, shares
from asking import GUIDANCE, steps
from measures import Autoencoder, adherence, autoencoder, inpainting, pointing, unseen
from painter import Painter
from scenes import Scene
from schedulers import SAMPLERS
from words import prompts

PICTURES = 500       # real ones that the reader and the autoencoder are tried on
NAMES = ("colour", "shape", "both", "relation", "everything")


def line(name: str, count: int, right: dict[str, float]) -> str:
    """A row of the table; the interval is that of everything, with 95 %."""
    low, high = interval(right["everything"], count)
    return (f"{name:30} {count:5} " + " ".join(f"{right[key]:9.1%}" for key in NAMES)
            + f"  {low:6.1%} to {high:.1%}")


def say_reader(scenes: Sequence[Scene], drawn: Sequence, seen: Autoencoder) -> None:
    """What the reader finds where the answer is known."""
    count, shifted = len(scenes), [*scenes[1:], scenes[0]]
    print(line("real pictures", count, shares(drawn, scenes)))
    print(line("real, captions shuffled", count, shares(drawn, shifted)))
    print(line("real, through the autoencoder", count, shares(seen.pictures.numpy(), scenes)))


def say_drawn(painter: Painter, args: argparse.Namespace, how: dict) -> None:
    """The table of what was drawn for prompts."""
    for name, kind, silent in (("as asked", "trained", False), ("without a prompt", "trained",
                                                                True),
                               ("held-out pairs", "held-out", False),
                               ("two things, related", "two", False)):
        asked = prompts(kind, args.count)
        right = adherence(painter, asked, args.seed, silent, **how)
        print(line(name, args.count, right), flush=True)


def open_painter(args: argparse.Namespace) -> Painter:
    """The model that is measured. Raises Refusal if it was trained on something else."""
    painter = Painter.open(args.checkpoint, devices.choose(args.device), "fp32")
    if painter.config.get("data") != "shapes":
        raise console.Refusal("the reader knows drawn shapes only, and this model was trained "
                              f"on {painter.config.get('data')}: look at its pictures")
    return painter


@console.one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Read the pictures of many prompts, and print how often they are right."""
    parser = console.inference_parser("Measure a trained model of drawn shapes.")
    add = parser.add_argument
    add("--count", metavar="N", type=console.positive_int, default=256,
        help="prompts of each kind (default: %(default)s)")
    add("--guidance", metavar="X", type=console.non_negative_float, default=GUIDANCE,
        help="how much more than the model to insist on the prompt (default: %(default)g)")
    add("--steps", metavar="N", type=steps, default=25, help="of sampling (default: 25)")
    add("--sampler", choices=SAMPLERS, default="ddim", help="default: %(default)s")
    args = parser.parse_args(argv)
    painter, started = open_painter(args), time.monotonic()
    how = {"guidance": args.guidance, "steps": args.steps, "sampler": args.sampler}
    images, scenes = unseen(PICTURES, painter.size[0])
    seen = autoencoder(painter, images)
    print(f"{'':30} {'count':>5} " + " ".join(f"{name:>9}" for name in NAMES)
          + "  with 95 %")
    say_reader(scenes, images.numpy(), seen)
    say_drawn(painter, args, how)
    print(f"autoencoder on {PICTURES} unseen pictures: PSNR {seen.decibels:.2f} dB, deviation "
          f"of latents {seen.deviation:.3f}")
    hit, chance = pointing(painter, args.count, args.seed, **how)
    print(f"the word for the shape is looked at most on the thing: {hit:.1%} (anywhere: "
          f"{chance:.1%})")
    found = inpainting(painter, args.count, args.seed, **how)
    print(f"filled holes: colour {found.colour:.1%}, both {found.both:.1%}; kept latents "
          f"differ by {found.latents:g}, kept pixels by {found.levels:.2f} levels in the mean")
    print(f"{args.sampler}, {args.steps} steps, guidance {args.guidance:g}, "
          f"{time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
