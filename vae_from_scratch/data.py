"""Where the pictures come from: drawn creatures, MNIST, sprites, or a folder of your own.

Whatever the source, all pictures end as one tensor of bytes in memory. What is known about
them beside their pixels (the attributes of a creature, the digit of MNIST) is kept for
measuring; training never sees it. The test part is meant to be used once.
"""

# N pictures, C channels, H height and W width

import gzip
import hashlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torchvision
from torch import Tensor

import creatures
from console import Refusal, from_here, say
from download import fetch
from reading import files_in, read_square
from sprites import fetch_sprites

NAMES = ("creatures", "mnist", "pokemon")
CREATURES = (8_000, 500, 1_000)    # drawn to train on, to validate, to test
QUICK = (512, 128, 128)            # of any set, in smoke runs
SIDES = {"creatures": 32, "mnist": 28}   # of a picture; all others: 32, or as asked for
VALIDATION = 5_000                 # of MNIST's 60,000 training pictures
LEAST = 10                         # pictures in a folder
MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/",
           "https://storage.googleapis.com/cvdf-datasets/mnist/")
MNIST = {
    "train-images-idx3-ubyte":
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte":
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte":
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte":
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}   # SHA-256 of the compressed files


class Part(NamedTuple):
    """One part of a data set: bytes (N, C, H, W), and what is known of them, each (N,)."""

    images: Tensor
    known: dict[str, Tensor]

    def some(self, chosen: Tensor | slice) -> "Part":
        """A part of the part."""
        return Part(self.images[chosen], {key: value[chosen] for key, value in
                                          self.known.items()})


class Data(NamedTuple):
    """A data set in its three parts, and the values that attributes can have, by name."""

    name: str
    values: dict[str, list[str]]
    train: Part
    validation: Part
    test: Part

    @property
    def digest(self) -> str:
        """SHA-256 over all pictures: a resumed run must find them unchanged."""
        sha = hashlib.sha256()
        for part in self[2:]:
            sha.update(repr(part.images.shape).encode() + part.images.numpy().tobytes())
        return sha.hexdigest()

    def shortened(self, counts: tuple[int, int, int]) -> "Data":
        """The same set with at most so many pictures in each part, for smoke runs."""
        return Data(self.name, self.values, *(part.some(slice(count)) for part, count in
                                              zip(self[2:], counts)))


def to_input(images: Tensor) -> Tensor:
    """Bytes (N, C, H, W) as numbers from 0 to 1."""
    return images.float() / 255


def binarised(x: Tensor, seed: int) -> Tensor:
    """Every pixel black or white, drawn with its grey level as probability (N, C, H, W).

    Drawn anew in every step ("dynamic"), this is the MNIST of which log p(x) is quoted.
    """
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(x.shape, generator=generator).to(x.device) < x).float()


def load(name: str, data_dir: Path, side: int = 32, seed: int = 0, workers: int = 0,
         counts: tuple[int, int, int] = CREATURES) -> Data:
    """The data set that `--data` names; `counts` are the creatures of each part.

    Pictures of folders become squares of `side` pixels. Raises Refusal if the set is not to be
    had or is not usable.
    """
    if name == "creatures":
        return drawn_creatures(counts)
    if name == "mnist":
        return mnist(data_dir)
    if name == "pokemon":
        return from_folder(fetch_sprites(data_dir / "pokemon"), side, seed, workers)
    if not Path(name).is_dir():
        raise Refusal(f"{from_here(Path(name))} is neither a data set nor a folder: use "
                      f"{', '.join(NAMES)}, or a folder of pictures")
    return from_folder(Path(name), side, seed, workers)


def on_disk(name: str, data_dir: Path) -> bool:
    """Whether a data set can be had without a network."""
    if name == "mnist":
        return all((data_dir / "MNIST" / "raw" / file).exists() for file in MNIST)
    place = data_dir / "pokemon" if name == "pokemon" else Path(name)
    return name == "creatures" or place.is_dir()


# ---------------------------------------------------------------- creatures and MNIST


