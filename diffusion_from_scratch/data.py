"""Where the pictures come from: digits inside scikit-learn, MNIST, CIFAR-10, or your folder.

Whatever the source, all pictures end as one tensor of bytes in memory, with labels where
classes are known. The test part is meant to be compared with, and never trained on.
"""

# N pictures, B pictures in a batch, C channels, H height and W width

import gzip
import hashlib
import os
import shutil
import tarfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor

from console import Refusal, from_here
from download import fetch
from reading import read_classes

NAMES = ("digits", "mnist", "cifar10")
QUICK = (256, 64, 128)       # of any set, in smoke runs
VALIDATION = 5_000           # of the training pictures of MNIST and of CIFAR-10
MNIST_MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/",
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
CIFAR_MIRRORS = (
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/cifar-10-python.tar.gz")
CIFAR = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
CIFAR_FOLDER = "cifar-10-batches-py"
FIELD, BOX = 28, 20          # sides of a digit's picture and of the digit in it, as MNIST's
PAPER, INK = 0.3, 0.7        # levels of an enlarged digit that become 0 and 1


class Part(NamedTuple):
    """One part of a data set: bytes (N, C, H, W), and labels (N,), all 0 without classes."""

    images: Tensor
    labels: Tensor

    def some(self, chosen: Tensor | slice) -> "Part":
        """A part of the part."""
        return Part(self.images[chosen], self.labels[chosen])


class Data(NamedTuple):
    """A data set in its three parts, with the names of its classes, none if there are none."""

    name: str
    classes: list[str]
    train: Part
    validation: Part
    test: Part

    @property
    def digest(self) -> str:
        """SHA-256 over classes, labels and pictures: a resumed run must find them unchanged."""
        sha = hashlib.sha256(repr(self.classes).encode())
        for images, labels in self[2:]:
            sha.update(repr(images.shape).encode() + images.numpy().tobytes())
            sha.update(labels.numpy().tobytes())
        return sha.hexdigest()

    def shortened(self, counts: tuple[int, int, int]) -> "Data":
        """The same set with at most so many pictures in each part, for smoke runs."""
        return Data(self.name, self.classes, *(part.some(slice(count)) for part, count in
                                               zip(self[2:], counts)))


def to_input(images: Tensor, centred: bool = True) -> Tensor:
    """Bytes (B, C, H, W) as numbers from -1 to 1, the range of noise; from 0 to 1 if not so."""
    x = images.float() / 255                                           # (B, C, H, W)
    return 2 * x - 1 if centred else x


def to_image(x: Tensor, centred: bool = True) -> Tensor:               # (B, C, H, W)
    """Back to numbers from 0 to 1, which can be shown."""
    return ((x + 1) / 2 if centred else x).clamp(0, 1)                 # (B, C, H, W)


def load(name: str, data_dir: Path, side: int | None = None, seed: int = 0,
         workers: int = 0) -> Data:
    """The data set that `--data` names; `side` is that of the squares a folder's become.

    Raises Refusal if the set is not to be had or is not usable.
    """
    if name == "digits":
        return digits()
    if name == "mnist":
        return mnist(data_dir)
    if name == "cifar10":
        return cifar10(data_dir)
    if not Path(name).is_dir():
        raise Refusal(f"{from_here(Path(name))} is neither a data set nor a folder: use "
                      f"{', '.join(NAMES)}, or a folder of pictures")
    return from_folder(Path(name), side, seed, workers)


def on_disk(name: str, data_dir: Path) -> bool:
    """Whether a data set can be had without a network."""
    if name == "mnist":
        return all((data_dir / "MNIST" / "raw" / file).exists() for file in MNIST)
    if name == "cifar10":
        return (data_dir / CIFAR_FOLDER).is_dir()
    return name == "digits" or Path(name).is_dir()


# ---------------------------------------------------------------- sets with a name


def digits() -> Data:
    """1,797 handwritten digits that come with scikit-learn, 8×8, brought to MNIST's form.

    E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998. Split once
    and for all, evenly over the classes: 1,200 to train, 147 to validate, 450 to test.
    """
    small = load_digits()
    x = torch.from_numpy(small.images / 16).float()[:, None]           # (N, 1, 8, 8)
    large = F.interpolate(x, size=(BOX, BOX), mode="bicubic")          # (N, 1, 20, 20)
    ink = ((large - PAPER) / (INK - PAPER)).clamp(0, 1)     # as crisp as a pen, not a blur
    images = (255 * F.pad(ink, 4 * ((FIELD - BOX) // 2,))).round().byte()    # (N, 1, 28, 28)
    labels = torch.from_numpy(small.target)                            # (N,)
    rest, test = train_test_split(np.arange(len(labels)), test_size=450, stratify=labels,
                                  random_state=0)
    train, validation = train_test_split(rest, test_size=147, stratify=labels[rest],
                                         random_state=0)
    whole = Part(images, labels)
    return Data("digits", [str(digit) for digit in range(10)],
                *(whole.some(torch.from_numpy(part)) for part in (train, validation, test)))


def mnist(data_dir: Path) -> Data:
    """70,000 handwritten digits of 28×28 grey pixels; 5,000 of the training set validate."""
    raw = data_dir / "MNIST" / "raw"
    if not on_disk("mnist", data_dir):
        for file, sha256 in MNIST.items():
            packed = raw / f"{file}.gz"
            fetch([mirror + packed.name for mirror in MNIST_MIRRORS], packed, sha256)
            _unpack(packed, raw / file)
    try:
        kind = torchvision.datasets.MNIST
        whole, last = (Part(part.data[:, None], part.targets)
                       for part in (kind(data_dir, train=True), kind(data_dir, train=False)))
        if any(len(part.images) != len(part.labels) for part in (whole, last)):
            raise ValueError("numbers of pictures and labels differ")
    except (AssertionError, RuntimeError, ValueError) as error:
        why = str(error) or "not in the format of MNIST"
        raise Refusal(f"the files in {raw} are damaged ({why}): delete them") from error
    return Data("mnist", [str(digit) for digit in range(10)], *_without_some(whole), last)


def _unpack(packed: Path, target: Path) -> None:
    partial = target.with_name(target.name + ".partial")
    with gzip.open(packed) as source, partial.open("wb") as file:
        shutil.copyfileobj(source, file)
    os.replace(partial, target)


def _without_some(whole: Part) -> tuple[Part, Part]:
    """What remains, and the pictures that validate: one fixed draw."""
    order = torch.randperm(len(whole.images), generator=torch.Generator().manual_seed(0))
    return whole.some(order[VALIDATION:]), whole.some(order[:VALIDATION])


def cifar10(data_dir: Path) -> Data:
    """60,000 photographs of 32×32 pixels in ten classes; 5,000 of the training set validate."""
    folder = data_dir / CIFAR_FOLDER
    if not folder.is_dir():
        archive, partial = data_dir / "cifar-10-python.tar.gz", data_dir / "cifar10.partial"
        fetch(CIFAR_MIRRORS, archive, CIFAR)
        with tarfile.open(archive) as tar:
            tar.extractall(partial, filter="data")
        os.replace(partial / CIFAR_FOLDER, folder)
        partial.rmdir()
    try:
        kind = torchvision.datasets.CIFAR10
        train, test = kind(data_dir, train=True), kind(data_dir, train=False)
    except RuntimeError as error:      # torchvision checks the MD5 of each file it unpickles
        raise Refusal(f"the files in {folder} are damaged: delete them") from error
    whole, last = (Part(torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(),
                        torch.tensor(part.targets)) for part in (train, test))
    return Data("cifar10", train.classes, *_without_some(whole), last)


# ---------------------------------------------------------------- a folder of your own


def from_folder(folder: Path, side: int | None, seed: int = 0, workers: int = 0) -> Data:
    """All pictures below a folder; its folders are classes, if it has at least two.

    A tenth each, by the seed, to validate and to test. Without `side` all pictures must have
    the same size. Raises Refusal if they have not, or if they are too few.
    """
    classes, images, labels = read_classes(folder, side, workers)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(images)))
    tenth = max(1, len(images) // 10)
    chosen = order[2 * tenth :], order[:tenth], order[tenth : 2 * tenth]
    whole = Part(images, labels)
    return Data(str(folder), classes, *(whole.some(part) for part in chosen))
