"""Where the pictures come from: drawn shapes, CIFAR-10, Imagenette, or a folder of your own.

Every picture becomes a square of bytes whose side is 8/7 of what the network reads (256 for
224), so that there is something to crop. Sets that fit are kept in memory, larger ones are
read from disk as they are needed. The test part is meant to be used once.
"""

# N pictures, S side of a stored picture

import hashlib
import math
import os
import tarfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torchvision
from sklearn.model_selection import train_test_split
from torch import Tensor
from torchvision.transforms.v2.functional import resize
from tqdm import tqdm

import shapes
from console import Refusal, from_here, say
from download import fetch
from parts import Part, read_all
from reading import files_in, size_of

NAMES = ("shapes", "cifar10", "imagenette")
SHAPES = (4_000, 500, 1_000)   # drawn pictures to train on, to validate, to test
QUICK = (160, 50, 50)          # of any set, in smoke runs
IN_MEMORY = 2 * 2**30          # bytes; what is larger stays on disk
LEAST = 10                     # pictures a class
VALIDATION = 10_000            # at most so many, and at most a tenth, are split off
TEST = 0.2                     # share that is split off where a folder has no part for it


class Data(NamedTuple):
    """A data set in its three parts, with the names of its classes."""

    name: str
    classes: list[str]
    train: Part
    validation: Part
    test: Part

    @property
    def digest(self) -> str:
        """SHA-256 over classes, labels and pictures, or the names and sizes of their files."""
        sha = hashlib.sha256(repr(self.classes).encode())
        for part in self[2:]:
            sha.update(part.labels.numpy().tobytes())
            if isinstance(part.images, Tensor):
                sha.update(part.images.numpy().tobytes())
            else:
                sizes = [(path.name, path.stat().st_size) for path in part.images]
                sha.update(repr(sizes).encode())
        return sha.hexdigest()


    def shortened(self, counts: tuple[int, int, int]) -> "Data":
        """The same set with at most so many pictures in each part, for smoke runs."""
        return Data(self.name, self.classes, *(part.some(count)
                                               for part, count in zip(self[2:], counts)))


class Source(NamedTuple):
    """Where a published archive is found, and its SHA-256."""

    mirrors: tuple[str, ...]
    sha256: str
    folder: str    # what it unpacks to


SOURCES = {
    "cifar10": Source(
        ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
         "https://storage.googleapis.com/tensorflow/tf-keras-datasets/cifar-10-python.tar.gz"),
        "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        "cifar-10-batches-py"),
    "imagenette": Source(
        ("https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-160.tgz",),
        "64d0c4859f35a461889e0147755a999a48b49bf38a7e0f9bd27003f10db02fe5",
        "imagenette2-160"),
}
IMAGENETTE = {  # the folders of Imagenette are named after entries of WordNet
    "n01440764": "tench", "n02102040": "English springer", "n02979186": "cassette player",
    "n03000684": "chain saw", "n03028079": "church", "n03394916": "French horn",
    "n03417042": "garbage truck", "n03425413": "gas pump", "n03445777": "golf ball",
    "n03888257": "parachute",
}


def stored_side(image_size: int) -> int:
    """Side of the stored pictures from which crops are cut: 256 for 224 and for 227."""
    return max(8 * round(image_size / 7), image_size + 4)


def on_disk(name: str, data_dir: Path) -> bool:
    """Whether a data set can be had without a network."""
    if name in SOURCES:
        return (data_dir / SOURCES[name].folder).is_dir()
    return name == "shapes" or Path(name).is_dir()


