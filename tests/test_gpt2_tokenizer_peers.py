"""GPT-2's tokenizer against OpenAI's, and what it learns against Hugging Face's."""

import json
import random
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
import tiktoken
import tokenizers
from tiktoken.load import data_gym_to_mergeable_bpe_ranks

from support import load

gpt2 = load("gpt2_from_scratch")
chunks, Tokenizer, END = gpt2.chunks, gpt2.tokenizer.Tokenizer, "<|endoftext|>"
CUTS = (r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s")
POOL = (" \n\t\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2007\u2028\u2029\u202f\u205f\u3000"
        "\u200b\u180e\ufeff'''sdmtlvreSLE012²½Ⅷ一四AZéßǅʰaa日本ไ\u0e31\u0301😀-—.!?<|>_\x00\x07\x7f")


@pytest.fixture(scope="module")
def files(shared: Callable[[str], Path]) -> Path:
    """The folder of OpenAI's two files."""
    return shared("gpt2_bpe") / "gpt2_bpe"


@pytest.fixture(scope="module")
def ours(files: Path) -> Tokenizer:
    """GPT-2's own."""
    return Tokenizer.load(files)


@pytest.fixture(scope="module")
def peer(files: Path) -> tiktoken.Encoding:
    """tiktoken's "gpt2", built from the files as tiktoken builds it from its download."""
    ranks = data_gym_to_mergeable_bpe_ranks(*(str(files / name) for name in (
        "vocab.bpe", "encoder.json")))
    return tiktoken.Encoding("gpt2", pat_str=CUTS, mergeable_ranks=ranks,
                             special_tokens={END: 50256}, explicit_n_vocab=50257)


@pytest.fixture(scope="module")
def shakespeare(shared: Callable[[str], Path]) -> str:
    return (shared("shakespeare") / "shakespeare" / "input.txt").read_text(encoding="utf-8")


def strings(count: int, seed: int, longest: int = 40) -> list[str]:
    """Random strings of all that is hard to cut."""
    draw = random.Random(seed)
    return ["".join(draw.choices(POOL, k=draw.randint(0, longest))) for _ in range(count)]


def hugging_face(text: str, size: int) -> tokenizers.Tokenizer:
    """What BpeTrainer learns from a text; a pair has to occur twice."""
    peer = tokenizers.Tokenizer(tokenizers.models.BPE())
    peer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    peer.train_from_iterator([text], tokenizers.trainers.BpeTrainer(
        vocab_size=size, min_frequency=2, initial_alphabet=alphabet, show_progress=False))
    return peer


def shown_merges(tokenizer: Tokenizer) -> list[list[str]]:
    return [[tokenizer.show(left), tokenizer.show(right)] for left, right in tokenizer.merges]


# ---------------------------------------------------------------- like OpenAI's


def test_bytes_have_the_numbers_of_openais_files(ours: Tokenizer, files: Path) -> None:
    signs, numbers = chunks.glyphs(), json.loads((files / "encoder.json").read_text("utf-8"))
    assert sorted(signs) == list(range(256)) and len(set(signs.values())) == 256
    assert all(sign.isprintable() and not sign.isspace() for sign in signs.values())
    assert signs[0x20] + signs[0x0A] + signs[0x41] + signs[0xE9] == "ĠĊAé"
    assert [numbers[sign] for sign in signs.values()] == list(range(256))
    assert [ours.bytes_of(n) for n in (0, 187, 188)] == [b"!", b"\xff", b"\x00"]


def test_every_assigned_code_point_is_cut_as_openai_does(
        ours: Tokenizer, peer: tiktoken.Encoding) -> None:
    """At the start, among letters, after a space, a digit and a sign, and twice."""
    assigned = [chr(code) for code in range(0x110000)
                if unicodedata.category(chr(code)) not in ("Cn", "Cs")]
    assert len(assigned) > 280_000
    wrong = []
    for first in range(0, len(assigned), 64):
        texts = [f"{c}a{c} {c}1{c}.{c}{c}\n" for c in assigned[first : first + 64]]
        if ours.encode("".join(texts)) != peer.encode_ordinary("".join(texts)):
            wrong += [text[0] for text in texts
                      if ours.encode(text) != peer.encode_ordinary(text)] or texts
    assert not wrong


def test_random_strings_get_the_same_numbers(ours: Tokenizer, peer: tiktoken.Encoding) -> None:
    for text in strings(20_000, 0):
        assert ours.encode(text) == peer.encode_ordinary(text), ascii(text)
        assert ours.decode(ours.encode(text)) == text


def test_all_of_shakespeare_gets_the_same_numbers(
        ours: Tokenizer, peer: tiktoken.Encoding, shakespeare: str) -> None:
    tokens = ours.encode(shakespeare)
    assert tokens == peer.encode_ordinary(shakespeare) and ours.decode(tokens) == shakespeare
    split = int(0.9 * len(shakespeare))
    parts = shakespeare[:split], shakespeare[split:]
    assert [len(ours.encode(part)) for part in parts] == [301_966, 36_059]      # nanoGPT's


def test_special_tokens_are_text_unless_they_are_allowed(
        ours: Tokenizer, peer: tiktoken.Encoding) -> None:
    assert ours.encode(END) == [27, 91, 437, 1659, 5239, 91, 29] and len(ours) == 50_257
    for text in (END, f"{END}{END}", f"a {END} b{END}", f"<|endof{END}text|>", "", "no end"):
        assert ours.encode(text) == peer.encode_ordinary(text)
        allowed = ours.encode(text, allow_special=True)
        assert allowed == peer.encode(text, allowed_special="all")
        assert ours.decode(allowed) == text and 50256 not in ours.encode(text)
    assert ours.encode("a(.)b|c", True) == ours.encode("a(.)b|c")
    several = Tokenizer([], ["<|a|>", "(.)"])       # no expressions, only what they are
    assert several.encode("x<|a|>(.)(z)", True)[1:3] == [256, 257] and len(several) == 258


def test_the_two_files_are_written_as_they_were_read(
        ours: Tokenizer, files: Path, tmp_path: Path) -> None:
    ours.save(tmp_path / "new")
    for name, read in (("vocab.bpe", str), ("encoder.json", json.loads)):
        mine, theirs = ((home / name).read_text(encoding="utf-8")
                        for home in (tmp_path / "new", files))
        assert read(mine) == read(theirs)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "encoder.json", "vocab.bpe"]


