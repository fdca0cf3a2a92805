"""The encoder against a stack of PyTorch's own layers: a training step and a forward pass.

    python tests/benchmarks/transformer.py

Both get the same words and padding, and no dropout: PyTorch's layer has it in one place more.
"""

import sys
from collections.abc import Callable, Iterator

import timing
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from support import load

model = load("transformer_from_scratch").model
CALLS, WORDS, CLASSES = 5, 5_000, 5
SIZES = {"2 layers, 64 channels, 32 texts of 20": (2, 64, 4, 256, 32, 20),
         "4 layers, 256 channels, 32 texts of 64": (4, 256, 8, 1024, 32, 64)}


class Peer(nn.Module):
    """The same classifier around `nn.TransformerEncoder`."""

    def __init__(self, channels: int, heads: int, layers: int, hidden: int) -> None:
        super().__init__()
        self.ends = model.TransformerClassifier(WORDS, CLASSES, channels, heads, 0, hidden, 0.0)
        layer = nn.TransformerEncoderLayer(channels, heads, hidden, 0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits."""
        x = self.ends.drop(self.ends.locate(self.ends.embed(tokens) * self.ends.scale))
        x = self.encoder(x, src_key_padding_mask=tokens == 0)
        real = (tokens != 0)[..., None]
        return self.ends.classify((x * real).sum(1) / real.sum(1).clamp(min=1))


def trainer(net: nn.Module, tokens: Tensor, labels: Tensor) -> Callable[[], None]:
    """A training step."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True)

    def work() -> None:
        net.train()
        loss = F.cross_entropy(net(tokens), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return work


def answerer(net: nn.Module, tokens: Tensor) -> Callable[[], None]:
    """A forward pass."""
    @torch.no_grad()
    def work() -> None:
        net.eval()(tokens)
    return work


def pairs(quick: bool) -> Iterator[timing.Pair]:
    """Two sizes, trained and asked."""
    for name, (layers, channels, heads, hidden, texts, length) in list(SIZES.items())[
            : 1 if quick else None]:
        torch.manual_seed(0)
        tokens = torch.randint(1, WORDS, (texts, length))
        tokens[torch.arange(length) >= torch.randint(length // 2, length, (texts, 1))] = 0
        labels = torch.arange(texts) % CLASSES
        ours = model.TransformerClassifier(WORDS, CLASSES, channels, heads, layers, hidden, 0.0)
        peer = Peer(channels, heads, layers, hidden)
        calls = (1, 1) if quick else (CALLS, CALLS)
        yield timing.Pair(f"training step, {name}", "nn.TransformerEncoder",
                          trainer(ours, tokens, labels), trainer(peer, tokens, labels), calls)
        yield timing.Pair(f"forward pass, {name}", "nn.TransformerEncoder",
                          answerer(ours, tokens), answerer(peer, tokens), calls)


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    args = timing.parse(timing.parser(__doc__), argv, rounds=9)
    timing.measure("transformer", lambda: pairs(args.quick), args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
