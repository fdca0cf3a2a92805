"""Ask a trained diffusion model: draw, by label, blend two pictures, repair a part of one.

    python inference.py --count 40 --guidance 1 --gif
    python inference.py --label 7 --guidance 1 --count 16
    python inference.py --grid --guidance 1              # a row for each class
    python inference.py --interpolate 3 my.png           # test pictures by number, or files
    python inference.py --inpaint 3 --box 0 14 28 28     # left, top, right, bottom
"""

# N pictures, C channels, H height and W width

import argparse
import math
import sys

import torch
from torch import Tensor

import console
import devices
import pictures
from asking import add_sampling_flags, sampling_of
from data import NAMES
from diffusion import Sampling
from gallery import Gallery
from mixing import blend, box_mask, repair
from painter import Painter

AT_MOST = 10_000     # samples of one sheet
FRAMES = 40          # of an animation
OF_A_CLASS = 8       # pictures in a row of --grid
MOST_COLUMNS = 12    # where each class has one


class Film:
    """Keeps some of the pictures on the way from noise, for an animation."""

    def __init__(self, painter: Painter, how: Sampling, count: int) -> None:
        self.painter, self.every, self.count = painter, -(-how.steps // FRAMES), count
        self.frames: list[Tensor] = []

    def watch(self, i: int, x: Tensor, x0: Tensor) -> None:
        """Keep the noised pictures (N, C, H, W) of every so many steps, and the first."""
        if i % self.every == 0 or not self.frames:
            self.frames.append(self.painter.show(x[: self.count]))


def draw(painter: Painter, how: Sampling, args: argparse.Namespace) -> list[str]:
    """New pictures, of all classes in turn or of one; gives the names of the files."""
    count, columns, labels = args.count, math.ceil(args.count**0.5), None
    if args.label is None and 1 < len(painter.classes) <= min(count, MOST_COLUMNS):
        columns = len(painter.classes)         # all of a class below each other
    if args.grid and not painter.classes:
        raise console.Refusal("this model knows no classes: draw without --grid")
    if args.grid:
        count, columns = OF_A_CLASS * len(painter.classes), OF_A_CLASS
        labels = torch.arange(count) // OF_A_CLASS                     # (N,)
    else:
        labels = painter.labels(count, args.label)
    film = Film(painter, how, min(count, 100)) if args.gif else None
    x = painter.paint(painter.noise(count, args.seed), labels, how, args.seed,
                      watch=film and film.watch)                       # (N, C, H, W)
    pictures.save_tiles(x, columns, args.out / "samples.png")
    if film:
        frames = [*film.frames, x[: film.count]]
        pictures.save_animation(frames, min(columns, 10), args.out / "samples.gif")
    return ["samples.png", "samples.gif"] if film else ["samples.png"]


def answer(painter: Painter, how: Sampling, args: argparse.Namespace) -> list[str]:
    """Do what was asked; gives the names of the files that show it."""
    painter.check(how)
    if not args.interpolate and not args.inpaint:
        return draw(painter, how, args)
    x, labels = Gallery(painter, args).find(args.interpolate or [args.inpaint])
    if args.label is not None:
        labels = painter.labels(len(x), args.label)
    if args.interpolate:
        row = blend(painter, x, labels, how, args.frames, args.strength, args.seed)
        pictures.save_tiles(row, len(row), args.out / "interpolation.png")
        return ["interpolation.png"]
    mask = box_mask(x, args.box)                                       # (N, 1, H, W)
    sheet = repair(painter, x, labels, how, mask, args.frames, args.seed)
    pictures.save_tiles(sheet, len(sheet), args.out / "inpainting.png")
    return ["inpainting.png"]


@console.one_line_errors
@torch.no_grad()
def main(argv: list[str] | None = None) -> int:
    """Load a checkpoint and draw with it."""
    parser = console.inference_parser("Draw, blend and repair pictures.")
    add = parser.add_argument
    add("--count", metavar="N", type=console.positive_int, default=40,
        help="pictures to draw (default: %(default)s)")
    add("--label", metavar="NAME", help="what they show (default: all classes in turn)")
    add("--gif", action="store_true", help="how they come out of noise, as an animation too")
    one = parser.add_mutually_exclusive_group().add_argument
    one("--grid", action="store_true", help="a row for each class")
    one("--interpolate", metavar=("A", "B"), nargs=2, help="from one picture to another")
    one("--inpaint", metavar="X", help="draw a part of a picture anew")
    add("--box", metavar="N", nargs=4, type=console.natural,
        help="left, top, right and bottom of that part (default: the lower half)")
    add("--frames", metavar="N", type=console.positive_int, default=8,
        help="pictures on the way, or repairs to choose from (default: %(default)s)")
    add("--strength", metavar="X", type=console.share, default=0.5,
        help="share of the times by which pictures are noised to blend them (default: 0.5)")
    add("--last", action="store_true", help="with the last weights instead of the average")
    add_sampling_flags(parser)
    console.add_data_flags(parser, NAMES, default=None)
    args = parser.parse_args(argv)
    if args.count > AT_MOST:
        parser.error(f"argument --count: at most {AT_MOST:,} fit on a sheet")
    if args.box and not args.inpaint:
        parser.error("argument --box: it belongs to --inpaint")
    if args.grid and args.label is not None:
        parser.error("argument --label: --grid has all of them")
    if args.gif and (args.interpolate or args.inpaint):
        parser.error("argument --gif: only of new pictures")
    painter = Painter.open(args.checkpoint, devices.choose(args.device), args.last)
    names = answer(painter, sampling_of(args, painter.config["times"]), args)
    print(f"wrote {', '.join(names)} to {console.from_here(args.out)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
