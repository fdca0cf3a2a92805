"""How GPT-2 cuts a text into chunks, and how its files write a byte."""

# no shapes here: characters and bytes

import functools
import re
import sys
import unicodedata

# White space in Unicode's sense. Python's own \s has U+001C to U+001F too, GPT-2's has not.
SPACE = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"


@functools.cache
def glyphs() -> dict[int, str]:
    """A visible sign for every byte, those that have one first: the order of GPT-2's tokens.

    OpenAI's files are text, so each byte is written as a sign: itself if it is one in Latin-1,
    else the next one from U+0100 on. A space is written Ġ, a new line Ċ.
    """
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {
        byte: chr(0x100 + place) for place, byte in enumerate(hidden)}


def category(letter: str) -> str:
    """All characters of a Unicode category ("L": letters), as ranges for a class of `re`."""
    starts, inside = [], False
    for code in range(sys.maxunicode + 1):
        if (unicodedata.category(chr(code))[0] == letter) is not inside:
            starts, inside = [*starts, code], not inside
    return "".join(f"\\U{first:08x}-\\U{beyond - 1:08x}"
                   for first, beyond in zip(starts[::2], starts[1::2]))


@functools.cache
def pattern() -> re.Pattern[str]:
    """How GPT-2 cuts a text before it looks for pairs: a merge never crosses a cut.

    English endings; letters, digits, or signs, each with one space before them; other white
    space, whose last character is left to what follows. The classes of `re` are not Unicode's
    categories, hence the ranges. Built in half a second, when it is first needed.
    """
    letters, digits = category("L"), category("N")
    return re.compile(f"'(?:[sdmt]|ll|ve|re)| ?[{letters}]+| ?[{digits}]+"
                      f"| ?[^{SPACE}{letters}{digits}]+|[{SPACE}]+(?![^{SPACE}])|[{SPACE}]+")
