"""Let a trained model continue texts, say what it expects, or judge a text.

    python inference.py --prompt "To be" "The king" --count 2 --temperature 0.8 --top-p 0.9
    python inference.py --prompt "To be or not to" --next 10
    python inference.py --perplexity book.txt --stride 64
    python inference.py --weights gpt2 --download --prompt "In a shocking finding,"
"""

import argparse
import json
import sys

import checkpoint
import console
import devices
import weights
from generate import Sampling
from model import NAME, build
from reader import Reader, judge, printable, text_of

PROMPT = "The"
JUDGEMENT = ("perplexity {perplexity:.4g}, {nats_per_token:.4f} nats a token, "
             "{nats_per_character:.4f} nats a character, {bits_per_byte:.4f} bits a byte, on "
             "{scored:,} tokens in windows {stride} apart")


def probability(text: str) -> float:
    """A number above 0 and at most 1, as an argparse type."""
    value = console.positive_float(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"{text!r} is above 1")
    return value


def write(reader: Reader, prompts: list[str], args: argparse.Namespace) -> None:
    """Print how each prompt goes on: one alone while it is written, several one by one."""
    sampling = Sampling(args.temperature, args.top_k, args.top_p, args.repetition_penalty)
    stop = None if args.stop is None else reader.one_token(printable(args.stop))
    prompts = [prompt for prompt in prompts for _ in range(args.count)]
    steps = reader.write(prompts, args.tokens, sampling, args.seed, stop)
    if len(prompts) == 1 and not args.json:
        first = next(steps)                  # refuses what cannot be read before it is printed
        print(prompts[0], first[0], sep="", end="", flush=True)
        for (piece,) in steps:
            print(piece, end="", flush=True)
        print()
        return
    for number, (prompt, pieces) in enumerate(zip(prompts, zip(*steps)), 1):
        text = "".join(pieces)
        print(json.dumps({"prompt": prompt, "text": text}) if args.json else
              f"--- {number} of {len(prompts)}\n{prompt}{text}")


def show_next(reader: Reader, prompts: list[str], args: argparse.Namespace) -> None:
    """Print the likeliest next tokens of each prompt."""
    for prompt in prompts:
        found = [(reader.spell(token), token, share)
                 for token, share in reader.expects(prompt, args.next)]
        if args.json:
            print(json.dumps({"prompt": prompt, "next": found}))
            continue
        print(f"after {prompt!r}:\n{'token':>16} {'number':>7} {'probability':>12}")
        for text, token, share in found:
            print(f"{text!r:>16} {token:>7} {share:>12.2%}")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What is asked, and how tokens are drawn."""
    add = parser.add_argument
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--prompt", metavar="TEXT", nargs="+", default=[PROMPT],
                       help=f"beginnings that are continued (default: {PROMPT!r})")
    asked.add_argument("--file", metavar="PATH",
                       help="a beginning in a file; - is standard input")
    asked.add_argument("--perplexity", metavar="PATH",
                       help="judge the text of a file instead; - is standard input")
    add("--next", metavar="N", type=console.positive_int, nargs="?", const=10,
        help="only show the N likeliest next tokens (10 if no N is given)")
    add("--stride", metavar="N", type=console.positive_int,
        help="tokens between windows of --perplexity (default: half the context)")
    add("--tokens", metavar="N", type=console.positive_int, default=200,
        help="tokens to write at most (default: %(default)s)")
    add("--count", metavar="N", type=console.positive_int, default=1,
        help="continuations of each prompt (default: %(default)s)")
    add("--temperature", metavar="X", type=console.non_negative_float, default=0.8,
        help="0 always takes the likeliest token, 1 draws fairly (default: %(default)s)")
    add("--top-k", metavar="N", type=console.positive_int,
        help="draw from the N likeliest tokens (default: from all)")
    add("--top-p", metavar="P", type=probability, default=1.0,
        help="draw from the fewest tokens that have this probability (default: %(default)s)")
    add("--repetition-penalty", metavar="X", type=console.positive_float, default=1.0,
        help="above 1 makes what was there before less likely (default: %(default)s)")
    add("--stop", metavar="TEXT", help="the token that ends a continuation (default: none)")
    add("--json", action="store_true", help="one JSON object a line")


@console.one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Load a checkpoint, or the published weights, and answer one question."""
    parser = console.inference_parser("Continue texts with a trained GPT-2.")
    add_flags(parser)
    weights.add_flags(parser)
    args = parser.parse_args(argv)
    device = devices.choose(args.device)
    if args.weights:
        model, config = weights.open_published(args.weights, args.data_dir, args.download,
                                               args.tokenizer)
    else:
        model, config = checkpoint.open_model(args.checkpoint, NAME, build, device)
    reader = Reader(model.to(device), config)
    try:
        if args.perplexity is not None:
            found = judge(reader, text_of(args.perplexity), args.stride)
            print(json.dumps(found) if args.json else JUDGEMENT.format(**found))
        else:
            texts = args.prompt if args.file is None else [text_of(args.file)]
            prompts = [printable(text) for text in texts]
            (show_next if args.next else write)(reader, prompts, args)
    except ValueError as error:
        raise console.Refusal(str(error)) from None
    return 0


if __name__ == "__main__":
    sys.exit(main())
