"""Where texts and their classes come from: generated sentences, a CSV, or a folder of files.

    topics          sentences of five topics, drawn by `generate_test_texts.py`
    hard            the same, most of them with the order of words to decide
    FILE.csv        rows of label,text or label,title,description, with a header or without
    FOLDER          train.csv and test.csv (perhaps validation.csv), or <label>/*.txt
"""

# N texts

import csv
import hashlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch
from sklearn.model_selection import train_test_split
from torch import Tensor

from console import Refusal, say
from generate_test_texts import SIZES, draw

NAMES = ("topics", "hard")
AG_NEWS = {"1": "World", "2": "Sports", "3": "Business", "4": "Sci/Tech"}
HEADERS = {"label", "class", "category", "topic", "class index"}
HELD_OUT = 0.1       # of the training texts validate where nothing else is given
SMALLEST = 5         # training texts of a class; of ten in all, eight are left after splitting
Rows = list[tuple[str, str]]     # of a table: label and text


class Part(NamedTuple):
    """Texts and the numbers of their classes, int64 (N,)."""

    texts: list[str]
    labels: Tensor


class Data(NamedTuple):
    """A data set in three parts, and its fingerprint; parts split off here share no row."""

    name: str
    classes: list[str]
    train: Part
    validation: Part
    test: Part
    digest: str

    def shortened(self, counts: tuple[int, int, int]) -> "Data":
        """At most so many texts of each part, evenly spread: folders come class by class."""
        short = []
        for part, count in zip(self[2:5], counts):
            total = len(part.texts)
            chosen = torch.arange(min(count, total)) * total // min(count, total)
            short.append(Part([part.texts[i] for i in chosen], part.labels[chosen]))
        return Data(self.name, self.classes, *short, self.digest)


def load(name: str, data_dir: Path, seed: int = 0, workers: int = 0) -> Data:
    """The data set that `--data` names; what is split at random is split by `seed`.

    A path that does not exist is looked for, by its last part, in `data_dir`. Raises Refusal
    if there is none, or none to learn from.
    """
    path = Path(name)
    if name in NAMES:
        parts = [draw(part, size, 0, name == "hard") for part, size in SIZES.items()]
        return _assemble(name, *parts)
    path = path if path.exists() else data_dir / path.name
    if path.is_file():
        rows = _named({"train": read_csv(path)})["train"]
        rows, rest = _split(rows, 2 * HELD_OUT, seed, path)
        return _assemble(path.name, rows, *_split(rest, 0.5, seed, path))
    if not path.is_dir():
        raise Refusal(f"{name} is neither a data set nor a path: use {', '.join(NAMES)}, a "
                      "CSV of label,text or a folder of texts")
    if (path / "train.csv").exists():
        parts = _named({part: read_csv(path / f"{part}.csv") for part in SIZES
                        if (path / f"{part}.csv").exists()})
    else:
        halves = {part: path / part for part in SIZES if (path / part).is_dir()}
        parts = {part: read_folder(home, workers)
                 for part, home in (halves if "train" in halves else {"train": path}).items()}
    train = parts["train"]
    if "test" not in parts:
        train, parts["test"] = _split(train, HELD_OUT, seed, path)
    if "validation" not in parts:
        train, parts["validation"] = _split(train, HELD_OUT, seed, path)
    return _assemble(path.name, train, parts["validation"], parts["test"])


