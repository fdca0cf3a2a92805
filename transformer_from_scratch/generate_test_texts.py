"""Sentences of five topics, drawn by a seed; no test sentence has a frame or name of training.

    python generate_test_texts.py                       # texts/train.csv, and two others
    python generate_test_texts.py --hard --out hard     # most of them need the order of words

Plain sentences are known by their words. Most of the hard ones name two topics, and the one
that comes first is right. Each of them stands there twice, once in either order, so that
nobody who does not look at the order can have more than half of them right.
"""

# no tensors here: texts and labels are plain lists

import argparse
import csv
import random
import re
import sys
from collections.abc import Callable
from pathlib import Path

import console
from words import ACTS, FRAMES, NOUNS, ORDERS, PAIRS, PEOPLE, PLACES, TRAITS

Rows = list[tuple[str, str]]     # of a table: topic and sentence
TOPICS = tuple(NOUNS)
SIZES = {"train": 3_000, "validation": 500, "test": 1_000}
HARD_SHARE = 0.9     # of the sentences of a topic that has a partner in `PAIRS`


def plain(topic: str, part: str, rng: random.Random) -> str:
    """A sentence that has only words of its topic, beside names and words of no topic."""
    noun, other = rng.sample(NOUNS[topic], 2)
    return finish(rng.choice(FRAMES[part]).format(
        name=rng.choice(PEOPLE[part]), place=rng.choice(PLACES[part]), noun=noun, other=other,
        trait=rng.choice(TRAITS[topic]), act=rng.choice(ACTS[topic])))


def ordered(pair: tuple[str, str], part: str, rng: random.Random) -> tuple[str, str]:
    """Two sentences with the same words: the first has the pair's first topic, and so on."""
    frame, name, place = (rng.choice(some[part]) for some in (ORDERS, PEOPLE, PLACES))
    one, two = (f"{rng.choice(TRAITS[topic])} {rng.choice(NOUNS[topic])}" for topic in pair)
    return (finish(frame.format(name=name, place=place, a=one, b=two)),
            finish(frame.format(name=name, place=place, a=two, b=one)))


def finish(text: str) -> str:
    """A sentence with a capital, and with "an" where it is spoken."""
    text = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)
    return text[0].upper() + text[1:]


def distinct(make: Callable[[], Rows], count: int, seen: set[str]) -> Rows:
    """The rows of `count` calls whose sentences are all new; they are added to `seen`.

    Raises Refusal if nearly all possible sentences have been drawn.
    """
    rows, found = [], 0
    for _ in range(100 * count + 1_000):
        if found == count:
            return rows
        new = make()
        if seen.isdisjoint(text for _, text in new):
            seen.update(text for _, text in new)
            rows, found = rows + new, found + 1
    raise console.Refusal(f"there are hardly {len(seen)} different sentences of this kind: ask "
                          "for fewer")


def draw(part: str, count: int, seed: int, hard: bool = False) -> Rows:
    """`count` rows of topic and sentence, equally many of each topic, none of them twice.

    With `hard`, nine tenths of the topics in `PAIRS` are sentences of order, in both orders.
    Raises Refusal for a count that five topics cannot share, or that is too large.
    """
    if count % len(TOPICS):
        raise console.Refusal(f"{count} sentences cannot be shared evenly: ask for a multiple "
                              f"of {len(TOPICS)}")
    rng, seen, rows = random.Random(f"{seed} {part} {hard}"), set(), []
    each = count // len(TOPICS)
    ordered_each = round(each * HARD_SHARE) if hard else 0
    for pair in PAIRS:
        rows += distinct(lambda pair=pair: list(zip(pair, ordered(pair, part, rng))),
                         ordered_each, seen)
    for topic in TOPICS:
        paired = any(topic in pair for pair in PAIRS)
        rows += distinct(lambda topic=topic: [(topic, plain(topic, part, rng))],
                         each - ordered_each * paired, seen)
    rng.shuffle(rows)
    return rows


@console.one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Write train.csv, validation.csv and test.csv, each with the columns label and text."""
    parser = argparse.ArgumentParser(description=main.__doc__, allow_abbrev=False)
    parser.add_argument("--hard", action="store_true",
                        help="four of five topics need the order of words")
    for part, size in SIZES.items():
        parser.add_argument(f"--{part}", metavar="N", type=console.positive_int, default=size,
                            help="sentences in it (default: %(default)s)")
    parser.add_argument("--seed", metavar="N", type=console.seed, default=0,
                        help="another seed draws others (default: 0)")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("texts"),
                        help="where the files go (default: texts/)")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    args = parser.parse_args(argv)
    drawn = {part: draw(part, getattr(args, part), args.seed, args.hard) for part in SIZES}
    args.out.mkdir(parents=True, exist_ok=True)
    for part, rows in drawn.items():
        with (args.out / f"{part}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("label", "text"), *rows])
        print(f"{console.from_here(args.out / part)}.csv: {len(rows)} sentences, such as")
        print(f"  {rows[0][0]}: {rows[0][1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
