"""Ours and a peer's take turns in one process: medians, their ratio, and its spread.

Every script of this folder makes pairs of functions and gives them to `measure`; the flags, the
lines, the JSON and the table are made here, so that they are the same everywhere. The ratio is
theirs / ours: more than 1 means that ours is faster. Importing this file makes those of tests/
importable, too.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
HEADER = ("folder", "work", "peer", "threads", "ours", "theirs", "ratio (lowest to highest)")


class Pair(NamedTuple):
    """The same work, done by ours and by a peer."""

    work: str
    peer: str
    ours: Callable[[], object]
    theirs: Callable[[], object]
    calls: tuple[int, int] = (1, 1)              # of both in a round; their mean counts
    amount: tuple[int, str] | None = None        # what a call makes: (128, "tokens")
    remark: Callable[[object, object], str] | None = None    # on what the last calls gave


# ---------------------------------------------------------------- measuring


def take_turns(pair: Pair, rounds: int, clock: Callable[[], float] = time.perf_counter,
               ) -> tuple[list[tuple[float, float]], list[object]]:
    """Seconds of a call of ours and of theirs in each round, and what both gave last.

    A round before them does not count. Who begins changes from round to round.
    """
    times, given = [], [pair.ours(), pair.theirs()]
    for number in range(rounds):
        found = [0.0, 0.0]
        for side in (0, 1) if number % 2 == 0 else (1, 0):
            work, calls = pair[2 + side], pair.calls[side]
            start = clock()
            for _ in range(calls):
                given[side] = work()
            found[side] = (clock() - start) / calls
        times.append(tuple(found))
    return times, given


def summary(times: Sequence[tuple[float, float]]) -> dict[str, float]:
    """The medians of ours and theirs, their ratio, and the lowest and highest of a round.

    The ratio of the medians lies between the lowest and the highest.
    """
    ours, theirs = (statistics.median(column) for column in zip(*times))
    ratios = [peer / own for own, peer in times]
    return {"ours": ours, "theirs": theirs, "ratio": theirs / ours, "low": min(ratios),
            "high": max(ratios)}


def peak_memory(forget: bool = False) -> float:
    """The most memory that this process has had, in GB; Linux can forget what was before.

    There `ru_maxrss` would count what the process had been a copy of before it began.
    """
    if sys.platform != "linux":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9      # macOS: bytes
    if forget:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e9


def set_threads(count: int) -> None:
    """Let PyTorch and NumPy compute on so many threads, as far as they are in use."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(count)
    if threadpoolctl := sys.modules.get("threadpoolctl"):
        threadpoolctl.threadpool_limits(count, "blas")


def measure(folder: str, pairs: Callable[[], Iterable[Pair]], args: argparse.Namespace) -> None:
    """Time all pairs on one number of threads after the other; print, and write what is asked.

    `pairs` may be a generator: then a pair's models are gone before those of the next are made.
    """
    records = []
    for threads in args.threads:
        set_threads(threads)
        for pair in pairs():
            times, given = take_turns(pair, args.rounds, CLOCKS[args.clock])
            remark = pair.remark(*given) if pair.remark else ""
            records.append({
                "folder": folder, "work": pair.work, "peer": pair.peer, "threads": threads,
                "clock": args.clock, "amount": pair.amount, **summary(times),
                "rounds": times, "remark": remark})
            print(line(records[-1]), flush=True)
            del pair, given
    print(f"rounds: {args.rounds}; clock: {args.clock}; peak memory of this process: "
          f"{peak_memory():.2f} GB", flush=True)
    if args.json:
        write(args.json, records)


# ---------------------------------------------------------------- showing


def duration(seconds: float) -> str:
    """Three digits in seconds, or in milliseconds."""
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"


def spread(record: dict) -> str:
    """A ratio, and between what it lay in single rounds."""
    ratio, low, high = (f"{record[name]:.2f}" if record[name] < 100 else f"{record[name]:,.0f}"
                        for name in ("ratio", "low", "high"))
    return f"{ratio} ({low} to {high})"


def line(record: dict) -> str:
    """A pair's result in words."""
    sides = []
    for side in ("ours", "theirs"):
        many, what = record["amount"] or (0, "")
        speed = f" ({many / record[side]:,.1f} {what}/s)" if many else ""
        sides.append(f"{side} {duration(record[side])}{speed}")
    remark = f"; {record['remark']}" if record["remark"] else ""
    return (f"{record['work']}, against {record['peer']}, {record['threads']} "
            f"thread{'s' * (record['threads'] > 1)}: {', '.join(sides)}, ratio "
            f"{spread(record)}{remark}")


def table(records: Iterable[dict]) -> str:
    """All results below each other; the columns are as wide as they have to be."""
    rows = [HEADER, *((r["folder"], r["work"], r["peer"], str(r["threads"]),
                       duration(r["ours"]), duration(r["theirs"]), spread(r))
                      for r in records)]
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join(cell.rjust(width) if 3 <= place <= 5 else cell.ljust(width)
                               for place, (cell, width) in enumerate(zip(row, widths))).rstrip()
                     for row in rows)


def machine() -> dict[str, object]:
    """What the numbers hold for: platform, cores, versions, and the load at that time."""
    versions = {}
    for name in ("numpy", "torch", "torchvision", "scikit-learn", "transformers", "diffusers"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {"platform": platform.platform(), "cores": os.cpu_count(),
            "python": platform.python_version(), "load": os.getloadavg(), **versions}


def write(path: Path, records: list[dict]) -> None:
    """Keep the results as JSON: {"machine": ..., "records": [...]}."""
    text = json.dumps({"machine": machine(), "records": records}, indent=1)
    path.write_text(text + "\n", encoding="utf-8")


def add(path: Path | None, **found: object) -> None:
    """Add what else was found to the results that `write` has kept, if they were asked for."""
    if path:
        kept = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**kept, "found": found}, indent=1) + "\n", encoding="utf-8")


def read(path: Path) -> list[dict]:
    """The results that `write` has kept."""
    return json.loads(path.read_text(encoding="utf-8"))["records"]


# ---------------------------------------------------------------- flags


def count(text: str) -> int:
    """A whole number from 1 on, as flags take it."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1 on")
    return int(text)


def parser(about: str) -> argparse.ArgumentParser:
    """A parser with the flags of every script; `about` is its docstring."""
    made = argparse.ArgumentParser(description=about.splitlines()[0], allow_abbrev=False)
    made.add_argument("--rounds", metavar="N", type=count,
                      help="how often both take turns (default: at least five)")
    made.add_argument("--threads", metavar="N", type=count, nargs="+",
                      help="numbers of threads (default: 1, then as many as there are cores)")
    made.add_argument("--clock", choices=CLOCKS, default="wall",
                      help="cpu: seconds of the processors, for a machine with other work")
    made.add_argument("--json", metavar="FILE", type=Path, help="write all numbers to it")
    made.add_argument("--quick", action="store_true",
                      help="one round of small work on one thread, to see that it runs")
    return made


def parse(made: argparse.ArgumentParser, argv: list[str] | None,
          rounds: int = 5) -> argparse.Namespace:
    """The flags; what they leave open follows from --quick and the script's usual rounds."""
    args = made.parse_args(argv)
    args.rounds = args.rounds or (1 if args.quick else rounds)
    args.threads = args.threads or ([1] if args.quick else sorted({1, os.cpu_count() or 1}))
    return args
