"""Pictures of digits, in every form that people have them, become what MNIST is made of."""

import io
import struct
import warnings
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image, ImageDraw, ImageFilter

from support import ROOT, load, run

lenet = load("lenet_from_scratch")
prepare = lenet.prepare

INFERENCE = ROOT / "lenet_from_scratch" / "inference.py"
PRETRAINED = ROOT / "lenet_from_scratch" / "pretrained.pt"


def four() -> Image.Image:
    """A black 4 on white paper: no mirror image and no turn of it is the same picture."""
    image = Image.new("L", (96, 120), 255)
    pen = ImageDraw.Draw(image)
    pen.line([(55, 20), (25, 70), (75, 70)], fill=0, width=9)
    pen.line([(62, 45), (62, 100)], fill=0, width=9)
    return image


def soft_four() -> Image.Image:
    """The same 4 with grey rims, as cameras and scanners see it."""
    return four().filter(ImageFilter.GaussianBlur(2))


def prepared(image: Image.Image | np.ndarray, path: Path, **options: object) -> np.ndarray:
    """Write the picture to a file and let `prepare` read it back."""
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(path, **options)
    return prepare.prepare(path)


def read_back(levels: np.ndarray, path: Path) -> np.ndarray:
    """The grey levels that `prepare` finds in a file of these numbers."""
    Image.fromarray(levels).save(path)
    return prepare.read(path)


def difference(one: np.ndarray, other: np.ndarray) -> int:
    """The largest difference of two pictures, in grey levels."""
    return int(np.abs(one.astype(int) - other).max())


# ---------------------------------------------------------------- MNIST itself


def test_cropping_scaling_and_centring_give_back_at_least_69990_of_mnists_70000_digits(shared):
    """The rule was found, not published; this is the evidence that it is the right one."""
    root = shared("MNIST")
    parts = [torchvision.datasets.MNIST(root, train=train) for train in (True, False)]
    digits = np.concatenate([part.data.numpy() for part in parts])
    again = (prepare.centre(prepare.fit_box(prepare.crop(digit))) for digit in digits)
    same = sum(np.array_equal(one, digit) for one, digit in zip(again, digits))
    assert len(digits) == 70_000
    assert same == 69_996   # the README says so; 69,990 were asked for


# ---------------------------------------------------------------- one digit, many files


def test_a_picture_becomes_28_by_28_bytes_with_bright_ink_on_black(tmp_path):
    picture = prepared(four(), tmp_path / "four.png")
    assert picture.shape == (28, 28)
    assert picture.dtype == np.uint8
    assert picture.max() == 255
    assert np.median(picture) == 0


def test_the_longer_side_of_the_digit_becomes_twenty_pixels(tmp_path):
    rows, columns = np.nonzero(prepared(four(), tmp_path / "four.png"))
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20


def test_white_ink_on_black_gives_the_same_picture_as_black_ink_on_white(tmp_path):
    negative = 255 - np.asarray(four())
    one = prepared(four(), tmp_path / "positive.png")
    assert difference(one, prepared(negative, tmp_path / "negative.png")) <= 1


