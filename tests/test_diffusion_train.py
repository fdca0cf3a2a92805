"""Training on few digits: honest numbers, averages, resuming to the bit, two processes."""

import csv
import math
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from support import load

diffusion = load("diffusion_from_scratch")
checkpoint, options, training, runs = (diffusion.checkpoint, diffusion.options, diffusion.train,
                                       diffusion.run)
batches, ema, Data = diffusion.batches, diffusion.ema, diffusion.data.Data
digest = checkpoint.digest
Patch, Said = pytest.MonkeyPatch, pytest.CaptureFixture
FOLDER, LOAD, REPORT = "diffusion_from_scratch", training.load, training.report
STEPS, EVERY = 12, 5
FLAGS = ("--width", 8, "--batch-size", 6, "--steps", STEPS, "--log-every", EVERY,
         "--warm-up", 3, "--lr", 0.01, "--ema", 0.9)


@pytest.fixture(scope="module", autouse=True)
def few() -> Iterator[Data]:
    """Every run in this process trains on few digits and reports nothing."""
    torch.set_num_threads(1)
    data = diffusion.data.digits().shortened((40, 16, 20))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "load", lambda *_: data)
        patch.setattr(training, "report", lambda *_: None)
        patch.setattr(runs, "STRIP", 4)
        patch.setattr(runs, "ROUGH", 2)
        yield data


def train(out: Path, *flags: object) -> int:
    return training.main(["--out-dir", str(out), *map(str, (*FLAGS, *flags))])


def resume(out: Path, *flags: object) -> int:
    torch.manual_seed(999)  # whatever happened in between must not matter
    return training.main(["--resume", "--out-dir", str(out), *map(str, flags)])


def chosen(*flags: object) -> SimpleNamespace:
    args = options.parser().parse_args([*map(str, flags)])
    options.set_defaults(args)
    return args


def rows(out: Path) -> list[dict]:
    with (out / "metrics.csv").open(newline="") as file:
        return [dict(row, seconds=None) for row in csv.DictReader(file)]


def saved(out: Path, name: str = "checkpoint.pt") -> dict:
    return checkpoint.load(out / name, FOLDER)


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def assert_same_run(left: Path, right: Path) -> None:
    for name in ("checkpoint.pt", "best.pt"):
        one, two = saved(left, name), saved(right, name)
        for part in ("model", "ema", "optimizer", "config", "data", *runs.Run.PROGRESS):
            same = digest(one[part]) == digest(two[part])
            assert same or part == "seconds", part
    assert rows(left) == rows(right)


def cut_after(steps: int, out: Path, *flags: object) -> None:
    """Trains until a signal comes in the midst of a step."""
    number, batch, calls = (signal.SIGINT, signal.SIGTERM)[steps % 2], runs.Run.batch, []

    def interrupted(self: object) -> object:
        calls.append(1)
        if len(calls) == steps:
            os.kill(os.getpid(), number)
        return batch(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs.Run, "batch", interrupted)
        assert train(out, *flags) == 128 + number and len(calls) == steps


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("straight")
    assert train(out) == 0
    return out


# ---------------------------------------------------------------- batches, averages, rates


def test_all_pictures_are_seen_before_one_comes_again() -> None:
    seen = torch.cat([batches.chosen(10, 4, 3, step) for step in range(10)])
    for epoch in seen.split(10):
        assert sorted(epoch.tolist()) == list(range(10))
    assert seen[:10].tolist() != seen[10:20].tolist()
    assert batches.chosen(10, 25, 0, 1).bincount().tolist() != [3] * 10
    assert torch.equal(batches.chosen(10, 4, 3, 7), seen[28:32])


