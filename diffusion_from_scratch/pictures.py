"""The figures of a run and of its samples; what they show is computed elsewhere."""

# N pictures, C channels, H height and W width

import csv
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from schedule import NAMES, Schedule

BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"   # told apart by all eyes
NOISE = (", least noise", "", "", ", most noise")       # in quarters of the times
ZOOM = 2             # screen pixels of a picture's pixel
FEWER = 5            # as many times of the unscaled schedule as of others: a fifth
MOMENT = 60          # milliseconds of a picture of an animation; the last stays longer


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG with nothing in it that depends on the day."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def tile(images: Tensor, columns: int) -> Image.Image:                 # (N, C, H, W)
    """Pictures from 0 to 1 in rows, grey pixels between, every pixel as a square."""
    rows = -(-len(images) // columns)
    height, width = (side + 1 for side in images.shape[2:])
    sheet = torch.full((3, rows * height + 1, columns * width + 1), 0.5)
    for number, image in enumerate(images.detach().cpu()):
        y, x = number // columns * height + 1, number % columns * width + 1
        sheet[:, y : y + height - 1, x : x + width - 1] = image[:3]    # grey in all channels
    pixels = (255 * sheet.clamp(0, 1)).round().byte().permute(1, 2, 0).numpy()
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    large = picture.width * ZOOM, picture.height * ZOOM
    return picture.resize(large, Image.Resampling.NEAREST)


def save_tiles(images: Tensor, columns: int, path: Path) -> None:      # (N, C, H, W)
    """Write pictures in rows as a PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tile(images, columns).save(path)


def draw_progress(folder: Path, path: Path) -> None:
    """The strips of a run below each other: the first, second, fourth and so on, the last."""
    strips = sorted(folder.glob("step_*.png"))
    if not strips:
        return                                 # somebody has tidied up
    doubling = {min(2**n, len(strips)) - 1 for n in range(len(strips).bit_length() + 1)}
    images = [Image.open(strips[number]) for number in sorted(doubling)]
    whole = Image.new("RGB", (images[0].width, sum(image.height for image in images)))
    top = 0
    for image in images:
        whole.paste(image, (0, top))
        top += image.height
    whole.save(path)


def save_animation(frames: list[Tensor], columns: int, path: Path) -> None:
    """Write sheets of pictures, each (N, C, H, W), one after the other as a GIF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *others = (tile(frame, columns).convert("L" if frame.size(1) == 1 else "RGB")
                      for frame in frames)
    durations = [MOMENT] * len(others) + [1500]
    first.save(path, save_all=True, append_images=others, duration=durations, loop=0)


def draw_curves(metrics: Path, path: Path) -> None:
    """The losses, also by quarter of the times, from metrics.csv."""
    with metrics.open(newline="", encoding="utf-8") as file:
        rows = [{key: float(row[key]) for key in row} for row in csv.DictReader(file)]
    steps = [row["step"] for row in rows]
    figure = Figure(figsize=(9, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(steps, [row["train_loss"] for row in rows], color=BLUE, marker=".",
              label="training")
    left.plot(steps, [row["validation_loss"] for row in rows], color=ORANGE, marker=".",
              linestyle="--", label="validation, averaged weights")
    for quarter, shade in enumerate(("0.75", "0.55", "0.35", "0.1")):
        right.plot(steps, [row[f"loss_{quarter}"] for row in rows], color=shade, marker=".",
                   label=f"quarter {quarter + 1} of the times{NOISE[quarter]}")
    for axis, title in ((left, "loss"), (right, "training loss by quarter of the times")):
        axis.set(xlabel="step", yscale="log", title=title)
        axis.legend(fontsize=8)
    save(figure, path)


def draw_schedules(times: int, path: Path) -> None:
    """What is kept of a picture, β, and the signal-to-noise ratio, for each schedule.

    The unscaled one with a fifth of the times, where it fails.
    """
    figure = Figure(figsize=(11, 3), layout="constrained")
    axes = figure.subplots(1, 3)
    for name, color in zip(NAMES, (BLUE, ORANGE, GREEN)):
        few = times if name != "unscaled" else -(-times // FEWER)
        schedule, moments = Schedule.named(name, few), np.linspace(0, 1, few)
        look = {"color": color, "label": f"{name}, T = {few}"}
        axes[0].plot(moments, schedule.exact.numpy(), **look)
        axes[1].plot(moments, schedule.beta.numpy(), **look)
        axes[2].plot(moments, schedule.snr.numpy(), **look)
    for axis, title, scale in zip(axes, ("ᾱ, the share of the picture", "β, noise added",
                                         "signal-to-noise ratio"), ("linear", "log", "log")):
        axis.set(xlabel="time, as a share of T", title=title, yscale=scale)
    axes[0].legend(fontsize=8)
    save(figure, path)
