"""Pictures as bytes: embedded digits, MNIST, CIFAR-10, and folders as people have them."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from support import load

diffusion = load("diffusion_from_scratch")
data, reading, Refusal = diffusion.data, diffusion.reading, diffusion.console.Refusal
Said = pytest.CaptureFixture


def photograph(path: Path, seed: int, size: tuple[int, int] = (20, 15),
               mode: str = "RGB") -> None:
    """Noise as a picture of width and height."""
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8))
    image.convert(mode).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes of twelve pictures of one size, below one folder."""
    home = tmp_path / "pictures"
    for number in range(36):
        photograph(home / "abc"[number % 3] / f"{number:02}.png", number)
    return home


# ---------------------------------------------------------------- sets with a name


def test_embedded_digits_are_crisp_and_their_parts_have_all_classes() -> None:
    found = data.load("digits", Path("nowhere"))
    assert [len(part.images) for part in found[2:]] == [1200, 147, 450]
    assert found.classes == list("0123456789")
    for part, least in zip(found[2:], (110, 13, 43)):
        assert part.images.shape[1:] == (1, 28, 28) and part.images.dtype == torch.uint8
        assert part.labels.bincount().min() >= least and part.labels.dtype == torch.int64
    ink = found.train.images[:, 0].float() / 255
    assert not ink[:, :4].any() and not ink[:, :, -4:].any() and ink.amax((1, 2)).min() > 0.9
    assert ((ink > 0.05) & (ink < 0.95)).float().mean() < 0.13       # few pixels are grey
    rows = [image.numpy().tobytes() for part in found[2:] for image in part.images]
    assert len(set(rows)) == 1797 and found.digest == data.digits().digest
    few = found.shortened((10, 5, 3))
    assert [len(part.images) for part in few[2:]] == [10, 5, 3] and few.digest != found.digest
    assert torch.equal(few.train.labels, found.train.labels[:10])


def test_pixels_have_the_range_of_noise_and_come_back() -> None:
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    for centred, low in ((True, -1), (False, 0)):
        x = data.to_input(levels, centred)
        assert (x.min(), x.max()) == (low, 1)
        assert torch.equal((255 * data.to_image(x, centred)).round().byte(), levels)
    assert data.to_image(torch.tensor([-3.0, 5.0])).tolist() == [0, 1]


def test_mnist_is_split_for_good(shared: Callable) -> None:
    found = data.load("mnist", shared("MNIST"))
    assert [len(part.images) for part in found[2:]] == [55_000, 5_000, 10_000]
    assert found.train.images.shape[1:] == (1, 28, 28)
    assert found.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert data.on_disk("mnist", shared("MNIST")) and not data.on_disk("mnist", Path("no"))


