"""Training LeNet-5: rates, optimizers, exact repetition and resumption, honest numbers.

Most runs here are of a hundred pictures in batches of 32, so that an epoch has three whole
batches and a rest, with dropout and distortions on.
"""

import csv
import functools
import signal
import tempfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from support import ROOT, load, run

lenet5 = load("lenet5_from_scratch")
Part = lenet5.data.Part
TRAIN = ROOT / "lenet5_from_scratch" / "train.py"
PICTURES, BATCH, EPOCHS = 100, 32, 3
PER_EPOCH = 4
STEPS = EPOCHS * PER_EPOCH
FLAGS = ("--batch-size", BATCH, "--epochs", EPOCHS, "--dropout", 0.3, "--augment", 1)


@functools.cache
def few_digits() -> tuple:
    """The embedded digits with few pictures to train on."""
    data = lenet5.data.embedded_digits()
    return data._replace(train=Part(*(values[:PICTURES] for values in data.train)))


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> tuple:
    """Every run in this process trains on few pictures and draws none."""
    data = few_digits()
    monkeypatch.setattr(lenet5.train, "load", lambda *_: data)
    monkeypatch.setattr(lenet5.train, "report", lambda *_: None)
    return data


def train(out: Path, *flags: object) -> int:
    """A run in this process."""
    return lenet5.train.main(["--data", "digits", "--out-dir", str(out), *map(str, flags)])


def resume(out: Path, *flags: object) -> int:
    """Go on with a run in this process."""
    torch.manual_seed(999)  # whatever happened in between must not matter
    return lenet5.train.main(["--resume", "--out-dir", str(out), *map(str, flags)])


def rows(out: Path) -> list[dict]:
    """The metrics without their time column."""
    with (out / "metrics.csv").open(newline="") as file:
        return [dict(row, seconds=None) for row in csv.DictReader(file)]


def assert_same_run(left: Path, right: Path) -> None:
    """Bit-equal weights, optimizer, random numbers and table."""
    for name in ("checkpoint.pt", "best.pt"):
        one, two = (lenet5.checkpoint.load(out / name) for out in (left, right))
        for part in ("model", "optimizer", "config", "rng", "data"):
            left_digest, right_digest = map(lenet5.checkpoint.digest, (one[part], two[part]))
            assert left_digest == right_digest, part
        for part in ("step", "epoch", "batch", "best", "best_epoch"):
            assert one[part] == two[part], part
    assert rows(left) == rows(right)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run of three epochs over few pictures."""
    out = tmp_path_factory.mktemp("straight")
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        data = few_digits()
        patch.setattr(lenet5.train, "load", lambda *_: data)
        patch.setattr(lenet5.train, "report", lambda *_: None)
        assert train(out, *FLAGS) == 0
    return out


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Makes validation say given (error, loss) pairs, one an epoch; notes the weights then."""

    def say(pairs: list[tuple[float, float]]) -> list[str]:
        seen = []

        def evaluate(model: nn.Module, *_: object) -> tuple[float, float, None]:
            error, loss = pairs[len(seen)]
            seen.append(lenet5.checkpoint.digest(model.state_dict()))
            return loss, error, None

        monkeypatch.setattr(lenet5.train, "evaluate", evaluate)
        return seen

    return say


@pytest.mark.parametrize(("pictures", "batch", "sizes"), [
    (100, 32, [32, 32, 32, 4]), (65, 32, [32, 32]), (64, 32, [32, 32]), (3, 1, [1, 1, 1])])
def test_a_last_batch_of_one_picture_is_left_out(pictures, batch, sizes):
    batches = lenet5.train.batches_of(torch.arange(pictures), batch)
    assert [len(part) for part in batches] == sizes


def test_a_last_batch_of_one_picture_stops_no_training(monkeypatch, tmp_path):
    data = few_digits()
    data = data._replace(train=Part(*(values[:65] for values in data.train)))
    monkeypatch.setattr(lenet5.train, "load", lambda *_: data)
    monkeypatch.setattr(lenet5.train, "report", lambda *_: None)
    assert train(tmp_path, "--batch-size", 32, "--epochs", 2) == 0
    assert [row["step"] for row in rows(tmp_path)] == ["2", "4"]


def test_batches_of_one_are_refused_with_batch_normalisation(few, tmp_path, capsys):
    assert train(tmp_path / "new", "--batch-size", 1) == 1
    assert "needs two pictures a batch" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    assert train(tmp_path, "--batch-size", 1, "--epochs", 1, "--no-batch-norm") == 0


