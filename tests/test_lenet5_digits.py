"""Digits drawn from strokes: the pen, the hand, the styles, and the folder of test pictures."""

import inspect
import itertools
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from scipy.interpolate import CubicHermiteSpline

from support import ROOT, load, run

lenet5 = load("lenet5_from_scratch")
generate, strokes = lenet5.generate_test_digits, lenet5.strokes

SIDE = generate.SIDE
GLYPHS = {f"{digit} ({number})": text for digit, ways in strokes.DIGITS.items()
          for number, text in enumerate(ways)} | strokes.LETTERS


class StillHand:
    """In place of a random generator: a hand that never errs."""

    def normal(self, mean: float, _deviation: float, shape: tuple | None = None):
        return mean if shape is None else np.full(shape, float(mean))

    def uniform(self, low: float, high: float) -> float:
        return (low + high) / 2


def written_exactly(text: str) -> list[np.ndarray]:
    """The strokes of a glyph in units of its grid, as a hand without errors writes them."""
    return [points * 14 + (5, 7) for points in strokes.glyph(text, StillHand())]


def control_points(stroke: str) -> np.ndarray:
    """The points (P, 2) that the text of a stroke names."""
    pairs = re.findall(r"([\d.]+),([\d.]+)", stroke)
    return np.array([list(map(float, pair)) for pair in pairs])


def drawn(label: str, style: str, seed: int = 0) -> np.ndarray:
    """A picture as numbers from 0 to 255."""
    return np.asarray(generate.draw(label, style, np.random.default_rng(seed)), dtype=float)


def amount(style: str, label: str = "3", seed: int = 0) -> float:
    """How much darker than white paper the picture is, in inked pixels."""
    return (1 - drawn(label, style, seed) / 255).sum()


def extent(ink: np.ndarray, axis: int = 0) -> tuple[int, int]:
    """The first row (or column) with ink, and the one after the last."""
    places = np.flatnonzero((ink > 0.5).any(1 - axis))
    return places[0], places[-1] + 1


# ---------------------------------------------------------------- the pen


