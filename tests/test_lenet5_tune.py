"""The search for better settings, and the table of what each modern part is good for.

Most searches here train nothing: what a trial "reaches" is a formula of its settings, so that
the winner is known beforehand.
"""

import csv
import functools
import math
import shlex
import shutil
import signal
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from support import ROOT, load, run

lenet5 = load("lenet5_from_scratch")
tune, options, ablation = lenet5.tune, lenet5.options, lenet5.ablation
Part = lenet5.data.Part
TRAIN = ROOT / "lenet5_from_scratch" / "train.py"
TRIALS, EPOCHS = 10, 18     # rungs of 10, 4 and 2 trials for 2, 6 and 18 epochs


@functools.cache
def few_digits() -> tuple:
    """The embedded digits with few pictures to train on."""
    data = lenet5.data.embedded_digits()
    return data._replace(train=Part(*(values[:100] for values in data.train)))


def flags_of(out: Path, *flags: object) -> Namespace:
    """The options of a search."""
    args = options.parser().parse_args(
        ["--data", "digits", "--out-dir", str(out), "--tune", str(TRIALS), "--epochs",
         str(EPOCHS), *map(str, flags)])
    options.set_defaults(args, 100)
    return args


class Pretence:
    """An `attempt` that trains nothing: the error is a formula of settings and epochs."""

    def __init__(self, args: Namespace) -> None:
        self.trials = {tuple(tune.settings(args.seed, trial).values()): trial
                       for trial in range(args.tune)}
        self.calls = []

    def __call__(self, args: Namespace, data: tuple, device: torch.device,
                 stop: object) -> Namespace:
        assert device == torch.device("cpu")
        trial = self.trials[tuple(getattr(args, name) for name in tune.SETTINGS)]
        self.calls.append((trial, args.epochs))
        return Namespace(best=self.best(trial, args.epochs))

    @staticmethod
    def best(trial: int, epochs: int) -> tuple[float, float]:
        """Early on 7, 2, 5 and 0 are the best in this order, later 5 and 0, in the end 0."""
        order = {2: [7, 2, 5, 0, 1, 3, 4, 6, 8, 9], 6: [5, 0, 2, 7, 1], 18: [0, 5]}[epochs]
        place = order.index(trial)
        return 0.01 * (place // 2) + 0.1, 0.3 + 0.01 * place   # pairs differ in loss alone


def searched(out: Path, *flags: object, attempt: Callable | None = None) -> tuple:
    """Run a search; its exit code, and what was attempted."""
    args = flags_of(out, *flags)
    attempt = attempt or Pretence(args)
    return tune.search(args, few_digits(), torch.device("cpu"), attempt), attempt


def board(out: Path) -> list[dict]:
    """The leaderboard without its time column."""
    with (out / "leaderboard.csv").open(newline="", encoding="utf-8") as file:
        return [dict(row, seconds=None) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a search that nobody interrupted."""
    out = tmp_path_factory.mktemp("finished")
    assert searched(out)[0] == 0
    return out


# ---------------------------------------------------------------- settings and plan


def test_the_settings_of_a_trial_are_a_function_of_seed_and_number():
    first = [tune.settings(0, trial) for trial in range(30)]
    torch.manual_seed(3)
    assert [tune.settings(0, trial) for trial in reversed(range(30))] == first[::-1]
    other = [tune.settings(1, trial) for trial in range(30)]
    for name in ("lr", "weight_decay", "dropout", "augment"):
        assert len({settings[name] for settings in first}) > 15, name
        equal = sum(a[name] == b[name] for a, b in zip(first, other))
        assert equal < 6, name
    assert first[1:] != other[:-1]      # not of seed + trial, where searches would overlap


def test_the_settings_fill_their_ranges_and_the_rates_do_so_logarithmically():
    drawn = [tune.settings(seed, trial) for seed in range(10) for trial in range(100)]
    ranges = {"lr": (5e-4, 2e-2), "weight_decay": (1e-3, 0.5), "dropout": (0, 0.5),
              "augment": (0, 1.5)}
    for name, (low, high) in ranges.items():
        values = np.array([settings[name] for settings in drawn])
        assert low <= values.min() <= low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) <= values.max() <= high
        middle = math.sqrt(low * high) if name in ("lr", "weight_decay") else (low + high) / 2
        assert (values < middle).mean() == pytest.approx(0.5, abs=0.06), name
    sizes = [settings["batch_size"] for settings in drawn]
    for size in tune.BATCHES:
        assert sizes.count(size) / 1000 == pytest.approx(1 / len(tune.BATCHES), abs=0.06)
    assert all(list(settings) == list(tune.SETTINGS) for settings in drawn)


def test_the_settings_can_be_typed_as_they_are():
    for trial in range(200):
        for name, value in tune.settings(0, trial).items():
            flag = f"--{name.replace('_', '-')}"
            assert getattr(options.parser().parse_args([flag, str(value)]), name) == value
            assert len(str(value)) <= 7


@pytest.mark.parametrize(
    ("trials", "epochs", "plan"),
    [(9, 9, [(9, 1), (3, 3), (1, 9)]), (12, 60, [(12, 6), (4, 20), (2, 60)]),
     (27, 90, [(27, 10), (9, 30), (3, 90)]), (10, 18, [(10, 2), (4, 6), (2, 18)]),
     (1, 2, [(1, 1), (1, 1), (1, 2)]), (3, 2, [(3, 1), (1, 1), (1, 2)])],
)
def test_each_rung_has_a_third_of_the_trials_for_three_times_as_long(trials, epochs, plan):
    assert tune.rungs(trials, epochs) == plan


# ---------------------------------------------------------------- a search


def test_the_better_third_goes_on_and_each_trial_runs_once_a_rung(tmp_path):
    """Trial 7 leads at first and falls back, 0 comes from behind: the last rung counts."""
    code, attempt = searched(tmp_path)
    assert code == 0
    assert attempt.calls[:10] == [(trial, 2) for trial in range(10)]
    assert attempt.calls[10:14] == [(trial, 6) for trial in (7, 2, 5, 0)]
    assert attempt.calls[14:] == [(trial, 18) for trial in (5, 0)]


def test_the_leaderboard_has_the_last_rung_first_and_the_best_first_in_each(finished):
    rows = board(finished)
    assert tuple(rows[0]) == tune.COLUMNS
    assert rows[0].keys() >= {"lr", "batch_size", "weight_decay", "dropout", "augment"}
    where = [(int(row["rung"]), int(row["trial"])) for row in rows]
    assert where == [(2, trial) for trial in (0, 5)] + [
        (1, trial) for trial in (5, 0, 2, 7)] + [
        (0, trial) for trial in (7, 2, 5, 0, 1, 3, 4, 6, 8, 9)]
    for row in rows:
        chosen = tune.settings(0, int(row["trial"]))
        assert {name: row[name] for name in chosen} == {
            name: str(value) for name, value in chosen.items()}
        error, loss = Pretence.best(int(row["trial"]), int(row["epochs"]))
        assert float(row["validation_error"]) == pytest.approx(error, abs=1e-6)
        assert float(row["validation_loss"]) == pytest.approx(loss, abs=1e-6)
    assert sorted(path.name for path in finished.iterdir()) == ["leaderboard.csv", "search.png"]


def test_the_picture_of_a_search_is_a_picture(finished):
    with Image.open(finished / "search.png") as picture:
        assert picture.format == "PNG" and picture.width > 400
        assert np.asarray(picture.convert("L")).std() > 10


def test_the_picture_shows_the_settings_and_errors_of_the_first_rung(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(lenet5.pictures, "draw_parallel", lambda *args: drawn.append(args))
    searched(tmp_path)
    table, errors, winner, path = drawn[0]
    chosen = [tune.settings(0, trial) for trial in range(TRIALS)]
    for name in tune.SETTINGS:
        assert table[name] == [settings[name] for settings in chosen]
    assert errors == pytest.approx([100 * Pretence.best(t, 2)[0] for t in range(TRIALS)])
    assert path == tmp_path / "search.png"
    assert winner == int(board(tmp_path)[0]["trial"])


@pytest.mark.parametrize("seed", [0, 4])
def test_the_command_that_is_printed_trains_the_winner(seed, tmp_path, capsys):
    assert searched(tmp_path, "--seed", seed)[0] == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-2].startswith("trial 0 is the best: validation error 10.00% after 18 epochs")
    words = shlex.split(said[-1].removeprefix("next: "))
    assert words[:2] == ["python", "train.py"]
    args = options.parser().parse_args(words[2:])
    assert {name: getattr(args, name) for name in tune.SETTINGS} == tune.settings(seed, 0)
    assert (args.data, args.epochs, args.seed, args.tune) == ("digits", EPOCHS, seed, None)


def test_the_command_that_is_printed_says_all_that_differs_from_the_default(tmp_path, capsys):
    flags = ["--optimizer", "sgd", "--no-batch-norm", "--smoothing", 0.3, "--data-dir", "a b",
             "--activation", "tanh", "--schedule", "cosine", "--init", "pytorch"]

    def attempt(*_: object) -> Namespace:
        return Namespace(best=(0.1, 0.1))

    assert searched(tmp_path, *flags, attempt=attempt)[0] == 0
    words = shlex.split(capsys.readouterr().out.splitlines()[-1].removeprefix("next: "))
    args, asked = options.parser().parse_args(words[2:]), flags_of(tmp_path, *flags)
    assert {name: getattr(args, name) for name in tune.SETTINGS} == tune.settings(0, 0, "sgd")
    for name in ("data_dir", *tune.KEPT):
        assert getattr(args, name) == getattr(asked, name), name


def test_rates_of_sgd_are_ten_times_those_of_adamw():
    rates = [[tune.settings(0, trial, name)["lr"] for trial in range(50)]
             for name in ("adamw", "sgd")]
    assert rates[1] == pytest.approx([10 * rate for rate in rates[0]], rel=0.05)


def test_a_full_disk_stops_the_search_and_leaves_no_row(tmp_path):
    def attempt(*_: object) -> None:
        raise lenet5.console.Refusal("best.pt could not be saved (No space left on device)")

    with pytest.raises(lenet5.console.Refusal, match="No space left"):
        searched(tmp_path, attempt=attempt)
    assert not (tmp_path / "leaderboard.csv").exists()


def test_a_trial_is_given_its_settings_all_its_patience_and_no_test_pictures(tmp_path):
    seen = []

    def attempt(args, data, device, stop):
        seen.append(args)
        assert len(data.test.images) == len(data.test.labels) == 0
        for part, whole in zip(data[2:4], few_digits()[2:4]):
            assert all(map(torch.equal, part, whole))
        return Namespace(best=(0.1, 0.1))

    assert searched(tmp_path, "--optimizer", "sgd", "--patience", 1, attempt=attempt)[0] == 0
    for args in seen:
        assert args.patience == args.epochs and args.optimizer == "sgd" and args.seed == 0
    assert [args.epochs for args in seen] == 10 * [2] + 4 * [6] + 2 * [18]


def test_equal_trials_go_on_in_the_order_of_their_numbers(tmp_path):
    calls = []

    def attempt(args, data, device, stop):
        calls.append(args.lr)
        return Namespace(best=(0.5, 1.0))

    searched(tmp_path, attempt=attempt)
    assert calls == [tune.settings(0, t)["lr"] for t in (*range(10), 0, 1, 2, 3, 0, 1)]


@pytest.mark.parametrize("how", ["refused", "nothing"])
def test_a_trial_whose_loss_is_no_number_loses_and_the_search_goes_on(how, tmp_path):
    class Sick(Pretence):
        def __call__(self, args, data, device, stop):
            done = super().__call__(args, data, device, stop)
            if self.calls[-1] in ((7, 2), (5, 18)):
                if how == "refused":
                    bad, fine = torch.tensor(math.nan), [torch.ones(2)]
                    lenet5.devices.check_finite(bad, fine, 3, args.lr)
                done.best = None
            return done

    code, attempt = searched(tmp_path, attempt=Sick(flags_of(tmp_path)))
    assert code == 0
    assert attempt.calls[10:] == [(2, 6), (5, 6), (0, 6), (1, 6), (5, 18), (0, 18)]
    rows = board(tmp_path)
    lost = [row for row in rows if row["validation_error"] == "1.000000"]
    assert [(row["rung"], row["trial"]) for row in lost] == [("2", "5"), ("0", "7")]
    assert [row["validation_loss"] for row in lost] == ["inf", "inf"]
    assert rows[-1] == lost[-1] and rows[0]["trial"] == "0"
    assert searched(tmp_path)[1].calls == []    # it is not tried again


# ---------------------------------------------------------------- going on


@pytest.mark.parametrize("kept", [0, 1, 9, 10, 12, 15])
def test_a_search_killed_after_some_trials_goes_on_as_if_it_had_not_been(
    kept, finished, tmp_path
):
    class Killed(Pretence):
        def __call__(self, *args):
            if len(self.calls) == kept:
                raise KeyboardInterrupt
            return super().__call__(*args)

    first = Killed(flags_of(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        searched(tmp_path, attempt=first)
    assert (tmp_path / "leaderboard.csv").exists() == bool(kept)
    assert not kept or len(board(tmp_path)) == kept
    assert not (tmp_path / "search.png").exists()
    code, second = searched(tmp_path)
    assert code == 0 and len(second.calls) == 16 - kept
    assert board(tmp_path) == board(finished)
    assert not set(second.calls) & set(first.calls)
    one, other = (folder / "search.png" for folder in (tmp_path, finished))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("at", [1, 6, 16])
def test_a_search_stopped_by_a_signal_forgets_the_unfinished_trial_and_goes_on(
    number, at, finished, tmp_path, capsys
):
    """The trial that the signal cut short has a validation that means nothing."""

    class Stopped(Pretence):
        def __call__(self, args, data, device, stop):
            done = super().__call__(args, data, device, stop)
            if len(self.calls) == at:
                signal.raise_signal(number)
                assert stop.requested
                done.best = (0.0, 0.0)
            return done

    code, _ = searched(tmp_path, attempt=Stopped(flags_of(tmp_path)))
    assert code == 128 + number
    assert "the same command goes on with the search" in capsys.readouterr().err
    assert at == 1 or len(board(tmp_path)) == at - 1
    assert searched(tmp_path)[0] == 0
    assert board(tmp_path) == board(finished)


def test_a_finished_search_run_again_trains_nothing_and_says_the_same(finished, capsys):
    searched(finished)
    once = capsys.readouterr().out
    code, attempt = searched(finished)
    assert code == 0 and attempt.calls == []
    assert capsys.readouterr().out == once


@pytest.mark.parametrize(
    "flags",
    [("--seed", 1), ("--epochs", 90), ("--optimizer", "sgd"), ("--schedule", "cosine"),
     ("--activation", "tanh"), ("--no-batch-norm",), ("--init", "pytorch"),
     ("--smoothing", 0.2)],
    ids=lambda flags: flags[0],
)
def test_the_leaderboard_of_another_search_is_refused_and_left_as_it_is(
    flags, finished, tmp_path
):
    shutil.copy(finished / "leaderboard.csv", tmp_path)
    before = (tmp_path / "leaderboard.csv").read_bytes()
    attempt = Pretence(flags_of(tmp_path, *flags))
    with pytest.raises(lenet5.console.Refusal, match="belongs to another search"):
        searched(tmp_path, *flags, attempt=attempt)
    assert attempt.calls == []
    assert [path.name for path in tmp_path.iterdir()] == ["leaderboard.csv"]
    assert (tmp_path / "leaderboard.csv").read_bytes() == before


@pytest.mark.parametrize("part", ["train", "validation"])
def test_the_leaderboard_of_other_pictures_is_refused(part, finished, tmp_path):
    shutil.copy(finished / "leaderboard.csv", tmp_path)
    images, labels = getattr(few_digits(), part)
    other = images.clone()
    other[3, 9, 9] ^= 1
    data = few_digits()._replace(**{part: Part(other, labels)})
    args = flags_of(tmp_path)
    with pytest.raises(lenet5.console.Refusal, match="belongs to another search"):
        tune.search(args, data, torch.device("cpu"), Pretence(args))


def test_a_file_that_is_no_leaderboard_is_refused_and_left_as_it_is(tmp_path):
    (tmp_path / "leaderboard.csv").write_text("name,points\nAda,3\n")
    with pytest.raises(lenet5.console.Refusal, match="is no leaderboard of this version"):
        searched(tmp_path)
    assert (tmp_path / "leaderboard.csv").read_text() == "name,points\nAda,3\n"


def test_a_damaged_leaderboard_is_refused(finished, tmp_path):
    text = (finished / "leaderboard.csv").read_text().splitlines()
    (tmp_path / "leaderboard.csv").write_text(f"{text[0]}\nnonsense\n")
    with pytest.raises(lenet5.console.Refusal, match="is damaged"):
        searched(tmp_path)


def test_a_search_cannot_be_resumed_like_a_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lenet5.train, "load", lambda *_: few_digits())
    monkeypatch.setattr(lenet5.train, "report", lambda *_: None)
    where = ["--out-dir", str(tmp_path)]
    assert lenet5.train.main(["--data", "digits", "--epochs", "1", *where]) == 0
    capsys.readouterr()
    assert lenet5.train.main(["--resume", "--tune", "3", *where]) == 1
    assert capsys.readouterr().err == (
        "error: a search goes on by itself: leave --resume out\n")


def test_python_train_py_tune_searches_and_goes_on_to_the_same_end(
    tmp_path, monkeypatch, capsys
):
    """A real search in a process of its own; then, from two of its rows on, one in this."""
    flags = ["--tune", "3", "--quick", "--data", "digits"]
    done = run(TRAIN, *flags, "--out-dir", tmp_path / "whole")
    assert done.returncode == 0, done.stderr
    words = shlex.split(done.stdout.splitlines()[-1].removeprefix("next: "))
    rows = board(tmp_path / "whole")
    assert [(row["rung"], row["epochs"]) for row in rows] == [
        ("2", "2"), ("1", "1"), ("0", "1"), ("0", "1"), ("0", "1")]
    assert rows[0]["trial"] == rows[1]["trial"] == rows[2]["trial"]
    args = options.parser().parse_args(words[2:])
    assert {name: getattr(args, name) for name in tune.SETTINGS} == tune.settings(
        0, int(rows[0]["trial"]))
    (tmp_path / "cut").mkdir()
    lines = (tmp_path / "whole" / "leaderboard.csv").read_text().splitlines(keepends=True)
    first = [line for line in lines[1:] if line.startswith(("0,0,", "0,1,"))]
    (tmp_path / "cut" / "leaderboard.csv").write_text("".join([lines[0], *first]))
    assert lenet5.train.main([*flags, "--out-dir", str(tmp_path / "cut")]) == 0
    assert board(tmp_path / "cut") == rows
    assert sorted(path.name for path in (tmp_path / "cut").iterdir()) == [
        "leaderboard.csv", "search.png"]


# ---------------------------------------------------------------- the ablation


def test_a_row_of_the_ablation_has_each_seed_their_mean_and_their_spread():
    assert ablation.row("dropout", [0.01, 0.02, 0.06]) == (
        "| dropout | 1.00, 2.00, 6.00 | 3.00 | 2.65 |")    # √((4 + 1 + 9) / 2)
    assert ablation.row("nothing", [0.0123]) == "| nothing | 1.23 | 1.23 | - |"


TAKEN_OUT = {
    "nothing": {},
    "ReLU (tanh instead)": {"activation": "tanh"},
    "batch normalisation": {"batch_norm": False},
    "dropout": {"dropout": 0},
    "nothing (dropout of 0.2 added)": {"dropout": 0.2},
    "He's start (PyTorch's instead)": {"init": "pytorch"},
    "AdamW (SGD instead)": {"optimizer": "sgd"},
    "one-cycle (constant rate instead)": {"schedule": "constant"},
    "label smoothing": {"smoothing": 0},
    "distorted pictures": {"augment": 0},
}
TAKEN_OUT["all of it"] = functools.reduce(
    dict.__or__, [change for name, change in TAKEN_OUT.items() if "nothing" not in name])


@pytest.mark.parametrize("name", TAKEN_OUT)
def test_each_row_of_the_ablation_changes_what_it_says_and_nothing_else(name):
    everything = vars(options.parser().parse_args([]))
    without = vars(options.parser().parse_args(ablation.WITHOUT[name]))
    changed = {key: value for key, value in without.items() if everything[key] != value}
    assert changed == TAKEN_OUT[name]


def test_the_ablation_takes_out_every_part_once():
    assert list(ablation.WITHOUT) == list(TAKEN_OUT)


def test_the_ablation_prints_the_test_error_of_the_weights_that_validated_best(
    monkeypatch, capsys
):
    monkeypatch.setattr(ablation, "load", lambda *_: few_digits())
    flags = ["--only", "dropout", "label smoothing", "--seeds", "3", "1", "--epochs", "2"]
    assert ablation.main(flags) == 0
    head, rule, *rows = capsys.readouterr().out.splitlines()
    assert head.count("|") == rule.count("|") == 5 and len(rows) == 2
    for said, out in zip(rows, (["--dropout", "0"], ["--smoothing", "0"])):
        errors = []
        for seed in ("3", "1"):
            args = options.parser().parse_args([*out, "--seed", seed, "--epochs", "2"])
            options.set_defaults(args, 100)
            done = lenet5.train.attempt(args, few_digits(), torch.device("cpu"),
                                        lenet5.console.Stop())
            errors.append(lenet5.train.evaluate(done.model, few_digits().test,
                                                done.config)[1])
        name = said.split("|")[1].strip()
        assert said == ablation.row(name, errors)
    assert rows[0].split("|")[2] != rows[1].split("|")[2]


def test_an_ablation_that_is_stopped_prints_no_row_of_half_a_training(monkeypatch, capsys):
    def attempt(*_: object) -> Namespace:
        signal.raise_signal(signal.SIGINT)
        return Namespace()

    monkeypatch.setattr(ablation, "load", lambda *_: few_digits())
    monkeypatch.setattr(ablation, "attempt", attempt)
    assert ablation.main(["--only", "nothing"]) == 130
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_quick_ablation_is_one_epoch_with_the_first_seed():
    args = ablation.parse(["--quick", "--seeds", "4", "5"])
    assert (args.epochs, args.seeds, args.data) == (1, [4], "digits")
    assert ablation.parse(["--quick", "--epochs", "9"]).epochs == 9
    assert list(args.only) == list(ablation.WITHOUT)
