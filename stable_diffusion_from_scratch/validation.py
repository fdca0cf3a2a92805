"""What is measured while a model learns: pictures not trained on, and prompts drawn."""

# B pictures in a batch, N pictures, C channels, H height and W width of latents, P pixels of a
# side

import argparse
from pathlib import Path

import torch
from torch import Tensor

import pictures
from adherence import shares
from batches import Latents, latent_batch, share
from data import Data
from losses import decibels, noise_losses, noised, vae_losses
from model import StableDiffusion
from pipeline import Pipeline, floats
from tokenizer import Tokenizer
from words import prompts

AT_ONCE = 64         # pictures that are encoded together
SCALED = 1024        # pictures whose latents decide the scale
ASKED = 64           # prompts whose pictures are judged
ROUGH = 10           # steps in which they are drawn
GUIDANCE = 3.0


@torch.no_grad()
def encode_all(model: StableDiffusion, images: Tensor, device: torch.device) -> Latents:
    """Means and deviations of the latents of all pictures (N, P, P, 3), scaled."""
    found = [model.vae.encode(floats(some).to(device)) for some in images.split(AT_ONCE)]
    scale = model.scale_factor
    return Latents(torch.cat([each.mean * scale for each in found]).cpu(),
                   torch.cat([(each.logvar / 2).exp() * scale for each in found]).cpu())


def deviation(known: Latents) -> float:
    """The deviation of latents that are drawn: of all numbers alike, as in the release."""
    square = known.mean.double().square().mean() + known.deviation.double().square().mean()
    return (square - known.mean.double().mean() ** 2).sqrt().item()


def scale_of(model: StableDiffusion, data: Data, device: torch.device) -> float:
    """The factor by which latents of training pictures get a deviation of one."""
    known = encode_all(model, data.train.images[:SCALED], device)
    return model.scale_factor.item() / deviation(known)                   # (3)


class Validation:
    """Measures a model on pictures not trained on, always with the same noise and times."""

    def __init__(self, args: argparse.Namespace, data: Data, tokenizer: Tokenizer,
                 shown: list[str], device: torch.device) -> None:
        self.args, self.data, self.part, self.device = args, data, data.validation, device
        self.tokenizer, self.shown = tokenizer, shown
        self.size = (args.image_size, args.image_size)
        self.known: Latents | None = None      # of the autoencoder when it is finished
        self.asked = prompts("trained", 8 if args.quick else ASKED)

    def measure(self, model: StableDiffusion, stage: str) -> dict[str, float | str]:
        """The columns of a row that say how good a model is; empty ones do not apply."""
        empty = dict.fromkeys(("psnr", "deviation", "colour", "shape", "both"), "")
        if stage == "vae":
            return empty | self.measure_vae(model)
        return empty | self.measure_diffusion(model)

    @torch.no_grad()
    def measure_vae(self, model: StableDiffusion) -> dict[str, float]:
        """Loss, PSNR and deviation of the latents of pictures not trained on."""
        loss, square, images = 0.0, 0.0, self.part.images
        generator = torch.Generator().manual_seed(0)
        for some in images.split(AT_ONCE):
            x = floats(some).to(self.device)                           # (B, 3, P, P)
            side = x.size(3) // model.vae.factor
            noise = torch.randn((len(x), model.vae.latents, side, side), generator=generator)
            drawn, found = model.vae(x, noise.to(self.device))
            loss += vae_losses(drawn, x, found, self.args.kl).sum().item()
            errors = (drawn.clamp(-1, 1) - x).square().flatten(1)      # (B, 3*P*P)
            square += errors.mean(1).sum().item()
        latents = encode_all(model, images, self.device)
        return {"validation_loss": loss / len(images), "psnr": decibels(square / len(images)),
                "deviation": deviation(latents)}

    @torch.no_grad()
    def measure_diffusion(self, model: StableDiffusion) -> dict[str, float]:
        """The loss on latents not trained on, and how often prompts are followed."""
        args, images, total = self.args, self.part.images, 0.0
        if self.known is None:
            self.known = encode_all(model, images, self.device)
        tokens, empty = self.tokenizer(self.part.captions), self.tokenizer([""])
        size = min(AT_ONCE, len(images))
        for step in range(len(images) // size):
            whole = latent_batch(self.known, tokens, empty, size, 0, step, 0.0)
            latents, noise, t, said = share(whole, 0, 1, self.device)
            seen = model.unet(noised(latents, noise, t), t, model.text(said))
            total += noise_losses(seen, noise, t, args.gamma, args.delta).mean().item()
        found = {"validation_loss": total / (len(images) // size)}
        if self.data.name != "shapes":
            return found
        drawn = self.paint(model, [text for text, _ in self.asked])
        right = shares(drawn.numpy(), [scene for _, scene in self.asked])
        return found | {key: right[key] for key in ("colour", "shape", "both")}

    def paint(self, model: StableDiffusion, asked: list[str], steps: int = ROUGH) -> Tensor:
        """Pictures (N, P, P, 3) of prompts, each with the seed of its place."""
        pipe, seeds = Pipeline(model, self.tokenizer), range(len(asked))
        parts = [pipe.draw(asked[some], list(seeds[some]), self.size, guidance=GUIDANCE,
                           steps=2 if self.args.quick else steps)
                 for some in (slice(start, start + AT_ONCE)
                              for start in range(0, len(asked), AT_ONCE))]
        return torch.cat(parts)

    @torch.no_grad()
    def draw(self, model: StableDiffusion, stage: str, path: Path) -> None:
        """Pictures and what the autoencoder makes of them; later, pictures of prompts."""
        if stage == "vae":
            images = self.part.images[:8]                              # (B, P, P, 3)
            latents = model.vae.encode(floats(images).to(self.device)).mean
            back = Pipeline(model, self.tokenizer).pictures(latents * model.scale_factor)
            return pictures.save_tiles(torch.cat([images, back]), 8, path)
        pictures.save_tiles(self.paint(model, self.shown), 8, path)
