"""Where pictures come from: sprites on white, folders with bad files, MNIST, archives."""

import hashlib
import http.server
import io
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from support import load

vae = load("vae_from_scratch")
data, reading, sprites = vae.data, vae.reading, vae.sprites
Refusal, Said = vae.console.Refusal, pytest.CaptureFixture


def photograph(path: Path, number: int, size: tuple[int, int] = (20, 30)) -> None:
    rng = np.random.default_rng(number)
    Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Thirty pictures of different sizes, one of them twice, a broken one, and a text."""
    home = tmp_path / "mine"
    (home / "deep").mkdir(parents=True)
    for number in range(29):
        photograph(home / f"{number:02}.png", number, (10 + number, 40 - number))
    photograph(home / "deep" / "again.png", 3, (13, 37))
    (home / "broken.png").write_bytes(b"\x89PNG and then nothing")
    (home / "notes.txt").write_text("no picture")
    return home


# ---------------------------------------------------------------- single files


def test_the_colour_of_invisible_pixels_does_not_matter(tmp_path: Path) -> None:
    sheets = []
    for hidden in (0, 200):
        pixels = np.full((40, 60, 4), hidden, np.uint8)
        pixels[..., 3] = 0
        pixels[10:30, 20:44] = (250, 10, 10, 255)      # 24 wide, 20 high
        Image.fromarray(pixels).save(tmp_path / "sprite.png")
        sheets.append(reading.read_square(tmp_path / "sprite.png", 32))
    assert torch.equal(*sheets)
    red = (sheets[0] == torch.tensor([250, 10, 10])[:, None, None]).all(0)
    white = (sheets[0] == 255).all(0)
    assert (red | white).all() and red[6:26, 4:28].all() and red.sum() == 24 * 20


def test_half_transparent_and_large_sprites_are_laid_on_white_before_they_shrink(
        tmp_path: Path) -> None:
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[:, :32, 3] = 255                            # black, opaque, and then nothing
    pixels[0, 63] = (0, 0, 0, 1)                       # almost nothing, but visible
    pixels[32:, :32, 3] = 102                          # a black of which 60 % is white
    Image.fromarray(pixels).save(tmp_path / "large.png")
    found = reading.read_square(tmp_path / "large.png", 32)
    assert found.shape == (3, 32, 32)
    assert (found[:, :16, :16] == 0).all() and (found[:, 16:, :16] == 153).all()
    assert (found[:, 1:, 16:] == 255).all()


def test_an_alpha_channel_that_hides_nothing_makes_no_sprite(tmp_path: Path) -> None:
    photograph(tmp_path / "a.png", 4, (20, 60))
    with Image.open(tmp_path / "a.png") as image:
        image.convert("RGBA").save(tmp_path / "b.png")
    one, two = (reading.read_square(tmp_path / name, 16) for name in ("a.png", "b.png"))
    assert torch.equal(one, two)


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "CMYK", "1", "I;16", "LA", "RGBA"])
def test_every_kind_of_picture_becomes_three_channels(mode: str, tmp_path: Path) -> None:
    kind = "L" if mode == "I;16" else mode
    image = Image.new("RGB", (50, 20), (200, 200, 200)).convert(kind)
    if mode == "I;16":
        image = Image.fromarray(np.full((20, 50), 200 * 257, np.uint16))
    path = tmp_path / ("a.tif" if mode in ("CMYK", "I;16") else "a.png")
    image.save(path)
    found = reading.read_square(path, 16)
    assert found.shape == (3, 16, 16) and found.dtype == torch.uint8
    middle = found[:, 8, 8].tolist()
    assert all(abs(level - 200) <= 3 for level in middle) or mode == "1"


def test_the_middle_of_a_photograph_is_kept_and_turned_upright(tmp_path: Path) -> None:
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 255
    pixels[:5, 10:20] = (255, 0, 0)
    turned = Image.fromarray(pixels)
    exif = turned.getexif()
    exif[0x0112] = 3                                   # upside down
    turned.save(tmp_path / "photo.png", exif=exif)
    found = reading.read_square(tmp_path / "photo.png", 10)
    assert (found[1:, 5:] == 0).all() and (found[0] == 255).all()      # red is below now
    assert (found[:, :5] == 255).all()


@pytest.mark.parametrize(("content", "words"), [
    (None, "there is no file"), (b"", "is not a picture"), (b"GIF89a", "is not a picture")])
def test_what_is_no_picture_is_said_so(content: bytes | None, words: str,
                                       tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        reading.read_square(tmp_path / "x.png", 8)


# ---------------------------------------------------------------- folders


@pytest.mark.parametrize("workers", [0, 2])
def test_a_folder_of_all_sizes_loses_bad_files_and_doubles_and_counts_them(
        workers: int, folder: Path, capsys: Said) -> None:
    found = data.load(str(folder), folder, side=12, workers=workers)
    said = capsys.readouterr().err
    assert "left out 1 of 31 files" in said
    assert "left out pictures that were there before: 1" in said
    assert [len(part.images) for part in found[2:]] == [25, 2, 2]
    assert found.train.images.shape[1:] == (3, 12, 12) and found.values == {}
    rows = [image.numpy().tobytes() for part in found[2:] for image in part.images]
    assert len(set(rows)) == 29


def test_parts_depend_on_the_seed_alone(folder: Path) -> None:
    one, two, other = (data.load(str(folder), folder, 12, seed).digest for seed in (0, 0, 1))
    assert one == two != other


def test_grey_folders_have_one_channel(tmp_path: Path) -> None:
    for number in range(12):
        level = np.full((9, 9), 20 * number, np.uint8)
        Image.fromarray(level).save(tmp_path / f"{number}.png")
    found = data.load(str(tmp_path), tmp_path, 8)
    assert found.train.images.shape[1:] == (1, 8, 8)


def test_too_few_pictures_and_missing_folders_are_refused(tmp_path: Path, capsys: Said) -> None:
    photograph(tmp_path / "one.png", 0)
    with pytest.raises(Refusal, match="has 1 usable pictures: at least 10 different ones"):
        data.load(str(tmp_path), tmp_path)
    with pytest.raises(Refusal, match="is neither a data set nor a folder: use creatures, "):
        data.load(str(tmp_path / "none"), tmp_path)
    with pytest.raises(Refusal, match="has 0 usable pictures"):
        (tmp_path / "empty").mkdir()
        data.load(str(tmp_path / "empty"), tmp_path)


# ---------------------------------------------------------------- sets with a name


def test_creatures_are_known_and_their_parts_share_no_combination() -> None:
    found = data.load("creatures", Path("nowhere"), counts=(300, 90, 60))
    combinations = []
    for part, count in zip(found[2:], (300, 90, 60)):
        assert part.images.shape == (count, 3, 32, 32) and part.images.dtype == torch.uint8
        assert set(part.known) == {*found.values, "turn"}
        combinations.append({tuple(int(part.known[name][i])
                                   for name in vae.creatures.ATTRIBUTES) for i in range(count)})
        assert torch.equal(part.known["hue"], data.nearest_hue(part.known["turn"]))
    assert not set.intersection(*combinations[:2]) | set.intersection(*combinations[1:])
    assert not combinations[0] & combinations[2]
    assert found.digest == data.load("creatures", Path("no"), counts=(300, 90, 60)).digest
    few = found.shortened((10, 5, 3))
    assert [len(part.images) for part in few[2:]] == [10, 5, 3]
    assert torch.equal(few.train.known["turn"], found.train.known["turn"][:10])


def test_a_hue_has_the_name_of_the_nearest_on_the_circle() -> None:
    turns = torch.tensor([0, 0.08, 0.09, 1 / 3, 0.66, 0.91, 0.92, 0.999])
    names = [vae.creatures.HUES[place] for place in data.nearest_hue(turns)]
    assert names == ["red", "red", "yellow", "green", "blue", "magenta", "red", "red"]
    assert data.load("creatures", Path("no"), counts=(1, 1, 1)).values["hue"][4] == "blue"


def test_what_is_known_of_a_creature_fits_its_picture() -> None:
    part = data.load("creatures", Path("no"), counts=(200, 1, 1)).train
    green = part.images[:, 1].float().mean((1, 2)) - part.images[:, 0].float().mean((1, 2))
    towards = torch.cos(2 * torch.pi * (part.known["turn"] - 0.45))   # from red to cyan
    assert torch.corrcoef(torch.stack([green, towards]))[0, 1] > 0.9
    ink = (part.images < 255).any(1).float()[:, 2:14, :6].sum((1, 2))
    assert ink[part.known["wings"] == 1].mean() > 4 * ink[part.known["wings"] == 0].mean() + 3


def test_pixels_are_drawn_with_their_grey_level_as_probability() -> None:
    x = torch.tensor([0.0, 0.25, 0.9, 1.0]).repeat(20_000, 1)
    drawn = data.binarised(x, 5)
    assert drawn.mean(0).tolist() == pytest.approx([0, 0.25, 0.9, 1], abs=0.015)
    assert set(drawn.unique().tolist()) == {0, 1}
    assert torch.equal(drawn, data.binarised(x, 5))
    assert not torch.equal(drawn, data.binarised(x, 6))
    assert data.to_input(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == [
        0, pytest.approx(0.2), 1]


def test_mnist_is_split_for_good(shared: Callable) -> None:
    found = data.load("mnist", shared("MNIST"))
    assert [len(part.images) for part in found[2:]] == [55_000, 5_000, 10_000]
    assert found.train.images.shape[1:] == (1, 28, 28)
    assert found.test.known["digit"][:5].tolist() == [7, 2, 1, 0, 4]
    rows = [{image.numpy().tobytes() for image in part.images} for part in found[2:4]]
    assert not rows[0] & rows[1]
    assert data.on_disk("mnist", shared("MNIST")) and not data.on_disk("mnist", Path("no"))


# ---------------------------------------------------------------- the archive of sprites


class Server(http.server.BaseHTTPRequestHandler):
    """Gives one archive, whatever is asked for."""

    archive = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.archive)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, bytes]]:
    """Twelve sprites behind a local address, among other files, some of them hostile."""
    files = {}
    for number in range(12):
        file = io.BytesIO()
        Image.new("RGBA", (9, 9), (20 * number, 0, 90, 255)).save(file, "PNG")
        files[f"{number:02}.png"] = file.getvalue()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as zipped:
        for name, content in files.items():
            zipped.writestr(f"sprites-master/pokemon-gen8/regular/{name}", content)
            zipped.writestr(f"sprites-master/pokemon-gen8/shiny/{name}", b"no")
        zipped.writestr("sprites-master/pokemon-gen8/regular/female/00.png", b"no")
        zipped.writestr("../../pokemon-gen8/regular/evil.png", b"no")
        zipped.writestr("sprites-master/readme.md", b"no")
    monkeypatch.setattr(Server, "archive", packed.getvalue())
    server = http.server.HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(sprites, "ARCHIVE", f"http://127.0.0.1:{server.server_port}/a.zip")
    yield files
    server.shutdown()


def digest(files: dict[str, bytes]) -> str:
    return hashlib.sha256(b"".join(name.encode() + files[name] for name in sorted(files))
                          ).hexdigest()


def test_sprites_are_fetched_when_asked_for_and_only_once(
        archive: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sprites, "SHA256", digest(archive))
    found = data.load("pokemon", tmp_path / "data", 16)
    assert {path.name: path.read_bytes() for path in (tmp_path / "data" / "pokemon").iterdir()
            } == archive
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["pokemon"]
    assert [len(part.images) for part in found[2:]] == [10, 1, 1]
    monkeypatch.setattr(sprites, "ARCHIVE", "http://127.0.0.1:9/gone")
    assert data.load("pokemon", tmp_path / "data", 16).digest == found.digest


@pytest.mark.parametrize("fault", ["other sprites", "no archive", "no server"])
def test_an_archive_that_is_not_right_leaves_nothing(
        fault: str, archive: dict[str, bytes], tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    if fault == "no archive":
        monkeypatch.setattr(Server, "archive", b"<html>")
    if fault == "no server":
        monkeypatch.setattr(sprites, "ARCHIVE", "http://127.0.0.1:9/gone")
    with pytest.raises(Refusal, match="the sprites could not be fetched .*: place them in "):
        data.load("pokemon", tmp_path / "data", 16)
    assert not list((tmp_path / "data").iterdir())


def test_the_sprites_of_the_archive_are_the_shared_ones(shared: Callable) -> None:
    assert sprites.hash_of(shared("pokemon") / "pokemon") == sprites.SHA256
