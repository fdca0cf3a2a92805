"""The batches of a step: windows of the text, drawn by the seed and the number of the step.

The tokens lie in a file and are read where a window is, so processes share one copy of them.
"""

# N tokens of the text, B windows, T tokens of a window

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

SEEDS = 1_000_003    # apart: so far that runs of neighbouring seeds never meet


def store(tokens: list[int], path: Path) -> None:
    """Write tokens into a file whole or not at all, each in two bytes if that will do."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        np.save(file, np.array(tokens, np.min_scalar_type(max(2**8, max(tokens, default=0)))))
    os.replace(partial, path)


def begins(tokens: int, context: int, size: int, seed: int, step: int) -> Tensor:
    """Where the windows of a step begin (B,): every place is as likely, in every step.

    A function of seed and step alone, so that a resumed run goes on with what would have come.
    """
    generator = torch.Generator().manual_seed(seed * SEEDS + step)
    return torch.randint(tokens - context, (size,), generator=generator)       # (B,)


def windows(tokens: np.ndarray, starts: Iterable[int], length: int,
            device: torch.device) -> tuple[Tensor, Tensor]:
    """What is read (B, T) and what should have been expected after each of it (B, T)."""
    rows = np.stack([tokens[start : start + length + 1] for start in starts])
    rows = torch.from_numpy(rows.astype(np.int64)).to(device)          # (B, T+1)
    return rows[:, :-1], rows[:, 1:]                                   # (B, T), (B, T)
