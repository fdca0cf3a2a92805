"""GPT-2's tokenizer where no peer is needed to tell what is right, and the files it keeps."""

import json
import os
import random
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from support import ROOT, load, run

gpt2 = load("gpt2_from_scratch")
module, chunks, Refusal = gpt2.tokenizer, gpt2.chunks, gpt2.console.Refusal
Tokenizer, END = module.Tokenizer, "<|endoftext|>"
POOL = " \n\t\r\x1c\x1f\x85\xa0\u2028\u3000\u200b'''sdmtlvreS12²½四AZéa日\u0e31😀-.!?<|>_\x00"
WORDS = "low lower lowest, new newer newest; it's we'll 2024 2025 — naïve café naïve\n" * 3


def strings(count: int, seed: int, longest: int = 40) -> list[str]:
    """Random strings of all that is hard to cut."""
    draw = random.Random(seed)
    return ["".join(draw.choices(POOL, k=draw.randint(0, longest))) for _ in range(count)]


def slowly(tokenizer: Tokenizer, text: str) -> list[int]:
    """As the definition has it: merge the first of the pairs of lowest rank, one at a time."""
    ranks = {pair: rank for rank, pair in enumerate(tokenizer.merges)}
    numbers = {tokenizer.bytes_of(i): i for i in range(len(tokenizer) - 1, -1, -1)}
    found = []
    for chunk in chunks.pattern().findall(text):
        tokens = [numbers[bytes([byte])] for byte in chunk.encode()]
        while True:
            pairs = [ranks.get(pair, 10**9) for pair in pairwise(tokens)]
            if min(pairs, default=10**9) == 10**9:
                break
            at = pairs.index(min(pairs))
            both = b"".join(map(tokenizer.bytes_of, tokens[at : at + 2]))
            tokens[at : at + 2] = [numbers[both]]
        found += tokens
    return found


# ---------------------------------------------------------------- cutting


@pytest.mark.parametrize("text,cut", [
    ("Don't we'll I've you're", "Don|'t| we|'ll| I|'ve| you|'re"),
    ("he'd I'm it's'tis", "he|'d| I|'m| it|'s|'t|is"),
    ("'tis DON'T '", "'t|is| DON|'|T| '"), ("a  b   c ", "a| | b|  | c| "),
    ("x\n\ny\n", "x|\n|\n|y|\n"), ("a1b22 ²½Ⅷ", "a|1|b|22| ²½Ⅷ"), ("hi!? —a", "hi|!?| —|a"),
    ("snake_case", "snake|_|case"), ("a\x1cb\x1f \x85", "a|\x1c|b|\x1f| \x85"),
    ("a\xa0b\u3000 c", "a|\xa0|b|\u3000| c"), ("e\u0301", "e|\u0301"), ("四2", "四|2"),
    ("1²½!", "1²½|!"), ("\t\tif", "\t|\t|if"), ("  ",) * 2, ("日本 ไทย", "日本| ไทย"), ("", ""),
    ("a\u200bb\ufeffc", "a|\u200b|b|\ufeff|c"), ("😀😀 😀", "😀😀| 😀"),
])
def test_texts_are_cut_where_gpt2_cuts_them(text: str, cut: str) -> None:
    assert chunks.pattern().findall(text) == [piece for piece in cut.split("|") if piece]


def test_cutting_loses_nothing() -> None:
    for text in strings(3_000, 1, 60):
        assert "".join(chunks.pattern().findall(text)) == text


# ---------------------------------------------------------------- learning merges


def test_learning_stops_where_no_pair_occurs_twice() -> None:
    assert Tokenizer.train("abc xyz", 999).merges == []
    few = Tokenizer.train("abc abc abc", 999)
    assert [few.bytes_of(n) for n in range(256, len(few))] == [b"ab", b"abc", b" abc"]
    assert few.encode("abc abc") == [257, 258]


def test_no_merge_crosses_a_cut() -> None:
    made = Tokenizer.train("to be, to be, to be, to be\n" * 50, 400)
    assert {made.bytes_of(n) for n in range(256, len(made))} == {b"to", b" to", b"be", b" be"}


@pytest.mark.parametrize("size", [-1, 0, 255])
def test_less_than_all_bytes_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="cannot name all bytes: use 256 or more"):
        Tokenizer.train("abc", size)


def test_256_tokens_are_the_bytes() -> None:
    plain = Tokenizer.train(WORDS, 256)
    assert len(plain) == 256 and plain.merges == []
    for text in [WORDS, *strings(200, 2)]:
        tokens = plain.encode(text)
        assert b"".join(map(plain.bytes_of, tokens)) == text.encode()
        assert len(tokens) == len(text.encode()) and plain.decode(tokens) == text


