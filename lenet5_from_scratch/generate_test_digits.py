"""Draw digits in many styles, to see whether a network reads more than what it was shown.

    python generate_test_digits.py                          # 330 pictures in runs/test_digits
    python inference.py --evaluate runs/test_digits         # the accuracy by style

Each picture is made from the strokes of `strokes.py`; file names are LABEL_STYLE_NUMBER.png.
"""

# H height, W width, P points of a stroke

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

import console
import prepare
from strokes import DIGITS, LETTERS, glyph

SIDE = 160          # pixels of a sheet of paper
Rng = np.random.Generator
Strokes = list[np.ndarray]


def ink(strokes: Strokes, radius: float, shape: tuple[int, int]) -> np.ndarray:
    """Strokes (P, 2) in pixels, drawn with a round pen: 1 is ink, 0 none, (H, W).

    Ink is full inside the radius and fades over one pixel at its edge.
    """
    drawn, reach = np.zeros(shape), radius + 1
    for points in strokes:
        for a, b in zip(points, points[1:]):
            low = (np.minimum(a, b) - reach).astype(int).clip(0)
            high = (np.maximum(a, b) + reach).astype(int).clip(0) + 1
            near = np.s_[low[1] : high[1], low[0] : high[0]]           # no need to look further
            height, width = drawn[near].shape
            x = np.arange(width) + low[0] + 0.5 - a[0]
            y = (np.arange(height) + low[1] + 0.5 - a[1])[:, None]
            (u, v), length = b - a, max(((b - a) ** 2).sum(), 1e-9)
            t = ((x * u + y * v) / length).clip(0, 1)                  # nearest point's place
            distance = np.hypot(x - t * u, y - t * v)
            drawn[near] = np.maximum(drawn[near], (radius + 0.5 - distance).clip(0, 1))
    return drawn


def placed(label: str, rng: Rng, height: float = 0.6, side: int = SIDE) -> Strokes:
    """A label's glyphs side by side in the middle of a sheet, `height` of its side high."""
    strokes, x = [], 0.0
    for character in label:
        ways = DIGITS.get(character) or [LETTERS[character]]
        written = glyph(ways[rng.integers(len(ways))], rng)
        left = min(points[:, 0].min() for points in written)
        strokes += [points + (x - left, rng.normal(0, 0.02)) for points in written]
        x = max(points[:, 0].max() for points in strokes) + rng.uniform(0.2, 0.35)
    everything = np.concatenate(strokes)
    middle = (everything.min(0) + everything.max(0)) / 2
    scale = height * side / np.ptp(everything[:, 1])
    width = round(max(side, scale * np.ptp(everything[:, 0]) + 0.4 * side))
    return [(points - middle) * scale + (width / 2, side / 2) for points in strokes]


def sheet(strokes: Strokes, side: int = SIDE) -> tuple[int, int]:
    """Height and width of a sheet with a margin around strokes that lie in its middle."""
    right = max(points[:, 0].max() for points in strokes)
    left = min(points[:, 0].min() for points in strokes)
    return side, max(side, round(left + right))


# ---------------------------------------------------------------- styles: grey levels (H, W)


def simple(label: str, rng: Rng, radius: tuple = (0.02, 0.035), height: float = 0.6,
           slant: float = 0.0) -> np.ndarray:
    """Black ink on white; the radius is drawn from a range of shares of the digit's height."""
    strokes = placed(label, rng, height)
    shape = sheet(strokes)
    strokes = [points + np.outer(shape[0] / 2 - points[:, 1], (slant, 0)) for points in strokes]
    return 1 - ink(strokes, rng.uniform(*radius) * height * SIDE, shape)


def thin(label: str, rng: Rng) -> np.ndarray:
    """A hard pencil's or a fine pen's line."""
    return simple(label, rng, radius=(0.008, 0.012))


def thick(label: str, rng: Rng) -> np.ndarray:
    """A felt pen."""
    return simple(label, rng, radius=(0.06, 0.08))


def slanted(label: str, rng: Rng) -> np.ndarray:
    """Leaning to the right by 17 to 27 degrees."""
    return simple(label, rng, slant=rng.uniform(0.3, 0.5))