class StopAfter(lenet5.console.Stop):
    """Asks to stop after a number of steps, as a signal at that moment would."""

    steps = 0

    def __init__(self) -> None:
        self.left = self.steps
        self.exit_code = 143
        self._previous = {}

    @property
    def requested(self) -> bool:
        self.left -= 1
        return self.left <= 0


@pytest.fixture
def cut_after(monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Trains with these flags until a step, then stops as after SIGTERM."""

    def until(step: int, out: Path, *flags: object) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(StopAfter, "steps", step)
            patch.setattr(lenet5.console, "Stop", StopAfter)
            assert train(out, *flags) == 143
        assert lenet5.checkpoint.load(out / "checkpoint.pt")["step"] == step

    return until


# ---------------------------------------------------------------- the rate


def test_one_cycle_is_pytorchs_apart_from_its_end_and_from_where_a_step_is_counted():
    """PyTorch's last step has the lowest rate, ours would be the one after; and PyTorch ends
    at the start's rate divided by a number, which is huge here, ours at nothing.
    """
    steps, share = 200, lenet5.optimization.WARM_UP
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1, total_steps=steps, pct_start=share, anneal_strategy="cos",
        cycle_momentum=False, div_factor=25, final_div_factor=1e15)
    top = share * steps - 1
    for step in range(steps):
        if step <= top:
            progress = share * step / top
        else:
            progress = share + (1 - share) * (step - top) / (steps - 1 - top)
        ours = lenet5.optimization.rate_share("one-cycle", progress)
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"], rel=0, abs=1e-12)
        optimizer.step()
        if step < steps - 1:
            theirs.step()


def test_one_cycle_starts_at_a_25th_has_its_top_where_the_warm_up_ends_and_ends_at_nothing():
    def share(progress: float) -> float:
        return lenet5.optimization.rate_share("one-cycle", progress)

    top = lenet5.optimization.WARM_UP
    assert share(0) == pytest.approx(1 / 25, abs=1e-15)
    assert share(top) == share(top - 1e-9) == pytest.approx(1, abs=1e-12)
    assert share(1) == pytest.approx(0, abs=1e-15)
    rates = [share(i / 1000) for i in range(1001)]
    assert max(rates) <= 1 and min(rates[:-1]) > 0
    assert rates.index(max(rates)) == round(1000 * top)


def test_cosine_is_pytorchs():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=90)
    for step in range(90):
        ours = lenet5.optimization.rate_share("cosine", step / 90)
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"], rel=0, abs=1e-12)
        optimizer.step()
        theirs.step()


def test_a_constant_rate_is_constant():
    rates = {lenet5.optimization.rate_share("constant", i / 10) for i in range(11)}
    assert rates == {1.0}


@pytest.mark.parametrize("schedule", ["one-cycle", "cosine", "constant"])
def test_the_rate_of_a_step_is_that_of_the_share_of_steps_before_it(schedule, few, tmp_path):
    assert train(tmp_path, *FLAGS, "--schedule", schedule, "--lr", 0.01) == 0
    for number, row in enumerate(rows(tmp_path), start=1):
        progress = (number * PER_EPOCH - 1) / STEPS
        expected = 0.01 * lenet5.optimization.rate_share(schedule, progress)
        assert float(row["lr"]) == pytest.approx(expected, rel=1e-12)


# ---------------------------------------------------------------- the optimizers


def options_of(optimizer: str, lr: float = 0.02, weight_decay: float = 0.3) -> Namespace:
    return Namespace(optimizer=optimizer, lr=lr, weight_decay=weight_decay)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_only_weights_decay_and_no_parameter_is_forgotten(optimizer):
    net = lenet5.model.LeNet5()
    made = lenet5.optimization.make_optimizer(net, options_of(optimizer))
    decay = {id(p): group["weight_decay"] for group in made.param_groups
             for p in group["params"]}
    for name, p in net.named_parameters():
        is_weight = name in {f"{layer}.weight" for layer in ("conv1", "conv2", "fc1", "fc2",
                                                             "fc3")}
        assert decay.pop(id(p)) == (0.3 if is_weight else 0), name
    assert not decay


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_steps_are_those_of_the_formulas(optimizer):
    """Three steps with given gradients, by hand: AdamW, and SGD with Nesterov's momentum."""
    net = nn.Linear(3, 2).double()
    args = options_of(optimizer)
    made = lenet5.optimization.make_optimizer(net, args)
    expected = {name: p.detach().clone() for name, p in net.named_parameters()}
    moments = {name: [0.0, 0.0] for name in expected}
    for step in (1, 2, 3):
        for name, p in net.named_parameters():
            p.grad = torch.randn_like(p)
            decay = args.weight_decay if name == "weight" else 0.0
            w, g, (first, second) = expected[name], p.grad, moments[name]
            if optimizer == "adamw":
                first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2
                fair = first / (1 - 0.9**step), second / (1 - 0.999**step)
                w = w - args.lr * decay * w - args.lr * fair[0] / (fair[1].sqrt() + 1e-8)
            else:
                g = g + decay * w
                first = g if step == 1 else 0.9 * first + g
                w = w - args.lr * (g + 0.9 * first)
            expected[name], moments[name] = w, [first, second]
        made.step()
        for name, p in net.named_parameters():
            assert torch.allclose(p, expected[name], rtol=0, atol=1e-10)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_run_is_the_loop_written_out(optimizer, few, tmp_path):
    """Distorted pictures, standardised; smoothed loss; the rate set before each step."""
    flags = ("--batch-size", BATCH, "--epochs", 2, "--lr", 0.01, "--weight-decay", 0.1,
             "--dropout", 0, "--augment", 0.5, "--smoothing", 0.2, "--seed", 3)
    assert train(tmp_path, *flags, "--optimizer", optimizer) == 0
    saved = lenet5.checkpoint.load(tmp_path / "checkpoint.pt")
    pixels = few.train.images.float() / 255
    torch.manual_seed(3)
    net = lenet5.model.LeNet5()
    made = lenet5.optimization.make_optimizer(net, options_of(optimizer, 0.01, 0.1))
    step, losses = 0, []
    for epoch in (0, 1):
        order = torch.randperm(
            PICTURES, generator=torch.Generator().manual_seed(3 * 1_000_003 + epoch))
        losses.append([])
        for chosen in order.split(BATCH):
            seen = lenet5.augment.distort(few.train.images[chosen], 0.5, 3 * 1_000_003 + step)
            inputs = (seen[:, None] / 255 - pixels.mean().item()) / pixels.std().item()
            loss = nn.CrossEntropyLoss(label_smoothing=0.2)(net(inputs),
                                                            few.train.labels[chosen])
            for group in made.param_groups:
                share = lenet5.optimization.rate_share("one-cycle", step / (2 * PER_EPOCH))
                group["lr"] = 0.01 * share
            made.zero_grad()
            loss.backward()
            made.step()
            losses[-1].append(loss.item())
            step += 1
    for name, value in net.state_dict().items():
        torch.testing.assert_close(saved["model"][name], value, rtol=1e-4, atol=1e-5)
    for row, each in zip(rows(tmp_path), losses, strict=True):
        assert float(row["train_loss"]) == pytest.approx(sum(each) / PER_EPOCH, rel=1e-5)


# ---------------------------------------------------------------- the recipe


@pytest.mark.parametrize(("pictures", "size"), [(100, "small"), (9_999, "small"),
                                                (10_000, "large"), (55_000, "large")])
def test_what_the_flags_leave_open_follows_from_the_number_of_pictures(pictures, size):
    options = lenet5.options
    args = options.parser().parse_args([])
    options.set_defaults(args, pictures)
    recipe = options.RECIPES[size]
    assert {name: getattr(args, name) for name in recipe} == recipe
    assert args.patience == max(1, recipe["epochs"] // 2)


def test_what_is_typed_wins_over_the_recipe():
    options = lenet5.options
    args = options.parser().parse_args(
        ["--epochs", "7", "--augment", "0", "--dropout", "0", "--smoothing", "0", "--lr",
         "0.5", "--weight-decay", "0", "--batch-size", "3", "--patience", "9"])
    options.set_defaults(args, 100)
    assert (args.epochs, args.augment, args.dropout, args.smoothing, args.lr,
            args.weight_decay, args.batch_size, args.patience) == (7, 0, 0, 0, 0.5, 0, 3, 9)


def test_sgd_has_its_own_rate_and_the_recipes_stay_as_they_are():
    options = lenet5.options
    before = {size: dict(recipe) for size, recipe in options.RECIPES.items()}
    rates = []
    for optimizer in ("adamw", "sgd", "sgd"):
        args = options.parser().parse_args(["--optimizer", optimizer, "--quick"])
        options.set_defaults(args, 100)
        rates.append(args.lr)
    factor = options.RATES["sgd"]
    assert rates == [rates[0], factor * rates[0], factor * rates[0]] and factor > 1
    assert before == options.RECIPES


# ---------------------------------------------------------------- what a run leaves behind


def test_a_quick_run_writes_what_it_says(quick_run):
    done = quick_run("lenet5_from_scratch")
    said = done.result.stdout.splitlines()
    assert said[0].startswith("LeNet-5, 61,932 parameters; digits: 1,200 pictures")
    wrote = next(line for line in said if line.startswith("wrote "))
    names = wrote.removeprefix("wrote ").split(", ")
    assert sorted(path.name for path in done.out.iterdir()) == sorted(names)
    assert said[-1].startswith("next: python inference.py --checkpoint ")
    assert [row["epoch"] for row in rows(done.out)] == ["1", "2"]
    errors = [float(row["validation_error"]) for row in rows(done.out)]
    assert errors[-1] < 0.5


def test_another_process_gives_the_same_bits(quick_run, tmp_path):
    assert train(tmp_path, "--quick") == 0
    assert_same_run(quick_run("lenet5_from_scratch").out, tmp_path)


def test_the_detector_in_the_best_checkpoint_was_measured_with_its_weights(quick_run):
    """Its threshold is what one validation digit in a hundred falls below."""
    best = lenet5.checkpoint.load(quick_run("lenet5_from_scratch").out / "best.pt")
    config, validation = best["config"], lenet5.data.embedded_digits().validation
    net = lenet5.model.build(config)
    net.load_state_dict(best["model"])
    found, scores = config["detector"], lenet5.detector.score(net, config, validation.images)
    below = (scores < found["threshold"]).double().mean().item()
    assert 0 < below <= 0.02
    assert all(0.5 < found[name] <= 1 for name in ("auroc", "letters", "blanks"))


# ---------------------------------------------------------------- once more, and going on


def test_two_runs_with_one_seed_are_identical_and_another_seed_differs(
    straight, few, tmp_path
):
    torch.manual_seed(5)
    assert train(tmp_path / "same", *FLAGS) == 0
    assert_same_run(straight, tmp_path / "same")
    assert train(tmp_path / "other", *FLAGS, "--seed", 1) == 0
    for mine, other in zip(rows(straight), rows(tmp_path / "other"), strict=True):
        assert mine["train_loss"] != other["train_loss"]


@pytest.mark.parametrize("cut", [1, PER_EPOCH + 2, 2 * PER_EPOCH, STEPS - 1, STEPS])
def test_a_run_cut_anywhere_and_resumed_is_the_uninterrupted_run(
    cut, straight, few, tmp_path, cut_after
):
    cut_after(cut, tmp_path, *FLAGS)
    assert resume(tmp_path) == 0
    assert_same_run(straight, tmp_path)


def test_a_run_cut_twice_and_one_with_sgd_go_on_as_well(few, tmp_path, monkeypatch, cut_after):
    flags = (*FLAGS, "--optimizer", "sgd", "--schedule", "cosine")
    assert train(tmp_path / "whole", *flags) == 0
    cut_after(2, tmp_path / "cut", *flags)
    with monkeypatch.context() as patch:
        patch.setattr(StopAfter, "steps", 5)
        patch.setattr(lenet5.console, "Stop", StopAfter)
        assert resume(tmp_path / "cut") == 143
    assert resume(tmp_path / "cut") == 0
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_between_two_steps_saves_the_run(
    number, straight, few, tmp_path, monkeypatch, capsys
):
    """The signal arrives while the sixth step is being computed: that step is still done."""
    distort, calls = lenet5.train.distort, []

    def interrupted(*args: object) -> torch.Tensor:
        calls.append(args)
        if len(calls) == 6:
            signal.raise_signal(number)
        return distort(*args)

    with monkeypatch.context() as patch:
        patch.setattr(lenet5.train, "distort", interrupted)
        assert train(tmp_path, *FLAGS) == 128 + number
    assert "go on with python train.py --resume" in capsys.readouterr().err
    assert lenet5.checkpoint.load(tmp_path / "checkpoint.pt")["step"] == 6
    assert resume(tmp_path) == 0
    assert_same_run(straight, tmp_path)


def test_resuming_a_finished_run_changes_nothing_and_says_so(straight, few, capsys):
    before = (straight / "checkpoint.pt").read_bytes()
    assert resume(straight) == 0
    assert (straight / "checkpoint.pt").read_bytes() == before
    assert f"the run is finished, at epoch {EPOCHS}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags",
    [("--epochs", 9), ("--seed", 5), ("--batch-size", 16), ("--data", "mnist"),
     ("--optimizer", "sgd"), ("--schedule", "cosine"), ("--activation", "tanh"),
     ("--no-batch-norm",), ("--dropout", 0.1), ("--init", "pytorch"), ("--augment", 0)],
    ids=lambda flags: flags[0],
)
def test_a_resumed_run_keeps_what_its_steps_depend_on(flags, straight, few, capsys):
    before = {path.name: path.read_bytes() for path in straight.iterdir()}
    assert resume(straight, *flags) == 1
    name = flags[0].removeprefix("--no-").removeprefix("--").replace("-", " ")
    assert f"a resumed run keeps its {name} (" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in straight.iterdir()} == before