# ---------------------------------------------------------------- encoding and decoding


def test_the_heap_merges_as_the_definition_does() -> None:
    draw = random.Random(4)
    for number in range(40):
        pieces = ["ab", "ba", "aab", "é", " a", "abba", "c"]
        learned = "".join(draw.choices(pieces, k=300))
        tokenizer = Tokenizer.train(learned, draw.choice((257, 262, 300, 350)))
        for _ in range(20):
            text = "".join(draw.choices([*pieces, "aaaa", "abab"], k=draw.randint(0, 30)))
            assert tokenizer.encode(text) == slowly(tokenizer, text), (number, text)


def test_a_pair_that_makes_a_known_token_gets_no_new_number() -> None:
    a, b, c = Tokenizer([]).encode("abc")
    tokenizer = Tokenizer([(a, b), (b, c), (256, c), (a, 257), (258, 258)])
    assert len(tokenizer) == 260 and tokenizer.bytes_of(258) == b"abc"      # made in two ways
    assert tokenizer.bytes_of(259) == b"abcabc" and tokenizer.encode("abc") == [258]
    assert tokenizer.encode("abcabcabc") == [259, 258]
    for bad in ([(a, 256)], [(a, b), (257, a)], [(-1, a)]):
        with pytest.raises(ValueError, match="merge . needs a token that no earlier one makes"):
            Tokenizer(bad)


@pytest.mark.parametrize("text", ["a" * 60_000, "ab" * 30_000, " " * 60_000, "😀" * 15_000])
def test_a_chunk_without_end_takes_no_square_of_its_length(text: str) -> None:
    tokenizer = Tokenizer.train(text[:20_000] + WORDS, 300)
    start = time.process_time()
    tokens = tokenizer.encode(text)
    assert time.process_time() - start < 4      # the square takes minutes
    assert tokenizer.decode(tokens) == text and len(tokens) < len(text) / 8


def test_a_chunk_is_remembered_unless_it_is_long_or_there_are_too_many(
        monkeypatch: pytest.MonkeyPatch) -> None:
    made = Tokenizer.train(WORDS, 300)
    expected = slowly(made, WORDS)
    monkeypatch.setattr(module, "MOST", 5)
    monkeypatch.setattr(module, "LONGEST", 4)
    assert made.encode(WORDS) == made.encode(WORDS) == expected
    assert list(made.known) == ["low", ",", " new", ";", " it"]
    joined = []
    monkeypatch.setattr(made, "_join", lambda chunk: joined.append(chunk) or [])
    made.encode("low lower")
    assert joined == [b" lower"]


def test_what_is_remembered_cannot_be_changed_from_outside() -> None:
    made = Tokenizer.train(WORDS, 300)
    first = made.encode("low")
    first.append(7)
    assert made.encode("low") == first[:-1]


def test_numbers_that_are_no_text_are_decoded_with_a_sign_or_refused() -> None:
    made = Tokenizer.train(WORDS, 300)
    smile = made.encode("😀")
    assert made.decode(smile) == "😀" and made.decode(smile[:2]) == "\ufffd"
    assert made.decode([]) == "" and made.decode(iter(smile)) == "😀"
    draw = random.Random(5)
    for _ in range(300):
        tokens = draw.choices(range(len(made)), k=20)
        assert made.decode(tokens) == b"".join(map(made.bytes_of, tokens)).decode(
            errors="replace")
    for bad in (-1, len(made), 10**9):
        for ask in (made.bytes_of, lambda token: made.decode([0, token])):
            with pytest.raises(ValueError, match=f"there is no token {bad}: the vocabulary has "
                               f"{len(made)}, from 0 on"):
                ask(bad)
    with pytest.raises(ValueError, match="surrogates not allowed"):
        made.encode("a\ud800b")


def test_explaining_shows_every_merge_and_ends_with_the_tokens() -> None:
    made = Tokenizer.train("abc abc abc", 300)
    assert list(made.explain("abc abd")) == [
        "'abc': a b c", "    merge     1: ab c", "    merge     2: abc", "    [257]",
        "' abd': Ġ a b d", "    merge     1: Ġ ab d", f"    [{made.first[32]}, 256, "
        f"{made.first[ord('d')]}]"]
    big = Tokenizer.train(WORDS, 400)
    for text in [WORDS, *strings(200, 6)]:
        last = [json.loads(line) for line in big.explain(text) if line.startswith("    [")]
        assert sum(last, []) == big.encode(text)


# ---------------------------------------------------------------- what is kept


