"""Training the autoencoder on few creatures: prices, resuming to the bit, honest numbers."""

import csv
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from support import ROOT, load

vae = load("vae_from_scratch")
checkpoint, options, training = vae.checkpoint, vae.options, vae.train
rule, Data, digest = vae.optimization, vae.data.Data, vae.checkpoint.digest
Patch, Said = pytest.MonkeyPatch, pytest.CaptureFixture
FOLDER, LOAD, REPORT = "vae_from_scratch", training.load, training.report
EPOCHS, PER_EPOCH, STEPS = 4, 4, 16      # three whole batches, and a rest
FLAGS = ("--width", 4, "--latents", 6, "--batch-size", 16, "--epochs", EPOCHS, "--lr", 0.01,
         "--beta-warm-up", 6, "--log-every", 4, "--beta", 1)


@pytest.fixture(scope="module", autouse=True)
def few() -> Iterator[Data]:
    """Every run in this process trains on few creatures and reports nothing."""
    torch.set_num_threads(1)
    data = vae.data.load("creatures", Path("nowhere"), counts=(56, 20, 20))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "load", lambda *_: data)
        patch.setattr(training, "report", lambda *_: None)
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
        for part in ("model", "optimizer", "config", "rng", "data", *training.Run.PROGRESS):
            same = digest(one[part]) == digest(two[part])
            assert same or part == "seconds", part
    assert rows(left) == rows(right)


def cut_after(steps: int, out: Path) -> None:
    """Trains until a signal comes in the midst of a step."""
    number, take, calls = (signal.SIGINT, signal.SIGTERM)[steps % 2], training.Run.take, []

    def interrupted(*given: object) -> torch.Tensor:
        calls.append(1)
        if len(calls) == steps:
            os.kill(os.getpid(), number)
        return take(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.Run, "take", interrupted)
        assert train(out) == 128 + number and len(calls) == steps


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("straight")
    assert train(out) == 0
    return out


# ---------------------------------------------------------------- prices and rates


def test_the_price_of_the_kl_rises_in_a_line_and_stays() -> None:
    assert [rule.beta(step, 4, 2.0) for step in range(1, 8)] == [0.5, 1, 1.5, 2, 2, 2, 2]
    assert rule.beta(1, 0, 0.3) == 0.3 == rule.beta(1, 1, 0.3)


def test_the_rate_rises_for_a_while_and_falls_like_a_cosine() -> None:
    found = [rule.rate_share(step, 2_000) for step in range(1, 2_001)]
    assert found[49] == pytest.approx(0.5, rel=0.01) and max(found) == found[99]
    assert found[999] == pytest.approx(0.5) and found[-1] == 0.01
    assert all(one >= two for one, two in zip(found[99:], found[100:]))
    assert max(rule.rate_share(step, 10) for step in range(1, 11)) > 0.8    # a short run, too


def test_what_the_flags_leave_open_follows_from_the_data() -> None:
    for flags, recipe in (((), "creatures"), (("--data", "mnist"), "mnist"),
                          (("--data", "pokemon"), "own"), (("--data", "my/folder"), "own")):
        found, wanted = vars(chosen(*flags)), options.RECIPES[recipe]
        assert {name: found[name] for name in wanted} == wanted
        assert (found["free_nats"], found["seed"]) == (0, 0)
    old = chosen("--data", "mnist", "--network", "mlp", "--no-binarise", "--latents", 20)
    assert (old.width, old.activation, old.binarise, old.latents) == (400, "relu", False, 20)
    assert chosen("--data", "mnist").image_size == 28 and chosen().image_size == 32
    assert chosen("--data", "x", "--image-size", 48).image_size == 48
    assert chosen("--quick").epochs == 2 and chosen("--quick", "--epochs", 5).epochs == 5


def test_logged_terms_are_those_of_the_bound_and_the_rate_is_the_rule(straight: Path,
                                                                      few: Data) -> None:
    table = rows(straight)
    assert [int(row["step"]) for row in table] == [4, 8, 12, 16]
    for row in table:
        step = int(row["step"])
        assert float(row["beta"]) == min(1, step / 6)
        assert float(row["lr"]) == pytest.approx(0.01 * rule.rate_share(step, STEPS))
    contents = saved(straight)
    model = vae.model.build(contents["config"])
    model.load_state_dict(contents["model"])
    x = vae.data.to_input(few.validation.images)
    terms = model.elbo(x, torch.Generator().manual_seed(0))
    last = {key: float(value) for key, value in table[-1].items() if value}
    assert last["validation_reconstruction"] == pytest.approx(
        terms.reconstruction.mean().item(), rel=1e-4)
    assert last["validation_kl"] == pytest.approx(terms.kl.sum(1).mean().item(), rel=1e-4)
    assert last["sigma"] == pytest.approx(model.variance.sqrt().item())
    means = model.encode(x)[0]
    assert last["active_units"] == (means.var(0, unbiased=False) > 0.01).sum()