def shaky(label: str, rng: Rng) -> np.ndarray:
    """Written with a tremble."""
    strokes, trembling = placed(label, rng), []
    for points in strokes:
        steps = _walk(points, 0.03 * SIDE)
        tremble = np.stack([_grain((len(steps), 1), 0.7, rng)[:, 0] for _ in range(2)], axis=1)
        trembling.append(steps + 0.011 * SIDE * tremble)
    return 1 - ink(trembling, 0.017 * SIDE, sheet(strokes))


def chalk(label: str, rng: Rng) -> np.ndarray:
    """White, grainy lines on a wiped blackboard."""
    strokes = placed(label, rng)
    shape = sheet(strokes)
    lines = ink(strokes, rng.uniform(0.035, 0.05) * 0.6 * SIDE, shape)
    holes = 0.5 + 0.5 * (_grain(shape, 0.8, rng) > -0.6)
    board = 0.2 + 0.03 * _grain(shape, 12, rng)
    return board + (0.85 - board) * lines * holes + rng.normal(0, 0.01, shape)


def pencil(label: str, rng: Rng) -> np.ndarray:
    """Grey, grainy lines on paper that a lamp lights from one side."""
    strokes = placed(label, rng)
    shape = sheet(strokes)
    lines = ink(strokes, rng.uniform(0.018, 0.028) * 0.6 * SIDE, shape)
    darkness = (0.55 + 0.15 * _grain(shape, 0.7, rng)).clip(0.1, 0.9)
    return _light(shape, rng) * (1 - lines * darkness) + rng.normal(0, 0.008, shape)


def inverted(label: str, rng: Rng) -> np.ndarray:
    """White on black, as a screen shows it."""
    return 1 - simple(label, rng)


def photographed(label: str, rng: Rng) -> np.ndarray:
    """Pen on paper seen from the side by a camera: tilted, unevenly lit, a little unsharp."""
    page = Image.fromarray((255 * simple(label, rng)).astype(np.uint8))
    width, height = page.size
    seen = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=float)
    there = seen + rng.uniform(-0.12, 0.12, seen.shape) * SIDE
    tilted = page.transform(page.size, Image.Transform.PERSPECTIVE,
                            perspective(seen, there), Image.Resampling.BICUBIC, fillcolor=255)
    shape = (height, width)
    soft = np.asarray(tilted.filter(ImageFilter.GaussianBlur(0.8)), dtype=np.float32) / 255
    return _light(shape, rng) * (0.2 + 0.8 * soft) + rng.normal(0, 0.012, shape)


def tiny(label: str, rng: Rng) -> np.ndarray:
    """24 pixels high on a large sheet."""
    return simple(label, rng, radius=(0.04, 0.06), height=0.15)


def huge(label: str, rng: Rng) -> np.ndarray:
    """From edge to edge of the sheet."""
    return simple(label, rng, height=0.94)


STYLES = {"plain": simple, "thin": thin, "thick": thick, "slanted": slanted, "shaky": shaky,
          "chalk": chalk, "pencil": pencil, "inverted": inverted, "photographed": photographed,
          "tiny": tiny, "huge": huge}


def perspective(target: np.ndarray, source: np.ndarray) -> np.ndarray:
    """The eight numbers with which Pillow takes corners (4, 2) of one picture to another's."""
    rows = []
    for (x, y), (u, v) in zip(target, source):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
    return np.linalg.solve(np.array(rows), source.ravel())


def _walk(points: np.ndarray, stride: float) -> np.ndarray:
    """Points along a stroke, about `stride` pixels apart."""
    way = np.concatenate([[0], np.hypot(*np.diff(points, axis=0).T).cumsum()])
    stops = np.linspace(0, way[-1], max(3, round(way[-1] / stride)))
    return np.stack([np.interp(stops, way, axis) for axis in points.T], axis=1)


