"""What counting reaches: how surprising a text is to who knows the 0 to 4 characters before.

A model that is worse than counting three characters has not learned to read. The counts are
interpolated as by I. Witten and T. Bell, "The Zero-Frequency Problem", 1991, method C.

    python ngrams.py my_book.txt                   # its last tenth, by its other nine
"""

# N characters of both parts

import argparse
import sys
from pathlib import Path

import numpy as np

import console
from data import NAMES, load

LONGEST = 5                   # characters of a gram: with more, counting becomes worse again
MOST = 10_000_000             # characters that are counted, those next to what is judged
CODE_POINTS = 0x110000        # what a character could be


def baselines(training: str, validation: str, longest: int = LONGEST) -> dict[str, float]:
    """Nats a character of the second text, by the counts of the first: "1-gram" and so on.

    A context that was followed by n characters, d of them different, gives the one that came
    count times the share (count + d · p) / (n + d), where p is what the context without its
    first character gives: the more it was surprised before, the more it asks the shorter one.
    In the end all of Unicode is equally likely, so that nothing is impossible.
    """
    training = training[-MOST:]
    text = np.frombuffer((training + validation).encode("utf-32-le"), np.uint32)     # (N,)
    signs, text = np.unique(text, return_inverse=True)
    seen, found = len(training), {}
    context = np.zeros(len(text), np.int64)                            # (N,)
    share = np.full(len(validation), 1 / CODE_POINTS)
    for length in range(1, longest + 1):
        grams, gram = np.unique(context * len(signs) + text, return_inverse=True)
        count = np.bincount(gram[:seen], minlength=len(grams))
        after = np.bincount(context[:seen], minlength=context.max() + 1)
        different = np.bincount(grams[count > 0] // len(signs), minlength=len(after))
        n, d = after[context[seen:]], different[context[seen:]]
        known = n > 0
        share[known] = ((count[gram[seen:]] + d * share) / np.maximum(n + d, 1))[known]  # (20)
        found[f"{length}-gram"] = float(-np.log(share).mean())
        context = np.concatenate([[len(grams)], gram[:-1]])            # (N,)
    return found


@console.one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Print what counting reaches on a text."""
    parser = argparse.ArgumentParser(description=main.__doc__, allow_abbrev=False)
    parser.add_argument("data", metavar="NAME|PATH", nargs="?", default=NAMES[0],
                        help=f"{', '.join(NAMES)}, or the path of your own (default: "
                             "%(default)s)")
    parser.add_argument("--data-dir", metavar="DIR", type=Path,
                        default=Path(__file__).with_name("data"),
                        help="where data sets lie (default: data/ in this folder)")
    args = parser.parse_args(argv)
    data = load(args.data, args.data_dir)
    for name, nats in baselines(data.training, data.validation).items():
        print(f"{name}  {nats:.3f} nats a character")
    return 0


if __name__ == "__main__":
    sys.exit(main())
