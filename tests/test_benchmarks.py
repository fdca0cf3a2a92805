"""The benchmarks: their arithmetic on a clock that obeys, and that every script still runs.

    pytest -m slow tests/test_benchmarks.py      # all nine folders beside their peers, quickly
"""

import argparse
import importlib
import json
import math
import random
import re
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from support import FOLDERS, ROOT, run

HERE = ROOT / "tests" / "benchmarks"
LIMIT = 120      # seconds of the processors for a quick run of all of them


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """A module of tests/benchmarks by its name, as its neighbours import it."""
    monkeypatch.syspath_prepend(str(HERE))
    return importlib.import_module


class Clock:
    """A clock that stands still unless work moves it on, and a diary of who has worked."""

    def __init__(self) -> None:
        self.now, self.diary = 0.0, []

    def __call__(self) -> float:
        return self.now

    def worker(self, name: str, seconds: Iterator[float]) -> Callable[[], str]:
        """Work that takes these seconds, call by call."""
        def work() -> str:
            self.now += next(seconds)
            self.diary.append(name)
            return f"{name} {self.diary.count(name)}"
        return work


# ---------------------------------------------------------------- taking turns


def test_both_take_turns_and_the_first_round_does_not_count(module: Callable) -> None:
    timing, clock = module("timing"), Clock()
    pair = timing.Pair("work", "peer", clock.worker("a", iter([100, 1, 2, 3])),
                       clock.worker("b", iter([100, 4, 6, 5])))
    times, given = timing.take_turns(pair, 3, clock)
    assert times == [(1, 4), (2, 6), (3, 5)]
    assert given == ["a 4", "b 4"]
    assert "".join(clock.diary) == "ab" "ab" "ba" "ab"


def test_several_calls_count_as_their_mean(module: Callable) -> None:
    timing, clock = module("timing"), Clock()
    pair = timing.Pair("work", "peer", clock.worker("a", iter([9, 1, 2, 3])),
                       clock.worker("b", iter([9, 8])), calls=(3, 1))
    assert timing.take_turns(pair, 1, clock)[0] == [(2, 8)]


def test_the_ratio_is_that_of_the_medians_and_its_spread_that_of_the_rounds(
    module: Callable
) -> None:
    found = module("timing").summary([(1, 4), (2, 6), (3, 5)])
    assert found == {"ours": 2, "theirs": 5, "ratio": 2.5, "low": 5 / 3, "high": 4}


def test_the_ratio_lies_between_the_lowest_and_the_highest(module: Callable) -> None:
    draw = random.Random(0)
    for _ in range(200):
        times = [(draw.uniform(1, 9), draw.uniform(1, 9)) for _ in range(draw.randint(1, 8))]
        found = module("timing").summary(times)
        assert found["low"] <= found["ratio"] <= found["high"]


def test_results_are_printed_and_written(module: Callable, tmp_path: Path,
                                         capsys: pytest.CaptureFixture) -> None:
    timing, path = module("timing"), tmp_path / "found.json"
    args = argparse.Namespace(threads=[1], rounds=2, clock="wall", json=path)
    pair = timing.Pair("adding", "a peer", lambda: sum(range(10)), lambda: sum(range(10)),
                       amount=(10, "numbers"), remark=lambda a, b: f"{a} and {b}")
    timing.measure("folder", lambda: iter([pair]), args)
    said = capsys.readouterr().out
    assert "adding, against a peer, 1 thread: ours" in said and "; 45 and 45" in said
    [record] = timing.read(path)
    assert len(record["rounds"]) == 2 and record["low"] <= record["ratio"] <= record["high"]
    assert json.loads(path.read_text())["machine"]["cores"] >= 1
    head, row = timing.table([record]).splitlines()
    assert head.split()[:2] == ["folder", "work"] and row.split()[:2] == ["folder", "adding"]


@pytest.mark.parametrize(("seconds", "text"), [(0.00012, "0.12 ms"), (0.9, "900 ms"),
                                               (12.34, "12.3 s")])
def test_durations_have_three_digits(module: Callable, seconds: float, text: str) -> None:
    assert module("timing").duration(seconds) == text


def test_at_least_five_rounds_unless_told_otherwise(module: Callable) -> None:
    timing = module("timing")

    def rounds(*words: str) -> int:
        return timing.parse(timing.parser("About."), list(words)).rounds

    assert (rounds(), rounds("--quick"), rounds("--quick", "--rounds", "3")) == (5, 1, 3)


@pytest.mark.parametrize("bad", ["--rounds 0", "--threads 1.5", "--clock sun", "--quic"])
def test_bad_flags_end_with_2(module: Callable, bad: str) -> None:
    timing = module("timing")
    with pytest.raises(SystemExit) as end:
        timing.parse(timing.parser("About."), bad.split())
    assert end.value.code == 2


# ---------------------------------------------------------------- growth


def test_an_exponent_is_the_slope_of_the_last_octaves(module: Callable) -> None:
    exponent, sizes = module("growth").exponent, [1, 2, 4, 8, 16]
    assert exponent(sizes, [3 * size**1.5 for size in sizes]) == pytest.approx(1.5)
    assert exponent(sizes, [7, 7, *(size**2 for size in sizes[2:])]) == pytest.approx(2)
    assert math.isnan(exponent(sizes, [0.0] * 5)) and math.isnan(exponent([1], [1]))


# ---------------------------------------------------------------- the scripts


def test_there_is_a_script_for_every_folder_and_every_mention() -> None:
    texts = [path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *ROOT.glob(
        "*_from_scratch/README.md")]]
    named = {name for text in texts for name in re.findall(r"tests/benchmarks/(\w+)\.py", text)}
    folders = {folder.removesuffix("_from_scratch") for folder in FOLDERS}
    assert not [name for name in named | folders if not (HERE / f"{name}.py").exists()]


def test_one_folder_runs_and_its_numbers_can_be_read(tmp_path: Path) -> None:
    done = run("-m", "tests.benchmarks", "--only", "lenet", "--quick", "--json",
               tmp_path / "found.json", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    [record] = json.loads((tmp_path / "found.json").read_text())["records"]
    assert record["folder"] == "lenet" and record["ours"] > 0 and len(record["rounds"]) == 1
    assert done.stdout.splitlines()[1].startswith("lenet ")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_all_folders_run(tmp_path: Path) -> None:
    """Within two minutes of the processors: other work on the machine does not count."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run("-m", "tests.benchmarks", "--quick", "--json", tmp_path / "found.json",
               cwd=ROOT, timeout=1100)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    records = json.loads((tmp_path / "found.json").read_text())["records"]
    assert {f"{record['folder']}_from_scratch" for record in records} == set(FOLDERS)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < LIMIT


@pytest.mark.slow
def test_growth_is_measured_and_drawn(tmp_path: Path) -> None:
    done = run("tests/benchmarks/growth.py", "--only", "lenet", "sampling", "--quick", "--out",
               tmp_path / "growth.png", "--json", tmp_path / "growth.json", cwd=ROOT,
               timeout=280)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "growth.json").read_text())["records"]
    assert [len(each["points"]) for each in found] == [2, 2]
    assert (tmp_path / "growth.png").stat().st_size > 10_000