# How a camera that was held so stores the upright picture (EXIF 2.3, tag Orientation).
STORED = {
    1: lambda upright: upright,
    2: np.fliplr,
    3: lambda upright: np.rot90(upright, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: np.rot90(upright, 2).T,
    8: lambda upright: np.rot90(upright, -1),
}


@pytest.mark.parametrize("orientation", STORED)
def test_a_photograph_is_read_upright_however_the_camera_was_held(tmp_path, orientation):
    stored = Image.fromarray(STORED[orientation](np.asarray(four())).copy())
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = prepared(stored, tmp_path / "photo.png", exif=exif)
    assert difference(turned, prepared(four(), tmp_path / "four.png")) == 0


def on_transparent(image: Image.Image) -> Image.Image:
    """Black ink, and nothing at all where the paper was."""
    layer = Image.new("RGBA", image.size, (0, 0, 0, 0))
    layer.putalpha(image.point(lambda level: 255 - level))
    return layer


def with_a_palette(image: Image.Image) -> Image.Image:
    """Paper is colour 0, ink is colour 1; both are dark, but colour 0 is see-through."""
    palette = Image.fromarray((np.asarray(image) == 0).astype(np.uint8), mode="P")
    palette.putpalette([9, 9, 9, 0, 0, 0])
    palette.info["transparency"] = 0
    return palette


def of_type(kind: type, white: float):
    """Grey levels as numbers of another type, from 0 to `white`."""
    return lambda image: Image.fromarray((np.asarray(image) / 255 * white).astype(kind))


TWO_LEVELS = {
    "1.png": lambda image: image.convert("1"),
    "P-transparent.png": with_a_palette,
    "P-transparent.gif": with_a_palette,
}
MANY_LEVELS = {
    "L.png": lambda image: image,
    "LA.png": lambda image: on_transparent(image).convert("LA"),
    "P.png": lambda image: image.convert("P"),
    "RGB.png": lambda image: image.convert("RGB"),
    "RGBA.png": on_transparent,
    "RGBA.webp": on_transparent,
    "CMYK.tiff": lambda image: image.convert("CMYK"),
    "CMYK.jpg": lambda image: image.convert("CMYK"),
    "I16.png": of_type(np.uint16, 65535),
    "I16.tiff": of_type(np.uint16, 65535),
    "I.tiff": of_type(np.int32, 65535),
    "F-of-1.tiff": of_type(np.float32, 1),
    "F-of-255.tiff": of_type(np.float32, 255),
    "L.bmp": lambda image: image,
    "L.gif": lambda image: image,
    "L.tiff": lambda image: image,
    "RGB.webp": lambda image: image.convert("RGB"),
    "RGB.jpg": lambda image: image.convert("RGB"),
}


@pytest.mark.parametrize("name", TWO_LEVELS)
def test_every_way_to_store_ink_and_paper_alone_gives_the_same_digit(tmp_path, name):
    digit = prepared(TWO_LEVELS[name](four()), tmp_path / name)
    assert difference(digit, prepared(four(), tmp_path / "reference.png")) <= 1


@pytest.mark.parametrize("name", MANY_LEVELS)
def test_every_format_and_mode_of_one_picture_gives_the_same_digit(tmp_path, name):
    """Classic traps: transparent PNGs turn black on black, 16-bit ones are cut off at 255."""
    exact = {"lossless": True} if name.endswith("webp") else {}
    exact |= {"quality": 100, "subsampling": 0} if name.endswith("jpg") else {}
    digit = prepared(MANY_LEVELS[name](soft_four()), tmp_path / name, **exact)
    assert difference(digit, prepared(soft_four(), tmp_path / "reference.png")) <= 2


def test_a_photograph_is_first_reduced_to_256_pixels(tmp_path):
    four().resize((960, 1200)).save(tmp_path / "photo.png")
    assert prepare.read(tmp_path / "photo.png").shape == (256, 205)


def test_a_picture_five_times_larger_gives_nearly_the_same_digit(tmp_path):
    small = four().resize((48, 60), Image.Resampling.BOX)
    large = small.resize((240, 300), Image.Resampling.BICUBIC)
    one = prepared(small, tmp_path / "small.png").astype(int)
    other = prepared(large, tmp_path / "large.png")
    assert np.abs(one - other).mean() < 10


# ---------------------------------------------------------------- the light


def lit(light: np.ndarray) -> np.ndarray:
    """The 4, printed in a grey that returns half of the light that falls on it."""
    ink = 1 - np.asarray(four()) / 255
    return np.round(255 * light * (1 - 0.5 * ink)).astype(np.uint8)


def box_of_four(picture: np.ndarray | Image.Image, path: Path) -> np.ndarray:
    """The 20-pixel box in which the digit of this picture comes to lie."""
    prepared(picture, path)
    return prepare.stages(path)["20-pixel box"]


Y, X = np.mgrid[-1:1:120j, -1:1:96j]
LIGHTS = {
    "dim": 0.4 + 0 * X,
    "from the right": 0.7 + 0.2 * X,
    "from the corner": 0.7 + 0.15 * X - 0.1 * Y,
    "a dark rim": 0.9 - 0.2 * (X**2 + Y**2),
    "a lamp over the middle": 0.5 + 0.3 * np.exp(-3 * (X**2 + Y**2)),
}


@pytest.mark.parametrize("name", LIGHTS)
def test_uneven_light_does_not_change_the_digit(tmp_path, name):
    """Under the lamp most of the paper is brighter than the fit: only ink is far from it."""
    evenly = box_of_four(four(), tmp_path / "evenly.png")
    unevenly = box_of_four(lit(LIGHTS[name]), tmp_path / "unevenly.png")
    assert unevenly.shape == evenly.shape
    assert np.abs(unevenly - evenly).mean() < 0.05


# ---------------------------------------------------------------- where the digit lies


def blob(seed: int) -> np.ndarray:
    """A random heap of discs, 40 by 40 pixels, white paper around it."""
    random = np.random.default_rng(seed)
    image = Image.new("L", (40, 40), 255)
    pen = ImageDraw.Draw(image)
    for _ in range(6):
        x, y, radius = random.uniform(8, 32), random.uniform(8, 32), random.uniform(2, 7)
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=0)
    return np.asarray(image)


