"""Where the examples come from: drawn here, inside scikit-learn, MNIST, or a CSV of your own.

Whatever the source, a data set ends as arrays in memory. The split is fixed, the same for every
seed; the test part is meant to be used once.
"""

# N samples, I inputs

import gzip
import hashlib
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_diabetes, load_digits, make_moons
from sklearn.model_selection import train_test_split

from console import Refusal, from_here, say
from download import fetch
from table import read_table

DRAWN = 1_000          # samples of the sets that are drawn here
VALIDATION = 5_000     # of MNIST's 60,000 training pictures
FEWEST = 10            # samples a class, or rows of a regression, with which one may train
MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/",
           "https://storage.googleapis.com/cvdf-datasets/mnist/")
FILES = {              # of MNIST, with the SHA-256 of their compressed form
    "train-images-idx3-ubyte":
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte":
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte":
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte":
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}


class Part(NamedTuple):
    """One part of a data set: x (N, I), and labels (N,) or targets (N, 1) as y."""

    x: np.ndarray
    y: np.ndarray


class Data(NamedTuple):
    """A data set in its three parts; `classes` is empty where numbers are predicted."""

    name: str
    inputs: list[str]
    classes: list[str]
    train: Part
    validation: Part
    test: Part

    @property
    def task(self) -> str:
        """classification or regression."""
        return "classification" if self.classes else "regression"

    @property
    def digest(self) -> str:
        """SHA-256 over columns, classes and samples: a resumed run must find them unchanged."""
        sha = hashlib.sha256(repr((self.inputs, self.classes)).encode())
        for part in (self.train, self.validation, self.test):
            sha.update(part.x.tobytes() + part.y.tobytes())
        return sha.hexdigest()


# ---------------------------------------------------------------- choosing


def load(name: str, data_dir: Path, task: str | None = None) -> Data:
    """The data set that `--data` names; `task` says how to read a CSV or what `auto` looks for.

    `auto` is MNIST if it is on disk or can be fetched, else the embedded digits; for
    regression it is diabetes. Any other name never falls back. Raises Refusal if the set is
    not to be had, is not usable, or is none for the task.
    """
    if name == "auto" and task == "regression":
        name = "diabetes"
    if name == "auto":
        try:
            return mnist(data_dir)
        except Refusal as why:
            say(f"{why}\nusing the embedded digits instead of MNIST")
            name = "digits"
    if name == "mnist":
        data = mnist(data_dir)
    elif name in EMBEDDED:
        data = EMBEDDED[name]()
    elif Path(name).exists():
        data = from_csv(Path(name), task or "classification")
    else:
        raise Refusal(f"{from_here(Path(name))} is neither a data set nor a file: use "
                      f"{', '.join(NAMES)}, or a CSV of your own")
    if task not in (None, data.task):
        raise Refusal(f"{name} is for {data.task}, not {task}: leave out --task, or use "
                      "another --data")
    return data


def on_disk(name: str, data_dir: Path) -> bool:
    """Whether a data set can be had without a network."""
    if name == "mnist":
        return all((data_dir / "MNIST" / "raw" / file).exists() for file in FILES)
    return name in EMBEDDED or Path(name).is_file()


def shortened(data: Data, count: int) -> Data:
    """The same data set with at most `count` samples in each part, for smoke runs."""
    parts = (Part(part.x[:count], part.y[:count]) for part in data[3:])
    return Data(*data[:3], *parts)


def split(name: str, inputs: list[str], classes: list[str], x: np.ndarray,
          y: np.ndarray) -> Data:
    """A quarter to test, a ninth of the rest to validate, in proportion; one fixed draw."""
    labels = y if classes else None
    rest, test = _draw(np.arange(len(y)), labels, 0.25)
    train, validation = _draw(rest, labels, 0.109)
    return Data(name, inputs, classes,
                *(Part(x[chosen], y[chosen]) for chosen in (train, validation, test)))


def _draw(indices: np.ndarray, labels: np.ndarray | None, share: float) -> list[np.ndarray]:
    """Split indices in two, the second about a share of them, classes in proportion."""
    if labels is None:
        return train_test_split(indices, test_size=share, random_state=0)
    size = max(math.ceil(share * len(indices)), len(np.unique(labels)))
    return train_test_split(indices, test_size=size, stratify=labels[indices], random_state=0)


# ---------------------------------------------------------------- embedded


def moons() -> Data:
    """Two half circles that hold each other, blurred: no straight line parts them."""
    x, y = make_moons(DRAWN, noise=0.2, random_state=0)
    return split("moons", ["x", "y"], ["upper", "lower"], x, y)


def spirals() -> Data:
    """Three arms of a spiral: near the middle, a step to the side is another class."""
    rng = np.random.default_rng(0)
    labels = np.arange(DRAWN) % 3                                          # (N,)
    radius = np.sqrt(rng.uniform(0.01, 1.0, DRAWN))                        # (N,)
    angle = 4.0 * radius + 2 * np.pi / 3 * labels + rng.normal(0, 0.15, DRAWN)   # (N,)
    x = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)   # (N, 2)
    return split("spirals", ["x", "y"], ["first", "second", "third"], x, labels)


