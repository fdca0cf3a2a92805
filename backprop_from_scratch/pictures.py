"""Every picture of this folder; `visualize.py` and `train.py` say when to draw which."""

# N samples, M places in a plane, K classes, S steps, L linear layers; I inputs, O outputs

import csv
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

import graph
from autograd import Value
from landscape import plane_of_path, random_direction, surface
from losses import softmax
from model import ACTIVATIONS, Linear, Network, build
from watch import Film

BLUE, ORANGE = "#0072b2", "#d55e00"   # told apart by colour-blind readers and in grey
CLASS_COLOURS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167))
BESIDE = {"fontsize": 8, "loc": "center left", "bbox_to_anchor": (1, 0.5)}   # for legends
MOST_UNITS = 16      # of a layer that the drawing of a network shows
GRID = 41            # places a side of a landscape; odd, so that one is the middle
SIDE, FRAMES = 240, 30


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG with nothing in it that depends on the day."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def draw_curves(metrics: Path, score: str, path: Path) -> None:
    """Loss and score of each epoch, from metrics.csv."""
    with metrics.open(newline="", encoding="utf-8") as file:
        rows = [{key: float(row[key]) for key in row} for row in csv.DictReader(file)]
    epochs, scores = ([row[key] for row in rows] for key in ("epoch", "validation_score"))
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    losses, right = figure.subplots(1, 2)
    losses.semilogy(epochs, [row["train_loss"] for row in rows], color=BLUE, label="training")
    losses.semilogy(epochs, [row["validation_loss"] for row in rows], color=ORANGE,
                    linestyle="--", label="validation")
    losses.set(xlabel="epoch", ylabel="loss", title="loss")
    losses.legend()
    right.plot(epochs, scores, color=ORANGE, marker=".")
    right.set(xlabel="epoch", ylabel=f"validation {score}",
              title=f"validation {score}, {max(scores):.4f} at best")
    save(figure, path)


# ---------------------------------------------------------------- a network, its activations


def strongest(network: Network) -> list[np.ndarray]:
    """For each layer of units, inputs first, at most 16 with the strongest weights, in order.

    Strength is the length of the weights that lead away, for outputs of those that lead in.
    """
    weights = [layer.parameters["weight"] for layer in network.layers
               if isinstance(layer, Linear)]
    strengths = [np.linalg.norm(weight, axis=1) for weight in weights]
    strengths.append(np.linalg.norm(weights[-1], axis=0))
    return [np.sort(strength.argsort()[::-1][:MOST_UNITS]) for strength in strengths]


def draw_architecture(network: Network, config: dict, path: Path) -> None:
    """Units as dots, weights as lines: width is size, orange pulls up and blue pulls down."""
    weights = [layer.parameters["weight"] for layer in network.layers
               if isinstance(layer, Linear)]
    units = strongest(network)
    heights = [(np.arange(len(shown)) - (len(shown) - 1) / 2) * MOST_UNITS / len(shown) ** 0.8
               for shown in units]
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axis = figure.subplots()
    for number, weight in enumerate(weights):
        shown = weight[np.ix_(units[number], units[number + 1])]       # (I, O)
        order = np.abs(shown).ravel().argsort()                        # the strongest on top
        left, right = (index.ravel()[order] for index in np.indices(shown.shape))
        lines = [[(number, heights[number][i]), (number + 1, heights[number + 1][j])]
                 for i, j in zip(left, right)]
        share = shown.ravel()[order] / np.abs(shown).max()             # from -1 to 1
        axis.add_collection(LineCollection(
            lines, linewidths=2.5 * np.abs(share), alpha=0.8,
            colors=[ORANGE if value > 0 else BLUE for value in share]))
    for number, (shown, size) in enumerate(zip(units, config["sizes"])):
        axis.scatter(np.full(len(shown), number), heights[number], s=40, color="white",
                     edgecolor="black", zorder=3)
        all_of_them = f"{size}" if len(shown) == size else f"{len(shown)} of {size}"
        kind = "inputs" if number == 0 else "outputs" if number == len(weights) else "units"
        axis.text(number, max(map(max, heights)) + 1, f"{all_of_them} {kind[:-1]}" if size == 1
                  else f"{all_of_them} {kind}", ha="center")
    figure.suptitle(f"{Path(config['data']).stem}, {config['activation']}")
    axis.axis("off")
    save(figure, path)


