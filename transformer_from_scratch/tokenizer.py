"""Text to words to numbers: the words of the training texts, and one number for all others.

    python tokenizer.py "Don't panic, it's only 42."     # show each step
"""

# B texts in a batch, T tokens

import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

PAD, UNKNOWN = "<pad>", "<unk>"
PAD_TOKEN, UNKNOWN_TOKEN = 0, 1      # their numbers
# Signs that belong to the letter before them, which Python's \w lacks: accents, and vowels of
# Hebrew, Arabic, the scripts of India, Thai, Lao, Tibetan, Burmese and Khmer.
MARKS = ("\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0670\u0900-\u0963\u0981-\u0e3a\u0e47-\u0e4e"
         "\u0eb1-\u0ece\u0f71-\u0f84\u102b-\u103e\u17b4-\u17d3")
LETTERS = rf"\w[\w{MARKS}]*"
WORD = re.compile(rf"{LETTERS}(?:['’]{LETTERS})*|[^\w\s]")   # letters and digits, or one sign


def split(text: str) -> list[str]:
    """The words of a text in lower case; each punctuation mark is a word of its own."""
    return WORD.findall(unicodedata.normalize("NFC", text.lower()))   # é is one letter


class Tokenizer:
    """Knows a vocabulary: a list of words, whose places in it are their numbers."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        if list(vocabulary[:2]) != [PAD, UNKNOWN]:
            raise ValueError(f"a vocabulary begins with {PAD} and {UNKNOWN}")
        self.vocabulary = list(vocabulary)
        self.numbers = {word: number for number, word in enumerate(self.vocabulary)}

    @classmethod
    def learn(cls, texts: Iterable[str], least: int = 1) -> "Tokenizer":
        """The words that occur `least` times in these texts, the frequent ones first."""
        counts = Counter(word for text in texts for word in split(text))
        words = sorted((word for word, count in counts.items() if count >= least),
                       key=lambda word: (-counts[word], word))
        return cls([PAD, UNKNOWN, *words])

    def encode(self, text: str) -> list[int]:
        """The numbers of a text's words; no word of a text is ever padding."""
        return [self.numbers.get(word, UNKNOWN_TOKEN) for word in split(text)]

    def unknown(self, text: str) -> list[str]:
        """The words of a text that the vocabulary lacks, each once."""
        return [word for word in dict.fromkeys(split(text)) if word not in self.numbers]


def pad(texts: Sequence[Sequence[int]], longest: int) -> Tensor:
    """Token numbers (B, T): T is the longest text's, `longest` at most, filled with padding."""
    width = max(1, min(longest, max(map(len, texts), default=1)))
    rows = [[*text[:width], *[PAD_TOKEN] * (width - len(text))] for text in texts]
    return torch.tensor(rows, dtype=torch.long).reshape(-1, width)     # (B, T)


def main(argv: list[str] | None = None) -> int:
    """Show how a text is cut and numbered, with a vocabulary learned from this very text."""
    text = " ".join(sys.argv[1:] if argv is None else argv) or "Don't panic, it's only 42."
    tokenizer = Tokenizer.learn([text])
    for word, number in zip(split(text), tokenizer.encode(text)):
        print(f"{number:4} {word}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
