"""Pictures of a trained model: where its heads look, what surprises it, when it knows.

    python visualize.py --prompt "It is a truth universally acknowledged"
    python visualize.py --weights gpt2 --prompt "The Eiffel Tower is in the city of"
"""

# T tokens, C channels, V vocabulary, N rows of the lens, L layers, H heads

import math
import sys

import torch
from torch import Tensor

import checkpoint
import console
import devices
import pictures
from model import NAME, build
from reader import Reader, printable
from weights import add_flags, open_published

PROMPT = "The value of a name is the value"
LONGEST = 48       # tokens whose attention can be drawn


@torch.inference_mode()
def lens(reader: Reader, tokens: list[int]) -> tuple[list[list[int]], Tensor]:
    """What would come next if the model ended earlier: the likeliest tokens and their shares.

    What a block hands on is a sum to which each block adds, so the last norm and the head can
    read it anywhere. Rows (N, T) are the embedding and then the layers. The idea is that of
    "interpreting GPT: the logit lens" (nostalgebraist, 2020).
    """
    model, sums = reader.model, []
    hooks = [block.register_forward_pre_hook(lambda _block, inputs: sums.append(inputs[0]))
             for block in model.blocks]
    hooks.append(model.norm.register_forward_pre_hook(
        lambda _norm, inputs: sums.append(inputs[0])))
    model(reader.tensor(tokens))
    for hook in hooks:
        hook.remove()
    rows = model.norm(torch.cat(sums))                                 # (N, T, C)
    best = model.logits(rows).float().softmax(-1).max(-1)              # over V
    return best.indices.tolist(), best.values.cpu()


@console.one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Draw everything that can be seen of a trained model."""
    parser = console.inference_parser("Draw what a trained model does with a text.")
    parser.add_argument("--prompt", metavar="TEXT", default=PROMPT,
                        help=f"the text that is drawn, {LONGEST} tokens at most (default: a "
                             "sentence that repeats itself)")
    add_flags(parser)
    args = parser.parse_args(argv)
    device = devices.choose(args.device)
    if args.weights:
        model, config = open_published(args.weights, args.data_dir, args.download,
                                       args.tokenizer)
    else:
        model, config = checkpoint.open_model(args.checkpoint, NAME, build, device)
    reader = Reader(model.to(device), config)
    try:
        tokens = reader.encode(printable(args.prompt))
    except ValueError as error:
        raise console.Refusal(str(error)) from None
    if not 2 <= len(tokens) <= LONGEST:
        raise console.Refusal(f"the prompt has {len(tokens)} tokens: choose one of 2 to "
                              f"{LONGEST}")
    names = [reader.spell(token) for token in tokens]
    weights = model.attentions(reader.tensor(tokens))[:, 0].float().cpu()    # (L, H, T, T)
    pictures.draw_attention(names, weights, args.out / "attention.png")
    losses = reader.surprise(tokens, reader.context)                   # (T-1,)
    pictures.draw_surprise(names, losses.tolist(), math.log(len(reader.tokenizer)),
                           args.out / "surprise.png")
    guesses, shares = lens(reader, tokens)
    pictures.draw_lens(names, [[reader.spell(token) for token in row] for row in guesses],
                       shares, args.out / "lens.png")
    print(f"wrote attention.png, surprise.png, lens.png to {console.from_here(args.out)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
