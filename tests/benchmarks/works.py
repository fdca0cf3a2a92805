"""What growth.py lets grow: each function prepares a work of ours of one size.

    python tests/benchmarks/growth.py --out growth.png
"""

from collections.abc import Callable
from typing import NamedTuple

import timing  # noqa: F401  makes those of tests/ importable
import torch
import torch.nn.functional as F

from support import load

SIZES = {"vocabulary": 65, "layers": 4, "heads": 4, "channels": 256}   # of a small GPT-2
PUBLISHED = {"pixels": 3, "latents": 4, "channels": 128, "multipliers": [1, 2, 4, 4],
             "blocks": 2, "groups": 32}                    # Stable Diffusion's autoencoder


class Series(NamedTuple):
    """A kind of work at several sizes; `make` prepares it for one of them."""

    work: str
    axis: str
    sizes: tuple[int, ...]
    make: Callable[[int], Callable[[], object]]


def lenet(batch: int) -> Callable[[], object]:
    """A training step on so many pictures."""
    net = load("lenet_from_scratch").model.LeNet().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
    images, labels = torch.randn(batch, 1, 28, 28), torch.arange(batch) % 10

    def step() -> None:
        loss = net.loss(net(images), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return step


def gpt2_training(context: int) -> Callable[[], object]:
    """A training step on four texts of so many tokens."""
    net = load("gpt2_from_scratch").model.GPT(context=context, **SIZES)
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)
    tokens = torch.randint(SIZES["vocabulary"], (4, context + 1))

    def step() -> None:
        loss = F.cross_entropy(net(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return step


def gpt2_writing(count: int, cached: bool) -> Callable[[], object]:
    """So many tokens written after one, each the likeliest."""
    gpt2 = load("gpt2_from_scratch")
    net = gpt2.model.GPT(context=count + 1, **SIZES).eval()

    def write() -> None:
        how = gpt2.generate.Sampling(temperature=0)
        for _ in gpt2.generate.generate(net, [[0]], count, how, torch.Generator()):
            pass

    @torch.inference_mode()
    def write_slowly() -> None:
        text = torch.zeros(1, 1, dtype=torch.long)
        for _ in range(count):
            x, _ = net.hidden(text)
            text = torch.cat([text, net.logits(x[:, -1]).argmax(-1, keepdim=True)], dim=1)
    return write if cached else write_slowly


def unet(side: int) -> Callable[[], object]:
    """Forward and backward through diffusion's default network, two pictures of this side."""
    model = load("diffusion_from_scratch").model
    net = model.UNet((1, side, side), **model.PRESETS["small"])
    net = net.to(memory_format=torch.channels_last)
    x, t = torch.randn(2, 1, side, side), torch.full((2,), 500)

    def step() -> None:
        net.zero_grad(set_to_none=True)
        net(x, t).square().mean().backward()
    return step


def vae(side: int) -> Callable[[], object]:
    """A picture of this side out of Stable Diffusion's decoder, as large as published."""
    net = load("stable_diffusion_from_scratch").vae_model.AutoencoderKL(**PUBLISHED).eval()
    latents = torch.randn(1, 4, side // 8, side // 8)
    return torch.no_grad()(lambda: net.decode(latents))


def sampling(steps: int) -> Callable[[], object]:
    """Eight digits drawn by diffusion's default network in so many steps of DDIM."""
    folder = load("diffusion_from_scratch")
    net = folder.model.UNet((1, 28, 28), **folder.model.PRESETS["small"]).eval()
    net = net.to(memory_format=torch.channels_last)
    process = folder.diffusion.Diffusion(folder.schedule.Schedule.named("cosine"), "v")
    noise = torch.randn(8, 1, 28, 28).to(memory_format=torch.channels_last)
    how = folder.diffusion.Sampling(steps=steps)
    return lambda: folder.diffusion.denoise(net, process, noise, how=how)


SERIES = {
    "lenet": Series("LeNet, training step", "pictures in a batch",
                    (64, 128, 256, 512, 1024, 2048, 4096), lenet),
    "gpt2": Series("GPT-2, training step", "tokens of context", (64, 128, 256, 512, 1024, 2048),
                   gpt2_training),
    "cached": Series("GPT-2, writing with a cache", "tokens of context",
                     (32, 64, 128, 256, 512), lambda size: gpt2_writing(size, True)),
    "uncached": Series("GPT-2, writing without", "tokens of context",
                       (32, 64, 128, 256, 512), lambda size: gpt2_writing(size, False)),
    "unet": Series("diffusion's U-Net, both ways", "side of a picture in pixels",
                   (16, 32, 64, 128, 256), unet),
    "vae": Series("Stable Diffusion's decoder", "side of a picture in pixels",
                  (32, 64, 128, 256), vae),
    "sampling": Series("diffusion, drawing eight digits", "steps of sampling",
                       (5, 10, 20, 40, 80), sampling),
}
