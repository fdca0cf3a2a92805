"""Where AlexNet's pictures come from: drawn shapes, files of all kinds, folders, archives."""

import functools
import hashlib
import io
import itertools
import pickle
import tarfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor

from support import load

alexnet = load("alexnet_from_scratch")
data, shapes, reading, Part = alexnet.data, alexnet.shapes, alexnet.reading, alexnet.parts.Part
Refusal = alexnet.console.Refusal


def gap(one: Tensor | np.ndarray, other: Tensor | np.ndarray) -> int:
    return int(np.abs(np.asarray(one).astype(int) - np.asarray(other).astype(int)).max())


# ---------------------------------------------------------------- drawn shapes


@functools.cache
def drawn(count: int = 400, side: int = 32) -> np.ndarray:
    return np.stack([shapes.draw(number, side)[0] for number in range(count)]).astype(float)


def test_a_picture_is_a_function_of_its_number_and_unlike_all_others() -> None:
    for number in (0, 7, 123_456):
        first, label = shapes.draw(number, 48)
        np.random.seed(number)  # noqa: NPY002 - what others draw must not matter
        assert np.array_equal(first, shapes.draw(number, 48)[0]) and label == number % 10
        assert first.shape == (48, 48, 3) and first.dtype == np.uint8
    assert len(set(shapes.CLASSES)) == 10
    for number in range(0, 390, 7):     # of the same class
        assert np.abs(drawn()[number] - drawn()[number + 10]).mean() > 10


def test_a_number_gives_about_the_same_picture_at_another_size() -> None:
    """Not where a texture of noise was drawn, which takes more numbers from the generator."""
    halved = drawn(60, 64).reshape(60, 32, 2, 32, 2, 3).mean((2, 4))
    same, other = (np.median([np.corrcoef(halved[i].ravel(), drawn()[i + far].ravel())[0, 1]
                              for i in range(60)]) for far in (0, 60))
    assert same > 0.93 and other < 0.3


def test_mean_colours_say_nothing_about_the_class() -> None:
    colours, labels = drawn().mean((1, 2)), np.arange(400) % 10
    means = np.stack([colours[:200][labels[:200] == k].mean(0) for k in range(10)])
    nearest = ((colours[200:, None] - means) ** 2).sum(2).argmin(1)
    assert (nearest == labels[200:]).mean() < 0.2


def test_an_object_is_lighter_than_its_background(monkeypatch) -> None:
    covers, colours, mask, surface = [], [], shapes.mask, shapes.surface
    monkeypatch.setattr(shapes, "clutter", lambda *_: None)
    monkeypatch.setattr(shapes, "mask", lambda *of: covers.append(mask(*of)) or covers[-1])
    monkeypatch.setattr(shapes, "surface", lambda *of: colours.append(of[0]) or surface(*of))
    grey = np.stack([shapes.draw(number, 32)[0] for number in range(200)]).mean(3)
    ground, colour = np.stack(colours).mean(1).reshape(200, 2).T
    assert (colour - ground).min() >= 40 == shapes.CONTRAST
    steps = [image[cover == 1].mean() - image[cover == 0].mean()
             for image, cover in zip(grey, covers)]
    assert len(covers) == 200 and np.min(steps) > 5 and np.mean(steps) > 60


@pytest.mark.parametrize("name", shapes.CLASSES)
def test_an_outline_fills_the_unit_circle_and_stays_in_the_picture(name) -> None:
    corners, rng = np.concatenate(shapes.outline(name)), np.random.default_rng(0)
    assert 0.84 < np.hypot(*corners.T).max() <= 1 + 1e-9
    poses = [shapes.pose(rng) for _ in range(300)]
    for matrix, shift in poses:
        assert np.abs(corners @ matrix + shift).max() <= 0.95 + 1e-9
    sizes = np.array([np.linalg.svd(matrix, compute_uv=False) for matrix, _ in poses])
    assert 0.83 < sizes.max() <= 0.85 and 0.65 <= (sizes[:, 1] / sizes[:, 0]).min() < 0.67


