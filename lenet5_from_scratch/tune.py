"""Better settings by random search, the poor ones given up early (successive halving).

Random search, because of five settings only two or three matter and a grid wastes its trials
on the others (J. Bergstra, Y. Bengio, 2012). Halving, because a bad rate shows after a few
epochs: every trial gets a ninth of the epochs, the better third of them a third, and the
better third of those all of them (K. Jamieson, A. Talwalkar, 2016). Every trial starts
anew on each rung, because the rate depends on the length. Validation pictures decide; the test
set is never looked at.
"""

import argparse
import csv
import math
import os
import shlex
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import console
import options
import pictures
from data import Data, Part

FACTOR, RUNGS = 3, 3                # a third goes on; at most twice
SETTINGS = ("lr", "batch_size", "weight_decay", "dropout", "augment")
BATCHES = (16, 32, 64, 128)
# What makes two searches the same one: kept in every row of the leaderboard.
KEPT = ("data", "seed", "optimizer", "schedule", "activation", "batch_norm", "init",
        "smoothing")
COLUMNS = ("rung", "trial", "epochs", *SETTINGS, "validation_error", "validation_loss",
           "pictures", *KEPT, "seconds")
HEAD = "rung  trial  epochs       lr  batch   decay  dropout  augment  validation error"
Attempt = Callable[..., object]


def settings(seed: int, trial: int, optimizer: str = "adamw") -> dict[str, float]:
    """The settings of a trial: a function of seed and number alone, rounded to be typed.

    SGD's rates are ten times AdamW's, as in `options.RATES`.
    """
    rng = np.random.default_rng((seed, trial))

    def between(low: float, high: float, logarithmic: bool = True) -> float:
        if logarithmic:
            low, high = math.log(low), math.log(high)
        drawn = rng.uniform(low, high)
        return float(f"{math.exp(drawn) if logarithmic else drawn:.2g}")

    times = options.RATES.get(optimizer, 1)
    return {"lr": between(5e-4 * times, 2e-2 * times), "batch_size": int(rng.choice(BATCHES)),
            "weight_decay": between(1e-3, 0.5), "dropout": between(0, 0.5, False),
            "augment": between(0, 1.5, False)}


