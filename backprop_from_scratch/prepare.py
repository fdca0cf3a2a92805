"""A picture of a digit becomes 28×28 pixels in the way MNIST's were made.

A network that reads MNIST perfectly fails on a photograph of your own digit unless the
photograph is prepared as MNIST was: white ink on black, scaled into a 20×20 box, and
placed in a 28×28 field so that its centre of mass lies at pixel (14, 14). Each function
below is one stage; `stages` keeps them all for the strip that `inference.py` draws.
"""

# H height, W width: pictures are arrays of shape (H, W)

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter, ImageOps

FIELD = 28                    # side of the finished picture
BOX = 20                      # longest side of the digit in it
LARGEST = 256                 # photographs are first reduced to this side
MOST_PIXELS = 100_000_000     # above this a file is taken for a decompression bomb
BLANK = 0.08                  # less contrast than this fraction of white is no ink at all
FAINT = 0.25                  # on photographs, weaker ink than this is a smudge
GRAIN = 0.03                  # no sheet of paper is grainier; what varies more is ink


def read(path: Path) -> np.ndarray:
    """Any picture Pillow opens as grey levels (H, W), 0 black to 1 white, upright.

    Transparent parts become white paper, 16-bit files keep their depth, the camera's
    rotation is undone. Raises ValueError if there is no such file, or it is no picture.
    """
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            if image.width * image.height > MOST_PIXELS:
                raise Image.DecompressionBombError
            grey = _grey(ImageOps.exif_transpose(image))
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}") from None
    except PermissionError:
        raise ValueError(f"{path} may not be read: check its permissions") from None
    except Image.DecompressionBombError:
        raise ValueError(f"{path} has over {MOST_PIXELS:,} pixels: shrink it") from None
    except Exception as error:  # Pillow's many readers fail in as many ways
        raise ValueError(f"{path} is not a picture that Pillow can read") from error
    scale = min(1.0, LARGEST / max(grey.shape))
    return grey if scale == 1 else _resize(grey, scale, Image.Resampling.BOX)


def _grey(image: Image.Image) -> np.ndarray:
    if image.mode in ("F", "I") or image.mode.startswith("I;16"):  # deeper than 8 bits
        levels = np.nan_to_num(np.asarray(image, dtype=np.float32))
        scales = (1, 255, 65535) if image.mode == "F" else (65535,)  # floats come in any unit
        white = next((s for s in scales if levels.max() <= s), levels.max())
        return (levels / white).clip(0, 1)
    image = image.convert("RGBA")
    paper = Image.new("RGBA", image.size, "white")
    grey = Image.alpha_composite(paper, image).convert("L")
    return np.asarray(grey, dtype=np.float32) / 255


def find_ink(grey: np.ndarray) -> np.ndarray:
    """The ink alone, 1 where it is full and 0 on paper, whichever of the two is darker.

    Paper is never evenly lit: a quadratic surface through the picture's border is the
    light that is taken away. Raises ValueError on a blank picture.
    """
    light, noise = _paper(grey)
    darker = light - grey
    if (darker**3).sum() < 0:      # ink is the far, rare side of the grey levels, so its sign
        darker = -darker           # is the sign of the third moment
    ink = (darker - 4 * noise).clip(0)
    if ink.max() < BLANK:
        raise ValueError("the picture is blank: no ink stands out from the paper")
    full = np.percentile(ink[ink > ink.max() / 2], 90)
    return (ink / full).clip(0, 1)


def _paper(grey: np.ndarray) -> tuple[np.ndarray, float]:
    """Fit a + bx + cy + dx² + exy + fy² to the border; its surface and the noise around it."""
    y, x = (axis / max(n - 1, 1) - 0.5 for axis, n in zip(np.indices(grey.shape), grey.shape))
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)   # (H, W, 6)
    width = max(1, min(grey.shape) // 12)
    border = np.ones(grey.shape, dtype=bool)
    border[width:-width, width:-width] = False
    surface = np.full(grey.shape, np.median(grey[border]))   # most of the border is paper
    for _ in range(4):
        distance = np.abs(grey - surface)
        noise = 1.4826 * np.median(distance[border])         # σ of a Gaussian, robustly
        near = border & (distance <= 3 * noise + 1e-3)       # ink there does not count
        if near.sum() < len(terms[0, 0]):
            break
        surface = terms @ np.linalg.lstsq(terms[near], grey[near], rcond=None)[0]
    return surface.astype(np.float32), min(float(noise), GRAIN)


def crop(ink: np.ndarray) -> np.ndarray:
    """The bounding box of the ink; specks and smudges of a photograph do not count."""
    box = _box(ink > 0)
    if max(ink[box].shape) > 2 * FIELD:
        as_image = Image.fromarray((255 * ink).astype(np.uint8))
        smooth = np.asarray(as_image.filter(ImageFilter.MedianFilter(3))) / 255
        if not (smooth > FAINT).any():
            raise ValueError("the picture is blank: it holds specks but no stroke")
        box = _box(smooth > FAINT)
    return ink[box]


def _box(solid: np.ndarray) -> tuple[slice, slice]:
    """The smallest rectangle that holds all that is True."""
    rows, columns = (np.flatnonzero(solid.any(axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def fit_box(ink: np.ndarray) -> np.ndarray:
    """Scale the longer side to 20 pixels; a few digits of MNIST have 19 and keep them."""
    longest = max(ink.shape)
    if longest in (BOX - 1, BOX):
        return ink
    resized = _resize(ink, BOX / longest, Image.Resampling.BICUBIC).clip(0, 1)
    return resized / resized.max()


def centre(ink: np.ndarray) -> np.ndarray:
    """Place the box in a 28×28 field with its centre of mass nearest to (14, 14).

    This rule gives 69,996 of MNIST's 70,000 images back exactly.
    """
    mass = ink.sum()
    corner = []
    for axis, size in enumerate(ink.shape):
        mean = (ink.sum(1 - axis) * np.arange(size)).sum() / mass
        corner.append(int(np.clip(np.floor(FIELD / 2 - mean + 0.5), 0, FIELD - size)))
    field = np.zeros((FIELD, FIELD), dtype=ink.dtype)
    field[corner[0] : corner[0] + ink.shape[0], corner[1] : corner[1] + ink.shape[1]] = ink
    return field


def stages(path: Path) -> dict[str, np.ndarray]:
    """Every stage of one file's preparation by name, as arrays between 0 and 1."""
    grey = read(path)
    try:
        ink = find_ink(grey)
        cropped = crop(ink)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    boxed = fit_box(cropped)
    return {"as read": grey, "ink": ink, "cropped": cropped, "20-pixel box": boxed,
            "centred by mass": centre(boxed)}


def prepare(path: Path) -> np.ndarray:
    """The finished picture, uint8 of shape (28, 28), 255 where there is ink."""
    return np.round(255 * stages(path)["centred by mass"]).astype(np.uint8)


def _resize(picture: np.ndarray, scale: float, method: Image.Resampling) -> np.ndarray:
    height, width = (max(1, round(scale * side)) for side in picture.shape)
    image = Image.fromarray(picture.astype(np.float32))
    return np.asarray(image.resize((width, height), method))
