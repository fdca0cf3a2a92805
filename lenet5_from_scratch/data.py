"""Where the pictures come from: a set inside scikit-learn, MNIST, or a folder of your own.

Whatever the source, all pictures end as one uint8 tensor in memory, ink bright on black.
The split is fixed, the same for every seed; the test part is meant to be used once.
"""

# N pictures, B pictures in a batch

import gzip
import hashlib
import math
import os
import shutil
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torchvision
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor

import prepare
from console import Refusal, from_here, say
from download import fetch

NAMES = ("auto", "digits", "mnist", "fashion-mnist")
VALIDATION = 5_000  # of MNIST's 60,000 training pictures


class Part(NamedTuple):
    """One part of a data set: images uint8 (N, 28, 28), labels int64 (N,)."""

    images: Tensor
    labels: Tensor


class Data(NamedTuple):
    """A data set in its three parts, with the names of its classes."""

    name: str
    classes: list[str]
    train: Part
    validation: Part
    test: Part

    @property
    def digest(self) -> str:
        """SHA-256 over classes and pictures: a resumed run must find them unchanged."""
        sha = hashlib.sha256(repr(self.classes).encode())
        for images, labels in (self.train, self.validation, self.test):
            sha.update(images.numpy().tobytes() + labels.numpy().tobytes())
        return sha.hexdigest()


class Source(NamedTuple):
    """Where a published set is found, and the SHA-256 of its four compressed files."""

    layout: str  # torchvision's name of the class, and of the folder
    mirrors: tuple[str, ...]
    files: dict[str, str]


SOURCES = {
    "mnist": Source(
        "MNIST",
        ("https://ossci-datasets.s3.amazonaws.com/mnist/",
         "https://storage.googleapis.com/cvdf-datasets/mnist/"),
        {"train-images-idx3-ubyte":
             "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
         "train-labels-idx1-ubyte":
             "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
         "t10k-images-idx3-ubyte":
             "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
         "t10k-labels-idx1-ubyte":
             "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"},
    ),
    "fashion-mnist": Source(
        "FashionMNIST",
        ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
         "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/"),
        {"train-images-idx3-ubyte":
             "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
         "train-labels-idx1-ubyte":
             "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
         "t10k-images-idx3-ubyte":
             "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
         "t10k-labels-idx1-ubyte":
             "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"},
    ),
}


def load(name: str, data_dir: Path, workers: int = 0) -> Data:
    """The data set that `--data` names.

    `auto` is MNIST if it is on disk or can be fetched, else the embedded digits. Any other
    name never falls back. Raises Refusal if the set is not to be had or is not usable.
    """
    if name == "auto":
        try:
            return _published("mnist", data_dir)
        except Refusal as why:
            say(f"{why}\nusing the embedded digits instead of MNIST")
            return embedded_digits()
    if name == "digits":
        return embedded_digits()
    if name in SOURCES:
        return _published(name, data_dir)
    if not Path(name).is_dir():
        raise Refusal(f"{from_here(Path(name))} is neither a data set nor a folder: use "
                      f"{', '.join(NAMES)}, or a folder of class folders")
    return from_folder(Path(name), workers)


def load_test(config: dict, name: str | None, data_dir: Path) -> tuple[str, Part]:
    """The test pictures for a checkpoint, and the name of their set.

    Without a name they are those of the set it was trained on, if that is on disk, else the
    embedded digits. Raises Refusal if the classes are not the checkpoint's.
    """
    if name is None:
        name = config["data"] if on_disk(config["data"], data_dir) else "digits"
        if name != config["data"]:
            say(f"{config['data']} is not on this disk: using the embedded digits")
    data = load(name, data_dir)
    if data.classes != config["classes"]:
        raise Refusal(f"the checkpoint knows the classes {', '.join(config['classes'])}, "
                      f"{name} has {', '.join(data.classes)}: give a --data with the same")
    return data.name, data.test


def on_disk(name: str, data_dir: Path) -> bool:
    """Whether a data set can be had without a network."""
    if name not in SOURCES:
        return name == "digits" or Path(name).is_dir()
    raw = data_dir / SOURCES[name].layout / "raw"
    return all((raw / file).exists() for file in SOURCES[name].files)


def shortened(data: Data, count: int) -> Data:
    """The same data set with at most `count` pictures in each part, for smoke runs."""
    parts = (Part(part.images[:count], part.labels[:count]) for part in data[2:])
    return Data(data.name, data.classes, *parts)


def to_input(images: Tensor, mean: float, std: float) -> Tensor:
    """Bytes (B, 28, 28) become what the network reads: standardised, with a channel axis."""
    return (images[:, None].float() / 255 - mean) / std                # (B, 1, 28, 28)


def embedded_digits() -> Data:
    """1,797 handwritten digits that come with scikit-learn, 8×8, brought to MNIST's form.

    E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998. Split at
    random but evenly over the classes: 1,200 to train, 147 to validate, 450 (25 %) to test.
    """
    small = load_digits()
    images = np.stack([_enlarge(image) for image in small.images / 16])   # (N, 28, 28)
    return _split("digits", [str(digit) for digit in range(10)], images, small.target)


