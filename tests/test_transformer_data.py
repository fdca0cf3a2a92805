"""Tables and folders of texts in all states, their batches, and how answers are measured."""

import statistics
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from support import load

transformer = load("transformer_from_scratch")
data, batches, measures = transformer.data, transformer.batches, transformer.measures
Refusal, Tokenizer = transformer.console.Refusal, transformer.tokenizer.Tokenizer
draw = transformer.generate_test_texts.draw
Rows = list[tuple[str, str]]
CPU, PARTS = torch.device("cpu"), ("train", "validation", "test")


def table(rows: Rows, path: Path) -> Path:
    """A CSV of these labels and texts, quoted, without a header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f'{label},"{text}"\n' for label, text in rows), encoding="utf-8")
    return path


def some(counts: dict[str, int], what: str = "text") -> Rows:
    """As many different texts of each label as are asked for."""
    return [(label, f"{what} {label} {i}") for label, n in counts.items() for i in range(n)]


def folder(rows: Rows, home: Path) -> Path:
    """The texts as <label>/*.txt, in the order of their names."""
    for number, (label, text) in enumerate(rows):
        (home / label).mkdir(parents=True, exist_ok=True)
        (home / label / f"{number:04}.txt").write_text(text, encoding="utf-8")
    return home


def ask(path: Path, *options: int) -> data.Data:
    """The data set at a path; options are seed and workers."""
    return data.load(str(path), Path("nowhere"), *options)


def parts_of(loaded: data.Data) -> dict[str, Rows]:
    """The parts as labels and texts again."""
    return {name: [(loaded.classes[k], text) for k, text in zip(labels, texts, strict=True)]
            for name, (texts, labels) in zip(PARTS, loaded[2:5])}


# ---------------------------------------------------------------- tables and folders


@pytest.mark.parametrize("content,rows", [
    (b"a,one\nb,two\n", "a:one b:two"), (b"a,one\r\nb,two", "a:one b:two"), (b"", ""),
    (b"label,text\na,one\n", "a:one"), (b"Text, LABEL \none,a\ntwo,b\n", "a:one b:two"),
    (b"title,category,body\nx,a,y\n", "a:x y"), (b"a,one,two,three\n", "a:one two three"),
    (b"\xef\xbb\xbflabel,text\na,one\n", "a:one"), (b"\xef\xbb\xbfa,one\n", "a:one"),
    (b'a,"one, ""two""\nthree"\nb,x\n', 'a:one, "two"\nthree b:x'), (b" a , one", "a: one"),
    (b"a,caf\xe9 x\n", "a:caf\ufffd x"), (b"a,o\0ne\n", "a:o ne"),
    (b'"Class Index","Title","Description"\n"3","x","y"\n1,v,w\n', "3:x y 1:v w"),
    (b"1,x,y,z\n", "1:x y z"),
])
def test_a_table_is_read(content: bytes, rows: str, tmp_path: Path, capsys) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    found, _ = data.read_csv(tmp_path / "t.csv")
    assert " ".join(f"{label}:{text}" for label, text in found) == rows
    assert capsys.readouterr().err == ""


def test_rows_without_label_or_text_are_left_out_and_counted(tmp_path: Path, capsys) -> None:
    (tmp_path / "t.csv").write_text("label,text\na,one\n\nb,\n,two\nc, \nd\n \ne,three\n")
    assert data.read_csv(tmp_path / "t.csv")[0] == [("a", "one"), ("e", "three")]
    error = capsys.readouterr().err
    assert error.startswith("left out 5 of 7 rows in ") and error.count("\n") == 1


@pytest.mark.parametrize(("labels", "columns", "classes"), [
    ("1234", 3, ["Business", "Sci/Tech", "Sports", "World"]), ("1234", 2, ["1", "2", "3", "4"]),
    ("124", 3, ["1", "2", "4"]), ("12345", 3, ["1", "2", "3", "4", "5"]),
    ("1234", 4, ["1", "2", "3", "4"])])
def test_the_training_table_says_whether_numbers_are_those_of_ag_news(
        labels: str, columns: int, classes: list[str], tmp_path: Path) -> None:
    for part, some_labels in (("train", labels), ("test", labels[:2])):
        (tmp_path / f"{part}.csv").write_text("".join(
            f"{label}{f',{part} {number}' * (columns - 1)}\n"
            for label in some_labels for number in range(20)))
    loaded = ask(tmp_path)
    assert loaded.classes == classes and len(loaded.test.labels) == 40
    names = {"1": "World", "2": "Sports"} if "World" in classes else {}
    assert {label for label, _ in parts_of(loaded)["test"]} == {
        names.get(label, label) for label in labels[:2]}


@pytest.mark.parametrize("fill", [table, folder])
def test_one_source_is_split_in_three_by_the_seed(fill: Callable, tmp_path: Path) -> None:
    """Each class in proportion, every row in one part."""
    counts = {"a": 200, "b": 100, "c": 20}
    home = fill(some(counts), tmp_path / "x")
    first, again, other = (ask(home, seed) for seed in (0, 0, 1))
    for loaded in (first, other):
        assert loaded.classes == ["a", "b", "c"] and loaded.name == "x"
        assert sorted(sum(parts_of(loaded).values(), [])) == sorted(some(counts))
        for part, share in zip(loaded[2:5], (0.81, 0.09, 0.1)):
            for count, whole in zip(part.labels.bincount().tolist(), counts.values()):
                assert abs(count - share * whole) <= 2, (whole, share)
    assert parts_of(again) == parts_of(first) and again.digest == first.digest != other.digest
    assert all(set(one.texts) != set(two.texts) for one, two in zip(first[2:5], other[2:5]))


@pytest.mark.parametrize("fill", [table, folder])
@pytest.mark.parametrize("more", ["", "test", "validation", "test validation"])
def test_what_is_given_stays_and_the_rest_is_split_from_training(
        fill: Callable, more: str, tmp_path: Path) -> None:
    rows = {part: some({"x": 60, "y": 40}, part) for part in ("train", *more.split())}
    for part, content in rows.items():
        fill(content, tmp_path / (f"{part}.csv" if fill is table else part))
    loaded = ask(tmp_path, 0, 3)
    assert data.load(tmp_path.name, tmp_path.parent, workers=0).digest == loaded.digest
    parts = parts_of(loaded)
    assert all(parts[name] == rows[name] for name in more.split())
    drawn = {name: Counter(label for label, _ in parts[name]) for name in {*PARTS} - {*rows}}
    assert all(count in ({"x": 5, "y": 4}, {"x": 6, "y": 4}) for count in drawn.values())
    assert sorted(sum(map(parts.get, ("train", *drawn)), [])) == sorted(rows["train"])


def test_files_are_read_whatever_their_bytes(tmp_path: Path) -> None:
    folder(some({"b": 2, "a": 1}), tmp_path)
    (tmp_path / "a" / "0001.txt").write_bytes(b"caf\xe9 \0 x\n")
    (tmp_path / "b" / "empty.txt").write_bytes(b" \n")
    (tmp_path / "b" / "other.md").write_bytes(b"not a text")
    (tmp_path / "top.txt").write_bytes(b"without a label")
    rows = [("a", "caf\ufffd \0 x\n"), ("a", "text a 0"), ("b", "text b 0"), ("b", "text b 1")]
    assert data.read_folder(tmp_path) == rows == data.read_folder(tmp_path, 4)


def test_classes_that_halves_lack(tmp_path: Path, capsys) -> None:
    """What only training has stays a class; what training lacks is left out, and said."""
    table(some({"c": 20, "a": 20, "b": 20}), tmp_path / "train.csv")
    table(some({"c": 3, "z": 2, "a": 1}, "new"), tmp_path / "test.csv")
    loaded = ask(tmp_path)
    assert loaded.classes == ["a", "b", "c"]
    assert parts_of(loaded)["test"] == some({"c": 3, "a": 1}, "new")
    assert capsys.readouterr().err == "left out 2 texts of classes that training lacks\n"


@pytest.mark.parametrize("files,complaint", [
    ({}, "is neither a data set nor a path: use topics, hard, a CSV of"),
    ({"": {"a": 50}}, "one class, a: two classes"),
    ({"": {"a": 50, "b": 1}}, "to be split .its class b is too small.: give each class ten"),
    ({"": {"a": 50, "b": 5}}, "class b .*: give each class ten different ones or more"),
    ({"": {}}, "too few texts to be split .it has none."),
    ({"train.csv": {}, "test.csv": {"a": 9}, "validation.csv": {"a": 9}}, "has no texts: two"),
    ({"train.csv": {"a": 50, "b": 50}, "test.csv": {"z": 9}}, "has a part without texts"),
    ({"train.csv": {"a": 50, "b": 50}, "test.csv": {}}, "has a part without texts"),
    ({"notes.csv": {"a": 50, "b": 50}}, "too few texts to be split .it has none."),
    ({"train.csv": {"a": 50, "b": 4}, "test.csv": {"a": 1}, "validation.csv": {"a": 1}},
     "has 4 training texts of the class b"),
])
def test_what_cannot_be_learned_from_is_refused_in_a_sentence(
        files: dict[str, dict[str, int]], complaint: str, tmp_path: Path) -> None:
    for name, counts in files.items():
        table(some(counts), tmp_path / "x" / name if name else tmp_path / "x")
    with pytest.raises(Refusal, match=complaint) as refusal:
        ask(tmp_path / "x")
    assert "\n" not in str(refusal.value)


def test_pictures_and_broken_tables_are_refused(tmp_path: Path) -> None:
    for kind in ("png", "jpeg"):
        Image.radial_gradient("L").save(tmp_path / f"x.{kind}")
        with pytest.raises(Refusal, match="is no table of texts in UTF-8: save it as one"):
            ask(tmp_path / f"x.{kind}")
    (tmp_path / "x.csv").write_text("label,text\na,one\n" * 50, encoding="utf-16")
    with pytest.raises(Refusal, match="is no table of texts in UTF-8"):
        ask(tmp_path / "x.csv")
    (tmp_path / "long.csv").write_text('a,"never closed' + " x" * 100_000)
    with pytest.raises(Refusal, match="long.csv cannot be read as a CSV .field larger"):
        ask(tmp_path / "long.csv")


def test_the_digest_knows_every_text_label_class_and_part(tmp_path: Path) -> None:
    base = {part: some({"a": 11, "b": 10}, part) for part in PARTS}
    changes = [{}, {}]
    for part, rows in base.items():
        (label, text), *rest = rows
        changes += [{part: [(label, text + "!"), *rest]}, {part: [("b", text), *rest]},
                    {part: [*rest, rows[0]]}]
    changes += [{part: [("c" if label == "b" else label, text) for label, text in rows]
                 for part, rows in base.items()},
                {"validation": base["test"], "test": base["validation"]}]
    digests = []      # and ten texts of a class are enough
    for number, change in enumerate(changes):
        for part, rows in (base | change).items():
            table(rows, tmp_path / str(number) / f"{part}.csv")
        digests.append(ask(tmp_path / str(number)).digest)
    assert digests[0] == digests[1] and len(set(digests)) == len(changes) - 1 == 12


@pytest.mark.parametrize("name", ["topics", "hard"])
def test_drawn_sets_have_three_parts_that_share_nothing(name: str) -> None:
    loaded = data.load(name, Path("nowhere"), seed=5)
    assert loaded.classes == ["Food", "Music", "Science", "Sports", "Technology"]
    assert [len(part.texts) for part in loaded[2:5]] == [3_000, 500, 1_000]
    assert all(len(part.labels.bincount().unique()) == 1 for part in loaded[2:5])
    assert len({text for part in loaded[2:5] for text in part.texts}) == 4_500
    assert parts_of(loaded)["test"] == draw("test", 1_000, 0, name == "hard")
    short, every = parts_of(loaded.shortened((30, 20, 2_000))), parts_of(loaded)
    for part, step in (("train", 100), ("validation", 25), ("test", 1)):
        assert short[part] == [every[part][int(i * step)] for i in range(len(short[part]))]
    assert [len(short[part]) for part in PARTS] == [30, 20, 1_000]


@pytest.mark.parametrize("fill", [table, folder])
def test_ten_different_texts_of_each_class_are_enough(fill: Callable, tmp_path: Path) -> None:
    """Repeated ones count once, so that no part holds what another has."""
    rows = some({"a": 10, "b": 10})
    loaded = ask(fill(rows + rows if fill is table else rows, tmp_path / "x"))
    assert sorted(sum(parts_of(loaded).values(), [])) == sorted(rows)


def test_the_real_news_are_four_classes_with_names(shared: Callable[[str], Path]) -> None:
    loaded = data.load("ag_news", shared("ag_news"))
    assert loaded.classes == ["Business", "Sci/Tech", "Sports", "World"]
    assert [len(part.texts) for part in loaded[2:5]] == [2_880, 320, 600]
    inputs = batches.encode(loaded.test, Tokenizer.learn(loaded.train.texts, 2), 128, CPU)
    assert inputs.lengths.min() > 5 and inputs.tokens.shape == (600, inputs.lengths.max())
    assert (inputs.tokens == 1).sum() / inputs.lengths.sum() < 0.2


# ---------------------------------------------------------------- batches


@pytest.mark.parametrize("count,size", [(1, 64), (64, 64), (1000, 7), (5000, 64), (65, 1)])
def test_every_text_is_in_one_batch_of_an_epoch(count: int, size: int) -> None:
    lengths = torch.arange(count) % 50
    drawn = batches.batches_of(lengths, size, 0, 0)
    assert torch.cat(drawn).sort().values.equal(torch.arange(count))
    assert max(map(len, drawn)) <= size and len(drawn) == -(-count // size)


def test_batches_are_a_function_of_seed_and_epoch() -> None:
    lengths, seen = torch.arange(400) % 50, set()
    for seed, epoch in ((0, 0), (0, 1), (1, 0), (1, 1), (2**32 - 1, 99)):
        first = batches.batches_of(lengths, 8, seed, epoch)
        torch.manual_seed(seed + 1)         # what others draw must not matter
        again = batches.batches_of(lengths, 8, seed, epoch)
        assert all(torch.equal(one, two) for one, two in zip(first, again))
        seen.add(frozenset(frozenset(batch.tolist()) for batch in first))
        steps = lengths[torch.stack(first)].float().mean(1).diff()
        assert (steps > 0).float().mean() < 0.7      # short ones do not come first
    assert len(seen) == 5                   # other company, not only another order


def test_texts_of_like_length_share_a_batch() -> None:
    lengths = 5 + torch.rand(5000).pow(2).mul(95).long()

    plain, ours = (1 - int(lengths.sum()) / sum(
        len(batch) * int(lengths[batch].max()) for batch in drawn) for drawn in (
            torch.randperm(5000).split(32), batches.batches_of(lengths, 32, 0, 0)))
    assert plain > 0.6 and ours < 0.1       # of all tokens are padding


def test_taken_texts_are_as_wide_as_their_longest() -> None:
    part = data.Part(["a b c d e", "b", "", "c a b"], torch.tensor([3, 2, 1, 0]))
    inputs = batches.encode(part, Tokenizer.learn(part.texts), 4, CPU)
    assert inputs.lengths.tolist() == [4, 1, 0, 3] and inputs.tokens.shape == (4, 4)
    for chosen, width in (([1, 3], 3), ([2], 1), ([1], 1), ([2, 0], 4)):
        tokens, labels = inputs.take(torch.tensor(chosen))
        assert tokens.equal(inputs.tokens[chosen][:, :width]) and tokens.shape[1] == width
        assert labels.tolist() == [3 - row for row in chosen]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_hiding_takes_a_share_of_the_words_and_no_padding(share: float) -> None:
    tokens = torch.randint(2, 90, (400, 60)) * (torch.rand(400, 60) < 0.7)
    kept, hidden, words = tokens.clone(), batches.hide(tokens, share, 7, 3), tokens != 0
    assert tokens.equal(kept) and ((hidden == tokens) | (words & (hidden == 1))).all()
    margin = 5 * (share * (1 - share) / words.sum().item()) ** 0.5
    assert (hidden[words] == 1).float().mean().item() == pytest.approx(share, abs=margin)
    assert batches.hide(tokens, share, 7, 3).equal(hidden)
    for seed, step in ((8, 3), (7, 4)):
        assert share == 0 or not batches.hide(tokens, share, seed, step).equal(hidden)


# ---------------------------------------------------------------- measures


@pytest.mark.parametrize("right,count", [(0, 1), (1, 1), (0, 40), (40, 40), (7, 40), (64, 100)])
def test_an_interval_ends_where_the_normal_test_would_refuse(right: int, count: int) -> None:
    """Both roots of (p - share)^2 = Z^2 p (1 - p) / n, found by halving."""
    z, share = statistics.NormalDist().inv_cdf(0.975), right / count
    for end, found in zip((0.0, 1.0), measures.wilson(right, count)):
        inside, outside = share, end
        for _ in range(60):
            p = (inside + outside) / 2
            fits = (p - share) ** 2 < z**2 * p * (1 - p) / count
            inside, outside = (p, outside) if fits else (inside, p)
        assert found == pytest.approx(inside, abs=1e-6)


def test_confusion_is_counted_by_a_loop() -> None:
    truth, answers = torch.randint(0, 3, (2, 200))        # of four classes, one is never seen
    expected = torch.zeros(4, 4, dtype=torch.long)
    for i, j in zip(truth, answers):
        expected[i, j] += 1
    assert measures.confusion(truth, answers, 4).equal(expected)


@pytest.mark.parametrize("hard", [False, True])
def test_linear_models_solve_plain_sentences_and_are_blind_to_order(hard: bool) -> None:
    parts = [draw(part, n, 1, hard) for part, n in zip(PARTS, (500, 50, 200))]
    loaded = data._assemble("drawn", *parts)
    found = measures.linear_answers(loaded)
    assert set(found) == {"logistic regression", "naive Bayes"}
    for answers in found.values():
        right = (answers == loaded.test.labels).float().mean().item()
        assert 0.5 < right <= 0.64 + 1e-6 if hard else right > 0.97


def test_linear_models_learn_from_the_validation_texts_too() -> None:
    parts = [data.Part([f"{word} a", f"{word} b"] * 5, torch.tensor([0, 1] * 5))
             for word in ("x", "y", "z")]
    parts[1] = data.Part(["dog", "cat"] * 5, parts[1].labels)
    parts[2] = data.Part(["cat", "dog"], torch.tensor([1, 0]))
    for answers in measures.linear_answers(data.Data("", [*"ab"], *parts, "")).values():
        assert answers.tolist() == [1, 0]
