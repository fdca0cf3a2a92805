"""The autoencoder of Stable Diffusion: pictures to small maps of latents, and back.

R. Rombach and others, "High-Resolution Image Synthesis with Latent Diffusion Models", 2022,
section 3.1 and appendix G. Diffusion in the space of latents has a 48th of the numbers to deal
with; what the eye hardly sees is left to the decoder.

Names of layers are those of the original release.
"""

# B images, C channels, H height and W width of images or maps, Z channels of a latent

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention import Attention

EPSILON = 1e-6       # in every norm here; those of the U-Net's residual blocks have 1e-5
START = -6.0         # log-variance before training: little noise,
GAIN = 3.0           # and means that stand out of it, about as large as they will be


class Gaussian(NamedTuple):
    """q(z|x): a mean and the logarithm of a variance for every latent, each (B, Z, H, W)."""

    mean: Tensor
    logvar: Tensor

    def sample(self, noise: Tensor) -> Tensor:                         # (B, Z, H, W)
        """A draw, made of standard normal noise."""
        return self.mean + (0.5 * self.logvar).exp() * noise           # (B, Z, H, W)  (1)

    def kl(self) -> Tensor:
        """Nats by which each image's distribution differs from N(0, 1), summed over latents."""
        nats = (self.mean**2 + self.logvar.exp() - 1 - self.logvar) / 2      # (2)
        return nats.flatten(1).sum(1)                                  # (B,)


class ResnetBlock(nn.Module):
    """Two convolutions, each behind a norm and a gate, and a way past them."""

    def __init__(self, channels: int, out: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels, eps=EPSILON)
        self.conv1 = nn.Conv2d(channels, out, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, out, eps=EPSILON)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.nin_shortcut = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:                            # (B, ..., H, W)
        h = self.conv1(F.silu(self.norm1(x)))                          # (B, C, H, W)
        h = self.conv2(F.silu(self.norm2(h)))                          # (B, C, H, W)
        return self.nin_shortcut(x) + h                                # (B, C, H, W)


class AttnBlock(Attention):
    """One head with all channels looks at the whole map, where it is smallest."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=EPSILON)
        self.q, self.k, self.v, self.proj_out = (
            nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:                            # (B, C, H, W)
        h = self.norm(x)                                               # (B, C, H, W)
        q, k, v = (project(h).flatten(2).transpose(1, 2)
                   for project in (self.q, self.k, self.v))            # each (B, H*W, C)
        found = self.gather(q, k, v, heads=1).transpose(1, 2)          # (B, C, H*W)
        return x + self.proj_out(found.unflatten(2, x.shape[2:]))      # (B, C, H, W)


class Downsample(nn.Module):
    """Half the size. Padding stands at the right and below only, unlike in the U-Net.

    Padded on all sides, published weights would see everything a pixel away from where they
    learned to expect it.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:                            # (B, C, H, W)
        return self.conv(F.pad(x, (0, 1, 0, 1)))                       # (B, C, H//2, W//2)


