"""The text encoder against transformers', and both tokenizers."""

import gzip
import random
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from sd_peers import sd, twins
from support import run

tokenizer, Refusal = sd.tokenizer, sd.console.Refusal
GOLDEN = {"a photograph of an astronaut riding a horse": [320, 8853, 539, 550, 18376, 6765, 320,
                                                          4558], "": [], "  \n ": []}
MERGES = [("i", "n</w>"), ("t", "h"), ("th", "e</w>"), ("r", "e"), ("re", "d</w>"), ("l", "l")]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("peers")


@pytest.fixture(scope="module")
def clip(shared: Callable[[str], Path]) -> tokenizer.ClipTokenizer:
    """The tokenizer of the published models."""
    return tokenizer.ClipTokenizer.load(shared("clip_bpe") / "clip_bpe")


@pytest.fixture(scope="module")
def peer(clip: tokenizer.ClipTokenizer) -> Callable[[str], list[int]]:
    """Transformers' tokenizer with the same vocabulary, without the marks it adds."""
    from transformers import CLIPTokenizer
    theirs = CLIPTokenizer(vocab=clip.numbers, merges=clip.merges, model_max_length=77)
    return lambda text: theirs.backend_tokenizer.encode(text).ids[1:-1]


# ---------------------------------------------------------------- the encoder


@pytest.mark.parametrize("seed", range(20))
def test_the_encoder_is_transformers_in_64_bits(home: Path, seed: int) -> None:
    """Twenty random configurations; every token counts, the padding too."""
    pair = twins(seed, home)
    draw = torch.Generator().manual_seed(seed)
    tokens = torch.randint(pair.config["text"]["vocabulary"], (3, 12), generator=draw)
    tokens[:, 6:] = tokens[:, 6:7]
    ours, theirs = pair.ours.text(tokens), pair.text(tokens).last_hidden_state
    assert ours.std() > 0.5 and (ours - theirs).abs().max() <= 1e-9
    for net, out in ((pair.ours.text, ours), (pair.text, theirs)):
        net.zero_grad()
        out.square().sum().backward()
    mine = dict(pair.ours.text.named_parameters())
    named = sd.layouts.text_namer([])
    for name, parameter in pair.text.named_parameters():
        assert (mine[named(name)].grad - parameter.grad).abs().max() <= 1e-8, name


def test_no_token_hears_of_the_future_and_padding_hears_of_the_past(home: Path) -> None:
    net = twins(1, home).ours.text
    tokens = torch.arange(12)[None]
    for place in range(12):
        other = tokens.clone()
        other[0, place] = 40
        changed = (net(other) - net(tokens)).abs().amax(-1)[0]
        assert torch.equal(changed[:place], torch.zeros(place).double())
        assert (changed[place:] > 1e-9).all()


def test_the_last_norm_is_there_and_tokens_have_room(home: Path) -> None:
    net = sd.model.build(sd.model.SMALL).text
    out = net(torch.randint(64, (2, 16)))
    assert out.mean(-1).abs().max() < 1e-5
    assert (out.var(-1, correction=0) - 1).abs().max() < 0.01
    assert isinstance(net.final_layer_norm, nn.LayerNorm)
    with pytest.raises(ValueError, match="has 17 tokens but there is room for 16: shorten it"):
        net(torch.zeros(1, 17, dtype=torch.long))


# ---------------------------------------------------------------- CLIP's tokenizer


def test_golden_numbers(clip: tokenizer.ClipTokenizer) -> None:
    assert len(clip) == 49_408 and clip.numbers["!"] == 0 and clip.numbers["a</w>"] == 320
    for text, numbers in GOLDEN.items():
        assert clip.encode(text) == numbers
    rows = clip(["a photograph of an astronaut riding a horse", ""])
    assert rows.shape == (2, 77) and rows.dtype == torch.long
    assert rows[0].tolist() == [49406, *GOLDEN["a photograph of an astronaut riding a horse"],
                                *[49407] * 68]
    assert rows[1].tolist() == [49406, *[49407] * 76]
    long = clip(["cat " * 500])[0].tolist()
    assert long[0] == 49406 and long[-1] == 49407 and set(long[1:-1]) == {2368}


NASTY = ["<|endoftext|> x", "<|ENDOFTEXT|> x", "a<|startoftext|>b", "ΑΣ it's I'LL 12 don't",
         "İstanbul", "é", "\x1c x", "ﬁ ǅ Ａ “x” &amp; x&lt;", "\u00a0a\u2003b",
         "🦊🇩🇪👩‍👩‍👧", "a" * 400,
         "'s's", "!'s", "x'Ll", "12³½Ⅷ", "한글 日本語 ไทย", "\ufeffx", "a\u0301\u0327", "\r\n"]


@pytest.mark.parametrize("text", NASTY)
def test_nasty_strings_have_transformers_numbers(
        clip: tokenizer.ClipTokenizer, peer: Callable, text: str) -> None:
    assert clip.encode(text) == peer(text)


