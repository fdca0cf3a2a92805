"""Sheets of pictures, with words beside them; what they show is computed elsewhere."""

# N pictures or words, H height and W width, C channels of a latent

import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

LEAST = 96           # screen pixels of a picture's side, at least
GREY = 128           # of the lines between pictures
LETTERS = 13         # height of a letter in screen pixels
MARGIN = 6           # between words and pictures
MAP_SHARE = 0.75     # of a map of attention, before the drawing that it is laid on
ACROSS = 12          # maps in a row
LONGEST = 60         # letters beside a row


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG with nothing in it that depends on the day."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def tile(images: Tensor, columns: int) -> Image.Image:                 # (N, H, W, 3)
    """Pictures in bytes in rows, grey lines between, small ones enlarged pixel by pixel."""
    rows = -(-len(images) // columns)
    height, width = (side + 1 for side in images.shape[1:3])
    sheet = np.full((rows * height + 1, columns * width + 1, 3), GREY, np.uint8)
    for number, image in enumerate(images.cpu().numpy()):
        y, x = number // columns * height + 1, number % columns * width + 1
        sheet[y : y + height - 1, x : x + width - 1] = image
    zoom = enlarged(images)
    picture = Image.fromarray(sheet)
    return picture.resize((picture.width * zoom, picture.height * zoom),
                          Image.Resampling.NEAREST)


def enlarged(images: Tensor) -> int:
    """How many screen pixels a pixel of such pictures (N, H, W, 3) is wide."""
    return max(1, -(-LEAST // max(images.shape[1:3])))


def labelled(images: Tensor, columns: Sequence[str],
             rows: Sequence[str] = ()) -> Image.Image:                 # (N, H, W, 3)
    """The same with a word above each column, and one at the left of each row."""
    rows = [textwrap.shorten(text, LONGEST, placeholder=" …") for text in rows]
    sheet, font = tile(images, len(columns)), ImageFont.load_default(LETTERS)
    zoom = enlarged(images)
    height, width = ((side + 1) * zoom for side in images.shape[1:3])
    left = max([0, *(int(font.getlength(text)) + 2 * MARGIN for text in rows)])
    top = (LETTERS + 2 * MARGIN) * any(columns)
    whole = Image.new("RGB", (left + sheet.width, top + sheet.height), "white")
    whole.paste(sheet, (left, top))
    pen = ImageDraw.Draw(whole)
    for number, text in enumerate(columns):
        pen.text((left + (number + 0.5) * width, top - MARGIN), text, "black", font, "ms")
    for number, text in enumerate(rows):
        pen.text((left - MARGIN, top + (number + 0.5) * height), text, "black", font, "rm")
    return whole


def save_tiles(images: Tensor, columns: int, path: Path) -> None:      # (N, H, W, 3)
    """Write pictures in bytes in rows as a PNG."""
    save_image(tile(images, columns), path)


def save_image(image: Image.Image, path: Path) -> None:
    """Write a picture as a PNG, in a folder that is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def heat(picture: Tensor, maps: Tensor) -> Tensor:                     # (H, W, 3), (N, ...)
    """A drawing under each of its maps (N, H, W), bright where a map is large: (N, H, W, 3).

    Maps are stretched, each from its least to its largest value.
    """
    least = maps.amin((1, 2), keepdim=True)                            # (N, 1, 1)
    most = maps.amax((1, 2), keepdim=True)                             # (N, 1, 1)
    share = (maps - least) / (most - least).clamp(min=1e-12)           # (N, H, W)
    glow = torch.from_numpy(matplotlib.colormaps["inferno"](share.numpy())[..., :3])
    mixed = MAP_SHARE * glow + (1 - MAP_SHARE) * picture / 255         # (N, H, W, 3)
    return (255 * mixed).round().byte()                                # (N, H, W, 3)


def attended(picture: Tensor, words: Sequence[str], maps: Tensor) -> Image.Image:
    """A drawing (H, W, 3), then each word above its map (N, H, W), in rows if they are many."""
    images, names = torch.cat([picture[None], heat(picture, maps)]), ["", *words]
    rows = [labelled(images[first : first + ACROSS], names[first : first + ACROSS])
            for first in range(0, len(names), ACROSS)]
    whole = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)), "white")
    for number, row in enumerate(rows):
        whole.paste(row, (0, sum(above.height for above in rows[:number])))
    return whole


def grey(latents: Tensor) -> Tensor:                                   # (N, C, H, W)
    """Each channel of latents as grey, from -2.5 black to 2.5 white: (N*C, H, W, 3)."""
    levels = ((latents.float().cpu() / 5 + 0.5).clamp(0, 1) * 255).round().byte()
    return levels.flatten(0, 1)[..., None].expand(-1, -1, -1, 3)       # (N*C, H, W, 3)