class Upsample(nn.Module):
    """Every pixel four times, then a convolution that smooths."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:                            # (B, C, H, W)
        return self.conv(F.interpolate(x, scale_factor=2.0))           # (B, C, 2H, 2W)


class Level(nn.Module):
    """Blocks at one size, then a change of size, except at the last level."""

    def __init__(self, channels: int, out: int, blocks: int, groups: int,
                 halve: bool = False, double: bool = False) -> None:
        super().__init__()
        self.block = nn.ModuleList(ResnetBlock(out if number else channels, out, groups)
                                   for number in range(blocks))
        self.downsample = Downsample(out) if halve else nn.Identity()
        self.upsample = Upsample(out) if double else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:                            # (B, ..., H, W)
        for block in self.block:
            x = block(x)                                               # (B, C, H, W)
        return self.upsample(self.downsample(x))                       # (B, C, ...)


def middle(channels: int, groups: int) -> nn.ModuleDict:
    """A block, a look at everything, a block: between both halves of encoder and decoder."""
    return nn.ModuleDict({"block_1": ResnetBlock(channels, channels, groups),
                          "attn_1": AttnBlock(channels, groups),
                          "block_2": ResnetBlock(channels, channels, groups)})


class Encoder(nn.Module):
    """Levels that halve a picture, the middle, and at last a mean and a log-variance."""

    def __init__(self, pixels: int, latents: int, channels: int, multipliers: Sequence[int],
                 blocks: int, groups: int) -> None:
        super().__init__()
        widths = [channels, *(channels * multiplier for multiplier in multipliers)]
        self.conv_in = nn.Conv2d(pixels, channels, 3, padding=1)
        self.down = nn.ModuleList(
            Level(before, width, blocks, groups, halve=number < len(multipliers) - 1)
            for number, (before, width) in enumerate(pairwise(widths)))
        self.mid = middle(widths[-1], groups)
        self.norm_out = nn.GroupNorm(groups, widths[-1], eps=EPSILON)
        self.conv_out = nn.Conv2d(widths[-1], 2 * latents, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:                            # (B, C, H, W)
        x = self.conv_in(x)
        for layer in [*self.down, *self.mid.values()]:
            x = layer(x)
        return self.conv_out(F.silu(self.norm_out(x)))                 # (B, 2Z, ...)


class Decoder(nn.Module):
    """The encoder backwards, with a block more at each level; `up` counts from the largest."""

    def __init__(self, pixels: int, latents: int, channels: int, multipliers: Sequence[int],
                 blocks: int, groups: int) -> None:
        super().__init__()
        widths = [channels * multiplier for multiplier in multipliers]
        self.conv_in = nn.Conv2d(latents, widths[-1], 3, padding=1)
        self.mid = middle(widths[-1], groups)
        self.up = nn.ModuleList(
            Level(before, width, blocks + 1, groups, double=number > 0)
            for number, (width, before) in enumerate(zip(widths, [*widths[1:], widths[-1]])))
        self.norm_out = nn.GroupNorm(groups, widths[0], eps=EPSILON)
        self.conv_out = nn.Conv2d(widths[0], pixels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:                            # (B, Z, H, W)
        x = self.conv_in(z)                                            # (B, C, H, W)
        for layer in [*self.mid.values(), *reversed(self.up)]:
            x = layer(x)
        return self.conv_out(F.silu(self.norm_out(x)))                 # (B, ...)


class AutoencoderKL(nn.Module):
    """Encoder and decoder; pictures have values from -1 to 1, latents any that training found.

    Latents are not scaled here: `StableDiffusion` does that, equation (3).
    """

    def __init__(self, pixels: int = 3, latents: int = 4, channels: int = 128,
                 multipliers: Sequence[int] = (1, 2, 4, 4), blocks: int = 2,
                 groups: int = 32) -> None:
        super().__init__()
        shape = pixels, latents, channels, multipliers, blocks, groups
        self.factor = 2 ** (len(multipliers) - 1)     # of height and width
        self.latents = latents
        self.encoder, self.decoder = Encoder(*shape), Decoder(*shape)
        self.quant_conv = nn.Conv2d(2 * latents, 2 * latents, 1)
        self.post_quant_conv = nn.Conv2d(latents, latents, 1)
        self._start()

    @torch.no_grad()
    def _start(self) -> None:
        """Begin with signals that keep their size, blocks that add nothing, little noise."""
        for part in self.modules():
            if isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3):
                nn.init.kaiming_normal_(part.weight, nonlinearity="linear")
                nn.init.zeros_(part.bias)
        for part in self.modules():
            if isinstance(part, ResnetBlock | AttnBlock):
                last = part.conv2 if isinstance(part, ResnetBlock) else part.proj_out
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)
        self.quant_conv.weight[: self.latents] *= GAIN
        self.quant_conv.weight[self.latents :] *= 0.1
        self.quant_conv.bias[self.latents :] = START

    def encode(self, x: Tensor) -> Gaussian:                           # (B, C, H, W)
        """The latents that pictures may have. Raises ValueError for sides that do not halve."""
        if x.size(2) % self.factor or x.size(3) % self.factor:
            raise ValueError(f"pictures of {x.size(3)}×{x.size(2)} pixels cannot be encoded: "
                             f"both sides have to be multiples of {self.factor}")
        moments = self.quant_conv(self.encoder(x))                     # (B, 2Z, ...)
        mean, logvar = moments.chunk(2, dim=1)                         # each (B, Z, ...)
        return Gaussian(mean, logvar.clamp(-30, 20))

    def decode(self, z: Tensor) -> Tensor:                             # (B, Z, H, W)
        """The pictures of latents; values may lie a little outside -1 to 1."""
        return self.decoder(self.post_quant_conv(z))                   # (B, ...)

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Gaussian]:
        """Pictures (B, C, H, W) through latents drawn with noise, and what was drawn from."""
        found = self.encode(x)
        return self.decode(found.sample(noise)), found
