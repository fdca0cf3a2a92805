"""The figures of a run and of its network; what they show is computed elsewhere.

`explain.py` and `measures.py` hold the mathematics behind them.
"""

# N pictures, K classes, R rows and C columns of a grid, H height, W width

import csv
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from torch import Tensor, nn

from data import Part
from measures import Calibration, confusion

INK = "gray_r"     # ink is drawn black on white, as on paper
BLUE, ORANGE = "#0072b2", "#d55e00"   # told apart by colour-blind readers and in grey


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG with nothing in it that depends on the day."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})


# ---------------------------------------------------------------- a run


def draw_curves(metrics: Path, path: Path) -> None:
    """Loss, error and learning rate of each epoch, from metrics.csv."""
    with metrics.open(newline="", encoding="utf-8") as file:
        rows = [{key: float(row[key]) for key in row} for row in csv.DictReader(file)]
    epochs = [row["epoch"] for row in rows]
    errors = [100 * row["validation_error"] for row in rows]
    figure = Figure(figsize=(9, 3), layout="constrained")
    losses, error, rate = figure.subplots(1, 3)
    losses.semilogy(epochs, [row["train_loss"] for row in rows], color=BLUE, marker=".",
                    label="training (smoothed, distorted)")
    losses.semilogy(epochs, [row["validation_loss"] for row in rows], color=ORANGE,
                    marker=".", linestyle="--", label="validation")
    losses.set(xlabel="epoch", ylabel="loss (nats)", title="loss")
    losses.legend(fontsize=8)
    error.plot(epochs, errors, color=ORANGE, marker=".")
    error.set_yscale("symlog", linthresh=0.1)        # logarithmic, and yet with a place for 0
    error.set(xlabel="epoch", ylabel="validation error (%)", ylim=(0, None),
              title=f"validation error, {min(errors):.2f} % at best")
    rate.plot(epochs, [row["lr"] for row in rows], color=BLUE, marker=".")
    rate.set(xlabel="epoch", title="learning rate", ylim=(0, None))
    save(figure, path)


