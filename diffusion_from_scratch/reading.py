"""Picture files become bytes: as they are if all have one size, or as squares of one side.

What is transparent is laid on white before anything is scaled: the colour of an invisible
pixel is arbitrary, often black, and scaling first would smear it into the outline.
"""

# N pictures, C channels, H height and W width of a finished picture

import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from console import Refusal, from_here, say

LEAST = 10                    # different pictures in a folder
MOST_PIXELS = 150_000_000     # above this a file is taken for a decompression bomb
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".jfif")


def read(path: Path, size: tuple[int, int] | None = None) -> Tensor:
    """A picture as bytes (3, H, W), of its own size, or the middle of it in one of your choice.

    Raises ValueError if the file is missing or is no picture.
    """
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            if image.width * image.height > MOST_PIXELS:
                raise Image.DecompressionBombError
            picture = on_white(ImageOps.exif_transpose(image))
            picture = middle(picture, *size) if size else picture
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}") from None
    except PermissionError:
        raise ValueError(f"{path} may not be read: check its permissions") from None
    except Image.DecompressionBombError:
        raise ValueError(f"{path} has over {MOST_PIXELS:,} pixels: shrink it") from None
    except Exception as error:  # Pillow's many readers fail in as many ways
        raise ValueError(f"{path} is not a picture that Pillow can read") from error
    return as_bytes(picture)                                           # (3, H, W)


def as_bytes(image: Image.Image) -> Tensor:
    """The pixels of a picture in RGB: (3, H, W)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)          # (3, H, W)


def on_white(image: Image.Image) -> Image.Image:
    """The picture in RGB, on white where it is transparent; 16 bits of grey become 8."""
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    if image.mode in ("F", "I") or image.mode.startswith("I;16"):
        levels = np.nan_to_num(np.asarray(image, dtype=np.float32))
        scales = (1, 255, 65535) if image.mode == "F" else (65535,)    # floats: in any unit
        white = next((scale for scale in scales if levels.max() <= scale), levels.max())
        image = Image.fromarray(np.uint8(255 * (levels / white).clip(0, 1)))
    return image.convert("RGB")


def middle(image: Image.Image, height: int, width: int) -> Image.Image:
    """The largest part of this shape around the middle, scaled to this size."""
    if image.size == (width, height):
        return image
    scale = min(image.width / width, image.height / height)
    left, top = (image.width - scale * width) / 2, (image.height - scale * height) / 2
    return image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0,
                        box=(left, top, left + scale * width, top + scale * height))


def files_in(folder: Path) -> list[Path]:
    """The picture files below a folder by their suffix, in the order of their names."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return sorted(path for path in found if path.is_file() and not any(
        part.startswith(".") for part in path.relative_to(folder).parts))


def read_all(files: list[Path], side: int | None,
             workers: int = 0) -> list[Tensor | ValueError]:
    """The pictures of files, or why one is none; with threads if there are workers."""
    def attempt(path: Path) -> Tensor | ValueError:
        try:
            return read(path, (side, side) if side else None)
        except ValueError as error:
            return error

    if not workers:
        return list(map(attempt, files))
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(attempt, files))


def read_classes(folder: Path, side: int | None,
                 workers: int = 0) -> tuple[list[str], Tensor, Tensor]:
    """The names of classes, pictures (N, C, H, W) and labels (N,) of a folder.

    Classes are the folders in it, if there are at least two and no picture lies beside them.
    What is no picture is left out and counted, and so is a second copy of the same pixels: it
    could stand in two parts; the first in the order of names stays. Grey pictures have one
    channel. Raises Refusal if too few are left, or if they have several sizes and none was
    asked for.
    """
    files = files_in(folder)
    tops = [path.relative_to(folder).parts[0] for path in files]
    found = read_all(files, side, workers)
    good = [(picture, top) for picture, top in zip(found, tops) if isinstance(picture, Tensor)]
    unique: dict[bytes, tuple[Tensor, str]] = {}
    for picture, top in good:
        name = picture.numpy().tobytes() + repr(picture.shape).encode()
        unique.setdefault(name, (picture, top))
    classes = sorted({top for _, top in unique.values()})
    if len(classes) < 2 or not all((folder / name).is_dir() for name in classes):
        classes = []
    if len(good) < len(files):
        say(f"left out {len(files) - len(good)} of {len(files)} files in {from_here(folder)}: "
            "no picture")
    if len(unique) < len(good):
        say(f"left out pictures that were there before: {len(good) - len(unique)}")
    if len(unique) < LEAST:
        raise Refusal(f"{from_here(folder)} has {len(unique)} usable pictures: at least "
                      f"{LEAST} different ones are needed")
    sizes = Counter("×".join(map(str, picture.shape[1:])) for picture, _ in unique.values())
    if len(sizes) > 1:
        common = ", ".join(size for size, _ in sizes.most_common(3))
        raise Refusal(f"the pictures in {from_here(folder)} have {len(sizes)} different sizes "
                      f"({common} …): make them one with --image-size N")
    images = torch.stack([picture for picture, _ in unique.values()])
    if (images == images[:, :1]).all():
        images = images[:, :1].contiguous()    # grey: one channel says it all
    labels = [classes.index(top) if classes else 0 for _, top in unique.values()]
    return classes, images, torch.tensor(labels)