def test_outlines_differ_and_a_ring_has_a_hole() -> None:
    y, x = (np.indices((200, 200)) + 0.5) / 100 - 1
    covers = {name: shapes.mask(shapes.outline(name), 200) for name in shapes.CLASSES}
    for one, other in itertools.combinations(covers, 2):
        assert np.abs(covers[one] - covers[other]).mean() > 0.05, (one, other)
    assert covers["disc"][np.hypot(x, y) < 0.8].min() == 1
    assert covers["ring"][np.hypot(x, y) < 0.45].max() == 0


@pytest.mark.parametrize("counts", [(30, 20, 10), (12, 3, 25)])
def test_drawn_parts_begin_at_the_same_numbers_however_many_are_drawn(counts) -> None:
    """So a smoke run never learns from what another run is tested on."""
    loaded = data.load("shapes", Path("nowhere"), 28, seed=counts[0], counts=counts)
    assert loaded.classes == shapes.CLASSES == sorted(shapes.CLASSES)
    starts = data.SHAPES[2] + data.SHAPES[1], data.SHAPES[2], 0
    for part, count, number in zip(loaded[2:], counts, starts):
        assert part.images.shape == (count, 3, 32, 32) and part.side == 32
        for image, label in zip(part.images, part.labels):
            expected, known = shapes.draw(number, 32)
            assert np.array_equal(image.permute(1, 2, 0), expected) and label == known
            number += 1


# ---------------------------------------------------------------- any file as a square


def scene(width: int = 120, height: int = 84) -> Image.Image:
    """Soft colours on blue: no two quarters are alike, nor are left and right of the middle."""
    image = Image.new("RGB", (width, height), (40, 90, 200))
    pen, u = ImageDraw.Draw(image), height / 12
    pen.ellipse([width / 2 - 5 * u, u, width / 2, 7 * u], fill=(250, 200, 30))
    pen.rectangle([width / 2 + u, 4 * u, width / 2 + 4 * u, height], fill=(20, 160, 60))
    pen.rectangle([0, 0, width / 2 - 7 * u, height], fill=(255, 255, 255))
    return image.filter(ImageFilter.GaussianBlur(u / 3))


def square(image: Image.Image, path: Path, side: int = 32, **options: object) -> Tensor:
    """What `read_square` makes of a picture that is saved and read back."""
    exact = {".jpg": {"quality": 100, "subsampling": 0}, ".webp": {"lossless": True}}
    image.save(path, **exact.get(path.suffix, {}), **options)
    return reading.read_square(path, side)


def expected(image: Image.Image, side: int = 32) -> np.ndarray:
    """The middle of a picture, cut out first and scaled then, (3, S, S)."""
    short, (width, height) = min(image.size), image.size
    left, top = (width - short) // 2, (height - short) // 2
    cut = image.convert("RGB").crop((left, top, left + short, top + short))
    return np.asarray(cut.resize((side, side), Image.Resampling.BILINEAR)).transpose(2, 0, 1)


NUMBERS = {"I16": (np.uint16, 65535), "I": (np.int32, 65535), "F1": (np.float32, 1),
           "F255": (np.float32, 255), "F65535": (np.float32, 65535), "F1e6": (np.float32, 1e6)}
COLOURED = ("RGB", "RGBA", "CMYK", "YCbCr")
FORMS = ("RGB.png RGB.bmp RGB.webp RGB.ppm RGB.jpg RGBA.png CMYK.jpg CMYK.tif YCbCr.tif P.png "
         "L.gif L.jpg LA.png 1.png I16.png I16.tif I.tif F1.tif F255.tif F65535.tif F1e6.tif")


