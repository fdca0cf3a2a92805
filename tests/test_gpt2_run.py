"""What a run of GPT-2 measures, keeps, says and refuses; and how it begins elsewhere."""

import math
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from gpt2_runs import (
    CONTEXT,
    EVERY,
    FLAGS,
    assert_close_weights,
    cut_after,
    files,
    gpt2,
    resume,
    rows,
    saved,
    short_text,
    text,
    train,
)
from support import ROOT

measures, training, digest = gpt2.measures, gpt2.train, gpt2.checkpoint.digest
LOAD, REPORT = training.load, training.report
Patch, Said = pytest.MonkeyPatch, pytest.CaptureFixture


@pytest.fixture(scope="module", autouse=True)
def few() -> Iterator[object]:
    """A short text for every run."""
    with short_text() as data:
        yield data


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("straight")
    assert train(out) == 0
    return out


# ---------------------------------------------------------------- what is measured


@pytest.mark.parametrize("count", [41, 42, 4])     # whole windows, a rest of one, one window
def test_every_token_of_the_validation_part_is_scored_once(
        count: int, monkeypatch: Patch) -> None:
    """By the model alone, in windows of ten, three at a time; nothing is drawn."""
    monkeypatch.setattr(measures, "AT_ONCE", 35)
    torch.manual_seed(0)
    net = gpt2.model.GPT(20, 10, 1, 2, 8, dropout=0.5).train()
    nn.init.normal_(net.embed.weight)
    tokens, state = torch.randint(20, (count,)), torch.get_rng_state()
    found = measures.evaluate(net, tokens.numpy(), 10, characters=77)
    assert net.training and torch.equal(torch.get_rng_state(), state)
    nats, net = 0.0, net.eval()
    for place in range(1, count):
        begin = (place - 1) // 10 * 10
        nats -= net(tokens[None, begin:place])[0, -1].log_softmax(0)[tokens[place]].item()
    assert found.token == pytest.approx(nats / (count - 1), rel=1e-5)
    assert found.character == pytest.approx(nats / 77, rel=1e-5)
    assert found.bits == pytest.approx(nats / 77 / math.log(2), rel=1e-5)


def test_all_characters_count_and_the_first_token_has_one_before_it(
        few: object, straight: Path) -> None:
    seen, config = np.load(straight / "validation.npy"), saved(straight)["config"]
    tokenizer = gpt2.tokenizer.Tokenizer.from_state(config["tokenizer"])
    known = np.load(straight / "training.npy").tolist()
    assert known == tokenizer.encode(few[1])
    assert seen.tolist() == known[-1:] + tokenizer.encode(few[2])
    for row in rows(straight):
        nats = float(row["validation_loss"]) * (len(seen) - 1)
        assert float(row["nats_per_character"]) == pytest.approx(nats / len(few[2]))
        assert float(row["bits_per_character"]) == pytest.approx(
            nats / len(few[2]) / math.log(2))


def test_training_ends_after_the_patience_and_the_best_weights_are_kept(
        tmp_path: Path, monkeypatch: Patch, capsys: Said) -> None:
    seen, said = [], [3.0, 2.0, 2.5, 2.0, 1.9, 1.95, 1.9, 2.0]
    monkeypatch.setattr(measures, "evaluate", lambda model, *_: seen.append(
        digest(model.state_dict())) or measures.Loss(said[len(seen) - 1], 9.0))
    assert train(tmp_path, "--log-every", 1, "--patience", 2, "--steps", 50) == 0
    assert len(seen) == 4                   # 2.0 once more is no progress
    best, last = saved(tmp_path, "best.pt"), saved(tmp_path)
    assert (best["step"], best["best"], last["best_step"], last["stale"]) == (2, 2.0, 2, 2)
    assert [digest(one["model"]) for one in (best, last)] == [seen[1], seen[3]]
    assert "nothing was better since step 2: stopped early" in capsys.readouterr().err
    assert resume(tmp_path, "--patience", 3) == 0 and len(seen) == 8     # 1.9 and three more


