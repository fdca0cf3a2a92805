"""Texts to words to numbers; the drawn sentences, and what they can and cannot be told by."""

import csv
import functools
import itertools
import random
import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer

from support import load

transformer = load("transformer_from_scratch")
generate, words, data = transformer.generate_test_texts, transformer.words, transformer.data
Tokenizer, split, pad = (getattr(transformer.tokenizer, name)
                         for name in ("Tokenizer", "split", "pad"))
PARTS = ("train", "validation", "test")
TOPICS = ("Technology", "Sports", "Science", "Music", "Food")


# ---------------------------------------------------------------- words


@pytest.mark.parametrize("text,found", [
    ("The CAT sat", "the cat sat"),
    ("Stop! (Now?) \"Yes\", a-b;c", "stop ! ( now ? ) \" yes \" , a - b ; c"),
    ("don't l’été rock'n'roll", "don't l’été rock'n'roll"),
    ("'tis the dogs' day''s", "' tis the dogs ' day ' ' s"),
    ("3.14 snake_case x2", "3 . 14 snake_case x2"),
    ("ПРИВЕТ, Größe ΑΒΓ 日本語。 مرحبا ٤٢", "привет , größe αβγ 日本語 。 مرحبا ٤٢"),
    ("हिन्दी में, ক্ষমা। ภาษาไทยมีวรรณยุกต์ e\u0301x\u0323",
     "हिन्दी में , ক্ষমা । ภาษาไทยมีวรรณยุกต์ éx\u0323"),
    ("a\0b \ufffd 👍👍", "a \0 b \ufffd 👍 👍"),
    ("<pad> <UNK>", "< pad > < unk >"),
    ("tab\tline\r\nno\u00a0break", "tab line no break"),
    ("  \n", ""),
])
def test_a_text_is_cut_into_words_and_signs_in_lower_case(text: str, found: str) -> None:
    assert split(text) == (found.split(" ") if found else [])


def test_nothing_that_is_typed_becomes_padding() -> None:
    """Not even the names of the first two tokens, whether or not they were in training."""
    hostile = ["<pad>", "<unk>", "<pad><pad> pad", "\0", "", "0", "<PAD>", "a <pad>", "\ufeff"]
    for learned in (hostile, ["a b"], []):
        tokenizer = Tokenizer.learn(learned)
        assert len(set(tokenizer.vocabulary)) == len(tokenizer.vocabulary)
        for text in hostile:
            numbers = tokenizer.encode(text)
            assert 0 not in numbers and len(numbers) == len(split(text))
            if learned is hostile:
                assert [tokenizer.vocabulary[number] for number in numbers] == split(text)


def test_the_vocabulary_has_frequent_words_first_and_leaves_rare_ones_out() -> None:
    texts = ["d b a", "B c a", "b c e"]
    for least, known in ((1, "b a c d e"), (2, "b a c"), (3, "b"), (4, "")):
        tokenizer = Tokenizer.learn(texts, least)
        assert tokenizer.vocabulary == ["<pad>", "<unk>", *known.split()]
    assert Tokenizer.learn(texts, 2).encode("A e c. b") == [3, 1, 4, 1, 2]


def test_learning_twice_gives_the_same_in_any_order_of_texts() -> None:
    texts = [text for _, text in rows("train", False)]
    first = Tokenizer.learn(texts)
    random.Random(0).shuffle(texts)
    assert Tokenizer.learn(iter(texts)).vocabulary == first.vocabulary
    again = Tokenizer(first.vocabulary)
    assert [again.encode(text) for text in texts] == [first.encode(text) for text in texts]
    assert max(max(again.encode(text)) for text in texts) == len(first.vocabulary) - 1


