"""The manners of the command line: flags, one-line errors, signals.

Every `train.py` and `inference.py` of the collection speaks the same language; this file
is its grammar. The same text stands in every folder (a test keeps the copies equal), so that
a folder can be copied out and still works alone.
"""

import argparse
import contextlib
import errno
import functools
import io
import json
import math
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path


class Refusal(Exception):
    """What stops a command: one sentence that says what is wrong and what to do."""


# ---------------------------------------------------------------- flags


def positive_int(text: str) -> int:
    """A whole number of at least 1, as an argparse type."""
    return _number(text, int, 1, "a whole number of at least 1")


def natural(text: str) -> int:
    """A whole number of at least 0, as an argparse type."""
    return _number(text, int, 0, "a whole number of at least 0")


def seed(text: str) -> int:
    """A whole number from 0 to 2³² - 1, as an argparse type."""
    value = natural(text)
    if value >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is more than 2^32 - 1")
    return value


def positive_float(text: str) -> float:
    """A finite number above 0, as an argparse type."""
    return _number(text, float, sys.float_info.min, "a number above 0")


def non_negative_float(text: str) -> float:
    """A finite number of at least 0, as an argparse type."""
    return _number(text, float, 0.0, "a number of at least 0")


def share(text: str) -> float:
    """A number from 0 to below 1, as an argparse type."""
    value = non_negative_float(text)
    if value >= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not below 1")
    return value


def _number(text: str, kind: type, least: float, wanted: str):
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= least):
        raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
    return value


def training_parser(about: str, *, data: Sequence[str], length: str,
                    devices: bool = True) -> argparse.ArgumentParser:
    """The parser of every `train.py`: the same flags in the same order; add your own after.

    `data` names the data sets, the default first; `length` is "epochs" or "steps". Epochs or
    steps, batch size, rate and lines are None where the user leaves them to the recipe.
    Without `devices`, for code that knows none, the flags about them are left out.
    """
    parser = _parser(about)
    add = parser.add_argument
    add_data_flags(parser, data, default=data[0])
    add("--out-dir", metavar="DIR", type=Path, default=Path(__file__).with_name("runs"),
        help="where everything is written (default: runs/ in this folder)")
    add(f"--{length}", metavar="N", type=positive_int,
        help=f"{length} to train for in all (default: what suits the data)")
    add("--batch-size", metavar="N", type=positive_int,
        help="examples a step; lower it when memory runs out (default: what suits the data)")
    add("--lr", metavar="X", type=positive_float,
        help="the highest learning rate of the run (default: what suits model and data)")
    add("--seed", metavar="N", type=seed, default=0,
        help="same seed, same machine: the same bits (default: %(default)s)")
    if devices:
        _add_device(parser)
        add("--workers", metavar="N", type=natural, default=0,
            help="threads that read a folder of files, 0 for none (default: %(default)s)")
    add("--resume", metavar="PATH", type=Path, nargs="?", const=Path(),
        help="continue exactly where a run stopped (default: the one in --out-dir); what "
             "you type wins over what the run was started with")
    add("--log-every", metavar="N", type=positive_int,
        help=f"{length} between printed lines (default: about fifteen lines a run)")
    add("--quick", action="store_true",
        help="a smoke run: the embedded data and a few steps, unless you say otherwise")
    if devices:
        add("--precision", choices=("auto", "fp32", "bf16"), default="auto",
            help="auto is bf16 on GPUs that have it, else fp32 (default: auto)")
    _add_debug(parser)
    return parser


def inference_parser(about: str, devices: bool = True) -> argparse.ArgumentParser:
    """The parser of every `inference.py`: checkpoint, device, seed, out; add your own after."""
    parser = _parser(about)
    parser.add_argument("--checkpoint", metavar="PATH", type=Path,
                        help="default: the best of the newest run, else the pretrained one")
    if devices:
        _add_device(parser)
    parser.add_argument("--seed", metavar="N", type=seed, default=0,
                        help="seed of whatever is drawn at random (default: %(default)s)")
    parser.add_argument("--out", metavar="DIR", type=Path,
                        default=Path(__file__).with_name("runs"),
                        help="where everything is written (default: runs/ in this folder)")
    _add_debug(parser)
    return parser


