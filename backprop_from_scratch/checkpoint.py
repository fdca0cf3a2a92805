"""Checkpoints: written whole or not at all, verified when read, resumed to the bit.

A checkpoint is a nested dictionary of arrays and plain values. In the `.npz` file every array
stands under its path, such as "model/0.weight", and all else in one JSON text; nothing is
pickled, so no code inside a file is ever run. It carries a SHA-256 over all of it.

    python checkpoint.py runs/best.npz pretrained.npz     # keep only what inference needs
"""

import argparse
import contextlib
import csv
import hashlib
import json
import os
import sys
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np

from console import Refusal, forget_results, from_here, one_line_errors, say

VERSION = 1  # of the layout below; raise it when old files can no longer be read
PLAIN = "plain"  # the name of the JSON text in the file
OF_A_RUN = ("best.npz", "checkpoint.npz", "progress/step_*.png", "progress/epoch_*.png")
OF_WEIGHTS = ("train.py", "evaluate.py")     # whose results are of one run only


def flatten(contents: dict, path: str = "") -> tuple[dict[str, np.ndarray], dict]:
    """The arrays of a nested dictionary by their paths, and the dictionary without them."""
    arrays, plain = {}, {}
    for name, value in contents.items():
        if isinstance(value, np.ndarray):
            arrays[path + name] = value
        elif isinstance(value, dict):
            inner, plain[name] = flatten(value, f"{path}{name}/")
            arrays |= inner
        else:
            plain[name] = value
    return arrays, plain


def unflatten(arrays: dict[str, np.ndarray], plain: dict) -> dict:
    """What `flatten` took apart."""
    for path, array in arrays.items():
        *way, name = path.split("/")
        place = plain
        for step in way:
            place = place[step]
        place[name] = array
    return plain


def digest(arrays: dict[str, np.ndarray], text: str) -> str:
    """SHA-256 over every name, array and the JSON text, in hexadecimal.

    Raises TypeError for an array of Python objects: it would have to be pickled.
    """
    sha = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = arrays[name]
        if array.dtype.hasobject:
            raise TypeError(f"a checkpoint holds numbers and text, not objects as in {name}")
        sha.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()


def save(path: Path, contents: dict) -> None:
    """Write a checkpoint whole or not at all: a crash or a full disk leaves the last intact.

    Raises Refusal when the file cannot be written, TypeError or ValueError for values that are
    neither arrays nor what JSON knows.
    """
    arrays, plain = flatten({"version": VERSION, **contents})
    text = json.dumps(plain, allow_nan=False)
    seal = json.dumps({"digest": digest(arrays, text)})
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays, **{PLAIN: np.array([text, seal])})
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        kept = "the one before it is intact" if path.exists() else "nothing was written"
        raise Refusal(f"{path} could not be saved ({_first_line(error)}); {kept}: make room or "
                      "choose another --out-dir") from error