def test_unknown_words_are_named_once_in_their_order() -> None:
    tokenizer = Tokenizer.learn(["a cat"])
    assert tokenizer.unknown("Zebras bite a zebra, zebras BITE!") == [
        "zebras", "bite", "zebra", ",", "!"]
    assert tokenizer.unknown("A cat cat") == [] == tokenizer.unknown("")
    assert tokenizer.unknown("<unk>") == ["<", "unk", ">"]


@pytest.mark.parametrize("vocabulary", [[], ["<pad>"], ["<unk>", "<pad>"], ["a", "b", "c"]])
def test_a_vocabulary_without_its_first_two_words_is_refused(vocabulary: list[str]) -> None:
    with pytest.raises(ValueError, match="begins with <pad> and <unk>"):
        Tokenizer(vocabulary)


@pytest.mark.parametrize("texts,longest,rows", [
    ([[5, 6, 7], [8]], 9, [[5, 6, 7], [8, 0, 0]]),
    ([[5, 6, 7], [8]], 3, [[5, 6, 7], [8, 0, 0]]),
    ([[5, 6, 7], [8]], 2, [[5, 6], [8, 0]]),
    ([[5, 6, 7], [], [8]], 1, [[5], [0], [8]]),
    ([[], [5]], 9, [[0], [5]]),
    ([[]], 9, [[0]]),
])
def test_padding_fills_on_the_right_up_to_the_longest(texts: list[list[int]], longest: int,
                                                      rows: list[list[int]]) -> None:
    tokens = pad(texts, longest)
    assert tokens.tolist() == rows and tokens.dtype == torch.int64
    assert pad([], longest).shape == (0, 1) and pad([], longest).dtype == torch.int64