def test_times_of_a_batch_are_spread_and_each_is_as_probable() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([batches.draw_times(8, 100, generator) for _ in range(4000)])
    quarters = (drawn // 25).flatten().bincount()
    assert quarters.tolist() == [8000] * 4 and drawn.min() == 0 and drawn.max() == 99
    assert drawn.flatten().bincount(minlength=100).float().std() < 40
    for batch in drawn[:50]:
        assert sorted((batch * 8 // 100).tolist()) == pytest.approx(range(8), abs=1)


def test_a_step_depends_on_seed_and_number_alone(few: Data) -> None:
    def make(step: int, seed: int = 0, drop: float = 0.1) -> batches.Batch:
        torch.rand(3)
        return batches.make_batch(few.train, 8, seed, step, 1000, 10, drop, False, True)

    for one, same in zip(make(5), make(5)):
        assert torch.equal(one, same)
    for other in (make(6), make(5, seed=1)):
        assert not torch.equal(make(5).noise, other.noise)
        assert not torch.equal(make(5).t, other.t)
    x0, noise, _, labels = make(3, drop=0.0)
    assert x0.min() == -1 and x0.max() == 1 and noise.std().item() == pytest.approx(1, abs=0.03)
    place = batches.chosen(40, 8, 0, 3)
    assert torch.equal(labels, few.train.labels[place])
    assert torch.equal(x0, few.train.images[place].float() / 127.5 - 1)


def test_neighbouring_seeds_never_meet_and_the_largest_is_one(few: Data) -> None:
    assert not torch.equal(batches.chosen(40, 40, 0, 1), batches.chosen(40, 40, 1, 0))
    seeds = (0, 1, 2**32 - 2, 2**32 - 1)
    made = [batches.make_batch(few.train, 4, seed, 0, 1000, 10, 0.1, False, True).noise
            for seed in seeds]
    alike = torch.corrcoef(torch.stack(made).flatten(1)).triu(1)
    assert alike.abs().max() < 0.1


def test_labels_are_withheld_as_often_as_asked_and_pictures_mirrored(few: Data) -> None:
    many = [batches.make_batch(few.train, 40, 0, step, 10, 10, 0.2, True, True)
            for step in range(200)]
    share = torch.cat([batch.labels for batch in many]).eq(10).double().mean().item()
    assert share == pytest.approx(0.2, abs=3 * (0.16 / 8000) ** 0.5)
    plain = batches.make_batch(few.train, 40, 0, 0, 10, 0, 0.2, False, True)
    assert plain.labels is None
    pairs = list(zip(many[0].x0, plain.x0))
    mirrored = sum(torch.equal(one, other.flip(2)) for one, other in pairs)
    assert 10 < mirrored < 30
    assert sum(torch.equal(one, other) for one, other in pairs) == 40 - mirrored


def test_processes_share_a_batch_without_rest(few: Data) -> None:
    whole = batches.make_batch(few.train, 7, 0, 3, 1000, 10, 0.1, False, True)
    parts = [batches.share(whole, rank, 3, torch.device("cpu")) for rank in range(3)]
    assert [len(part.t) for part in parts] == [3, 2, 2]
    assert sorted(torch.cat([part.t for part in parts]).tolist()) == sorted(whole.t.tolist())


def test_the_average_is_the_recursion_by_hand() -> None:
    torch.manual_seed(0)
    one = torch.nn.Linear(3, 2)
    average, expected = ema.Average(one, 0.9), one.weight.detach().clone()
    for step in range(30):
        with torch.no_grad():
            one.weight += torch.randn(2, 3)
        average.update(one, step)
        kept = min(0.9, (1 + step) / (10 + step))
        expected = kept * expected + (1 - kept) * one.weight.detach()
        assert torch.allclose(average.model.weight, expected, atol=1e-6)
    assert [ema.decay_at(step, 0.9999) for step in (0, 8, 10**6)] == [0.1, 0.5, 0.9999]
    assert not average.model.training and not average.model.weight.requires_grad


def test_the_rate_rises_and_falls_and_the_papers_stays() -> None:
    rule = diffusion.optimization.rate_share
    found = [rule(step, 1000, 100, True) for step in range(1, 1001)]
    assert found[49] == pytest.approx(0.5, rel=0.01) and max(found) == found[99]
    assert 0 < found[-1] < 1e-4 and found[499] == pytest.approx(0.5, abs=0.01)
    assert [rule(step, 1000, 100, False) for step in (50, 100, 1000)] == [0.5, 1, 1]
    assert rule(1, 10, 0, False) == 1


def test_decay_pulls_at_kernels_and_matrices_only() -> None:
    model = diffusion.model.UNet((1, 28, 28), classes=10, width=8)
    optimizer = diffusion.optimization.make_optimizer(model, 0.1)
    strong, free = optimizer.param_groups
    assert (strong["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    assert {p.ndim for p in strong["params"]} == {2, 4}
    assert {p.ndim for p in free["params"]} == {1}
    assert len(strong["params"]) + len(free["params"]) == len(list(model.parameters()))


def test_what_the_flags_leave_open_follows_from_preset_and_data() -> None:
    for name in ("digits", "mnist", "cifar10"):
        found = vars(chosen("--data", name))
        wanted = {**diffusion.model.PRESETS["small"], **options.SHARED, **options.RECIPES[name]}
        assert {key: found[key] for key in wanted} == wanted
    paper = chosen("--data", "cifar10", "--preset", "paper")
    assert (paper.steps, paper.lr, paper.ema, paper.predict, paper.schedule, paper.flip,
            paper.falls, paper.weight_decay, paper.warm_up, paper.batch_size) == (
        800_000, 2e-4, 0.9999, "noise", "linear", True, False, 0.0, 5000, 128)
    assert (paper.width, paper.multipliers, paper.dropout) == (128, [1, 2, 2, 2], 0.1)
    assert chosen("--data", "my/folder").batch_size == options.RECIPES["own"]["batch_size"]
    assert chosen("--quick", "--steps", 7).steps == 7 and chosen("--width", 9).width == 9


# ---------------------------------------------------------------- a run


def test_logged_losses_are_those_of_their_quarters(straight: Path, few: Data) -> None:
    table, contents = rows(straight), saved(straight)
    assert [int(row["step"]) for row in table] == [5, 10, 12]
    for row in table:
        step = int(row["step"])
        rate = diffusion.optimization.rate_share(step, STEPS, 3, True)
        assert float(row["lr"]) == pytest.approx(0.01 * rate)
    fresh = chosen(*FLAGS)
    fresh.out_dir = straight.parent / "again"
    first = runs.Run(fresh, few, torch.device("cpu"))
    x0, noise, t, labels = first.batch()
    output = first.model(first.diffusion.q_sample(x0, t, noise), t, labels)
    assert not output.any()
    losses = first.diffusion.losses(output, x0, t, noise)
    first.note(losses, t, 0.01, SimpleNamespace(requested=False))
    for quarter in range(4):
        here = t // 250 == quarter
        assert first.sums[quarter] == pytest.approx(losses[here].sum().item(), rel=1e-5)
        assert first.counts[quarter] == here.sum()
    judged = diffusion.painter.Painter.open(straight / "checkpoint.pt", torch.device("cpu"))
    first.average.model.load_state_dict(contents["ema"])
    assert float(table[-1]["validation_loss"]) == pytest.approx(first.validate(), rel=1e-5)
    assert digest(judged.model.state_dict()) == digest(contents["ema"]) != digest(
        contents["model"])


def make_run(few: Data, out: Path, *flags: object) -> runs.Run:
    args = chosen(*FLAGS, *flags)
    args.out_dir = out
    return runs.Run(args, few, torch.device("cpu"))


def test_the_average_follows_from_the_first_step_on(few: Data, tmp_path: Path) -> None:
    begun = {}
    run = make_run(few, tmp_path, "--steps", 1)
    begun.update({name: p.clone() for name, p in run.average.model.named_parameters()})
    training.train(run, SimpleNamespace(requested=False))
    weights = dict(run.model.named_parameters())
    for name, mean in run.average.model.named_parameters():
        assert torch.allclose(mean, 0.1 * begun[name] + 0.9 * weights[name], atol=1e-6)


def test_a_line_is_about_its_own_interval(few: Data, tmp_path: Path) -> None:
    """Losses are summed anew after each line; a quarter without a time has none."""
    run = make_run(few, tmp_path, "--batch-size", 1, "--steps", 3, "--log-every", 1)
    noted, note = [], run.note
    run.note = lambda losses, *more: noted.append(losses.mean().item()) or note(losses, *more)
    training.train(run, SimpleNamespace(requested=False))
    for row, loss in zip(rows(tmp_path), noted, strict=True):
        assert float(row["train_loss"]) == pytest.approx(loss, rel=1e-5)
        quarters = [float(row[f"loss_{quarter}"]) for quarter in range(4)]
        assert sum(math.isnan(value) for value in quarters) == 3


def test_validation_sees_every_picture_with_its_label(few: Data, tmp_path: Path,
                                                      monkeypatch: Patch) -> None:
    run, seen, make = make_run(few, tmp_path), [], batches.make_batch
    monkeypatch.setattr(runs, "AT_ONCE", 6)            # of 16: three batches of six

    def watched(*args: object) -> batches.Batch:
        seen.append(make(*args))
        return seen[-1]

    monkeypatch.setattr(runs, "make_batch", watched)
    run.model.train()
    first = run.validate()
    assert first == run.validate() and run.model.training
    x0 = torch.cat([batch.x0 for batch in seen[:3]])
    labels = torch.cat([batch.labels for batch in seen[:3]])
    assert len(x0) == 18 and len({one.numpy().tobytes() for one in x0}) == 16
    assert (labels < 10).all()


def test_dropout_differs_from_step_to_step_and_validation_has_none(few: Data,
                                                                   tmp_path: Path) -> None:
    run = make_run(few, tmp_path, "--dropout", 0.3, "--ema", 0, "--steps", 9)
    drawn = []
    for run.step in (0, 1, 0):
        run.batch()
        drawn.append(torch.rand(4))
    assert torch.equal(drawn[0], drawn[2]) and not torch.equal(drawn[0], drawn[1])
    assert run.judged is run.model and run.validate() == run.validate() and run.model.training


def test_a_gradient_is_cut_to_the_length_that_was_asked(straight: Path, tmp_path: Path) -> None:
    """Adam hardly sees it: only gradients that are almost nothing make another run."""
    assert train(tmp_path, "--clip", 1e-9, "--weight-decay", 0) == 0
    moved = [float(row["validation_loss"]) for out in (straight, tmp_path)
             for row in rows(out)[-1:]]
    assert abs(moved[0] - moved[1]) > 1e-3


def test_another_data_set_is_not_what_the_run_began_with(few: Data, tmp_path: Path,
                                                         monkeypatch: Patch,
                                                         capsys: Said) -> None:
    cut_after(6, tmp_path)
    monkeypatch.setattr(training, "load", lambda *_: few.shortened((39, 16, 20)))
    before = files(tmp_path)
    assert resume(tmp_path) == 1 and files(tmp_path) == before
    assert "is not what it was when the run began" in capsys.readouterr().err


def test_a_typed_decay_wins_over_that_of_the_run(few: Data, tmp_path: Path,
                                                 monkeypatch: Patch) -> None:
    cut_after(6, tmp_path)
    made = []
    monkeypatch.setattr(training, "train", lambda run, _: made.append(run))
    assert resume(tmp_path, "--weight-decay", 0.5) == 0
    assert [group["weight_decay"] for group in made[0].optimizer.param_groups] == [0.5, 0.0]


def test_the_report_is_about_the_best_weights(straight: Path, few: Data, tmp_path: Path,
                                              monkeypatch: Patch) -> None:
    run = make_run(few, tmp_path)
    for name in ("best.pt", "metrics.csv"):
        (tmp_path / name).write_bytes((straight / name).read_bytes())
    (tmp_path / "progress").mkdir()
    run.best, painted = 1.0, []
    monkeypatch.setattr(runs.Run, "sheet", lambda self, *_: painted.append(
        digest(self.judged.state_dict())) or torch.zeros(10, 1, 28, 28))
    monkeypatch.setattr(diffusion.pictures, "draw_progress", lambda *_: None)
    REPORT(run)
    assert painted == [digest(saved(straight, "best.pt")["ema"])]


def test_the_best_weights_are_those_of_the_lowest_validation_loss(
        tmp_path: Path, monkeypatch: Patch) -> None:
    given, seen = [0.5, 0.3, 0.4], []
    monkeypatch.setattr(runs.Run, "validate", lambda self: seen.append(
        digest(self.average.model.state_dict())) or given[len(seen) - 1])
    assert train(tmp_path) == 0
    best = saved(tmp_path, "best.pt")
    assert (best["step"], best["best"]) == (10, 0.3) and digest(best["ema"]) == seen[1]
    assert saved(tmp_path)["best_step"] == 10


def test_one_seed_gives_equal_bits_and_another_others(straight: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    assert train(tmp_path / "same") == 0
    assert_same_run(straight, tmp_path / "same")
    assert train(tmp_path / "other", "--seed", 1) == 0
    for mine, other in zip(rows(straight), rows(tmp_path / "other"), strict=True):
        assert mine["train_loss"] != other["train_loss"]


@pytest.mark.parametrize("cut", [1, 5, 7, STEPS])
def test_a_run_cut_anywhere_and_resumed_is_the_uninterrupted_run(
        cut: int, straight: Path, tmp_path: Path, capsys: Said) -> None:
    cut_after(cut, tmp_path)
    assert saved(tmp_path)["step"] == cut and resume(tmp_path) == 0
    assert_same_run(straight, tmp_path)
    before = files(tmp_path)
    assert resume(tmp_path) == 0 and files(tmp_path) == before
    assert f"the run is finished, at step {STEPS}" in capsys.readouterr().err


def test_dropout_is_resumed_to_the_bit(tmp_path: Path) -> None:
    assert train(tmp_path / "whole", "--dropout", 0.3) == 0
    cut_after(6, tmp_path / "cut", "--dropout", 0.3)
    assert resume(tmp_path / "cut") == 0
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
