"""Training the encoder on few texts: the paper's rate, resuming to the bit, honest numbers."""

import csv
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from support import ROOT, load

transformer = load("transformer_from_scratch")
ablation, checkpoint = transformer.ablation, transformer.checkpoint
options, digest = transformer.options, checkpoint.digest
rule, training, Part = transformer.optimization, transformer.train, transformer.data.Part
Data, Patch, Said = transformer.data.Data, pytest.MonkeyPatch, pytest.CaptureFixture
FOLDER, LOAD, REPORT = "transformer_from_scratch", training.load, training.report
EPOCHS, PER_EPOCH, STEPS = 4, 4, 16      # three whole batches, and a rest of two
FLAGS = ("--data", "hard", "--channels", 8, "--heads", 2, "--layers", 1, "--hidden", 12,
         "--batch-size", 16, "--epochs", EPOCHS, "--dropout", 0.2, "--hide", 0.2,
         "--warm-up", 5, "--lr", 0.02, "--patience", 40)


def texts(count: int, seed: int, *more: str) -> Part:    # one word tells the class
    rng, rows = random.Random(seed), []
    for number in range(count):
        words = rng.choices("the of and or not he she it we they".split(), k=rng.randint(1, 9))
        words += [("sea", "hill", "wood")[number % 3], *more]
        rows.append(" ".join(rng.sample(words, len(words))))
    return Part(rows, torch.arange(count) % 3)


@pytest.fixture(scope="module", autouse=True)
def few() -> Iterator[Data]:
    """Every run in this process trains on few texts and reports nothing."""
    torch.set_num_threads(1)
    data = Data("few", ["sea", "hill", "wood"], texts(50, 1), texts(30, 2, "unheard"),
                texts(40, 3, "unheard"), "digest of few")
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
    return {path.name: path.read_bytes() for path in out.iterdir()}


def assert_same_run(left: Path, right: Path) -> None:
    for name in ("checkpoint.pt", "best.pt"):
        one, two = saved(left, name), saved(right, name)
        for part in ("model", "ema", "optimizer", "config", "rng", "data",
                     *training.Run.PROGRESS):
            same = digest(one[part]) == digest(two[part])
            assert same or part == "seconds", part
    assert rows(left) == rows(right)


def cut_after(steps: int, out: Path, *flags: object, go: Callable = train) -> None:
    """Trains (or whatever `go` does) until a signal comes in the midst of a step."""
    number, hide, calls = (signal.SIGINT, signal.SIGTERM)[steps % 2], training.hide, []

    def interrupted(*given: object) -> Tensor:
        calls.append(1)
        if len(calls) == steps:
            os.kill(os.getpid(), number)
        return hide(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "hide", interrupted)
        assert go(out, *flags) == 128 + number and len(calls) == steps


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("straight")
    assert train(out) == 0
    return out


def test_the_rate_is_the_papers_and_highest_after_the_warm_up() -> None:
    for channels, warm_up in ((512, 4000), (64, 200), (7, 1)):
        highest = rule.highest_rate(channels, warm_up)
        found = [highest * rule.rate_share(step, warm_up) for step in range(1, 5001)]
        assert found == pytest.approx([channels**-0.5 * min(step**-0.5, step * warm_up**-1.5)
                                       for step in range(1, 5001)], rel=1e-12)
        assert found.index(max(found)) + 1 == warm_up and max(found) == pytest.approx(highest)


def test_averaged_weights_answer_and_follow_the_trained_ones_over_some_200_steps(
        straight: Path, monkeypatch: Patch, tmp_path: Path) -> None:
    """A loop over all weights that training had, from before the first step on."""
    had, follow = [], rule.follow
    monkeypatch.setattr(rule, "follow", lambda average, model, step: (
        had.append({name: p.clone() for name, p in model.named_parameters()}),
        follow(average, model, step)))
    assert train(tmp_path) == 0 and len(had) == STEPS
    last, mean = saved(tmp_path), had[0]
    for step, weights in enumerate(had[1:], start=2):
        mean = {name: p + 10 / (9 + step) * (weights[name] - p) for name, p in mean.items()}
    for name, p in mean.items():
        assert torch.allclose(last["ema"][name], p, atol=1e-6)
        assert not torch.equal(last["model"][name], p)
    one, many = nn.Linear(2, 2), nn.Linear(2, 2)
    before, target = one.weight.clone(), many.weight.clone()
    follow(one, many, 10_000)
    assert torch.allclose(one.weight, before + 0.005 * (target - before))
    net, config = checkpoint.open_model(straight / "best.pt", FOLDER, transformer.model.build,
                                        torch.device("cpu"))
    assert digest(net.state_dict()) == digest(saved(straight, "best.pt")["ema"])


