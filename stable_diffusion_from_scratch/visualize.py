"""Pictures of a trained model at work: from noise to picture, and what each knob does.

    python visualize.py                        # of the newest run, else of the pretrained model
"""

# N pictures, C channels of a latent, H height and W width of a picture

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

import checkpoint
import console
import pictures
from asking import add_drawing_flags, check
from curves import draw_curves
from inference import open_painter
from looking import look
from painter import Painter
from pipeline import floats

MOMENTS = 8                                      # of a strip from noise to picture
SEEDS = 8                                        # pictures of a row
PROMPTS = 8                                      # rows of samples
GUIDANCE = (0.0, 1.0, 2.0, 3.0, 5.0, 8.0)
STRENGTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
STEPS = (1, 2, 5, 10, 25, 50)
MIDDLE = ("a small red circle in the middle on a black background",     # where the hole is
          "a small blue square in the middle on a black background")
SAMPLERS = ("ddim", "plms", "euler", "dpm++", "ddpm", "euler-a")     # those with noise last


def film(painter: Painter, prompt: str, seed: int, **how: object) -> Image.Image:
    """Above the latents on their way, below what the model takes them for, both decoded."""
    seen: list[tuple[Tensor, Tensor]] = []
    painter.draw([prompt], [seed], watch=lambda _, x, clean: seen.append((x, clean)), **how)
    chosen = torch.linspace(0, len(seen) - 1, min(MOMENTS, len(seen))).long().tolist()
    rows = [painter.pipe.pictures(torch.cat([seen[number][which] for number in chosen]))
            for which in (0, 1)]                                       # each (N, H, W, 3)
    return pictures.labelled(torch.cat(rows), [f"step {number + 1}" for number in chosen],
                             ["latents", "without noise"])