def draw_activations(path: Path) -> None:
    """The three activations and their slopes, asked of the layers themselves."""
    z = np.linspace(-5, 5, 1001)[:, None]                              # (1001, 1)
    figure = Figure(figsize=(8, 2.8), layout="constrained")
    for axis, (name, activation) in zip(figure.subplots(1, 3, sharex=True),
                                        ACTIVATIONS.items()):
        layer = activation()
        axis.plot(z, layer.forward(z), color=BLUE, label="value")
        slopes = layer.backward(np.ones_like(z))                       # (1001, 1)
        axis.plot(z, slopes, color=ORANGE, linestyle="--", label="slope")
        axis.set(title=f"{name}: slope up to {slopes.max():g}", ylim=(-1.2, 2.2))
        axis.grid(alpha=0.3)
    axis.legend()
    save(figure, path)


# ---------------------------------------------------------------- inside a training run


def draw_flow(films: dict[str, Film], path: Path) -> None:
    """The size of the gradient in each layer, step by step, for several activations."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots(1, len(films), sharey=True)
    for axis, (name, film) in zip(axes, films.items()):
        _draw_layers(axis, film.gradients)
        axis.set(title=f"{name}, {len(film.gradients[0])} layers", xlabel="step")
    axes[0].set_ylabel("root mean square of ∂L/∂weight")
    axes[-1].legend(**BESIDE)
    save(figure, path)


def draw_ratios(film: Film, path: Path) -> None:
    """How far a step changes the weights of each layer, as a share of the weights."""
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axis = figure.subplots()
    _draw_layers(axis, film.ratios)
    axis.axhline(1e-3, color="black", linestyle=":")
    axis.set(xlabel="step", ylabel="change / weights", title=advice(film))
    axis.legend(**BESIDE)
    save(figure, path)


def advice(film: Film) -> str:
    """What the update-to-weight ratios of the second half say about the learning rate."""
    ratio = float(np.median(film.ratios[len(film.ratios) // 2 :]))
    if ratio > 1e-2:
        return f"median {ratio:.1e}, far above 1e-3: try a lower --lr"
    if ratio < 1e-4:
        return f"median {ratio:.1e}, far below 1e-3: try a higher --lr"
    return f"median {ratio:.1e}, in the usual range around 1e-3"


def _draw_layers(axis: object, values: np.ndarray) -> None:
    """A line for each layer, smoothed over up to 20 steps; values (S, L)."""
    for number, column in enumerate(values.T):
        width = min(20, len(column))
        smooth = np.convolve(column, np.ones(width) / width, mode="valid") + 1e-300   # log of 0
        axis.semilogy(np.arange(width, len(column) + 1), smooth,
                      color=_shade(number, values.shape[1]), label=f"layer {number + 1}")


def _shade(number: int, layers: int) -> tuple[float, float, float, float]:
    """A colour for a layer, from dark for the first to light for the last."""
    return colormaps["viridis"](0.9 * number / max(1, layers - 1))


def draw_dead(films: dict[str, Film], path: Path) -> None:
    """The share of ReLU units that no training sample wakes, epoch by epoch."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    for axis, (name, film) in zip(figure.subplots(1, len(films), sharey=True), films.items()):
        for number, column in enumerate(film.dead.T):
            axis.plot(100 * column, label=f"layer {number + 1}", marker=".",
                      color=_shade(number, film.dead.shape[1]))
        axis.set(title=f"{name}: {100 * film.dead[-1].mean():.0f} % dead at the end",
                 xlabel="epoch", ylabel="dead units (%)", ylim=(-3, 103))
    figure.axes[-1].legend(**BESIDE)
    save(figure, path)


# ---------------------------------------------------------------- boundary and landscape


def probabilities(film: Film, epoch: int, places: np.ndarray) -> np.ndarray:
    """What a film's network believed after an epoch, (M, K), at standardised places (M, 2)."""
    network = build(film.config)
    start = 0
    for w in network.parameters.values():
        w[...] = film.path[epoch, start : start + w.size].reshape(w.shape)
        start += w.size
    return softmax(network.forward(places))                            # (M, K)


