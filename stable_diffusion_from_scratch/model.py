"""Stable Diffusion 1.x: a U-Net that sees noise in latents, and the three models in one.

R. Rombach and others, "High-Resolution Image Synthesis with Latent Diffusion Models", 2022, and
the code released with it, whose names of layers are kept: a published file fits as it is.

    python model.py                            # what Stable Diffusion 1.5 is made of
    python model.py --preset small              # what trains on two cores
"""

# B images, C channels, H height and W width of a map, S tokens of a text, E channels of a
# token, F channels of the time embedding

import argparse
import math
import sys
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import parts
from attention import SpatialTransformer
from console import one_line_errors, positive_int
from text_encoder import TextEncoder
from vae_model import AutoencoderKL

NAME = "stable_diffusion_from_scratch"       # whose checkpoints these are
SCALE = 0.18215                              # of the published latents: 1 / their deviation
SD15 = {"unet": {"latents": 4, "out": 4, "channels": 320, "multipliers": [1, 2, 4, 4],
                 "blocks": 2, "attention": [True, True, True, False], "heads": 8,
                 "context": 768, "depth": 1, "groups": 32},
        "vae": {"pixels": 3, "latents": 4, "channels": 128, "multipliers": [1, 2, 4, 4],
                "blocks": 2, "groups": 32},
        "text": {"vocabulary": 49_408, "positions": 77, "layers": 12, "heads": 12,
                 "channels": 768}}
SMALL = {"unet": {**SD15["unet"], "channels": 64, "multipliers": [1, 2], "blocks": 1,
                 "attention": [False, True], "heads": 4, "context": 64},
        "vae": {**SD15["vae"], "channels": 16, "multipliers": [1, 2, 4], "blocks": 1,
                "groups": 2},
        "text": {"vocabulary": 64, "positions": 16, "layers": 2, "heads": 4, "channels": 64}}
FINE = {**SMALL, "unet": {**SMALL["unet"], "attention": [True, True], "context": 128},
        "text": {**SMALL["text"], "layers": 4, "channels": 128}}
PRESETS = {"sd15": SD15, "small": SMALL, "fine": FINE}


def time_embedding(times: Tensor, channels: int) -> Tensor:            # (B,)
    """Cosines, then sines, of times on ever slower clocks; fractions of a step are welcome.

    In 32 bits whatever the model has, as the published weights were trained.
    """
    half = channels // 2
    clocks = torch.arange(half, dtype=torch.float32, device=times.device)
    clocks = torch.exp(-math.log(10_000) * clocks / half)              # (C/2,)  (6)
    angles = times[:, None].float() * clocks                           # (B, C/2)
    return torch.cat([angles.cos(), angles.sin()], dim=1)              # (B, C)  (6)


