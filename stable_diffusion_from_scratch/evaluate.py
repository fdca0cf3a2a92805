"""Does it draw what it is asked for? Everything that can be counted, without any download.

    python evaluate.py                                 # the newest run, else the pretrained
    python evaluate.py --count 64 --steps 10           # roughly
    python evaluate.py --guidance 1                    # what guidance buys, and what it costs
"""

# N pictures, P pixels of a side

import argparse
import sys
import time
from collections.abc import Iterable, Iterator, Sequence

import console
import devices
from adherence import shares, wilson
from asking import GUIDANCE, steps
from measures import Autoencoder, adherence, autoencoder, inpainting, pointing, unseen
from painter import Painter
from scenes import Scene
from schedulers import SAMPLERS
from words import prompts

PICTURES = 500       # real ones that the reader and the autoencoder are tried on
NAMES = ("colour", "shape", "both", "relation", "everything")


def rows(count: int, found: Iterable[tuple[str, dict[str, float]]]) -> dict[str, dict]:
    """Print rows of the table as they are found; the interval is of everything, with 95 %."""
    said = {}
    for name, right in found:
        low, high = wilson(round(right["everything"] * count), count)
        print(f"{name:30} {count:5} " + " ".join(f"{right[key]:9.1%}" for key in NAMES)
              + f"  {low:6.1%} to {high:.1%}", flush=True)
        said[name] = right
    return said


def read_again(scenes: Sequence[Scene], drawn: Sequence,
               seen: Autoencoder) -> Iterator[tuple[str, dict[str, float]]]:
    """What the reader finds where the answer is known."""
    shifted = [*scenes[1:], scenes[0]]
    yield "real pictures", shares(drawn, scenes)
    yield "real, captions shuffled", shares(drawn, shifted)
    yield "real, through the autoencoder", shares(seen.pictures.numpy(), scenes)


def read_drawn(painter: Painter, args: argparse.Namespace,
               how: dict) -> Iterator[tuple[str, dict[str, float]]]:
    """What it finds in what was drawn for prompts."""
    for name, kind, silent in (("as asked", "trained", False),
                               ("without a prompt", "trained", True),
                               ("held-out pairs", "held-out", False),
                               ("two things, related", "two", False)):
        yield name, adherence(painter, prompts(kind, args.count), args.seed, silent, **how)


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
    table = {**rows(PICTURES, read_again(scenes, images.numpy(), seen)),
             **rows(args.count, read_drawn(painter, args, how))}
    print(f"autoencoder on {PICTURES} unseen pictures: PSNR {seen.decibels:.2f} dB, deviation "
          f"of latents {seen.deviation:.3f}")
    hit, chance = pointing(painter, args.count, args.seed, **how)
    print(f"the word for the shape is looked at most on the thing: {hit:.1%} (anywhere: "
          f"{chance:.1%})")
    found = inpainting(painter, args.count, args.seed, **how)
    print(f"filled holes: colour {found.colour:.1%}, both {found.both:.1%}; kept latents "
          f"differ by {found.latents:g}, kept pixels by {found.levels:.2f} levels in the mean")
    seconds = time.monotonic() - started
    print(f"{args.sampler}, {args.steps} steps, guidance {args.guidance:g}, {seconds:.0f} s")
    console.write_results(args.out, "evaluate.py", args, right=table, psnr=seen.decibels,
                          deviation=seen.deviation, pointing=hit, pointing_anywhere=chance,
                          filled_colour=found.colour, filled_both=found.both,
                          kept_levels=found.levels, seconds=seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
