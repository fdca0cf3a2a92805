"""Draw with a trained model: what a prompt says, over a picture, or into a hole of one.

    python inference.py --prompt "a large red circle in the middle on a black background"
    python inference.py --prompt "a blue square" --init runs/seed_0.png --strength 0.7
    python inference.py --weights FILE --tokenizer VOCABULARY --prompt "a corgi on a skateboard"
"""

# B pictures, P pixels of a side

import argparse
import math
import sys
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

import console
import devices
import gallery
import pictures
from asking import STRENGTH, add_drawing_flags, check, strength
from looking import look
from painter import Painter

AT_MOST = 10_000          # pictures of a sheet
COUNT, COUNT_PUBLISHED = 8, 1
COLUMNS = 8               # of a sheet, more if it were too long


def open_painter(args: argparse.Namespace) -> Painter:
    """The model that was asked for: published weights, or a checkpoint."""
    device = devices.choose(args.device)
    if args.weights:
        return Painter.published(args.weights, args.tokenizer, device, args.precision)
    return Painter.open(args.checkpoint, device, args.precision)


def wording(painter: Painter, args: argparse.Namespace) -> list[str]:
    """The prompt that was given, for all pictures; or the model's own in turn."""
    own = [painter.prompts[number % len(painter.prompts)] for number in range(args.count)]
    texts = own if args.prompt is None else [args.prompt]
    if not all(text.strip() for text in texts):
        console.say("an empty prompt asks for nothing: the model draws whatever it has seen")
    return texts


def draw(painter: Painter, args: argparse.Namespace, image: Tensor | None,
         mask: Tensor | None) -> list[str]:
    """Draw a picture for each seed, with the attention of each word if asked for.

    Gives the names of the files.
    """
    prompts, names = wording(painter, args), []
    seeds = [args.seed + number for number in range(args.count)]
    how = {"negative": args.negative, "guidance": args.guidance, "steps": args.steps,
           "sampler": args.sampler, "image": image, "mask": mask, "strength": args.strength}
    if args.attention:
        looks = [look(painter, prompts[number % len(prompts)], seed, args.size, **how)
                 for number, seed in enumerate(seeds)]
        drawn = torch.stack([found.picture for found in looks])        # (B, ..., 3)
        for seed, found in zip(seeds, looks):
            names.append(f"attention_{seed}.png")
            pictures.save_image(pictures.attended(*found), args.out / names[-1])
    else:
        drawn = painter.draw(prompts, seeds, args.size, **how)         # (B, ..., 3)
    for seed, picture in zip(seeds, drawn):
        pictures.save_image(Image.fromarray(picture.numpy()), args.out / f"seed_{seed}.png")
    if args.count > 1:
        columns = min(args.count, max(COLUMNS, math.isqrt(args.count)))
        pictures.save_tiles(drawn, columns, args.out / "samples.png")
    for number, seed in enumerate(seeds):
        print(f"seed {seed}: {prompts[number % len(prompts)]}")
    return names


@console.one_line_errors
@torch.no_grad()
def main(argv: list[str] | None = None) -> int:
    """Load a model and draw what is asked for."""
    parser = console.inference_parser("Draw what a prompt says.")
    add_drawing_flags(parser)
    add = parser.add_argument
    add("--count", metavar="N", type=console.positive_int,
        help=f"pictures, each with a seed of its own, from --seed on (default: {COUNT}, or "
             f"{COUNT_PUBLISHED} with --weights)")
    add("--init", metavar="IMAGE", type=Path,
        help="a picture to begin with; it keeps its size unless --size is given")
    add("--strength", metavar="X", type=strength,
        help=f"how much of it may change, from 0 to 1 (default: {STRENGTH:g}, 1 with --mask)")
    add("--mask", metavar="IMAGE", type=Path,
        help="white where the picture shall be drawn anew")
    add("--attention", action="store_true",
        help="also show where each word of the prompt was looked at")
    args = parser.parse_args(argv)
    check(parser, args)
    for flag in ("mask", "strength"):
        if getattr(args, flag) is not None and not args.init:
            parser.error(f"argument --{flag}: it says what becomes of a picture: give --init")
    args.count = args.count or (COUNT_PUBLISHED if args.weights else COUNT)
    if args.count > AT_MOST:
        parser.error(f"argument --count: at most {AT_MOST:,} fit on a sheet")
    if args.strength is None:
        args.strength = 1.0 if args.mask else STRENGTH
    image, mask = gallery.find(args.init, args.mask, args.size)
    names = draw(open_painter(args), args, image, mask)
    one = f"seed_{args.seed}.png"
    every = [one if args.count == 1 else f"{one} to seed_{args.seed + args.count - 1}.png",
             *["samples.png"] * (args.count > 1), *names]
    print(f"wrote {', '.join(every)} to {console.from_here(args.out)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
