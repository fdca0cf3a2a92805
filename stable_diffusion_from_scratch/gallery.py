"""The picture that a drawing begins with, and the mask that says where it may change."""

# H height and W width of a picture

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from console import Refusal, from_here
from folders import MOST_PIXELS, on_white
from pipeline import floats

Size = tuple[int, int]        # height and width


def open_picture(path: Path) -> Image.Image:
    """A picture as it is meant to be seen: turned upright, in RGB, on white.

    Raises Refusal if the file is missing or is no picture.
    """
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            if image.width * image.height > MOST_PIXELS:
                raise Image.DecompressionBombError
            return on_white(ImageOps.exif_transpose(image))
    except FileNotFoundError:
        raise Refusal(f"there is no file {from_here(path)}: name a picture") from None
    except PermissionError:
        raise Refusal(f"{from_here(path)} may not be read: check its permissions") from None
    except Image.DecompressionBombError:
        raise Refusal(f"{from_here(path)} has over {MOST_PIXELS:,} pixels: shrink it") from None
    except Exception as error:  # Pillow's many readers fail in as many ways
        raise Refusal(f"{from_here(path)} is not a picture that Pillow can read: name "
                      "another") from error


def middle(image: Image.Image, size: Size | None) -> Image.Image:
    """The largest part of this shape around the middle, scaled to this size if there is one."""
    height, width = size or (image.height, image.width)
    return ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)


def find(init: Path | None, mask: Path | None,
         size: Size | None) -> tuple[Tensor | None, Tensor | None]:
    """The picture (1, 3, H, W), from -1 to 1, and the mask (1, 1, H, W), 1 where to draw.

    Without a size the picture keeps its own; else its middle is scaled, and so is the mask's.
    Raises Refusal for what is no picture, for a mask of another size than the picture, and for
    one that lets nothing change.
    """
    if init is None:
        return None, None
    image = open_picture(init)
    whole = torch.from_numpy(np.array(middle(image, size)))            # (H, W, 3)
    picture = floats(whole[None])                                      # (1, 3, H, W)
    if mask is None:
        return picture, None
    hole = open_picture(mask)
    if hole.size != image.size:
        raise Refusal(f"the mask has {hole.width}×{hole.height} pixels and the picture "
                      f"{image.width}×{image.height}: make them equal")
    white = torch.from_numpy(np.array(middle(hole, size).convert("L"))) >= 128  # (H, W)
    if not white.any():
        raise Refusal(f"{from_here(mask)} is black all over: paint white where to draw")
    return picture, white.float()[None, None]                          # (1, 3, H, W), (1, ...)
