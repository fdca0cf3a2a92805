"""The figures of a run and of its network; what they show is computed elsewhere."""

# K classes, L positions, C channels, H heads, T tokens

import csv
from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor

BLUE, ORANGE = "#0072b2", "#d55e00"   # told apart by colour-blind readers and in grey


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG with nothing in it that depends on the day."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def draw_curves(metrics: Path, path: Path) -> None:
    """Loss, accuracy and learning rate of each epoch, from metrics.csv."""
    with metrics.open(newline="", encoding="utf-8") as file:
        rows = [{key: float(row[key]) for key in row} for row in csv.DictReader(file)]
    epochs = [row["epoch"] for row in rows]
    figure = Figure(figsize=(9, 3), layout="constrained")
    losses, accuracy, rate = figure.subplots(1, 3)
    losses.plot(epochs, [row["train_loss"] for row in rows], color=BLUE, marker=".",
                label="training, as minimised")
    losses.plot(epochs, [row["validation_loss"] for row in rows], color=ORANGE, marker=".",
                linestyle="--", label="validation")
    losses.set(xlabel="epoch", ylabel="loss (nats)", title="loss", ylim=(0, None))
    losses.legend(fontsize=8, loc="upper right")
    rights = [100 * row["validation_accuracy"] for row in rows]
    accuracy.plot(epochs, rights, color=ORANGE, marker=".")
    accuracy.set(xlabel="epoch", ylabel="validation accuracy (%)", ylim=(None, 100.5),
                 title=f"accuracy, {max(rights):.1f} % at best")
    rate.plot(epochs, [row["lr"] for row in rows], color=BLUE, marker=".")
    rate.set(xlabel="epoch", title="learning rate", ylim=(0, None))
    save(figure, path)


def draw_confusion(table: Tensor, classes: list[str], path: Path) -> None:   # (K, K)
    """How often each class was answered as which; the diagonal is right."""
    side = max(4.0, 0.55 * len(classes) + 2)
    figure = Figure(figsize=(side, side), layout="constrained")
    axis = figure.subplots()
    shares = table / table.sum(1, keepdim=True).clamp(min=1)           # (K, K)
    axis.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    for i, row in enumerate(table.tolist()):
        for j, count in enumerate(row):
            axis.text(j, i, count, ha="center", va="center", fontsize=9,
                      color="white" if shares[i, j] > 0.5 else "black")
    axis.set_xticks(range(len(classes)), classes, rotation=45, ha="right", parse_math=False)
    axis.set_yticks(range(len(classes)), classes, parse_math=False)    # a $ is only a $
    axis.set(xlabel="answer", ylabel="truth", title="texts by truth and answer")
    save(figure, path)


# ---------------------------------------------------------------- a network


def draw_positions(table: Tensor, likeness: Tensor, path: Path) -> None:   # (L, C), (L, L)
    """The waves that say where a word stands, and how alike those of two places are."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    image = left.imshow(table.numpy(), cmap="RdBu", vmin=-1, vmax=1, aspect="auto",
                        interpolation="nearest")
    left.set(xlabel="channel", ylabel="position", title="what is added to a word")
    figure.colorbar(image, ax=left)
    image = right.imshow(likeness.numpy(), cmap="Blues", interpolation="nearest")
    right.set(xlabel="position", ylabel="position", title="how alike two positions are")
    figure.colorbar(image, ax=right)
    save(figure, path)


def draw_attention(words: list[str], weights: Tensor, path: Path) -> None:
    """How much each word (row) takes from each word (column): weights (layers, H, T, T)."""
    layers, heads, count, _ = weights.shape
    side = max(2.2, 0.17 * count + 0.8)
    figure = Figure(figsize=(side * heads, side * layers), layout="constrained")
    grid = figure.subplots(layers, heads, squeeze=False)
    for layer, row in enumerate(grid):
        for head, axis in enumerate(row):
            axis.imshow(weights[layer, head].numpy(), cmap="Blues", vmin=0,
                        interpolation="nearest")
            axis.set_title(f"layer {layer + 1}, head {head + 1}", fontsize=9)
            axis.set_xticks(range(count), words, rotation=90, fontsize=6, parse_math=False)
            axis.set_yticks(range(count), words if head == 0 else [""] * count, fontsize=6,
                            parse_math=False)
    save(figure, path)


def draw_order(twins: dict[str, tuple[Tensor, Tensor]], path: Path) -> None:
    """How probable the right class is, for pairs of sentences that have the same words."""
    figure = Figure(figsize=(4.2 * len(twins), 4), layout="constrained")
    for axis, (name, (one, two)) in zip(figure.subplots(1, len(twins), squeeze=False)[0],
                                        twins.items()):
        first, second = name.split(" or ")
        axis.plot([0, 1], [1, 0], color="grey", linestyle=":",
                  label="blind to order: 1 in all at most")
        axis.plot(one.numpy(), two.numpy(), "o", color=BLUE, alpha=0.6,
                  label="a sentence and its twin")
        axis.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal",
                 xlabel=f"probability of {first} where it comes first",
                 ylabel=f"probability of {second} where it comes first", title=name)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    save(figure, path)


def draw_sizes(table: dict[tuple[int, int], list[float]], path: Path) -> None:
    """Accuracies (%) of each seed, by the number of layers and of heads."""
    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axis = figure.subplots()
    for place, (layers, heads) in enumerate(table):
        values = table[layers, heads]
        axis.plot([place] * len(values), values, "o", color=BLUE, alpha=0.6)
        axis.plot([place - 0.25, place + 0.25], [sum(values) / len(values)] * 2, color=ORANGE)
    axis.set_xticks(range(len(table)), [f"{layers} × {heads}" for layers, heads in table])
    axis.set(xlabel="layers × heads", ylabel="test accuracy (%)",
             title="each point a seed, each line their mean")
    save(figure, path)
