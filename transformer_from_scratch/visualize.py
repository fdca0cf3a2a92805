"""Pictures of a trained encoder: positions, attention, and what the order of words is worth.

    python visualize.py --text "Yesterday Amara tuned a guitar and talked about the concert."
"""

# L positions, C channels, N texts, K classes, H heads, T tokens

import random
import sys
from pathlib import Path

from torch import Tensor

import checkpoint
import console
import devices
import pictures
from generate_test_texts import PAIRS, ordered
from model import NAME, build, waves
from reader import Reader, printable

TEXT = "Yesterday Amara tuned a guitar and talked about the concert."
POSITIONS = 64       # rows of the picture of the encoding
SENTENCES = 20       # of each order
SHOWN = 40           # words that fit on the axes of an attention


def likeness(table: Tensor) -> Tensor:                                 # (L, C)
    """How alike the encodings of two positions are: their products, 1 for equal ones."""
    length = table.norm(dim=1)                                         # (L,)
    return table @ table.T / (length[:, None] * length)                # (L, L)


def order_matters(reader: Reader, seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Probabilities of the class named first, for sentences (N,) and their swapped twins (N,).

    Twins have the same words. For a model of the hard sentences all should be 1; one that sees
    no order gives the same answer to both, so that its two numbers add to 1 at most.
    """
    rng, found = random.Random(seed), {}
    for pair in PAIRS:
        if not set(pair) <= set(reader.classes):
            continue
        twins = [ordered(pair, "test", rng) for _ in range(SENTENCES)]
        columns = []
        for topic, texts in zip(pair, zip(*twins)):
            numbers = [reader.tokenizer.encode(text) for text in texts]
            belief = reader.probabilities(numbers)                     # (N, K)
            columns.append(belief[:, reader.classes.index(topic)])     # (N,)
        found[" or ".join(pair)] = tuple(columns)
    return found


@console.one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Draw everything that can be seen of a trained encoder."""
    parser = console.inference_parser("Draw what a trained encoder looks at.")
    parser.add_argument("--text", metavar="TEXT", default=TEXT,
                        help="whose attention is drawn (default: a sentence about music)")
    args = parser.parse_args(argv)
    path = args.checkpoint or checkpoint.newest(Path(__file__).resolve().parent)
    model, config = checkpoint.open_model(path, NAME, build, devices.choose(args.device))
    reader = Reader(model, config)
    try:
        words, weights = reader.attention(printable(args.text))
    except ValueError as error:
        raise console.Refusal(str(error)) from None
    if len(words) > SHOWN:
        console.say(f"attention.png shows the first {SHOWN} of {len(words)} words")
    weights = weights[..., :SHOWN, :SHOWN]                             # (..., H, T, T)
    pictures.draw_attention(words[:SHOWN], weights, args.out / "attention.png")
    names = ["attention.png"]
    if config["positions"]:
        table = waves(POSITIONS, config["channels"])                   # (L, C)
        pictures.draw_positions(table, likeness(table), args.out / "positions.png")
        names.append("positions.png")
    twins = order_matters(reader, args.seed)
    if twins:
        pictures.draw_order(twins, args.out / "order.png")
        names.append("order.png")
    metrics = path.with_name("metrics.csv")
    if metrics.exists() and metrics.read_text(encoding="utf-8").count("\n") > 1:
        pictures.draw_curves(metrics, args.out / "loss.png")
        names.append("loss.png")
    print(f"wrote {', '.join(names)} to {console.from_here(args.out)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
