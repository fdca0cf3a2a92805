"""Prompts to numbers: CLIP's byte pairs for published weights, words for the small model.

R. Sennrich and others, "Neural Machine Translation of Rare Words with Subword Units", 2016, on
bytes, with a mark at the end of every word. The same numbers as transformers' CLIPTokenizer.

    python tokenizer.py --vocabulary bpe_simple_vocab_16e6.txt.gz "a corgi on a skateboard"
"""

# B prompts, S tokens of each

import argparse
import gzip
import re
import sys
from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from chunks import chunks, glyphs
from console import Refusal, from_here, one_line_errors, say
from download import fetch

FILE = "bpe_simple_vocab_16e6.txt.gz"
URL = f"https://github.com/openai/CLIP/raw/main/clip/{FILE}"
SHA256 = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"
MERGES = 49_152 - 256 - 2     # of those in the file so many are used
SPECIAL = ("<|startoftext|>", "<|endoftext|>")
END = "</w>"                  # the mark at the end of a word
LENGTH = 77
NONE = -1                     # where there is no token


class Tokenizer:
    """What both tokenizers share: how tokens become rows of equal length.

    A row begins with `start`, ends with `end`, and is filled up with `end`: so Stable Diffusion
    1.x was trained.
    """

    start: int
    end: int
    length: int

    def encode(self, text: str) -> list[int]:
        """The numbers of a text's tokens."""
        raise NotImplementedError

    def remarks(self, text: str) -> list[str]:
        """What the model will not get to see of a text, in sentences."""
        extra = len(self.encode(text)) - (self.length - 2)
        return [f"the end of the prompt is not read: it has {extra} tokens more than there is "
                "room for"] * (extra > 0)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """The rows of some prompts, each cut or filled up to `length` tokens."""
        rows = [[self.start, *self.encode(text)[: self.length - 2], self.end] for text in texts]
        return torch.tensor([row + [self.end] * (self.length - len(row))
                             for row in rows])                         # (B, S)


