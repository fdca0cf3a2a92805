"""Pictures with captions from a folder of your own, every picture a square of one size.

What a picture shows is said by a text file beside it (`dog.png`, `dog.txt`), or by a table
`captions.csv` with a file's name and a text in each row.
"""

# S side of a finished picture

import csv
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from console import Refusal, from_here, say

LEAST = 10                    # pictures with captions
MOST_PIXELS = 150_000_000     # above this a file is taken for a decompression bomb
TABLE = "captions.csv"
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".jfif")


def read_square(path: Path, side: int) -> Tensor:
    """The middle of a picture as bytes (S, S, 3), on white where it is transparent.

    Raises ValueError if the file is missing or is no picture.
    """
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            if image.width * image.height > MOST_PIXELS:
                raise Image.DecompressionBombError
            picture = on_white(ImageOps.exif_transpose(image))
            picture = ImageOps.fit(picture, (side, side), Image.Resampling.BICUBIC)
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}") from None
    except PermissionError:
        raise ValueError(f"{path} may not be read: check its permissions") from None
    except Image.DecompressionBombError:
        raise ValueError(f"{path} has over {MOST_PIXELS:,} pixels: shrink it") from None
    except Exception as error:  # Pillow's many readers fail in as many ways
        raise ValueError(f"{path} is not a picture that Pillow can read") from error
    return torch.from_numpy(np.array(picture))


def on_white(image: Image.Image) -> Image.Image:
    """The picture in RGB; 16 bits of grey become 8."""
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    if image.mode in ("F", "I") or image.mode.startswith("I;16"):
        levels = np.nan_to_num(np.asarray(image, dtype=np.float32))
        scales = (1, 255, 65535) if image.mode == "F" else (65535,)    # floats: in any unit
        white = next((scale for scale in scales if levels.max() <= scale), levels.max())
        image = Image.fromarray(np.uint8(255 * (levels / white).clip(0, 1)))
    return image.convert("RGB")


def from_table(folder: Path) -> dict[Path, str]:
    """Files and captions of `captions.csv`, whose header, if there is one, names no file.

    Raises Refusal for a table that is none, or that names a file that is not there.
    """
    table = folder / TABLE
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Refusal(f"{from_here(table)} cannot be read ({error}): write it as UTF-8 with a "
                      "file's name and a text in each row") from None
    if rows and not (folder / rows[0][0]).is_file() and not Path(rows[0][0]).suffix:
        rows = rows[1:]
    for number, row in enumerate(rows, start=1):
        if len(row) < 2:
            raise Refusal(f"row {number} of {from_here(table)} has one cell: write a file's "
                          "name and a text in each")
        if any(row[2:]):
            raise Refusal(f"row {number} of {from_here(table)} has {len(row)} cells: put "
                          "quotes around a text with commas")
        if not (folder / row[0]).is_file():
            raise Refusal(f"{from_here(table)} names {row[0]}, which is not in the folder: "
                          "correct the name or delete the row")
    return {folder / row[0]: row[1] for row in rows}


def from_texts(folder: Path) -> dict[Path, str]:
    """Pictures that have a text file beside them, in the order of their names."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    files = sorted(path for path in found if path.is_file() and not any(
        part.startswith(".") for part in path.relative_to(folder).parts))
    texts = {path: path.with_suffix(".txt") for path in files}
    captions = {}
    for path, text in texts.items():
        try:
            captions[path] = text.read_text(encoding="utf-8-sig") if text.is_file() else ""
        except (OSError, UnicodeDecodeError) as error:
            raise Refusal(f"{from_here(text)} cannot be read ({error}): write it as "
                          "UTF-8") from None
    return captions


def read_folder(folder: Path, side: int, workers: int = 0) -> tuple[Tensor, list[str]]:
    """Pictures (N, S, S, 3) in bytes and their captions.

    What is no picture or has no caption is left out and counted. Raises Refusal if too few are
    left.
    """
    given = from_table(folder) if (folder / TABLE).is_file() else from_texts(folder)
    captions = {path: " ".join(text.split()) for path, text in given.items()}
    files = [path for path, text in captions.items() if text]
    found = read_all(files, side, workers)
    good = [(picture, captions[path]) for path, picture in zip(files, found)
            if isinstance(picture, Tensor)]
    if len(files) < len(given):
        say(f"left out {len(given) - len(files)} of {len(given)} pictures in "
            f"{from_here(folder)}: no caption")
    if len(good) < len(files):
        say(f"left out {len(files) - len(good)} of {len(files)} files in {from_here(folder)}: "
            "no picture")
    if len(good) < LEAST:
        raise Refusal(f"{from_here(folder)} has {len(good)} pictures with captions, at least "
                      f"{LEAST} are needed: write a .txt beside each, or a {TABLE}")
    return torch.stack([picture for picture, _ in good]), [text for _, text in good]


def read_all(files: list[Path], side: int, workers: int = 0) -> list[Tensor | ValueError]:
    """The pictures of files, or why one is none; with threads if there are workers."""
    def attempt(path: Path) -> Tensor | ValueError:
        try:
            return read_square(path, side)
        except ValueError as error:
            return error

    if not workers:
        return list(map(attempt, files))
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(attempt, files))