def _light(shape: tuple[int, int], rng: Rng) -> np.ndarray:
    """How bright paper is under a lamp at its side: 0.95 there, down to a half elsewhere."""
    y, x = (axis / max(shape) for axis in np.indices(shape))
    angle = rng.uniform(0, 2 * np.pi)
    slope = (x * np.cos(angle) + y * np.sin(angle)) * rng.uniform(0.1, 0.3)
    return 0.95 - slope + slope.min() - 0.1 * (x - 0.5) ** 2


def _grain(shape: tuple[int, int], sigma: float, rng: Rng) -> np.ndarray:
    """Random numbers of variance 1, blurred by a Gaussian of σ pixels."""
    noise = rng.normal(0, 1, shape)
    for size in shape:                       # one axis, then, transposed, the other
        distance = np.arange(size)[:, None] - np.arange(size)
        noise = (np.exp(-(distance**2) / (2 * sigma**2)) @ noise).T
    return noise / noise.std()


# ---------------------------------------------------------------- sets of pictures


def draw(label: str, style: str, rng: Rng) -> Image.Image:
    """One picture, 8 bits grey. Raises KeyError on an unknown style or character."""
    grey = STYLES[style](label, rng)
    return Image.fromarray((255 * grey.clip(0, 1)).round().astype(np.uint8))


def letters(each: int, seed: int) -> np.ndarray:
    """Each capital letter `each` times, prepared as digits are: bytes (26·each, 28, 28)."""
    rng = np.random.default_rng(seed)
    prepared = []
    for letter in LETTERS:
        for _ in range(each):
            lines = ink(placed(letter, rng, 0.8, 56), rng.uniform(1.2, 3), (56, 56))
            boxed = prepare.fit_box(prepare.crop(lines.astype(np.float32)))
            prepared.append(prepare.centre(boxed))
    return np.round(255 * np.stack(prepared)).astype(np.uint8)


def blanks(count: int, seed: int) -> np.ndarray:
    """What is left of sheets without a digit: nothing, grain, a smudge; bytes (N, 28, 28)."""
    rng = np.random.default_rng(seed)
    sheets = np.zeros((count, 28, 28))
    for number in range(count):
        grain = _grain((28, 28), rng.choice([0.1, 1.0, 2.5]), rng)
        if number % 3:                       # every third stays perfectly black
            sheets[number] = (grain - rng.uniform(0, 1)).clip(0)
            sheets[number] /= max(sheets[number].max(), 1e-9)
        if number % 3 == 2:                  # a smudge: grain in one place
            y, x = np.indices((28, 28)) - rng.uniform(8, 20, (2, 1, 1))
            sheets[number] *= np.exp(-(x**2 + y**2) / 40)
    return np.round(255 * sheets).astype(np.uint8)


@console.one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Draw every digit in every style."""
    parser = argparse.ArgumentParser(description=main.__doc__, allow_abbrev=False)
    home = Path(__file__).with_name("runs")
    parser.add_argument("--out", metavar="DIR", type=Path, default=home / "test_digits",
                        help="where the pictures go (default: runs/test_digits)")
    parser.add_argument("--count", metavar="N", type=console.positive_int, default=3,
                        help="pictures of each digit in each style (default: %(default)s)")
    parser.add_argument("--seed", metavar="N", type=console.seed, default=0,
                        help="same seed, same pictures (default: %(default)s)")
    parser.add_argument("--labels", metavar="TEXT", nargs="+", default=list(DIGITS),
                        help="what to write: digits, or numbers such as 1998 (default: 0 to 9)")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    args = parser.parse_args(argv)
    wrong = [text for text in args.labels if not text or set(text) - set(DIGITS)]
    if wrong:
        raise console.Refusal(f"{wrong[0]!r} is not made of the digits 0 to 9: write numbers")
    args.out.mkdir(parents=True, exist_ok=True)
    rng, labels = np.random.default_rng(args.seed), list(dict.fromkeys(args.labels))
    for label in labels:
        for style in STYLES:
            for number in range(args.count):
                draw(label, style, rng).save(args.out / f"{label}_{style}_{number:03}.png")
    total = len(labels) * len(STYLES) * args.count
    where = console.to_type(args.out.resolve())
    print(f"wrote {total} pictures in {len(STYLES)} styles to {where}")
    print(f"next: python inference.py --evaluate {where}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