def test_adam_is_the_papers_and_only_matrices_decay() -> None:
    net = transformer.model.TransformerClassifier(9, 3, 8, 2, 1, 12, norm="pre")
    made = rule.make_optimizer(net, 0.3)
    found = {id(p): group for group in made.param_groups for p in group["params"]}
    for name, p in net.named_parameters():
        group, flat = found.pop(id(p)), name.endswith("bias") or "norm" in name
        assert (group["betas"], group["eps"]) == ((0.9, 0.98), 1e-9)
        assert group["weight_decay"] == (0 if flat else 0.3), name
    assert not found and isinstance(made, torch.optim.AdamW)


def test_what_the_flags_leave_open_follows_from_the_data() -> None:
    args, own, quick = chosen(), chosen("--data", "my.csv"), chosen("--quick")
    for found, recipe in ((args, options.RECIPES["drawn"]), (own, options.RECIPES["own"])):
        assert {name: getattr(found, name) for name in recipe} == recipe
        assert (found.norm, found.activation, found.positions) == ("post", "relu", True)
        assert (found.smoothing, found.weight_decay, found.longest) == (0.1, 0, 128)
    assert args.lr == pytest.approx((args.channels * args.warm_up) ** -0.5) and args.seed == 0
    assert (quick.epochs, quick.warm_up) == (2, 10)
    typed = {"epochs": 7, "lr": 0.5, "channels": 12, "heads": 3, "dropout": 0.0, "hide": 0.0}
    for more in ((), ("--quick",), ("--data", "my.csv")):
        found = chosen(*more, *(f"--{name}={value}" for name, value in typed.items()))
        assert typed.items() <= vars(found).items()