def test_the_loss_that_is_minimised_has_the_price_and_the_free_nats_of_its_step(
        tmp_path: Path, monkeypatch: Patch) -> None:
    seen, loss = [], vae.distributions.Elbo.loss
    monkeypatch.setattr(vae.distributions.Elbo, "loss", lambda self, beta, free: seen.append(
        (beta, free)) or loss(self, beta, free))
    assert train(tmp_path, "--beta", 3, "--free-nats", 0.25, "--epochs", 2) == 0
    assert seen == [(3 * min(1, step / 6), 0.25) for step in range(1, 9)]


def test_the_best_weights_are_those_of_the_lowest_objective_at_its_full_price(
        tmp_path: Path, monkeypatch: Patch) -> None:
    given = [(100, 1), (90, 20), (97, 1), (80, 10)]
    seen, Found = [], vae.evaluation.Found

    def evaluate(model: torch.nn.Module, _: object) -> Found:
        seen.append(digest(model.state_dict()))
        reconstruction, kl = given[len(seen) - 1]
        return Found(reconstruction, kl, torch.full((6,), kl / 6), 0, 0.0)

    monkeypatch.setattr(training, "evaluate", evaluate)
    assert train(tmp_path, "--beta", 2) == 0
    best = saved(tmp_path, "best.pt")
    assert (best["epoch"], best["best"]) == (3, 99) and digest(best["model"]) == seen[2]


# ---------------------------------------------------------------- runs that stop and go on


def test_every_epoch_has_an_order_of_its_own(straight: Path) -> None:
    args = SimpleNamespace(seed=2, batch_size=16)
    run = SimpleNamespace(images=range(50), epoch=0, args=args)
    orders = []
    for run.epoch in (0, 1):
        batches = training.Run.batches(run)
        assert [len(batch) for batch in batches] == [16, 16, 16, 2]
        orders.append(torch.cat(batches).tolist())
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(50))
    assert orders[0] != orders[1] and list(range(50)) not in orders


def test_free_nats_are_free_where_the_best_weights_are_chosen(
        tmp_path: Path, monkeypatch: Patch) -> None:
    given, Found = [(10.0, 0.0), (9.5, 0.5)], vae.evaluation.Found    # KL of each of six

    def evaluate(*_: object) -> Found:
        reconstruction, kl = given.pop(0)
        return Found(reconstruction, 6 * kl, torch.full((6,), kl), 0, 0.0)

    monkeypatch.setattr(training, "evaluate", evaluate)
    assert train(tmp_path, "--beta", 2, "--free-nats", 0.5, "--epochs", 2) == 0
    assert saved(tmp_path, "best.pt")["epoch"] == 2