def _enlarge(image: np.ndarray) -> np.ndarray:
    ink = prepare.crop(image.astype(np.float32))
    return np.round(255 * prepare.centre(prepare.fit_box(ink))).astype(np.uint8)


def _split(name: str, classes: list[str], images: np.ndarray, labels: np.ndarray) -> Data:
    """A quarter to test, a ninth of the rest to validate; each class evenly; one fixed draw."""
    rest, test = _draw(np.arange(len(labels)), labels, 0.25)
    train, validation = _draw(rest, labels, 0.109)
    parts = (_part(images[chosen], labels[chosen]) for chosen in (train, validation, test))
    return Data(name, classes, *parts)


def _draw(indices: np.ndarray, labels: np.ndarray, share: float) -> list[np.ndarray]:
    """Split indices in two, the second about a share of them and at least one a class."""
    size = max(math.ceil(share * len(indices)), len(np.unique(labels)))
    return train_test_split(indices, test_size=size, stratify=labels[indices], random_state=0)


def _part(images: np.ndarray, labels: np.ndarray) -> Part:
    return Part(torch.from_numpy(images), torch.from_numpy(labels).long())


# ---------------------------------------------------------------- MNIST and Fashion-MNIST


def _published(name: str, data_dir: Path) -> Data:
    source = SOURCES[name]
    raw = data_dir / source.layout / "raw"
    if not on_disk(name, data_dir):
        for file, sha256 in source.files.items():
            packed = raw / f"{file}.gz"
            fetch([mirror + packed.name for mirror in source.mirrors], packed, sha256)
            _unpack(packed, raw / file)
    kind = getattr(torchvision.datasets, source.layout)
    try:
        train, test = kind(data_dir, train=True), kind(data_dir, train=False)
        if any(len(part.data) != len(part.targets) for part in (train, test)):
            raise ValueError("numbers of pictures and labels differ")
    except (AssertionError, RuntimeError, ValueError) as error:
        why = str(error) or "not in the format of MNIST"
        raise Refusal(f"the files in {raw} are damaged ({why}): delete them") from error
    order = torch.randperm(len(train.data), generator=torch.Generator().manual_seed(0))
    chosen = order[VALIDATION:], order[:VALIDATION]
    classes = [label.split(" - ")[0] for label in train.classes]  # "7 - seven" is "7"
    return Data(name, classes, *(Part(train.data[i], train.targets[i]) for i in chosen),
                Part(test.data, test.targets))


def _unpack(packed: Path, target: Path) -> None:
    partial = target.with_name(target.name + ".partial")
    with gzip.open(packed) as source, partial.open("wb") as file:
        shutil.copyfileobj(source, file)
    os.replace(partial, target)


# ---------------------------------------------------------------- a folder of your own


def from_folder(folder: Path, workers: int = 0) -> Data:
    """Pictures in `folder/<class>/`, or in `folder/train/<class>/` and `folder/test/<class>/`.

    Each is prepared as MNIST was; what is no picture is left out and counted. Raises Refusal
    if there are fewer than two classes or a class has too few pictures to be split.
    """
    if not (folder / "train").is_dir():
        classes, images, labels = _read_classes(folder, workers)
        return _split(str(folder), classes, images, labels)
    classes, images, labels = _read_classes(folder / "train", workers)
    test_classes, *test = _read_classes(folder / "test", workers)
    if classes != test_classes:
        raise Refusal(f"{folder}/train and {folder}/test have different class folders")
    train, validation = _draw(np.arange(len(labels)), labels, 0.1)
    return Data(str(folder), classes, _part(images[train], labels[train]),
                _part(images[validation], labels[validation]), _part(*test))


def _read_classes(folder: Path, workers: int) -> tuple[list[str], np.ndarray, np.ndarray]:
    if not folder.is_dir():
        raise Refusal(f"there is no folder {folder}")
    inside = [path for path in folder.iterdir() if path.is_dir()]
    classes = sorted(path.name for path in inside if not path.name.startswith("."))
    if len(classes) < 2:
        raise Refusal(f"{folder} needs at least two class folders, it has {len(classes)}")
    readable = set(Image.registered_extensions())
    files = [(path, label) for label, name in enumerate(classes)
             for path in sorted((folder / name).rglob("*")) if path.suffix.lower() in readable]
    if workers:
        with ThreadPool(workers) as pool:
            images = pool.map(_read_or_none, [path for path, _ in files])
    else:
        images = [_read_or_none(path) for path, _ in files]
    kept = [(image, label) for image, (_, label) in zip(images, files) if image is not None]
    if len(kept) < len(files):
        say(f"left out {len(files) - len(kept)} of {len(files)} files in {folder}: no picture")
    counts = np.bincount([label for _, label in kept], minlength=len(classes))
    if counts.min() < 10:
        poorest = classes[int(counts.argmin())]
        raise Refusal(f"{folder}/{poorest} has {counts.min()} usable pictures: add some, at "
                      "least 10 are needed")
    images, labels = zip(*kept)
    return classes, np.stack(images), np.array(labels)


def _read_or_none(path: Path) -> np.ndarray | None:
    try:
        return prepare.prepare(path)
    except (ValueError, OSError):
        return None