@pytest.mark.parametrize("name", FORMS.split())
def test_every_way_to_store_a_picture_gives_the_same_square(tmp_path, name) -> None:
    mode = name.split(".")[0]
    picture = scene() if mode in COLOURED else scene().convert("L")
    if mode == "1":
        picture = picture.point(lambda level: 255 * (level > 127))
    if mode in NUMBERS:
        kind, white = NUMBERS[mode]
        picture.putpixel((0, 0), 255)       # numbers of no known unit are scaled by the largest
        stored = Image.fromarray((np.asarray(picture) / 255 * white).astype(kind))
    else:
        stored = picture.convert(mode)
    # Uncompressed, Pillow before 13 writes a third of it.
    options = {"compression": "tiff_lzw"} if name == "YCbCr.tif" else {}
    found = square(stored, tmp_path / name, **options)
    assert found.shape == (3, 32, 32) and found.dtype == torch.uint8
    assert gap(found, expected(picture)) <= 5


@pytest.mark.parametrize("name", "RGBA.png RGBA.webp LA.png P.png P.gif RGB.png".split())
def test_transparent_parts_are_white(tmp_path, name) -> None:
    """The upper half is black and cannot be seen, the lower is blue."""
    image, more, mode = Image.new("RGBA", (40, 40), (0, 0, 0, 0)), {}, name.split(".")[0]
    ImageDraw.Draw(image).rectangle([0, 20, 39, 39], fill=(0, 0, 250, 255))
    image = image.convert("RGB").quantize(2) if mode == "P" else image.convert(mode)
    if mode in ("P", "RGB"):
        more = {"transparency": image.getpixel((0, 0))}
    found = square(image, tmp_path / name, 40, **more)
    assert (found[:, :20] == 255).all() and found[:, 20:].float().std((1, 2)).max() < 1
    assert gap(found[:, 30, 30], [28, 28, 28] if mode == "LA" else [0, 0, 250]) <= 2
    half = square(Image.new("RGBA", (9, 9), (0, 0, 0, 128)), tmp_path / "half.png", 4)
    assert half.unique().tolist() == [127]


# How a camera that was held so stores the upright picture (EXIF 2.3, tag Orientation).
STORED = {1: None, 2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE",
          6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}


@pytest.mark.parametrize("orientation", STORED)
def test_a_photograph_is_read_upright_however_it_was_taken(tmp_path, orientation) -> None:
    upright, exif, turn = scene(240, 168), Image.Exif(), STORED[orientation]
    exif[0x0112] = orientation
    stored = upright.transpose(Image.Transpose[turn]) if turn else upright
    for suffix, room in (("png", 0), ("jpg", 5)):
        found = square(stored, tmp_path / f"photo.{suffix}", exif=exif)
        assert gap(found, square(upright, tmp_path / "a.png")) <= room


@pytest.mark.parametrize("size", [(120, 40), (121, 40), (40, 120), (40, 121), (40, 40), (1, 1),
                                  (1, 90), (90, 1)])
def test_the_middle_is_read_whatever_the_format(tmp_path, size) -> None:
    """Red grows to the right and green downwards, by two levels a pixel."""
    x, y = np.meshgrid(2 * np.arange(size[0]), 2 * np.arange(size[1]))
    ramps = Image.fromarray(np.stack([x, y, 0 * x], axis=2).astype(np.uint8))
    for side in (16, 40, 100):
        found = square(ramps, tmp_path / "ramps.png", side).float().numpy()
        assert found.mean((1, 2)) == pytest.approx([x.mean(), y.mean(), 0], abs=0.6)
        spread = [np.ptp(found[0].mean(0)), np.ptp(found[1].mean(1))]
        assert spread == pytest.approx([2 * min(size) * (1 - 1 / side)] * 2, abs=3)
        if side == min(size) and sum(size) % 2 == 0:    # nothing to scale: as it is
            assert gap(found, expected(ramps, side)) == 0


@pytest.mark.parametrize("side", [32, 100, 256])
def test_reading_jpegs_at_a_fraction_of_their_size_costs_little(tmp_path, side) -> None:
    scene(1300, 900).save(tmp_path / "photo.jpg", quality=90)
    found = reading.read_square(tmp_path / "photo.jpg", side)
    with Image.open(tmp_path / "photo.jpg") as whole:
        full = expected(whole.convert("RGB"), side)
    assert gap(found, full) <= 12 and np.abs(found.numpy() - full.astype(float)).mean() < 0.8