def test_one_seed_gives_equal_bits_and_another_others(straight: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    assert train(tmp_path / "same") == 0
    assert_same_run(straight, tmp_path / "same")
    assert train(tmp_path / "other", "--seed", 1) == 0
    for mine, other in zip(rows(straight), rows(tmp_path / "other"), strict=True):
        assert mine["train_reconstruction"] != other["train_reconstruction"]


@pytest.mark.parametrize("cut", [1, PER_EPOCH + 2, 2 * PER_EPOCH, STEPS])
def test_a_run_cut_anywhere_and_resumed_is_the_uninterrupted_run(
        cut: int, straight: Path, tmp_path: Path, capsys: Said) -> None:
    cut_after(cut, tmp_path)
    assert saved(tmp_path)["step"] == cut and resume(tmp_path) == 0
    assert_same_run(straight, tmp_path)
    before = files(tmp_path)
    assert resume(tmp_path) == 0 and files(tmp_path) == before
    assert f"the run is finished, at epoch {EPOCHS}" in capsys.readouterr().err


def test_a_resumed_run_keeps_what_its_steps_depend_on(straight: Path, capsys: Said) -> None:
    others = ("data=mnist batch-size=8 seed=5 quick out-dir=elsewhere image-size=9 binarise "
              "latents=3 network=mlp width=9 activation=tanh likelihood=bernoulli "
              "beta=3 free-nats=1").split()
    before, path = files(straight), str(straight / "checkpoint.pt")
    for flag in others:
        assert training.main(["--resume", path, f"--{flag}"]) == 1
        name = flag.split("=")[0].replace("-", " ")
        assert f"error: a resumed run keeps its {name} (" in capsys.readouterr().err
    assert len(others) == len(options.FIXED)
    assert files(straight) == before


def test_other_pictures_end_a_resumed_run(straight: Path, few: Data, monkeypatch: Patch,
                                          capsys: Said) -> None:
    monkeypatch.setattr(training, "load", lambda *_: few.shortened((55, 20, 20)))
    before = files(straight)
    assert resume(straight) == 1 and files(straight) == before
    assert "creatures is not what it was when the run began" in capsys.readouterr().err


def test_what_is_impossible_is_refused_before_any_work(
        straight: Path, tmp_path: Path, monkeypatch: Patch, capsys: Said) -> None:
    monkeypatch.setattr(training, "load", LOAD)
    before = files(straight)
    for flag in ("epochs=0 lr=-1 latents=0 width=0 beta=0 beta=-1 beta=nan free-nats=-1 beta-"
                 "warm-up=-1 network=gan likelihood=none image-size=0 activation=no").split():
        with pytest.raises(SystemExit, match="2"):
            train(straight, f"--{flag}")
    capsys.readouterr()
    foreign = ROOT / "lenet_from_scratch" / "pretrained.pt"
    for flags, words in ((("--binarise",), "black and white pixels have no noise to measure"),
                         (("--image-size", 48), "creatures has pictures of 32 pixels: leave"),
                         (("--data", tmp_path / "no"), "is neither a data set nor a folder"),
                         (("--resume", foreign), "was made by lenet_from_scratch")):
        assert train(straight, *flags) == 1
        assert words in capsys.readouterr().err
    assert files(straight) == before


# ---------------------------------------------------------------- what a run says


def test_the_report_tests_the_best_weights_once_and_says_what_pca_can_do(
        few: Data, tmp_path: Path, monkeypatch: Patch, capsys: Said) -> None:
    monkeypatch.setattr(training, "report", REPORT)
    assert train(tmp_path) == 0
    best = saved(tmp_path, "best.pt")
    model = vae.model.build(best["config"])
    model.load_state_dict(best["model"])
    x = vae.data.to_input(few.test.images)
    found = vae.evaluation.evaluate(model, x)
    lines = capsys.readouterr().out.splitlines()
    said = "\n".join(lines)
    assert f"test: -ELBO {found.cost:.2f} nats an image (reconstruction " in said
    assert f"weights of epoch {best['epoch']}" in said and f"PSNR {found.psnr:.2f} dB" in said
    linear = vae.measures.pca_psnr(vae.data.to_input(few.train.images), x, 6)
    assert f"PCA with 6 components {linear:.2f} dB" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == lines[-2].removeprefix(
        "wrote ").split(", ")
    assert [path.name for path in (tmp_path / "progress").iterdir()] == ["epoch_0004.png"]


def test_binary_pixels_are_drawn_anew_in_every_step(tmp_path: Path,
                                                    monkeypatch: Patch) -> None:
    seen, seeds, elbo = [], [], vae.model.VAE.elbo
    monkeypatch.setattr(training, "binarised", lambda x, seed: seeds.append(
        seed) or vae.data.binarised(x, seed))
    monkeypatch.setattr(vae.model.VAE, "elbo", lambda self, x, *given, **how: seen.append(
        x) or elbo(self, x, *given, **how))
    assert train(tmp_path, "--binarise", "--likelihood", "bernoulli", "--batch-size", 56,
                 "--epochs", 2, "--seed", 3) == 0
    trained, validated = seen[::2], seen[1::2]
    assert all(set(x.unique().tolist()) == {0, 1} for x in seen)
    means = [x.mean((0, 2, 3)) for x in trained]
    assert torch.allclose(*means, atol=0.01) and torch.equal(*validated)
    assert seeds == [3 * training.SEEDS, 3 * training.SEEDS + 1]


def test_sigma_shrinks_and_the_bound_rises_in_longer_training(tmp_path: Path) -> None:
    assert train(tmp_path, "--epochs", 40, "--width", 8) == 0
    table = [{key: float(value) for key, value in row.items() if value}
             for row in rows(tmp_path)]
    costs = [row["validation_reconstruction"] + row["validation_kl"] for row in table]
    assert costs[-1] < costs[4] - 300 and table[-1]["sigma"] < 0.25
    assert table[-1]["active_units"] >= 4