def read_csv(path: Path) -> tuple[Rows, int]:
    """Label and text of each row, and the number of columns; those beyond two are more text.

    A header is known by a cell such as "label", which also says where the label stands; else
    it is the first. Broken bytes become a sign of their own, rows without a text are left out
    and counted. Raises Refusal for a file that is no table.
    """
    _check_text(path)
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            clean = (row.replace("\0", " ") for row in file)
            lines = [line for line in csv.reader(clean) if line]
    except (OSError, csv.Error) as error:
        raise Refusal(f"{path} cannot be read as a CSV ({error})") from None
    head = [cell.strip().lower() in HEADERS for cell in lines[0]] if lines else []
    where, lines = head.index(True) if any(head) else 0, lines[any(head) :]
    rows = [(line[where].strip(), " ".join(line[:where] + line[where + 1 :]))
            for line in lines if len(line) > where]
    good = [(label, text) for label, text in rows if label and text.strip()]
    if len(good) < len(lines):
        say(f"left out {len(lines) - len(good)} of {len(lines)} rows in {path}: no label, or "
            "no text")
    return good, len(lines[0]) if lines else 0


def _named(tables: dict[str, tuple[Rows, int]]) -> dict[str, Rows]:
    """The rows of tables, with names for the four numbers that AG News calls its classes.

    Its training table is known by three columns and the labels 1 to 4, all of them.
    """
    rows, columns = tables["train"]
    ag_news = columns == 3 and {label for label, _ in rows} == set(AG_NEWS)
    names = AG_NEWS if ag_news else {}
    return {part: [(names.get(label, label), text) for label, text in rows]
            for part, (rows, _) in tables.items()}


def _check_text(path: Path) -> None:
    """Raises Refusal for pictures and the like, and for text that is mostly not UTF-8."""
    with path.open("rb") as file:
        start = file.read(1_000).decode("utf-8", "replace")
    if start.count("\0") + start.count("\ufffd") > len(start) / 4:
        raise Refusal(f"{path} is no table of texts in UTF-8: save it as one")


def read_folder(home: Path, workers: int = 0) -> Rows:
    """The files <label>/*.txt below a folder, whatever their bytes, with their labels."""
    files = sorted(path for path in home.glob("*/*.txt") if path.is_file())

    def read(path: Path) -> str:
        return path.read_text(encoding="utf-8-sig", errors="replace")

    with ThreadPoolExecutor(max(1, workers)) as pool:
        rows = list(zip((path.parent.name for path in files), pool.map(read, files)))
    return [(label, text) for label, text in rows if text.strip()]


def _split(rows: Rows, share: float, seed: int, path: Path) -> tuple[Rows, Rows]:
    """All but a share of the rows, and that share, each class in proportion."""
    rows = list(dict.fromkeys(rows))
    counts = Counter(label for label, _ in rows)
    scarce = min(counts, key=counts.get, default="")
    if counts[scarce] < 2:
        what = f"its class {scarce} is too small" if scarce else "it has none"
        raise Refusal(f"{path} has too few texts to be split ({what}): give each class ten "
                      "different ones or more")
    count = max(len(counts), round(share * len(rows)))    # one of each class at least
    return train_test_split(rows, test_size=count, random_state=seed,
                            stratify=[label for label, _ in rows])


def _assemble(name: str, train: Rows, validation: Rows, test: Rows) -> Data:
    """The parts with numbered classes. Raises Refusal if there is too little to learn from."""
    counts = Counter(label for label, _ in train)
    classes = sorted(counts)
    if len(classes) < 2:
        found = f"one class, {classes[0]}" if classes else "no texts"
        raise Refusal(f"{name} has {found}: two classes are the least that can be told apart")
    scarce = min(counts, key=counts.get)
    if counts[scarce] < SMALLEST:
        raise Refusal(f"{name} has {counts[scarce]} training texts of the class {scarce}: give "
                      "each class ten or more")
    parts = []
    for rows in (train, validation, test):
        known = [(label, text) for label, text in rows if label in counts]
        if len(known) < len(rows):
            say(f"left out {len(rows) - len(known)} texts of classes that training lacks")
        if not known:
            raise Refusal(f"{name} has a part without texts: fill it, or leave it out")
        labels = torch.tensor([classes.index(label) for label, _ in known])      # (N,)
        parts.append(Part([text for _, text in known], labels))
    sha = hashlib.sha256(repr((classes, train, validation, test)).encode())
    return Data(name, classes, *parts, sha.hexdigest())
