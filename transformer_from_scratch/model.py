"""The encoder of the Transformer, and a classifier that stands on it.

A. Vaswani and others, "Attention Is All You Need", NeurIPS 2017. Every word looks at every
other word and takes from each as much as it finds relevant; there is no recurrence and no
convolution, so where a word stands has to be added to what it is. None of PyTorch's own
layers of the transformer is used; where nobody asks for the weights, its fused attention
kernel does the sums of `attention`.

    python model.py                         # what train.py makes: 2 layers, 64 channels
    python model.py --layers 6 --channels 512 --heads 8 --hidden 2048    # the paper's size
"""

# B texts in a batch, T tokens, C channels, H heads, D channels a head, F hidden features
# V words in the vocabulary, K classes

import argparse
import math
import sys

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from console import one_line_errors, positive_int
from norm import LayerNorm
from tokenizer import PAD_TOKEN

NAME = "transformer_from_scratch"    # whose checkpoints these are
NORMS = ("post", "pre")              # the sum is normalised, or what a sub-layer reads
ACTIVATIONS = {"relu": F.relu, "gelu": F.gelu}


def attention(q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None,
              dropout: float = 0.0) -> tuple[Tensor, Tensor]:
    """Scaled dot-product attention, written out (section 3.2.1).

    Queries, keys and values are (B, H, T, D). `keep` is True where a key may be seen and can
    be broadcast to (B, H, T, T). Gives what each query gathers (B, H, T, D), and how much it
    took from each key, before dropout (B, H, T, T). A query that may see nothing gathers
    zeros, in any precision.
    """
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))           # (B, H, T, T)  (1)
    if keep is not None:    # finite: with minus infinity a row of padding would be 0 / 0 here
        scores = scores.masked_fill(~keep, torch.finfo(scores.dtype).min)
    weights = scores.softmax(-1)                                       # (B, H, T, T)  (2)
    if keep is not None:
        weights = weights.masked_fill(~keep, 0)    # where nothing may be seen, all were equal
    return F.dropout(weights, dropout) @ v, weights     # (B, H, T, D), (B, H, T, T)  (3)


class MultiHeadAttention(nn.Module):
    """H attentions side by side, each in its own C / H channels (section 3.2.2)."""

    def __init__(self, channels: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels cannot be shared among {heads} heads: "
                             f"choose a multiple of {heads}")
        self.heads, self.dropout = heads, dropout
        self.project = nn.Linear(channels, 3 * channels)     # W_Q, W_K, W_V of all heads
        self.combine = nn.Linear(channels, channels)         # W_O

    def split(self, x: Tensor) -> Tensor:                              # (B, T, C)
        """Channels to heads."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)       # (B, H, T, D)

    def forward(self, x: Tensor, keep: Tensor | None = None,
                seen: list[Tensor] | None = None) -> Tensor:           # (B, T, C)
        """What every token gathers. The weights are added to `seen`, if there is such a list.

        Otherwise PyTorch's fused kernel does the same sums without ever storing the weights.
        """
        q, k, v = map(self.split, self.project(x).chunk(3, dim=-1))    # each (B, H, T, D)
        dropout = self.dropout if self.training else 0.0
        if seen is None:
            heads = F.scaled_dot_product_attention(q, k, v, keep, dropout)   # (B, H, T, D)
        else:
            heads, weights = attention(q, k, v, keep, dropout)
            seen.append(weights)                                       # (B, H, T, T)
        return self.combine(heads.transpose(1, 2).flatten(2))          # (B, T, C)  (4)


class PositionalEncoding(nn.Module):
    """Adds to each token a pattern of waves that says where it stands (section 3.5)."""

    def __init__(self, channels: int, longest: int) -> None:
        super().__init__()
        self.register_buffer("table", waves(longest, channels), persistent=False)

    def forward(self, x: Tensor) -> Tensor:                            # (B, T, C)
        """Raises ValueError for more tokens than the table has rows."""
        if x.size(1) > len(self.table):
            raise ValueError(f"the text has {x.size(1)} tokens but the model reads at most "
                             f"{len(self.table)}: shorten it")
        return x + self.table[: x.size(1)]                             # (B, T, C)


def waves(longest: int, channels: int) -> Tensor:
    """Sines and cosines of T positions, in C channels: (T, C).

    A pair of channels turns like the hand of a clock, and each pair more slowly than the one
    before. With an odd number of channels the last pair is a sine alone.
    """
    position = torch.arange(longest, dtype=torch.float64)[:, None]     # (T, 1)
    even = torch.arange(0, channels, 2, dtype=torch.float64)
    angle = position / 10_000 ** (even / channels)
    table = torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :channels]  # (5)
    return table.float()                                               # (T, C)


class FeedForward(nn.Module):
    """Two layers that every token passes alone: here the gathered is thought about (3.3)."""

    def __init__(self, channels: int, hidden: int, activation: str = "relu") -> None:
        super().__init__()
        self.widen = nn.Linear(channels, hidden)
        self.narrow = nn.Linear(hidden, channels)
        self.activate = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:                            # (B, T, C)
        """Every token on its own."""
        return self.narrow(self.activate(self.widen(x)))               # (B, T, C)  (8)


class EncoderBlock(nn.Module):
    """Attention, then the feed-forward layers, each beside a way around it (section 3.1)."""

    def __init__(self, channels: int, heads: int, hidden: int, dropout: float = 0.0,
                 norm: str = "post", activation: str = "relu") -> None:
        super().__init__()
        self.attend = MultiHeadAttention(channels, heads, dropout)
        self.think = FeedForward(channels, hidden, activation)
        self.norm1, self.norm2 = LayerNorm(channels), LayerNorm(channels)
        self.drop, self.norm = nn.Dropout(dropout), norm

    def forward(self, x: Tensor, keep: Tensor | None = None,
                seen: list[Tensor] | None = None) -> Tensor:           # (B, T, C)
        """Tokens that know more of each other."""
        if self.norm == "post":        # as the paper's text has it
            x = self.norm1(x + self.drop(self.attend(x, keep, seen)))  # (B, T, C)  (9)
            return self.norm2(x + self.drop(self.think(x)))            # (B, T, C)
        x = x + self.drop(self.attend(self.norm1(x), keep, seen))      # (B, T, C)  (10)
        return x + self.drop(self.think(self.norm2(x)))                # (B, T, C)


class TransformerClassifier(nn.Module):
    """Words, positions, N blocks, the mean over the words, and a linear layer: logits (B, K).

    Takes tokens (B, T); token 0 is padding, which nothing looks at and no mean contains.
    """

    def __init__(self, words: int, classes: int, channels: int = 64, heads: int = 4,
                 layers: int = 2, hidden: int = 256, dropout: float = 0.1, longest: int = 128,
                 norm: str = "post", activation: str = "relu", positions: bool = True,
                 embedding_std: float = 1.0) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, channels, padding_idx=PAD_TOKEN)
        self.locate = PositionalEncoding(channels, longest) if positions else nn.Identity()
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            EncoderBlock(channels, heads, hidden, dropout, norm, activation)
            for _ in range(layers))
        self.norm = LayerNorm(channels) if norm == "pre" else nn.Identity()   # the last sum's
        self.classify = nn.Linear(channels, classes)
        self.scale = math.sqrt(channels)
        self._start(embedding_std)

    def _start(self, embedding_std: float) -> None:
        """Glorot's weights and no biases; words as large as asked for after scaling (11)."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.embed.weight, std=embedding_std / self.scale)
        with torch.no_grad():
            self.embed.weight[PAD_TOKEN] = 0

    def encode(self, tokens: Tensor,
               seen: list[Tensor] | None = None) -> Tensor:            # (B, T)
        """What each token has become; every block adds its attention to `seen`, if given."""
        keep = (tokens != PAD_TOKEN)[:, None, None]                    # (B, 1, 1, T)
        x = self.drop(self.locate(self.embed(tokens) * self.scale))    # (B, T, C)  (11)
        for block in self.blocks:
            x = block(x, keep, seen)                                   # (B, T, C)
        return self.norm(x)                                            # (B, T, C)

    def forward(self, tokens: Tensor) -> Tensor:                       # (B, T)
        """Logits. A text of nothing but padding gets those of a vector of zeros."""
        x = self.encode(tokens)                                        # (B, T, C)
        real = (tokens != PAD_TOKEN)[..., None]                        # (B, T, 1)
        count = real.sum(1).clamp(min=1)                               # (B, 1)
        mean = (x * real).sum(1) / count                               # (B, C)  (12)
        return self.classify(mean)                                     # (B, K)

    @torch.no_grad()
    def attentions(self, tokens: Tensor) -> Tensor:                    # (B, T)
        """How much every token takes from every other: (layers, B, H, T, T)."""
        seen = []
        self.encode(tokens, seen)
        return torch.stack(seen)                                       # (..., B, H, T, T)


