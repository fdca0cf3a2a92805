"""The figures of a run and of its codes; what they show is computed elsewhere."""

# B images in a batch, N pictures, C channels, H height and W width, L latents

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from model import VAE

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "0.6"   # told apart by colour-blind readers
ZOOM = 3             # screen pixels of a picture's pixel
SAMPLES = 64         # of the prior, in samples.png


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG with nothing in it that depends on the day."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def tile(images: Tensor, columns: int) -> np.ndarray:                  # (N, C, H, W)
    """Pictures from 0 to 1 in rows, grey pixels between: bytes (height, width, 3)."""
    rows = -(-len(images) // columns)
    height, width = (side + 1 for side in images.shape[2:])
    sheet = torch.full((3, rows * height + 1, columns * width + 1), 0.75)
    for number, image in enumerate(images.detach().cpu()):
        y, x = number // columns * height + 1, number % columns * width + 1
        sheet[:, y : y + height - 1, x : x + width - 1] = image[:3]    # grey in all channels
    return (255 * sheet.clamp(0, 1)).round().byte().permute(1, 2, 0).numpy()


def save_tiles(images: Tensor, columns: int, path: Path) -> None:      # (N, C, H, W)
    """Write pictures in rows as a PNG, every pixel as a square."""
    sheet = Image.fromarray(tile(images, columns))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.resize((sheet.width * ZOOM, sheet.height * ZOOM), Image.Resampling.NEAREST).save(path)


# ---------------------------------------------------------------- a run


def draw_curves(metrics: Path, path: Path) -> None:
    """Both terms, the units in use, and σ or β, from metrics.csv."""
    with metrics.open(newline="", encoding="utf-8") as file:
        rows = [{key: float(row[key]) for key in row} for row in csv.DictReader(file)]
    epochs = [row["epoch"] for row in rows]
    figure = Figure(figsize=(12, 3), layout="constrained")
    axes = figure.subplots(1, 4)
    for axis, name, title in ((axes[0], "reconstruction", "reconstruction"),
                              (axes[1], "kl", "KL")):
        axis.plot(epochs, [row[f"train_{name}"] for row in rows], color=BLUE, marker=".",
                  label="training")
        axis.plot(epochs, [row[f"validation_{name}"] for row in rows], color=ORANGE, marker=".",
                  linestyle="--", label="validation")
        axis.set(xlabel="epoch", ylabel="nats an image", title=title)
        axis.legend(fontsize=8)
    axes[2].plot(epochs, [row["active_units"] for row in rows], color=ORANGE, marker=".")
    axes[2].set(xlabel="epoch", title="active units", ylim=(0, None))
    axes[3].plot(epochs, [row["sigma"] for row in rows], color=BLUE, marker=".", label="σ")
    axes[3].plot(epochs, [row["beta"] for row in rows], color=GREY, marker=".", label="β")
    axes[3].set(xlabel="epoch", title="σ of a pixel, and β", yscale="log")
    axes[3].legend(fontsize=8)
    save(figure, path)


@torch.no_grad()
def draw_reconstructions(model: VAE, x: Tensor, path: Path) -> None:
    """Three rows again and again: pictures (N, C, H, W), what comes back, the difference."""
    again = model(x.to(model.variance.device)).cpu()                   # (N, C, H, W)
    wrong = 1 - (x - again).abs()
    rows = [part[i : i + 12] for i in range(0, len(x), 12) for part in (x, again, wrong)]
    save_tiles(torch.cat(rows), len(rows[0]), path)


@torch.no_grad()
def samples(model: VAE, count: int, seed: int) -> Tensor:
    """Pictures of codes that were drawn from the prior: (N, C, H, W), on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(count, model.latents, generator=generator)         # (N, L)
    return model.decode(z.to(model.variance.device)).cpu()             # (N, C, H, W)


def draw_samples(model: VAE, seed: int, path: Path, count: int = SAMPLES) -> None:
    """Pictures that nobody drew, in rows."""
    save_tiles(samples(model, count, seed), math.ceil(count**0.5), path)


@torch.no_grad()
def draw_progress(model: VAE, x: Tensor, path: Path) -> None:
    """What the run can do by now: pictures (N, C, H, W), what comes back, as many samples."""
    again = model(x.to(model.variance.device)).cpu()                   # (N, C, H, W)
    save_tiles(torch.cat([x, again, samples(model, len(x), 0)]), len(x), path)


# ---------------------------------------------------------------- codes


def draw_units(kl: Tensor, path: Path) -> None:                        # (L,)
    """How many nats each latent says of a picture, the most talkative first."""
    figure = Figure(figsize=(7, 3), layout="constrained")
    axis = figure.subplots()
    axis.bar(range(len(kl)), kl.sort(descending=True).values.numpy(), color=BLUE)
    axis.set(xlabel="latent, by its KL", ylabel="KL (nats)",
             title=f"{kl.sum():.1f} nats a picture")
    save(figure, path)


def draw_maps(maps: dict[str, Tensor], labels: Tensor, names: list[str] | None,
              path: Path) -> None:
    """Codes in two dimensions, each map (N, 2), coloured by a value (N,) of each picture.

    Without names the values are hues.
    """
    figure = Figure(figsize=(4.5 * len(maps), 4.3), layout="constrained")
    for axis, (title, points) in zip(figure.subplots(1, len(maps), squeeze=False)[0],
                                     maps.items()):
        for value, name in enumerate(names or ["hue"]):
            these = labels == value if names else torch.ones(len(labels), dtype=torch.bool)
            look = {} if names else {"c": labels.numpy(), "cmap": "hsv", "vmin": 0, "vmax": 1}
            axis.scatter(*points[these].T.numpy(), s=5, label=name, **look)
        axis.set(title=title, xticks=[], yticks=[])
    if names:
        figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center",
                      ncols=len(names), markerscale=3)
    save(figure, path)


def draw_pairs(left: Tensor, right: Tensor, path: Path) -> None:
    """Pictures (N, C, H, W) in a row, and below each its counterpart."""
    save_tiles(torch.cat([left, right]), len(left), path)


def draw_rate_distortion(rows: Sequence[tuple[float, float, float]], path: Path) -> None:
    """Reconstruction against KL for several β: (β, reconstruction, KL) in nats an image."""
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axis = figure.subplots()
    rows = sorted(rows)
    axis.plot([row[2] for row in rows], [row[1] for row in rows], color=BLUE, marker="o")
    for beta, distortion, rate in rows:
        axis.annotate(f"β = {beta:g}", (rate, distortion), xytext=(5, 3),
                      textcoords="offset points", fontsize=8)
    axis.set(xlabel="rate: KL (nats)", ylabel="distortion: -log p(x|z) (nats)",
             title="what a nat of KL buys")
    save(figure, path)


def draw_collapse(runs: dict[str, tuple[Tensor, float, int]], path: Path) -> None:
    """KL of each latent (L,), -ELBO and active units of each run, side by side."""
    figure = Figure(figsize=(3 * len(runs), 3), layout="constrained")
    for axis, (name, (kl, cost, active)) in zip(
            figure.subplots(1, len(runs), sharey=True, squeeze=False)[0], runs.items()):
        axis.bar(range(len(kl)), kl.sort(descending=True).values.numpy(), color=BLUE)
        axis.set(title=f"{name}\n{active} active, -ELBO {cost:.2f}", xlabel="latent")
    figure.axes[0].set_ylabel("KL (nats)")
    save(figure, path)
