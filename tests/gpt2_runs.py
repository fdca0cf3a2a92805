"""What the tests of training GPT-2 share: a short text, a small run, and how runs compare."""

import contextlib
import csv
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from support import load

gpt2 = load("gpt2_from_scratch")
FOLDER = "gpt2_from_scratch"
STEPS, EVERY, BATCH, CONTEXT = 16, 5, 6, 8       # the last evaluation is after a single step
FLAGS = ("--layers", 1, "--heads", 2, "--channels", 8, "--context", CONTEXT,
         "--vocabulary", 270, "--batch-size", BATCH, "--steps", STEPS, "--log-every", EVERY,
         "--dropout", 0.2, "--warm-up", 3, "--lr", 0.02, "--patience", 40)


def text(words: int, seed: int) -> str:
    """Three words in an order of their own, and a letter of two bytes."""
    rng = random.Random(seed)
    return " ".join(rng.choice(("the sea", "the hill", "über")) for _ in range(words))


@contextlib.contextmanager
def short_text() -> Iterator[object]:
    """Every run in this process trains on a short text, counts nothing and reports nothing."""
    torch.set_num_threads(1)
    data = gpt2.data.Data("few", text(300, 1), text(40, 2), "digest of few")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpt2.train, "load", lambda *_: data)
        patch.setattr(gpt2.train, "baselines", lambda *_: {"2-gram": 1.0, "3-gram": 0.5})
        patch.setattr(gpt2.train, "report", lambda *_: None)
        patch.setattr(gpt2.measures, "SIDES", {"cpu": 8})
        yield data


def train(out: Path, *flags: object) -> int:
    return gpt2.train.main(["--out-dir", str(out), *map(str, (*FLAGS, *flags))])


def resume(out: Path, *flags: object) -> int:
    torch.manual_seed(999)  # whatever happened in between must not matter
    return gpt2.train.main(["--resume", "--out-dir", str(out), *map(str, flags)])


def chosen(*flags: object) -> SimpleNamespace:
    args = gpt2.options.parser().parse_args([*map(str, flags)])
    gpt2.options.set_defaults(args)
    return args


def rows(out: Path) -> list[dict]:
    with (out / "metrics.csv").open(newline="") as file:
        return [dict(row, seconds=None) for row in csv.DictReader(file)]


def saved(out: Path, name: str = "checkpoint.pt") -> dict:
    return gpt2.checkpoint.load(out / name, FOLDER)


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


def assert_same_run(left: Path, right: Path) -> None:
    for name in ("checkpoint.pt", "best.pt"):
        one, two = saved(left, name), saved(right, name)
        for part in ("model", "optimizer", "config", "data", *gpt2.run.Run.PROGRESS):
            same = gpt2.checkpoint.digest(one[part]) == gpt2.checkpoint.digest(two[part])
            assert same or part == "seconds", part
    assert rows(left) == rows(right)


def assert_close_weights(left: dict, right: dict, limit: float) -> None:
    assert list(left) == list(right)
    for name, weight in left.items():
        torch.testing.assert_close(right[name], weight, rtol=0, atol=limit, msg=name)


def cut_after(steps: int, out: Path, *flags: object) -> None:
    """Trains until a signal comes in the midst of a step."""
    number, clip, calls = (signal.SIGINT, signal.SIGTERM)[steps % 2], gpt2.optimization.clip, []

    def interrupted(*given: object) -> None:
        calls.append(1)
        if len(calls) == steps:
            os.kill(os.getpid(), number)
        clip(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpt2.optimization, "clip", interrupted)
        assert train(out, *flags) in (0, 128 + number)
    assert len(calls) in (steps, steps + 1)
