"""Attention, computed in three ways that give the same, and the block that lets words in.

A. Vaswani and others, "Attention Is All You Need", 2017; R. Rombach and others,
"High-Resolution Image Synthesis with Latent Diffusion Models", 2022, section 3.3. In the first
attention of a block every place of a map asks all other places, in the second the words.

Names of layers are those of the original release, so that its files need no translation.
"""

# B images, C channels, H height and W width of a map, T places or tokens that ask, S those that
# are asked, N heads, D channels of a head, E channels of a token of the text

import contextlib
import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROWS = 1024          # queries that the sliced attention handles together


def explicit(q: Tensor, k: Tensor, v: Tensor, causal: bool = False) -> tuple[Tensor, Tensor]:
    """What each query gathers (B, N, T, D), and how much it takes of each value (B, N, T, S).

    Queries are (B, N, T, D), keys and values (B, N, S, D). With `causal` the last query sees
    everything and each one before it one less. The shares are computed in 32 bits at least:
    in 16 the sum of many of them loses its last digits, and a large score overflows.
    """
    exact = torch.promote_types(q.dtype, torch.float32)
    scores = q.to(exact) @ k.to(exact).transpose(-2, -1) / math.sqrt(q.size(-1))    # (7)
    if causal:
        ahead = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device)
        ahead = ahead.triu(1 + k.size(2) - q.size(2))
        scores = scores.masked_fill(ahead, -math.inf)
    shares = scores.softmax(-1).to(v.dtype)                            # (B, N, T, S)  (7)
    return shares @ v, shares


def sliced(q: Tensor, k: Tensor, v: Tensor, causal: bool = False) -> Tensor:
    """The same with few queries at a time: never more than ROWS rows of shares in memory."""
    parts = []
    for first in range(0, q.size(2), ROWS):
        last = min(first + ROWS, q.size(2))
        seen = k.size(2) - (q.size(2) - last) if causal else k.size(2)
        parts.append(explicit(q[:, :, first:last], k[:, :, :seen], v[:, :, :seen], causal)[0])
    return torch.cat(parts, dim=2)


def fused(q: Tensor, k: Tensor, v: Tensor, causal: bool = False) -> Tensor:
    """The same by PyTorch's kernel, which never stores the shares."""
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal)   # (B, N, T, D)


KINDS = {"explicit": lambda *asked: explicit(*asked)[0], "sliced": sliced, "fused": fused}


class Attention(nn.Module):
    """What all attentions have in common: the way they are computed, and who looks on."""

    kind = "fused"
    watcher: Callable[[Tensor], None] | None = None      # is given the shares of every call

    def gather(self, q: Tensor, k: Tensor, v: Tensor, heads: int,
               causal: bool = False) -> Tensor:                        # (B, T, C)
        """What the queries (B, T, C) gather from the values (B, S, C), head by head."""
        q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (q, k, v))
        if self.watcher:
            gathered, shares = explicit(q, k, v, causal)   # (B, N, T, D), (B, N, T, S)
            self.watcher(shares)
        else:
            gathered = KINDS[self.kind](q, k, v, causal)               # (B, N, T, D)
        return gathered.transpose(1, 2).flatten(2)                     # (B, T, C)


def choose_attention(model: nn.Module, kind: str) -> None:
    """Let every attention of a model compute in this way. Raises ValueError for others."""
    if kind not in KINDS:
        raise ValueError(f"there is no attention {kind!r}: choose one of {', '.join(KINDS)}")
    for module in model.modules():
        if isinstance(module, Attention):
            module.kind = kind


@contextlib.contextmanager
def watched(model: nn.Module, watch: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Within it, `watch` gets name and shares (B, N, T, S) of every look at the text."""
    layers = {name: module for name, module in model.named_modules()
              if isinstance(module, CrossAttention) and name.endswith("attn2")}
    for name, module in layers.items():
        module.watcher = lambda shares, name=name: watch(name, shares)
    try:
        yield
    finally:
        for module in layers.values():
            module.watcher = None


class CrossAttention(Attention):
    """N heads that look at a context; at the map itself where there is none."""

    def __init__(self, channels: int, context: int, heads: int) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels cannot be shared among {heads} heads: "
                             f"choose a multiple of {heads}")
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context, channels, bias=False)
        self.to_v = nn.Linear(context, channels, bias=False)
        self.to_out = nn.Sequential(nn.Linear(channels, channels))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:   # (B, T, C)
        context = x if context is None else context                    # (B, S, E)
        q, k, v = self.to_q(x), self.to_k(context), self.to_v(context)
        return self.to_out(self.gather(q, k, v, self.heads))           # (B, T, C)


class GEGLU(nn.Module):
    """Half of the features, each let through as far as the other half opens its gate.

    The gate is the exact one, with Gauss's integral; the approximation by tanh would differ by
    less than 0.0005, and be wrong.
    """

    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, 2 * features)

    def forward(self, x: Tensor) -> Tensor:                            # (B, T, C)
        value, gate = self.proj(x).chunk(2, dim=-1)                    # each (B, T, 4C)
        return value * F.gelu(gate)                                    # (B, T, 4C)  (8)


class FeedForward(nn.Module):
    """Two layers that every place passes alone."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        # in the release the middle one drops out nothing; it counts in the names
        self.net = nn.Sequential(GEGLU(channels, 4 * channels), nn.Identity(),
                                 nn.Linear(4 * channels, channels))

    def forward(self, x: Tensor) -> Tensor:                            # (B, T, C)
        return self.net(x)                                             # (B, T, C)


class TransformerBlock(nn.Module):
    """A look around, a look at the text, a thought; each behind a norm, beside a way past."""

    def __init__(self, channels: int, context: int, heads: int) -> None:
        super().__init__()
        self.attn1 = CrossAttention(channels, channels, heads)
        self.ff = FeedForward(channels)
        self.attn2 = CrossAttention(channels, context, heads)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(channels) for _ in range(3))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:           # (B, T, C), (B, S, E)
        x = x + self.attn1(self.norm1(x))                              # (B, T, C)
        x = x + self.attn2(self.norm2(x), context)                     # (B, T, C)
        return x + self.ff(self.norm3(x))                              # (B, T, C)


class SpatialTransformer(nn.Module):
    """Reads a map as a row of places, runs blocks over it, and adds what they found.

    Its norm has an ε of 10⁻⁶, that of the residual blocks 10⁻⁵: in the release, and hence here.
    """

    def __init__(self, channels: int, context: int, heads: int, depth: int = 1,
                 groups: int = 32) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList(
            TransformerBlock(channels, context, heads) for _ in range(depth))
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:           # (B, C, H, W), (B, S, E)
        places = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)     # (B, H*W, C)
        for block in self.transformer_blocks:
            places = block(places, context)                            # (B, H*W, C)
        found = places.transpose(1, 2).unflatten(2, x.shape[2:])       # (B, C, H, W)
        return x + self.proj_out(found)                                # (B, C, H, W)