def test_a_resumed_run_may_have_another_rate(few, tmp_path, cut_after):
    cut_after(PER_EPOCH + 1, tmp_path, *FLAGS, "--lr", 0.004)
    assert resume(tmp_path, "--lr", 0.002) == 0
    shares = [lenet5.optimization.rate_share("one-cycle", (number * PER_EPOCH - 1) / STEPS)
              for number in (1, 2, 3)]
    rates = [float(row["lr"]) for row in rows(tmp_path)]
    assert rates == pytest.approx([0.004 * shares[0], 0.002 * shares[1], 0.002 * shares[2]])


def test_a_resumed_run_may_have_another_decay(few, tmp_path, cut_after):
    cut_after(PER_EPOCH + 1, tmp_path, *FLAGS, "--weight-decay", 0.1)
    assert resume(tmp_path, "--weight-decay", 0.7) == 0
    groups = lenet5.checkpoint.load(tmp_path / "checkpoint.pt")["optimizer"]["param_groups"]
    assert [group["weight_decay"] for group in groups] == [0.7, 0]


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_a_run_whose_pictures_have_changed_cannot_be_gone_on_with(
    part, straight, few, monkeypatch, capsys
):
    before = (straight / "checkpoint.pt").read_bytes()
    images, labels = getattr(few, part)
    other = images.clone()
    other[7, 14, 14] ^= 1
    changed = few._replace(**{part: Part(other, labels)})
    monkeypatch.setattr(lenet5.train, "load", lambda *_: changed)
    assert resume(straight) == 1
    assert "is not what it was when the run began" in capsys.readouterr().err
    assert (straight / "checkpoint.pt").read_bytes() == before