def distances(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The distance of each pixel's middle from a stroke, one pixel and one piece at a time."""
    found = np.full(shape, np.inf)
    for row, column in np.ndindex(shape):
        here = np.array([column + 0.5, row + 0.5])
        for a, b in itertools.pairwise(points):
            along = np.dot(here - a, b - a) / max(np.dot(b - a, b - a), 1e-12)
            nearest = a + min(max(along, 0.0), 1.0) * (b - a)
            found[row, column] = min(found[row, column], np.linalg.norm(here - nearest))
    return found


STROKES = {
    "level": [[3, 8], [20, 8]],
    "upright": [[9.5, 3], [9.5, 15]],
    "backwards": [[20, 15], [4, 2]],
    "bent": [[2, 2], [12, 14], [21, 3.3], [7, 9]],
    "a dot": [[10, 7], [10, 7]],
    "over the edges": [[-6, 5], [30, 12]],
    "into a corner": [[0, 0], [-9, -4]],
    "outside": [[40, 40], [50, 60]],
}


@pytest.mark.parametrize("radius", [0.3, 1.0, 3.7])
@pytest.mark.parametrize("name", STROKES)
def test_ink_lies_where_the_distance_from_the_stroke_is_below_the_radius(name, radius):
    points, shape = np.array(STROKES[name], dtype=float), (18, 24)
    expected = (radius + 0.5 - distances(points, shape)).clip(0, 1)
    assert generate.ink([points], radius, shape) == pytest.approx(expected, abs=1e-6)


def test_ink_of_strokes_that_cross_is_no_darker_than_ink():
    points = [np.array(STROKES[name], dtype=float) for name in ("level", "upright")]
    both = generate.ink(points, 2.0, (18, 24))
    apart = [generate.ink([one], 2.0, (18, 24)) for one in points]
    assert np.array_equal(both, np.maximum(*apart)) and both.max() == 1


@pytest.mark.parametrize("radius", [1.0, 2.5, 6.0])
@pytest.mark.parametrize("angle", [0, 17, 45, 90, 133])
def test_a_line_has_the_area_of_a_band_with_round_ends(angle, radius):
    turn = np.radians(angle)
    half = 40 * np.array([np.cos(turn), np.sin(turn)])
    ends = np.array([(60.2, 60.7) - half, (60.2, 60.7) + half])
    area = generate.ink([ends], radius, (120, 120)).sum()
    assert area == pytest.approx(2 * radius * 80 + np.pi * radius**2, rel=0.03)


# ---------------------------------------------------------------- the hand


def test_there_are_ten_digits_in_one_way_or_more_and_26_letters():
    assert list(strokes.DIGITS) == list("0123456789")
    assert all(ways and len(set(ways)) == len(ways) for ways in strokes.DIGITS.values())
    assert sorted(strokes.LETTERS) == list("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    assert len(set(GLYPHS.values())) == len(GLYPHS)


@pytest.mark.parametrize("name", GLYPHS)
def test_a_hand_without_errors_goes_through_all_points_in_their_order(name):
    written = written_exactly(GLYPHS[name])
    texts = GLYPHS[name].split("|")
    assert len(written) == len(texts)
    for text, points in zip(texts, written):
        wanted = control_points(text)
        gaps = np.abs(points[:, None] - wanted).max(2)             # (points, wanted)
        if not text.startswith("~"):
            assert points == pytest.approx(wanted, abs=1e-9)
        else:
            passed = [np.flatnonzero(gap < 1e-9) for gap in gaps.T]
            assert all(map(len, passed))
            steps = strokes.STEPS
            assert points[::steps] == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("name", GLYPHS)
def test_curves_are_those_of_catmull_and_rom(name):
    """Hermite's cubics whose slope at a point is half the way from the last to the next."""
    for text, points in zip(GLYPHS[name].split("|"), written_exactly(GLYPHS[name])):
        if text.startswith("~"):
            wanted = control_points(text)
            inner = (wanted[2:] - wanted[:-2]) / 2
            first, last = wanted[1] - wanted[0], wanted[-1] - wanted[-2]
            slopes = np.concatenate([[first], inner, [last]])
            spline = CubicHermiteSpline(np.arange(len(wanted)), wanted, slopes)
            places = np.linspace(0, len(wanted) - 1, len(points))
            assert points == pytest.approx(spline(places), abs=1e-9)


@pytest.mark.parametrize("name", GLYPHS)
def test_glyphs_lie_in_a_field_of_10_by_14(name):
    """The tail of a Q hangs half a unit below, and curves may swing out by a little."""
    points = np.concatenate(written_exactly(GLYPHS[name]))
    assert (points >= -0.5).all() and (points <= (10.5, 14.5)).all()
    assert np.ptp(points[:, 1]) >= 13                             # all are equally tall


def test_no_two_hands_write_alike_and_the_same_hand_does():
    text = strokes.DIGITS["3"][0]
    one, again, other = (np.concatenate(strokes.glyph(text, np.random.default_rng(seed)))
                         for seed in (0, 0, 1))
    assert np.array_equal(one, again)
    assert np.abs(one - other).max() > 0.01


def test_a_hand_errs_around_the_glyph_by_its_tremble():
    """Over many hands the mean is the glyph itself, with a spread of tremble and more."""
    text = strokes.DIGITS["7"][0]
    hands = np.stack([np.concatenate(strokes.glyph(text, np.random.default_rng(seed)))
                      for seed in range(1000)])
    exact = (control_points(text) - (5, 7)) / 14
    assert hands.mean(0) == pytest.approx(exact, abs=0.02)
    spread = 14 * hands.std(0)
    assert (spread > 0.9 * strokes.TREMBLE).all() and (spread < 5 * strokes.TREMBLE).all()


# ---------------------------------------------------------------- on a sheet


@pytest.mark.parametrize("label", ["7", "42", "1998"])
@pytest.mark.parametrize("height", [0.15, 0.6, 0.94])
def test_a_label_is_as_high_as_asked_and_lies_in_the_middle_of_its_sheet(label, height):
    placed = generate.placed(label, np.random.default_rng(0), height)
    points = np.concatenate(placed)
    rows, columns = generate.sheet(placed)
    assert np.ptp(points[:, 1]) == pytest.approx(height * SIDE)
    assert (points.min(0) + points.max(0)) / 2 == pytest.approx((columns / 2, rows / 2), abs=1)
    assert rows == SIDE and columns >= SIDE
    assert (points >= 0).all() and (points <= (columns, rows)).all()


def test_the_digits_of_a_number_stand_in_order_and_apart(monkeypatch):
    """Each digit becomes a bar as high as its value: the heights are the number."""
    bars = {str(n): [f"0,{14 - n} 2,{14 - n}|0,14 2,14"] for n in range(10)}
    monkeypatch.setattr(generate, "DIGITS", bars)
    for seed in range(5):
        found = generate.placed("39174", np.random.default_rng(seed))
        digits = [np.concatenate(found[i : i + 2]) for i in range(0, len(found), 2)]
        heights = np.array([np.ptp(points[:, 1]) for points in digits])
        assert list(heights.argsort().argsort()) == [1, 4, 0, 3, 2]
        for before, after in itertools.pairwise(digits):
            assert before[:, 0].max() < after[:, 0].min()


def test_a_number_has_a_wider_sheet_of_the_same_height():
    single, number = drawn("1", "plain"), drawn("1998", "plain")
    assert single.shape == (SIDE, SIDE)
    assert number.shape[0] == SIDE and number.shape[1] > 1.5 * SIDE
    for edge in (number[0], number[-1], number[:, 0], number[:, -1]):
        assert (edge == 255).all()


def widths_of_parts(picture: np.ndarray) -> list[int]:
    """How wide the inked runs of columns are, from left to right."""
    inked = (picture < 128).any(0).astype(int)
    changes = np.flatnonzero(np.diff(np.pad(inked, 1)))
    return list(np.diff(changes)[::2])


@pytest.mark.parametrize("seed", range(5))
def test_a_number_reads_from_left_to_right(seed):
    """Nothing is as narrow as a 1."""
    first, *others = widths_of_parts(drawn("1000", "plain", seed))
    assert len(others) == 3 and first < min(others) - 5
    *others, last = widths_of_parts(drawn("0001", "plain", seed))
    assert len(others) == 3 and last < min(others) - 5


# ---------------------------------------------------------------- the styles


def test_there_are_at_least_ten_styles_and_all_those_promised():
    promised = {"thin", "thick", "slanted", "shaky", "chalk", "pencil", "inverted",
                "photographed", "tiny", "huge"}
    assert promised <= set(generate.STYLES) and len(generate.STYLES) >= 10
    assert len(set(generate.STYLES.values())) == len(generate.STYLES)
    assert all(inspect.getdoc(style) for style in generate.STYLES.values())


@pytest.mark.parametrize("style", generate.STYLES)
def test_a_picture_has_bytes_contrast_and_depends_on_its_seed_alone(style):
    one, again, other = (generate.draw("5", style, np.random.default_rng(seed))
                         for seed in (0, 0, 1))
    assert one.mode == "L" and one.size == (SIDE, SIDE)
    assert one.tobytes() == again.tobytes() != other.tobytes()
    assert np.ptp(np.asarray(one)) > 80


@pytest.mark.parametrize("style", generate.STYLES)
def test_no_two_styles_draw_the_same_picture(style):
    mine = drawn("5", style).tobytes()
    assert all(drawn("5", other).tobytes() != mine for other in generate.STYLES
               if other != style)


def test_an_unknown_style_or_character_is_a_key_error():
    for label, style in (("5", "gothic"), ("é", "plain")):
        with pytest.raises(KeyError):
            generate.draw(label, style, np.random.default_rng(0))


@pytest.mark.parametrize("label", strokes.DIGITS)
def test_a_thin_line_has_less_ink_than_a_plain_one_and_a_thick_one_has_more(label):
    for seed in range(3):
        thin, plain, thick = (amount(style, label, seed)
                              for style in ("thin", "plain", "thick"))
        assert 1.4 * thin < plain < thick / 1.4
        assert 4 * thin < thick


def test_inverted_pictures_are_bright_on_dark():
    for seed in range(5):
        one, other = drawn("8", "inverted", seed), drawn("8", "plain", seed)
        assert np.abs(one + other - 255).max() <= 1
        assert np.median(one) == 0 and one.max() == 255


def test_chalk_is_bright_on_a_dark_board_and_pencil_is_grey_on_bright_paper():
    for seed in range(5):
        chalk, pencil = drawn("8", "chalk", seed), drawn("8", "pencil", seed)
        assert np.median(chalk) < 90 and np.percentile(chalk, 99.5) > 170
        assert np.median(pencil) > 130 and pencil.min() < 100


def lean(picture: np.ndarray) -> float:
    """By how many degrees the dark pixels lean to the right, from their second moments."""
    ink = 1 - picture / 255
    y, x = np.indices(ink.shape)
    x, y = (axis - (ink * axis).sum() / ink.sum() for axis in (x, y))
    return -np.degrees(np.arctan((ink * x * y).sum() / (ink * y * y).sum()))


@pytest.fixture
def upright_stroke(monkeypatch) -> None:
    """Every glyph is a single upright stroke."""
    monkeypatch.setattr(generate, "glyph", lambda text, rng: [np.array([[0, -0.5], [0, 0.5]])])


def test_slanted_digits_lean_to_the_right_by_17_to_27_degrees(upright_stroke):
    leans = [lean(drawn("1", "slanted", seed)) for seed in range(40)]
    assert 16.4 < min(leans) and max(leans) < 26.9
    assert np.ptp(leans) > 6                                      # all of the range is used


def test_plain_digits_do_not_lean(upright_stroke):
    assert lean(drawn("1", "plain")) == pytest.approx(0, abs=0.1)


def test_a_slanted_digit_stays_in_the_middle(upright_stroke):
    for seed in range(5):
        left, right = extent(1 - drawn("1", "slanted", seed) / 255, axis=1)
        assert abs((left + right) / 2 - SIDE / 2) <= 1


@pytest.mark.parametrize("label", strokes.DIGITS)
def test_tiny_digits_are_24_pixels_high_and_a_pen_on_a_large_sheet(label):
    for seed in range(3):
        top, bottom = extent(1 - drawn(label, "tiny", seed) / 255)
        assert 23 <= bottom - top <= 29
        assert abs((top + bottom) / 2 - SIDE / 2) <= 1


@pytest.mark.parametrize("label", strokes.DIGITS)
def test_huge_digits_go_from_edge_to_edge(label):
    for seed in range(3):
        top, bottom = extent(1 - drawn(label, "huge", seed) / 255)
        assert top <= 0.05 * SIDE and bottom >= 0.95 * SIDE


def test_a_tremble_makes_a_straight_stroke_crooked_but_keeps_it_in_place(upright_stroke):
    for seed in range(5):
        ink = 1 - drawn("1", "shaky", seed) / 255
        rows = slice(*extent(ink))
        middles = (ink[rows] * np.arange(SIDE)).sum(1) / ink[rows].sum(1)
        assert 0.5 < middles.std() < 4
        assert abs(middles.mean() - SIDE / 2) < 4


def test_a_walk_along_a_stroke_keeps_its_ends_and_strides_evenly():
    corner = np.array([[0.0, 0], [30, 0], [30, 40]])
    walk = generate._walk(corner, 5.0)
    assert np.array_equal(walk[[0, -1]], corner[[0, -1]])
    strides = np.hypot(*np.diff(walk, axis=0).T)
    assert len(walk) == pytest.approx(14, abs=1)
    assert strides.max() == pytest.approx(5.0, rel=0.1)
    for x, y in walk:                                             # always on the stroke
        assert y == pytest.approx(0) or x == pytest.approx(30)


# ---------------------------------------------------------------- light, grain, perspective


@pytest.mark.parametrize("shape", [(160, 160), (160, 400)])
def test_light_falls_off_smoothly_from_one_side(shape):
    for seed in range(50):
        light = generate._light(shape, np.random.default_rng(seed))
        assert light.shape == shape and light.max() <= 0.95
        assert 0.05 < np.ptp(light) < 0.5
        assert all(np.abs(np.diff(light, axis=axis)).max() < 0.005 for axis in (0, 1))
        edges = np.concatenate([light[0], light[-1], light[:, 0], light[:, -1]])
        assert light.min() == edges.min()


def test_lamps_stand_on_all_sides():
    corners = {int(light.ravel()[[0, 159, -160, -1]].argmax()) for light in (
        generate._light((160, 160), np.random.default_rng(seed)) for seed in range(60))}
    assert corners == {0, 1, 2, 3}


@pytest.mark.parametrize("style", ["pencil", "photographed"])
def test_paper_is_unevenly_lit(style):
    """Far from the digit there is only paper: its corners differ in brightness."""
    for seed in range(5):
        picture = drawn("1", style, seed)
        corners = [picture[rows, columns].mean() for rows in (np.s_[:12], np.s_[-12:])
                   for columns in (np.s_[:12], np.s_[-12:])]
        assert np.ptp(corners) > 8
        assert 100 < min(corners) and max(corners) <= 0.96 * 255


@pytest.mark.parametrize("sigma", [1.0, 2.0, 4.0])
def test_grain_has_variance_1_and_is_as_coarse_as_its_sigma(sigma):
    """White noise blurred by a Gaussian of σ: neighbours correlate by exp(-1 / 4σ²)."""
    grain = generate._grain((300, 260), sigma, np.random.default_rng(0))
    assert grain.shape == (300, 260) and grain.std() == pytest.approx(1)
    for one, other in ((grain[1:], grain[:-1]), (grain[:, 1:], grain[:, :-1])):
        alike = np.corrcoef(one.ravel(), other.ravel())[0, 1]
        assert alike == pytest.approx(np.exp(-1 / (4 * sigma**2)), abs=0.02)


def test_perspective_takes_each_corner_where_it_says():
    """Pillow's definition: x of the source is (ax + by + c) / (gx + hy + 1), y likewise."""
    random, square = np.random.default_rng(0), np.array([[0, 0], [90, 0], [90, 70], [0, 70.0]])
    for _ in range(20):
        target, source = (square + random.uniform(-20, 20, (4, 2)) for _ in range(2))
        a, b, c, d, e, f, g, h = generate.perspective(target, source)
        x, y = target.T
        seen = np.stack([a * x + b * y + c, d * x + e * y + f]) / (g * x + h * y + 1)
        assert seen.T == pytest.approx(source, abs=1e-8)


def test_perspective_of_a_picture_onto_itself_is_nothing():
    square = np.array([[0, 0], [90, 0], [90, 70], [0, 70.0]])
    assert generate.perspective(square, square) == pytest.approx([1, 0, 0, 0, 1, 0, 0, 0])


def test_pillow_understands_the_perspective():
    """A spot near one corner of the source comes to lie at that corner of the target."""
    source = np.array([[20, 20], [80, 25], [75, 80], [25, 70.0]])
    target = np.array([[10, 10], [90, 10], [90, 90], [10, 90.0]])
    for (x, y), (u, v) in zip(target, source):
        page = generate.ink([np.array([[u, v], [u, v]])], 3, (100, 100))
        seen = Image.fromarray((255 * page).astype(np.uint8)).transform(
            (100, 100), Image.Transform.PERSPECTIVE, generate.perspective(target, source),
            Image.Resampling.BILINEAR)
        rows, columns = np.nonzero(np.asarray(seen) > 128)
        assert abs(columns.mean() + 0.5 - x) < 1.5 and abs(rows.mean() + 0.5 - y) < 1.5


def test_a_photograph_is_tilted_another_way_each_time(upright_stroke):
    leans = [lean(np.where(drawn("1", "photographed", seed) < 90, 0, 255))
             for seed in range(20)]
    assert min(leans) < -1 and max(leans) > 1
    assert max(map(abs, leans)) < 20


# ---------------------------------------------------------------- what is no digit


def test_letters_are_bytes_centred_as_digits_are():
    images = generate.letters(3, seed=0)
    assert images.shape == (78, 28, 28) and images.dtype == np.uint8
    for image in images.astype(float):
        assert image.max() == 255 and np.median(image) == 0
        rows, columns = np.nonzero(image)
        assert 19 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= 20
        for axis in (0, 1):
            middle = (image.sum(1 - axis) * np.arange(28)).sum() / image.sum()
            assert abs(middle - 14) <= 0.51


def test_letters_come_in_the_order_of_the_alphabet():
    """A letter is more like another hand's same letter than like any other, nearly always."""
    one, other = (generate.letters(8, seed).reshape(26, 8, 784).astype(float).mean(1)
                  for seed in (0, 1))
    nearest = ((one[:, None] - other) ** 2).sum(2).argmin(1)
    assert (nearest == np.arange(26)).sum() >= 24


def test_blanks_are_bytes_one_in_three_of_them_black():
    images = generate.blanks(10, seed=0)
    assert images.shape == (10, 28, 28) and images.dtype == np.uint8
    black = [bool((image == 0).all()) for image in images]
    assert black == [number % 3 == 0 for number in range(10)]
    assert all(image.max() == 255 for image in images[1::3])


def spread(image: np.ndarray) -> float:
    """How far ink lies from its own middle, in pixels: 11.4 if it is everywhere."""
    y, x = np.indices(image.shape)
    middle = [(image * axis).sum() / image.sum() for axis in (y, x)]
    far = (y - middle[0]) ** 2 + (x - middle[1]) ** 2
    return ((image * far).sum() / image.sum()) ** 0.5


def test_smudges_lie_in_one_place_and_grain_lies_everywhere():
    images = generate.blanks(90, seed=0).astype(float)
    grain, smudges = ([spread(image) for image in images[first::3]] for first in (1, 2))
    assert 10 < np.mean(grain) < 12
    assert 5 < np.mean(smudges) < 8


@pytest.mark.parametrize("make", [generate.letters, generate.blanks])
def test_letters_and_blanks_depend_on_their_seed_alone(make):
    one, again, other = make(4, 0), make(4, 0), make(4, 1)
    assert np.array_equal(one, again) and not np.array_equal(one, other)


# ---------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def default_run(tmp_path_factory) -> SimpleNamespace:
    """What the script leaves when no more than the folder is said."""
    out = tmp_path_factory.mktemp("digits") / "new" / "folder"
    result = run(ROOT / "lenet5_from_scratch" / "generate_test_digits.py", "--out", out)
    return SimpleNamespace(out=out, result=result)


def test_the_default_run_draws_300_pictures_or_more_of_every_digit_in_every_style(default_run):
    assert default_run.result.returncode == 0 and default_run.result.stderr == ""
    names = [path.stem.split("_") for path in default_run.out.iterdir()]
    assert len(names) >= 300
    assert all(len(parts) == 3 for parts in names)
    counts = {}
    for label, style, number in names:
        counts.setdefault((label, style), []).append(int(number))
    assert set(counts) == set(itertools.product(strokes.DIGITS, generate.STYLES))
    assert all(sorted(numbers) == [0, 1, 2] for numbers in counts.values())


def test_the_files_are_pictures_none_of_them_twice(default_run):
    contents = set()
    for path in default_run.out.iterdir():
        assert path.suffix == ".png"
        with Image.open(path) as image:
            assert image.mode == "L" and image.height == SIDE <= image.width
            contents.add(image.tobytes())
    assert len(contents) == len(list(default_run.out.iterdir()))


def test_the_command_says_how_many_pictures_there_are_and_what_to_do_with_them(default_run):
    first, last = default_run.result.stdout.splitlines()
    assert f"wrote {len(list(default_run.out.iterdir()))} pictures" in first
    assert last == f"next: python inference.py --evaluate {default_run.out}"


def written(out: Path, *flags: str) -> dict[str, bytes]:
    """The files that the command writes, by name."""
    assert generate.main(["--out", str(out), *flags]) == 0
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not(tmp_path):
    flags = ["--labels", "6", "19", "--count", "2"]
    one, again, other = (written(tmp_path / name, *flags, "--seed", seed)
                         for name, seed in (("a", "5"), ("b", "5"), ("c", "6")))
    assert one == again
    assert list(one) == list(other) and not set(one.values()) & set(other.values())


def test_labels_and_count_choose_what_is_drawn(tmp_path):
    names = written(tmp_path, "--labels", "7", "1998", "--count", "2")
    assert len(names) == 2 * 2 * len(generate.STYLES)
    assert {name.split("_")[0] for name in names} == {"7", "1998"}


@pytest.mark.parametrize("label", ["x", "1a", "", "-1", "٣", "1 2", "../1"])
def test_labels_that_are_no_digits_are_refused_before_anything_is_written(label, tmp_path,
                                                                          capsys):
    out = tmp_path / "out"
    assert generate.main(["--out", str(out), "--labels=" + label]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert repr(label) in error and not out.exists()


@pytest.mark.parametrize("flags", [["--count", "0"], ["--count", "-1"], ["--count", "x"],
                                   ["--seed", "-1"], ["--labels"], ["--style", "thin"]])
def test_impossible_flags_are_a_matter_of_usage(flags, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        generate.main(["--out", str(tmp_path / "out"), *flags])
    assert end.value.code == 2
    assert "usage: " in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_file_where_the_folder_should_be_is_one_sentence(tmp_path, capsys):
    (tmp_path / "out").write_text("mine")
    assert generate.main(["--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert (tmp_path / "out").read_text() == "mine"


def test_help_names_every_flag_and_its_default(capsys):
    with pytest.raises(SystemExit) as end:
        generate.main(["--help"])
    words = capsys.readouterr().out
    assert end.value.code == 0
    for flag in ("--out", "--count", "--seed", "--labels"):
        assert flag in words
    assert words.count("(default: ") >= 4