class ClipTokenizer(Tokenizer):
    """256 bytes, 256 that end a word, merges in the order they were learned, two marks."""

    def __init__(self, merges: Sequence[tuple[str, str]], length: int = LENGTH) -> None:
        signs = list(glyphs().values())
        made = ["".join(pair) for pair in merges]
        self.merges, self.length = list(merges), length
        self.tokens = [*signs, *(sign + END for sign in signs), *made, *SPECIAL]
        self.numbers = {token: number for number, token in enumerate(self.tokens)}
        self.start, self.end = (self.numbers[mark] for mark in SPECIAL)
        try:
            self.ranks = {(self.numbers[left], self.numbers[right]): (rank, self.numbers[token])
                          for rank, ((left, right), token) in enumerate(zip(merges, made))}
        except KeyError as error:
            raise ValueError(f"a merge needs {error}, which no earlier one makes") from None

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def load(cls, path: Path) -> "ClipTokenizer":
        """Read OpenAI's file, or the merges.txt of a folder. Raises Refusal if that fails."""
        path = next((file for file in (path / FILE, path / "merges.txt", path / "tokenizer" /
                                       "merges.txt") if file.is_file()), path)
        try:
            data = path.read_bytes()
            text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
            lines = [line.split() for line in text.split("\n")[1 : MERGES + 1]]
            merges = [(left, right) for left, right in filter(None, lines)]
            return cls(merges)
        except OSError as error:
            raise Refusal(f"{from_here(path)} cannot be read ({error.strerror or error}): name "
                          f"{FILE}, or a folder with a merges.txt") from None
        except (ValueError, EOFError) as error:
            raise Refusal(f"{from_here(path)} is no vocabulary of CLIP ({error}): fetch it "
                          "again") from None

    def encode(self, text: str) -> list[int]:
        """The numbers of a text's tokens. What is written exactly like a mark is one."""
        text = text.encode("utf-8", "replace").decode()      # half a surrogate is no character
        tokens = []
        for part in re.split("(" + "|".join(map(re.escape, SPECIAL)) + ")", text):
            tokens += ([self.numbers[part]] if part in SPECIAL else
                       [token for chunk in chunks(part) for token in self._join(chunk)])
        return tokens

    def _join(self, chunk: str) -> list[int]:
        """Merge the pair of the lowest rank, the leftmost first, until none is left.

        A heap knows the lowest, and links lead to the neighbours, so that n bytes take n log n
        steps. Entries whose pair is gone stay in the heap and are skipped.
        """
        signs = [glyphs()[byte] for byte in chunk.encode()]
        signs[-1] += END
        ranks, count = self.ranks, len(signs)
        tokens = [*(self.numbers[sign] for sign in signs), NONE]   # [-1] is [count]: none
        before, after = list(range(-1, count)), [*range(1, count + 1), 0]
        heap = [(*ranks[pair], place) for place, pair in enumerate(pairwise(tokens))
                if pair in ranks]
        heapify(heap)
        while heap:
            rank, made, left = heappop(heap)
            right = after[left]
            if ranks.get((tokens[left], tokens[right]), (NONE,))[0] != rank:
                continue
            tokens[left], tokens[right] = made, NONE
            after[left] = after[right]
            before[after[left]] = left
            for place in (before[left], left):
                if fresh := ranks.get((tokens[place], tokens[after[place]])):
                    heappush(heap, (*fresh, place))
        return [token for token in tokens if token != NONE]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of some tokens, in small letters, a space behind each word."""
        bytes_of = {sign: byte for byte, sign in glyphs().items()}
        text = "".join(self.tokens[token] for token in tokens if token < self.start)
        return bytes(byte for sign in text.replace(END, "Ġ")
                     for byte in [bytes_of[sign]]).decode("utf-8", "replace").strip()

    def state(self) -> dict:
        """What a checkpoint keeps: plain texts and numbers."""
        merges = "\n".join(" ".join(pair) for pair in self.merges)
        return {"kind": "clip", "length": self.length, "merges": merges}


class WordTokenizer(Tokenizer):
    """A number for every word of a small language, after the two marks; others are left out."""

    def __init__(self, words: Sequence[str], length: int) -> None:
        self.words, self.length = list(words), length
        self.start, self.end = 0, 1
        self.tokens = [*SPECIAL, *self.words]
        self.numbers = {word: number for number, word in enumerate(self.tokens)}

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, text: str) -> list[int]:
        """The numbers of the words that are known."""
        return [self.numbers[word] for word in split(text) if word in self.numbers]

    def remarks(self, text: str) -> list[str]:
        """What the model will not get to see of a text, in sentences."""
        strange = list(dict.fromkeys(word for word in split(text)
                                     if word not in self.numbers))
        unknown = [f"the model has never read {', '.join(strange[:5])}: it knows "
                   f"{len(self.words)} words, such as {', '.join(self.words[:5])}"]
        return unknown * bool(strange) + super().remarks(text)

    def decode(self, tokens: Sequence[int]) -> str:
        """The words of some tokens."""
        return " ".join(self.tokens[token] for token in tokens if token > self.end)

    def state(self) -> dict:
        """What a checkpoint keeps: plain texts and numbers."""
        return {"kind": "words", "length": self.length, "words": self.words}


def split(text: str) -> list[str]:
    """The words of a text, in small letters."""
    return re.findall(r"\w+", text.lower())


def from_state(state: dict) -> Tokenizer:
    """The tokenizer whose `state` this is."""
    if state["kind"] == "words":
        return WordTokenizer(state["words"], state["length"])
    lines = filter(None, state["merges"].split("\n"))
    return ClipTokenizer([tuple(line.split(" ")) for line in lines], state["length"])


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Show how a prompt becomes tokens."""
    parser = argparse.ArgumentParser(description=main.__doc__, allow_abbrev=False)
    parser.add_argument("text", nargs="*", default=["a corgi on a skateboard"])
    parser.add_argument("--vocabulary", metavar="PATH", type=Path, required=True,
                        help=f"{FILE}, or a folder with it or with a merges.txt")
    parser.add_argument("--download", action="store_true",
                        help=f"first fetch {FILE} into the folder --vocabulary")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    args = parser.parse_args(argv)
    if args.download:
        fetch([URL], args.vocabulary / FILE, SHA256)
    tokenizer, text = ClipTokenizer.load(args.vocabulary), " ".join(args.text)
    for remark in tokenizer.remarks(text):
        say(remark)
    for token in tokenizer.encode(text):
        print(f"{token:>6} {tokenizer.tokens[token]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
