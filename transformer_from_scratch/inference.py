"""Name the topic of texts with a trained encoder, and say which words decided.

    python inference.py --text "The striker missed a penalty."
    python inference.py --file texts.txt          # one text a line; - is standard input
    python inference.py --interactive             # type texts, or :attention LAYER HEAD
    python inference.py --test                    # the accuracy on the whole test set
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator

import checkpoint
import console
import devices
from batches import encode
from data import NAMES, Data, load
from measures import wilson
from model import NAME, build
from reader import Reader, in_words, looked_at, printable
from train import evaluate

HELP = ("type a text, or :attention LAYER HEAD to see what each word of the last text looks "
        "at, or :quit")


def lines_of(path: str) -> Iterator[str]:
    """The lines of a file, or of standard input for "-". Raises Refusal if there is none."""
    try:
        with (open(0, "rb", closefd=False) if path == "-" else open(path, "rb")) as file:
            for line in file:
                yield line.decode("utf-8-sig", "replace").rstrip("\r\n")
    except OSError as error:
        raise console.Refusal(f"{path} cannot be read ({error.strerror}): name a text "
                              "file") from None


def read_all(reader: Reader, texts: Iterable[str], as_json: bool) -> int:
    """Answer each text; 1 if any had no words, else 0."""
    failures = 0
    for text in texts:
        try:
            found = reader.answer(text)
        except ValueError as error:
            console.say(f"error: {error}")
            failures += 1
            continue
        if not found["known"]:
            console.say("no word of this text is known: the answer means nothing")
        if found["not_read"]:
            console.say(f"the last {found['not_read']} words were not read: the model reads at "
                        f"most {reader.longest}")
        print(json.dumps({"text": text, **found}) if as_json else in_words(found), flush=True)
    return int(failures > 0)


def converse(reader: Reader, lines: Iterable[str], as_json: bool) -> int:
    """Answer typed texts until they end or somebody says :quit."""
    console.say(HELP)
    last = ""
    for line in lines:
        try:
            match line.split():
                case []:
                    continue
                case [":quit"]:
                    break
                case [":attention", layer, head] if layer.isdecimal() and head.isdecimal():
                    print("\n".join(looked_at(reader, last, int(layer), int(head))))
                case [word, *_] if word.startswith(":"):
                    console.say(HELP)
                case _:
                    last = line
                    read_all(reader, [line], as_json)
        except ValueError as error:
            console.say(f"error: {error}")
    return 0


def test_data(reader: Reader, args: argparse.Namespace) -> Data:
    """The data that the checkpoint was trained on, or those that were asked for.

    Raises Refusal if the classes are others.
    """
    name = args.data or reader.config["data"]
    data = load(name, args.data_dir, reader.config["seed"])
    if data.classes != reader.classes:
        raise console.Refusal(f"{data.name} has the classes {', '.join(data.classes)}, the "
                              f"model knows {', '.join(reader.classes)}: name other --data")
    if not args.data and data.digest != reader.config["data_digest"]:
        console.say(f"{data.name} is not what it was in training: the model may have learned "
                    "from some of these texts")
    return data


def read_test(reader: Reader, args: argparse.Namespace) -> int:
    """The accuracy on the test set, or the answer to one of its texts."""
    data = test_data(reader, args)
    if args.test:
        inputs = encode(data.test, reader.tokenizer, reader.longest, reader.device)
        loss, right, _ = evaluate(reader.model, inputs)
        count = len(data.test.labels)
        low, high = wilson(round(right * count), count)
        found = {"data": data.name, "texts": count, "accuracy": right, "low": low,
                 "high": high, "loss": loss}
        print(json.dumps(found) if args.json else
              f"test accuracy {right:.2%} (95 % interval {low:.1%} to {high:.1%}), loss "
              f"{loss:.4f}, on {count:,} texts of {data.name}")
        return 0
    if args.index >= len(data.test.labels):
        raise console.Refusal(f"{data.name} has the test texts 0 to "
                              f"{len(data.test.labels) - 1}")
    text, truth = data.test.texts[args.index], data.classes[data.test.labels[args.index]]
    if not args.json:
        print(f"test text {args.index} of {data.name}, about {truth}: {text}")
    return read_all(reader, [text], args.json)


@console.one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Load a checkpoint and answer questions with it."""
    parser = console.inference_parser("Name the topic of texts.")
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--text", metavar="TEXT", nargs="+", help="texts, each in quotes")
    asked.add_argument("--file", metavar="PATH", help="one text a line; - is standard input")
    asked.add_argument("--interactive", action="store_true", help="answer what is typed")
    asked.add_argument("--index", metavar="N", type=console.natural, default=0,
                       help="text N of the test set (default: %(default)s)")
    asked.add_argument("--test", action="store_true", help="accuracy on the whole test set")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    console.add_data_flags(parser, NAMES, default=None)
    args = parser.parse_args(argv)
    model, config = checkpoint.open_model(args.checkpoint, NAME, build,
                                          devices.choose(args.device))
    reader = Reader(model, config)
    if args.interactive:
        return converse(reader, lines_of("-"), args.json)
    if args.text:
        return read_all(reader, map(printable, args.text), args.json)
    if args.file is not None:
        return read_all(reader, lines_of(args.file), args.json)
    return read_test(reader, args)


if __name__ == "__main__":
    sys.exit(main())