def add_data_flags(parser: argparse.ArgumentParser, names: Sequence[str],
                   default: str | None) -> None:
    """Add `--data` and `--data-dir`; a path becomes absolute, so that a run can be moved."""

    def name_or_path(text: str) -> str:
        return text if text in names else str(Path(text).resolve())

    parser.add_argument("--data", metavar="NAME|PATH", type=name_or_path, default=default,
                        help=f"{', '.join(names)}, or the path of your own (default: "
                             f"{default or 'what the checkpoint was trained on'})")
    parser.add_argument("--data-dir", metavar="DIR", type=Path,
                        default=Path(__file__).with_name("data"),
                        help="where real data sets lie or are downloaded to (default: data/ in "
                             "this folder)")


def _parser(about: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        description=about,
        allow_abbrev=False,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=28),
    )


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto",
                        help="auto is cuda where there is one, else cpu (default: auto)")


def _add_debug(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


# ---------------------------------------------------------------- a run that ends well


class Stop:
    """Turns Ctrl-C and SIGTERM into a request that the training loop honours between steps.

    The first signal sets `requested`; a second one ends the process at once, which harms
    nothing because checkpoints are written whole or not at all. `exit_code` is 130 after
    Ctrl-C and 143 after SIGTERM.
    """

    def __init__(self) -> None:
        self.requested = False
        self.exit_code = 0
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "Stop":
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(ValueError):  # only the main thread may set handlers
                self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _receive(self, number: int, _frame: object) -> None:
        self.requested, self.exit_code = True, 128 + number
        self._restore()
        say("stopping after this step; once more to stop at once")

    def _restore(self) -> None:
        while self._previous:
            number, handler = self._previous.popitem()
            signal.signal(number, handler)


def say(message: str) -> None:
    """A remark for people, on stderr: stdout is for results."""
    print(message, file=sys.stderr, flush=True)


def from_here(path: Path) -> Path:
    """A path as one would type it: relative if it lies below the working directory."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def to_type(path: Path) -> str:
    """A path in a command that one may type: from here, in quotes where it has blanks."""
    return shlex.quote(str(from_here(path)))


def write_results(folder: Path, script: str, args: argparse.Namespace, **found: object) -> None:
    """Write what a script has found to `results.json`, beside what other scripts found there.

    The file holds {"train.py": {"settings": {"seed": 0, ...}, "test_error": 0.0133, ...}, ...};
    shares are from 0 to 1, times in seconds. It is written whole or not at all.
    """
    settings = {name: str(value.resolve()) if isinstance(value, Path) else value
                for name, value in vars(args).items() if name not in ("resume", "debug")}
    _replace_results(folder, {**_results(folder), script: {"settings": settings, **found}})


def forget_results(folder: Path, *scripts: str) -> None:
    """Take out of `results.json` what scripts have found of weights that are no more."""
    before = _results(folder)
    kept = {name: found for name, found in before.items() if name not in scripts}
    if kept != before:
        _replace_results(folder, kept)


def _results(folder: Path) -> dict[str, dict]:
    with contextlib.suppress(FileNotFoundError, ValueError):     # nothing there to keep
        found = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    return {}


def _replace_results(folder: Path, results: dict[str, dict]) -> None:
    path, partial = folder / "results.json", folder / "results.json.partial"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        partial.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def one_line_errors(main: Callable[..., int]) -> Callable[..., int]:
    """Make a `main(argv)` explain an error in one sentence and return 1, or 130 after Ctrl-C.

    argparse itself leaves with 2. `--debug` shows the traceback as well.
    """

    @functools.wraps(main)
    def wrapper(argv: list[str] | None = None) -> int:
        if isinstance(sys.stdout, io.TextIOWrapper):      # a sign that it lacks becomes a "?"
            sys.stdout.reconfigure(errors="replace")
        try:
            return main(argv)
        except KeyboardInterrupt:
            say("stopped")
            return 130
        except BrokenPipeError:  # the reader of our output, such as `head`, has left
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except Exception as error:
            if "--debug" in (sys.argv if argv is None else argv):
                traceback.print_exc()
            say(f"error: {_sentence(error)}")
            return 1

    return wrapper


def _sentence(error: Exception) -> str:
    if type(error).__name__ in ("MemoryError", "OutOfMemoryError"):  # of Python, of PyTorch
        return "there is no memory left: use a smaller --batch-size"
    if isinstance(error, Refusal):
        return str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "there is no room left on the disk: make room, or write somewhere else"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    first_line = (str(error).splitlines() or [""])[0]
    if isinstance(error, KeyError):
        first_line += " is missing: if older code has written this checkpoint, train again"
    return f"{first_line} ({type(error).__name__}; --debug shows where)"