def draw_boundary(film: Film, path: Path) -> None:
    """A moving picture of the decision boundary, from the first weights to the last."""
    x, labels = film.part                                              # (N, 2), (N,)
    reach = 1.1 * np.abs(x).max()
    half = SIDE // 2                                    # places a side, each of 2×2 pixels
    ticks = ((np.arange(half) + 0.5) / half * 2 - 1) * reach           # their middles
    across, up = np.meshgrid(ticks, -ticks)
    places = np.stack([across.ravel(), up.ravel()], axis=1)            # (M, 2)
    pixels = (x / reach * [1, -1] + 1) * SIDE / 2 - 0.5                # (N, 2)
    last = len(film.path) - 1
    wanted = np.arange(film.config["sizes"][-1]) % len(CLASS_COLOURS)  # (K,)
    colours = np.array(CLASS_COLOURS)[wanted]                          # (K, 3)
    frames = []
    for epoch in np.unique(np.round(np.linspace(0, last**0.5, FRAMES) ** 2)).astype(int):
        p = probabilities(film, epoch, places)                         # (M, K)
        mixed = (0.6 * (p @ colours) + 0.4 * 255).reshape(len(ticks), len(ticks), 3)
        frame = Image.fromarray(mixed.astype(np.uint8)).resize((SIDE, SIDE))
        pen = ImageDraw.Draw(frame)
        for (column, row), label in zip(pixels, labels):
            pen.ellipse([column - 2, row - 2, column + 2, row + 2],
                        fill=tuple(map(int, colours[label])))
        pen.text((6, SIDE - 16), f"epoch {epoch}", fill="black")
        frames.append(frame.quantize(32, dither=Image.Dither.NONE))
    path.parent.mkdir(parents=True, exist_ok=True)
    frames[0].save(path, save_all=True, append_images=frames[1:] + frames[-1:] * 10,
                   duration=150, loop=0)


def draw_landscape(film: Film, seed: int, path: Path) -> None:
    """The loss around the trained weights, and along the way that led to them."""
    rng = np.random.default_rng(seed)
    network = film.network
    ticks = np.arange(-(GRID // 2), GRID // 2 + 1) / (GRID // 2)       # (41,), the middle is 0
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    directions = random_direction(network, rng), random_direction(network, rng)
    heights = surface(network, film.loss, film.part, directions, ticks, ticks)
    _draw_heights(figure, left, heights, ticks, ticks)
    left.plot(0, 0, marker="*", color=ORANGE, markersize=12)
    left.set(title="two random directions, unit by unit", xlabel="a", ylabel="b")
    axes, coordinates, share = plane_of_path(network, film.path)
    low, high = coordinates.min(axis=0), coordinates.max(axis=0)
    across, up = (np.linspace(a - 0.25 * (b - a), b + 0.25 * (b - a), GRID)
                  for a, b in zip(low, high))
    heights = surface(network, film.loss, film.part, axes, across, up)
    _draw_heights(figure, right, heights, across, up)
    right.plot(*coordinates.T, color=ORANGE, marker=".", markersize=4)
    right.plot(0, 0, marker="*", color=ORANGE, markersize=12)
    right.set(title=f"the way there, {share:.0%} of it in this plane",
              xlabel="first direction", ylabel="second direction")
    save(figure, path)


def _draw_heights(figure: Figure, axis: object, heights: np.ndarray, across: np.ndarray,
                  up: np.ndarray) -> None:
    """Lines of equal loss, evenly spaced in its logarithm."""
    logs = np.log10(heights + 1e-12)
    filled = axis.contourf(across, up, logs, levels=20, cmap="viridis")
    figure.colorbar(filled, ax=axis, label="log₁₀ of the loss")


def draw_graph(path: Path) -> None:
    """A neuron with its loss, number by number, as `autograd` sees it."""
    x1, x2, target = Value(1.0, "x1"), Value(2.0, "x2"), Value(1.0, "y")
    w1, w2, bias = Value(0.3, "w1"), Value(-0.4, "w2"), Value(0.1, "b")
    difference = (w1 * x1 + w2 * x2 + bias).tanh() - target
    loss = difference * difference
    loss.name = "loss = ×"
    loss.backward()
    graph.draw(loss, path)
