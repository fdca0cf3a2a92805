"""How tokens are drawn, and what inference.py says: continuations, expectations, perplexity."""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from support import ROOT, load

gpt2 = load("gpt2_from_scratch")
checkpoint, sampling, Reader = gpt2.checkpoint, gpt2.generate, gpt2.reader.Reader
Sampling, draw, Tokenizer = sampling.Sampling, sampling.draw, gpt2.reader.Tokenizer
CONTEXT, DRAWS, TEXT = 16, 100_000, "to be, or not to be: that is the question. " * 3


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A model of bytes with large random weights, saved as training would save it."""
    torch.manual_seed(2)
    tokenizer = Tokenizer.train(TEXT, 256)
    config = {"vocabulary": len(tokenizer), "context": CONTEXT, "layers": 2, "heads": 2,
              "channels": 32, "dropout": 0.1, "bias": True, "tokenizer": tokenizer.state(),
              "data": "nothing"}
    model = gpt2.model.build(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.normal_(std=0.3)
    best = tmp_path_factory.mktemp("trained") / "best.pt"
    checkpoint.save(best, {"folder": gpt2.model.NAME, "config": config,
                           "model": model.state_dict()})
    return SimpleNamespace(best=best, config=config, model=model, tokenizer=tokenizer,
                           reader=Reader(model, config))


@pytest.fixture
def ask(trained: SimpleNamespace, capsys: pytest.CaptureFixture, tmp_path: Path) -> Callable:
    """Runs inference.py in this process: exit code, what it said, and its complaints."""

    def asked(*flags: object, typed: bytes = b"", path: Path | None = None) -> SimpleNamespace:
        (tmp_path / "typed").write_bytes(typed)
        keyboard, before = os.dup(0), sorted(ROOT.glob("gpt2_from_scratch/*"))
        with (tmp_path / "typed").open("rb") as file:
            os.dup2(file.fileno(), 0)
        try:
            code = gpt2.inference.main(
                ["--checkpoint", str(path or trained.best), "--out", str(tmp_path / "out"),
                 *map(str, flags)])
        finally:
            os.dup2(keyboard, 0)
            os.close(keyboard)
        said = capsys.readouterr()
        assert not (tmp_path / "out").exists()
        assert sorted(ROOT.glob("gpt2_from_scratch/*")) == before
        return SimpleNamespace(code=code, out=said.out, errors=[
            line for line in said.err.splitlines() if not line.startswith("using ")])

    return asked


# ---------------------------------------------------------------- drawing


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shares_of(logits: list[float], how: Sampling, draws: int = DRAWS) -> Tensor:
    """How often each token is drawn."""
    tokens = draw(torch.tensor([logits]).expand(draws, -1), how, seeded())
    return torch.bincount(tokens, minlength=len(logits)) / draws


def candidates(logits: Tensor, how: Sampling) -> set[int]:
    """The tokens that can be drawn."""
    return set(draw(logits.expand(2000, -1), how, seeded()).tolist())


@pytest.mark.parametrize(("how", "expected"), [
    (Sampling(), [0.5, 0.3, 0.15, 0.05]),
    (Sampling(temperature=0.5), [0.25, 0.09, 0.0225, 0.0025]),
    (Sampling(temperature=2.0), [0.5**0.5, 0.3**0.5, 0.15**0.5, 0.05**0.5]),
    (Sampling(top_k=2), [0.5, 0.3, 0, 0]),
    (Sampling(top_k=99), [0.5, 0.3, 0.15, 0.05]),
    (Sampling(top_p=0.5), [0.5, 0, 0, 0]),           # the first alone reaches it
    (Sampling(top_p=0.7), [0.5, 0.3, 0, 0]),         # the one that crosses 0.7 is among them
    (Sampling(top_p=0.49), [0.5, 0, 0, 0]),
    (Sampling(top_p=1e-9), [0.5, 0, 0, 0]),
    (Sampling(top_p=0.81), [0.5, 0.3, 0.15, 0]),
    (Sampling(top_k=3, top_p=0.6), [0.5, 0.3, 0, 0]),        # 0.526 of what three have
    (Sampling(temperature=0.5, top_p=0.7), [0.25, 0.09, 0, 0]),    # 0.685 do not suffice
    (Sampling(temperature=0), [1, 0, 0, 0]),
    (Sampling(temperature=1e-300), [1, 0, 0, 0]),
])
def test_tokens_are_drawn_as_often_as_they_should_be(
        how: Sampling, expected: list[float]) -> None:
    """χ² on 100,000 draws, in an order that is not that of their probabilities."""
    order = [2, 0, 3, 1]
    logits = [0.0] * 4
    for place, share in zip(order, (0.5, 0.3, 0.15, 0.05)):
        logits[place] = math.log(share) + 3
    found = shares_of(logits, how)[order]
    wanted = torch.tensor(expected) / sum(expected)
    assert torch.equal(found > 0, wanted > 0)
    chi = (DRAWS * (found - wanted).square() / wanted.clamp(min=1e-12))[wanted > 0].sum()
    assert chi < 16.3          # of three degrees of freedom, once in a thousand


def test_exactly_k_candidates_stay_even_where_some_are_equal() -> None:
    for k in (1, 2, 3):
        assert len(candidates(torch.tensor([[1.0, 2, 2, 2, 0]]), Sampling(top_k=k))) == k
    assert candidates(torch.zeros(1, 9), Sampling(top_k=9)) == set(range(9))
    assert candidates(torch.zeros(1, 9), Sampling(top_k=10, top_p=1.0)) == set(range(9))


def test_candidates_are_those_of_transformers() -> None:
    from transformers import TopKLogitsWarper, TopPLogitsWarper
    for seed in range(20):
        logits = 2 * torch.randn(3, 50, generator=seeded(seed))
        for how in (Sampling(top_k=7), Sampling(top_p=0.8), Sampling(top_k=20, top_p=0.5)):
            kept = TopKLogitsWarper(how.top_k or 50)(None, logits)
            kept = TopPLogitsWarper(how.top_p)(None, kept)
            for row in range(3):
                allowed = set(kept[row].isfinite().nonzero().flatten().tolist())
                found = candidates(logits[row : row + 1], how)
                rare = {token for token in allowed - found
                        if kept[row].softmax(0)[token] > 0.01}
                assert found <= allowed and not rare


def test_every_row_is_drawn_from_its_own_logits() -> None:
    logits = torch.full((3, 5), -30.0)
    logits[[0, 1, 2], [4, 0, 2]] = 30
    for how in (Sampling(), Sampling(top_k=2), Sampling(top_p=0.9), Sampling(temperature=0)):
        assert draw(logits, how, seeded()).tolist() == [4, 0, 2]


def test_what_was_there_is_penalised_as_in_transformers() -> None:
    from transformers import RepetitionPenaltyLogitsProcessor
    logits, text = torch.randn(3, 20), torch.randint(20, (3, 8))
    found = sampling.penalise(logits, text, 1.7)
    assert torch.equal(found, RepetitionPenaltyLogitsProcessor(1.7)(text, logits))
    assert ((found <= logits).all() and (found < logits).any(1).all())
    text[1, :5] = sampling.NOTHING           # padding is no token, and least of all token 0
    found = sampling.penalise(logits, text, 1.7)
    alone = sampling.penalise(logits[1:2], text[1:2, 5:], 1.7)
    assert torch.equal(found[1:2], alone)


def test_a_penalty_breaks_repetition(trained: SimpleNamespace) -> None:
    rows = [[row[0] for row in sampling.generate(
        trained.model, [[5]], 30, Sampling(temperature=0, penalty=penalty), seeded())]
        for penalty in (1.0, 1e9)]
    assert len(set(rows[1])) == 30 > len(set(rows[0]))
    assert 5 not in rows[1]


# ---------------------------------------------------------------- writing


def test_pieces_never_end_within_a_character_and_add_up(
        trained: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["né 😀日本 ok", "x"]
    tokens = [trained.tokenizer.encode(text) for text in texts]
    tokens[1] += [None] * (len(tokens[0]) - 1)
    broken = trained.tokenizer.encode("😀")[:2]
    monkeypatch.setattr(gpt2.reader, "generate", lambda *_: iter(
        [*map(list, zip(*tokens)), [broken[0], None], [broken[1], None]]))
    steps = list(trained.reader.write(["a", "b"], 99, Sampling(), 0))
    assert not [piece for step in steps[:-1] for piece in step if "\ufffd" in piece]
    assert ["".join(pieces) for pieces in zip(*steps)] == [texts[0] + "\ufffd", "x"]
    assert steps[-1] == ["\ufffd", ""] and ["😀", ""] in steps


def test_a_text_goes_on_as_the_model_would_have_it(
        ask: Callable, trained: SimpleNamespace) -> None:
    prompt = "To be"
    text = trained.tokenizer.encode(prompt)
    for _ in range(40):
        logits = trained.model(torch.tensor([text[-CONTEXT:]]))[0, -1]
        text.append(int(logits.argmax()))
    expected = b"".join(map(trained.tokenizer.bytes_of, text)).decode("utf-8", "replace")
    asked = ask("--prompt", prompt, "--temperature", 0, "--tokens", 40)
    assert (asked.code, asked.errors) == (0, []) and asked.out == expected + "\n"
    for flags, typed in ((("--file", "-"), prompt.encode()), (("--prompt", prompt), b"")):
        again = ask(*flags, "--top-k", 1, "--tokens", 40, typed=typed)
        assert again.out == asked.out


def test_seeds_make_texts_and_count_makes_several(ask: Callable) -> None:
    flags = ("--prompt", "To be", "or", "--count", 2, "--tokens", 30, "--json")
    one, same, other = (ask(*flags, "--seed", seed) for seed in (1, 1, 2))
    found = [json.loads(line) for line in one.out.splitlines()]
    assert [row["prompt"] for row in found] == ["To be", "To be", "or", "or"]
    assert len({row["text"] for row in found}) == 4 and one.out == same.out != other.out
    plain = ask(*flags[:-1], "--seed", 1).out
    for number, row in enumerate(found, 1):
        assert f"--- {number} of 4\n{row['prompt']}{row['text']}\n" in plain


def test_the_stop_token_ends_a_text_and_is_not_written(ask: Callable) -> None:
    flags = ("--prompt", "To be", "--temperature", 1, "--tokens", 300, "--json")
    free = json.loads(ask(*flags).out)["text"]
    stop = next(letter for letter in free if letter.isascii() and letter.isprintable())
    text = json.loads(ask(*flags, "--stop", stop).out)["text"]
    assert text == free[: free.index(stop)]
    asked = ask("--stop", "ab")
    assert (asked.code, asked.out) == (1, "")
    assert asked.errors == ["error: 'ab' is 2 tokens: name a text that is one"]


def test_the_likeliest_next_tokens_are_shown_with_their_probabilities(
        ask: Callable, trained: SimpleNamespace) -> None:
    tokens = torch.tensor([trained.tokenizer.encode("To be")])
    shares = trained.model(tokens)[0, -1].softmax(0).sort(descending=True)
    found = json.loads(ask("--prompt", "To be", "--next", 4, "--json").out)["next"]
    assert [token for _, token, _ in found] == shares.indices[:4].tolist()
    assert [share for *_, share in found] == pytest.approx(shares.values[:4].tolist(), rel=1e-4)
    lines = ask("--prompt", "To be", "x", "--next").out.splitlines()
    assert lines[0] == "after 'To be':" and lines[12] == "after 'x':" and len(lines) == 24
    assert lines[2].split()[-2:] == [str(found[0][1]), f"{shares.values[0]:.2%}"]
    assert len(ask("--next", 999).out.splitlines()) == 2 + 256


# ---------------------------------------------------------------- judging


def by_hand(trained: SimpleNamespace, tokens: list[int], stride: int) -> list[float]:
    """Losses of all tokens but the first, each in the first window that has it: one by one."""
    losses, done = [], 0
    for begin in range(0, len(tokens), stride):
        window = tokens[begin : begin + CONTEXT]
        logits = trained.model(torch.tensor([window]))[0]
        for place in range(1, len(window)):
            if begin + place >= done:
                losses.append(F.cross_entropy(logits[place - 1],
                                              torch.tensor(window[place])).item())
        done = begin + len(window)
        if done == len(tokens):
            return losses
    raise AssertionError


@pytest.mark.parametrize("stride", [1, 5, 8, 15, 16])
@pytest.mark.parametrize("length", [2, 15, 16, 17, 32, 33, 100])
def test_perplexity_is_the_usual_one_at_every_stride(
        ask: Callable, trained: SimpleNamespace, tmp_path: Path, stride: int,
        length: int) -> None:
    text = TEXT[:length]
    (tmp_path / "text").write_text(text)
    losses = by_hand(trained, trained.tokenizer.encode(text), stride)
    found = json.loads(ask("--perplexity", tmp_path / "text", "--stride", stride, "--json").out)
    assert found["tokens"] == length and found["scored"] == len(losses)
    assert stride == CONTEXT or len(losses) == length - 1
    mean = sum(losses) / len(losses)
    assert found["nats_per_token"] == pytest.approx(mean, abs=1e-4)
    assert found["perplexity"] == pytest.approx(math.exp(mean), rel=1e-3)
    assert found["nats_per_character"] == pytest.approx(mean, abs=1e-4)    # tokens are bytes
    assert found["bits_per_byte"] == pytest.approx(mean / math.log(2), abs=1e-4)


def test_a_byte_and_a_character_are_told_apart(ask: Callable) -> None:
    found = json.loads(ask("--perplexity", "-", "--json", typed="aéé".encode()).out)
    assert found["nats_per_character"] / found["bits_per_byte"] == pytest.approx(
        2 * math.log(2))           # the first token, which is not scored, does not count
    line = ask("--perplexity", "-", typed="aéé".encode()).out
    assert f"perplexity {found['perplexity']:.4g}, {found['nats_per_token']:.4f} nats" in line
    assert line.endswith("on 4 tokens in windows 8 apart\n")


def test_a_text_is_the_same_with_other_line_ends_and_a_mark_before_it(ask: Callable) -> None:
    plain = ask("--perplexity", "-", typed=b"to be\nor not\n").out
    assert ask("--perplexity", "-", typed=b"\xef\xbb\xbfto be\r\nor not\r\n").out == plain
    zero = ask("--perplexity", "-", typed=b"to be\0")
    assert zero.code == 1 and "it has zero bytes" in zero.errors[0]


def test_the_flags_reach_the_pen(ask: Callable, trained: SimpleNamespace,
                                 monkeypatch: pytest.MonkeyPatch) -> None:
    asked, write = [], gpt2.reader.Reader.write
    monkeypatch.setattr(gpt2.reader.Reader, "write", lambda *given: asked.append(
        given[1:]) or write(*given))
    flags = ("--temperature 0.5 --top-k 7 --top-p 0.6 --repetition-penalty 1.7 --tokens 2 "
             "--seed 3 --stop x --prompt a b --count 2").split()
    assert ask(*flags).code == 0
    sampling = gpt2.generate.Sampling(0.5, 7, 0.6, 1.7)
    stop = trained.tokenizer.encode("x")[0]
    assert asked == [(["a", "a", "b", "b"], 2, sampling, 3, stop)]
    assert ask("--prompt", "a").code == 0
    assert asked[1] == (["a"], 200, gpt2.generate.Sampling(0.8), 0, None)


# ---------------------------------------------------------------- refusals


def test_what_cannot_be_read_is_refused_in_one_sentence(
        ask: Callable, trained: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"ab\xff\xfe")
    (tmp_path / "one").write_text("a")
    other = checkpoint.load(trained.best)
    other["config"]["tokenizer"] = Tokenizer.train(TEXT, 260).state()
    checkpoint.save(tmp_path / "other.pt", other)
    whole = trained.best.read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[:-500])
    long = "the prompt has 17 tokens but the model reads at most 16: shorten it"
    for asked, said in (
            (ask("--prompt", ""), "the prompt is empty: write at least one character"),
            (ask("--prompt", "fine", ""), "the prompt is empty: write at least one character"),
            (ask("--prompt", "x" * 17), long), (ask("--prompt", "x" * 17, "--next"), long),
            (ask("--file", "-", typed=b"x" * 17), long),
            (ask("--file", tmp_path / "binary"), "is no text: byte 2 is not UTF-8"),
            (ask("--perplexity", tmp_path / "binary"), "is no text: byte 2 is not UTF-8"),
            (ask("--perplexity", tmp_path / "none"), "cannot be read (No such file or direc"),
            (ask("--perplexity", tmp_path), "cannot be read (Is a directory): name a text f"),
            (ask("--perplexity", tmp_path / "one"), "the text has 1 tokens, and the first"),
            (ask("--perplexity", "-"), "the text has 0 tokens, and the first cannot be judged"),
            (ask("--perplexity", trained.best), "is no text: byte "),
            (ask("--perplexity", "-", "--stride", 17, typed=b"abc"), "a stride of 17 would"),
            (ask(path=tmp_path / "other.pt"), "the tokenizer has 260 tokens, the model 256"),
            (ask(path=tmp_path / "cut.pt"), "cut.pt is damaged"),
            (ask(path=ROOT / "lenet_from_scratch" / "pretrained.pt"), "was made by lenet")):
        assert (asked.code, asked.out, len(asked.errors)) == (1, "", 1), said
        assert asked.errors[0].startswith("error: ") and said in asked.errors[0]


@pytest.mark.parametrize("flags", [
    "--temperature -1", "--temperature nan", "--top-k 0", "--top-k 1.5", "--top-p 0",
    "--top-p 1.01", "--repetition-penalty 0", "--count 0", "--tokens 0", "--next 0",
    "--stride 0", "--prompt", "--prompt a --perplexity b", "--prompt a --file b"])
def test_impossible_values_end_with_2(ask: Callable, flags: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        ask(*flags.split())


def test_a_broken_byte_from_the_command_line_is_read_as_a_sign(ask: Callable) -> None:
    asked = ask("--prompt", "a\udcff", "--tokens", 3)
    assert asked.code == 0 and asked.out.startswith("a\ufffd")