def draw_parallel(table: dict[str, list[float]], errors: list[float], winner: int,
                  path: Path) -> None:
    """Each trial of a search as a line through its settings, coloured by its error (%)."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axis = figure.subplots()
    columns = {**table, "error (%)": errors}
    heights = []
    for name, values in columns.items():
        linear = name in ("dropout", "augment")
        values = np.array(values) if linear else np.log(np.maximum(values, 1e-9))
        heights.append((values - values.min()) / max(np.ptp(values), 1e-9))
    order = np.argsort(errors)[::-1]                                   # better ones lie on top
    colours = colormaps["viridis_r"](np.array(heights[-1]) * 0.9)
    for trial in order:
        axis.plot([height[trial] for height in heights], color=colours[trial],
                  linewidth=3 if trial == winner else 1.2,
                  zorder=3 if trial == winner else 2)
    for place, (name, values) in enumerate(columns.items()):
        axis.axvline(place, color="grey", linewidth=0.6)
        for height, value in ((-0.07, min(values)), (1.04, max(values))):
            axis.text(place, height, f"{value:.3g}", ha="center", fontsize=8)
        axis.text(place, 1.14, name, ha="center", fontsize=9)
    axis.set(ylim=(-0.12, 1.2))
    axis.axis("off")
    save(figure, path)


# ---------------------------------------------------------------- a test set


def draw_styles(rows: dict[str, list[np.ndarray]], path: Path) -> None:
    """Drawn pictures (H, W) in rows by style."""
    columns = max(map(len, rows.values()))
    figure = Figure(figsize=(0.55 * columns + 0.9, 0.56 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes, (style, sheets) in zip(grid, rows.items()):
        for axis, sheet in zip(axes, sheets):
            axis.imshow(sheet, cmap="gray", vmin=0, vmax=255)
            axis.set(xticks=[], yticks=[])
        axes[0].set_ylabel(style, rotation=0, ha="right", va="center", fontsize=8)
    save(figure, path)


def draw_mistakes(part: Part, logits: Tensor, classes: list[str], path: Path) -> None:
    """The wrong answers of which the network was most sure, at most forty."""
    belief, answer = logits.softmax(1).max(1)                          # each (N,)
    wrong = (answer != part.labels.cpu()).nonzero().flatten()
    wrong = wrong[belief[wrong].argsort(descending=True)][:40]
    figure = Figure(figsize=(9, 5.6), layout="constrained")
    figure.suptitle(f"{len(wrong)} most confident mistakes of {len(part.labels):,} pictures")
    for axis, i in zip(figure.subplots(4, 10).flat, wrong.tolist()):
        axis.imshow(part.images[i].cpu().numpy(), cmap=INK)
        right, said = classes[part.labels[i]], classes[answer[i]]
        axis.set_title(f"{right} read as {said}\n{belief[i]:.0%} sure", fontsize=7)
    for axis in figure.axes:
        axis.axis("off")
    save(figure, path)


def draw_confusion(labels: Tensor, logits: Tensor, classes: list[str], path: Path) -> None:
    """Which class is taken for which: counts, coloured by their share of the true class."""
    counts = confusion(labels.cpu(), logits.argmax(1), len(classes))   # (K, K)
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    figure = Figure(figsize=(5.6, 5), layout="constrained")
    axis = figure.subplots()
    mistakes = shares.clone().fill_diagonal_(0)
    axis.imshow(mistakes.numpy(), cmap="Oranges", vmin=0, vmax=max(float(mistakes.max()), 1e-3))
    for (row, column), count in np.ndenumerate(counts.numpy()):
        if count:
            axis.text(column, row, str(count), ha="center", va="center", fontsize=8,
                      color=BLUE if row == column else "black")
    ticks = range(len(classes))
    axis.set_xticks(ticks, classes, rotation=90 if max(map(len, classes)) > 2 else 0)
    axis.set_yticks(ticks, classes)
    axis.set(xlabel="answer", ylabel="truth")
    axis.set_title(f"{int(counts.trace()):,} of {int(counts.sum()):,} right", fontsize=10)
    save(figure, path)


def draw_calibration(measured: Calibration, path: Path) -> None:
    """How often answers are right against how sure they are; how many there are of each."""
    figure = Figure(figsize=(4.6, 4.4), layout="constrained")
    axis, below = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    sure, right, count = (values.numpy() for values in measured[:3])
    there = count > 0
    axis.plot([0, 1], [0, 1], color="grey", linewidth=0.8, label="perfect")
    axis.plot(sure[there], right[there], color=BLUE, marker="o", label="measured")
    axis.set(ylabel="share of right answers", xlim=(0, 1), ylim=(0, 1.03),
             title=f"expected calibration error {measured.error:.3f}")
    axis.legend()
    width = 1 / len(count)
    below.bar(np.arange(len(count)) * width, count, width, align="edge", color=BLUE)
    below.set(yscale="symlog", xlabel="how sure the answer was", ylabel="pictures")
    save(figure, path)


def draw_features(planes: dict[str, np.ndarray], labels: Tensor, classes: list[str],
                  path: Path) -> None:
    """Pictures as points in planes (N, 2), coloured by class, its name at its middle."""
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    colours = colormaps["tab10"](labels.numpy() % 10)
    for axis, (title, points) in zip(figure.subplots(1, len(planes)), planes.items()):
        axis.scatter(*points.T, c=colours, s=6, linewidths=0)
        for label, name in enumerate(classes):
            if not (labels == label).any():
                continue
            place = np.median(points[labels.numpy() == label], axis=0)
            axis.text(*place, name, ha="center", va="center", fontsize=13, weight="bold")
        axis.set(title=title, xticks=[], yticks=[])
    save(figure, path)


# ---------------------------------------------------------------- a network and one picture


def tile(maps: Tensor) -> np.ndarray:
    """Maps (R, C, H, W) as one picture of R rows and C columns with gaps of one pixel."""
    padded = torch.nn.functional.pad(maps, (1, 1, 1, 1), value=float("nan"))
    rows, columns, height, width = padded.shape
    return padded.transpose(1, 2).reshape(rows * height, columns * width).numpy()


def draw_filters(model: nn.Module, path: Path) -> None:
    """The kernels of both convolutions; of the second, a row for each map it looks at."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    weights = model.conv1.weight, model.conv2.weight.transpose(0, 1)
    axes = figure.subplots(1, 2, width_ratios=(1, 4))
    for axis, weight, title in zip(axes, weights, ("first", "second")):
        grid = tile(weight.detach().cpu())
        limit = float(np.nanmax(np.abs(grid)))
        axis.imshow(grid, cmap="RdBu_r", vmin=-limit, vmax=limit)
        axis.set_title(f"{title}: up to ±{limit:.2f}", fontsize=10)
        axis.axis("off")
    save(figure, path)