def test_twelve_thousand_lines_have_transformers_numbers(
        clip: tokenizer.ClipTokenizer, peer: Callable, shared: Callable) -> None:
    text = (shared("shakespeare") / "shakespeare" / "input.txt").read_text(encoding="utf-8")
    lines = [line for line in text.split("\n") if line][:12_000]
    assert len(lines) == 12_000 and [s for s in lines if clip.encode(s) != peer(s)] == []


def judged_differently(text: str) -> bool:
    """Whether Python and the library have Unicode tables of different age for a text.

    Python's does not know a character yet, or the library's does not know how its accents are
    ordered.
    """
    from tokenizers import normalizers
    strange = any(unicodedata.category(sign) == "Cn" for sign in text)
    composed = normalizers.NFC().normalize_str(text)
    return strange or composed != unicodedata.normalize("NFC", text)


def test_twenty_thousand_random_strings_have_transformers_numbers(
        clip: tokenizer.ClipTokenizer, peer: Callable) -> None:
    """Where both have heard of every character: the only exceptions there are."""
    draw, ranges = random.Random(0), [(32, 127), (0, 0x250), (0x250, 0x3000), (0, 0x110000)]
    different, left_out = [], 0
    for _ in range(20_000):
        span = draw.choice(ranges)
        codes = [draw.randrange(*span) for _ in range(draw.randrange(1, 30))]
        text = "".join(chr(code) for code in codes if not 0xD800 <= code < 0xE000)
        if clip.encode(text) != peer(text):
            left_out += judged_differently(text)
            different += [] if judged_differently(text) else [text]
    assert not different and left_out < 2000, (different[:3], left_out)


def test_texts_come_back(clip: tokenizer.ClipTokenizer) -> None:
    assert clip.decode(clip.encode("A Fox's 12 naïve 🦊!")) == "a fox 's 1 2 naïve 🦊!"
    assert clip.decode([49406, 320, 4558, 49407]) == "a horse"


def test_a_checkpoint_keeps_the_tokenizer(clip: tokenizer.ClipTokenizer) -> None:
    again = tokenizer.from_state(clip.state())
    assert again.numbers == clip.numbers and again.ranks == clip.ranks and again.length == 77
    words = tokenizer.WordTokenizer(["red", "circle"], 6)
    assert tokenizer.from_state(words.state()).numbers == words.numbers


def test_a_long_word_takes_no_time() -> None:
    small = tokenizer.ClipTokenizer(MERGES)
    began = time.monotonic()
    assert len(small.encode("l" * 100_000)) > 50_000
    assert time.monotonic() - began < 20


def test_half_a_surrogate_is_read_as_a_question_mark() -> None:
    small = tokenizer.ClipTokenizer(MERGES)
    assert small.encode("\ud800") == small.encode("?")


def test_a_prompt_that_is_too_long_is_remarked_upon() -> None:
    small = tokenizer.ClipTokenizer(MERGES, length=8)
    assert small.remarks("in the red") == []
    assert small.remarks("in " * 7) == [
        "the end of the prompt is not read: it has 1 tokens more than there is room for"]
    assert small(["in " * 7]).shape == (1, 8) and small(["in " * 7])[0, -1] == small.end


def test_vocabularies_are_found_in_files_and_folders(tmp_path: Path) -> None:
    text = "#version\n" + "\n".join(map(" ".join, MERGES)) + "\n"
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "merges.txt").write_text(text, encoding="utf-8")
    (tmp_path / "x.gz").write_bytes(gzip.compress(text.encode()))
    for path in (tmp_path, tmp_path / "tokenizer", tmp_path / "x.gz"):
        assert tokenizer.ClipTokenizer.load(path).merges == MERGES


@pytest.mark.parametrize(("content", "message"), [
    (None, "cannot be read"), (b"#v\na b c\n", "no vocabulary of CLIP"),
    (b"#v\nzz y\n", "no vocabulary of CLIP .*needs 'zz'"), (b"#v\n\xff\xfe", "no vocabulary")])
def test_broken_vocabularies_are_refused(tmp_path: Path, content: bytes | None,
                                         message: str) -> None:
    path = tmp_path / "merges.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Refusal, match=message):
        tokenizer.ClipTokenizer.load(path)


def test_the_command_shows_tokens(shared: Callable) -> None:
    script = Path(tokenizer.__file__)
    done = run(script, "--vocabulary", shared("clip_bpe") / "clip_bpe", "a horse")
    assert done.returncode == 0 and done.stdout == "   320 a</w>\n  4558 horse</w>\n"
    done = run(script, "--vocabulary", "/nowhere")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1


# ---------------------------------------------------------------- words


def test_words_have_numbers_and_unknown_ones_are_named() -> None:
    words = tokenizer.WordTokenizer(["red", "blue", "circle"], 6)
    assert len(words) == 5 and (words.start, words.end) == (0, 1)
    assert words(["A Red, circle!", ""]).tolist() == [[0, 2, 4, 1, 1, 1], [0, 1, 1, 1, 1, 1]]
    assert words.decode([0, 3, 4, 1, 1]) == "blue circle"
    remark, = words.remarks("red dragon dragon a")
    assert "never read dragon, a:" in remark and "such as red, blue" in remark
    assert words.remarks("red circle") == []
    assert len(words.remarks("red " * 500)) == 1 and words(["red " * 500])[0, -1] == 1