@pytest.mark.parametrize(("nats", "words"), [
    (0.9, "counting is better: 3-gram"), (1.1, "counting is better: 2-gram, 3-gram"),
    (0.4, "no counting is as good")])
def test_the_report_judges_the_best_weights_beside_counting(
        nats: float, words: str, tmp_path: Path, monkeypatch: Patch, capsys: Said) -> None:
    seen, losses = [], [2.0, 1.0, 3.0, 4.0, 1.0]
    monkeypatch.setattr(training, "report", REPORT)
    monkeypatch.setattr(measures, "evaluate", lambda model, *_: seen.append(
        digest(model.state_dict())) or measures.Loss(losses[len(seen) - 1], nats))
    assert train(tmp_path) == 0 and len(seen) == 5 and seen[4] == seen[1]
    said = capsys.readouterr().out.splitlines()
    assert said[1] == "nats a character by counting: 2-gram 1.000, 3-gram 0.500"
    assert said[-4] == (f"validation: 1.0000 nats a token, {nats:.4f} nats or "
                        f"{nats / math.log(2):.4f} bits a character, with the weights of "
                        "step 10")
    assert said[-3] == words
    assert sorted(files(tmp_path)) == said[-2].removeprefix("wrote ").split(", ")
    assert said[-1].endswith(' --prompt "YOUR TEXT"')


def test_a_line_of_the_table_is_followed_by_what_the_model_writes(
        tmp_path: Path, monkeypatch: Patch, capsys: Said) -> None:
    asked = []
    monkeypatch.setattr(gpt2.run.Reader, "write", lambda *given: asked.append(
        (*given[1:], given[0].model.training)) or (
        [piece] for piece in ("\n\nto ", "be\n", "or\x1b", "not\n")))
    monkeypatch.setattr(measures, "possible", lambda *_: 1e3)
    assert train(tmp_path, "--steps", 5, "--seed", 2) == 0
    *_, line, first, second = capsys.readouterr().out.splitlines()
    assert line.split()[:2] == ["5", "0.0e+00"] and line.endswith(" s")
    assert [first, second] == ["        | to be", "        | or\ufffdnot"]
    (prompts, count, sampling, seed, dropping), = asked
    assert (prompts, count, sampling.temperature, seed) == (["\n"], 60, 0.8, 2_000_011)
    assert not dropping
    row, config = rows(tmp_path)[0], saved(tmp_path)["config"]
    assert f"{float(row['train_loss']):.4f}" == line.split()[2]
    speed, used = (float(line.split()[i].strip("/s%").replace(",", "")) for i in (6, 7))
    operations = 6 * (12 * 8 * 8 + config["vocabulary"] * 8) + 12 * CONTEXT * 8
    assert used == pytest.approx(100 * speed * operations / 1e3, rel=0.01)


def test_what_is_possible_is_a_product_of_matrices(monkeypatch: Patch) -> None:
    monkeypatch.setattr(measures, "SIDES", {"cpu": 100})
    times = iter((0, 4, 10, 12, 20, 25, 30, 35, 40, 45))
    monkeypatch.setattr(measures.time, "perf_counter", lambda: next(times))
    assert measures.possible(torch.device("cpu"), "fp32") == 2 * 100**3 / 2


def test_shuffled_letters_can_be_learned_by_heart_but_not_foreseen(
        few: object, tmp_path: Path, monkeypatch: Patch) -> None:
    letters = list(text(400, 7))
    random.Random(0).shuffle(letters)
    senseless, found = "".join(letters), []
    for name, parts in (("sense", (few[1], few[2])), ("heart", (senseless[:25], few[2])),
                        ("none", (senseless, senseless[-300:][::-1]))):
        data = gpt2.data.Data(name, *parts, name)
        monkeypatch.setattr(training, "load", lambda *_, data=data: data)
        assert train(tmp_path / name, "--dropout", 0, "--steps", 250, "--log-every", 50,
                     "--lr", 0.01, "--channels", 32, "--vocabulary", 256) == 0
        found.append({key: float(value) for key, value in rows(tmp_path / name)[-1].items()
                      if value})
    counts = np.bincount(list(senseless.encode()))
    shares = counts[counts > 0] / counts.sum()
    entropy = -(shares * np.log(shares)).sum()       # nothing but the letters' frequencies
    assert found[0]["validation_loss"] < 0.5 < 0.95 * entropy < found[2]["validation_loss"]
    assert found[1]["train_loss"] < 1.2