def same(one: Tokenizer, two: Tokenizer) -> bool:
    return (one.merges, one.tokens, one.special, one.encode(WORDS + END, True)) == (
        two.merges, two.tokens, two.special, two.encode(WORDS + END, True))


def test_a_checkpoint_can_keep_it(tmp_path: Path) -> None:
    made = Tokenizer(Tokenizer.train(WORDS, 300).merges, ["<|pad|>", END])
    torch.save(made.state(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert same(Tokenizer.from_state(state), made)
    assert gpt2.checkpoint.digest(made.state()) == gpt2.checkpoint.digest(
        Tokenizer.from_state(made.state()).state())


def test_what_was_saved_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Tokenizer(Tokenizer.train(WORDS, 300).merges, ["<|pad|>", END])
    made.save(tmp_path / "a" / "b")
    assert same(Tokenizer.load(tmp_path / "a" / "b"), made)
    before = {path: path.read_bytes() for path in (tmp_path / "a" / "b").iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError):
        Tokenizer.train("else", 256).save(tmp_path / "a" / "b")
    assert all(path.read_bytes() == content for path, content in before.items())


def test_the_names_of_hugging_face_are_read_as_well(tmp_path: Path) -> None:
    made = Tokenizer.train(WORDS, 280)
    made.save(tmp_path)
    for ours, theirs in zip(module.FILES, ("vocab.json", "merges.txt"), strict=True):
        (tmp_path / ours).rename(tmp_path / theirs)
    assert same(Tokenizer.load(tmp_path), made)
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(Refusal, match="merges.txt cannot be read"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("name,change,words", [
    ("encoder.json", None, "cannot be read .No such file.*: name the folder of encoder.json"),
    ("vocab.bpe", None, "vocab.bpe cannot be read"), ("vocab.bpe", "\udcff", "is no text"),
    ("encoder.json", lambda text: text[:-50], "no tokenizer like GPT-2's in encoder.json"),
    ("encoder.json", lambda _: "[1, 2]", "no tokenizer like"),
    ("encoder.json", lambda _: "7", "no tokenizer like"),
    ("encoder.json", lambda text: text.replace('"!": 0', '"!": 1'), "do not follow the bytes"),
    ("encoder.json", lambda text: text.replace(": 9,", ': "9",'), "do not follow the bytes"),
    ("encoder.json", lambda text: text[:-1] + ', "x y": 999}', "do not follow"),
    ("vocab.bpe", lambda text: text + "l o w\n", "no tokenizer"),
    ("vocab.bpe", lambda text: text + "qqq z\n", "no tokenizer"),
    ("vocab.bpe", lambda text: text[: len(text) // 2], "no tokenizer"),
])
def test_broken_files_are_refused_in_a_sentence(
        name: str, change: str | Callable[[str], str] | None, words: str,
        tmp_path: Path) -> None:
    Tokenizer.train(WORDS, 280).save(tmp_path)
    path = tmp_path / name
    if callable(change):
        path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    elif change:
        path.write_bytes(change.encode(errors="surrogateescape"))
    else:
        path.unlink()
    with pytest.raises(Refusal, match=words) as refusal:
        Tokenizer.load(tmp_path)
    assert "\n" not in str(refusal.value)


# ---------------------------------------------------------------- the command line


def test_it_shows_its_work(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    text, out = tmp_path / "text.txt", tmp_path / "out"
    text.write_text(WORDS * 3, encoding="utf-8")
    argv = ["--data", str(text), "--vocabulary", "290"]
    assert module.main([*argv, "--save", str(out), "it's", "new"]) == 0
    shown = capsys.readouterr().out.splitlines()
    kept = Tokenizer.load(out)
    assert shown[:-2] == list(kept.explain("it's new")) and len(kept) == 290
    count = len(kept.encode("it's new"))
    assert shown[-2] == f"8 characters, 8 bytes, {count} tokens of 290"
    assert shown[-1] == f"wrote encoder.json and vocab.bpe to {out}"
    assert module.main(["--tokenizer", str(out), "newer"]) == 0
    assert capsys.readouterr().out.splitlines()[:-1] == list(kept.explain("newer"))
    with pytest.raises(SystemExit, match="2"):
        module.main(["--vocabulary", "255", "a"])
    assert "error: 255 tokens cannot name all bytes: use 256" in capsys.readouterr().err
    assert module.main(["--tokenizer", str(tmp_path / "none"), "a"]) == 1
    assert "none" in capsys.readouterr().err


def test_it_is_a_script(tmp_path: Path) -> None:
    done = run(ROOT / "gpt2_from_scratch" / "tokenizer.py", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("'Don': D o n\n"), done.stderr
    assert not list(tmp_path.iterdir())