def placed(picture: np.ndarray, top: int, left: int) -> np.ndarray:
    """The picture somewhere on a larger sheet of white paper."""
    sheet = np.full((100, 120), 255, dtype=np.uint8)
    sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return sheet


@pytest.mark.parametrize("seed", range(20))
def test_the_centre_of_mass_comes_to_lie_at_pixel_14_14(tmp_path, seed):
    top, left = np.random.default_rng(seed).integers(0, 60, 2)
    ink = prepared(placed(blob(seed), top, left), tmp_path / "blob.png").astype(float)
    for axis in (0, 1):
        mean = (ink.sum(1 - axis) * np.arange(28)).sum() / ink.sum()
        assert abs(mean - 14) <= 0.51


@pytest.mark.parametrize(("top", "left"), [(0, 0), (0, 80), (60, 0), (60, 80), (13, 37)])
def test_it_does_not_matter_where_on_the_paper_the_digit_is(tmp_path, top, left):
    centred = prepared(placed(blob(0), 30, 40), tmp_path / "centred.png")
    moved = prepared(placed(blob(0), top, left), tmp_path / "moved.png")
    assert difference(moved, centred) <= 1


def test_a_digit_of_fine_strokes_loses_none_of_them_on_a_larger_sheet(tmp_path, shared):
    """What removes specks of dust from a photograph must not remove the digit's thin ends."""
    digits = torchvision.datasets.MNIST(shared("MNIST"), train=False).data[:50].numpy()
    changed = []
    for number, digit in enumerate(digits):
        alone = prepared(digit, tmp_path / "alone.png")
        on_a_sheet = prepared(np.pad(digit, 20), tmp_path / "on_a_sheet.png")
        if difference(alone, on_a_sheet) > 1:
            changed.append(number)
    assert changed == []


def test_a_digit_cropped_to_its_very_edge_is_not_called_blank(tmp_path, shared):
    """Cut-out digits are how many people's own data sets look."""
    digits = torchvision.datasets.MNIST(shared("MNIST"), train=False).data[:100].numpy()
    blank = []
    for number, digit in enumerate(digits):
        try:
            prepared(prepare.crop(digit), tmp_path / "cut_out.png")
        except ValueError:
            blank.append(number)
    assert blank == []


# ---------------------------------------------------------------- what is no digit


def gradient() -> np.ndarray:
    """Empty paper, bright on one side and dim on the other."""
    y, x = np.mgrid[0:1:100j, 0:1:120j]
    return (120 + 100 * x + 30 * y).astype(np.uint8)


def specks() -> np.ndarray:
    """Paper on which lie a few grains of dust, each of them a pixel large."""
    paper = np.full((100, 120), 255, dtype=np.uint8)
    paper[20::25, 20::25] = 0
    return paper


def noise() -> np.ndarray:
    """Empty paper, photographed in bad light."""
    return np.random.default_rng(0).normal(180, 12, (100, 120)).clip(0, 255).astype(np.uint8)


BLANK = {
    "white": np.full((60, 60), 255, dtype=np.uint8),
    "black": np.zeros((60, 60), dtype=np.uint8),
    "grey": np.full((60, 60), 128, dtype=np.uint8),
    "gradient": gradient(),
    "noise": noise(),
    "specks": specks(),
    "one pixel": np.zeros((1, 1), dtype=np.uint8),
    "a strip": np.full((28, 1000), 255, dtype=np.uint8),
    "a thread": np.full((1000, 1), 255, dtype=np.uint8),
}


