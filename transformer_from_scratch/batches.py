"""The batches of an epoch: texts of like length together, and some words hidden."""

# N texts, B texts in a batch, T tokens

from typing import NamedTuple

import torch
from torch import Tensor

from data import Part
from tokenizer import PAD_TOKEN, UNKNOWN_TOKEN, Tokenizer, pad

SEEDS = 1_000_003    # apart: so far that runs of neighbouring seeds never meet
HIDING = 500_000     # added to a step, so that its hidden words and an epoch's order never meet
POOL = 16            # batches whose texts are sorted by length


class Inputs(NamedTuple):
    """A part as numbers: tokens (N, T) filled with padding, lengths (N,) and labels (N,)."""

    tokens: Tensor
    lengths: Tensor
    labels: Tensor

    def take(self, chosen: Tensor) -> tuple[Tensor, Tensor]:           # (B,)
        """The tokens of chosen texts (B, T), as wide as the longest of them, and the labels."""
        width = max(1, int(self.lengths[chosen].max()))
        return self.tokens[chosen, :width], self.labels[chosen]        # (B, T), (B,)


def encode(part: Part, tokenizer: Tokenizer, longest: int, device: torch.device) -> Inputs:
    """A part as numbers, on the device; what is longer than `longest` is cut off."""
    tokens = pad([tokenizer.encode(text) for text in part.texts], longest)   # (N, T)
    lengths = (tokens != PAD_TOKEN).sum(1)                               # (N,)
    return Inputs(tokens.to(device), lengths.to(device), part.labels.to(device))


def batches_of(lengths: Tensor, size: int, seed: int, epoch: int) -> list[Tensor]:
    """Which texts each batch of an epoch has: a function of seed and epoch alone.

    Texts of like length share a batch, as in the paper (section 5.1), so little is padding.
    """
    generator = torch.Generator().manual_seed(seed * SEEDS + epoch)
    order = torch.randperm(len(lengths), generator=generator)          # (N,)
    lengths = lengths.cpu()
    pools = [pool[lengths[pool].argsort(stable=True)] for pool in order.split(POOL * size)]
    batches = [batch for pool in pools for batch in pool.split(size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator)]


def hide(tokens: Tensor, share: float, seed: int, step: int) -> Tensor:    # (B, T)
    """Replace a share of the words by the unknown word, drawn by seed and step alone.

    So the model learns what to make of words that it has never seen, and to rely on none.
    """
    generator = torch.Generator().manual_seed(seed * SEEDS + HIDING + step)
    hidden = torch.rand(tokens.shape, generator=generator).to(tokens.device) < share
    return tokens.masked_fill(hidden & (tokens != PAD_TOKEN), UNKNOWN_TOKEN)   # (B, T)
