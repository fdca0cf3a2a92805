"""The curves of a run: losses of both stages, and how often prompts were followed."""

# no tensors here

import csv
from pathlib import Path

from matplotlib.figure import Figure

from pictures import save

BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"   # told apart by all eyes


def draw_curves(metrics: Path, path: Path) -> None:
    """The losses of both stages, PSNR, and adherence, from metrics.csv."""
    with metrics.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(11, 3), layout="constrained")
    vae, diffusion, right = figure.subplots(1, 3)
    for axis, stage, title in ((vae, "vae", "autoencoder"),
                               (diffusion, "diffusion", "diffusion, in latents")):
        own = [row for row in rows if row["stage"] == stage]
        steps = [int(row["step"]) for row in own]
        for key, name, colour, style in (("train_loss", "training", BLUE, "-"),
                                         ("validation_loss", "validation", ORANGE, "--")):
            axis.plot(steps, [float(row[key]) for row in own], color=colour, linestyle=style,
                      marker=".", label=name)
        axis.set(title=f"loss of the {title}",
                 xlabel="step", yscale="log" if own else "linear")
    told = [row for row in rows if row["both"]]
    for key, colour in (("colour", BLUE), ("shape", ORANGE), ("both", GREEN)):
        right.plot([int(row["step"]) for row in told], [float(row[key]) for row in told],
                   color=colour, marker=".", label=key)
    right.set(title="prompts that are followed", xlabel="step", ylim=(-0.03, 1.03))
    for axis in (vae, diffusion, right):
        axis.legend(fontsize=8) if axis.lines else None
    save(figure, path)
