"""Read digits and numbers with a trained LeNet-5, and say when there is none.

    python inference.py --image my_photo.jpg number.png FOLDER
    python inference.py --test               # the error on the whole test set
    python inference.py --evaluate FOLDER    # accuracy by style; files are LABEL_STYLE_….png
"""

import argparse
import json
import sys
from pathlib import Path

import checkpoint
import console
import devices
import pictures
from data import NAMES, load_test
from measures import calibration
from model import NAME, build
from reader import Reader, in_words
from train import evaluate

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"}


def files_in(paths: list[Path]) -> list[Path]:
    """The files named, and the pictures in folders named. Raises Refusal if one has none."""
    files = []
    for path in paths:
        inside = [path]
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
        if not inside:
            raise console.Refusal(f"{path} holds no pictures: name another folder, or files")
        files += inside
    return files


def read_files(reader: Reader, files: list[Path], out: Path, as_json: bool) -> int:
    """Answer each file and draw its preparation; 1 if any file could not be read, else 0."""
    failures = 0
    for number, file in enumerate(files):
        try:
            answer, stages = reader.read(file)
        except (ValueError, OSError) as error:
            console.say(f"error: {error}")
            failures += 1
            continue
        strip = out / f"{file.stem}_{number}.png"
        pictures.draw_strip(stages, in_words(answer), strip)
        if as_json:
            print(json.dumps({"file": str(file), **answer, "strip": str(strip)}))
        else:
            print(f"{file}: {in_words(answer)}; drawn in {console.from_here(strip)}")
    return int(failures > 0)


def evaluate_files(reader: Reader, files: list[Path], as_json: bool) -> int:
    """The share of files read as their names begin, by style: LABEL_STYLE_ANYTHING.png."""
    named = [(file, *file.stem.split("_")) for file in files]
    nameless = next((file for file, *words in named if len(words) < 2), None)
    if nameless:
        raise console.Refusal(f"{nameless.name} does not say what it shows: name your files "
                              "LABEL_STYLE_NUMBER.png")
    table, total, failures = {}, [0, 0], 0
    for file, label, style, *_ in named:
        try:
            right = reader.read(file)[0]["text"] == label
        except (ValueError, OSError) as error:
            console.say(f"error: {error}")
            failures, right = failures + 1, False
        for row in (table.setdefault(style, [0, 0]), total):
            row[0], row[1] = row[0] + right, row[1] + 1
    table["all" if "all" not in table else "all together"] = total
    if as_json:
        print(json.dumps({style: {"right": r, "of": n} for style, (r, n) in table.items()}))
    else:
        for style, (right, count) in table.items():
            print(f"{style:14} {right:4} of {count:4}  {right / count:7.1%}")
    return int(failures > 0)


def read_test(reader: Reader, args: argparse.Namespace) -> int:
    """The error on the test set, or the answer to one of its pictures."""
    name, test = load_test(reader.config, args.data, args.data_dir)
    if args.test:
        loss, error, logits = evaluate(reader.model, test, reader.config)
        ece = calibration(logits.softmax(1), test.labels).error
        found = {"data": name, "pictures": len(test.labels), "error": error, "loss": loss,
                 "calibration_error": ece}
        print(json.dumps(found) if args.json else
              f"test error {error:.2%}, loss {loss:.4f}, expected calibration error {ece:.3f}, "
              f"on {len(test.labels):,} pictures of {name}")
        return 0
    if args.index >= len(test.labels):
        raise console.Refusal(f"{name} has the test pictures 0 to {len(test.labels) - 1}")
    image = test.images[args.index].numpy()
    answer, truth = reader.answer([image]), reader.config["classes"][test.labels[args.index]]
    strip = args.out / f"test_{args.index}.png"
    pictures.draw_strip({"test picture": image / 255}, in_words(answer), strip)
    print(json.dumps({"index": args.index, "truth": truth, **answer, "strip": str(strip)})
          if args.json else f"test picture {args.index} of {name}, a {truth}: "
          f"{in_words(answer)}; drawn in {console.from_here(strip)}")
    return 0


@console.one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Load a checkpoint and answer one question with it."""
    parser = console.inference_parser("Read digits and numbers with a trained LeNet-5.")
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--image", metavar="PATH", type=Path, nargs="+",
                       help="pictures of digits or numbers, or folders of pictures")
    asked.add_argument("--evaluate", metavar="FOLDER", type=Path, nargs=1,
                       help="accuracy by style on pictures named LABEL_STYLE_NUMBER.png")
    asked.add_argument("--index", metavar="N", type=console.natural, default=0,
                       help="picture N of the test set (default: %(default)s)")
    asked.add_argument("--test", action="store_true", help="the error on the whole test set")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    console.add_data_flags(parser, NAMES, default=None)
    args = parser.parse_args(argv)
    if args.evaluate and not args.evaluate[0].is_dir():
        raise console.Refusal(f"{args.evaluate[0]} is no folder: draw one with python "
                              "generate_test_digits.py, or use --image for a file")
    files = files_in(args.image or args.evaluate or [])
    model, config = checkpoint.open_model(args.checkpoint, NAME, build,
                                          devices.choose(args.device))
    reader = Reader(model, config)
    if args.evaluate:
        return evaluate_files(reader, files, args.json)
    if files:
        return read_files(reader, files, args.out, args.json)
    return read_test(reader, args)


if __name__ == "__main__":
    sys.exit(main())