# ---------------------------------------------------------------- other ways to run


def test_published_weights_are_gone_on_with(
        few: object, tmp_path: Path, monkeypatch: Patch, capsys: Said) -> None:
    asked, tokenizer = [], gpt2.tokenizer.Tokenizer.train(few[1], 260)
    config = {"vocabulary": len(tokenizer), "context": 12, "layers": 2, "heads": 2,
              "channels": 8, "dropout": 0.0, "bias": True, "tokenizer": tokenizer.state(),
              "data": "WebText"}
    published = gpt2.model.build(config)
    nn.init.normal_(published.embed.weight)
    monkeypatch.setattr(gpt2.weights, "open_published",
                        lambda *given: asked.append(given) or (published, dict(config)))
    flags = ("--weights", "gpt2", "--download", "--data-dir", "there", "--tokenizer", "words",
             "--steps", 1, "--lr", 1e-12, "--weight-decay", 0, "--batch-size", 2,
             "--accumulate", 1)
    argv = ["--out-dir", str(tmp_path), *map(str, flags)]
    assert training.main([*argv, "--context", "8"]) == 0
    assert asked == [("gpt2", Path("there"), True, Path("words"))]
    made = saved(tmp_path)
    assert made["config"] == config | {"dropout": 0.1, "data": "few", "seed": 0}
    assert_close_weights(published.state_dict(), made["model"], 1e-9)
    assert resume(tmp_path, "--steps", 2) == 0 and len(asked) == 1
    before = files(tmp_path)
    for more, words in ((("--context", "13"), "gpt2 reads 12 tokens at once: use a smaller"),
                        (("--layers", "2"), "gpt2 says what its layers is: leave --layers")):
        assert training.main([*argv, *more]) == 1 and files(tmp_path) == before
        assert words in capsys.readouterr().err


def test_a_tokenizer_may_be_brought(few: object, tmp_path: Path, capsys: Said) -> None:
    other = gpt2.tokenizer.Tokenizer.train("abababab" * 9, 258)
    (tmp_path / "words").mkdir()
    other.save(tmp_path / "words")
    flags = ("--out-dir", tmp_path / "out", *FLAGS, "--tokenizer", tmp_path / "words",
             "--steps", 1)
    assert training.main([*map(str, flags)]) == 1 and not (tmp_path / "out").exists()
    assert "words says what its vocabulary is: leave --vocabulary" in capsys.readouterr().err
    place = flags.index("--vocabulary")
    assert training.main([*map(str, flags[:place] + flags[place + 2 :])]) == 0
    config = saved(tmp_path / "out")["config"]
    assert config["tokenizer"] == gpt2.tokenizer.Tokenizer.load(tmp_path / "words").state()
    assert config["vocabulary"] == len(gpt2.tokenizer.Tokenizer.from_state(config["tokenizer"]))


def test_what_is_typed_on_resuming_wins(straight: Path, tmp_path: Path) -> None:
    cut_after(EVERY, tmp_path)
    assert resume(tmp_path, "--weight-decay", 0.5, "--beta2", 0.6, "--steps", 9) == 0
    matrices, rest = saved(tmp_path)["optimizer"]["param_groups"]
    assert (matrices["weight_decay"], rest["weight_decay"]) == (0.5, 0)
    assert matrices["betas"] == rest["betas"] == (0.9, 0.6)


def test_a_new_run_removes_the_old_one_before_it_has_weights_of_its_own(
        tmp_path: Path, monkeypatch: Patch) -> None:
    assert train(tmp_path, "--steps", 2) == 0
    monkeypatch.setattr(training, "train", lambda *_: 1 / 0)
    assert train(tmp_path, "--seed", 1) == 1
    assert not (tmp_path / "best.pt").exists() and not (tmp_path / "checkpoint.pt").exists()


