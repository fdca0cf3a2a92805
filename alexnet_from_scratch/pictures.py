"""The figures of a run and of its network; what they show is computed elsewhere."""

# B pictures, R rows and C columns of a grid, H height, W width, S side of a picture

import csv
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from model import AlexNet

BLUE, ORANGE = "#0072b2", "#d55e00"   # told apart by colour-blind readers and in grey


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG with nothing in it that depends on the day."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The rows of a metrics.csv as numbers."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: float(row[key]) for key in row} for row in csv.DictReader(file)]


def draw_curves(metrics: Path, path: Path) -> None:
    """Loss, error and learning rate of each epoch, from metrics.csv."""
    rows = read_metrics(metrics)
    epochs = [row["epoch"] for row in rows]
    figure = Figure(figsize=(9, 3), layout="constrained")
    losses, errors, rate = figure.subplots(1, 3)
    for axis, kind, factor in ((losses, "loss", 1), (errors, "error", 100)):
        axis.plot(epochs, [factor * row[f"train_{kind}"] for row in rows], color=BLUE,
                  marker=".", label="training (augmented, dropout)")
        axis.plot(epochs, [factor * row[f"validation_{kind}"] for row in rows], color=ORANGE,
                  marker=".", linestyle="--", label="validation")
    losses.set(xlabel="epoch", ylabel="loss (nats)", title="loss", ylim=(0, None))
    losses.legend(fontsize=8)
    lowest = 100 * min(row["validation_error"] for row in rows)
    errors.set(xlabel="epoch", ylabel="error (%)", ylim=(0, None),
               title=f"validation error, {lowest:.1f} % at best")
    rate.semilogy(epochs, [row["lr"] for row in rows], color=BLUE, marker=".")
    rate.set(xlabel="epoch", title="learning rate")
    save(figure, path)


def tile(images: Tensor, columns: int) -> np.ndarray:
    """Pictures (B, 3, H, W), each stretched to 0 to 1, in rows with white gaps of one pixel."""
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    images = (images - low) / (high - low).clamp(min=1e-9)             # (B, 3, H, W)
    images = torch.nn.functional.pad(images, (1, 1, 1, 1), value=1.0)
    rows = -(-len(images) // columns)
    blank = images.new_ones(rows * columns - len(images), *images.shape[1:])
    grid = torch.cat([images, blank]).unflatten(0, (rows, columns))    # (R, C, 3, H+2, W+2)
    return grid.permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2).numpy()


def draw_filters(trained: AlexNet, untrained: AlexNet, path: Path) -> None:
    """The kernels of the first convolution, a group a row, above random ones."""
    rows = -(-trained.conv1.out_channels // trained.plan.groups // 12)
    figure = Figure(figsize=(9, 1.1 + 0.8 * rows), layout="constrained")
    for half, model, name in zip(figure.subfigures(2, 1), (trained, untrained),
                                 ("trained", "untrained")):
        groups = model.conv1.weight.detach().cpu().chunk(model.plan.groups)
        axes = half.subplots(1, len(groups), squeeze=False).flat
        for number, (axis, kernels) in enumerate(zip(axes, groups)):
            axis.imshow(tile(kernels, 12), interpolation="nearest")
            axis.set(xticks=[], yticks=[], title=f"{name}, group {number + 1}")
    save(figure, path)


def draw_occlusion(picture: Tensor, heat: Tensor, title: str, path: Path) -> None:
    """A picture (3, S, S) beside the belief that each of its pixels carries (S, S)."""
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.imshow(picture.permute(1, 2, 0).numpy())
    limit = max(float(heat.abs().max()), 1e-6)
    grey = picture.float().mean(0).numpy()
    right.imshow(grey, cmap="gray", vmin=0, vmax=255)
    shown = right.imshow(heat.numpy(), cmap="RdBu_r", vmin=-limit, vmax=limit, alpha=0.7)
    figure.colorbar(shown, ax=right, label="probability lost when covered")
    left.set_title(title, fontsize=10)
    for axis in (left, right):
        axis.set(xticks=[], yticks=[])
    save(figure, path)


def draw_maps(stages: dict[str, Tensor], path: Path, most: int = 16) -> None:
    """The first maps (C, H, W) of each stage in a row, each from black to white."""
    figure = Figure(figsize=(9, 0.62 * len(stages) + 0.2), layout="constrained")
    for axes, (name, maps) in zip(figure.subplots(len(stages), most, squeeze=False),
                                  stages.items()):
        for axis in axes:
            axis.axis("off")
        for axis, values in zip(axes, maps[:most]):
            axis.imshow(values.numpy(), cmap="gray")
        axes[0].set_title(f"{name}: {' × '.join(map(str, maps.shape))}", fontsize=8, loc="left")
    save(figure, path)


def draw_views(views: dict[str, list[Tensor]], path: Path) -> None:
    """What augmentation does: named rows of pictures (3, H, W) in grey levels."""
    columns = max(map(len, views.values()))
    figure = Figure(figsize=(0.9 * columns + 1.1, 0.95 * len(views)), layout="constrained")
    for axes, (name, shown) in zip(figure.subplots(len(views), columns, squeeze=False),
                                   views.items()):
        for axis in axes:
            axis.set(xticks=[], yticks=[], frame_on=False)
        for axis, picture in zip(axes, shown):
            axis.imshow(picture.clamp(0, 255).byte().permute(1, 2, 0).numpy())
        axes[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    save(figure, path)


def draw_answers(shown: Tensor, beliefs: Tensor, labels: Tensor, classes: list[str],
                 path: Path) -> None:
    """Test pictures with their best answers as bars, the truth in orange (paper, fig. 4)."""
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    grid = figure.subplots(4, -(-len(shown) // 2), height_ratios=(3, 2, 3, 2), squeeze=False)
    above = np.concatenate([grid[0], grid[2]])
    below = np.concatenate([grid[1], grid[3]])
    for axis in (*above[len(shown) :], *below[len(shown) :]):
        axis.axis("off")
    for number, picture in enumerate(shown):
        above[number].imshow(picture.permute(1, 2, 0).numpy())
        above[number].set_title(classes[labels[number]], fontsize=8)
        above[number].axis("off")
        values, places = beliefs[number].topk(min(5, len(classes)))
        colours = [ORANGE if place == labels[number] else BLUE for place in places]
        below[number].barh(range(len(values)), values.numpy(), color=colours)
        for row, place in enumerate(places.tolist()):
            below[number].text(0.03, row, classes[place], va="center", fontsize=7)
        below[number].set(xlim=(0, 1), xticks=[], yticks=[])
        below[number].invert_yaxis()
    save(figure, path)


def draw_neighbours(rows: list[list[Tensor]], path: Path) -> None:
    """Each row: a test picture, then the training pictures with the nearest features."""
    figure = Figure(figsize=(0.95 * len(rows[0]), 0.95 * len(rows)), layout="constrained")
    for axes, shown in zip(figure.subplots(len(rows), len(rows[0]), squeeze=False), rows):
        for axis, picture in zip(axes, shown):
            axis.imshow(picture.permute(1, 2, 0).numpy())
            axis.axis("off")
    save(figure, path)
