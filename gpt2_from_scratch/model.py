"""GPT-2: a stack of blocks that reads a text and says, at every token, what may come next.

A. Radford and others, "Language Models are Unsupervised Multitask Learners", 2019. It is the
decoder of the Transformer with the norms moved inside. None of PyTorch's own layers of the
transformer is used; where nobody asks for the weights of the attention, PyTorch's fused
kernel does the sums of `attention`.

    python model.py                            # a small model: 4 layers, 128 channels
    python model.py --layers 12 --channels 768 --heads 12 --context 1024 --vocabulary 50257
"""

# B texts, T tokens, C channels, H heads, D channels a head, V vocabulary, L layers,
# S positions that are seen: those in the cache and the new ones

import argparse
import math
import sys

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cache import Cache, visible
from console import one_line_errors
from norm import LayerNorm

NAME = "gpt2_from_scratch"           # whose checkpoints these are
VOCABULARY = 50_257                  # of all published models: bytes, merges, end of text
SIZES = {                            # the four published models, and small ones to try
    name: {"context": context, "layers": layers, "heads": heads, "channels": channels}
    for name, context, layers, heads, channels in (
        ("gpt2", 1024, 12, 12, 768), ("gpt2-medium", 1024, 24, 16, 1024),
        ("gpt2-large", 1024, 36, 20, 1280), ("gpt2-xl", 1024, 48, 25, 1600),
        ("tiny", 64, 2, 2, 64), ("small", 64, 4, 4, 128), ("shakespeare-gpu", 256, 6, 6, 384))
}


def attention(q: Tensor, k: Tensor, v: Tensor, keep: Tensor,
              dropout: float = 0.0) -> tuple[Tensor, Tensor]:
    """Scaled dot-product attention that sees only what `keep` allows, written out.

    Queries are (B, H, T, D), keys and values (B, H, S, D); `keep` can be broadcast to
    (B, H, T, S). Gives what each query gathers (B, H, T, D), and how much it took from each
    key, before dropout (B, H, T, S).
    """
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))           # (B, H, T, S)  (1)
    weights = scores.masked_fill(~keep, -math.inf).softmax(-1)         # (B, H, T, S)  (2)
    return F.dropout(weights, dropout) @ v, weights     # (B, H, T, D), (B, H, T, S)  (3)


class CausalSelfAttention(nn.Module):
    """H attentions side by side, each in its own C / H channels, none of which sees ahead."""

    def __init__(self, channels: int, heads: int, dropout: float = 0.0,
                 bias: bool = True) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels cannot be shared among {heads} heads: "
                             f"choose a multiple of {heads}")
        self.heads, self.dropout = heads, dropout
        self.project = nn.Linear(channels, 3 * channels, bias)   # W_Q, W_K, W_V of all heads
        self.combine = nn.Linear(channels, channels, bias)       # W_O

    def forward(self, x: Tensor, keep: Tensor | None = None, past: Cache | None = None,
                layer: int = 0, seen: list[Tensor] | None = None) -> Tensor:   # (B, T, C)
        """What every token gathers from the `past` and from the tokens up to itself.

        `keep` may be left out where there is no past or a single new token. The weights are
        added to `seen`, if there is such a list. Otherwise the fused kernel does the same sums
        and never stores them.
        """
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
                   for part in self.project(x).chunk(3, dim=-1))       # each (B, H, T, D)
        if past is not None:
            k, v = past.write(layer, k, v)                             # each (B, H, S, D)
        dropout = self.dropout if self.training else 0.0
        if seen is None:    # the kernel's own mask lets the first query see the first key only
            causal = keep is None and q.size(2) > 1
            heads = F.scaled_dot_product_attention(q, k, v, keep, dropout, causal)
        else:
            keep = visible(q.size(2), k.size(2), device=x.device) if keep is None else keep
            heads, weights = attention(q, k, v, keep, dropout)
            seen.append(weights)
        return self.combine(heads.transpose(1, 2).flatten(2))          # (B, T, C)  (4)


