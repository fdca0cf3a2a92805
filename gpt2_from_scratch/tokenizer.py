"""Byte-level byte-pair encoding: text to bytes, pairs of neighbours to one, over and over.

R. Sennrich and others, "Neural Machine Translation of Rare Words with Subword Units", 2016,
on bytes as in GPT-2 (2019, section 2.2). Every text can be written, as it is made of bytes;
frequent pieces of it are one token. The same numbers as OpenAI's tokenizer.

    python tokenizer.py "Don't panic, it's only 42."          # show every merge
    python tokenizer.py --tokenizer DIR "Don't panic"         # as GPT-2 does it
"""

# no shapes here: texts, bytes and lists of numbers

import argparse
import json
import os
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heappush
from itertools import pairwise
from pathlib import Path

import console
from chunks import glyphs, pattern
from data import NAMES, load

Pair = tuple[int, int]
EXAMPLE = "Don't panic, it's only 42."
FILES = ("encoder.json", "vocab.bpe")      # the numbers of all tokens; the merges in order
ALSO = ("vocab.json", "merges.txt")        # what Hugging Face calls the same two
HEADER = "#version: 0.2"
SPECIAL = re.compile(r"<\|.*\|>")
LONGEST, MOST = 64, 100_000     # characters of a chunk that is remembered; and how many
NONE = -1                       # where there is no token


