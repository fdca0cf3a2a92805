"""Any picture file becomes a square of bytes: sprites on white, of photographs the middle.

What is transparent is laid on white before anything is scaled: the colour of an invisible
pixel is arbitrary, often black, and scaling first would smear it into the outline.
"""

# S side of the finished picture

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

MOST_PIXELS = 150_000_000     # above this a file is taken for a decompression bomb
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".jfif")


def read_square(path: Path, side: int) -> Tensor:
    """A picture as bytes (3, S, S). Raises ValueError if the file is missing or no picture."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            if image.width * image.height > MOST_PIXELS:
                raise Image.DecompressionBombError
            image.draft(None, (side, side))     # JPEGs are decoded at 1/2, 1/4, 1/8 if it does
            upright = ImageOps.exif_transpose(image)
            sprite = upright.has_transparency_data and (      # an alpha channel may be solid
                upright.convert("RGBA").getchannel("A").getextrema()[0] < 255)
            square = place_sprite(upright, side) if sprite else middle(to_rgb(upright), side)
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}") from None
    except PermissionError:
        raise ValueError(f"{path} may not be read: check its permissions") from None
    except Image.DecompressionBombError:
        raise ValueError(f"{path} has over {MOST_PIXELS:,} pixels: shrink it") from None
    except Exception as error:  # Pillow's many readers fail in as many ways
        raise ValueError(f"{path} is not a picture that Pillow can read") from error
    return torch.from_numpy(np.array(square)).permute(2, 0, 1)         # (3, S, S)


def place_sprite(image: Image.Image, side: int) -> Image.Image:
    """What is visible of a transparent picture, on white, shrunk only if it is too large."""
    image = image.convert("RGBA")
    box = image.getchannel("A").getbbox() or (0, 0, *image.size)
    whole = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    visible = whole.crop(box)
    if max(visible.size) > side:
        visible = ImageOps.contain(visible, (side, side), Image.Resampling.BOX)
    square = Image.new("RGB", (side, side), "white")
    square.paste(visible, tuple((side - length) // 2 for length in visible.size))
    return square


def middle(image: Image.Image, side: int) -> Image.Image:
    """Scaled until the shorter side is `side` pixels, and the middle of that."""
    short = min(image.size)
    left, top = ((length - short) / 2 for length in image.size)
    return image.resize((side, side), Image.Resampling.BILINEAR,
                        box=(left, top, left + short, top + short), reducing_gap=3.0)


def to_rgb(image: Image.Image) -> Image.Image:
    """The picture in RGB; grey levels deeper than 8 bits are scaled."""
    if image.mode in ("F", "I") or image.mode.startswith("I;16"):
        levels = np.nan_to_num(np.asarray(image, dtype=np.float32))
        scales = (1, 255, 65535) if image.mode == "F" else (65535,)    # floats: in any unit
        white = next((scale for scale in scales if levels.max() <= scale), levels.max())
        image = Image.fromarray(np.uint8(255 * (levels / white).clip(0, 1)))
    return image.convert("RGB")


def files_in(folder: Path) -> list[Path]:
    """The picture files below a folder by their suffix, in the order of their names."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return sorted(path for path in found if path.is_file() and not any(
        part.startswith(".") for part in path.relative_to(folder).parts))