@pytest.mark.parametrize("name", BLANK)
def test_a_picture_without_ink_is_refused_as_blank(tmp_path, name):
    with pytest.raises(ValueError, match="blank"):
        prepared(BLANK[name], tmp_path / "blank.png")


@pytest.mark.parametrize("shape", [(28, 1000), (1000, 28)])
def test_a_digit_on_a_long_strip_of_paper_is_found(tmp_path, shape):
    sheet = np.full(shape, 255, dtype=np.uint8)
    sheet[8:20, 6:22] = 0
    assert (prepared(sheet, tmp_path / "strip.png") > 0).sum() >= 100


def header_of_a_png(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to hold a picture of this size: a bomb."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    size = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IEND", b"")


def encoded(image: Image.Image, form: str) -> bytes:
    """The bytes of a good file."""
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


def with_one_bit_flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 2]) + content[place + 1 :]


BROKEN = {
    "text.png": b"this is no picture",
    "empty.png": b"",
    "truncated.png": encoded(four(), "PNG")[:300],
    "truncated.jpg": encoded(four(), "JPEG")[:700],
    "bomb.png": header_of_a_png(20_000, 20_000),
    # the bit is in the number of colours: 256 become 768
    "flipped.bmp": with_one_bit_flipped(encoded(four().convert("P"), "BMP"), 47),
    "damaged.avif": encoded(four(), "AVIF").replace(b"pitm", b"pitx"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_is_no_picture_is_refused_by_name(tmp_path, name):
    (tmp_path / name).write_bytes(BROKEN[name])
    with pytest.raises(ValueError, match=name):
        prepare.prepare(tmp_path / name)


@pytest.mark.parametrize(("width", "height"), [(10_001, 10_000), (20_000, 20_000)])
def test_a_huge_picture_is_refused_for_its_size(tmp_path, width, height):
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(header_of_a_png(width, height))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match="bomb.png.* pixels"):
            prepare.prepare(bomb)


def test_the_limit_on_size_counts_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "MOST_PIXELS", 96 * 120)
    prepared(four(), tmp_path / "just_small_enough.png")
    monkeypatch.setattr(prepare, "MOST_PIXELS", 96 * 120 - 1)
    with pytest.raises(ValueError, match="shrink"):
        prepared(four(), tmp_path / "too_large.png")


def test_refusing_a_huge_picture_says_one_sentence_and_gives_no_warning(tmp_path):
    """Pillow warns of its own accord, in two lines that tell the user nothing."""
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(header_of_a_png(10_001, 10_000))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="bomb.png"):
            prepare.prepare(bomb)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 3), (5, 5), (9, 40), (30, 30), (57, 13)])
def test_noise_of_any_shape_is_refused_or_becomes_a_picture_but_never_nan(tmp_path, shape):
    random = np.random.default_rng(0)
    for _ in range(10):
        noise = random.integers(0, 256, shape, dtype=np.uint8)
        try:
            with np.errstate(invalid="raise", divide="raise"):
                picture = prepared(noise, tmp_path / "noise.png")
        except ValueError as refusal:
            assert "blank" in str(refusal)
        else:
            assert picture.shape == (28, 28)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_picture_of_floats_that_are_not_numbers_is_never_nan(tmp_path, value):
    levels = np.asarray(four(), dtype=np.float32) / 255
    levels[50, 50] = value
    with np.errstate(invalid="raise", divide="raise"):
        grey = read_back(levels, tmp_path / "floats.tiff")
    assert np.isfinite(grey).all()
    assert 0 <= grey.min() <= grey.max() <= 1


# ---------------------------------------------------------------- through inference.py


BAD = ["missing.png", *(f"{name}.png" for name in BLANK), *BROKEN]