def test_cifar_is_read_as_it_is_published(tmp_path: Path,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / data.CIFAR_FOLDER
    home.mkdir()
    rng, names = np.random.default_rng(0), [f"data_batch_{i}" for i in range(1, 6)]
    for name in (*names, "test_batch"):
        batch = {"data": rng.integers(0, 256, (1100, 3072), np.uint8),
                 "labels": [i % 10 for i in range(1100)]}
        (home / name).write_bytes(pickle.dumps(batch))
    (home / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    kind = data.torchvision.datasets.CIFAR10
    monkeypatch.setattr(kind, "_check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    found = data.load("cifar10", tmp_path)
    assert [len(part.images) for part in found[2:]] == [500, 5000, 1100]
    assert found.train.images.shape[1:] == (3, 32, 32) and found.classes == list("abcdefghij")
    first = pickle.loads((home / "test_batch").read_bytes())["data"][0]
    assert found.test.images[0].flatten().tolist() == first.tolist()
    monkeypatch.setattr(kind, "_check_integrity", lambda self: False)
    with pytest.raises(Refusal, match="are damaged: delete them"):
        data.load("cifar10", tmp_path)


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_a_set_that_cannot_be_fetched_says_how_to_place_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="could not be fetched .* place it at "):
        data.load(name, tmp_path)
    assert not list(tmp_path.rglob("*.partial"))


def test_damaged_files_of_mnist_are_said_to_be(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in data.MNIST:
        (raw / name).write_bytes(b"no")
    with pytest.raises(Refusal, match="are damaged .*: delete them"):
        data.load("mnist", tmp_path)


# ---------------------------------------------------------------- folders


@pytest.mark.parametrize("workers", [0, 2])
def test_folders_of_one_size_are_taken_as_they_are_and_name_classes(folder: Path,
                                                                    workers: int) -> None:
    found = data.load(str(folder), folder, workers=workers)
    assert found.classes == ["a", "b", "c"] and found.train.images.shape[1:] == (3, 15, 20)
    assert [len(part.images) for part in found[2:]] == [30, 3, 3]
    for image, label in zip(*found.train):
        path = folder / "abc"[int(label)]
        assert any(np.array_equal(np.array(Image.open(each)), image.permute(1, 2, 0).numpy())
                   for each in path.iterdir())


def test_parts_depend_on_the_seed_alone(folder: Path) -> None:
    one, two, other = (data.load(str(folder), folder, seed=seed).digest for seed in (0, 0, 1))
    assert one == two != other


def test_pictures_of_mixed_sizes_are_refused_or_made_squares(folder: Path) -> None:
    photograph(folder / "a" / "large.jpg", 99, (50, 40))
    with pytest.raises(Refusal, match=r"have 2 different sizes \(15×20, 40×50 …\): make them "
                                      "one with --image-size N"):
        data.load(str(folder), folder)
    found = data.load(str(folder), folder, side=9)
    assert found.train.images.shape[1:] == (3, 9, 9) and len(found.train.images) == 31


def test_bad_files_and_doubles_are_left_out_and_counted(folder: Path, capsys: Said) -> None:
    (folder / "a" / "broken.png").write_bytes(b"no picture")
    (folder / "a" / "notes.txt").write_text("no picture either")
    (folder / "b" / "again.png").write_bytes((folder / "b" / "01.png").read_bytes())
    photograph(folder / ".hidden" / "x.png", 7)
    found = data.load(str(folder), folder)
    said = capsys.readouterr().err
    assert "left out 1 of 38 files" in said
    assert "left out pictures that were there before: 1" in said
    assert sum(len(part.images) for part in found[2:]) == 36


def test_pictures_without_class_folders_have_no_classes(tmp_path: Path) -> None:
    for number in range(12):
        photograph(tmp_path / "one" / f"{number}.png", number, mode="L")
    for place in (tmp_path, tmp_path / "one"):
        found = data.load(str(place), place)
        assert found.classes == [] and not found.train.labels.any()
        assert found.train.images.shape[1:] == (1, 15, 20)       # grey: one channel
    photograph(tmp_path / "two" / "x.png", 50)
    photograph(tmp_path / "beside.png", 51)
    assert data.load(str(tmp_path), tmp_path).classes == []


def test_too_few_pictures_and_missing_folders_are_refused(tmp_path: Path) -> None:
    photograph(tmp_path / "one.png", 0)
    with pytest.raises(Refusal, match="has 1 usable pictures: at least 10 different ones"):
        data.load(str(tmp_path), tmp_path)
    with pytest.raises(Refusal, match="is neither a data set nor a folder: use digits, mnist"):
        data.load(str(tmp_path / "none"), tmp_path)


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "CMYK", "I;16", "RGBA", "LA"])
def test_pictures_of_all_kinds_become_colours(mode: str, tmp_path: Path) -> None:
    image = Image.new("RGB", (10, 8), (200, 200, 200)).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.full((8, 10), 200 * 257, np.uint16))
    path = tmp_path / ("a.tif" if mode in ("CMYK", "I;16") else "a.png")
    image.save(path)
    found = reading.read(path)
    assert found.shape == (3, 8, 10) and found.dtype == torch.uint8
    apart = (found.float() - 200).abs().max()      # of a palette's nearest colours: up to 51
    assert apart <= {"P": 51, "1": 200}.get(mode, 3)


def test_what_is_transparent_is_white_before_it_is_scaled(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 4), np.uint8)             # black, and not to be seen
    pixels[2:6, 2:6] = (255, 0, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = reading.read(tmp_path / "a.png", (4, 4))
    assert (found[0] > 200).all() and (found[:, 0, 0] > 200).all() and found[1, 1, 1] < 60


def test_the_middle_is_kept_and_turned_upright(tmp_path: Path) -> None:
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 255
    pixels[:5, 10:20] = (255, 0, 0)
    turned = Image.fromarray(pixels)
    exif = turned.getexif()
    exif[0x0112] = 3                                   # upside down
    turned.save(tmp_path / "photo.png", exif=exif)
    found = reading.read(tmp_path / "photo.png", (10, 10))
    assert (found[1:, 5:] == 0).all() and (found[0] == 255).all()      # red is below now
    assert reading.read(tmp_path / "photo.png", (10, 20)).shape == (3, 10, 20)


@pytest.mark.parametrize(("content", "words"), [
    (None, "there is no file"), (b"", "is not a picture"), (b"GIF89a", "is not a picture")])
def test_what_is_no_picture_is_said_so(content: bytes | None, words: str,
                                       tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        reading.read(tmp_path / "x.png")
