"""One part of a data set: pictures in memory, or files that are read as they are needed."""

# B pictures in a batch, N pictures, S side of a stored picture

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from console import say
from reading import read_square


class Part(NamedTuple):
    """One part of a data set: labels int64 (N,), and images.

    Images are bytes (N, 3, S, S), or the list of their files.
    """

    images: Tensor | list[Path]
    labels: Tensor
    side: int
    workers: int = 0

    def take(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """The chosen pictures (B, 3, S, S) and labels (B,); what cannot be read is left out."""
        if isinstance(self.images, Tensor):
            return self.images[chosen], self.labels[chosen]
        files = [self.images[i] for i in chosen.tolist()]
        pictures = read_all(files, self.side, self.workers)
        good = [i for i, picture in enumerate(pictures) if isinstance(picture, Tensor)]
        if len(good) < len(files):
            say(f"left out {len(files) - len(good)} files: no picture")
        empty = torch.empty(0, 3, self.side, self.side, dtype=torch.uint8)
        images = torch.stack([pictures[i] for i in good]) if good else empty
        return images, self.labels[chosen[good]]

    def one(self, index: int) -> Tensor:
        """A single picture (3, S, S). Raises ValueError if its file is none."""
        if isinstance(self.images, Tensor):
            return self.images[index]
        return read_square(self.images[index], self.side)

    def stream(self, batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """The pictures and labels of each batch; the next is read while one is used."""
        with ThreadPoolExecutor(1) as reader:
            waiting = None
            for chosen in batches:
                following = reader.submit(self.take, chosen)
                if waiting:
                    yield waiting.result()
                waiting = following
            if waiting:
                yield waiting.result()

    def some(self, count: int) -> "Part":
        """At most `count` pictures, evenly spread: folders come class by class."""
        chosen = spread(len(self.labels), count)
        images = (self.images[chosen] if isinstance(self.images, Tensor)
                  else [self.images[i] for i in chosen.tolist()])
        return self._replace(images=images, labels=self.labels[chosen])


def spread(total: int, count: int) -> Tensor:
    """At most `count` numbers below `total`, at even distances from 0 on."""
    count = min(count, total)
    return torch.arange(count) * total // max(count, 1)


def read_all(files: list[Path], side: int, workers: int) -> list[Tensor | ValueError]:
    """The pictures of files, or why one is none; with threads if there are workers."""
    def read(path: Path) -> Tensor | ValueError:
        try:
            return read_square(path, side)
        except ValueError as error:
            return error

    if not workers:
        return list(map(read, files))
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(read, files))
