"""The recipes of AlexNet's training, and the table of what each of its parts is good for."""

import re
import signal
import statistics
import tempfile
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from support import ROOT, load, run, start

alexnet = load("alexnet_from_scratch")
ablation, checkpoint, options = alexnet.ablation, alexnet.checkpoint, alexnet.options
Data, Part = alexnet.data.Data, alexnet.parts.Part
Patch, Said = pytest.MonkeyPatch, pytest.CaptureFixture
SCRIPT = ROOT / "alexnet_from_scratch" / "ablation.py"
SMALL, LARGE = "cifar10", "shapes"      # sets of small and of large pictures
TINY = ("--width", "0.05", "--epochs", "3")


def pictures(count: int, seed: int) -> Part:
    """Noise of 32 pixels that is a little stronger in one colour, which tells the class."""
    labels = torch.arange(count) % 3
    noise = torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    images = 120 + 40 * noise
    images[torch.arange(count), labels] += 30
    return Part(images.clamp(0, 255).byte(), labels, 32)


@pytest.fixture(scope="module")
def data() -> Data:
    return Data("few", ["red", "green", "blue"], pictures(50, 1), pictures(30, 2),
                pictures(40, 3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Such pictures as files in class folders."""
    home, part = tmp_path_factory.mktemp("pictures"), pictures(60, 4)
    for number, (image, label) in enumerate(zip(part.images, part.labels.tolist())):
        path = home / "abc"[label] / f"{number:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    return home


def chosen(*flags: object, side: int = 32) -> Namespace:
    """The options that these flags of train.py make, for pictures of this side."""
    args = options.parser().parse_args([*map(str, flags)])
    options.set_defaults(args, side)
    return args


def settings(row: str, *flags: str) -> dict:
    """The options of a row of the table."""
    return vars(ablation.settings(ablation.WITHOUT[row], ablation.parse(list(flags)), seed=4))


def laboratory(data: Data, patch: Patch, *flags: str) -> object:
    """One that works with these pictures."""
    patch.setattr(ablation, "load", lambda *_, **__: data)
    args = ablation.parse(["--data", SMALL, *TINY, *flags])
    return ablation.Laboratory(args, alexnet.console.Stop())


# ---------------------------------------------------------------- recipes


@pytest.mark.parametrize("side", [32, 256])
def test_the_preset_paper_has_the_constants_of_2012(side: int) -> None:
    args, model = chosen("--preset", "paper", side=side), alexnet.model
    assert (args.variant, args.width, args.image_size, args.groups) == ("paper", 1.0, 224, 2)
    assert (args.batch_size, args.lr, args.weight_decay, args.dropout) == (128, 0.01, 5e-4, 0.5)
    assert (args.lrn, args.overlap, args.activation, args.init) == (True, True, "relu", "paper")
    assert (args.colour, args.epochs, model.HIDDEN) == (0.1, 90, 4096)
    rule = alexnet.optimization
    assert (rule.MOMENTUM, rule.FALL, rule.DROPS, rule.BIAS_RATE) == (0.9, 10, 3, 2)


@pytest.mark.parametrize(("side", "recipe"), [
    (32, options.SMALL_PICTURES), (63, options.SMALL_PICTURES), (64, options.LARGE_PICTURES),
    (500, options.LARGE_PICTURES)])
def test_the_preset_small_follows_the_side_of_the_pictures(side: int, recipe: dict) -> None:
    args = chosen(side=side)
    assert {name: getattr(args, name) for name in recipe} == recipe
    assert (args.batch_size, args.init, args.colour) == (32, "he", 0.1)
    assert (args.groups, args.lrn, args.overlap, args.activation) == (2, True, True, "relu")
    assert 10 <= args.epochs / args.log_every <= 15    # lines
    quick = chosen("--quick", side=side)
    assert (quick.epochs, quick.image_size) == (2, recipe["image_size"])


def test_what_is_typed_wins_over_the_preset() -> None:
    typed = {"width": 0.3, "image-size": 64, "patience": 9, "batch-size": 5, "lr": 0.5,
             "dropout": 0.0, "epochs": 7, "colour": 0.0, "groups": 1, "activation": "tanh",
             "init": "pytorch", "log-every": 4}
    for preset in options.PRESETS:
        flags = [f"--{name}={value}" for name, value in typed.items()]
        args = vars(chosen("--preset", preset, *flags, "--no-lrn", "--no-overlap"))
        assert {name: args[name.replace("-", "_")] for name in typed} == typed
        assert not args["lrn"] and not args["overlap"]


def test_a_variant_brings_its_own_parts() -> None:
    args = chosen("--variant", "torchvision")
    assert (args.groups, args.lrn, args.init) == (1, False, "he")


@pytest.mark.parametrize(("flags", "warned"), [
    (("--lr", 0.021, "--init", "paper"), True), (("--lr", 0.021, "--preset", "paper"), True),
    (("--lr", 0.02, "--init", "paper"), False), (("--lr", 0.1, "--init", "he"), False),
    (("--lr", 0.1), False)])
def test_a_rate_that_is_too_high_for_the_start_of_the_paper_is_warned_of(
        flags: tuple, warned: bool, capsys: Said) -> None:
    chosen(*flags)
    said = capsys.readouterr()
    assert said.out == "" and ("warning: with the paper's start" in said.err) == warned
    assert warned or said.err == ""


def test_the_paper_leaves_grey_levels_as_they_are_and_small_shrinks_them(data: Data) -> None:
    recipes = (chosen("--preset", preset, "--image-size", 28) for preset in ("small", "paper"))
    ours, papers = (alexnet.train.configure(args, data) for args in recipes)
    pixels = data.train.images.double()
    spread = (pixels - pixels.mean((0, 2, 3), keepdim=True)).square().mean().sqrt()
    assert ours["std"] == pytest.approx(spread.item() / 3, rel=1e-5) and papers["std"] == 1.0
    middle = pixels.mean(0)[:, 2:30, 2:30].float()
    for config in (ours, papers):
        torch.testing.assert_close(config["mean"], middle, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("flags", "words"), [
    (("--classes", 4), "few has 3 classes, --classes says 4: leave it out"),
    (("--image-size", 14), "14 pixels are too few"), (("--lr", 1e9), "is not finite (learn")])
def test_what_cannot_be_is_one_sentence_and_no_checkpoint(
        flags: tuple, words: str, data: Data, tmp_path: Path, monkeypatch: Patch,
        capsys: Said) -> None:
    monkeypatch.setattr(alexnet.train, "load", lambda *_: data)
    all_flags = ("--data", SMALL, *TINY, "--out-dir", tmp_path / "out", *flags)
    assert alexnet.train.main([*map(str, all_flags)]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("error: ") and words in said.err and said.err.count("\n") == 1
    found = [path.name for path in tmp_path.rglob("*")]
    assert found == (["out", "metrics.csv"] if "--lr" in flags else [])


# ---------------------------------------------------------------- the rows


CHANGED = {
    "nothing": {}, "local response normalisation": {"lrn": (True, False)},
    "overlapping pooling": {"overlap": (True, False)}, "dropout": {"dropout": (None, 0)},
    "ReLU (tanh instead)": {"activation": ("relu", "tanh")},
    "two groups (one instead)": {"groups": (2, 1)}, "colour noise": {"colour": (0.1, 0)},
    "He's start (the paper's instead)": {"init": ("he", "paper")},
}


@pytest.mark.parametrize("data_set", [SMALL, LARGE])
@pytest.mark.parametrize("row", ablation.WITHOUT)
def test_each_row_takes_out_what_it_names_and_nothing_else(row: str, data_set: str) -> None:
    """And what it takes out is there otherwise."""
    whole, without = settings("nothing", "--data", data_set), settings(row, "--data", data_set)
    differing = {name: (whole[name], without[name]) for name in whole
                 if whole[name] != without[name]}
    expected = CHANGED[row]
    if row == "dropout":
        expected = {"dropout": (whole["dropout"], 0)}
        assert 0.1 <= whole["dropout"] <= 0.5
    assert differing == expected and list(CHANGED) == list(ablation.WITHOUT)


def test_all_rows_are_trained_as_train_py_would(data: Data) -> None:
    ours = settings("nothing", "--data", SMALL, *TINY)
    theirs = vars(chosen("--data", SMALL, *TINY, "--seed", 4))
    for name in set(ours) - {"data"}:
        assert ours[name] == theirs[name], name
    assert settings("dropout", "--data", LARGE)["image_size"] == 112


def test_the_statistics_are_mean_and_standard_deviation_of_a_sample() -> None:
    values = [10.0, 12.0, 17.0]
    assert ablation.spread(values) == "13.0 | 3.6"
    assert round(statistics.stdev(values), 1) == 3.6 and ablation.spread([9.04]) == "9.0 | -"


@pytest.mark.parametrize(("flags", "seeds", "epochs"), [
    ([], [0, 1, 2], None), (["--seeds", "5", "7", "--epochs", "9"], [5, 7], 9),
    (["--seeds", "5", "7", "--quick"], [5], 1), (["--quick", "--epochs", "4"], [0], 4)])
def test_seeds_and_epochs_are_what_was_typed(flags: list, seeds: list, epochs: int) -> None:
    args = ablation.parse(flags)
    assert (args.seeds, args.epochs, args.only) == (seeds, epochs, list(ablation.WITHOUT))


@pytest.mark.parametrize("flags", [("--only", "hope"), ("--seeds", "-1"), ("--epochs", "0"),
                                   ("--seeds",), ("--width", "0")])
def test_impossible_flags_are_refused(flags: tuple) -> None:
    with pytest.raises(SystemExit) as left:
        ablation.main([*flags])
    assert left.value.code == 2


# ---------------------------------------------------------------- one training


def test_an_attempt_is_the_run_that_the_same_flags_make_and_leaves_nothing(
        data: Data, tmp_path: Path, monkeypatch: Patch, capsys: Said) -> None:
    for module in (ablation, alexnet.train):
        monkeypatch.setattr(module, "load", lambda *_, **__: data)
    monkeypatch.setattr(alexnet.train, "report", lambda *_: None)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(tempfile, "tempdir", str(here))
    args = ablation.parse(["--data", SMALL, *TINY])
    mine = ablation.settings(["--dropout", "0.3"], args, seed=2)
    mine.out_dir = here / "runs"
    done, rows = ablation.attempt(mine, data, torch.device("cpu"), alexnet.console.Stop())
    assert not list(here.iterdir()) and capsys.readouterr() == ("", "")
    out, flags = tmp_path / "out", ("--data", SMALL, *TINY, "--dropout", "0.3", "--seed", "2")
    assert alexnet.train.main([*flags, "--out-dir", str(out)]) == 0
    best = checkpoint.load(out / "best.pt")
    assert checkpoint.digest(done.model.state_dict()) == checkpoint.digest(best["model"])
    table = alexnet.pictures.read_metrics(out / "metrics.csv")
    assert [{**row, "seconds": 0} for row in rows] == [{**row, "seconds": 0} for row in table]


def test_errors_are_those_of_the_best_weights_on_the_test_pictures(
        data: Data, monkeypatch: Patch) -> None:
    """Of three epochs the second validates best, for both seeds."""
    validated, tested = [], []

    def validate(model: torch.nn.Module, part: Part, *_: object, **__: object) -> tuple:
        assert part is data.validation
        validated.append(checkpoint.digest(model.state_dict()))
        return 1.0, (0.5, 0.2, 0.4)[(len(validated) - 1) % 3], 0.0, 9

    def test(model: torch.nn.Module, part: Part, config: dict) -> tuple:
        assert part is data.test and config["seed"] == (8, 3)[len(tested)]
        tested.append(checkpoint.digest(model.state_dict()))
        return 1.0, (0.25, 0.125)[len(tested) - 1], 0.0, 9

    monkeypatch.setattr(alexnet.train, "evaluate", validate)
    monkeypatch.setattr(ablation, "evaluate", test)
    errors = laboratory(data, monkeypatch, "--seeds", "8", "3").errors(["--no-lrn"])
    assert errors == [25.0, 12.5] and tested == [validated[1], validated[4]]


def stub_attempts(patch: Patch, *curves: list[float]) -> list[Namespace]:
    """Trainings that are over at once, with given training errors; the options of each."""
    asked = []

    def attempt(args: Namespace, *others: object) -> tuple:
        curve = curves[len(asked) % len(curves)]
        args.kind = others[-1]
        asked.append(args)
        run = SimpleNamespace(model=None, config={"seed": args.seed})
        return run, [{"epoch": float(number), "train_error": error}
                     for number, error in enumerate(curve, start=1)]

    patch.setattr(ablation, "attempt", attempt)
    return asked


def test_the_goal_is_the_first_epoch_under_a_quarter(data: Data, monkeypatch: Patch) -> None:
    stub_attempts(monkeypatch, [0.9, 0.25, 0.2499, 0.4, 0.1], [0.1, 0.9], [0.9, 0.25])
    found = laboratory(data, monkeypatch).epochs_to_goal([])
    assert found == [3, 1, None]


@pytest.mark.parametrize(("goal", "epochs"), [(1.01, 1), (0.0, 3)])
def test_a_race_ends_where_the_goal_is_reached(data: Data, monkeypatch: Patch, goal: float,
                                               epochs: int) -> None:
    """An error under 101 % is reached at once, one under 0 % never."""
    monkeypatch.setattr(ablation, "GOAL", goal)
    raced = laboratory(data, monkeypatch, "--epochs", "3").trained(ablation.PLAIN,
                                                                   ablation.Race)
    run, rows = next(raced)
    assert len(rows) == run.epoch == epochs
    assert all(0 <= row["train_error"] <= 1 for row in rows)


def test_the_race_of_rectifiers_tries_each_rate_without_any_regularisation(
        data: Data, monkeypatch: Patch, capsys: Said) -> None:
    asked = stub_attempts(monkeypatch, [0.5, 0.2], [0.5, 0.5])
    monkeypatch.setattr(ablation, "load", lambda *_, **__: data)
    assert ablation.main(["--data", SMALL, "--rectifiers", "--seeds", "1", "2"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[2:] == [f"| {name} | {rate} | 2, not reached |"
                        for name in ("relu", "tanh") for rate in ablation.RATES]
    assert [(a.activation, a.lr, a.seed) for a in asked] == [
        (name, rate, seed) for name in ("relu", "tanh") for rate in ablation.RATES
        for seed in (1, 2)]
    assert all((a.dropout, a.colour, a.weight_decay) == (0, 0, 0) for a in asked)
    assert all(a.kind is ablation.Race and a.patience > a.epochs for a in asked)


def test_the_table_has_a_line_for_each_row_with_all_seeds(
        data: Data, monkeypatch: Patch, capsys: Said) -> None:
    asked, errors = stub_attempts(monkeypatch, [0.5]), iter([0.1, 0.12, 0.3, 0.2])
    monkeypatch.setattr(ablation, "load", lambda *_, **__: data)
    monkeypatch.setattr(ablation, "evaluate", lambda *_: (1.0, next(errors), 0.0, 9))
    only = ["dropout", "nothing"]
    assert ablation.main(["--data", SMALL, "--seeds", "1", "2", "--only", *only]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said == ["| without | test error (%), each seed | mean | standard deviation |",
                    "|---|---|---|---|", "| dropout | 10.0, 12.0 | 11.0 | 1.4 |",
                    "| nothing | 30.0, 20.0 | 25.0 | 7.1 |"]
    assert [(a.dropout, a.seed) for a in asked] == [(0, 1), (0, 2), (0.5, 1), (0.5, 2)]


def test_a_quick_table_is_printed(folder: Path) -> None:
    row = "He's start (the paper's instead)"
    done = run(SCRIPT, "--quick", "--data", folder, "--only", row)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    said = done.stdout.splitlines()
    assert len(said) == 3
    error = r"(\d+\.\d)"
    found = re.fullmatch(rf"\| {re.escape(row)} \| {error} \| {error} \| - \|", said[2])
    assert found and found[1] == found[2] and 0 <= float(found[1]) <= 100


@pytest.mark.parametrize("number", [signal.SIGINT,
                                    pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_signal_ends_it_between_two_steps(number: int, folder: Path, tmp_path: Path) -> None:
    process = start(SCRIPT, "--data", folder, "--epochs", 1000, cwd=tmp_path)
    next(line for line in process.stdout if line.startswith("|---"))
    process.send_signal(number)
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert said == "" and "stopping after this step" in errors and "Traceback" not in errors