def png() -> bytes:
    scene().save(file := io.BytesIO(), "PNG")
    return file.getvalue()


BROKEN = {"broken.png": b"\xff\xd8 this is no picture", "text.jpg": b"dear reader",
          "empty.jpg": b"", "cut.png": png()[:300], "huge.png": png()}


@pytest.mark.parametrize("name", [*BROKEN, "missing.png", "locked.png", "."])
def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path, name, monkeypatch) -> None:
    path = tmp_path / name
    words = {"huge.png": f"{path} has over 10,079 pixels: shrink it",
             "missing.png": f"there is no file {path}",
             "locked.png": f"{path} may not be read: check its permissions"}
    if name in BROKEN:
        path.write_bytes(BROKEN[name])
    if name == "locked.png":        # whoever runs as root may read any file
        monkeypatch.setattr(reading.Image, "open", Mock(side_effect=PermissionError))
    monkeypatch.setattr(reading, "MOST_PIXELS", 10_079 if name == "huge.png" else 10_080)
    with pytest.raises(ValueError) as refusal:
        reading.read_square(path, 32)
    assert str(refusal.value).startswith(words.get(name, f"{path} is not a picture"))
    assert "\n" not in str(refusal.value)


# ---------------------------------------------------------------- a folder of your own


def make_folder(folder: Path, plan: str, start: int = 0) -> Path:
    """Plain pictures; "b:9 a" are 9 and 25: red says which word, green which picture."""
    for label, word in enumerate(plan.split()):
        name, _, count = word.partition(":")
        (folder / name).mkdir(parents=True)
        for number in range(start, start + int(count or 25)):
            colour = (20 * (label % 2), number, 99)
            Image.new("RGB", (9, 8), colour).save(folder / name / f"{number:03}.png")
    return folder


