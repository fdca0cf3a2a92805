"""Name what is in pictures with a trained AlexNet: your own, or the published weights.

    python inference.py --image cat.jpg FOLDER --weights torchvision --ten-crop
    python inference.py --test                # the error on the whole test set
    python inference.py --index 3 --occlusion # which part of a test picture decided
"""

import argparse
import json
import os
import sys
from pathlib import Path

import torch
from torch import Tensor

import checkpoint
import console
import devices
from data import NAMES, SHAPES, load, on_disk, stored_side
from evaluation import evaluate
from model import NAME, build
from parts import read_all
from published import open_published
from reading import files_in
from speaker import Speaker

BATCH = 32         # pictures that are read and answered together


def named_files(paths: list[Path]) -> list[Path]:
    """The files named, and the pictures in folders named. Raises Refusal if one has none."""
    files = []
    for path in paths:
        inside = files_in(path) if path.is_dir() else [path]
        if not inside:
            raise console.Refusal(f"{path} holds no pictures: name another folder, or files")
        files += inside
    return files


def answer_files(speaker: Speaker, files: list[Path]) -> int:
    """A line for each file; 1 if any of them could not be read, else 0."""
    side, failures = stored_side(speaker.config["image_size"]), 0
    threads = min(8, os.cpu_count() or 1)
    for start in range(0, len(files), BATCH):
        chunk = files[start : start + BATCH]
        read = list(enumerate(zip(chunk, read_all(chunk, side, threads)), start=start))
        good = [square for _, (_, square) in read if isinstance(square, Tensor)]
        beliefs = iter(speaker.beliefs(torch.stack(good)) if good else ())
        for number, (file, square) in read:
            if isinstance(square, Tensor):
                speaker.say(str(file), {"file": str(file)}, square, next(beliefs),
                            f"{file.stem}_{number}")
            else:
                console.say(f"error: {square}")
                failures += 1
    return int(failures > 0)


def answer_test(speaker: Speaker, args: argparse.Namespace) -> int:
    """The errors on the test set, or the answer to one of its pictures."""
    config, name = speaker.config, args.data or speaker.config["data"]
    if args.data is None and not on_disk(name, args.data_dir):
        raise console.Refusal(f"{name} is not on this disk: say --image, or --data")
    data = load(name, args.data_dir, config["image_size"], config.get("seed", 0),
                counts=(10, 10, SHAPES[2] if args.test else min(args.index + 1, SHAPES[2])))
    if data.classes != config["classes"]:
        raise console.Refusal(f"the model knows other classes than {name} has: say --image, or "
                              "--data with the same")
    if args.test:
        loss, error, five, count = evaluate(speaker.model, data.test, config, args.ten_crop)
        print(json.dumps({"data": data.name, "pictures": count, "error": error,
                          "top5_error": five, "loss": loss}) if args.json else
              f"test error {error:.2%}, top-5 {five:.2%}, loss {loss:.4f}, on {count:,} "
              f"pictures of {data.name}")
        return 0
    if args.index >= len(data.test.labels):
        raise console.Refusal(f"{name} has the test pictures 0 to {len(data.test.labels) - 1}")
    square = data.test.one(args.index)
    truth = config["classes"][data.test.labels[args.index]]
    speaker.say(f"test picture {args.index} of {name} ({truth})",
                {"data": name, "index": args.index, "truth": truth}, square,
                speaker.beliefs(square[None])[0], f"test_{args.index}")
    return 0


@console.one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Load a checkpoint, or the published weights, and answer one question."""
    parser = console.inference_parser("Name what is in pictures with a trained AlexNet.")
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--image", metavar="PATH", type=Path, nargs="+",
                       help="pictures, or folders of pictures")
    asked.add_argument("--index", metavar="N", type=console.natural, default=0,
                       help="picture N of the test set (default: %(default)s)")
    asked.add_argument("--test", action="store_true", help="the error on the whole test set")
    parser.add_argument("--top-k", metavar="N", type=console.positive_int, default=5,
                        help="answers to a picture (default: %(default)s)")
    parser.add_argument("--ten-crop", action="store_true",
                        help="average over four corners, the middle, and their reflections")
    parser.add_argument("--occlusion", action="store_true",
                        help="draw which parts of a picture the first answer rests on")
    parser.add_argument("--weights", metavar="torchvision|PATH",
                        help="torchvision's published weights, fetched or from a file")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    console.add_data_flags(parser, NAMES, default=None)
    args = parser.parse_args(argv)
    files = named_files(args.image or [])
    device = devices.choose(args.device)
    if args.weights:
        model, config = open_published(args.weights, args.data_dir, device)
    else:
        model, config = checkpoint.open_model(args.checkpoint, NAME, build, device)
    speaker = Speaker(model, config, args)
    return answer_files(speaker, files) if files else answer_test(speaker, args)


if __name__ == "__main__":
    sys.exit(main())
