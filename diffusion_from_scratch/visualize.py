"""Pictures of a trained diffusion model: how pictures drown, how they come back, by whose rule.

    python visualize.py                        # of the newest run, else of the pretrained model
"""

# N pictures, C channels, H height and W width

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

import checkpoint
import console
import devices
import pictures
from data import NAMES, load, on_disk, to_input
from diffusion import Sampling, gaussian
from measures import nearest
from painter import Painter

MOMENTS = 10                     # on the way there and back
SHOWN = 10                       # pictures of a row
GUIDANCE = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
STEPS = (1, 2, 5, 10, 20, 50)


def forward_process(painter: Painter, x: Tensor, seed: int) -> Tensor:
    """Each picture (N, C, H, W) at ten times, a row each: pictures from 0 to 1."""
    s = painter.diffusion.schedule
    t = torch.linspace(0, len(s) - 1, MOMENTS).long()                  # (10,)
    x = x.repeat_interleave(MOMENTS, 0).to(painter.device)             # (10*N, C, H, W)
    noise = gaussian(x, torch.Generator().manual_seed(seed))
    moments = t.repeat(len(x) // MOMENTS).to(painter.device)
    return painter.show(painter.diffusion.q_sample(x, moments, noise))


def way_back(painter: Painter, how: Sampling, count: int, seed: int) -> Tensor:
    """For each picture two rows: noised ones on the way back, and what they are taken for."""
    seen: list[tuple[Tensor, Tensor]] = []
    painter.paint(painter.noise(count, seed), painter.labels(count), how, seed,
                  watch=lambda i, x, x0: seen.append((painter.show(x), painter.show(x0))))
    chosen = torch.linspace(0, len(seen) - 1, MOMENTS).long().tolist()
    rows = [torch.stack([seen[moment][which][number] for moment in chosen])
            for number in range(count) for which in (0, 1)]            # each (10, C, H, W)
    return torch.cat(rows)


def samplers(painter: Painter, seed: int) -> Tensor:
    """From one noise: DDIM in one step to fifty, then DDPM, a row each."""
    noise, labels = painter.noise(SHOWN, seed), painter.labels(SHOWN)  # (10, C, H, W), (10,)
    times = painter.config["times"]
    ways = [Sampling(steps=steps) for steps in STEPS if steps <= times]
    ways += [Sampling("ddpm", steps=min(250, times))]
    return torch.cat([painter.paint(noise, labels, how, seed) for how in ways])


def guidance_sweep(painter: Painter, seed: int) -> Tensor:
    """The same noise with more and more guidance, a row each."""
    noise, labels = painter.noise(SHOWN, seed), painter.labels(SHOWN)  # (10, C, H, W), (10,)
    steps = min(20, painter.config["times"])
    return torch.cat([painter.paint(noise, labels, Sampling(steps=steps, guidance=guidance),
                                    seed) for guidance in GUIDANCE])


def draw_all(painter: Painter, args: argparse.Namespace, seed: int, out: Path) -> list[str]:
    """Every figure that this model allows; gives their names."""
    steps = Sampling(steps=min(50, painter.config["times"]))
    asked = steps._replace(guidance=1.0 if painter.classes else 0.0)
    sheets = {"reverse.png": way_back(painter, asked, 3, seed),
              "samplers.png": samplers(painter, seed)}
    if painter.classes:
        sheets["guidance.png"] = guidance_sweep(painter, seed)
    name = args.data or painter.config["data"]
    if args.data or on_disk(name, args.data_dir):
        data = load(name, args.data_dir, painter.config["image_size"], painter.config["seed"])
        painter.check_size(data)
        x = to_input(data.test.images[:3], painter.config["centred"])  # (3, C, H, W)
        sheets["forward.png"] = forward_process(painter, x, seed)
        drawn = painter.samples(SHOWN, steps, seed)                    # (10, C, H, W)
        train = data.train.images.float() / 255
        sheets["neighbours.png"] = torch.cat([drawn, train[nearest(drawn, train)[0]]])
    for file, sheet in sheets.items():
        pictures.save_tiles(sheet, SHOWN, out / file)
    pictures.draw_schedules(painter.config["times"], out / "schedules.png")
    return [*sheets, "schedules.png"]


@console.one_line_errors
@torch.no_grad()
def main(argv: list[str] | None = None) -> int:
    """Draw everything that can be seen of a trained diffusion model."""
    parser = console.inference_parser("Draw what a trained diffusion model does.")
    console.add_data_flags(parser, NAMES, default=None)
    args = parser.parse_args(argv)
    path = args.checkpoint or checkpoint.newest(Path(__file__).resolve().parent)
    painter = Painter.open(path, devices.choose(args.device))
    names = draw_all(painter, args, args.seed, args.out)
    metrics = path.with_name("metrics.csv")
    if metrics.exists() and metrics.read_text(encoding="utf-8").count("\n") > 1:
        pictures.draw_curves(metrics, args.out / "loss.png")
        names.append("loss.png")
    print(f"wrote {', '.join(names)} to {console.from_here(args.out)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
