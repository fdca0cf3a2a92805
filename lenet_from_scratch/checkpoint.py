"""Checkpoints: written whole or not at all, verified when read, resumed to the bit.

A checkpoint is a plain dictionary of tensors and plain values, so PyTorch's safe loader
reads it and no code inside a file is ever run. It carries a SHA-256 over all its names,
tensors and values, because `torch.load` does not notice a flipped bit. The same text
stands in every PyTorch folder (a test keeps the copies equal).

    python checkpoint.py runs/best.pt pretrained.pt     # keep only what inference needs
"""

import argparse
import contextlib
import csv
import hashlib
import os
import sys
import warnings
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

import torch
from torch import nn

from console import Refusal, forget_results, from_here, one_line_errors, say

VERSION = 1  # of the layout below; raise it when old files can no longer be read
OF_A_RUN = ("best.pt", "checkpoint.pt", "progress/step_*.png", "progress/epoch_*.png")
OF_WEIGHTS = ("train.py", "evaluate.py")     # whose results are of one run only


def digest(contents: object) -> str:
    """SHA-256 over every name, tensor and plain value, in hexadecimal.

    Raises TypeError for anything else: what is not plain does not belong in a checkpoint.
    """
    sha = hashlib.sha256()

    def feed(value: object) -> None:
        if isinstance(value, torch.Tensor):
            sha.update(f"tensor {value.dtype} {tuple(value.shape)} ".encode())
            sha.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        elif isinstance(value, dict):
            sha.update(f"dict {len(value)} ".encode())
            for name, item in value.items():
                feed(name)
                feed(item)
        elif isinstance(value, list | tuple):
            sha.update(f"{type(value).__name__} {len(value)} ".encode())
            for item in value:
                feed(item)
        elif value is None or isinstance(value, bool | int | float | str):
            text = repr(value)
            sha.update(f"{type(value).__name__} {len(text)} {text} ".encode())
        else:
            raise TypeError(f"a checkpoint holds tensors and plain values, not {type(value)}")

    feed(contents)
    return sha.hexdigest()


def save(path: Path, contents: dict) -> None:
    """Write a checkpoint whole or not at all: a crash or a full disk leaves the last intact.

    Adds `version` and `digest`. Raises Refusal when the file cannot be written.
    """
    contents = {"version": VERSION, **contents}
    contents["digest"] = digest(contents)
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            torch.save(contents, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:  # PyTorch reports a full disk as RuntimeError
        partial.unlink(missing_ok=True)
        kept = "the one before it is intact" if path.exists() else "nothing was written"
        raise Refusal(f"{path} could not be saved ({_first_line(error)}); {kept}: make room or "
                      "choose another --out-dir") from error


def load(path: Path, folder: str | None = None) -> dict:
    """Read a checkpoint that `folder` (None: any) made, on the CPU, and prove it undamaged.

    Raises Refusal, in one sentence, if the file is missing, damaged, hostile, of another
    version or of another folder.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # a damaged file ends in one sentence
            contents = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise Refusal(f"there is no checkpoint {path}: make one with python train.py") from None
    except IsADirectoryError:
        raise Refusal(f"{path} is a folder: name the checkpoint file in it") from None
    except PermissionError:
        raise Refusal(f"{path} may not be read: check its permissions") from None
    except Exception as error:  # a damaged file fails in many ways: zip, pickle, key, index
        raise Refusal(f"{path} is damaged or not a checkpoint ({type(error).__name__}): use "
                      "another one, or train again") from error
    if not isinstance(contents, dict) or "digest" not in contents:
        raise Refusal(f"{path} holds weights but is not a checkpoint of this collection")
    if contents.get("version") != VERSION:
        raise Refusal(f"{path} has layout version {contents.get('version')}, this code reads "
                      f"{VERSION}: train again, or use the code that wrote it")
    if folder not in (None, contents.get("folder")):
        raise Refusal(f"{path} was made by {contents.get('folder')}, this is {folder}")
    try:
        whole = contents.pop("digest") == digest(contents)
    except TypeError:
        whole = False
    if not whole:
        raise Refusal(f"{path} is damaged (its digest does not match): use another one, or "
                      "train again")
    return contents


def restore(model: nn.Module, weights: dict, path: Path) -> None:
    """Put the weights of a checkpoint into a model; every name and shape must agree."""
    ours = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    theirs = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    differing = sorted(n for n in ours | theirs if ours.get(n) != theirs.get(n))
    if differing:
        raise Refusal(f"{path} does not fit this model: {len(differing)} tensors differ in "
                      f"name or shape, {differing[0]} first")
    model.load_state_dict(weights)


def open_model(
    path: Path | None, folder: str, build: Callable[[dict], nn.Module], device: torch.device
) -> tuple[nn.Module, dict]:
    """The trained model of a checkpoint, ready to answer, and its configuration.

    Averaged weights ("ema") answer where there are some. Without a path the newest one is
    taken, and stderr says which.
    """
    path = path or newest(Path(__file__).resolve().parent)
    contents = load(path, folder)
    model = build(contents["config"])
    restore(model, contents.get("ema", contents["model"]), path)
    say(f"using {from_here(path)}")
    return model.to(device).eval(), contents["config"]


def newest(folder: Path) -> Path:
    """The best checkpoint of the newest run below `folder`, else its `pretrained.pt`."""
    runs = sorted((folder / "runs").rglob("best.pt"), key=lambda path: path.stat().st_mtime)
    return runs[-1] if runs else folder / "pretrained.pt"


def rng_state() -> dict:
    """The state of PyTorch's random number generators, to be put back by `set_rng_state`."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}


def set_rng_state(state: dict) -> None:
    """Continue the random numbers where `rng_state` saw them."""
    torch.set_rng_state(state["cpu"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


def read_options(parser: argparse.ArgumentParser, argv: list[str] | None, folder: str,
                 fixed: Sequence[str]) -> tuple[argparse.Namespace, dict | None]:
    """The options of a training run, and with --resume the checkpoint that it goes on from.

    The options that the run was started with become the defaults, and what is typed wins.
    Raises Refusal if it would change one that is `fixed`, or if the run cannot go on.
    """
    args = parser.parse_args(argv)
    if args.resume is None:
        return args, None
    path = args.out_dir / "checkpoint.pt" if args.resume == Path() else args.resume
    saved = load(path, folder)
    if "options" not in saved:
        raise Refusal(f"{path} holds only what inference needs: resume a checkpoint.pt")
    if saved["best"] is not None and not path.with_name("best.pt").exists():
        raise Refusal(f"{path} needs the best.pt that was beside it: bring it back, or start "
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
    """metrics.csv: one row at a time, each on disk at once; `seconds` is the last column.

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
    parser.add_argument("--half", action="store_true",
                        help="16 bits a weight: half the size, three digits of each")
    args = parser.parse_args(argv)
    contents = load(args.source)
    kept = {"folder": contents["folder"], "config": contents["config"],
            "model": contents.get("ema", contents["model"])}
    if args.half:
        kept["model"] = {name: weight.half() if weight.is_floating_point() else weight
                         for name, weight in kept["model"].items()}
    save(args.target, kept)
    print(f"{args.target}: {args.target.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
