"""What counting characters reaches: against dictionaries, closed forms and known figures."""

import math
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from support import load

gpt2 = load("gpt2_from_scratch")
ngrams, baselines = gpt2.ngrams, gpt2.ngrams.baselines
UNICODE = 0x110000


def by_hand(training: str, validation: str, longest: int) -> dict[str, float]:
    """Method C of Witten and Bell with dictionaries, one character after the other."""
    counts = defaultdict(Counter)
    for end in range(len(training)):
        for length in range(min(longest - 1, end) + 1):
            counts[training[end - length : end]][training[end]] += 1

    def share(context: str, sign: str) -> float:
        shorter = share(context[1:], sign) if context else 1 / UNICODE
        found = counts.get(context, {})
        return (found.get(sign, 0) + len(found) * shorter) / (
            sum(found.values()) + len(found)) if found else shorter

    nats, text = [0.0] * longest, training + validation
    for end in range(len(training), len(text)):
        for length in range(longest):
            nats[length] -= math.log(share(text[max(0, end - length) : end], text[end]))
    return {f"{length + 1}-gram": total / len(validation) for length, total in enumerate(nats)}


@pytest.mark.parametrize("letters,seen,judged,longest", [
    ("ab", 300, 50, 5), ("abcdefgh", 500, 100, 4), ("aé日😀 \n", 80, 60, 6), ("ab", 1, 5, 3),
    ("abcdefghijklmnopqrstuvwxyz", 30, 90, 3), ("a", 9, 4, 5), ("ab", 2, 1, 1),
])
def test_the_counts_are_those_of_dictionaries(
        letters: str, seen: int, judged: int, longest: int) -> None:
    draw = random.Random(seen)
    for _ in range(5):
        training = "".join(draw.choices(letters[: max(1, len(letters) - 1)], k=seen))
        validation = "".join(draw.choices(letters + "x", k=judged))     # some are new
        found = baselines(training, validation, longest)
        assert found == pytest.approx(by_hand(training, validation, longest), rel=1e-9)
        assert list(found) == [f"{length}-gram" for length in range(1, longest + 1)]


@pytest.mark.parametrize("training", ["abracadabra", "a", "aaaa", "to be or not to be, to"])
def test_the_shares_of_all_that_may_follow_add_up_to_one(training: str) -> None:
    """The characters that were seen, and one for all the others."""
    signs = sorted(set(training))
    for length in range(1, 6):
        share = {sign: math.exp(-baselines(training, sign, length)[f"{length}-gram"])
                 for sign in [*signs, "\u4e00"]}
        rest = (UNICODE - len(signs)) * share["\u4e00"]
        assert sum(share[sign] for sign in signs) + rest == pytest.approx(1, abs=1e-9)
        assert min(share.values()) > 0


def test_what_is_judged_is_not_counted() -> None:
    """The same surprise again and again: a text that was never seen does not become known."""
    for length, nats in enumerate(baselines("abc" * 50, "xyz" * 200).values(), 1):
        once = baselines("abc" * 50, "xyz" * 3)[f"{length}-gram"]
        assert nats == pytest.approx(once, abs=2 * once / 9) and nats > 10


def test_to_know_nothing_is_to_find_all_of_unicode_equally_likely() -> None:
    assert list(baselines("", "abc", 3).values()) == pytest.approx([math.log(UNICODE)] * 3)


def test_longer_contexts_know_what_shorter_ones_cannot() -> None:
    """In `aabb` the next letter follows from two, and from one it is a coin's throw."""
    one, two, three, four, five = baselines("aabb" * 3000, "aabb" * 300).values()
    assert one == pytest.approx(math.log(2), abs=0.01) == two
    assert max(three, four, five) < 0.01


def test_only_what_is_next_to_the_judged_is_counted_of_a_long_text(
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ngrams, "MOST", 50)
    draw = random.Random(0)
    training, judged = ("".join(draw.choices("abc", k=k)) for k in (400, 30))
    assert baselines(training, judged) == baselines(training[-50:], judged)
    assert baselines(training, judged) != baselines(training[-51:] + "a", judged)


def test_shakespeare_has_the_figures_of_the_readme(shared: Callable[[str], Path]) -> None:
    data = gpt2.data.load("shakespeare", shared("shakespeare"))
    start = time.process_time()
    found = baselines(data.training, data.validation)
    assert time.process_time() - start < 10
    assert {name: round(nats, 3) for name, nats in found.items()} == {
        "1-gram": 3.347, "2-gram": 2.486, "3-gram": 2.049, "4-gram": 1.774, "5-gram": 1.669}


def test_it_prints_a_line_a_gram(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "text.txt"
    path.write_text("abracadabra " * 40, encoding="utf-8")
    assert ngrams.main([str(path)]) == 0
    lines, data = capsys.readouterr().out.splitlines(), gpt2.data.load(str(path), tmp_path)
    expected = by_hand(data.training, data.validation, 5)
    assert lines == [f"{name}  {nats:.3f} nats a character" for name, nats in expected.items()]
    assert ngrams.main([str(tmp_path / "none")]) == 1
    assert "none is neither a data set nor a path: use " in capsys.readouterr().err
