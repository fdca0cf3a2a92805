"""Ask a trained autoencoder: rebuild pictures, invent some, blend two, add wings, give codes.

    python inference.py --sample 64
    python inference.py --reconstruct my.png 3 4         # files, or numbers of test pictures
    python inference.py --interpolate 0 7
    python inference.py --attribute wings                # or horns=ears; on test pictures
    python inference.py --encode FOLDER                  # codes.csv
"""

# N pictures, C channels, H height and W width, L latents

import argparse
import csv
import sys
from pathlib import Path

import torch
from torch import Tensor

import checkpoint
import console
import devices
import pictures
from attributes import Attributes, between, opposite
from data import NAMES
from evaluation import encode
from gallery import FIRST, Gallery
from model import NAME, VAE, build

AT_MOST = 10_000     # samples of one sheet


def change(model: VAE, gallery: Gallery, args: argparse.Namespace) -> str:
    """Draw pictures and what becomes of them when an attribute is added or removed."""
    attributes = Attributes(model, gallery.data(), gallery.config)
    name, value = attributes.find(args.attribute)
    x, names = gallery.find(args.on)
    z = encode(model, x)                                               # (N, L)
    old = attributes.read(name, z)                                     # (N,)
    new = opposite(old, value)                                         # (N,)
    changed = model.decode(attributes.change(name, z, old, new).to(model.variance.device))
    pictures.draw_pairs(x, changed.cpu(), args.out / "attribute.png")
    values = attributes.values[name]
    for each, before, after in zip(names, old.tolist(), new.tolist()):
        print(f"{each}: {name} {values[before]} → {values[after]}")
    return "attribute.png"


def write_codes(model: VAE, x: Tensor, names: list[str], out: Path) -> str:
    """The mean code of each picture, a row each."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "codes.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["picture", *(f"z{number}" for number in range(model.latents))])
        table.writerows([name, *row] for name, row in zip(names, encode(model, x).tolist()))
    return "codes.csv"


def answer(model: VAE, config: dict, args: argparse.Namespace) -> str:
    """Do what was asked; gives the name of the file that shows it."""
    gallery = Gallery(config, args)
    if args.sample:
        pictures.draw_samples(model, args.seed, args.out / "samples.png", args.sample)
        return "samples.png"
    if args.interpolate:
        x, _ = gallery.find(args.interpolate)
        if len(x) != 2:
            raise console.Refusal(f"--interpolate goes from one picture to another, and these "
                                  f"are {len(x)}")
        z = between(*encode(model, x), args.frames).to(model.variance.device)
        row = torch.cat([x[:1], model.decode(z).cpu(), x[1:]])         # (N, C, H, W)
        pictures.save_tiles(row, len(row), args.out / "interpolation.png")
        return "interpolation.png"
    if args.attribute is not None:
        return change(model, gallery, args)
    if args.encode is not None:
        return write_codes(model, *gallery.find(args.encode), args.out)
    x, _ = gallery.find(args.reconstruct or [])
    pictures.draw_reconstructions(model, x, args.out / "reconstructions.png")
    return "reconstructions.png"


@console.one_line_errors
@torch.no_grad()
def main(argv: list[str] | None = None) -> int:
    """Load a checkpoint and answer one question with it."""
    parser = console.inference_parser("Rebuild, invent, blend and change pictures.")
    asked = parser.add_mutually_exclusive_group()
    what = "files, folders, or numbers of test pictures"
    asked.add_argument("--reconstruct", metavar="X", nargs="*",
                       help=f"show what comes back of {what} (default: the first {FIRST})")
    asked.add_argument("--sample", metavar="N", type=console.positive_int,
                       help="pictures of N random codes")
    asked.add_argument("--interpolate", metavar=("A", "B"), nargs=2, help="from one to another")
    asked.add_argument("--attribute", metavar="NAME[=VALUE]", help="add or remove it")
    asked.add_argument("--encode", metavar="X", nargs="*", help=f"write the codes of {what}")
    parser.add_argument("--on", metavar="X", nargs="+", default=[],
                        help=f"what --attribute changes: {what} (default: the first {FIRST})")
    parser.add_argument("--frames", metavar="N", type=console.positive_int, default=9,
                        help="pictures of an interpolation (default: %(default)s)")
    console.add_data_flags(parser, NAMES, default=None)
    args = parser.parse_args(argv)
    if args.on and args.attribute is None:
        parser.error("argument --on: it belongs to --attribute")
    if (args.sample or 0) > AT_MOST:
        parser.error(f"argument --sample: at most {AT_MOST:,} fit on a sheet")
    model, config = checkpoint.open_model(args.checkpoint, NAME, build,
                                          devices.choose(args.device))
    print(f"wrote {answer(model, config, args)} to {console.from_here(args.out)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