def drawn_creatures(counts: tuple[int, int, int]) -> Data:
    """Pixel monsters; no combination of attributes is in two parts. The same for every seed."""
    parts = []
    for number, (combinations, count) in enumerate(zip(creatures.split(), counts)):
        images, chosen, hues = creatures.draw_many(combinations, count, seed=number)
        known = {key: torch.from_numpy(chosen[:, i].copy())
                 for i, key in enumerate(creatures.ATTRIBUTES)}
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()   # (N, C, H, W)
        turns = torch.from_numpy(hues)                                 # (N,)
        parts.append(Part(pixels, {**known, "hue": nearest_hue(turns), "turn": turns}))
    values = {key: list(each) for key, each in creatures.ATTRIBUTES.items()}
    return Data("creatures", {**values, "hue": list(creatures.HUES)}, *parts)


def nearest_hue(turns: Tensor) -> Tensor:                              # (N,)
    """The place in `creatures.HUES` of the one that is nearest to a hue in turns: (N,)."""
    return (turns * len(creatures.HUES)).round().long() % len(creatures.HUES)


def mnist(data_dir: Path) -> Data:
    """70,000 handwritten digits of 28×28 grey pixels; 5,000 of the training set validate."""
    raw = data_dir / "MNIST" / "raw"
    if not on_disk("mnist", data_dir):
        for file, sha256 in MNIST.items():
            packed = raw / f"{file}.gz"
            fetch([mirror + packed.name for mirror in MIRRORS], packed, sha256)
            _unpack(packed, raw / file)
    try:
        kind = torchvision.datasets.MNIST
        whole, last = (Part(part.data[:, None], {"digit": part.targets})
                       for part in (kind(data_dir, train=True), kind(data_dir, train=False)))
        if any(len(part.images) != len(part.known["digit"]) for part in (whole, last)):
            raise ValueError("numbers of pictures and labels differ")
    except (AssertionError, RuntimeError, ValueError) as error:
        why = str(error) or "not in the format of MNIST"
        raise Refusal(f"the files in {raw} are damaged ({why}): delete them") from error
    order = torch.randperm(len(whole.images), generator=torch.Generator().manual_seed(0))
    return Data("mnist", {"digit": [str(digit) for digit in range(10)]},
                whole.some(order[VALIDATION:]), whole.some(order[:VALIDATION]), last)


def _unpack(packed: Path, target: Path) -> None:
    partial = target.with_name(target.name + ".partial")
    with gzip.open(packed) as source, partial.open("wb") as file:
        shutil.copyfileobj(source, file)
    os.replace(partial, target)


# ---------------------------------------------------------------- a folder of your own


def from_folder(folder: Path, side: int, seed: int = 0, workers: int = 0) -> Data:
    """All pictures below a folder; a tenth each, by the seed, to validate and to test.

    What is no picture is left out and counted, and so is a second copy of the same pixels:
    it could stand in two parts. Raises Refusal if too few are left.
    """
    files = files_in(folder)
    read = read_all(files, side, workers)
    good = [picture for picture in read if isinstance(picture, Tensor)]
    different = list({picture.numpy().tobytes(): picture for picture in good}.values())
    if len(good) < len(files):
        say(f"left out {len(files) - len(good)} of {len(files)} files in {from_here(folder)}: "
            "no picture")
    if len(different) < len(good):
        say(f"left out pictures that were there before: {len(good) - len(different)}")
    if len(different) < LEAST:
        raise Refusal(f"{from_here(folder)} has {len(different)} usable pictures: at least "
                      f"{LEAST} different ones are needed")
    images = torch.stack(different)
    if (images == images[:, :1]).all():
        images = images[:, :1].contiguous()    # grey: one channel says it all
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(images)))
    tenth = max(1, len(images) // 10)
    parts = order[2 * tenth :], order[:tenth], order[tenth : 2 * tenth]
    return Data(str(folder), {}, *(Part(images[part], {}) for part in parts))


def read_all(files: list[Path], side: int, workers: int = 0) -> list[Tensor | ValueError]:
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