def rungs(trials: int, epochs: int) -> list[tuple[int, int]]:
    """How many trials run for how many epochs, rung by rung: each time fewer and longer."""
    return [(math.ceil(trials / FACTOR**rung), max(1, epochs // FACTOR**(RUNGS - 1 - rung)))
            for rung in range(RUNGS)]                                  # (18)


def search(args: argparse.Namespace, data: Data, device: torch.device,
           attempt: Attempt) -> int:
    """Run every trial that the leaderboard lacks, then print the winner's command.

    `attempt(args, data, device, stop)` trains once and returns a run with its `best`. The same
    command goes on where a search was stopped. Raises Refusal if the leaderboard in the way is
    that of another search.
    """
    args.out_dir.mkdir(parents=True, exist_ok=True)
    board, digest = args.out_dir / "leaderboard.csv", data.digest
    data = data._replace(test=Part(data.test.images[:0], data.test.labels[:0]))
    rows, plan = read(board), rungs(args.tune, args.epochs)
    print(f"{args.tune} trials in {RUNGS} rungs, at most "
          f"{sum(count * epochs for count, epochs in plan)} epochs, on {data.name}; seed "
          f"{args.seed}; {len(rows)} results are on the leaderboard")
    print(HEAD, flush=True)
    alive = list(range(args.tune))
    with console.Stop() as stop:
        for rung, (count, epochs) in enumerate(plan):
            alive = alive[:count]
            for trial in alive:
                chosen = settings(args.seed, trial, args.optimizer)
                mine = argparse.Namespace(**{**vars(args), **chosen, "epochs": epochs,
                                             "patience": epochs})
                row = identity(mine, rung, trial, digest)
                if (rung, trial) not in rows:
                    rows[rung, trial] = {**row, **outcome(attempt, mine, data, device, stop)}
                elif any(rows[rung, trial].get(name) != value for name, value in row.items()):
                    raise console.Refusal(f"{console.from_here(board)} belongs to another "
                                          "search: delete it, or choose another --out-dir")
                if stop.requested:
                    console.say("stopped: the same command goes on with the search")
                    return stop.exit_code
                write(board, list(rows.values()))
                print(line(rows[rung, trial]), flush=True)
            alive.sort(key=lambda trial: rank(rows[rung, trial]))
    return finish(args, rows, alive[0])


def identity(args: argparse.Namespace, rung: int, trial: int, digest: str) -> dict[str, str]:
    """What a row says before its trial has run, as text."""
    row = {"rung": rung, "trial": trial, "pictures": digest[:8],
           **{name: getattr(args, name) for name in ("epochs", *SETTINGS, *KEPT)}}
    return {name: str(value) for name, value in row.items()}


def outcome(attempt: Attempt, args: argparse.Namespace, data: Data, device: torch.device,
            stop: console.Stop) -> dict[str, str]:
    """What a row says afterwards; a trial whose loss is no number any more has lost."""
    started = time.monotonic()
    try:
        error, loss = attempt(args, data, device, stop).best or (1.0, math.inf)
    except console.Refusal as why:
        if "not finite" not in str(why):       # a full disk is no fault of the settings
            raise
        error, loss = 1.0, math.inf
    return {"validation_error": f"{error:.6f}", "validation_loss": f"{loss:.6f}",
            "seconds": f"{time.monotonic() - started:.1f}"}


def rank(row: dict[str, str]) -> tuple[float, float]:
    """Lower is better: the validation error, and the loss between equals."""
    return float(row["validation_error"]), float(row["validation_loss"])


def line(row: dict[str, str]) -> str:
    """A row for people."""
    cells = [row[name] for name in ("rung", "trial", "epochs", *SETTINGS)]
    widths = (4, 6, 7, 8, 6, 7, 8, 8)
    return (" ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths))
            + f" {float(row['validation_error']):>17.2%}")


def read(board: Path) -> dict[tuple[int, int], dict[str, str]]:
    """The rows of a leaderboard by rung and trial; none if there is no file."""
    if not board.exists():
        return {}
    with board.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise console.Refusal(f"{console.from_here(board)} is no leaderboard of this "
                                  "version: delete it, or choose another --out-dir")
        try:
            return {(int(row["rung"]), int(row["trial"])): row for row in reader}
        except (TypeError, ValueError):
            raise console.Refusal(f"{console.from_here(board)} is damaged: delete it, or "
                                  "choose another --out-dir") from None


def write(board: Path, rows: list[dict[str, str]]) -> None:
    """The leaderboard, whole or not at all: the last rung first, the best first in each."""
    rows = sorted(rows, key=lambda row: (-int(row["rung"]), rank(row), int(row["trial"])))
    partial = board.with_name(board.name + ".partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    os.replace(partial, board)


def finish(args: argparse.Namespace, rows: dict, winner: int) -> int:
    """Draw the search and say the command that trains the winner."""
    first = [rows[0, trial] for trial in range(args.tune)]
    table = {name: [float(row[name]) for row in first] for name in SETTINGS}
    errors = [100 * float(row["validation_error"]) for row in first]
    pictures.draw_parallel(table, errors, winner, args.out_dir / "search.png")
    best = rows[RUNGS - 1, winner]
    print(f"trial {winner} is the best: validation error {float(best['validation_error']):.2%} "
          f"after {best['epochs']} epochs; wrote leaderboard.csv and search.png")
    print(f"next: {command(args, best)}")
    return 0


def command(args: argparse.Namespace, best: dict[str, str]) -> str:
    """The command that trains with the settings of a row, for as long as the last rung."""
    words = ["--data", args.data]
    usual = options.parser()
    for name in ("data_dir", "optimizer", "schedule", "activation", "init"):
        if getattr(args, name) != usual.get_default(name):
            words += [f"--{name.replace('_', '-')}", str(getattr(args, name))]
    for name in ("smoothing", *SETTINGS):
        words += [f"--{name.replace('_', '-')}", best[name]]
    words += ["--epochs", str(args.epochs), "--patience", str(args.epochs), "--seed",
              str(args.seed)]
    if not args.batch_norm:
        words.append("--no-batch-norm")
    return shlex.join(["python", "train.py", *words])