def sine() -> Data:
    """y = sin 2x + x/2 between -3 and 3, with some noise: a curve to be followed."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-3, 3, (DRAWN, 1))                                     # (N, 1)
    y = np.sin(2 * x) + x / 2 + rng.normal(0, 0.1, (DRAWN, 1))             # (N, 1)
    return split("sine", ["x"], [], x, y)


def digits() -> Data:
    """1,797 handwritten digits of 8×8 pixels, 0 to 16, that come with scikit-learn.

    E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998: 1,200 to
    train, 147 to validate, 450 (25 %) to test.
    """
    x, y = load_digits(return_X_y=True)
    return split("digits", pixels(8), [str(digit) for digit in range(10)], x, y)


def diabetes() -> Data:
    """How far the diabetes of 442 patients went in a year, from ten measurements at its start.

    B. Efron and others, "Least Angle Regression", 2004; comes with scikit-learn.
    """
    source = load_diabetes()
    inputs, target = list(source.feature_names), source.target[:, None]
    return split("diabetes", inputs, [], source.data, target)


EMBEDDED: dict[str, Callable[[], Data]] = {"moons": moons, "spirals": spirals, "digits": digits,
                                           "diabetes": diabetes, "sine": sine}
NAMES = ("auto", "mnist", *EMBEDDED)


def pixels(side: int) -> list[str]:
    """The names of a picture's inputs, row by row."""
    return [f"row {row} column {column}" for row in range(side) for column in range(side)]


# ---------------------------------------------------------------- MNIST


def mnist(data_dir: Path) -> Data:
    """60,000 + 10,000 handwritten digits of 28×28 pixels, 0 to 255, flattened to 784 numbers.

    Read from data_dir/MNIST/raw; fetched there if they are missing. Raises Refusal if that
    fails or a file is damaged.
    """
    raw = data_dir / "MNIST" / "raw"
    if not on_disk("mnist", data_dir):
        for file, sha256 in FILES.items():
            packed = raw / f"{file}.gz"
            fetch([mirror + packed.name for mirror in MIRRORS], packed, sha256)
            _unpack(packed, raw / file)
    arrays = [_read_idx(raw / file) for file in FILES]
    (x, y), test = ((images.reshape(len(images), -1), labels.astype(np.int64))
                    for images, labels in (arrays[:2], arrays[2:]))
    if len(x) != len(y) or len(test[0]) != len(test[1]) or x.shape[1] != 784:
        raise Refusal(f"the files in {raw} do not belong together: delete them")
    order = np.random.default_rng(0).permutation(len(y))
    train, validation = order[VALIDATION:], order[:VALIDATION]
    return Data("mnist", pixels(28), [str(digit) for digit in range(10)],
                Part(x[train], y[train]), Part(x[validation], y[validation]), Part(*test))


def _read_idx(path: Path) -> np.ndarray:
    """A file of MNIST: two zeros, 8 for bytes, the number of axes, their lengths, the bytes."""
    content = path.read_bytes()
    axes = content[3] if content[:3] == b"\0\0\x08" and len(content) > 3 else 0
    shape = np.frombuffer(content, ">i4", axes, 4) if len(content) >= 4 + 4 * axes else ()
    body = content[4 + 4 * axes :]
    if not axes or len(shape) != axes or math.prod(map(int, shape)) != len(body):
        raise Refusal(f"{path} is damaged (not in the format of MNIST): delete it")
    return np.frombuffer(body, np.uint8).reshape(shape)


def _unpack(packed: Path, target: Path) -> None:
    partial = target.with_name(target.name + ".partial")
    with gzip.open(packed) as source, partial.open("wb") as file:
        shutil.copyfileobj(source, file)
    os.replace(partial, target)


# ---------------------------------------------------------------- a CSV of your own


def from_csv(path: Path, task: str) -> Data:
    """A table of numbers whose last column is the class or the number to predict.

    Raises Refusal, naming the line, if something in it cannot be learned from.
    """
    table = read_table(path, 2)
    *inputs, target = table.columns
    x = table.numbers(list(range(len(inputs))))
    if task == "regression":
        y = table.numbers([len(inputs)])
        if len(y) < FEWEST or np.ptp(y) == 0:
            raise Refusal(f"{path}: {target} needs {FEWEST} rows and more than one value")
        return split(str(path), inputs, [], x, y)
    table.require(len(inputs), bool, "a class")
    classes, y, counts = np.unique([row[-1] for row in table.rows], return_inverse=True,
                                   return_counts=True)
    if len(classes) < 2 or counts.min() < FEWEST:
        found = ", ".join(f"{name}: {count}" for name, count in zip(classes, counts[:10]))
        raise Refusal(f"{path}: {target} needs at least two classes of {FEWEST} rows each, "
                      f"it has {found} (for numbers use --task regression)")
    return split(str(path), inputs, [str(name) for name in classes], x, y)
