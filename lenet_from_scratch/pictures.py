"""Every picture of LeNet-5: curves, mistakes, filters, maps, stages, drawings, a photograph."""

# B pictures, N a data set, K classes, R rows and C columns of maps, H height and W width

import csv
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn

from data import Part, to_input
from model import LeNet1998

INK = "gray_r"     # ink is drawn black on white, as on paper
BLUE, ORANGE = "#0072b2", "#d55e00"   # told apart by colour-blind readers and in grey


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG with nothing in it that depends on the day."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def draw_curves(metrics: Path, path: Path) -> None:
    """Loss and error of each epoch, from metrics.csv."""
    with metrics.open(newline="", encoding="utf-8") as file:
        rows = [{key: float(row[key]) for key in row} for row in csv.DictReader(file)]
    epochs = [row["epoch"] for row in rows]
    errors = [100 * row["validation_error"] for row in rows]
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    losses, error = figure.subplots(1, 2)
    losses.semilogy(epochs, [row["train_loss"] for row in rows], color=BLUE, label="training")
    losses.semilogy(epochs, [row["validation_loss"] for row in rows], color=ORANGE,
                    linestyle="--", label="validation")
    losses.set(xlabel="epoch", ylabel="loss (nats)", title="loss")
    losses.legend()
    error.plot(epochs, errors, color=ORANGE, marker=".")
    error.set(xlabel="epoch", ylabel="validation error (%)", ylim=(0, None),
              title=f"validation error, {min(errors):.2f} % at best")
    save(figure, path)


def draw_mistakes(part: Part, probabilities: Tensor, classes: list[str], path: Path) -> None:
    """The wrong answers of which the network was most sure, at most twenty-four."""
    belief, answer = probabilities.max(1)                              # each (N,)
    wrong = (answer != part.labels.cpu()).nonzero().flatten()
    wrong = wrong[belief[wrong].argsort(descending=True)][:24]
    figure = Figure(figsize=(8, 4.4), layout="constrained")
    figure.suptitle(f"{len(wrong)} most confident mistakes of {len(part.labels):,} pictures")
    for axis, i in zip(figure.subplots(3, 8).flat, wrong.tolist()):
        axis.imshow(part.images[i].cpu().numpy(), cmap=INK)
        right, said = classes[part.labels[i]], classes[answer[i]]
        axis.set_title(f"{right} read as {said}\n{belief[i]:.0%} sure", fontsize=7)
    for axis in figure.axes:
        axis.axis("off")
    save(figure, path)


def draw_filters(model: nn.Module, path: Path) -> None:
    """The kernels of both convolutions; of the second, a row for each map it looks at."""
    if isinstance(model, LeNet1998):
        first, second = model.c1.weight, model.c3.weight()
    else:
        first, second = model.conv1.weight, model.conv2.weight
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots(1, 2, width_ratios=(1, 4))
    for axis, weight, title in zip(axes, (first, second.transpose(0, 1)), ("first", "second")):
        grid = _tile(weight.detach().cpu())
        limit = float(np.nanmax(np.abs(grid)))
        axis.imshow(grid, cmap="RdBu_r", vmin=-limit, vmax=limit)
        axis.set_title(f"{title}: up to ±{limit:.2f}", fontsize=10)
        axis.axis("off")
    save(figure, path)


def _tile(maps: Tensor) -> np.ndarray:
    """Maps (R, C, H, W) as one picture of R rows and C columns with gaps of one pixel."""
    padded = torch.nn.functional.pad(maps, (1, 1, 1, 1), value=float("nan"))
    rows, columns, height, width = padded.shape
    return padded.transpose(1, 2).reshape(rows * height, columns * width).numpy()


@torch.no_grad()
def draw_maps(model: nn.Module, config: dict, image: Tensor, path: Path) -> None:
    """The way of one picture (28, 28) through the network, map by map, to the answer."""
    seen = []
    hooks = [layer.register_forward_hook(lambda _layer, _inputs, output: seen.append(output))
             for layer in model.children()]
    inputs = image[None].to(next(model.parameters()).device)
    logits = model(to_input(inputs, config["mean"], config["std"]))
    for hook in hooks:
        hook.remove()
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    parts = [image[None, None].float()] + [output for output in seen if output.ndim == 4]
    parts = [part for part in parts if part.size(-1) > 1]
    axes = figure.subplots(1, len(parts) + 1, width_ratios=[1.4] * len(parts) + [1.2])
    for axis, part in zip(axes, parts):
        columns = int(part.size(1) ** 0.5)
        axis.imshow(_tile(part[0].unflatten(0, (-1, columns)).cpu()), cmap=INK)
        axis.set_title("×".join(map(str, part.shape[1:])), fontsize=10)
        axis.axis("off")
    axes[-1].barh(config["classes"], model.probabilities(logits)[0].tolist(), color=BLUE)
    axes[-1].set(xlim=(0, 1), title="probability")
    axes[-1].invert_yaxis()
    save(figure, path)


def draw_strip(stages: dict[str, np.ndarray], answer: str, path: Path) -> None:
    """The stages of a picture's preparation side by side, the answer above them all."""
    figure = Figure(figsize=(1.9 * len(stages), 2.3), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(stages)))
    for axis, (name, stage) in zip(axes, stages.items()):
        paper = name == "as read"
        low = -1 if name.startswith(("F6", "target")) else 0
        axis.imshow(stage, cmap="gray" if paper else INK, vmin=low, vmax=1)
        axis.set_title(f"{name}\n{stage.shape[1]}×{stage.shape[0]}", fontsize=9)
        axis.set(xticks=[], yticks=[])
    figure.suptitle(answer, fontsize=11)
    save(figure, path)


def draw_photo(image: Tensor, path: Path) -> None:
    """A picture (28, 28) as a telephone would see it: pencil on grainy, unevenly lit paper."""
    dice = np.random.default_rng(0)
    ink = Image.fromarray(image.cpu().numpy()).rotate(6, Image.Resampling.BICUBIC)
    ink = np.asarray(ink.resize((224, 224), Image.Resampling.BICUBIC)) / 255
    sheet = np.pad(ink, ((60, 116), (150, 26)))                        # off centre, (400, 400)
    y, x = np.indices(sheet.shape) / sheet.shape[0]
    light = 0.9 - 0.25 * x - 0.15 * y * y
    photo = light * (1 - 0.7 * sheet) + dice.normal(0, 0.02, sheet.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((255 * photo.clip(0, 1)).astype(np.uint8)).save(path, quality=85)


@torch.no_grad()
def draw_codes(model: LeNet1998, config: dict, part: Part, path: Path) -> None:
    """What F6 draws for one picture of each digit, beside the drawing it should make."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    rows = figure.subplots(3, 10)
    for digit in range(10):
        image = part.images[(part.labels == digit).nonzero()[0, 0]]
        inputs = image[None].to(model.output.centres.device)
        drawing = model.draw(to_input(inputs, config["mean"], config["std"]))
        drawings = (image, drawing.view(12, 7), model.output.centres[digit].view(12, 7))
        for axis, picture in zip(rows[:, digit], drawings):
            axis.imshow(picture.cpu().numpy(), cmap=INK)
            axis.set(xticks=[], yticks=[])
    for axis, name in zip(rows[:, 0], ("picture", "F6 draws", "target")):
        axis.set_ylabel(name)
    save(figure, path)
