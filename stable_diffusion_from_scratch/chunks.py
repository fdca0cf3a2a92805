"""How CLIP cuts a prompt into chunks, and how its file writes a byte."""

# no shapes here: characters and bytes

import functools
import re
import sys
import unicodedata

# White space in Unicode's sense; Python's own has U+001C to U+001F too.
SPACE = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"


@functools.cache
def glyphs() -> dict[int, str]:
    """A visible sign for every byte, those that have one first: the order of CLIP's tokens.

    Its file is text, so each byte is written as a sign: itself if it is one in Latin-1, else
    the next one from U+0100 on.
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
    """How CLIP cuts a text before it looks for pairs: a merge never crosses a cut.

    English endings, letters, one digit at a time, other signs. Built in half a second, when it
    is first needed.
    """
    letters, digits = category("L"), category("N")
    return re.compile(f"'(?:s|t|re|ve|m|ll|d)|[{letters}]+|[{digits}]"
                      f"|[^{SPACE}{letters}{digits}]+")


def plain(text: str) -> str:
    """A text as CLIP reads it: accents joined to their letters, one space, no capitals.

    Letters become small one by one: a sigma at the end of a word is like any other.
    """
    text = re.sub(f"[{SPACE}]+", " ", unicodedata.normalize("NFC", text))
    return "".join(map(str.lower, text))


def chunks(text: str) -> list[str]:
    """The chunks of a text, each of which becomes tokens by itself."""
    return pattern().findall(plain(text))