@pytest.fixture(scope="module")
def answers(tmp_path_factory, quick_run) -> SimpleNamespace:
    """What inference.py says of a good picture and every bad one, all in one command."""
    folder = tmp_path_factory.mktemp("pictures")
    four().save(folder / "four.png")
    for name, picture in BLANK.items():
        Image.fromarray(picture).save(folder / f"{name}.png")
    for name, content in BROKEN.items():
        (folder / name).write_bytes(content)
    files = [folder / name for name in [BAD[0], "four.png", *BAD[1:]]]
    checkpoint = quick_run("lenet_from_scratch").out / "best.pt"
    result = run(INFERENCE, "--image", *files, "--checkpoint", checkpoint, "--out",
                 folder / "out")
    return SimpleNamespace(folder=folder, result=result)


@pytest.mark.parametrize("name", BAD)
def test_inference_says_one_line_of_error_for_every_file_it_cannot_read(answers, name):
    lines = [line for line in answers.result.stderr.splitlines() if f"/{name}" in line]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")


def test_inference_says_nothing_else_than_these_lines_and_its_checkpoint(answers):
    first, *lines = answers.result.stderr.splitlines()
    assert first.startswith("using ")
    assert len(lines) == len(BAD)


def test_inference_ends_with_exit_code_one_if_a_file_could_not_be_read(answers):
    assert answers.result.returncode == 1


def test_inference_speaks_of_a_missing_file_without_the_words_of_the_operating_system(answers):
    assert "Errno" not in answers.result.stderr


def test_inference_answers_a_good_picture_among_bad_ones(answers):
    assert answers.result.stdout.startswith(f"{answers.folder / 'four.png'}: ")
    assert len(answers.result.stdout.splitlines()) == 1


def test_inference_draws_the_way_of_a_good_picture_into_the_out_folder(answers):
    strips = list((answers.folder / "out").iterdir())
    assert len(strips) == 1
    assert strips[0].name.startswith("four")
    assert strips[0].stat().st_size > 1000


# ---------------------------------------------------------------- robustness


@pytest.fixture(scope="module")
def digits(shared) -> torchvision.datasets.MNIST:
    """The first 300 test digits of MNIST."""
    mnist = torchvision.datasets.MNIST(shared("MNIST"), train=False)
    mnist.data, mnist.targets = mnist.data[:300], mnist.targets[:300]
    return mnist


@pytest.fixture(scope="module")
def accuracy(digits):
    """The percentage of the 300 digits that the committed network reads right."""
    net, config = lenet.checkpoint.open_model(
        PRETRAINED, lenet.model.NAME, lenet.model.build, torch.device("cpu"))

    def percent(images: np.ndarray) -> float:
        inputs = lenet.data.to_input(torch.from_numpy(images), config["mean"], config["std"])
        with torch.no_grad():
            right = net(inputs).argmax(1) == digits.targets
        return 100 * right.double().mean().item()

    return percent


def enlarged(digit: np.ndarray, times: int) -> np.ndarray:
    image = Image.fromarray(digit)
    return np.asarray(image.resize((28 * times, 28 * times), Image.Resampling.BICUBIC))


def on_paper(digit: np.ndarray) -> np.ndarray:
    """Dark ink on paper that is brighter on one side, with the noise of a camera."""
    ink = np.zeros((110, 130))
    ink[10:94, 30:114] = enlarged(digit, 3) / 255
    y, x = np.mgrid[0:1:110j, 0:1:130j]
    light = 0.7 + 0.2 * x - 0.1 * y
    grain = np.random.default_rng(int(digit.sum())).normal(0, 0.01, ink.shape)
    return np.round(255 * (light * (1 - 0.8 * ink) + grain).clip(0, 1)).astype(np.uint8)


def shifted(digit: np.ndarray) -> np.ndarray:
    """The digit in a corner of a larger black picture."""
    return np.pad(digit, ((5, 31), (40, 12)))


RENDERINGS = {
    "inverted": lambda digit: 255 - digit,
    "shifted": shifted,
    "scaled": lambda digit: enlarged(digit, 5),
    "on paper": on_paper,
}


@pytest.mark.parametrize("name", RENDERINGS)
def test_a_digit_photographed_otherwise_is_read_as_well_as_the_original(
    tmp_path, digits, accuracy, name
):
    originals = digits.data.numpy()
    images = [prepared(RENDERINGS[name](digit), tmp_path / "digit.bmp") for digit in originals]
    assert accuracy(np.stack(images)) >= accuracy(originals) - 1