# ---------------------------------------------------------------- learning merges


@pytest.mark.parametrize("size", [512, 1024, pytest.param(4096, marks=pytest.mark.slow)])
def test_merges_are_those_of_hugging_face(size: int, shakespeare: str) -> None:
    start = time.process_time()
    mine = Tokenizer.train(shakespeare, size)
    seconds, theirs = time.process_time() - start, hugging_face(shakespeare, size)
    assert len(mine) == size and len(mine.merges) == size - 256
    merges = json.loads(theirs.to_str())["model"]["merges"]
    assert shown_merges(mine) == [list(merge) for merge in merges]
    assert mine.encode(shakespeare) == theirs.encode(shakespeare).ids
    print(f"{size} tokens learned in {seconds:.2f} s")
    assert seconds <= 10      # 5 on an idle core; here all cores are at work


def test_merges_of_texts_full_of_ties_and_repeats_are_those_of_hugging_face() -> None:
    draw = random.Random(3)
    for number in range(150):
        letters = draw.choice(("ab", "abc ", "aé ", "abcdefgh  "))
        text = "".join(draw.choices(letters, k=draw.randint(1, 300)))
        text += draw.choice(("", "a" * draw.randint(1, 40), " ab" * 9, "-=" * 20))
        size = draw.choice((257, 260, 280, 400))
        mine, theirs = Tokenizer.train(text, size), hugging_face(text, size)
        merges, numbers = map(json.loads(theirs.to_str())["model"].get, ("merges", "vocab"))
        assert shown_merges(mine) == [list(merge) for merge in merges], (number, text)
        assert {mine.show(i): i for i in range(len(mine))} == numbers, (number, text)


def test_encoding_is_fast(shakespeare: str) -> None:
    """1 MB/s on an idle core, with nothing remembered; half of it where others are at work."""
    made, speeds = Tokenizer.train(shakespeare[:200_000], 1024), []
    for _ in range(3):
        made.known.clear()
        start = time.process_time()
        made.encode(shakespeare)
        speeds.append(len(shakespeare) / (time.process_time() - start) / 1e6)
    print(f"{max(speeds):.2f} MB/s")
    assert max(speeds) >= 0.5
