"""Training AlexNet: exact repetition and resumption, a rate that falls, honest numbers.

Most runs here are of fifty noisy pictures in batches of 16, so that an epoch has three whole
batches and a rest of two, with dropout, crops and colour noise on.
"""

import csv
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from support import ROOT, load, run

alexnet = load("alexnet_from_scratch")
checkpoint = alexnet.checkpoint
Data, Part = alexnet.data.Data, alexnet.parts.Part
Patch, Said = pytest.MonkeyPatch, pytest.CaptureFixture
FOLDER, COLUMNS = "alexnet_from_scratch", alexnet.train.COLUMNS
TRAIN, REPORT = ROOT / FOLDER / "train.py", alexnet.train.report
PICTURES, BATCH, EPOCHS, PER_EPOCH = 50, 16, 4, 4
STEPS = EPOCHS * PER_EPOCH
FLAGS = ("--data", "cifar10", "--width", 0.05, "--batch-size", BATCH, "--epochs", EPOCHS)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int, classes: int, seed: int) -> Part:
    """Noise of 32 pixels that is a little stronger in one colour, which tells the class."""
    labels = torch.arange(count) % classes
    images = 120 + 40 * torch.randn(count, 3, 32, 32, generator=seeded(seed))
    images[torch.arange(count), labels % 3] += 30
    return Part(images.clamp(0, 255).byte(), labels, 32)


