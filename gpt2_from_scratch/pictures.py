"""The figures of a run and of its model; what they show is computed elsewhere."""

# L layers, H heads, T tokens, N rows of the lens

import csv
import warnings
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from torch import Tensor

BLUE, ORANGE = "#0072b2", "#d55e00"   # told apart by colour-blind readers and in grey
WIDTH, SIZE = 88, 9                   # letters in a line of coloured text, and their points
LETTER = 0.602 * SIZE / 72            # inches a letter of the fixed-width font is wide


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG with nothing in it that depends on the day."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(action="ignore"):   # a sign that the font lacks becomes a box
        figure.savefig(path, dpi=110, metadata={"Software": None})


def shown(text: str) -> str:
    """A token as a label: spaces and line ends become visible, what cannot be drawn a sign."""
    text = text.replace(" ", "·").replace("\n", "⏎")
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def draw_curves(metrics: Path, path: Path, baselines: dict[str, float] | None = None) -> None:
    """Losses and learning rate, from metrics.csv; `baselines` are in nats a character."""
    with metrics.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    losses, characters, rate = figure.subplots(1, 3)

    def line(axis: object, name: str, **style: object) -> None:
        axis.plot([int(row["step"]) for row in rows], [float(row[name]) for row in rows],
                  **style)

    line(losses, "train_loss", color=BLUE, label="training")
    line(losses, "validation_loss", color=ORANGE, marker=".", linestyle="--",
         label="validation")
    losses.set(xlabel="step", ylabel="nats a token", title="loss")
    losses.legend(fontsize=8, loc="upper right")
    line(characters, "nats_per_character", color=ORANGE, marker=".")
    for name, value in (baselines or {}).items():
        characters.axhline(value, color="grey", linestyle=":")
        characters.annotate(name, (1, value), xycoords=("axes fraction", "data"), fontsize=7,
                            ha="right", va="bottom", color="grey")
    characters.set(xlabel="step", ylabel="nats a character", title="validation")
    line(rate, "lr", color=BLUE)
    rate.set(xlabel="step", title="learning rate", ylim=(0, None))
    save(figure, path)


# ---------------------------------------------------------------- a model


def draw_attention(tokens: list[str], weights: Tensor, path: Path) -> None:
    """How much each token (row) takes from each (column), in every head: (L, H, T, T)."""
    layers, heads, count, _ = weights.shape
    side = max(1.8, 0.15 * count + 0.7)
    figure = Figure(figsize=(side * heads, side * layers), layout="constrained")
    names = [shown(token) for token in tokens]
    for layer, row in enumerate(figure.subplots(layers, heads, squeeze=False)):
        for head, axis in enumerate(row):
            axis.imshow(weights[layer, head].numpy(), cmap="Blues", vmin=0, vmax=1,
                        interpolation="nearest")
            axis.set_title(f"layer {layer + 1}, head {head + 1}", fontsize=8)
            below, beside = layer == layers - 1, head == 0
            axis.set_xticks(range(count), names if below else [""] * count, rotation=90,
                            fontsize=6, parse_math=False)
            axis.set_yticks(range(count), names if beside else [""] * count, fontsize=6,
                            parse_math=False)
    save(figure, path)


def lay_out(tokens: list[str], width: int) -> list[tuple[int, int, int, str]]:
    """Where the pieces of running text stand: token, line, column and what is written.

    A line breaks at its end and after a line end in the text; a token may be in two pieces.
    """
    pieces, line, column = [], 0, 0
    for number, token in enumerate(tokens):
        for letter in token:
            if column == width:
                line, column = line + 1, 0
            if pieces and pieces[-1][:2] == (number, line):
                pieces[-1] = (*pieces[-1][:3], pieces[-1][3] + letter)
            else:
                pieces.append((number, line, column, letter))
            column += 1
            if letter == "\n":
                line, column = line + 1, 0
    return pieces


def draw_surprise(tokens: list[str], losses: list[float], most: float, path: Path) -> None:
    """A text in which every token but the first is the redder, the less it was expected.

    White is no surprise, and the strongest red are `most` nats. Of the first nothing is known.
    """
    pieces = lay_out(tokens, WIDTH)
    lines, reds = pieces[-1][1] + 1, matplotlib.colormaps["Reds"]
    figure = Figure(figsize=(WIDTH * LETTER, (lines + 2) * 1.5 * SIZE / 72))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, WIDTH), ylim=(lines, -2))
    axis.axis("off")
    axis.text(0.5, -1, f"white: expected; reddest: a surprise of {most:.1f} nats or more; "
              "grey: the first", family="monospace", fontsize=SIZE, va="center", color="grey")
    for number, line, column, text in pieces:
        strength = min(losses[number - 1] / most, 1) if number else None
        colour = "lightgrey" if strength is None else reds(0.9 * strength)
        axis.barh(line + 0.5, len(text), 0.9, column, color=colour)
        axis.text(column, line + 0.5, shown(text).replace("·", " "), family="monospace",
                  fontsize=SIZE, va="center", parse_math=False,
                  color="white" if (strength or 0) > 0.6 else "black")
    save(figure, path)


def draw_lens(tokens: list[str], guesses: list[list[str]], shares: Tensor, path: Path) -> None:
    """What each layer would say comes next after each token: shares (N, T), darker is surer."""
    rows, count = shares.shape
    figure = Figure(figsize=(max(4.0, 0.75 * count + 1.2), 0.32 * rows + 1.4),
                    layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, names in enumerate(guesses):
        for place, name in enumerate(names):
            axis.text(place, row, shown(name)[:10], ha="center", va="center", fontsize=7,
                      parse_math=False, color="white" if shares[row, place] > 0.5 else "black")
    axis.set_xticks(range(count), [shown(token) for token in tokens], fontsize=8, rotation=45,
                    ha="right", parse_math=False)
    axis.set_yticks(range(rows), ["embedding", *(f"layer {i}" for i in range(1, rows))],
                    fontsize=8)
    axis.invert_yaxis()                       # the last layer is on top
    axis.set(xlabel="after this token", title="the next token, as each layer would name it")
    figure.colorbar(image, ax=axis, label="its probability")
    save(figure, path)
