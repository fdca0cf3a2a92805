"""What the model keeps of the tokens it has read, and who may see whom among them.

A token that was read never changes: nothing in it depends on what comes later. So its keys and
values are computed once and kept, and the next token costs one row instead of the whole text.
The cache is given to the model and comes back longer; the model itself remembers nothing.
"""

# B texts, T new tokens, H heads, D channels a head, L layers, S positions that can be seen

from typing import NamedTuple

import torch
from torch import Tensor


class Cache(NamedTuple):
    """Keys and values of the tokens read so far, in memory that was set aside beforehand.

    A longer cache shares the memory of the one it continues, so of two continuations of one
    cache only the last can be trusted.
    """

    keys: Tensor             # of all layers: (L, B, H, room, D)
    values: Tensor           # likewise
    length: int              # how many of the places are filled
    padding: Tensor | None   # so many tokens at the beginning of each row (B,) are none

    @property
    def room(self) -> int:
        """How many tokens fit."""
        return self.keys.size(3)

    def write(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Put new keys and values (B, H, T, D) behind the old ones; give all of this layer."""
        end = self.length + k.size(2)
        for store, new in ((self.keys, k), (self.values, v)):
            store[layer, :, :, self.length : end] = new                # (B, H, T, D)
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]  # each (B, H, S, D)


def visible(new: int, total: int, padding: Tensor | None = None,
            device: torch.device | None = None) -> Tensor:
    """Which of `total` tokens (S) each of the last `new` ones (T) may see: (B or 1, 1, T, S).

    A token sees itself and what stands before it. With a cache there are more keys than
    queries: it is the last query that sees the last key. Padding is seen by no token of the
    text; it sees itself, so that no row is empty.
    """
    key = torch.arange(total, device=device)                           # (S,)
    query = key[total - new :, None]                                   # (T, 1)
    keep = (key <= query)[None, None]                                  # (1, 1, T, S)
    if padding is None:
        return keep
    real = key >= padding[:, None, None, None]                         # (B, 1, 1, S)
    return keep & (real | (key == query))                              # (B, 1, T, S)