def test_the_command_shows_each_step(capsys: pytest.CaptureFixture) -> None:
    assert transformer.tokenizer.main(["Don't panic,", "don't."]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [["2", "don't"], ["5", "panic"], ["3", ","], ["2", "don't"], ["4", "."]]


# ---------------------------------------------------------------- drawn sentences


@functools.cache
def rows(part: str, hard: bool, seed: int = 0, count: int = 500) -> list[tuple[str, str]]:
    """Drawn once for all tests."""
    return generate.draw(part, count, seed, hard)


def entries(topic: str) -> list[str]:
    """All that the word lists have for a topic, phrases of two words too."""
    return [*words.NOUNS[topic], *words.TRAITS[topic], *words.ACTS[topic]]


@functools.cache
def finders() -> dict[str, re.Pattern]:
    """A pattern for each topic that finds its nouns and traits as whole words."""
    choices = {topic: "|".join(map(re.escape, (*words.NOUNS[topic], *words.TRAITS[topic])))
               for topic in TOPICS}
    return {topic: re.compile(rf"\b({choice})\b") for topic, choice in choices.items()}


def named(text: str) -> list[str]:
    """The topics of a sentence in the order in which they are first named."""
    first = {topic: found.start() for topic, pattern in finders().items()
             if (found := pattern.search(text))}
    return sorted(first, key=first.get)


def bags(table: list[tuple[str, str]]) -> dict[tuple[str, ...], Counter]:
    """The labels of all sentences that have the same words."""
    found = defaultdict(Counter)
    for label, text in table:
        found[tuple(sorted(split(text)))][label] += 1
    return found


both = pytest.mark.parametrize("hard", [False, True])
every = pytest.mark.parametrize("part", PARTS)


@both
@every
def test_topics_are_balanced_and_no_sentence_comes_twice(part: str, hard: bool) -> None:
    table = rows(part, hard)
    assert Counter(label for label, _ in table) == dict.fromkeys(TOPICS, 100)
    assert len({text for _, text in table}) == 500
    runs = [label for label, _ in itertools.groupby(label for label, _ in table)]
    assert len(runs) > 350          # well shuffled: 401 expected


@both
def test_a_seed_gives_the_same_sentences_and_another_gives_others(hard: bool) -> None:
    random.seed(1)                  # what others draw must not matter
    assert generate.draw("test", 500, 0, hard) == rows("test", hard)
    texts, others = ({text for _, text in rows("test", hard, seed)} for seed in (0, 1))
    assert len(texts & others) < 25
    assert generate.draw("test", 500, 0, not hard) != rows("test", hard)


def test_parts_share_no_frame_and_no_name() -> None:
    for table in (words.PEOPLE, words.PLACES, words.FRAMES, words.ORDERS):
        assert tuple(table) == PARTS
        pooled = [item for part in PARTS for item in table[part]]
        assert len({item.lower() for item in pooled}) == len(pooled)
    names = [name for table in (words.PEOPLE, words.PLACES) for part in PARTS
             for name in table[part]]
    assert len(set(names)) == len(names)


@both
def test_no_drawn_sentence_has_a_shape_or_name_of_another_part(hard: bool) -> None:
    """A shape is what is left without names, topics' words and articles."""
    names = {part: {name.lower() for name in (*words.PEOPLE[part], *words.PLACES[part])}
             for part in PARTS}
    gone = {word for topic in TOPICS for entry in entries(topic) for word in split(entry)}
    gone |= {"a", "an"} | set().union(*names.values())
    shapes = {}
    for part in PARTS:
        cut = [split(text) for _, text in rows(part, hard)]
        seen = {word for text in cut for word in text}
        assert names[part] <= seen
        assert not any(names[other] & seen for other in PARTS if other != part)
        shapes[part] = {" ".join(word for word in text if word not in gone) for text in cut}
        assert len(shapes[part]) == len(words.FRAMES[part]) + hard * len(words.ORDERS[part])
    for one, other in itertools.combinations(PARTS, 2):
        assert not shapes[one] & shapes[other]


def test_a_word_of_a_topic_belongs_to_no_other_and_to_no_frame() -> None:
    listed = [entry for topic in TOPICS for entry in entries(topic)]
    assert len(set(listed)) == len(listed) and listed == [entry.lower() for entry in listed]
    neutral = {word for table in (words.PEOPLE, words.PLACES, words.FRAMES, words.ORDERS)
               for part in PARTS for item in table[part]
               for word in split(re.sub(r"{\w+}", " ", item))}
    for topic in TOPICS:
        mine = {entry for entry in entries(topic) if len(split(entry)) == 1}
        assert len(mine) > 30 and not mine & neutral
        others = {word for other in TOPICS if other != topic for entry in entries(other)
                  for word in split(entry)}
        assert not mine & others, topic


@every
def test_a_plain_sentence_names_its_own_topic_alone(part: str) -> None:
    for label, text in rows(part, False):
        assert named(text) == [label], text


@every
def test_swapping_both_phrases_changes_no_run_of_three_words(part: str) -> None:
    """Neither for our words nor for scikit-learn's; in every frame, for phrases of any kind."""
    runs = {"ours": CountVectorizer(tokenizer=split, token_pattern=None, lowercase=False,
                                    ngram_range=(1, 3)).build_analyzer(),
            "theirs": CountVectorizer(ngram_range=(1, 3)).build_analyzer()}
    rng, drawn = random.Random(0), []
    for pair in words.PAIRS * 100:
        one, other = generate.ordered(pair, part, rng)
        assert one != other and named(one) == list(pair) and named(other) == [*pair[::-1]]
        for name, count in runs.items():
            assert Counter(count(one)) == Counter(count(other)), (name, one)
        drawn.append(one)
    ends = {frame.rsplit("}", 1)[1] for frame in words.ORDERS[part]}
    assert len(ends) == len(words.ORDERS[part])
    assert all(any(text.endswith(end) for text in drawn) for end in ends)


@every
def test_at_least_five_words_stand_between_both_phrases(part: str) -> None:
    for frame in words.ORDERS[part]:
        assert frame.count("{a}") == frame.count("{b}") == 1
        between = re.search(r"{a}(.*){b}", frame)[1].format(name="Ada", place="Rome")
        assert len(split(between)) >= 5, frame


@every
def test_hard_sentences_come_in_both_orders_and_the_first_topic_is_right(part: str) -> None:
    twins = [labels for labels in bags(rows(part, True)).values() if len(labels) == 2]
    assert Counter(map(tuple, map(sorted, twins))) == {
        tuple(sorted(pair)): 90 for pair in words.PAIRS}
    assert all(set(labels.values()) == {1} for labels in twins)
    orders = [(label, named(text)) for label, text in rows(part, True) if len(named(text)) > 1]
    assert len(orders) == 2 * len(twins) == 360
    assert all(found[0] == label and len(found) == 2 for label, found in orders)


def test_who_is_blind_to_order_has_at_most_64_percent_right() -> None:
    """The best answer for each set of words, chosen by someone who knows all the answers."""
    for hard, best in ((True, 0.64), (False, 1.0)):
        table = rows("test", hard, 0, generate.SIZES["test"])
        right = sum(max(labels.values()) for labels in bags(table).values())
        assert len(table) == 1_000 and right / len(table) == best


def test_an_stands_before_vowels_and_sentences_begin_large() -> None:
    texts = [text for part in PARTS for hard in (False, True) for _, text in rows(part, hard)]
    articles = [found for text in texts
                for found in re.findall(r"\b([Aa]n?) (?!hour)(\w)", text)]
    assert all((article[1:] == "n") == (letter in "aeiou") for article, letter in articles)
    assert {article for article, _ in articles} == {"a", "an", "A", "An"}
    assert all(re.match(r"\"?[A-Z]", text) and "{" not in text for text in texts)
    assert generate.finish("a oven, a pan, banana a egg") == "An oven, a pan, banana an egg"


def test_asking_for_more_sentences_than_there_are_is_refused(tmp_path: Path, monkeypatch,
                                                             capsys) -> None:
    monkeypatch.setitem(generate.FRAMES, "test", ("{noun}.",))     # 36 of each topic
    assert len(set(generate.draw("test", 5 * 36, 0))) == 180
    assert generate.main(["--test", "185", "--out", str(tmp_path / "out")]) == 1
    assert not (tmp_path / "out").exists()
    error = capsys.readouterr().err
    assert "ask for fewer" in error and error.count("\n") == 1


def test_the_command_writes_what_is_drawn_and_it_is_read_back(tmp_path: Path, capsys) -> None:
    counts = {"train": 100, "validation": 20, "test": 50}
    flags = [flag for part, n in counts.items() for flag in (f"--{part}", str(n))]
    for hard in (False, True):
        home = tmp_path / "deep" / str(hard)
        more = ["--hard"] * hard
        assert generate.main([*flags, *more, "--seed", "3", "--out", str(home)]) == 0
        printed = capsys.readouterr().out
        for part, count in counts.items():
            table = generate.draw(part, count, 3, hard)
            assert data.read_csv(home / f"{part}.csv") == (table, 2) and len(table) == count
            with (home / f"{part}.csv").open(newline="", encoding="utf-8") as file:
                assert [*csv.reader(file)] == [["label", "text"], *map(list, table)]
            assert f"{part}.csv: {count} sentences" in printed and table[0][1] in printed


def test_frames_have_no_word_of_a_topic() -> None:
    """Else a frame would speak for a topic: only such words as "of" may be in both."""
    phrases = [phrase for table in (words.NOUNS, words.TRAITS, words.ACTS)
               for topic in table.values() for phrase in topic]
    slots = dict.fromkeys(("name", "place", "noun", "other", "trait", "act", "a", "b"), "")
    frames = [frame.format(**slots) for table in (words.FRAMES, words.ORDERS)
              for part in table.values() for frame in part]
    common = {word for text in phrases for word in split(text)}
    common &= {word for text in frames for word in split(text)}
    assert common <= {"about", "for", "in", "of", "on", "with"}