def test_a_checkpoint_of_another_folder_is_refused_in_one_sentence(tmp_path, capsys):
    foreign = ROOT / "lenet_from_scratch" / "pretrained.pt"
    assert lenet5.train.main(["--resume", str(foreign), "--out-dir", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert said.err == (f"error: {foreign} was made by lenet_from_scratch, this is "
                        "lenet5_from_scratch\n")
    assert said.out == "" and not list(tmp_path.iterdir())


def test_resuming_nothing_is_refused(tmp_path, capsys):
    assert resume(tmp_path / "none") == 1
    assert "there is no checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


# ---------------------------------------------------------------- stopping early, and the best


def test_training_stops_after_the_patience_without_a_better_validation(
    few, tmp_path, scripted
):
    seen = scripted([(0.5, 1.0), (0.3, 0.9), (0.3, 0.9), (0.4, 0.1), (0.1, 0.1)])
    assert train(tmp_path, "--epochs", 20, "--patience", 2) == 0
    assert len(rows(tmp_path)) == len(seen) == 4
    best, last = (lenet5.checkpoint.load(tmp_path / name)
                  for name in ("best.pt", "checkpoint.pt"))
    assert (best["epoch"], best["best"]) == (2, (0.3, 0.9))
    assert (last["epoch"], last["best_epoch"]) == (4, 2)
    assert lenet5.checkpoint.digest(best["model"]) == seen[1]
    assert lenet5.checkpoint.digest(last["model"]) == seen[3]


def test_the_loss_decides_between_epochs_with_equal_errors(few, tmp_path, scripted):
    seen = scripted([(0.3, 0.9), (0.3, 0.8), (0.3, 0.85), (0.4, 0.1)])
    assert train(tmp_path, "--epochs", 4, "--patience", 4) == 0
    best = lenet5.checkpoint.load(tmp_path / "best.pt")
    assert best["epoch"] == 2 and lenet5.checkpoint.digest(best["model"]) == seen[1]


def test_each_better_epoch_renews_the_patience(few, tmp_path, scripted):
    scripted([(0.5, 1), (0.6, 1), (0.4, 1), (0.6, 1), (0.3, 1), (0.6, 1), (0.6, 1), (0, 0)])
    assert train(tmp_path, "--epochs", 20, "--patience", 2) == 0
    assert len(rows(tmp_path)) == 7


def test_the_best_checkpoint_is_that_of_the_lowest_validation_error(straight):
    table = rows(straight)
    scores = [(float(row["validation_error"]), float(row["validation_loss"])) for row in table]
    best = lenet5.checkpoint.load(straight / "best.pt")
    assert best["epoch"] == 1 + scores.index(min(scores)) and best["best"] == min(scores)


def attempted(few: tuple, *flags: object, stop: object = None) -> object:
    """What `attempt` makes of these flags."""
    args = lenet5.options.parser().parse_args([*map(str, FLAGS), *map(str, flags)])
    lenet5.options.set_defaults(args, PICTURES)
    return lenet5.train.attempt(args, few, torch.device("cpu"), stop or lenet5.console.Stop())


def test_an_attempt_gives_the_best_weights_and_leaves_no_file(
    few, tmp_path, scripted, monkeypatch, capsys
):
    seen = scripted([(0.5, 1.0), (0.2, 0.9), (0.4, 0.1)])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.chdir(tmp_path)
    done = attempted(few, "--out-dir", tmp_path / "out")
    assert done.best == (0.2, 0.9) and len(seen) == 3
    assert lenet5.checkpoint.digest(done.model.state_dict()) == seen[1]
    assert [path.name for path in tmp_path.rglob("*")] == ["temporary"]
    assert capsys.readouterr().out == ""


def test_an_attempt_is_the_run_that_the_same_flags_make(straight, few):
    done, best = attempted(few), lenet5.checkpoint.load(straight / "best.pt")
    assert done.best == best["best"]
    for name, value in done.model.state_dict().items():
        assert torch.equal(value, best["model"][name]), name


def test_an_attempt_that_is_stopped_before_its_first_validation_has_no_best(
    few, monkeypatch
):
    monkeypatch.setattr(StopAfter, "steps", 2)
    assert attempted(few, stop=StopAfter()).best is None


# ---------------------------------------------------------------- honesty


def test_the_test_pictures_are_used_once_and_only_for_the_test_error(tmp_path, monkeypatch):
    """With poisoned ones the weights, which are the best, and the detector are the same."""
    evaluate, seen, few = lenet5.train.evaluate, [], few_digits()
    noise = Part(torch.randint(256, few.test.images.shape).byte(), few.test.labels.flip(0))

    def recorded(model, part, config):
        seen.append(len(part.labels))
        return evaluate(model, part, config)

    monkeypatch.setattr(lenet5.train, "evaluate", recorded)
    outs = tmp_path / "true", tmp_path / "poisoned"
    for out, data in zip(outs, (few, few._replace(test=noise))):
        monkeypatch.setattr(lenet5.train, "load", lambda *_, data=data: data)
        assert train(out, "--epochs", 2) == 0
    assert seen == 2 * [147, 147, 450]
    true, poisoned = (lenet5.checkpoint.load(out / "best.pt") for out in outs)
    assert true["data"] != poisoned["data"] and "detector" in true["config"]
    for name in ("model", "config", "best", "epoch"):
        assert lenet5.checkpoint.digest(true[name]) == lenet5.checkpoint.digest(poisoned[name])
    assert rows(outs[0]) == rows(outs[1])


def test_evaluating_is_counting_and_touches_neither_averages_nor_mode(few):
    torch.manual_seed(1)
    net = lenet5.model.LeNet5(dropout=0.5).train()
    before = lenet5.checkpoint.digest(net.state_dict())
    config = {"mean": 0.2, "std": 0.4}
    part = Part(few.validation.images.repeat(8, 1, 1), few.validation.labels.repeat(8))
    loss, error, logits = lenet5.train.evaluate(net, part, config)  # 1,176: more than a chunk
    assert net.training and lenet5.checkpoint.digest(net.state_dict()) == before
    net.eval()
    inputs = (part.images[:, None] / 255 - 0.2) / 0.4
    expected = net(inputs)
    assert torch.allclose(logits, expected, rtol=0, atol=1e-4)
    wrong = sum(answer != label for answer, label in zip(expected.argmax(1).tolist(),
                                                         part.labels.tolist()))
    assert error == pytest.approx(wrong / 1176, abs=1e-12)
    assert loss == pytest.approx(nn.CrossEntropyLoss()(expected, part.labels).item(), rel=1e-5)


def test_mean_and_width_of_the_input_come_from_the_training_pictures(straight, few):
    config = lenet5.checkpoint.load(straight / "checkpoint.pt")["config"]
    inputs = lenet5.data.to_input(few.train.images, config["mean"], config["std"])
    assert inputs.mean().item() == pytest.approx(0, abs=1e-5)
    assert inputs.std().item() == pytest.approx(1, abs=1e-5)


def test_each_epoch_sees_every_picture_once_in_its_own_order():
    first, second = (lenet5.train.shuffled(1200, seed=0, epoch=epoch) for epoch in (0, 1))
    assert first.sort().values.equal(torch.arange(1200))
    assert not first.equal(second) and not first.equal(torch.arange(1200))
    assert first.equal(lenet5.train.shuffled(1200, seed=0, epoch=0))
    assert not first.equal(lenet5.train.shuffled(1200, seed=1, epoch=0))


def test_each_step_distorts_in_its_own_way(few, tmp_path, monkeypatch):
    distort, seeds = lenet5.train.distort, []

    def recorded(images, strength, seed):
        seeds.append((strength, seed))
        return distort(images, strength, seed)

    monkeypatch.setattr(lenet5.train, "distort", recorded)
    assert train(tmp_path, *FLAGS, "--augment", 0.7) == 0
    assert len(set(seeds)) == STEPS and {strength for strength, _ in seeds} == {0.7}


def test_shuffled_labels_cannot_be_generalised(few, tmp_path, monkeypatch):
    """If they could, the validation pictures would have leaked into training."""
    data = lenet5.data.embedded_digits()
    order = torch.randperm(len(data.train.labels), generator=torch.Generator().manual_seed(0))
    senseless = data._replace(train=data.train._replace(labels=data.train.labels[order]))
    monkeypatch.setattr(lenet5.train, "load", lambda *_: senseless)
    assert train(tmp_path, "--epochs", 5, "--augment", 0) == 0
    assert min(float(row["validation_error"]) for row in rows(tmp_path)) > 0.75


# ---------------------------------------------------------------- mishaps


@pytest.mark.parametrize("flags", [("--epochs", 0), ("--lr", -1), ("--dropout", 1),
                                   ("--smoothing", 1), ("--augment", -1), ("--patience", 0),
                                   ("--tune", 0), ("--optimizer", "adam"), ("--lr", "nan"),
                                   ("--schedule", "step"), ("--epoch", 3)])
def test_impossible_flags_are_refused_before_any_work(flags, straight, few):
    before = {path.name: path.read_bytes() for path in straight.iterdir()}
    with pytest.raises(SystemExit) as left:
        train(straight, *flags)
    assert left.value.code == 2
    assert {path.name: path.read_bytes() for path in straight.iterdir()} == before


# ---------------------------------------------------------------- what is promised


def error_of(lines: str) -> float:
    """The test error (%) that a run printed."""
    said = next(line for line in lines.splitlines() if line.startswith("test error"))
    return float(said.split()[2].rstrip("%"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_default_run_on_the_embedded_digits_reaches_98_and_a_half_percent(tmp_path):
    done = run(TRAIN, "--data", "digits", "--out-dir", tmp_path, timeout=500)
    assert done.returncode == 0, done.stderr
    assert error_of(done.stdout) <= 1.5


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_four_epochs_of_mnist_miss_less_than_one_in_a_hundred(shared, tmp_path):
    done = run(TRAIN, "--data", "mnist", "--data-dir", shared("MNIST"), "--epochs", 4,
               "--out-dir", tmp_path, timeout=800)
    assert done.returncode == 0, done.stderr
    assert error_of(done.stdout) < 1