def gelu(x: Tensor) -> Tensor:
    """x · ½ (1 + tanh(√(2/π) (x + 0.044715 x³))), a smooth gate, as the published weights need.

    The exact gate, with Gauss's integral, differs by less than 0.0005: enough to see in the
    logits. In one pass by PyTorch; in steps it would take three times as long.
    """
    return F.gelu(x, approximate="tanh")                               # (7)


class FeedForward(nn.Module):
    """Two layers that every token passes alone: here the gathered is thought about."""

    def __init__(self, channels: int, bias: bool = True) -> None:
        super().__init__()
        self.widen = nn.Linear(channels, 4 * channels, bias)
        self.narrow = nn.Linear(4 * channels, channels, bias)

    def forward(self, x: Tensor) -> Tensor:                            # (B, T, C)
        return self.narrow(gelu(self.widen(x)))                        # (B, T, C)  (8)


class Block(nn.Module):
    """Attention, then the feed-forward layers, each behind a norm and beside a way around."""

    def __init__(self, channels: int, heads: int, dropout: float = 0.0,
                 bias: bool = True) -> None:
        super().__init__()
        self.norm1, self.norm2 = LayerNorm(channels, bias), LayerNorm(channels, bias)
        self.attend = CausalSelfAttention(channels, heads, dropout, bias)
        self.think = FeedForward(channels, bias)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, *memory: object) -> Tensor:           # (B, T, C)
        """Tokens that know more of each other; `memory` is for the attention."""
        x = x + self.drop(self.attend(self.norm1(x), *memory))         # (B, T, C)  (9)
        return x + self.drop(self.think(self.norm2(x)))                # (B, T, C)