def typical_side(name: str) -> int:
    """The shorter side of the pictures of a set, in pixels; of a folder, the median of some."""
    if name in NAMES:
        return {"cifar10": 32, "imagenette": 160}.get(name, 128)
    files = files_in(Path(name))
    some = files[:: max(1, len(files) // 50)]
    sides = [min(size) for path in some if (size := size_of(path))]
    return int(np.median(sides)) if sides else 128


def load(name: str, data_dir: Path, image_size: int, seed: int = 0, workers: int = 0,
         counts: tuple[int, int, int] = SHAPES) -> Data:
    """The data set that `--data` names, for a network that reads `image_size` pixels.

    `counts` are the drawn pictures to train on, to validate and to test. Raises Refusal if
    the set is not to be had or is not usable.
    """
    side = stored_side(image_size)
    if name == "shapes":
        return drawn_shapes(side, counts)
    if name == "cifar10":
        return cifar10(data_dir, side)
    if name == "imagenette":
        data = from_folder(_unpacked(name, data_dir), side, seed, workers)
        return data._replace(name=name, classes=[IMAGENETTE[c] for c in data.classes])
    if not Path(name).is_dir():
        raise Refusal(f"{from_here(Path(name))} is neither a data set nor a folder: use "
                      f"{', '.join(NAMES)}, or a folder of class folders")
    return from_folder(Path(name), side, seed, workers)


# ---------------------------------------------------------------- published and drawn sets


def drawn_shapes(side: int, counts: tuple[int, int, int]) -> Data:
    """Pictures by number: each part begins at the same one, however many are asked for.

    So no picture that one run is trained on is ever another's to test.
    """
    parts = []
    for start, count in zip((SHAPES[1] + SHAPES[2], SHAPES[2], 0), counts):
        numbers = tqdm(range(start, start + count), "drawing", leave=False, disable=None)
        drawn = [shapes.draw(number, side) for number in numbers]
        images = torch.from_numpy(np.stack([image for image, _ in drawn])).permute(0, 3, 1, 2)
        labels = torch.tensor([label for _, label in drawn])
        parts.append(Part(images.contiguous(), labels, side))
    return Data("shapes", shapes.CLASSES, *parts)


def cifar10(data_dir: Path, side: int) -> Data:
    """60,000 pictures of 32×32 pixels in ten classes, scaled if `side` is another."""
    _unpacked("cifar10", data_dir)
    try:
        kind = torchvision.datasets.CIFAR10
        train, test = kind(data_dir, train=True), kind(data_dir, train=False)
    except RuntimeError as error:      # torchvision checks the MD5 of each file it unpickles
        raise Refusal(f"the files in {data_dir / SOURCES['cifar10'].folder} are damaged: "
                      "delete them") from error
    parts = []
    for part in (train, test):
        images = torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous()
        if side != images.size(-1):
            images = resize(images, [side, side])
        parts.append(Part(images, torch.tensor(part.targets), side))
    return Data("cifar10", train.classes, *_split(parts[0], _tenth(parts[0]), seed=0), parts[1])


def _unpacked(name: str, data_dir: Path) -> Path:
    """The folder of a published set, fetched and unpacked if it is not there."""
    source = SOURCES[name]
    folder = data_dir / source.folder
    if not folder.is_dir():
        archive = data_dir / source.mirrors[0].rsplit("/", 1)[-1]
        fetch(source.mirrors, archive, source.sha256)
        partial = data_dir / f"{source.folder}.partial"
        with tarfile.open(archive) as tar:
            tar.extractall(partial, filter="data")
        os.replace(partial / source.folder, folder)
        partial.rmdir()
    return folder


# ---------------------------------------------------------------- a folder of your own


def from_folder(folder: Path, side: int, seed: int, workers: int = 0) -> Data:
    """Pictures in `train/<class>/` with `val/`, `test/` or both beside it; or in `<class>/`.

    What is missing is split off by seed, each class evenly. With `val/` alone, as ImageNet
    has it, `val/` is the test part. Raises Refusal if there are fewer than two classes, or too
    few pictures of one.
    """
    if not (folder / "train").is_dir():
        classes, whole = _read_classes(folder, side, workers)
        rest, test = _split(whole, math.ceil(TEST * len(whole.labels)), seed)
        return Data(str(folder), classes, *_split(rest, _tenth(rest), seed), test)
    classes, train = _read_classes(folder / "train", side, workers)
    others = [_read_classes(folder / name, side, workers, like=classes)[1]
              for name in ("val", "test") if (folder / name).is_dir()]
    if not others:
        raise Refusal(f"{folder} has train/ but neither val/ nor test/: add one, or put the "
                      "class folders into it directly")
    if len(others) == 2:
        return Data(str(folder), classes, train, *others)
    return Data(str(folder), classes, *_split(train, _tenth(train), seed), others[0])


def _tenth(part: Part) -> int:
    return min(math.ceil(0.1 * len(part.labels)), VALIDATION)


def _split(part: Part, size: int, seed: int) -> tuple[Part, Part]:
    """Two parts, the second of about `size` pictures and at least one of each class."""
    labels = part.labels.numpy()
    halves = train_test_split(np.arange(len(labels)), stratify=labels, random_state=seed,
                              test_size=max(size, len(np.unique(labels))))
    return tuple(part._replace(images=_pick(part.images, half), labels=part.labels[half])
                 for half in map(np.sort, halves))


def _pick(images: Tensor | list[Path], chosen: np.ndarray) -> Tensor | list[Path]:
    return images[chosen] if isinstance(images, Tensor) else [images[i] for i in chosen]


def _read_classes(folder: Path, side: int, workers: int,
                  like: list[str] | None = None) -> tuple[list[str], Part]:
    """Classes and pictures of `folder/<class>/`; in memory if they fit."""
    inside = [path.name for path in folder.iterdir() if path.is_dir()]
    classes = sorted(name for name in inside if not name.startswith("."))
    if like and classes != like:
        odd = sorted(set(classes) ^ set(like))
        raise Refusal(f"{folder} has other class folders than train/ beside it: {odd[0]} is "
                      "only in one of them")
    if len(classes) < 2:
        raise Refusal(f"{folder} needs at least two class folders, it has {len(classes)}: one "
                      "class leaves nothing to tell apart")
    named = [(path, label) for label, name in enumerate(classes)
             for path in files_in(folder / name)]
    images: Tensor | list[Path] = [path for path, _ in named]
    labels = torch.tensor([label for _, label in named], dtype=torch.int64)
    if len(named) * 3 * side**2 <= IN_MEMORY:
        read = read_all(images, side, workers)
        good = [i for i, picture in enumerate(read) if isinstance(picture, Tensor)]
        if len(good) < len(named):
            say(f"left out {len(named) - len(good)} of {len(named)} files in {folder}: no "
                "picture")
        images, labels = [read[i] for i in good], labels[good]
        images = torch.stack(images) if images else torch.empty(0, 3, side, side)
    counts = torch.bincount(labels, minlength=len(classes))
    if counts.min() < (1 if like else LEAST):
        poorest = classes[int(counts.argmin())]
        raise Refusal(f"{folder}/{poorest} has {counts.min()} usable pictures: add some, at "
                      f"least {1 if like else LEAST} are needed, or remove the folder")
    return classes, Part(images, labels, side, workers)