class Tokenizer:
    """Bytes, merges in the order in which they were learned, and special tokens.

    The 256 bytes have the first numbers, in the order of `glyphs`; each merge has the next,
    unless another made the same bytes before. Special tokens are last.
    """

    def __init__(self, merges: Iterable[Pair], special: Iterable[str] = ()) -> None:
        self.merges = [(left, right) for left, right in merges]
        self.tokens = [bytes([byte]) for byte in glyphs()]             # the bytes of each
        self.first = {token[0]: number for number, token in enumerate(self.tokens)}
        self.numbers = {token: number for number, token in enumerate(self.tokens)}
        self.ranks, self.made = {}, []       # of a pair; what the merge of a rank makes
        for rank, pair in enumerate(self.merges):
            if max(pair) >= len(self.tokens) or min(pair) < 0:
                raise ValueError(f"merge {rank + 1} needs a token that no earlier one makes")
            self.ranks[pair] = rank
            self.made.append(self.add(self.tokens[pair[0]] + self.tokens[pair[1]]))
        self.special = {text: len(self.tokens) + place for place, text in enumerate(special)}
        self.tokens += [text.encode() for text in self.special]
        self.known: dict[str, list[int]] = {}

    def add(self, token: bytes) -> int:
        """The number of a token made of these bytes, which is the next one if it is new."""
        if token not in self.numbers:
            self.numbers[token] = len(self.tokens)
            self.tokens.append(token)
        return self.numbers[token]

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def train(cls, text: str, size: int) -> "Tokenizer":
        """Learn merges from a text until there are `size` tokens, or no pair occurs twice.

        The pair that is most frequent becomes a token; between equals, the one with the smaller
        numbers. Raises ValueError for less than the 256 bytes.
        """
        if size < 256:
            raise ValueError(f"{size} tokens cannot name all bytes: use 256 or more")
        return cls(learn(Counter(pattern().findall(text)) if size > 256 else {}, size))

    def encode(self, text: str, allow_special: bool = False) -> list[int]:
        """The numbers of a text's tokens.

        What looks like a special token is text like any other unless `allow_special`, so that
        nobody can end a text by writing that it ends. Raises ValueError for half a surrogate.
        """
        if allow_special and self.special:
            pieces = re.split("(" + "|".join(map(re.escape, self.special)) + ")", text)
            return [token for piece in pieces for token in
                    ([self.special[piece]] if piece in self.special else self.encode(piece))]
        tokens, known = [], self.known
        for chunk in pattern().findall(text):
            if (found := known.get(chunk)) is None:
                found = self._join(chunk.encode())
                if len(known) < MOST and len(chunk) <= LONGEST:
                    known[chunk] = found
            tokens += found
        return tokens

    def _join(self, chunk: bytes) -> list[int]:
        """Merge the pair of the lowest rank, the leftmost first, until none is left.

        A heap knows the lowest, and links lead to the neighbours, so that n bytes take n log n
        steps. Entries whose pair is gone stay in the heap and are skipped.
        """
        ranks, count = self.ranks, len(chunk)
        tokens = [*(self.first[byte] for byte in chunk), NONE]     # [-1] is [count]: none
        before, after = list(range(-1, count)), [*range(1, count + 1), 0]
        heap = [(ranks[pair], place) for place, pair in enumerate(pairwise(tokens))
                if pair in ranks]
        heapify(heap)
        while heap:
            rank, left = heappop(heap)
            right = after[left]
            if ranks.get((tokens[left], tokens[right])) != rank:
                continue
            tokens[left], tokens[right] = self.made[rank], NONE
            after[left] = after[right]
            before[after[left]] = left
            for place in (before[left], left):
                fresh = ranks.get((tokens[place], tokens[after[place]]))
                if fresh is not None:
                    heappush(heap, (fresh, place))
        return [token for token in tokens if token != NONE]

    def bytes_of(self, token: int) -> bytes:
        """The bytes of a token. Raises ValueError if there is none of this number."""
        if not 0 <= token < len(self.tokens):
            raise ValueError(f"there is no token {token}: the vocabulary has "
                             f"{len(self.tokens):,}, from 0 on")
        return self.tokens[token]

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of some tokens; bytes that are no character become U+FFFD."""
        return b"".join(map(self.bytes_of, tokens)).decode("utf-8", "replace")

    def show(self, token: int) -> str:
        """A token as OpenAI's files write it, a sign for every byte."""
        if token >= len(self.tokens) - len(self.special):
            return self.tokens[token].decode()
        signs = glyphs()
        return "".join(signs[byte] for byte in self.tokens[token])

    def shown(self) -> dict[str, int]:
        """The number of every token, as encoder.json has it."""
        return {self.show(number): number for number in range(len(self))}

    def explain(self, text: str) -> Iterator[str]:
        """Lines that show how each chunk of a text becomes tokens, merge by merge."""
        for chunk in pattern().findall(text):
            tokens = [self.first[byte] for byte in chunk.encode()]
            yield f"{chunk!r}: {' '.join(map(self.show, tokens))}"
            while pairs := [pair for pair in pairwise(tokens) if pair in self.ranks]:
                pair = min(pairs, key=self.ranks.__getitem__)
                rank = self.ranks[pair]
                tokens = join(tokens, pair, self.made[rank])
                yield f"    merge {rank + 1:>5}: {' '.join(map(self.show, tokens))}"
            yield f"    {tokens}"

    def state(self) -> dict:
        """What a checkpoint keeps: plain numbers and texts."""
        return {"merges": [list(pair) for pair in self.merges], "special": list(self.special)}

    @classmethod
    def from_state(cls, state: dict) -> "Tokenizer":
        """The tokenizer whose `state` this is."""
        return cls(map(tuple, state["merges"]), state["special"])

    def save(self, folder: Path) -> None:
        """Write OpenAI's two files, each whole or not at all."""
        merges = [f"{self.show(left)} {self.show(right)}" for left, right in self.merges]
        texts = json.dumps(self.shown()), "\n".join([HEADER, *merges, ""])
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in zip(FILES, texts):
            partial = folder / f"{name}.partial"
            partial.write_text(text, encoding="utf-8", newline="\n")
            os.replace(partial, folder / name)

    @classmethod
    def load(cls, folder: Path) -> "Tokenizer":
        """Read OpenAI's two files. Raises Refusal if they are missing, broken, or differ."""
        names = ALSO if (Path(folder) / ALSO[0]).exists() else FILES
        numbers, merges = (_read(Path(folder) / name) for name in names)
        try:
            numbers = json.loads(numbers)
            lines = [line.split(" ") for line in merges.split("\n")
                     if line and not line.startswith("#version")]
            special = [text for text in numbers if SPECIAL.fullmatch(text)]
            tokenizer = cls([(numbers[left], numbers[right]) for left, right in lines],
                            sorted(special, key=numbers.__getitem__))
            if numbers != tokenizer.shown():
                raise ValueError("the numbers do not follow the bytes, the merges, and then "
                                 "tokens <|like this|>")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise console.Refusal(f"{folder} has no tokenizer like GPT-2's in {names[0]} and "
                                  f"{names[1]} ({error}): fetch them again") from None
        return tokenizer


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise console.Refusal(f"{path} cannot be read ({error.strerror}): name the folder of "
                              f"{' and '.join(FILES)}") from None
    except UnicodeDecodeError:
        raise console.Refusal(f"{path} is no text: fetch it again") from None