def test_one_seed_gives_equal_bits_and_another_others(straight: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    assert train(tmp_path / "same") == 0
    assert_same_run(straight, tmp_path / "same")
    assert train(tmp_path / "other", "--seed", 1) == 0
    for mine, other in zip(rows(straight), rows(tmp_path / "other"), strict=True):
        assert mine["train_loss"] != other["train_loss"]
        rate = 0.02 * min(int(mine["step"]) / 5, (5 / int(mine["step"])) ** 0.5)
        assert float(mine["lr"]) == pytest.approx(rate)


@pytest.mark.parametrize("cut", [1, PER_EPOCH + 2, 2 * PER_EPOCH, STEPS - 1, STEPS])
def test_a_run_cut_anywhere_and_resumed_is_the_uninterrupted_run(
        cut: int, straight: Path, tmp_path: Path, capsys: Said) -> None:
    cut_after(cut, tmp_path)
    assert saved(tmp_path)["step"] == cut and resume(tmp_path) == 0
    assert_same_run(straight, tmp_path)
    before = files(tmp_path)
    assert resume(tmp_path) == 0 and files(tmp_path) == before
    assert f"the run is finished, at epoch {EPOCHS}" in capsys.readouterr().err


def test_a_resumed_run_keeps_what_its_steps_depend_on(straight: Path, capsys: Said) -> None:
    others = ("data=topics batch-size=8 seed=5 quick out-dir=elsewhere least=3 warm-up=9 "
              "channels=32 heads=4 layers=3 hidden=5 dropout=0.5 longest=9 norm=pre "
              "activation=gelu embedding-std=0.3 no-positions").split()
    before, path = files(straight), str(straight / "checkpoint.pt")
    for flag in others:
        assert training.main(["--resume", path, f"--{flag}"]) == 1
        name = flag.removeprefix("no-").split("=")[0].replace("-", " ")
        assert f"error: a resumed run keeps its {name} (" in capsys.readouterr().err
    assert len(others) == len(options.FIXED)
    assert files(straight) == before


def test_some_truth_is_spread_and_some_words_are_hidden(few: Data, tmp_path: Path) -> None:
    assert train(tmp_path, "--dropout", 0, "--epochs", 1, "--seed", 3, "--smoothing", 0.3,
                 "--batch-size", 50) == 0
    config = saved(tmp_path)["config"]
    assert set(config["vocabulary"]) == {"<pad>", "<unk>", *" ".join(few.train.texts).split()}
    tokens = transformer.tokenizer.pad([[*map(config["vocabulary"].index, text.split())]
                                        for text in few.train.texts], 128)
    order = torch.cat(transformer.batches.batches_of((tokens > 0).sum(1), 50, 3, 0))
    hidden = transformer.batches.hide(tokens[order], 0.2, 3, 0)
    torch.manual_seed(3)
    logits = transformer.model.build(config)(hidden)
    truth = 0.7 * F.one_hot(few.train.labels[order], 3) + 0.3 / 3
    loss = -(truth * logits.log_softmax(1)).sum(1).mean().item()
    assert float(rows(tmp_path)[0]["train_loss"]) == pytest.approx(loss, rel=1e-5)


def test_training_ends_after_the_patience_and_the_loss_decides_between_equals(
        tmp_path: Path, monkeypatch: Patch) -> None:
    seen, said = [], [(1, 0.5), (0, 0.4), (1, 0.6), (1, 0.6), (0.9, 0.6), (0.9, 0.6), (0, 0)]
    monkeypatch.setattr(training, "evaluate", lambda model, _: seen.append(
        digest(model.state_dict())) or (*said[len(seen) - 1], None))
    assert train(tmp_path, "--epochs", 20, "--patience", 2) == 0 and len(seen) == 7
    best, last = saved(tmp_path, "best.pt"), saved(tmp_path)
    assert (best["epoch"], best["best"], last["best_epoch"]) == (5, (-0.6, 0.9), 5)
    assert [digest(one["ema"]) for one in (best, last)] == [seen[4], seen[6]]


@pytest.mark.parametrize("linear", [30, 31])
def test_the_report_tests_the_best_weights_once_and_says_when_a_linear_model_is_better(
        linear: int, few: Data, tmp_path: Path, monkeypatch: Patch, capsys: Said) -> None:
    seen, tests, rights, labels = [], [], [0.5, 0.8, 0.7, 0.6, 0], few.test.labels

    def answers(right: int) -> Tensor:
        return torch.where(torch.arange(40) < right, labels, (labels + 1) % 3)

    def evaluate(model: nn.Module, inputs: object) -> tuple[float, float, Tensor]:
        (tests if len(inputs.labels) == 40 else seen).append(digest(model.state_dict()))
        return 1.0, rights[len(seen) - 1], F.one_hot(answers(30)).float()

    monkeypatch.setattr(training, "report", REPORT)
    monkeypatch.setattr(training, "evaluate", evaluate)
    monkeypatch.setattr(transformer.measures, "linear_answers",
                        lambda _: {"one": answers(20), "two": answers(linear)})
    assert train(tmp_path) == 0 and tests == [seen[1]]
    said = capsys.readouterr().out.splitlines()[3 + EPOCHS :]
    ours, peers = "75.00% (95 % interval 59.8% to 85.8%)", (
        "50.00% (95 % interval 35.2% to 64.8%)", f"{linear / 40:.2%} (95 % interval ")
    assert said[0] == f"test accuracy {ours} on 40 texts, with the weights of epoch 2"
    assert said[1].endswith(f"one: {peers[0]}") and f"two: {peers[1]}" in said[2]
    assert (said[3] == "a linear model is right on 1 texts more") == (linear > 30)
    assert sorted(files(tmp_path)) == said[-2].removeprefix("wrote ").split(", ")


def test_shuffled_labels_can_be_learned_by_heart_but_not_generalised(
        few: Data, tmp_path: Path, monkeypatch: Patch) -> None:
    part, runs = texts(120, 6), []
    senseless = Part(part.texts, torch.arange(120) // 3 % 3)     # as often with each word
    one = Part(part.texts[:16], senseless.labels[:16])
    monkeypatch.setattr(training, "report", lambda run, _: runs.append(run))
    for given, epochs in ((part, 12), (senseless, 12), (one, 99)):
        data = few._replace(train=given, test=texts(150, 7))
        monkeypatch.setattr(training, "load", lambda *_, data=data: data)
        assert train(tmp_path, "--epochs", epochs, "--patience", epochs, "--dropout", 0,
                     "--hide", 0, "--smoothing", 0) == 0
        training.restore_best(runs[-1])
    true, shuffled = (training.evaluate(run.average, run.test)[1] for run in runs[:2])
    assert true > 0.95 and abs(shuffled - 1 / 3) < 0.12
    assert float(rows(tmp_path)[-1]["train_loss"]) < 0.02


def test_what_is_impossible_is_refused_before_any_work(
        straight: Path, few: Data, tmp_path: Path, monkeypatch: Patch, capsys: Said) -> None:
    monkeypatch.setattr(training, "load", LOAD)
    foreign, before = ROOT / "lenet_from_scratch" / "pretrained.pt", files(straight)
    for flag in ("epochs=0 lr=-1 lr=nan dropout=1 smoothing=1 hide=1 layers=0 warm-up=0 "
                 "norm=none seed=-1 epoch=3 longest=0 patience=0").split():
        with pytest.raises(SystemExit, match="2"):
            train(straight, f"--{flag}")
    capsys.readouterr()
    (tmp_path / "one.csv").write_text("".join(f"a,text {n}\n" for n in range(50)))
    for flags, words in ((("--heads", 3), "8 channels cannot be shared among 3 heads: choose"),
                         (("--data", tmp_path / "none.csv"), "is neither a data set nor a"),
                         (("--data", tmp_path / "one.csv"), "one.csv has one class, a: two "),
                         (("--resume", foreign), f"{foreign} was made by lenet_from_scratch")):
        assert train(straight, *flags) == 1
        said = capsys.readouterr().err
        assert said.startswith("error: ") and words in said and said.count("\n") == 1
    monkeypatch.setattr(training, "load", lambda *_: few._replace(digest="other"))
    assert resume(straight) == 1 and files(straight) == before
    assert "few is not what it was when the run began" in capsys.readouterr().err


@pytest.fixture
def tried(few: Data, monkeypatch: Patch) -> list[dict]:
    """Pretends that the attempts of the table reach 50 %, 51 %, ..; notes their options."""
    seen = []
    monkeypatch.setattr(ablation, "load", lambda *_: few)
    monkeypatch.setattr(ablation, "attempt", lambda args, *_: seen.append(vars(args)) or (
        SimpleNamespace(average=0.49 + len(seen) / 100, test=None)))
    monkeypatch.setattr(ablation, "evaluate", lambda model, _: (0.0, model, None))
    return seen


def test_each_row_of_the_table_is_trained_with_its_own_flags(
        tried: list[dict], monkeypatch: Patch, capsys: Said) -> None:
    monkeypatch.setattr(transformer.measures, "linear_answers", lambda data: {
        "a machine": torch.where(torch.arange(40) < 9, data.test.labels, 7)})
    assert ablation.main(["--seeds", "3", "7", "--epochs", "6"]) == 0
    changes = [{}, {"positions": False}, {"warm_up": 1, "lr": 0.125}, {"smoothing": 0},
               {"hide": 0}, {"norm": "pre"}, {"activation": "gelu"}]
    plain = vars(chosen("--data", "hard", "--epochs", 6))
    assert tried == [plain | change | {"seed": seed} for change in changes for seed in (3, 7)]
    assert capsys.readouterr().out.splitlines() == [
        "| without | test accuracy (%), each seed | mean | standard deviation |",
        "|---|---|---|---|",
        *(f"| {name} | {50 + 2 * i:.1f}, {51 + 2 * i:.1f} | {50.5 + 2 * i:.1f} | 0.7 |"
          for i, name in enumerate(ablation.WITHOUT)),
        "| a machine on one to three words in a row | 22.5 | 22.5 | - |"]


def test_sizes_are_drawn(tried: list[dict], tmp_path: Path, monkeypatch: Patch) -> None:
    drawn, sizes = [], [(layers, heads) for layers in (1, 2, 3) for heads in (1, 4)]
    monkeypatch.setattr(transformer.pictures, "draw_sizes", lambda *given: drawn.append(given))
    assert ablation.main(["--sizes", "--seeds", "0", "1", "--out", str(tmp_path)]) == 0
    assert [(args["layers"], args["heads"]) for args in tried[::2]] == sizes
    table = {size: pytest.approx([50 + 2 * i, 51 + 2 * i]) for i, size in enumerate(sizes)}
    assert drawn == [(table, tmp_path / "sizes.png")]


def test_a_table_that_is_stopped_ends_at_the_row_at_hand(
        few: Data, monkeypatch: Patch, capsys: Said) -> None:
    monkeypatch.setattr(ablation, "load", lambda *_: few)
    for steps in (3, 4):                     # a signal of either kind, in the second row
        cut_after(steps, Path(), go=lambda *_: ablation.main(["--quick"]))
        assert len(capsys.readouterr().out.splitlines()) == 3
