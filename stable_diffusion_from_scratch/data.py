"""Where pictures and captions come from: drawn shapes, or a folder of your own.

Whatever the source, all pictures end as one tensor of bytes in memory, each with a caption.
"""

# N pictures, P side of a picture

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from console import Refusal, from_here
from folders import read_folder
from scenes import draw_scene, paint
from words import training_caption

NAMES = ("shapes",)
DRAWN = (32_000, 500)        # shapes to train on, to validate
QUICK = (256, 64)            # of any set, in smoke runs
SIDE = 32                    # of a picture, if nothing else is asked for


class Part(NamedTuple):
    """One part of a data set: pictures in bytes (N, P, P, 3), and a caption for each."""

    images: Tensor
    captions: list[str]

    def some(self, count: int) -> "Part":
        """The first so many."""
        return Part(self.images[:count], self.captions[:count])


class Data(NamedTuple):
    """A data set in its two parts."""

    name: str
    train: Part
    validation: Part

    @property
    def digest(self) -> str:
        """SHA-256 over pictures and captions: a resumed run must find them unchanged."""
        sha = hashlib.sha256()
        for images, captions in (self.train, self.validation):
            sha.update(repr((images.shape, captions)).encode() + images.numpy().tobytes())
        return sha.hexdigest()

    def shortened(self, counts: tuple[int, int]) -> "Data":
        """The same set with at most so many pictures in each part, for smoke runs."""
        return Data(self.name, self.train.some(counts[0]), self.validation.some(counts[1]))


def load(name: str, data_dir: Path, side: int = SIDE, seed: int = 0, workers: int = 0,
         quick: bool = False) -> Data:
    """The data set that `--data` names, in squares of `side` pixels; little of it if `quick`.

    A path that does not exist is looked for, by its last part, in `data_dir`. Raises Refusal
    if the set is not to be had or is not usable.
    """
    if name == "shapes":
        return drawn_shapes(side, seed, QUICK if quick else DRAWN)
    path = Path(name) if Path(name).exists() else data_dir / Path(name).name
    if not path.is_dir():
        raise Refusal(f"{from_here(Path(name))} is neither a data set nor a folder: use "
                      f"{', '.join(NAMES)}, or a folder of pictures with captions")
    whole = from_folder(path, side, seed, workers)
    return whole.shortened(QUICK) if quick else whole


def drawn_shapes(side: int, seed: int, counts: tuple[int, int] = DRAWN) -> Data:
    """Coloured shapes, none of a held-out pair of colour and shape; one by one, by the seed."""
    scenes = [draw_scene(seed, index) for index in range(sum(counts))]
    captions = [training_caption(scene, seed, index) for index, scene in enumerate(scenes)]
    images = torch.from_numpy(paint(scenes, side))              # (N, P, P, 3)
    return Data("shapes", *_split(images, captions, counts[0]))


def _split(images: Tensor, captions: list[str], first: int) -> tuple[Part, Part]:
    """The first so many to train on, the others to validate."""
    return Part(images[:first], captions[:first]), Part(images[first:], captions[first:])


def from_folder(folder: Path, side: int, seed: int = 0, workers: int = 0) -> Data:
    """All pictures of a folder that have a caption; a tenth of them, by the seed, validate."""
    images, captions = read_folder(folder, side, workers)
    order = np.random.default_rng(seed).permutation(len(images))
    mixed = [captions[place] for place in order]
    tenth = max(1, len(images) // 10)
    return Data(str(folder), *_split(images[torch.from_numpy(order)], mixed,
                                     len(images) - tenth))
