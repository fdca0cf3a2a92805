"""Where texts come from: what ships with Python, Tiny Shakespeare, or a text of your own.

    python-docs     the reference of the Python language, as `help()` shows it
    shakespeare     Tiny Shakespeare, fetched into --data-dir if it is not there
    FILE            any text in UTF-8
    FOLDER          all texts in it and below, one after the other in the order of their names
"""

# no shapes here: texts

import contextlib
import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from pydoc_data.topics import topics
from typing import NamedTuple

from console import Refusal, say
from download import fetch

NAMES = ("python-docs", "shakespeare")
SHAKESPEARE = ("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/"
               "tinyshakespeare/input.txt",)
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
TRAINED = 0.9      # share of the characters, from the first on; the rest validates
LEAST = 100        # characters


class Data(NamedTuple):
    """A text in two parts, and the SHA-256 of both together."""

    name: str
    training: str
    validation: str
    digest: str


def load(name: str, data_dir: Path, workers: int = 0) -> Data:
    """The text that `--data` names; its last tenth validates, as in nanoGPT.

    A path that does not exist is looked for, by its last part, in `data_dir`. Raises Refusal
    if there is none, if it is no text in UTF-8, or if it is too short to learn from. The text
    of `python-docs` is that of the Python at work, so its figures differ between versions.
    """
    if name == "python-docs":
        paragraphs = (each for topic in sorted(topics) for each in topics[topic].split("\n\n"))
        text = "\n\n".join(dict.fromkeys(paragraphs))     # topics repeat each other: once each
    elif name == "shakespeare":
        path = data_dir / "shakespeare" / "input.txt"
        if not path.exists():
            fetch(SHAKESPEARE, path, SHA256)
        text = read(path)
    else:
        path = Path(name)
        path = path if path.exists() else data_dir / path.name
        if not path.exists():
            raise Refusal(f"{name} is neither a data set nor a path: use {', '.join(NAMES)}, a "
                          "file or a folder of texts")
        name, text = path.name, read_folder(path, workers) if path.is_dir() else read(path)
    if len(text) < LEAST:
        raise Refusal(f"{name} has {len(text)} characters: {LEAST} are the least to learn from")
    split = int(TRAINED * len(text))
    return Data(name, text[:split], text[split:], hashlib.sha256(text.encode()).hexdigest())


def read(path: Path) -> str:
    """The text of a file. Raises Refusal if it cannot be read or is none."""
    try:
        return as_text(path.read_bytes(), path)
    except OSError as error:
        raise Refusal(f"{path} cannot be read ({error.strerror}): name another") from None


def as_text(content: bytes, path: Path | str) -> str:
    """Bytes as text, lines ended as in Unix. Raises Refusal, with the path, for others."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refusal(f"{path} is no text: byte {error.start:,} is not UTF-8, so save it as "
                      "UTF-8") from None
    if "\0" in text:
        raise Refusal(f"{path} is no text: it has zero bytes, so save it as UTF-8")
    return text.replace("\r\n", "\n")


def read_folder(home: Path, workers: int = 0) -> str:
    """All texts of a folder and of those in it, one after the other; hidden files stay out.

    Files that are no text are left out and counted.
    """
    files = sorted(path for path in home.rglob("*") if path.is_file() and not any(
        part.startswith(".") for part in path.relative_to(home).parts))

    def text_of(path: Path) -> str | None:
        with contextlib.suppress(Refusal):
            return read(path)

    with ThreadPoolExecutor(max(1, workers)) as pool:
        texts = [text for text in pool.map(text_of, files) if text is not None]
    if len(texts) < len(files):
        say(f"left out {len(files) - len(texts)} of {len(files)} files in {home}: no text in "
            "UTF-8")
    return "\n".join(text for text in texts if text)