SETTINGS = ("channels", "heads", "layers", "hidden", "dropout", "longest", "norm",
            "activation", "positions", "embedding_std")


def build(config: dict) -> TransformerClassifier:
    """The untrained model that a checkpoint's configuration describes."""
    return TransformerClassifier(len(config["vocabulary"]), len(config["classes"]),
                                 **{name: config[name] for name in SETTINGS})


def parts(model: TransformerClassifier, tokens: Tensor) -> list[tuple[str, str, int]]:
    """Name, output shape and parameters of each part, from a real forward pass."""
    rows = []

    def record(name: str, module: nn.Module, output: Tensor) -> None:
        shape = "×".join(map(str, output.shape[1:]))
        rows.append((name, shape, sum(p.numel() for p in module.parameters())))

    top = [(name, module) for name, module in model.named_children() if name != "blocks"]
    inside = [(f"blocks.{number}.{name}", module) for number, block in enumerate(model.blocks)
              for name, module in block.named_children()]
    hooks = [module.register_forward_hook(
                 lambda module, _inputs, output, name=name: record(name, module, output))
             for name, module in top + inside
             if not isinstance(module, nn.Dropout | nn.Identity)]
    model.eval()(tokens)
    for hook in hooks:
        hook.remove()
    return rows


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Print the table of parts, for a text of 20 words."""
    parser = argparse.ArgumentParser(description=main.__doc__, allow_abbrev=False)
    for name, default in {"words": 411, "classes": 5, "channels": 64, "heads": 4, "layers": 2,
                          "hidden": 256}.items():
        parser.add_argument(f"--{name}", metavar="N", type=positive_int, default=default,
                            help="default: %(default)s")
    args = parser.parse_args(argv)
    try:
        model = TransformerClassifier(**vars(args))
    except ValueError as error:
        parser.error(str(error))
    print(f"{'part':18} {'output':>8} {'parameters':>12}")
    for name, shape, parameters in parts(model, torch.full((1, 20), args.words - 1)):
        print(f"{name:18} {shape:>8} {parameters:>12,}")
    print(f"{'total':18} {'':8} {sum(p.numel() for p in model.parameters()):>12,}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