def draw_maps(stages: dict[str, Tensor], belief: Tensor, classes: list[str],
              path: Path) -> None:
    """The way of one picture through the network: maps (C, H, W) by name, then the answer."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.subplots(1, len(stages) + 1, width_ratios=[1.4] * len(stages) + [1.2])
    for axis, (name, maps) in zip(axes, stages.items()):
        columns = int(len(maps) ** 0.5)
        axis.imshow(tile(maps.unflatten(0, (-1, columns))), cmap=INK)
        axis.set_title(f"{name}\n{'×'.join(map(str, maps.shape))}", fontsize=10)
        axis.axis("off")
    axes[-1].barh(classes, belief.tolist(), color=BLUE)
    axes[-1].set(xlim=(0, 1), title="probability")
    axes[-1].invert_yaxis()
    save(figure, path)


def draw_explanations(image: Tensor, maps: dict[str, tuple[Tensor, Tensor, float]], title: str,
                      path: Path) -> None:
    """Explanations of the trained network above those of one whose weights were shuffled.

    `maps` holds for each name the map (H, W) of both and the likeness of the two.
    """
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    axes = figure.subplots(2, len(maps) + 1)
    figure.suptitle(title, fontsize=11)
    for row in axes:
        row[0].imshow(image.numpy(), cmap=INK)
    for column, (name, (*pair, alike)) in enumerate(maps.items(), start=1):
        for axis, heat in zip(axes[:, column], pair):
            axis.imshow(image.numpy(), cmap=INK)
            limit = max(float(heat.abs().max()), 1e-9)
            signed = bool((heat < 0).any())
            axis.imshow(heat.numpy(), cmap="RdBu_r" if signed else "Oranges", alpha=0.75,
                        vmin=-limit if signed else 0, vmax=limit)
        axes[0, column].set_title(name, fontsize=10)
        axes[1, column].set_xlabel(f"rank correlation {alike:.2f}", fontsize=9)
    axes[0, 0].set_ylabel("trained")
    axes[1, 0].set_ylabel("weights shuffled")
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    save(figure, path)


def draw_strip(stages: dict[str, np.ndarray], answer: str, path: Path) -> None:
    """The stages of a picture's preparation side by side, the answer above them all."""
    widths = [max(1.0, stage.shape[1] / stage.shape[0]) for stage in stages.values()]
    figure = Figure(figsize=(1.7 * sum(widths), 2.4), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(stages), width_ratios=widths))
    for axis, (name, stage) in zip(axes, stages.items()):
        axis.imshow(stage, cmap="gray" if name == "as read" else INK, vmin=0, vmax=1)
        axis.set_title(f"{name}\n{stage.shape[1]}×{stage.shape[0]}", fontsize=9)
        axis.set(xticks=[], yticks=[])
    figure.suptitle(answer, fontsize=11)
    save(figure, path)