def join(tokens: list[int], pair: Pair, made: int) -> list[int]:
    """Replace a pair wherever it stands, from left to right."""
    joined, place = [], 0
    while place < len(tokens):
        here = tuple(tokens[place : place + 2]) == pair
        joined.append(made if here else tokens[place])
        place += 1 + here
    return joined


def learn(counted: dict[str, int], size: int) -> list[Pair]:
    """The merges that shorten these chunks, of which each occurs so often, the most.

    Only chunks that have the merged pair are looked at again. Counts that have changed since
    they went into the heap are skipped when they come out.
    """
    tokenizer = Tokenizer([])
    words = [[tokenizer.first[byte] for byte in chunk.encode()] for chunk in counted]
    often, counts, places = list(counted.values()), Counter(), defaultdict(set)
    for place, word in enumerate(words):
        for pair in pairwise(word):
            counts[pair] += often[place]
            places[pair].add(place)
    heap = [(-count, pair) for pair, count in counts.items()]
    heapify(heap)
    merges = []
    while heap and len(tokenizer) < size:
        count, pair = heappop(heap)
        if -count != counts[pair]:
            continue
        if -count < 2:
            break
        made = tokenizer.add(tokenizer.tokens[pair[0]] + tokenizer.tokens[pair[1]])
        merges.append(pair)
        changed = set()
        for place in places.pop(pair):
            old = list(pairwise(words[place]))
            words[place] = join(words[place], pair, made)
            new = list(pairwise(words[place]))
            for gone in old:
                counts[gone] -= often[place]
            for come in new:
                counts[come] += often[place]
                places[come].add(place)
            changed.update(old, new)
        for other in changed:
            heappush(heap, (-counts[other], other))
    return merges


@console.one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Show how a text becomes tokens, with merges learned from a text or with GPT-2's."""
    parser = argparse.ArgumentParser(description=main.__doc__, allow_abbrev=False)
    parser.add_argument("text", nargs="*", default=[EXAMPLE], help=f"default: {EXAMPLE}")
    console.add_data_flags(parser, NAMES, NAMES[0])
    parser.add_argument("--vocabulary", metavar="N", type=console.positive_int, default=512,
                        help="tokens to learn, 256 for the bytes alone (default: %(default)s)")
    parser.add_argument("--tokenizer", metavar="DIR", type=Path,
                        help="where encoder.json and vocab.bpe lie, to be used instead")
    parser.add_argument("--save", metavar="DIR", type=Path,
                        help="where to write the two files of what was learned")
    args = parser.parse_args(argv)
    if args.vocabulary < 256:
        parser.error(f"{args.vocabulary} tokens cannot name all bytes: use 256 or more")
    tokenizer = (Tokenizer.load(args.tokenizer) if args.tokenizer else
                 Tokenizer.train(load(args.data, args.data_dir).training, args.vocabulary))
    text = " ".join(args.text).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    print(*tokenizer.explain(text), sep="\n")
    print(f"{len(text)} characters, {len(text.encode())} bytes, "
          f"{len(tokenizer.encode(text))} tokens of {len(tokenizer):,}")
    if args.save:
        tokenizer.save(args.save)
        print(f"wrote {' and '.join(FILES)} to {args.save}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
