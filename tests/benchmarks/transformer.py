"""The encoder against a stack of PyTorch's own layers: a training step and a forward pass.

    python tests/benchmarks/transformer.py

Both get the same words and padding in the same process, in turn, and no dropout, which
PyTorch's layer has in one place more. Medians of rounds and the ratio theirs / ours are
printed, so that more than 1 means that ours is faster.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support import load

model = load("transformer_from_scratch").model
ROUNDS, STEPS, WORDS, CLASSES = 9, 5, 5_000, 5
SIZES = {"small: 2 layers, 64 channels, 32 texts of 20": (2, 64, 4, 256, 32, 20),
         "medium: 4 layers, 256 channels, 32 texts of 64": (4, 256, 8, 1024, 32, 64)}


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
    """Some training steps."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True)

    def work() -> None:
        net.train()
        for _ in range(STEPS):
            loss = F.cross_entropy(net(tokens), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    return work


def answerer(net: nn.Module, tokens: Tensor) -> Callable[[], None]:
    """Some forward passes."""
    @torch.no_grad()
    def work() -> None:
        net.eval()
        for _ in range(STEPS):
            net(tokens)
    return work


def seconds(work: Callable[[], None]) -> float:
    """Seconds of one step."""
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) / STEPS


def compare(name: str, ours: Callable[[], None], peer: Callable[[], None]) -> None:
    """Time both in turn, after a round that does not count, and print medians and ratio."""
    ours(), peer()
    pairs = [(seconds(ours), seconds(peer)) for _ in range(ROUNDS)]
    mine, theirs = (1e3 * statistics.median(column) for column in zip(*pairs))
    ratios = sorted(their / my for my, their in pairs)
    print(f"  {name}: {mine:.1f} ms against {theirs:.1f} ms, ratio "
          f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})", flush=True)


def main() -> None:
    """Print the table, on one thread and on all."""
    for threads in sorted({1, os.cpu_count() or 1}):
        torch.set_num_threads(threads)
        for name, (layers, channels, heads, hidden, texts, length) in SIZES.items():
            print(f"{name}; {threads} threads")
            torch.manual_seed(0)
            tokens = torch.randint(1, WORDS, (texts, length))
            tokens[torch.arange(length) >= torch.randint(length // 2, length, (texts, 1))] = 0
            labels = torch.arange(texts) % CLASSES
            ours = model.TransformerClassifier(WORDS, CLASSES, channels, heads, layers, hidden,
                                               0.0)
            peer = Peer(channels, heads, layers, hidden)
            compare("training step", trainer(ours, tokens, labels),
                    trainer(peer, tokens, labels))
            compare("forward pass", answerer(ours, tokens), answerer(peer, tokens))


if __name__ == "__main__":
    main()
