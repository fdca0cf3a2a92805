"""What a GPT-2 is made of: parameters by part, arithmetic per token, and memory.

    python show_params.py                              # the four published sizes
    python show_params.py small --checkpoint runs/best.pt

The models are built on the meta device, which knows shapes and holds no numbers, so the
largest takes no more memory than the smallest.
"""

import argparse
import sys
from pathlib import Path

import checkpoint
import console
from model import GPT, NAME, SIZES, VOCABULARY, hollow

PAPER = {   # table 2 of the paper, whose authors miscounted; the names come from their code
    "gpt2": "117M", "gpt2-medium": "345M", "gpt2-large": "762M", "gpt2-xl": "1542M"}
FLOAT = 4            # bytes of a number in single precision
PARTS = {            # what stands in a row of the table, by the beginning of a parameter's name
    "token embedding": ("embed",), "position embedding": ("locate",),
    "attention": ("attend",), "feed-forward": ("think",), "norms": ("norm1", "norm2", "norm"),
}


def count(model: GPT) -> dict[str, int]:
    """The number of parameters of each part; the embedding is also the head and counts once."""
    found = dict.fromkeys(PARTS, 0)
    for name, parameter in model.named_parameters():
        part = name.split(".")[2 if name.startswith("blocks.") else 0]
        found[next(row for row, names in PARTS.items() if part in names)] += parameter.numel()
    return found


def flops_per_token(config: dict, tokens: int) -> int:
    """Additions and multiplications to read one of so many tokens; training takes three times.

    Every matrix is used once a token, the embedding once more as the head: two operations a
    weight. In every layer queries meet keys, and weights meet values. As is usual, every
    token is counted as if it saw all others, though it sees half of them on average.
    """
    layers, channels = config["layers"], config["channels"]
    matrices = layers * 12 * channels**2 + config["vocabulary"] * channels
    return 2 * matrices + 4 * layers * channels * tokens               # (17)


def column(config: dict) -> dict[str, str]:
    """Everything about one model, in words, by the row of the table."""
    found, context = count(hollow(config)), config["context"]
    total = sum(found.values())
    cache = 2 * FLOAT * config["layers"] * config["channels"]
    flops = flops_per_token(config, context)
    shape = " ".join(str(config[name]) for name in ("layers", "heads", "channels"))
    return {
        "layers, heads, channels": shape,
        "vocabulary, context": f"{config['vocabulary']} {context}",
        **{part: f"{number:,}" for part, number in found.items()},
        "parameters": f"{total:,}",
        "with a head of its own": f"{total + found['token embedding']:,}",
        "GFLOP a token, reading": f"{flops / 1e9:.3f}",
        "GFLOP a token, training": f"{3 * flops / 1e9:.3f}",
        "MB of weights": f"{FLOAT * total / 1e6:,.1f}",
        "MB of gradients": f"{FLOAT * total / 1e6:,.1f}",
        "MB of AdamW's averages": f"{2 * FLOAT * total / 1e6:,.1f}",
        "kB of cache a token": f"{cache / 1e3:,.1f}",
        "MB of cache, full": f"{cache * context / 1e6:,.1f}",
    }


def print_table(columns: dict[str, dict[str, str]]) -> None:
    """Models side by side."""
    rows = next(iter(columns.values()))
    print(f"{'':24}" + "".join(f"{name:>17}" for name in columns))
    for row in rows:
        print(f"{row:24}" + "".join(f"{found[row]:>17}" for found in columns.values()))
    if set(columns) & set(PAPER):
        print(f"{'the paper says':24}" + "".join(f"{PAPER.get(name, ''):>17}"
                                                 for name in columns).rstrip())


@console.one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Print what models are made of, side by side."""
    parser = argparse.ArgumentParser(description=main.__doc__, allow_abbrev=False)
    parser.add_argument("sizes", metavar="SIZE", nargs="*",
                        help=f"of {', '.join(SIZES)} (default: those that the paper has)")
    parser.add_argument("--checkpoint", metavar="PATH", type=Path, nargs="+", default=[],
                        help="checkpoints to show as well")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    args = parser.parse_args(argv)
    if strange := [size for size in args.sizes if size not in SIZES]:
        parser.error(f"there is no size {strange[0]}: choose of {', '.join(SIZES)}")
    sizes = args.sizes or ([] if args.checkpoint else list(PAPER))
    plain = {"vocabulary": VOCABULARY, "dropout": 0.0, "bias": True}
    configs = {size: plain | SIZES[size] for size in sizes}
    for path in args.checkpoint:
        configs[path.name] = checkpoint.load(path, NAME)["config"]
    print_table({name: column(config) for name, config in configs.items()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
