"""Training on few shapes: honest numbers, two stages, resuming to the bit, bad values."""

import csv
import math
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from sd_tiny import TINY
from support import load

sd = load("stable_diffusion_from_scratch")
checkpoint, options, training, runs = sd.checkpoint, sd.options, sd.train, sd.run
batches, ema, losses, validation = sd.batches, sd.ema, sd.losses, sd.validation
digest, Data = checkpoint.digest, sd.data.Data
Patch, Said = pytest.MonkeyPatch, pytest.CaptureFixture
FOLDER, LOAD, REPORT = "stable_diffusion_from_scratch", training.load, training.report
STEPS, VAE_STEPS, EVERY = 13, 6, 4
FLAGS = ("--batch-size", 6, "--vae-batch-size", 3, "--steps", STEPS, "--vae-steps", VAE_STEPS,
         "--log-every", EVERY, "--warm-up", 2, "--lr", 0.01, "--vae-lr", 0.01, "--ema", 0.9)
SIZE = {part: TINY[part] for part in ("unet", "vae", "text")}


@pytest.fixture(scope="module", autouse=True)
def few() -> Iterator[Data]:
    """Every run in this process trains a small model on few shapes and reports nothing."""
    torch.set_num_threads(1)
    data = sd.data.drawn_shapes(32, 0, (40, 12))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "load", lambda *_: data)
        patch.setattr(training, "report", lambda *_: None)
        patch.setattr(validation, "ASKED", 3)
        patch.setattr(validation, "ROUGH", 2)
        patch.setattr(sd.start, "SHOWN", 5)
        patch.setitem(options.SIZES, "small", SIZE)
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
    """Trains until a signal comes in the midst of a step of either stage."""
    number, rate, calls = (signal.SIGINT, signal.SIGTERM)[steps % 2], runs.Run.set_rate, []

    def interrupted(self: object) -> float:
        calls.append(1)
        if len(calls) == steps:
            os.kill(os.getpid(), number)
        return rate(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs.Run, "set_rate", interrupted)
        assert train(out, *flags) == 128 + number and len(calls) == steps


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("straight")
    assert train(out) == 0
    return out


# ---------------------------------------------------------------- batches, losses, averages


def test_all_pictures_are_seen_before_one_comes_again() -> None:
    seen = torch.cat([batches.chosen(10, 4, 3, step) for step in range(10)])
    for epoch in seen.split(10):
        assert sorted(epoch.tolist()) == list(range(10))
    assert seen[:10].tolist() != seen[10:20].tolist()
    assert torch.equal(batches.chosen(10, 4, 3, 7), seen[28:32])