class ResBlock(nn.Module):
    """Two convolutions; between them the block is told what time it is."""

    def __init__(self, channels: int, out: int, time: int, groups: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(nn.GroupNorm(groups, channels), nn.SiLU(),
                                       nn.Conv2d(channels, out, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(time, out))
        # in the release the one in the middle drops out nothing; it counts in the names
        self.out_layers = nn.Sequential(nn.GroupNorm(groups, out), nn.SiLU(), nn.Identity(),
                                        nn.Conv2d(out, out, 3, padding=1))
        self.skip_connection = (nn.Conv2d(channels, out, 1) if channels != out
                                else nn.Identity())

    def forward(self, x: Tensor, time: Tensor) -> Tensor:              # (B, ..., H, W), (B, F)
        h = self.in_layers(x)                                          # (B, C, H, W)
        h = h + self.emb_layers(time)[..., None, None]                 # (B, C, H, W)  (9)
        return self.skip_connection(x) + self.out_layers(h)            # (B, C, H, W)  (9)


class Downsample(nn.Module):
    """Half the size, rounded up: padding on all sides, unlike in the autoencoder."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:                            # (B, C, H, W)
        return self.op(x)                                              # (B, C, ...)


class Upsample(nn.Module):
    """As large as the map that comes next from the way down, which is twice or one less."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, size: torch.Size) -> Tensor:          # (B, C, H, W)
        return self.conv(F.interpolate(x, size))                       # (B, C, ...)


class Stage(nn.Sequential):
    """Layers one after the other, each of which is given what it needs."""

    def forward(self, x: Tensor, time: Tensor, context: Tensor,
                size: torch.Size) -> Tensor:                           # (B, ..., H, W)
        for layer in self:
            if isinstance(layer, ResBlock):
                x = layer(x, time)                                     # (B, C, H, W)
            elif isinstance(layer, SpatialTransformer):
                x = layer(x, context)                                  # (B, C, H, W)
            else:
                x = layer(x, size) if isinstance(layer, Upsample) else layer(x)
        return x


class UNet(nn.Module):
    """The noise in latents (B, 4, H, W) at some times (B,), given texts (B, S, E).

    On the way down every stage leaves its map behind, on the way up every stage finds one.
    `attention` says at which levels a map looks at the text; in the middle it always does.
    """

    def __init__(self, latents: int = 4, out: int = 4, channels: int = 320,
                 multipliers: Sequence[int] = (1, 2, 4, 4), blocks: int = 2,
                 attention: Sequence[bool] = (True, True, True, False), heads: int = 8,
                 context: int = 768, depth: int = 1, groups: int = 32) -> None:
        super().__init__()
        self.channels, time = channels, 4 * channels

        def layers(before: int, width: int, looks: bool) -> list[nn.Module]:
            look = [SpatialTransformer(width, context, heads, depth, groups)] if looks else []
            return [ResBlock(before, width, time, groups), *look]

        self.time_embed = nn.Sequential(nn.Linear(channels, time), nn.SiLU(),
                                        nn.Linear(time, time))
        self.input_blocks = nn.ModuleList([Stage(nn.Conv2d(latents, channels, 3, padding=1))])
        widths, width, last = [channels], channels, len(multipliers) - 1
        for level, multiplier in enumerate(multipliers):
            for _ in range(blocks):
                stage = layers(width, channels * multiplier, attention[level])
                self.input_blocks.append(Stage(*stage))
                width = channels * multiplier
                widths.append(width)
            if level < last:
                self.input_blocks.append(Stage(Downsample(width)))
                widths.append(width)
        self.middle_block = Stage(*layers(width, width, True), *layers(width, width, False))
        self.output_blocks = nn.ModuleList()
        for level, multiplier in reversed(list(enumerate(multipliers))):
            for block in range(blocks + 1):
                stage = layers(width + widths.pop(), channels * multiplier, attention[level])
                width = channels * multiplier
                if level > 0 and block == blocks:
                    stage.append(Upsample(width))
                self.output_blocks.append(Stage(*stage))
        self.out = nn.Sequential(nn.GroupNorm(groups, width), nn.SiLU(),
                                 nn.Conv2d(width, out, 3, padding=1))
        self._start()

    @property
    def last_looks(self) -> list[str]:
        """Names of the layers that look at the text last, in each size of map on the way up.

        Nothing comes after them that could draw a word elsewhere than where they look for it.
        """
        return [f"output_blocks.{number}.{place}.transformer_blocks.{block}.attn2"
                for number, stage in enumerate(self.output_blocks)
                if isinstance(stage[-1], Upsample) or stage is self.output_blocks[-1]
                for place, layer in enumerate(stage) if isinstance(layer, SpatialTransformer)
                for block in range(len(layer.transformer_blocks))]

    def _start(self) -> None:
        """Zeros where a block adds to its way past: at first only the ways past are there."""
        ends = [part.out_layers[-1] if isinstance(part, ResBlock) else part.proj_out
                for part in self.modules() if isinstance(part, ResBlock | SpatialTransformer)]
        for layer in [*ends, self.out[-1]]:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, times: Tensor, context: Tensor) -> Tensor:  # (B, ..., H, W)
        time = time_embedding(times, self.channels).to(x.dtype)        # (B, C)
        time = self.time_embed(time)                                   # (B, F)
        kept = []
        for stage in self.input_blocks:
            x = stage(x, time, context, x.shape[2:])
            kept.append(x)
        x = self.middle_block(x, time, context, x.shape[2:])
        for stage in self.output_blocks:
            x = torch.cat([x, kept.pop()], dim=1)
            x = stage(x, time, context, kept[-1].shape[2:] if kept else x.shape[2:])
        return self.out(x)                                             # (B, ..., H, W)


class StableDiffusion(nn.Module):
    """All that draws: the U-Net, the autoencoder, the reader of prompts, and the scale.

    The names that lead to the parts are those of the release. `scale_factor` makes latents have
    a deviation of one; it is kept with the weights, so that nobody can forget it.
    """

    def __init__(self, unet: dict, vae: dict, text: dict) -> None:
        super().__init__()
        self.model = nn.ModuleDict({"diffusion_model": UNet(**unet)})
        self.first_stage_model = AutoencoderKL(**vae)
        self.cond_stage_model = nn.ModuleDict({
            "transformer": nn.ModuleDict({"text_model": TextEncoder(**text)})})
        self.register_buffer("scale_factor", torch.tensor(SCALE))      # ()

    @property
    def unet(self) -> UNet:
        """What sees the noise."""
        return self.model["diffusion_model"]

    @property
    def vae(self) -> AutoencoderKL:
        """What makes latents of pictures and pictures of latents."""
        return self.first_stage_model

    @property
    def text(self) -> TextEncoder:
        """What reads the prompts."""
        return self.cond_stage_model["transformer"]["text_model"]

    def encode(self, x: Tensor, noise: Tensor) -> Tensor:              # (B, ...)
        """Latents of pictures, of deviation one, drawn with noise (B, C, H, W)."""
        return self.vae.encode(x).sample(noise) * self.scale_factor    # (B, C, H, W)  (3)

    def decode(self, latents: Tensor) -> Tensor:                       # (B, C, H, W)
        """Pictures of latents."""
        return self.vae.decode(latents / self.scale_factor)            # (B, ...)  (3)


def build(config: dict) -> StableDiffusion:
    """The untrained model that a checkpoint's configuration describes."""
    return StableDiffusion(**{part: config[part] for part in SD15})


class _NoStart(TorchFunctionMode):
    """While it lasts, new weights are given no values."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if getattr(function, "__module__", "") == "torch.nn.init":
            return None
        return function(*args, **(kwargs or {}))


def hollow(config: dict) -> StableDiffusion:
    """The model without numbers: on the meta device there are only names and shapes."""
    with torch.device("meta"), _NoStart():
        return build(config)


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Print what a model is made of: keys, classes, output shapes, numbers of parameters."""
    parser = argparse.ArgumentParser(description=main.__doc__, allow_abbrev=False)
    parser.add_argument("--preset", choices=PRESETS, default="sd15", help="default: sd15")
    parser.add_argument("--size", metavar="P", type=positive_int,
                        help="pixels of a side (default: 512 for sd15, else 32)")
    args = parser.parse_args(argv)
    model, total = hollow(PRESETS[args.preset]), 0
    try:
        rows = parts.table(model, args.size or (512 if args.preset == "sd15" else 32))
    except (ValueError, RuntimeError) as error:
        parser.error(str(error).splitlines()[0])
    line = "{:24} {:42} {:>12} {:>13,}"
    print(f"{'key':24} {'made of':42} {'output':>12} {'parameters':>13}")
    for prefix, blocks in rows.items():
        print(prefix)
        for block in blocks:
            print(line.format(*block))
        total += (count := sum(parameters for *_, parameters in blocks))
        print(line.format("", "", "", count))
    print(line.format("total", "", "", total))
    return 0


if __name__ == "__main__":
    sys.exit(main())
