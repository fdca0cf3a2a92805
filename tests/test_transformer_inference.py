"""What the encoder says of texts, as inference.py tells it, and what visualize.py draws."""

import contextlib
import csv
import io
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from support import ROOT, load

transformer = load("transformer_from_scratch")
checkpoint, pictures, training = (vars(transformer)[name] for name in
                                  ("checkpoint", "pictures", "train"))
Patch, LONGEST = pytest.MonkeyPatch, 40
FLAGS = ("--channels 16 --heads 2 --layers 2 --hidden 16 --epochs 8 --batch-size 8 --hide 0 "
         f"--dropout 0 --warm-up 10 --lr 0.01 --longest {LONGEST} --out-dir").split()
TEXT = "Yesterday Amara tuned a guitar, and a striker tuned a guitar."
EMPTY = "error: there are no words in the text: write some"
UNKNOWN = "no word of this text is known: the answer means nothing"


@pytest.fixture(scope="module", autouse=True)
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A run on 200 of the drawn sentences: its folder, its lines, its model and its reader."""
    torch.set_num_threads(1)
    out, said = tmp_path_factory.mktemp("trained"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transformer.data, "SIZES", {"train": 200, "validation": 50, "test": 50})
        with contextlib.redirect_stdout(said):
            assert training.main([*FLAGS, str(out)]) == 0
        best = checkpoint.load(out / "best.pt")
        model = transformer.model.build(best["config"])
        model.load_state_dict(best["ema"])
        reader = transformer.reader.Reader(model, best["config"])
        yield SimpleNamespace(out=out, said=said.getvalue().splitlines(), model=model.eval(),
                              reader=reader, config=best["config"], best=out / "best.pt")


@pytest.fixture
def ask(trained: SimpleNamespace, capsys: pytest.CaptureFixture, tmp_path: Path) -> Callable:
    """Runs inference.py in this process: exit code, lines of stdout, and of stderr."""

    def asked(*flags: object, typed: bytes = b"", path: Path | None = None) -> SimpleNamespace:
        (tmp_path / "typed").write_bytes(typed)
        keyboard = os.dup(0)
        with (tmp_path / "typed").open("rb") as file:
            os.dup2(file.fileno(), 0)
        try:
            code = transformer.inference.main(
                ["--checkpoint", str(path or trained.best), *map(str, flags)])
        finally:
            os.dup2(keyboard, 0)
            os.close(keyboard)
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return SimpleNamespace(code=code, lines=said.out.splitlines(), errors=[
            line for line in said.err.splitlines() if not line.startswith("using ")])

    return asked


@torch.no_grad()
def believed(net: SimpleNamespace, text: str, *without: int) -> Tensor:
    """Probabilities (K,) for a text in which some places are left out, by hand."""
    numbers = {word: number for number, word in enumerate(net.config["vocabulary"])}
    words = transformer.tokenizer.split(text)[:LONGEST]
    kept = [numbers.get(word, 1) for i, word in enumerate(words) if i not in without]
    return net.model(torch.tensor([kept])).softmax(1)[0]


def assert_belief(net: SimpleNamespace, found: dict, text: str) -> None:
    belief = believed(net, text)
    assert list(found["probabilities"]) == net.config["classes"]
    assert list(found["probabilities"].values()) == pytest.approx(belief.tolist(), abs=1e-5)
    assert sum(found["probabilities"].values()) == pytest.approx(1, abs=1e-6)
    assert found["answer"] == net.config["classes"][belief.argmax()]


def names_of(texts: list) -> list[str]:
    return [text.get_text() for text in texts]


def test_reasons_are_the_words_without_which_the_answer_suffers_most(
        trained: SimpleNamespace) -> None:
    """A loop over the places; a word that stands there twice counts where it matters more."""
    test, reader = transformer.data.load("topics", Path()).test, trained.reader
    named = 0
    for text in [TEXT, *test.texts[:10]]:
        belief, words = believed(trained, text), transformer.tokenizer.split(text)
        best, losses = belief.argmax(), {}
        for i, word in enumerate(words):
            lost = (belief[best] - believed(trained, text, i)[best]).item()
            losses[word] = max(lost, losses.get(word, -1))
        telling = sorted((word for word in losses if losses[word] >= 0.01),
                         key=lambda word: -losses[word])[:3]
        found = reader.answer(text)
        assert_belief(trained, found, text)
        assert found["telling"] == {word: pytest.approx(losses[word], abs=1e-5)
                                    for word in telling}
        assert list(found["telling"]) == telling
        named += len(telling)
    assert named > 11


def test_a_line_of_json_carries_all_and_a_sentence_the_same_in_words(
        ask: Callable, trained: SimpleNamespace) -> None:
    asked = ask("--json", "--text", TEXT, "“Zyx” guitar\n zyx%")
    one, two = (json.loads(line) for line in asked.lines)
    assert asked.code == 0 and not asked.errors and one["text"] == TEXT
    assert two["text"] == "“Zyx” guitar\n zyx%" and two["unknown"] == ["“", "zyx", "”", "%"]
    assert (two["known"], two["not_read"]) == (1, 0)
    assert set(one) == {"text", *trained.reader.answer(TEXT)}
    for found in (one, two):
        assert_belief(trained, found, found["text"])
    line = ask("--text", TEXT).lines[0]
    shares = sorted(one["probabilities"].items(), key=lambda item: -item[1])
    assert line.startswith(", ".join(f"{name} {share:.1%}" for name, share in shares))
    assert all(f"“{word}” {loss:.2f} less" in line for word, loss in one["telling"].items())
    assert line.split("; unknown: ")[1:] == [", ".join(one["unknown"])][: len(one["unknown"])]


@pytest.mark.parametrize(("text", "known", "unknown"), [
    ("guitar", 1, []), ("zyx", 0, ["zyx"]), ("Привет, 世界 שלום", 0, None),
    ("gui\0tar", 0, None), ("\ufffd", 0, None), ("👩‍🚀" * 9, 0, None), ("?", 0, None)])
def test_texts_of_one_word_or_of_none_that_is_known_are_answered(
        ask: Callable, trained: SimpleNamespace, text: str, known: int,
        unknown: list | None) -> None:
    asked = ask("--json", "--text", text)
    found = json.loads(asked.lines[0])
    assert asked.code == 0 and found["known"] == known and found["text"] == text
    assert unknown is None or (found["unknown"], found["telling"]) == (unknown, {})
    assert asked.errors == ([] if known else [UNKNOWN])
    assert_belief(trained, found, text)


def test_of_a_long_text_the_beginning_is_read_and_the_rest_is_counted(ask: Callable) -> None:
    beginning = " ".join(["guitar"] * LONGEST)
    asked, short = (ask("--json", "--text", text)
                    for text in (beginning + " soup" * (10_000 - LONGEST), beginning))
    assert asked.code == 0 and asked.errors == [
        f"the last {10_000 - LONGEST} words were not read: the model reads at most {LONGEST}"]
    found, other = (json.loads(one.lines[0]) for one in (asked, short))
    assert found.pop("not_read") == 10_000 - LONGEST and other.pop("not_read") == 0
    assert found | {"text": ""} == other | {"text": ""}


def test_files_and_standard_input_are_read_line_by_line_whatever_their_bytes(
        ask: Callable, trained: SimpleNamespace, tmp_path: Path) -> None:
    content = b"guitar concert\r\n\xff\xfe soup\n\n \t \nnull \0 soup\nthe last"
    (tmp_path / "texts.txt").write_bytes(content)
    for asked in (ask("--json", "--file", tmp_path / "texts.txt"),
                  ask("--json", "--file", "-", typed=content)):
        found = [json.loads(line) for line in asked.lines]
        assert [one["text"] for one in found] == ["guitar concert", "\ufffd\ufffd soup",
                                                  "null \0 soup", "the last"]
        assert asked.code == 1 and asked.errors == [EMPTY, EMPTY]
        for one in found:
            assert_belief(trained, one, one["text"])
    asked = ask("--text", "", "guitar", " \n")
    assert (asked.code, len(asked.lines), asked.errors) == (1, 1, [EMPTY, EMPTY])
    for path in (tmp_path / "none.txt", tmp_path):
        asked = ask("--file", path)
        assert (asked.code, asked.lines, len(asked.errors)) == (1, [], 1)
        assert asked.errors[0].startswith(f"error: {path} cannot be read (")


def test_a_conversation_answers_texts_and_shows_where_each_word_looks(
        ask: Callable, trained: SimpleNamespace) -> None:
    lines = (":attention 1 1", "", "guitar soup", ":attention 2 1", ":attention 3 1",
             ":attention 1 0", ":attention x", ":dance", ":quit", "never read")
    asked, hint = ask("--interactive", typed="\n".join(lines).encode()), transformer.inference
    json_lines = ask("--interactive", "--json", typed=b"guitar soup\n").lines
    assert json_lines == ask("--json", "--text", "guitar soup").lines
    assert asked.code == 0 and len(asked.lines) == 3
    assert asked.lines[0] == ask("--text", "guitar soup").lines[0]
    none = "error: there are layers 1 to 2 with heads 1 to 2"
    assert asked.errors == [hint.HELP, EMPTY, none, none, hint.HELP, hint.HELP]
    tokens = torch.tensor([trained.reader.tokenizer.encode("guitar soup")])
    weights = trained.model.attentions(tokens)[1, 0, 0]
    for word, row, line in zip(("guitar", "soup"), weights.tolist(), asked.lines[1:]):
        seen = sorted(zip(row, ("guitar", "soup")), reverse=True)
        assert line.split(" ← ") == [f"{word:>15}", ", ".join(f"{one} {share:.0%}"
                                                             for share, one in seen)]


# ---------------------------------------------------------------- the test set


def test_the_accuracy_is_the_one_that_training_printed(
        ask: Callable, trained: SimpleNamespace) -> None:
    printed = next(line for line in trained.said if line.startswith("test accuracy"))
    line, found = ask("--test").lines[0], json.loads(ask("--test", "--json").lines[0])
    assert line.split(", loss")[0] == printed.split(" on 50 texts")[0]
    assert line.endswith(f", loss {found['loss']:.4f}, on 50 texts of topics")
    test = transformer.data.load("topics", Path()).test
    belief = torch.stack([believed(trained, text) for text in test.texts])
    right = (belief.argmax(1) == test.labels).double().mean().item()
    assert found["accuracy"] == pytest.approx(right) and right > 0.3
    assert found["loss"] == pytest.approx(F.nll_loss(belief.log(), test.labels).item(), 1e-4)
    assert found["low"] < right < found["high"] and found["texts"] == 50


def test_changed_texts_are_tested_but_not_without_a_word(
        ask: Callable, trained: SimpleNamespace, monkeypatch: Patch) -> None:
    assert not ask("--test").errors
    monkeypatch.setattr(transformer.inference, "load", lambda *_: transformer.data.load(
        "topics", Path())._replace(digest="another"))
    found = ask("--test")
    assert (found.code, len(found.lines), len(found.errors)) == (0, 1, 1)
    assert found.errors[0].startswith("topics is not what it was in training: the model may ")
    assert not ask("--test", "--data", "topics").errors


def test_one_test_text_is_told_with_its_truth(ask: Callable) -> None:
    data = transformer.data.load("topics", Path())
    for number in (0, 49):
        asked, text = ask("--index", number), data.test.texts[number]
        truth = data.classes[data.test.labels[number]]
        assert asked.code == 0 and asked.lines == [
            f"test text {number} of topics, about {truth}: {text}", *ask("--text", text).lines]
    assert ask().lines == ask("--index", 0).lines
    assert json.loads(ask("--index", 49, "--json").lines[0])["text"] == text
    asked = ask("--index", 50)
    assert (asked.code, asked.lines) == (1, [])
    assert asked.errors == ["error: topics has the test texts 0 to 49"]


def test_what_does_not_fit_the_model_is_refused_in_one_sentence(
        ask: Callable, trained: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text(
        "".join(f"cat,it purrs {n} times\ndog,it barks {n} times\n" for n in range(50)))
    whole = bytearray(trained.best.read_bytes())
    (tmp_path / "cut.pt").write_bytes(whole[:-500])
    weight = next(iter(torch.load(trained.best, weights_only=True)["model"].values()))
    whole[whole.index(weight.numpy().tobytes())] ^= 1
    (tmp_path / "bit.pt").write_bytes(whole)
    foreign = ROOT / "lenet_from_scratch" / "pretrained.pt"
    for asked, words in (
            (ask("--data", tmp_path / "own.csv"), "own.csv has the classes cat, dog, the"),
            (ask(path=foreign), f"{foreign} was made by lenet_from_scratch, this is trans"),
            (ask(path=tmp_path / "cut.pt"), "cut.pt is damaged"),
            (ask(path=tmp_path / "bit.pt"), "bit.pt is damaged"),
            (ask(path=tmp_path / "none.pt"), "there is no checkpoint ")):
        assert (asked.code, asked.lines, len(asked.errors)) == (1, [], 1)
        assert asked.errors[0].startswith("error: ") and words in asked.errors[0]
    for flags in (("--index", -1), ("--test", "--text", "x"), ("--text",), ("--seed", "x")):
        with pytest.raises(SystemExit, match="2"):
            ask(*flags)


def test_evaluating_is_asking_one_by_one_in_any_order_and_touches_nothing(
        trained: SimpleNamespace, monkeypatch: Patch) -> None:
    monkeypatch.setattr(training, "AT_ONCE", 7)
    test = transformer.data.load("topics", Path()).test
    inputs = transformer.batches.encode(test, trained.reader.tokenizer, LONGEST,
                                        torch.device("cpu"))
    order = torch.randperm(50)
    for mode in (True, False):
        random_state, model = torch.get_rng_state(), trained.model.train(mode)
        before = checkpoint.digest(model.state_dict())
        loss, right, logits = training.evaluate(model, inputs)
        assert all(module.training == mode for module in model.modules())
        assert torch.get_rng_state().equal(random_state)
        assert checkpoint.digest(model.state_dict()) == before
        mixed = training.evaluate(model, inputs._make(part[order] for part in inputs))
        assert torch.allclose(mixed[2], logits[order], rtol=0, atol=1e-5)
        assert mixed[:2] == pytest.approx((loss, right), rel=1e-5)
    for text, row in zip(test.texts, logits.softmax(1)):
        assert torch.allclose(row, believed(trained, text), rtol=0, atol=1e-5)
    assert right == (logits.argmax(1) == test.labels).double().mean()


# ---------------------------------------------------------------- what is drawn


@pytest.fixture
def figures(monkeypatch: Patch) -> dict:
    """The figures that are saved in a test, by their names."""
    found, write = {}, pictures.save
    monkeypatch.setattr(pictures, "save", lambda figure, path: found.update(
        {path.name: figure}) or write(figure, path))
    return found


def test_everything_that_is_drawn_was_computed(
        trained: SimpleNamespace, figures: dict, tmp_path: Path,
        capsys: pytest.CaptureFixture) -> None:
    """Waves and their products, attention by words, and sentences with their twins."""
    assert transformer.visualize.main(["--checkpoint", str(trained.best), "--out",
                                       str(tmp_path), "--seed", "4", "--text", TEXT]) == 0
    names = ["attention.png", "positions.png", "order.png", "loss.png"]
    assert capsys.readouterr().out == f"wrote {', '.join(names)} to {tmp_path}\n"
    assert list(figures) == names and sorted(os.listdir(tmp_path)) == sorted(names)
    for name in names:
        with Image.open(tmp_path / name) as image:
            assert image.format == "PNG" and np.asarray(image.convert("L")).std() > 10
    waves = transformer.model.waves(64, 16)
    left, right = (axis.images[0].get_array() for axis in figures["positions.png"].axes[:2])
    alike = F.cosine_similarity(waves[:, None], waves, dim=-1)
    assert np.allclose(left, waves) and np.allclose(right, alike, atol=1e-5)
    words = transformer.tokenizer.split(TEXT)
    weights = trained.model.attentions(torch.tensor([trained.reader.tokenizer.encode(TEXT)]))
    for number, axis in enumerate(figures["attention.png"].axes):
        layer, head = divmod(number, 2)
        assert axis.get_title() == f"layer {layer + 1}, head {head + 1}"
        assert np.allclose(axis.images[0].get_array(), weights[layer, 0, head], atol=1e-5)
        assert names_of(axis.get_xticklabels()) == words
        assert names_of(axis.get_yticklabels()) == (words if head == 0 else [""] * len(words))
    made, rng = transformer.generate_test_texts, random.Random(4)
    for axis, pair in zip(figures["order.png"].axes, made.PAIRS, strict=True):
        twins = [made.ordered(pair, "test", rng) for _ in range(20)]
        for topic, values, texts in zip(pair, axis.lines[1].get_data(), zip(*twins)):
            place = trained.config["classes"].index(topic)
            beliefs = [believed(trained, text)[place].item() for text in texts]
            assert list(values) == pytest.approx(beliefs, abs=1e-5)
        assert pair[0] in axis.get_xlabel() and pair[1] in axis.get_ylabel()


def test_only_what_there_is_is_drawn_of_a_long_text_the_beginning_and_nothing_of_no_words(
        trained: SimpleNamespace, figures: dict, tmp_path: Path, monkeypatch: Patch,
        capsys: pytest.CaptureFixture) -> None:
    contents = checkpoint.load(trained.best)
    contents["config"] |= {"classes": list("abcde"), "positions": False}
    (tmp_path / "metrics.csv").write_text("epoch,train_loss\n")
    checkpoint.save(tmp_path / "other.pt", contents)
    argv = ["--checkpoint", str(tmp_path / "other.pt"), "--out", str(tmp_path / "out")]
    assert transformer.visualize.main([*argv, "--text", " "]) == 1 and not figures
    assert capsys.readouterr().err.splitlines()[-1] == EMPTY
    monkeypatch.setattr(transformer.visualize, "SHOWN", 4)
    assert transformer.visualize.main([*argv, "--text", TEXT]) == 0
    assert list(figures) == ["attention.png"]
    assert names_of(figures["attention.png"].axes[0].get_xticklabels()) == [
        "yesterday", "amara", "tuned", "a"]
    said = capsys.readouterr()
    assert said.out == f"wrote attention.png to {argv[3]}\n"
    assert said.err.endswith("attention.png shows the first 4 of 13 words\n")


def test_curves_confusions_and_sizes_are_the_numbers_given(
        trained: SimpleNamespace, figures: dict, tmp_path: Path) -> None:
    pictures.draw_curves(trained.out / "metrics.csv", tmp_path / "loss.png")
    with (trained.out / "metrics.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    for axis, names, factor in zip(figures["loss.png"].axes, (
            ("train_loss", "validation_loss"), ("validation_accuracy",), ("lr",)), (1, 100, 1)):
        for line, name in zip(axis.lines, names, strict=True):
            assert list(line.get_xdata()) == list(range(1, 9))
            expected = [factor * float(row[name]) for row in table]
            assert list(line.get_ydata()) == pytest.approx(expected)
    counts = torch.tensor([[5, 1, 0], [2, 0, 0], [0, 0, 0]])
    pictures.draw_confusion(counts, ["a", "b", "c"], tmp_path / "confusion.png")
    axis = figures["confusion.png"].axes[0]
    assert names_of(axis.texts) == list("510200000") and axis.get_ylabel() == "truth"
    for ticks in (axis.get_xticklabels(), axis.get_yticklabels()):
        assert names_of(ticks) == ["a", "b", "c"]
    assert np.allclose(axis.images[0].get_array(), [[5 / 6, 1 / 6, 0], [1, 0, 0], [0, 0, 0]])
    pictures.draw_sizes({(1, 4): [70.0, 80.0], (2, 1): [90.0, 91.0]}, tmp_path / "sizes.png")
    axis = figures["sizes.png"].axes[0]
    assert names_of(axis.get_xticklabels()) == ["1 × 4", "2 × 1"]
    assert [list(line.get_ydata()) for line in axis.lines] == [
        [70, 80], [75, 75], [90, 91], [90.5, 90.5]]
    assert [line.get_xdata()[0] for line in axis.lines[::2]] == [0, 1]