def test_times_of_a_batch_are_spread_and_each_is_as_probable() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([batches.draw_times(8, generator) for _ in range(4000)])
    assert (drawn // 250).flatten().bincount().tolist() == [8000] * 4
    assert drawn.min() == 0 and drawn.max() == 999
    for batch in drawn[:50]:
        assert sorted((batch * 8 // 1000).tolist()) == pytest.approx(range(8), abs=1)


def test_latents_of_a_step_are_drawn_anew_and_captions_withheld() -> None:
    torch.manual_seed(0)
    known = batches.Latents(torch.randn(30, 4, 8, 8), torch.full((30, 4, 8, 8), 0.5))
    tokens, empty = torch.arange(90).reshape(30, 3) + 5, torch.tensor([[0, 1, 1]])

    def make(step: int, seed: int = 0, drop: float = 0.2) -> batches.Batch:
        torch.rand(3)
        return batches.latent_batch(known, tokens, empty, 30, seed, step, drop)

    for one, same in zip(make(5), make(5)):
        assert torch.equal(one, same)
    for other in (make(6), make(5, seed=1)):
        assert not torch.equal(make(5).noise, other.noise)
    batch, place = make(3, drop=0.0), batches.chosen(30, 30, 0, 3)
    assert torch.equal(batch.tokens, tokens[place])
    apart = (batch.latents - known.mean[place]) / 0.5
    assert abs(apart.mean()) < 0.05 and apart.std().item() == pytest.approx(1, abs=0.03)
    assert abs((apart * batch.noise).mean()) < 0.05        # one noise is not the other
    many = torch.cat([make(step).tokens for step in range(200)])
    share = (many == empty).all(1).double().mean().item()
    assert share == pytest.approx(0.2, abs=3 * (0.16 / 6000) ** 0.5)


def test_pictures_of_a_step_are_from_minus_one_to_one(few: Data) -> None:
    x, noise = batches.picture_batch(few.train.images, 8, 0, 2, (4, 8, 8))
    place = batches.chosen(40, 8, 0, 2)
    assert torch.allclose(x, few.train.images[place].permute(0, 3, 1, 2) / 127.5 - 1)
    assert noise.shape == (8, 4, 8, 8) and noise.std().item() == pytest.approx(1, abs=0.05)
    parts = [batches.share((x, noise), rank, 3, torch.device("cpu"))[0] for rank in range(3)]
    assert [len(part) for part in parts] == [3, 3, 2]
    assert torch.equal(torch.stack([parts[2][0], parts[0][1]]), x[[2, 3]])


def test_losses_are_those_of_their_formulas() -> None:
    torch.manual_seed(0)
    drawn, x = torch.randn(2, 5, 3, 8, 8).unbind()
    found = sd.vae_model.Gaussian(torch.randn(5, 4, 2, 2), torch.randn(5, 4, 2, 2))
    kl = torch.distributions.kl_divergence(torch.distributions.Normal(
        found.mean, (found.logvar / 2).exp()), torch.distributions.Normal(0.0, 1.0))
    error = drawn - x
    far = error.abs().sum((1, 2, 3)) + (error**2).sum((1, 2, 3))
    across = (error[..., 1:] - error[..., :-1]).abs().mean((1, 2, 3))
    down = (error[:, :, 1:] - error[:, :, :-1]).abs().mean((1, 2, 3))
    wanted = (far + 0.01 * kl.sum((1, 2, 3))) / (3 * 8 * 8) + across + down
    assert torch.allclose(losses.vae_losses(drawn, x, found, 0.01), wanted)
    t = torch.tensor([0, 200, 500, 999])
    bars = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000).double() ** 2, 0)[t]
    latents, noise = torch.randn(2, 4, 4, 8, 8).unbind()
    mixed = bars.sqrt()[:, None, None, None] * latents + (1 - bars).sqrt()[
        :, None, None, None] * noise
    assert torch.allclose(losses.noised(latents, noise, t), mixed.float(), atol=1e-6)
    ratio = bars / (1 - bars)
    weights = torch.minimum(ratio, torch.tensor(5.0)) / ratio
    assert torch.allclose(losses.time_weights(t, 5.0, 1.0), weights.float())
    assert weights[0] < 0.005 and weights[2] == weights[3] == 1
    more = torch.stack([torch.ones(()).double(), torch.ones(()).double(), 1 / ratio[2],
                        torch.tensor(30.0).double()])
    assert 2 < more[2] < 5 and 1 / ratio[3] > 200
    assert torch.allclose(losses.time_weights(t, 5.0, 30.0), (weights * more).float())
    weights = weights * more
    seen = torch.randn(4, 4, 8, 8)
    wanted = weights * ((seen - noise) ** 2).mean((1, 2, 3))
    assert torch.allclose(losses.noise_losses(seen, noise, t, 5.0, 30.0), wanted.float())
    assert losses.decibels(0.04) == pytest.approx(20) and losses.decibels(0) > 100


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


def test_the_scale_makes_a_deviation_of_one(few: Data) -> None:
    torch.manual_seed(0)
    model = sd.model.build(SIZE | {"text": TINY["text"]}).requires_grad_(False)
    for start in (0.18215, 3.0):
        model.scale_factor.fill_(start)
        scale = validation.scale_of(model, few, torch.device("cpu"))
        model.scale_factor.fill_(scale)
        known = validation.encode_all(model, few.train.images, torch.device("cpu"))
        drawn = known.mean + known.deviation * torch.randn(known.mean.shape)
        assert drawn.std().item() == pytest.approx(1, abs=0.02)
        assert validation.deviation(known) == pytest.approx(1, abs=1e-4)
    x = sd.pipeline.floats(few.train.images[:3])
    assert torch.allclose(known.mean[:3], model.vae.encode(x).mean * scale, atol=1e-5)


# ---------------------------------------------------------------- a run


def test_rows_belong_to_stages_and_rates_fall_in_each(straight: Path) -> None:
    table = rows(straight)
    assert [(int(row["step"]), row["stage"]) for row in table] == [
        (4, "vae"), (6, "vae"), (8, "diffusion"), (12, "diffusion"), (13, "diffusion")]
    for row in table:
        first, step = row["stage"] == "vae", int(row["step"])
        place, count = (step, 6) if first else (step - 6, 7)
        assert float(row["lr"]) == pytest.approx(
            0.01 * sd.optimization.rate_share(place, count, 2))
        assert bool(row["psnr"]) == first == (not row["both"])
        assert abs(float(row["deviation"]) - 1) < 0.2 if first else row["deviation"] == ""
    rule = [sd.optimization.rate_share(step, 100, 10) for step in range(1, 101)]
    assert max(rule) == rule[9] and 0.05 < rule[-1] < 0.051 and rule[4] < 0.51


def test_each_stage_changes_its_own_weights(straight: Path, tmp_path: Path) -> None:
    assert train(tmp_path, "--stage", "vae", "--steps", VAE_STEPS) == 0
    vae, whole = saved(tmp_path), saved(straight)
    for name, weight in whole["model"].items():
        same = torch.equal(weight, vae["model"][name])
        still = name.startswith("first_stage_model.") or name == "scale_factor"
        assert same == still, name
    assert whole["stage"] == "diffusion" and vae["stage"] == "vae" and "ema" not in vae
    assert digest(whole["ema"]) != digest(whole["model"])
    assert vae["model"]["scale_factor"] != sd.model.SCALE
    assert rows(tmp_path) == rows(straight)[:2]


def test_the_second_stage_alone_begins_with_an_autoencoder(straight: Path,
                                                           tmp_path: Path) -> None:
    begun = ("--weights", straight / "best.pt", "--stage", "diffusion", "--steps", 5,
             "--vae-steps", 0)
    args = [flag for pair in zip(FLAGS[::2], FLAGS[1::2]) for flag in pair
            if pair[0] not in ("--steps", "--vae-steps")]
    flags = [*args, *begun[:-2], "--out-dir", tmp_path]
    assert training.main([*map(str, flags)]) == 0
    before, after = saved(straight, "best.pt"), saved(tmp_path)
    for name, weight in after["model"].items():
        same = torch.equal(weight, before["ema"][name])
        assert same == (name.startswith("first_stage") or name == "scale_factor"), name
    assert after["config"]["tokenizer"] == before["config"]["tokenizer"]
    assert [int(row["step"]) for row in rows(tmp_path)] == [4, 5]
    assert resume(tmp_path, "--weights", os.path.relpath(straight / "best.pt")) == 0
    assert resume(tmp_path, "--weights", tmp_path / "best.pt") == 1


def test_one_seed_gives_equal_bits_and_another_others(straight: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    assert train(tmp_path / "same") == 0
    assert_same_run(straight, tmp_path / "same")
    assert train(tmp_path / "other", "--seed", 1) == 0
    for mine, other in zip(rows(straight), rows(tmp_path / "other"), strict=True):
        assert mine["train_loss"] != other["train_loss"]


@pytest.mark.parametrize("cut", [4, 6, 9, *(
    pytest.param(cut, marks=pytest.mark.slow) for cut in (1, STEPS))])
def test_a_run_cut_anywhere_and_resumed_is_the_uninterrupted_run(
        cut: int, straight: Path, tmp_path: Path, capsys: Said) -> None:
    cut_after(cut, tmp_path)
    assert saved(tmp_path)["step"] == cut and resume(tmp_path) == 0
    assert_same_run(straight, tmp_path)
    before = files(tmp_path)
    assert resume(tmp_path) == 0 and files(tmp_path) == before
    assert f"the run is finished, at step {STEPS}" in capsys.readouterr().err


def test_times_weigh_in_training_and_validation_as_was_asked_for(tmp_path: Path,
                                                                 monkeypatch: Patch) -> None:
    given = set()
    for module in (training, validation):
        def spied(*args: object, name: str = module.__name__,
                  losses: object = module.noise_losses) -> torch.Tensor:
            given.add((name, *args[3:]))
            return losses(*args)
        monkeypatch.setattr(module, "noise_losses", spied)
    assert train(tmp_path, "--gamma", 3, "--delta", 30) == 0
    assert given == {("train", 3.0, 30.0), ("validation", 3.0, 30.0)}


@pytest.mark.parametrize(("what", "wanted", "kept"), [("loss", 3, None), ("gradient", 9, 8)])
def test_a_value_that_is_not_finite_stops_the_run_before_the_weights_change(
        what: str, wanted: int, kept: int | None, tmp_path: Path, monkeypatch: Patch,
        capsys: Said) -> None:
    weights, made = [], []

    def sick(losses_of: object) -> object:
        def spoiled(output: torch.Tensor, *given: object) -> torch.Tensor:
            value = losses_of(output, *given)
            weights.append(digest(dict(made[0].model.named_parameters())))
            if len(weights) < wanted:
                return value
            return value * math.nan if what == "loss" else value + (value - value).sqrt()
        return spoiled

    with monkeypatch.context() as patch:
        for name in ("vae_losses", "noise_losses"):
            patch.setattr(training, name, sick(getattr(training, name)))
        patch.setattr(training, "train", lambda run, stop, go=training.train: made.append(
            run) or go(run, stop))
        assert train(tmp_path) == 1
    assert digest(dict(made[0].model.named_parameters())) == weights[-1]
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"error: the {what} of step {wanted} is not finite (learning rate")
    assert (tmp_path / "checkpoint.pt").exists() == bool(kept)
    assert kept is None or saved(tmp_path)["step"] == kept


def test_adherence_in_the_table_is_that_of_the_averaged_weights(straight: Path,
                                                                few: Data) -> None:
    contents, last = saved(straight), rows(straight)[-1]
    args = chosen(*FLAGS)
    model = sd.model.build(contents["config"])
    model.load_state_dict(contents["ema"])
    reader = sd.tokenizer.from_state(contents["config"]["tokenizer"])
    judge = validation.Validation(args, few, reader, [], torch.device("cpu"))
    found = judge.measure(model, "diffusion")
    assert found["validation_loss"] == pytest.approx(float(last["validation_loss"]), rel=1e-5)
    assert [found[key] for key in ("colour", "shape", "both")] == [
        float(last[key]) for key in ("colour", "shape", "both")]


def test_the_best_weights_are_those_of_the_lowest_validation_loss(
        tmp_path: Path, monkeypatch: Patch) -> None:
    given, seen = iter([0.1, 0.2, 0.5, 0.3, 0.4]), []

    def measure(self: object, model: torch.nn.Module, stage: str) -> dict:
        seen.append(digest(model.state_dict()))
        return {"validation_loss": next(given), "psnr": 1.0, "deviation": 1.0, "colour": 0.0,
                "shape": 0.0, "both": 0.0}

    monkeypatch.setattr(validation.Validation, "measure", measure)
    assert train(tmp_path) == 0
    best = saved(tmp_path, "best.pt")
    assert (best["step"], best["best"], best["stage"]) == (12, 0.3, "diffusion")
    assert digest(best["ema"]) == seen[3] and saved(tmp_path)["best_step"] == 12


@pytest.mark.parametrize("steps", [3, 9])
def test_a_typed_decay_wins_over_that_of_the_run(tmp_path: Path, monkeypatch: Patch,
                                                 steps: int) -> None:
    cut_after(steps, tmp_path)
    made = []
    monkeypatch.setattr(training, "train", lambda run, _: made.append(run))
    assert resume(tmp_path, "--weight-decay", 0.5) == 0
    assert [group["weight_decay"] for group in made[0].optimizer.param_groups] == [0.5, 0.0]


def test_a_new_run_leaves_no_pictures_of_an_old_one(straight: Path, tmp_path: Path) -> None:
    (tmp_path / "progress").mkdir()
    (tmp_path / "progress" / "step_999999.png").write_bytes(b"old")
    assert train(tmp_path) == 0
    names = [sorted(path.name for path in (out / "progress").iterdir())
             for out in (straight, tmp_path)]
    assert names[0] == names[1] and "step_000013.png" in names[0]


def test_the_largest_seed_is_a_seed() -> None:
    largest = 2**32 - 1
    assert batches.chosen(10, 4, largest, 3).shape == (4,)
    drawn = [torch.rand(3, generator=batches.generator_of(largest, step)) for step in (1, 2)]
    assert not torch.equal(*drawn)