def load(path: Path, folder: str | None = None) -> dict:
    """Read a checkpoint that `folder` (None: any) made and prove it undamaged.

    Raises Refusal, in one sentence, if the file is missing, damaged, hostile, of another
    version or of another folder.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise Refusal(f"there is no checkpoint {path}: make one with python train.py") from None
    except IsADirectoryError:
        raise Refusal(f"{path} is a folder: name the checkpoint file in it") from None
    except PermissionError:
        raise Refusal(f"{path} may not be read: check its permissions") from None
    except Exception as error:  # a damaged file fails in many ways: zip, header, length
        raise Refusal(f"{path} is damaged or not a checkpoint ({type(error).__name__}): use "
                      "another one, or train again") from error
    try:
        text, seal = (str(part) for part in arrays.pop(PLAIN))
        plain, sealed = json.loads(text), json.loads(seal)["digest"]
        version, maker = plain["version"], plain["folder"]
    except (KeyError, TypeError, ValueError):
        raise Refusal(f"{path} holds arrays but is not a checkpoint of this folder") from None
    if version != VERSION:
        raise Refusal(f"{path} has layout version {version}, this code reads {VERSION}: train "
                      "again, or use the code that wrote it")
    if folder not in (None, maker):
        raise Refusal(f"{path} was made by {maker}, this is {folder}")
    if sealed != digest(arrays, text):
        raise Refusal(f"{path} is damaged (its digest does not match): use another one, or "
                      "train again")
    return unflatten(arrays, plain)


def restore(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], path: Path) -> None:
    """Copy the arrays of a checkpoint into ours; every name, shape and type must agree."""
    differing = sorted(n for n in ours | theirs if _kind(ours, n) != _kind(theirs, n))
    if differing:
        raise Refusal(f"{path} does not fit this model: {len(differing)} arrays differ in "
                      f"name, shape or type, {differing[0]} first")
    for name, array in ours.items():
        array[...] = theirs[name]


def _kind(arrays: dict[str, np.ndarray], name: str) -> object:
    return (arrays[name].shape, arrays[name].dtype) if name in arrays else None


def open_model(path: Path | None, folder: str, build: Callable[[dict], object]) -> tuple:
    """The trained network of a checkpoint, ready to answer, and its configuration.

    Without a path the newest one is taken, and stderr says which.
    """
    path = path or newest(Path(__file__).resolve().parent)
    contents = load(path, folder)
    network = build(contents["config"])
    restore(network.parameters, contents["model"], path)
    network.train(False)
    say(f"using {from_here(path)}")
    return network, contents["config"]


def newest(folder: Path) -> Path:
    """The best checkpoint of the newest run below `folder`, else its `pretrained.npz`."""
    runs = sorted((folder / "runs").rglob("best.npz"), key=lambda path: path.stat().st_mtime)
    return runs[-1] if runs else folder / "pretrained.npz"


def read_options(parser: argparse.ArgumentParser, argv: list[str] | None, folder: str,
                 fixed: Sequence[str]) -> tuple[argparse.Namespace, dict | None]:
    """The options of a training run, and with --resume the checkpoint that it goes on from.

    The options that the run was started with become the defaults, and what is typed wins.
    Raises Refusal if it would change one that is `fixed`, or if the run cannot go on.
    """
    args = parser.parse_args(argv)
    if args.resume is None:
        return args, None
    path = args.out_dir / "checkpoint.npz" if args.resume == Path() else args.resume
    saved = load(path, folder)
    if "options" not in saved:
        raise Refusal(f"{path} holds only what inference needs: resume a checkpoint.npz")
    if saved["best"] is not None and not path.with_name("best.npz").exists():
        raise Refusal(f"{path} needs the best.npz that was beside it: bring it back, or start "
                      "a new run")
    started = {**saved["options"], "out_dir": path.parent}
    if missing := vars(args).keys() - {"resume", "debug"} - started.keys():
        raise KeyError(min(missing))      # older code did not know this setting
    args = parser.parse_args(argv, argparse.Namespace(**started))
    args.resume = path
    for name in fixed:
        if getattr(args, name) != started[name]:
            raise Refusal(f"a resumed run keeps its {name.replace('_', ' ')} "
                          f"({started[name]}): start a new one")
    return args, saved


class Metrics:
    """metrics.csv: one row at a time, each handed over at once; `seconds` is the last column.

    A resumed run first drops the rows that lie beyond its checkpoint, so that the file
    equals the one of a run that was never interrupted, apart from the seconds. A new run
    removes weights, progress and results of an older one, and while a run has it open, other
    processes are refused: two runs never mix.
    """

    def __init__(self, path: Path, columns: list[str], resume_step: int | None = None) -> None:
        rows = []
        self.path, self.columns = path, columns
        with path.open("a+", newline="", encoding="utf-8") as file:
            _claim(file)
            if resume_step is not None:
                file.seek(0)
                whole = [line for line in file if line.endswith("\n")]   # a full disk cuts one
                rows = [row for row in csv.DictReader(whole) if int(row["step"]) <= resume_step]
        if rows and list(rows[0]) != columns:
            raise Refusal(f"{path} was written by older code: start a new run")
        partial = path.with_name(path.name + ".partial")
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
        os.replace(partial, path)
        self.file = path.open("a", newline="", encoding="utf-8")
        weakref.finalize(self, self.file.close)
        _claim(self.file)
        if resume_step is None:
            forget_results(path.parent, *OF_WEIGHTS)
            for old in (old for name in OF_A_RUN for old in path.parent.glob(name)):
                old.unlink()

    def add(self, **row: float) -> None:
        """Append one row and hand it to the operating system."""
        csv.DictWriter(self.file, self.columns).writerow(row)
        self.file.flush()
        forget_results(self.path.parent, *OF_WEIGHTS)     # other weights follow


def _claim(file: TextIO) -> None:
    """Refuse what another process has claimed; a claim ends with its process, however it ends.

    It also ends when this process closes the file or another reader of it.
    """
    with contextlib.suppress(ImportError, OSError):     # not on Windows and some network disks
        import fcntl
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise Refusal(f"another run is writing to {Path(file.name).parent}: wait for its "
                          "end, or choose another --out-dir") from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Copy a checkpoint without its optimizer: identity, configuration and weights only."""
    parser = argparse.ArgumentParser(description=main.__doc__, allow_abbrev=False)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    args = parser.parse_args(argv)
    contents = load(args.source)
    save(args.target, {name: contents[name] for name in ("folder", "config", "model")})
    print(f"{args.target}: {args.target.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