class GPT(nn.Module):
    """Tokens and positions, L blocks, a norm: for tokens (B, T) logits (B, T, V)."""

    def __init__(self, vocabulary: int, context: int, layers: int, heads: int, channels: int,
                 dropout: float = 0.0, bias: bool = True) -> None:
        super().__init__()
        self.context, self.heads = context, heads
        self.embed = nn.Embedding(vocabulary, channels)
        self.locate = nn.Embedding(context, channels)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(channels, heads, dropout, bias)
                                    for _ in range(layers))
        self.norm = LayerNorm(channels, bias)
        self._start()

    def _start(self) -> None:
        """Small normal weights and no biases, as in OpenAI's code.

        Positions are half as large as tokens there (nanoGPT and transformers have 0.02 for
        both). What is added to the sum, twice a block, is divided by √(2L), so that the sum
        does not grow with the number of blocks: section 2.3 of the paper; the released code
        leaves that out.
        """
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.01 if name == "locate.weight" else 0.02)
        for block in self.blocks:
            for layer in (block.attend.combine, block.think.narrow):
                nn.init.normal_(layer.weight, std=0.02 / math.sqrt(2 * len(self.blocks)))

    def hidden(self, tokens: Tensor, past: Cache | None = None,
               seen: list[Tensor] | None = None) -> tuple[Tensor, Cache | None]:    # (B, T)
        """What each token has become (B, T, C), and the longer cache, if one was given.

        Every block adds its attention to `seen`, if given. Raises ValueError for more tokens
        than there are positions.
        """
        start, padding = (past.length, past.padding) if past else (0, None)
        end, room = start + tokens.size(1), past.room if past else self.context
        if end > room:
            raise ValueError(f"the text has {end} tokens but there is room for {room}: "
                             "shorten it")
        keep, place = None, torch.arange(start, end, device=tokens.device)
        if padding is not None:     # a text begins behind its padding, a row for each
            place = (place - padding[:, None]).clamp(min=0)
        if padding is not None or start and end > start + 1:    # else the kernel's mask will do
            keep = visible(tokens.size(1), end, padding, tokens.device)
        x = self.drop(self.embed(tokens) + self.locate(place))         # (B, T, C)  (10)
        for layer, block in enumerate(self.blocks):
            x = block(x, keep, past, layer, seen)                      # (B, T, C)
        return self.norm(x), past and past._replace(length=end)

    def logits(self, x: Tensor) -> Tensor:                             # (..., C)
        """How well each token would come next: the matrix that reads tokens names them, too."""
        return F.linear(x, self.embed.weight)                          # (..., V)  (11)

    def forward(self, tokens: Tensor) -> Tensor:                       # (B, T)
        """Logits at every token."""
        return self.logits(self.hidden(tokens)[0])                     # (B, T, V)

    @torch.no_grad()
    def extend(self, tokens: Tensor, past: Cache) -> tuple[Tensor, Cache]:      # (B, T)
        """The logits behind the last of some more tokens (B, V), and the longer cache."""
        x, past = self.hidden(tokens, past)
        return self.logits(x[:, -1]), past

    def cache(self, texts: int, room: int, padding: Tensor | None = None) -> Cache:
        """An empty cache for so many texts and tokens; `padding` tokens (B,) begin each row."""
        weight, room = self.embed.weight, min(room, self.context)
        shape = (len(self.blocks), texts, self.heads, room, weight.size(1) // self.heads)
        return Cache(weight.new_empty(shape), weight.new_empty(shape), 0, padding)

    @torch.no_grad()
    def attentions(self, tokens: Tensor) -> Tensor:                    # (B, T)
        """How much every token takes from every other: (L, B, H, T, T)."""
        seen = []
        self.hidden(tokens, seen=seen)
        return torch.stack(seen)                                       # (L, B, H, T, T)


SETTINGS = ("vocabulary", "context", "layers", "heads", "channels", "dropout", "bias")


def build(config: dict) -> GPT:
    """The untrained model that a checkpoint's configuration describes."""
    return GPT(**{name: config[name] for name in SETTINGS})


class _NoStart(TorchFunctionMode):
    """While it lasts, new weights are given no values."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if getattr(function, "__module__", "") == "torch.nn.init":
            return None
        return function(*args, **(kwargs or {}))


def hollow(config: dict) -> GPT:
    """The model without numbers: on the meta device there are only names and shapes.

    PyTorch would draw the first weights even there, and load its compiler for two seconds to
    find out that it need not.
    """
    with torch.device("meta"), _NoStart():
        return build(config)


def parts(model: GPT, tokens: Tensor) -> list[tuple[str, str, int]]:
    """Name, output shape and parameters of each part, from a real forward pass."""
    rows = []

    def record(name: str, module: nn.Module, output: Tensor) -> None:
        shape = "×".join(map(str, output.shape[-2:]))
        rows.append((name, shape, sum(p.numel() for p in module.parameters())))

    top = [(name, module) for name, module in model.named_children() if name != "blocks"]
    inside = [(f"blocks.{number}.{name}", module) for number, block in enumerate(model.blocks)
              for name, module in block.named_children()]
    hooks = [module.register_forward_hook(
                 lambda module, _inputs, output, name=name: record(name, module, output))
             for name, module in top + inside if not isinstance(module, nn.Dropout)]
    logits = model.eval()(tokens)                                      # (B, T, V)
    for hook in hooks:
        hook.remove()
    return [*rows, ("embed, turned around", "×".join(map(str, logits.shape[1:])), 0)]


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Print the table of parts, for a text of 20 tokens."""
    parser = argparse.ArgumentParser(description=main.__doc__, allow_abbrev=False)
    for name, default in {"vocabulary": 1024, **SIZES["small"]}.items():
        parser.add_argument(f"--{name}", metavar="N", type=int, default=default,
                            help="default: %(default)s")
    args = parser.parse_args(argv)
    try:
        model = GPT(**vars(args))
    except ValueError as error:
        parser.error(str(error))
    print(f"{'part':20} {'output':>8} {'parameters':>12}")
    for name, shape, parameters in parts(model, torch.zeros(1, 20, dtype=torch.long)):
        print(f"{name:20} {shape:>8} {parameters:>12,}")
    print(f"{'total':20} {'':8} {sum(p.numel() for p in model.parameters()):>12,}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