@torch.no_grad()
def latent_channels(painter: Painter, prompt: str, seeds: Sequence[int],
                    **how: object) -> Image.Image:
    """Drawings, what the encoder makes of each, channel by channel, and what comes back."""
    vae = painter.pipe.model.vae
    drawn = painter.draw([prompt], seeds, **how)                       # (N, H, W, 3)
    sides = (side // vae.factor for side in drawn.shape[1:3])
    nothing = torch.zeros(len(drawn), vae.latents, *sides, device=painter.pipe.device)
    latents = painter.pipe.encode(floats(drawn), nothing)              # (N, C, ...)
    grey = pictures.grey(latents).repeat_interleave(vae.factor, 1)
    grey = grey.repeat_interleave(vae.factor, 2)                       # (N*C, H, W, 3)
    channels = grey.unflatten(0, latents.shape[:2])                    # (N, C, H, W, 3)
    back = painter.pipe.pictures(latents)                              # (N, H, W, 3)
    sheet = torch.cat([drawn[:, None], channels, back[:, None]], dim=1)     # (N, C+2, H, W, 3)
    names = [f"channel {number + 1}" for number in range(vae.latents)]
    return pictures.labelled(sheet.flatten(0, 1), ["picture", *names, "decoded"],
                             [f"seed {seed}" for seed in seeds])


def attention(painter: Painter, prompt: str, seed: int, **how: object) -> Image.Image:
    """A drawing, and below each word of the prompt where it was looked at."""
    return pictures.attended(*look(painter, prompt, seed, **how))


def guidance_sweep(painter: Painter, prompt: str, seeds: Sequence[int],
                   **how: object) -> Image.Image:
    """The same noise with more and more guidance, a row for each seed."""
    drawn = torch.stack([painter.draw([prompt], seeds, **{**how, "guidance": guidance})
                         for guidance in GUIDANCE], dim=1)             # (N, ..., H, W, 3)
    return pictures.labelled(drawn.flatten(0, 1), [f"{g:g}" for g in GUIDANCE],
                             [f"seed {seed}" for seed in seeds])


def samplers(painter: Painter, prompt: str, seed: int, **how: object) -> Image.Image:
    """The same noise by each sampler, a row each, in more and more steps."""
    drawn = [painter.draw([prompt], [seed], **{**how, "sampler": name, "steps": steps})
             for name in SAMPLERS for steps in STEPS]                  # each (1, H, W, 3)
    return pictures.labelled(torch.cat(drawn), [str(steps) for steps in STEPS], SAMPLERS)


def interpolation(painter: Painter, first: str, last: str, seed: int, count: int = SEEDS,
                  **how: object) -> Image.Image:
    """The same noise, with readings on the straight way from one prompt to another."""
    way = painter.pipe.between(first, last, count)                     # (N, ...)
    shares = [f"{share:.0%}" for share in torch.linspace(0, 1, count).tolist()]
    return pictures.labelled(painter.draw(way, [seed] * count, **how), shares)


def image_to_image(painter: Painter, first: str, then: str, seed: int,
                   **how: object) -> Image.Image:
    """A drawing of one prompt, drawn over with another, the more of it the further right."""
    begun = painter.draw([first], [seed], **how)                       # (1, H, W, 3)
    drawn = [painter.draw([then], [seed], image=floats(begun), strength=strength, **how)
             for strength in STRENGTHS]                                # each (1, H, W, 3)
    return pictures.labelled(torch.cat([begun, *drawn]),
                             ["begun with", *(f"{strength:g}" for strength in STRENGTHS)])


def hole(picture: Tensor) -> Tensor:                                   # (N, H, W, 3)
    """A mask for its middle, half as wide and high: (1, 1, H, W)."""
    height, width = picture.shape[1:3]
    mask = torch.zeros(1, 1, height, width)                            # (1, 1, H, W)
    mask[..., height // 4 : -(height // 4), width // 4 : -(width // 4)] = 1
    return mask


def inpainting(painter: Painter, first: str, then: str, seeds: Sequence[int],
               **how: object) -> Image.Image:
    """A drawing of one prompt, its middle taken out, and filled by another: seed by seed."""
    begun = painter.draw([first], seeds[:1], **how)                    # (1, H, W, 3)
    mask = hole(begun)                                                 # (1, 1, H, W)
    emptied = torch.where(mask[:, 0, ..., None] > 0, pictures.GREY, begun).byte()
    filled = painter.draw([then], seeds, image=floats(begun), mask=mask, **how)
    return pictures.labelled(torch.cat([begun, emptied, filled]),
                             ["begun with", "hole", *(f"seed {seed}" for seed in seeds)])


def samples(painter: Painter, prompts: Sequence[str], seeds: Sequence[int],
            **how: object) -> Image.Image:
    """A row for each prompt, a column for each seed."""
    drawn = [painter.draw([prompt], seeds, **how) for prompt in prompts]     # each (N, H, W, 3)
    return pictures.labelled(torch.cat(drawn), [f"seed {seed}" for seed in seeds], prompts)


def sheets(painter: Painter, prompts: Sequence[str], seed: int,
           **how: object) -> dict[str, Image.Image]:
    """All of the above, by name."""
    rows = prompts[:: max(1, len(prompts) // PROMPTS)]
    first, then, seeds = prompts[0], rows[1 % len(rows)], range(seed, seed + SEEDS)
    shapes = painter.config.get("data") == "shapes" and len(prompts) > 1
    inside = MIDDLE if shapes else (first, then)
    return {"attention": attention(painter, first, seed, **how),    # refuses first what it must
            "samples": samples(painter, rows, seeds, **how),
            "film": film(painter, first, seed, **how),
            "latents": latent_channels(painter, first, seeds[:3], **how),
            "guidance": guidance_sweep(painter, first, seeds[:3], **how),
            "samplers": samplers(painter, first, seed, **how),
            "interpolation": interpolation(painter, first, then, seed, **how),
            "image_to_image": image_to_image(painter, first, then, seed, **how),
            "inpainting": inpainting(painter, *inside, seeds[:6], **how)}


@console.one_line_errors
@torch.no_grad()
def main(argv: list[str] | None = None) -> int:
    """Draw everything that can be seen of a trained model."""
    parser = console.inference_parser("Draw what a trained model does.")
    add_drawing_flags(parser)
    args = parser.parse_args(argv)
    check(parser, args)
    if not args.weights:
        args.checkpoint = args.checkpoint or checkpoint.newest(Path(__file__).resolve().parent)
    painter = open_painter(args)
    painter.size = args.size or painter.size
    prompts = [args.prompt] if args.prompt else painter.prompts
    images = sheets(painter, prompts, args.seed, negative=args.negative, sampler=args.sampler,
                    guidance=args.guidance, steps=args.steps)
    for name, image in images.items():
        pictures.save_image(image, args.out / f"{name}.png")
    names = [f"{name}.png" for name in images]
    metrics = args.checkpoint and args.checkpoint.with_name("metrics.csv")
    if metrics and metrics.exists() and metrics.read_text(encoding="utf-8").count("\n") > 1:
        draw_curves(metrics, args.out / "loss.png")
        names.append("loss.png")
    print(f"wrote {', '.join(names)} to {console.from_here(args.out)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