@pytest.fixture(scope="module", autouse=True)
def few() -> Iterator[Data]:
    """Every run in this process trains on few pictures and reports nothing."""
    torch.set_num_threads(1)
    data = Data("few", ["red", "green", "blue"], pictures(PICTURES, 3, 1), pictures(30, 3, 2),
                pictures(40, 3, 3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alexnet.train, "load", lambda *_: data)
        patch.setattr(alexnet.train, "report", lambda *_: None)
        yield data


def train(out: Path, *flags: object) -> int:
    """A run in this process."""
    return alexnet.train.main(["--out-dir", str(out), *map(str, (*FLAGS, *flags))])


def resume(out: Path, *flags: object) -> int:
    """Go on with a run in this process."""
    torch.manual_seed(999)  # whatever happened in between must not matter
    return alexnet.train.main(["--resume", "--out-dir", str(out), *map(str, flags)])


def rows(out: Path) -> list[dict]:
    """The metrics without their time column."""
    with (out / "metrics.csv").open(newline="") as file:
        return [dict(row, seconds=None) for row in csv.DictReader(file)]


def rates(out: Path) -> list[float]:
    return [float(row["lr"]) for row in rows(out)]


def saved(out: Path, name: str = "checkpoint.pt") -> dict:
    return checkpoint.load(out / name, FOLDER)


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


def assert_same_run(left: Path, right: Path) -> None:
    """Bit-equal weights, optimizer, random numbers and table."""
    for name in ("checkpoint.pt", "best.pt"):
        one, two = saved(left, name), saved(right, name)
        for part in ("model", "optimizer", "config", "rng", "data"):
            assert checkpoint.digest(one[part]) == checkpoint.digest(two[part]), part
        for part in set(alexnet.train.Run.PROGRESS) - {"seconds"}:
            assert one[part] == two[part], part
    assert rows(left) == rows(right)


@pytest.fixture(scope="module")
def straight(few: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run of four epochs."""
    out = tmp_path_factory.mktemp("straight")
    assert train(out) == 0
    return out


def scripted(patch: Patch, *pairs: tuple[float, float]) -> list[str]:
    """Makes validation say given (error, loss) pairs, the last for ever; notes the weights."""
    seen = []

    def evaluate(model: nn.Module, *_: object, **__: object) -> tuple:
        error, loss = pairs[min(len(seen), len(pairs) - 1)]
        seen.append(checkpoint.digest(model.state_dict()))
        return loss, error, 0.0, 40

    patch.setattr(alexnet.train, "evaluate", evaluate)
    return seen


class StopAfter(alexnet.console.Stop):
    """Asks to stop after a number of steps, as SIGTERM at that moment would."""

    left, requested = 0, property(lambda self: self.count_down())

    def __init__(self) -> None:
        self.exit_code, self._previous = 143, {}

    def count_down(self) -> bool:
        self.left -= 1
        return self.left <= 0


def cut_after(steps: int, out: Path, *flags: object, go: Callable = train) -> None:
    """Trains (or whatever `go` does) until a step, then stops."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StopAfter, "left", steps)
        patch.setattr(alexnet.console, "Stop", StopAfter)
        assert go(out, *flags) == 143


# ---------------------------------------------------------------- what a run leaves behind


def test_a_quick_run_writes_what_it_says(quick_run: Callable) -> None:
    done = quick_run(FOLDER)
    said = done.result.stdout.splitlines()
    assert said[0].startswith("AlexNet (paper, 112 pixels), ")
    assert "shapes: 160 pictures to train on, 50 to validate, 50 to test" in said[0]
    wrote = next(line for line in said if line.startswith("wrote "))
    names = wrote.removeprefix("wrote ").split(", ")
    assert sorted(files(done.out)) == sorted(names)
    assert said[-1].startswith("next: python inference.py --checkpoint ")
    table = rows(done.out)
    assert list(table[0]) == COLUMNS and done.result.stderr == ""
    assert [(row["epoch"], row["step"]) for row in table] == [("1", "5"), ("2", "10")]
    assert float(table[0]["train_loss"]) == pytest.approx(math.log(10), abs=0.3)


def test_a_checkpoint_is_plain_and_rebuilds_the_model(straight: Path) -> None:
    contents = torch.load(straight / "checkpoint.pt", weights_only=True)
    assert contents["folder"] == FOLDER and contents["config"]["classes"][2] == "blue"
    alexnet.model.build(contents["config"]).load_state_dict(contents["model"])


# ---------------------------------------------------------------- once more, and going on


def test_two_runs_with_one_seed_are_identical_and_another_seed_differs(
        straight: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    assert train(tmp_path / "same") == 0
    assert_same_run(straight, tmp_path / "same")
    assert train(tmp_path / "other", "--seed", 1) == 0
    for mine, other in zip(rows(straight), rows(tmp_path / "other"), strict=True):
        assert mine["train_loss"] != other["train_loss"]


@pytest.mark.parametrize("cut", [1, PER_EPOCH + 2, 2 * PER_EPOCH, STEPS - 1, STEPS])
def test_a_run_cut_anywhere_and_resumed_is_the_uninterrupted_run(
        cut: int, straight: Path, tmp_path: Path) -> None:
    cut_after(cut, tmp_path)
    assert saved(tmp_path)["step"] == cut
    assert resume(tmp_path) == 0
    assert_same_run(straight, tmp_path)


def test_a_run_made_longer_and_cut_twice_is_the_uninterrupted_run(
        straight: Path, tmp_path: Path) -> None:
    assert train(tmp_path, "--epochs", EPOCHS // 2) == 0
    cut_after(2, tmp_path, "--epochs", EPOCHS, go=resume)
    cut_after(3, tmp_path, go=resume)
    assert saved(tmp_path)["step"] == STEPS // 2 + 5
    assert resume(tmp_path) == 0
    assert_same_run(straight, tmp_path)


def test_resuming_a_finished_run_only_reports(
        straight: Path, monkeypatch: Patch, capsys: Said) -> None:
    before, reports = files(straight), []
    monkeypatch.setattr(alexnet.train, "report", lambda *given: reports.append(given))
    assert resume(straight) == 0 and len(reports) == 1 and files(straight) == before
    assert f"the run is finished, at epoch {EPOCHS}" in capsys.readouterr().err


OTHERS = ("--data=shapes --batch-size=8 --seed=5 --quick --out-dir=elsewhere --preset=paper "
          "--variant=single --width=0.1 --image-size=24 --groups=1 --no-lrn --no-overlap "
          "--dropout=0.1 --activation=tanh --init=paper --colour=0").split()


@pytest.mark.parametrize("flag", OTHERS)
def test_a_resumed_run_keeps_what_its_steps_depend_on(
        flag: str, straight: Path, capsys: Said) -> None:
    before, name = files(straight), flag[2:].removeprefix("no-").split("=")[0]
    assert alexnet.train.main(["--resume", str(straight / "checkpoint.pt"), flag]) == 1
    message = capsys.readouterr().err
    assert message.startswith(f"error: a resumed run keeps its {name.replace('-', ' ')} (")
    assert message.count("\n") == 1 and files(straight) == before
    assert len(OTHERS) == len(alexnet.options.FIXED)


def test_a_resumed_run_may_have_another_rate_and_another_decay(tmp_path: Path) -> None:
    cut_after(PER_EPOCH + 1, tmp_path, "--lr", 0.004)
    cut_after(PER_EPOCH, tmp_path, "--lr", 0.002, "--weight-decay", 0.7, go=resume)
    assert resume(tmp_path) == 0    # and keeps them when nothing is typed
    assert rates(tmp_path) == [0.004, 0.002, 0.002, 0.002]
    groups = saved(tmp_path)["optimizer"]["param_groups"]
    assert [group["weight_decay"] for group in groups] == [0.7, 0]


def test_the_first_rate_typed_anew_wins_over_one_that_has_fallen(
        tmp_path: Path, monkeypatch: Patch) -> None:
    scripted(monkeypatch, (0.5, 1.0))
    assert train(tmp_path, "--epochs", 3, "--patience", 1, "--lr", 0.01) == 0
    assert resume(tmp_path, "--epochs", 4, "--lr", 0.01) == 0
    assert rates(tmp_path) == pytest.approx([0.01, 0.01, 0.001, 0.01])


def test_a_resumed_run_looks_for_its_data_where_it_did(
        few: Data, tmp_path: Path, monkeypatch: Patch) -> None:
    places = []
    monkeypatch.setattr(alexnet.train, "load", lambda _, at, *__: places.append(at) or few)
    assert train(tmp_path, "--epochs", 1, "--data-dir", tmp_path / "sets") == 0
    assert resume(tmp_path) == 0
    assert places == 2 * [tmp_path / "sets"]


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_a_run_whose_pictures_have_changed_cannot_be_gone_on_with(
        part: str, straight: Path, few: Data, monkeypatch: Patch, capsys: Said) -> None:
    before, images = files(straight), getattr(few, part).images.clone()
    images[7, 1, 14, 14] ^= 1
    changed = few._replace(**{part: getattr(few, part)._replace(images=images)})
    monkeypatch.setattr(alexnet.train, "load", lambda *_: changed)
    assert resume(straight) == 1
    assert "few is not what it was when the run began" in capsys.readouterr().err
    assert files(straight) == before


# ---------------------------------------------------------------- the rate, and the best


def test_the_rate_falls_three_times_after_the_patience_then_the_run_ends(
        tmp_path: Path, monkeypatch: Patch, capsys: Said) -> None:
    """The second epoch is the last progress; the patience begins anew after each fall."""
    seen = scripted(monkeypatch, (0.5, 1.0), (0.4, 1.0), (0.4, 1.1))
    assert train(tmp_path, "--epochs", 30, "--patience", 2, "--lr", 0.02) == 0
    expected = 4 * [0.02] + 2 * [0.002] + 2 * [2e-4] + 2 * [2e-5]
    assert rates(tmp_path) == pytest.approx(expected, rel=1e-12) and len(seen) == 10
    assert "nothing was better since epoch 2: stopped early\n" in capsys.readouterr().err
    groups = saved(tmp_path)["optimizer"]["param_groups"]
    assert [group["lr"] for group in groups] == pytest.approx([2e-5, 4e-5])


def test_each_better_epoch_renews_the_patience_and_the_loss_decides_between_equal_errors(
        tmp_path: Path, monkeypatch: Patch) -> None:
    pairs = (0.5, 1), (0.6, 1), (0.4, 1), (0.6, 0.1), (0.4, 0.9), (0.4, 0.9)
    seen = scripted(monkeypatch, *pairs)
    assert train(tmp_path, "--epochs", 8, "--patience", 2, "--lr", 0.01) == 0
    assert rates(tmp_path) == pytest.approx(7 * [0.01] + [0.001])
    best, last = saved(tmp_path, "best.pt"), saved(tmp_path)
    assert (best["epoch"], best["best"], last["best_epoch"]) == (5, (0.4, 0.9), 5)
    assert [checkpoint.digest(one["model"]) for one in (best, last)] == [seen[4], seen[7]]


@pytest.mark.parametrize("cut", [4 * PER_EPOCH + 1, 5 * PER_EPOCH, 7 * PER_EPOCH + 3])
def test_falls_and_patience_survive_a_resume(
        cut: int, tmp_path: Path, monkeypatch: Patch) -> None:
    scripted(monkeypatch, (0.4, 1.0))
    flags = ("--epochs", 20, "--patience", 2, "--lr", 0.01)
    assert train(tmp_path / "whole", *flags) == 0
    cut_after(cut, tmp_path / "cut", *flags)
    assert resume(tmp_path / "cut") == 0
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    assert len(rows(tmp_path / "cut")) == 9


# ---------------------------------------------------------------- honest numbers


def test_a_run_is_the_loop_written_out(few: Data, tmp_path: Path, monkeypatch: Patch,
                                       request: pytest.FixtureRequest) -> None:
    """Crops, flips and light by seed and step, the mean loss, momentum, decay of weights.

    In 64 bits: in 32 a rounding may turn a unit off, and grows from there.
    """
    request.addfinalizer(lambda: torch.set_default_dtype(torch.float32))
    torch.set_default_dtype(torch.float64)
    monkeypatch.setattr(Tensor, "float", Tensor.double)
    flags = ("--dropout", 0.3, "--lr", 0.02, "--weight-decay", 0.1, "--colour", 0.3,
             "--classes", 3, "--seed", 3)
    assert train(tmp_path, *flags, "--epochs", 2) == 0
    config, augment, step = saved(tmp_path)["config"], alexnet.augment, 0
    torch.manual_seed(3)
    net = alexnet.model.build(config)
    named = dict(net.named_parameters())
    speed = {name: torch.zeros_like(p) for name, p in named.items()}
    for epoch, row in enumerate(rows(tmp_path)):
        order = torch.randperm(PICTURES, generator=seeded(3 * 1_000_003 + epoch))
        loss_sum = wrong = 0
        for some in order.split(BATCH):
            drawn = augment.draw(len(some), 4, 3 * 1_000_003 + step)
            seen = augment.crop(few.train.images[some], drawn, 28).float()
            seen = augment.shift_colour(seen, drawn, config["colour_axes"], 0.3)
            logits = net((seen - config["mean"]) / config["std"])
            loss = nn.CrossEntropyLoss()(logits, few.train.labels[some])
            slopes = torch.autograd.grad(loss, list(named.values()))
            for (name, p), slope in zip(named.items(), slopes):
                rate, decay = (0.04, 0) if name.endswith("bias") else (0.02, 0.1)
                speed[name] = 0.9 * speed[name] + slope + decay * p.detach()
                p.data -= rate * speed[name]
            loss_sum, step = loss_sum + loss.item() * len(some), step + 1
            wrong += (logits.argmax(1) != few.train.labels[some]).sum().item()
        images, labels, *_ = few.validation
        logits = net.eval()((images[:, :, 2:30, 2:30] - config["mean"]) / config["std"])
        net.train()
        numbers = (loss_sum / PICTURES, wrong / PICTURES,
                   F.cross_entropy(logits, labels).item(),
                   (logits.argmax(1) != labels).double().mean().item(), 0)    # top-5 of three
        assert tuple(float(row[name]) for name in COLUMNS[3:8]) == pytest.approx(numbers, 1e-9)
    for name, value in net.state_dict().items():
        torch.testing.assert_close(saved(tmp_path)["model"][name], value, rtol=1e-9, atol=1e-12)


def test_the_test_pictures_are_used_once_on_the_best_weights(
        few: Data, tmp_path: Path, monkeypatch: Patch, capsys: Said) -> None:
    errors, weights, tests = [0.5, 0.2, 0.4, 0.3], [], []

    def recorded(model: nn.Module, part: Part, _: dict, ten: bool = False,
                 **precision: str) -> tuple:
        (tests if part is few.test else weights).append(checkpoint.digest(model.state_dict()))
        if part is few.test:
            return 1.0, 0.25 if ten else 0.375, 0.05, 40
        return 1.0, errors[len(weights) - 1], 0.0, 40

    monkeypatch.setattr(alexnet.train, "report", REPORT)
    monkeypatch.setattr(alexnet.train, "evaluate", recorded)
    assert train(tmp_path) == 0
    assert tests == 2 * [weights[1]] and len(weights) == EPOCHS
    where = "top-5 5.00%, on 40 pictures, with the weights of epoch 2"
    assert capsys.readouterr().out.splitlines()[-4:-2] == [
        f"one crop: test error 37.50%, {where}", f"ten crops: test error 25.00%, {where}"]
    found = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["train.py"]
    assert (found["test_error"], found["ten_crops_error"]) == (0.375, 0.25)


def test_shuffled_labels_cannot_be_generalised_and_true_ones_can(
        few: Data, tmp_path: Path, monkeypatch: Patch) -> None:
    """If they could, the validation pictures would have leaked into training."""
    lowest, part = [], pictures(120, 3, 6)
    for labels in (part.labels, part.labels[torch.randperm(120, generator=seeded(0))]):
        data = few._replace(train=part._replace(labels=labels), validation=pictures(120, 3, 7))
        monkeypatch.setattr(alexnet.train, "load", lambda *_, data=data: data)
        assert train(tmp_path, "--epochs", 12, "--lr", 0.02) == 0
        lowest.append(min(float(row["validation_error"]) for row in rows(tmp_path)))
    assert lowest[0] < 0.1 and lowest[1] > 0.4


# ---------------------------------------------------------------- mishaps


def test_half_precision_trains_on_a_cpu_when_asked_to(straight: Path, tmp_path: Path) -> None:
    assert train(tmp_path, "--precision", "bf16") == 0
    assert all(value.dtype == torch.float32 for value in saved(tmp_path)["model"].values())
    for here, there in zip(rows(straight), rows(tmp_path), strict=True):
        assert here["train_loss"] != there["train_loss"]
        assert float(here["train_loss"]) == pytest.approx(float(there["train_loss"]), rel=0.1)


@pytest.mark.gpu
def test_what_a_gpu_has_trained_is_opened_on_a_cpu(quick_run: Callable, tmp_path: Path) -> None:
    done = run(TRAIN, "--quick", "--device", "cuda", "--out-dir", tmp_path)
    assert done.returncode == 0, done.stderr
    net, _ = checkpoint.open_model(tmp_path / "best.pt", FOLDER, alexnet.model.build,
                                   torch.device("cpu"))
    assert all(p.device.type == "cpu" and p.isfinite().all() for p in net.parameters())
    outs = quick_run(FOLDER).out, tmp_path
    here, there = (float(rows(out)[0]["train_loss"]) for out in outs)
    assert there == pytest.approx(here, rel=0.05)
