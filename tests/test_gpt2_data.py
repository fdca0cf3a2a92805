"""Where GPT-2's texts come from: parts, files in all states, folders, and what is refused."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from support import load

data = load("gpt2_from_scratch").data
Refusal, NOWHERE = data.Refusal, Path("nowhere")
TEXT = "".join(f"{number} is a number.\n" for number in range(40))
PICTURE = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256))


def ask(path: Path | str, data_dir: Path = NOWHERE) -> data.Data:
    return data.load(str(path), data_dir)


def write(path: Path, content: str | bytes = TEXT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def whole(loaded: data.Data) -> str:
    return loaded.training + loaded.validation


# ---------------------------------------------------------------- the named ones


def test_the_default_is_prose_that_ships_with_python() -> None:
    loaded = ask("python-docs")
    assert loaded == ask("python-docs") and loaded.name == "python-docs" == data.NAMES[0]
    assert len(whole(loaded)) > 200_000 and "\0" not in whole(loaded)
    assert "Unlike C, all comparison operations in Python have the same priority," in whole(
        loaded)
    assert len(loaded.training) == int(0.9 * len(whole(loaded)))


def test_hardly_anything_of_the_default_validates_that_was_trained_on() -> None:
    """Paragraphs are kept once; a few differ in the blanks around them alone."""
    loaded = ask("python-docs")
    first, second = ([p.strip() for p in part.split("\n\n")] for part in loaded[1:3])
    twice = sum(len(p) for p in second if p in set(first) and p)
    assert twice <= 0.01 * len(loaded.validation)
    written = {p.strip() for text in data.topics.values() for p in text.split("\n\n")}
    assert {p.strip() for p in whole(loaded).split("\n\n")} == written


def test_shakespeare_is_split_as_nanogpt_does(shared: Callable[[str], Path]) -> None:
    loaded = ask("shakespeare", shared("shakespeare"))
    assert (len(loaded.training), len(loaded.validation)) == (1_003_854, 111_540)
    path = shared("shakespeare") / "shakespeare" / "input.txt"
    content = path.read_bytes()
    assert whole(loaded).encode() == content and loaded.name == "shakespeare"
    assert hashlib.sha256(content).hexdigest() == data.SHA256 == loaded.digest


def test_shakespeare_is_fetched_only_if_it_is_not_there(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []
    monkeypatch.setattr(data, "fetch", lambda *given: fetched.append(given) or write(given[1]))
    first = ask("shakespeare", tmp_path)
    path = tmp_path / "shakespeare" / "input.txt"
    assert fetched == [(data.SHAKESPEARE, path, data.SHA256)] and whole(first) == TEXT
    assert data.SHAKESPEARE[0].startswith("https://")
    write(path, TEXT + "more")
    assert whole(ask("shakespeare", tmp_path)) == TEXT + "more" and len(fetched) == 1


# ---------------------------------------------------------------- a text of one's own


@pytest.mark.parametrize("content,text", [
    (TEXT, TEXT), (b"\xef\xbb\xbf" + TEXT.encode(), TEXT), (TEXT.replace("\n", "\r\n"), TEXT),
    ("naïve 😀 日本\n" * 30, "naïve 😀 日本\n" * 30), ("a\rb\x0c\x1c\x85\u2028" * 30,) * 2,
    ("\ufeff" + TEXT + "\ufeff", TEXT + "\ufeff"),
])
def test_a_file_is_read_as_it_is_but_for_marks_and_line_ends(
        content: str | bytes, text: str, tmp_path: Path) -> None:
    loaded = ask(write(tmp_path / "my book.txt", content))
    assert whole(loaded) == text and loaded.name == "my book.txt"
    assert len(loaded.training) == int(0.9 * len(text))       # in characters, not in bytes


def test_a_path_is_also_looked_for_in_the_data_directory(tmp_path: Path) -> None:
    write(tmp_path / "data" / "book.md")
    found = ask(tmp_path / "gone" / "book.md", tmp_path / "data")
    assert whole(found) == TEXT and found.name == "book.md"
    write(tmp_path / "book.md", TEXT + "nearer")
    assert whole(ask(tmp_path / "book.md", tmp_path / "data")) == TEXT + "nearer"


def test_the_texts_of_a_folder_come_in_the_order_of_their_names(
        tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for name in ("b.txt", "a/z.py", "a/deep/er/x", "c", "ü.md"):
        write(tmp_path / "texts" / name, f"{name} " * 20)
    for name in (".git/config", ".hidden", "a/.cache/x"):
        write(tmp_path / "texts" / name, "hidden" * 20)
    write(tmp_path / "texts" / "b2.txt", "")
    loaded = ask(tmp_path / "texts")
    order = ["a/deep/er/x", "a/z.py", "b.txt", "c", "ü.md"]
    assert whole(loaded) == "\n".join(f"{name} " * 20 for name in order)
    assert loaded.name == "texts" and capsys.readouterr().err == ""


def test_hidden_folders_on_the_way_to_a_folder_do_not_hide_it(tmp_path: Path) -> None:
    write(tmp_path / ".home" / "texts" / "a.txt")
    assert whole(ask(tmp_path / ".home" / "texts")) == TEXT


def test_files_of_a_folder_that_are_no_text_are_left_out_and_counted(
        tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for name, content in (("a.txt", TEXT), ("b.png", PICTURE), ("c.txt", b"caf\xe9"),
                          ("d.txt", TEXT.encode("utf-16")), ("e.bin", b"text\0text")):
        write(tmp_path / name, content)
    assert whole(ask(tmp_path)) == TEXT
    error = capsys.readouterr().err
    assert error == f"left out 4 of 5 files in {tmp_path}: no text in UTF-8\n"
    assert data.load(str(tmp_path), tmp_path, workers=2) == ask(tmp_path)


def test_the_digest_knows_every_character(tmp_path: Path) -> None:
    texts = [TEXT, TEXT[:-1], TEXT + " ", TEXT.replace("3", "4", 1), TEXT[::-1]]
    digests = [ask(write(tmp_path / "x.txt", text)).digest for text in [*texts, TEXT]]
    assert len(set(digests)) == 5 and digests[0] == digests[-1]
    assert digests[0] == hashlib.sha256(TEXT.encode()).hexdigest()


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("content,words", [
    (PICTURE, "is no text: byte 0 is not UTF-8, so save it as UTF-8"),
    (TEXT.encode() + b"\xff", "is no text: byte 630 is not UTF-8"),
    (TEXT.encode("utf-16"), "is no text: byte 0 is not UTF-8"),
    (TEXT.encode("utf-16-le"), "is no text: it has zero bytes"),
    (TEXT + "\0", "is no text: it has zero bytes, so save it as UTF-8"),
    (b"", "x.txt has 0 characters: 100 are the least to learn from"),
    ("é" * 99, "x.txt has 99 characters: 100 are the least"),
])
def test_what_is_no_text_or_too_short_is_refused_in_a_sentence(
        content: str | bytes, words: str, tmp_path: Path) -> None:
    path = write(tmp_path / "x.txt", content)
    with pytest.raises(Refusal, match=words) as refusal:
        ask(path)
    assert "\n" not in str(refusal.value) and list(tmp_path.iterdir()) == [path]
    assert whole(ask(write(path, "é" * 100))) == "é" * 100


def test_what_is_not_there_is_refused_in_a_sentence(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refusal, match="none is neither a data set nor a path: use python-docs, "
                       "shakespeare, a file or a folder"):
        ask(tmp_path / "none", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(Refusal, match="empty has 0 characters: 100 are the least"):
        ask(tmp_path / "empty")

    def locked(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    write(tmp_path / "x.txt")
    monkeypatch.setattr(Path, "read_bytes", locked)
    with pytest.raises(Refusal, match=r"x.txt cannot be read \(Permission denied\)"):
        ask(tmp_path / "x.txt")