def test_best_is_there_before_a_checkpoint_says_so(tmp_path: Path, monkeypatch: Patch) -> None:
    names, save = [], training.Run.save
    monkeypatch.setattr(training.Run, "save",
                        lambda self, name: names.append(name) or save(self, name))
    assert train(tmp_path, "--steps", 2) == 0 and names == ["best.pt", "checkpoint.pt"]


def test_every_step_has_its_own_dropout(tmp_path: Path, monkeypatch: Patch) -> None:
    seeds, parts = [], training.Run.parts
    monkeypatch.setattr(training.Run, "parts", lambda self: (
        parts(self), seeds.append(torch.initial_seed()))[0])
    assert train(tmp_path, "--steps", 4, "--seed", 2) == 0
    assert seeds == [2 * gpt2.batches.SEEDS + step for step in range(4)]


def test_no_clipping_leaves_the_gradient_and_clipping_shortens_it() -> None:
    weight = torch.ones(2, requires_grad=True)
    for limit, wanted in ((0.0, [3, 4]), (9.0, [3, 4]), (1.0, [0.6, 0.8])):
        weight.grad = torch.tensor([3.0, 4.0])
        gpt2.optimization.clip([weight], limit)
        assert weight.grad.tolist() == pytest.approx(wanted)


def test_half_precision_and_the_compiler_leave_weights_as_they_are(
        straight: Path, tmp_path: Path, monkeypatch: Patch) -> None:
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda net: compiled.append(net) or (
        lambda *given: net(*given)))
    assert train(tmp_path, "--precision", "bf16", "--compile") == 0 and len(compiled) == 1
    one, two = saved(straight)["model"], saved(tmp_path)["model"]
    assert list(one) == list(two) and {w.dtype for w in two.values()} == {torch.float32}
    assert digest(one) != digest(two)
    for fine, coarse in zip(rows(straight), rows(tmp_path), strict=True):
        assert float(coarse["train_loss"]) == pytest.approx(float(fine["train_loss"]), rel=0.02)


# ---------------------------------------------------------------- faults


def test_what_is_impossible_is_refused_before_any_work(
        straight: Path, few: object, tmp_path: Path, monkeypatch: Patch, capsys: Said) -> None:
    foreign, before = ROOT / "lenet_from_scratch" / "pretrained.pt", files(straight)
    for flag in ("steps=0 lr=-1 lr=nan dropout=1 layers=0 warm-up=0 preset=none seed=-1 "
                 "epochs=3 context=0 patience=0 accumulate=0 clip=-1 beta2=1 floor=-1").split():
        with pytest.raises(SystemExit, match="2"):
            train(straight, f"--{flag}")
    capsys.readouterr()
    short = few._replace(training=few[1][:20])
    for data, flags, words in (
            (few, ("--heads", 3), "8 channels cannot be shared among 3 heads: choose"),
            (few, ("--vocabulary", 255), "a vocabulary of 255 cannot name all bytes: use 256"),
            (few, ("--accumulate", 7), "6 windows cannot be shared among 1 processes with 7"),
            (few, ("--resume", foreign), f"{foreign} was made by lenet_from_scratch"),
            (few, ("--weights", tmp_path / "none"), "there are no weights at "),
            (short, ("--context", 64), "tokens to train on and a window needs 65: use more")):
        monkeypatch.setattr(training, "load", lambda *_, data=data: data)
        given = FLAGS if "--weights" not in flags else ()
        assert training.main(["--out-dir", str(straight), *map(str, (*given, *flags))]) == 1
        said = capsys.readouterr().err
        assert said.startswith("error: ") and words in said and said.count("\n") == 1
        assert files(straight) == before
    monkeypatch.setattr(training, "load", LOAD)
    assert train(straight, "--data", tmp_path / "none.txt") == 1
    monkeypatch.setattr(training, "load", lambda *_: few._replace(digest="other"))
    assert resume(straight) == 1 and files(straight) == before
    assert "few is not what it was when the run began" in capsys.readouterr().err