def seen(*found: Part) -> list[tuple[int, int, int]]:
    """Label, class and number of the pictures of some parts, as their colours say."""
    taken = [part.take(torch.arange(len(part.labels))) for part in found]
    return [(label, image[0] // 20, image[1]) for images, labels in taken
            for image, label in zip(images[:, :, 0, 0].tolist(), labels.tolist())]


def pairs(start: int, count: int) -> list[tuple[int, int, int]]:
    return [(label, label, i) for label in (0, 1) for i in range(start, start + count)]


def ask(folder: Path, seed: int = 0, workers: int = 0) -> data.Data:
    return data.load(str(folder), Path("nowhere"), 28, seed, workers)


def test_class_folders_alone_are_split_evenly_by_seed(tmp_path, monkeypatch) -> None:
    """Of 50 a fifth is split off to test, and a tenth of the rest to validate."""
    make_folder(tmp_path, "b a")
    first, again, other = (ask(tmp_path, seed) for seed in (0, 0, 1))
    assert first.classes == ["a", "b"] and first.name == str(tmp_path)
    for loaded in (first, other):
        counts = [part.labels.bincount().tolist() for part in loaded[2:]]
        assert counts == [[18, 18], [2, 2], [5, 5]]
        whole = [(label, 1 - kind, i) for label, kind, i in seen(*loaded[2:])]
        assert sorted(whole) == pairs(0, 25)             # none is lost, none is there twice
    for number, part in enumerate(first[2:], start=2):
        assert seen(part) == seen(again[number]) and seen(part) != seen(other[number])
    monkeypatch.setattr(data, "VALIDATION", 2)
    assert [len(part.labels) for part in ask(tmp_path)[2:]] == [38, 2, 10]


@pytest.mark.parametrize("names", [("val",), ("test",), ("val", "test")])
def test_parts_beside_train_are_kept_apart(tmp_path, names) -> None:
    """val/ alone is the test part, as in ImageNet; then a tenth of train/ validates."""
    make_folder(tmp_path / "train", "a b")
    for place, name in enumerate(names, start=1):
        make_folder(tmp_path / name, "a:4 b:4", start=40 * place)
    train, validation, test = (seen(part) for part in ask(tmp_path)[2:])
    if len(names) == 2:
        assert (train, validation, test) == (pairs(0, 25), pairs(40, 4), pairs(80, 4))
    else:
        assert test == pairs(40, 4) and sorted(train + validation) == pairs(0, 25)
        assert len(validation) == 5 and len({label for label, _, _ in validation}) == 2


def test_odd_files_are_read_or_left_out_and_counted(tmp_path, capsys) -> None:
    make_folder(tmp_path, "a b")
    (make_folder(tmp_path / "a", "sub/deep:0") / "../.hidden").mkdir()
    for name, mode in (("a/sub/deep/1.JPEG", "L"), ("b/2.Jpg", "CMYK"), ("b/3.png", "LA")):
        Image.new(mode, (9, 8)).save(tmp_path / name)
    for name in list(BROKEN)[:4]:
        (tmp_path / "b" / name).write_bytes(BROKEN[name])
    for name in ("notes.txt", "a/.DS_Store", "b/._1.jpg", ".hidden/1.png"):
        (tmp_path / name).write_bytes(b"no picture, and not called one")
    loaded = ask(tmp_path)
    assert torch.cat([part.labels for part in loaded[2:]]).bincount().tolist() == [26, 27]
    said = capsys.readouterr()
    assert said.err == f"left out 4 of 57 files in {tmp_path}: no picture\n" and not said.out


BOTH = "train/a train/b "
ODD = "val has other class folders than train/ beside it: b is only in one"


@pytest.mark.parametrize(("plan", "words"), [
    ("a", "needs at least two class folders, it has 1"),
    ("a b c:0", "/c has 0 usable pictures.* at least 10"),
    ("a b c:9", "/c has 9 usable pictures.* at least 10"),
    (BOTH, "has train/ but neither val/ nor test/"), (BOTH + "val/a:1", ODD),
    (BOTH + "val/a:1 val/c:1", ODD), ("train/a train/b:9 val/a:1 val/b:1", "train/b has 9"),
    (BOTH + "val/a:1 val/b:0", "val/b has 0 usable pictures.* at least 1 are")])
def test_a_folder_that_cannot_be_used_is_refused(tmp_path, plan, words) -> None:
    with pytest.raises(Refusal, match=words):
        ask(make_folder(tmp_path, plan))
    (tmp_path / "file").write_text("no folder")
    for name in ("file", "missing"):
        with pytest.raises(Refusal, match=f"{name} is neither a data set nor a folder: use"):
            ask(tmp_path / name)


def test_sizes_that_follow_from_others(tmp_path) -> None:
    sides = {size: data.stored_side(size) for size in (15, 28, 34, 112, 224, 227)}
    assert sides == {15: 19, 28: 32, 34: 40, 112: 128, 224: 256, 227: 256}
    make_folder(tmp_path, "a")
    for path in (tmp_path / "a").iterdir():
        path.write_bytes(b"no picture")
    assert data.typical_side(str(tmp_path)) == 128       # none could be read
    for number, path in enumerate(sorted((tmp_path / "a").iterdir())):
        Image.new("RGB", (90, 70 if number else 9)).save(path)
    assert data.typical_side(str(tmp_path)) == 70        # the first is not typical
    assert [data.typical_side(name) for name in data.NAMES] == [128, 32, 160]


# ---------------------------------------------------------------- read as they are needed


def test_a_smoke_run_has_pictures_of_every_class(tmp_path) -> None:
    """Folders come class by class, so the first few pictures would be of one."""
    make_folder(tmp_path, "a b c d")
    short = ask(tmp_path).shortened((8, 4, 4))
    for part, each in zip(short[2:], (2, 1, 1)):
        assert part.labels.tolist() == [label for label in range(4) for _ in range(each)]


@pytest.mark.parametrize("workers", [0, 3])
def test_what_does_not_fit_is_read_as_it_is_needed(tmp_path, monkeypatch, workers) -> None:
    """A set of exactly the limit still fits."""
    make_folder(tmp_path, "a b")
    monkeypatch.setattr(data, "IN_MEMORY", 50 * 3 * 32**2)
    kept = ask(tmp_path)
    monkeypatch.setattr(data, "IN_MEMORY", 50 * 3 * 32**2 - 1)
    read = ask(tmp_path, workers=workers)
    for one, other in zip(kept[2:], read[2:]):
        assert isinstance(one.images, Tensor) and isinstance(other.images, list)
        every, few = seen(one), seen(one.some(3))
        assert few == seen(other.some(3)) == [every[i * len(every) // 3] for i in range(3)]
        assert seen(one.some(len(every) + 1)) == every
        chosen = torch.randperm(len(one.labels))
        for part in (one, other):
            batches = list(part.stream(chosen.split(4)))
            for (images, labels), places in itertools.zip_longest(batches, chosen.split(4)):
                assert torch.equal(images, one.images[places])
                assert torch.equal(labels, one.labels[places])
    assert not list(read.test.stream([])) and kept.digest != read.digest


def test_broken_files_leave_a_batch_with_their_labels(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(data, "IN_MEMORY", 0)
    part = ask(make_folder(tmp_path, "a b")).train
    for broken in (0, 20, 35):
        part.images[broken].write_bytes(b"no picture")
    images, labels = part.take(torch.tensor([35, 0, 30, 1, 20, 2]))
    assert labels.tolist() == part.labels[[30, 1, 2]].tolist() == [1, 0, 0]
    assert images[:, 1, 0, 0].tolist() == [int(part.images[i].stem) for i in (30, 1, 2)]
    assert capsys.readouterr().err == "left out 3 files: no picture\n"
    none, labels = part.take(torch.tensor([0, 20]))
    assert none.shape == (0, 3, 32, 32) and none.dtype == torch.uint8 and len(labels) == 0


# ---------------------------------------------------------------- published sets


def test_the_digest_knows_classes_labels_pixels_and_sizes(tmp_path, monkeypatch) -> None:
    whole = ask(make_folder(tmp_path, "a b"))
    image, labels = whole.test.images.clone(), whole.validation.labels.flip(0)
    image[-1, 2, 31, 31] += 1
    monkeypatch.setattr(data, "IN_MEMORY", 0)
    digests = {one.digest for one in (
        whole, ask(tmp_path), whole._replace(classes=["a", "c"]),
        whole._replace(test=whole.test._replace(images=image)),
        whole._replace(validation=whole.validation._replace(labels=labels)))}
    (tmp_path / "a" / "003.png").write_bytes(png())
    assert len({*digests, ask(tmp_path).digest}) == 6


@pytest.fixture
def web(tmp_path, monkeypatch):
    """Publishes members by name as an archive: the data folder it is to be unpacked into."""
    (tmp_path / "www").mkdir()
    kind = functools.partial(SimpleHTTPRequestHandler, directory=tmp_path / "www")
    http = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=http.serve_forever, args=(0.01,)).start()

    def publish(name: str, members: dict[str, bytes], sha: str | None = None) -> Path:
        source = data.SOURCES[name]
        path = tmp_path / "www" / source.mirrors[0].rsplit("/", 1)[1]
        with tarfile.open(path, "w:gz") as tar:
            for place, content in members.items():
                entry = tarfile.TarInfo(place)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        sha = sha or hashlib.sha256(path.read_bytes()).hexdigest()
        mirrors = (f"http://127.0.0.1:{http.server_port}/{path.name}",)
        monkeypatch.setitem(data.SOURCES, name, source._replace(mirrors=mirrors, sha256=sha))
        return tmp_path / "data"

    yield publish
    http.shutdown()
    http.server_close()


def cifar(monkeypatch) -> dict[str, bytes]:
    """A small CIFAR-10 whose MD5s torchvision is told; red is ten times the label."""
    kind, files = torchvision.datasets.CIFAR10, {}
    for name, numbers in (("data_batch_1", np.arange(200)), ("test_batch", np.arange(20))):
        planes = np.stack([numbers % 10 * 10, numbers, 0 * numbers], 1).astype(np.uint8)
        files[name] = {"data": planes.repeat(1024, 1), "labels": (numbers % 10).tolist()}
    files["batches.meta"] = {"label_names": [f"kind {k}" for k in range(10)]}
    packed = {name: pickle.dumps(content) for name, content in files.items()}
    sums = {name: [name, hashlib.md5(content).hexdigest()] for name, content in packed.items()}
    monkeypatch.setattr(kind, "train_list", [sums["data_batch_1"]])
    monkeypatch.setattr(kind, "test_list", [sums["test_batch"]])
    meta = dict(zip(("filename", "md5"), sums["batches.meta"]), key="label_names")
    monkeypatch.setattr(kind, "meta", meta)
    return {f"cifar-10-batches-py/{name}": content for name, content in packed.items()}


def test_cifar10_is_fetched_once_and_damage_is_refused(web, monkeypatch, capsys) -> None:
    home = web("cifar10", cifar(monkeypatch))
    for size, side in ((28, 32), (56, 64)):
        loaded = data.load("cifar10", home, size)
        assert loaded.classes == [f"kind {k}" for k in range(10)]
        assert [len(part.labels) for part in loaded[2:]] == [180, 20, 20]
        assert loaded.validation.labels.bincount().tolist() == [2] * 10
        for part in loaded[2:]:
            assert part.images.shape[1:] == (3, side, side) and part.images.dtype == torch.uint8
            assert (part.images[:, 0] == 10 * part.labels[:, None, None]).all()
        numbers = torch.cat([loaded.train.images, loaded.validation.images])[:, 1, 0, 0]
        assert sorted(numbers.tolist()) == list(range(200))
    assert capsys.readouterr().err.count("fetching") == 1
    file = home / "cifar-10-batches-py" / "data_batch_1"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    for _ in range(2):
        with pytest.raises(Refusal, match="cifar-10-batches-py are damaged: delete them"):
            data.load("cifar10", home, 28)
        file.unlink(missing_ok=True)


@pytest.mark.parametrize("how", ["fine", "wrong hash", "path outside", "full disk"])
def test_imagenette_is_unpacked_whole_or_not_at_all(web, how, monkeypatch) -> None:
    members = {f"imagenette2-160/{part}/{name}/{i}.JPEG": png() for name in data.IMAGENETTE
               for part, count in (("train", 10), ("val", 2)) for i in range(count)}
    members |= {"../evil.png": b"!"} if how == "path outside" else {}
    home = web("imagenette", members, "0" * 64 if how == "wrong hash" else None)
    if how != "fine":
        with monkeypatch.context() as patch, pytest.raises(Exception) as refusal:
            if how == "full disk":
                patch.setattr(tarfile.TarFile, "makefile", Mock(side_effect=OSError("no disk")))
            data.load("imagenette", home, 28)
        assert {"wrong hash": "SHA-256"}.get(how, how.split()[1]) in str(refusal.value)
        assert not data.on_disk("imagenette", home) and not [*home.parent.glob("**/evil.png")]
    if how in ("fine", "full disk"):
        loaded = data.load("imagenette", home, 28)      # once room was made
        assert loaded.classes[:2] == ["tench", "English springer"]
        assert [len(part.labels) for part in loaded[2:]] == [90, 10, 20]
        assert loaded.name == "imagenette" and len([*home.iterdir()]) == 2   # and the archive


def test_the_real_subset_of_cifar10_is_4000_and_1000_pictures(shared) -> None:
    loaded = ask(shared("cifar10_subset") / "cifar10_subset", workers=2)
    assert [len(part.labels) for part in loaded[2:]] == [3600, 400, 1000]
    assert all(len(part.labels.bincount().unique()) == 1 for part in loaded[2:])
