"""The network of diffusion: a U-Net that looks at a noisy picture and says what is noise in it.

J. Ho, A. Jain, P. Abbeel, "Denoising Diffusion Probabilistic Models", NeurIPS 2020, appendix B.
It is told how noisy the picture is (the time t) and, if it knows classes, what it shows.

    python model.py                                    # what train.py makes of digits
    python model.py --preset paper --shape 3 32 32     # the network of the paper, CIFAR-10
"""

# B pictures in a batch, C channels, H height and W width of pictures, M channels of the maps,
# D and E their height and width, F features of time and label, P places of a map, L levels

import argparse
import sys

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from console import natural, one_line_errors, positive_int

NAME = "diffusion_from_scratch"      # whose checkpoints these are
PRESETS = {
    # Pixels are taken in squares of 2×2: the costly first level has a quarter of the places.
    "small": {"width": 32, "multipliers": [1, 2], "blocks": 1, "attention": [1], "patch": 2,
              "dropout": 0.0},
    # Appendix B of the paper, for CIFAR-10.
    "paper": {"width": 128, "multipliers": [1, 2, 2, 2], "blocks": 2, "attention": [1],
              "patch": 1, "dropout": 0.1},
    # For smoke runs.
    "tiny": {"width": 16, "multipliers": [1, 2], "blocks": 1, "attention": [1], "patch": 2,
             "dropout": 0.0},
}
SETTINGS = ("width", "multipliers", "blocks", "attention", "patch", "dropout")
ONCE = ("time", "label", "first", "last_norm", "last")    # the parts that come only once
MOST_GROUPS, LEAST_CHANNELS = 32, 4  # of a normalisation; the paper has 32 groups of 4 or 8
EPSILON = 1e-6                       # of every normalisation, as the authors have it


def groups(channels: int) -> int:
    """Into how many groups a normalisation takes channels: the largest divisor up to 32.

    A group has four channels or more. Of a channel alone, normalisation would take away what
    the block was told of time and label: it is the same number at all places.
    """
    most = max(1, min(MOST_GROUPS, channels // LEAST_CHANNELS))
    return max(n for n in range(1, most + 1) if channels % n == 0)


def norm(channels: int) -> nn.GroupNorm:
    """The normalisation that stands before every convolution and attention."""
    return nn.GroupNorm(groups(channels), channels, eps=EPSILON)


def time_features(t: Tensor, width: int) -> Tensor:                    # (B,)
    """Sines and cosines of times, of wavelengths from 2π to 2π·10,000, in 32 bits (B, width).

    In 16 bits only half of a thousand times would differ. An odd width ends with a zero.
    """
    half = width // 2
    exponents = torch.arange(half, device=t.device) / max(half - 1, 1)
    angles = t.float()[:, None] * 10_000**-exponents                   # (B, F)  (15)
    features = torch.cat([angles.sin(), angles.cos()], dim=1)          # (B, 2F)
    return F.pad(features, (0, width % 2))


def quiet(layer: nn.Conv2d | nn.Linear) -> nn.Conv2d | nn.Linear:
    """The layer with weights of zero: what it ends is silent until it has learned something."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


# ---------------------------------------------------------------- blocks


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut; between them time and label are added to the maps."""

    def __init__(self, before: int, after: int, features: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1, self.norm2 = norm(before), norm(after)
        self.conv1 = nn.Conv2d(before, after, 3, padding=1)
        self.tell = nn.Linear(features, after)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = quiet(nn.Conv2d(after, after, 3, padding=1))
        self.shortcut = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: Tensor, told: Tensor) -> Tensor:              # (B, M, D, E)
        h = self.conv1(F.silu(self.norm1(x))) + self.tell(told)[:, :, None, None]
        return self.shortcut(x) + self.conv2(self.dropout(F.silu(self.norm2(h))))


class Attention(nn.Module):
    """Every place of a map asks every other; one head, added to what was there."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = norm(channels)
        self.ask = nn.Linear(channels, 3 * channels)
        self.answer = quiet(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:                            # (B, M, D, E)
        places = self.norm(x).flatten(2).transpose(1, 2)               # (B, P, M)
        q, k, v = self.ask(places).chunk(3, dim=2)                     # each (B, P, M)
        found = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
        return x + self.answer(found).transpose(1, 2).unflatten(2, x.shape[2:])


class Halve(nn.Module):
    """A convolution with a stride of two: sides are halved, rounded up.

    Padded as TensorFlow's SAME: where a side is even, only its end is, as in the authors' code.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:                            # (B, M, D, E)
        height, width = x.shape[2:]
        return self.conv(F.pad(x, (width % 2, 1, height % 2, 1)))


class Double(nn.Module):
    """Every place becomes four, cut to the size that was halved, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:     # (B, M, D, E)
        large = F.interpolate(x, scale_factor=2.0, mode="nearest")
        return self.conv(large[..., : size[0], : size[1]])


# ---------------------------------------------------------------- the network


class UNet(nn.Module):
    """Down to small maps and up again, every map on the way up beside its like from before.

    Pictures (B, C, H, W) of any size; the output has their shape. `attention` numbers the
    levels that have it. With classes, a label of `classes` means that none is told.
    """

    def __init__(self, shape: tuple[int, int, int], width: int = 32,
                 multipliers: tuple[int, ...] = (1, 2), blocks: int = 1,
                 attention: tuple[int, ...] = (1,), patch: int = 2, classes: int = 0,
                 dropout: float = 0.0) -> None:
        super().__init__()
        self.shape, self.width, self.patch, self.classes = tuple(shape), width, patch, classes
        features, widths = 4 * width, [width * factor for factor in multipliers]
        pixels = shape[0] * patch**2
        self.time = nn.Sequential(nn.Linear(width, features), nn.SiLU(),
                                  nn.Linear(features, features))
        self.label = nn.Embedding(classes + 1, features) if classes else None

        def block(before: int, after: int, level: int) -> nn.ModuleList:
            attend = Attention(after) if level in attention else nn.Identity()
            return nn.ModuleList([ResidualBlock(before, after, features, dropout), attend])

        self.first = nn.Conv2d(pixels, width, 3, padding=1)
        self.down, self.halvings, kept = nn.ModuleList(), nn.ModuleList(), [width]
        for level, (before, after) in enumerate(zip([width, *widths], widths)):
            for _ in range(blocks):
                self.down.append(block(before, after, level))
                kept.append(before := after)
            if level < len(widths) - 1:
                self.halvings.append(Halve(after))
                kept.append(after)
        self.middle = nn.ModuleList([ResidualBlock(after, after, features, dropout),
                                     Attention(after),
                                     ResidualBlock(after, after, features, dropout)])
        self.up, self.doublings, before = nn.ModuleList(), nn.ModuleList(), after
        for level, after in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                self.up.append(block(before + kept.pop(), after, level))
                before = after
            if level:
                self.doublings.append(Double(after))
        self.blocks, self.last_norm = blocks, norm(width * multipliers[0])
        self.last = quiet(nn.Conv2d(width * multipliers[0], pixels, 3, padding=1))

    def tell(self, t: Tensor, labels: Tensor | None) -> Tensor:        # (B,)
        """What every block is told of times and labels, each (B,)."""
        waves = time_features(t, self.width).to(self.time[0].weight.dtype)
        told = self.time(waves)                                        # (B, F)
        if self.label is not None:
            none = torch.full_like(t, self.classes)                    # (B,)
            told = told + self.label(none if labels is None else labels)
        return F.silu(told)                                            # (B, F)

    def forward(self, x: Tensor, t: Tensor,
                labels: Tensor | None = None) -> Tensor:               # (B, C, H, W)
        """Whatever it was trained to predict of pictures at times and labels, each (B,)."""
        height, width = x.shape[2:]
        told = self.tell(t, labels)                                    # (B, F)
        x = F.pad(x, (0, -width % self.patch, 0, -height % self.patch))
        h = self.first(F.pixel_unshuffle(x, self.patch))               # (B, M, D, E)
        kept = [h]
        for number, (resolve, attend) in enumerate(self.down, start=1):
            kept.append(h := attend(resolve(h, told)))
            if number % self.blocks == 0 and number < len(self.down):
                kept.append(h := self.halvings[number // self.blocks - 1](h))
        resolve, attend, finish = self.middle
        h = finish(attend(resolve(h, told)), told)
        for number, (resolve, attend) in enumerate(self.up, start=1):
            h = attend(resolve(torch.cat([h, kept.pop()], dim=1), told))
            if number % (self.blocks + 1) == 0 and kept:
                size = kept[-1].shape[2:]
                h = self.doublings[number // (self.blocks + 1) - 1](h, size)
        h = self.last(F.silu(self.last_norm(h)))
        return F.pixel_shuffle(h, self.patch)[..., :height, :width]    # (B, C, H, W)


def build(config: dict) -> UNet:
    """The untrained network that a checkpoint's configuration describes."""
    return UNet(tuple(config["shape"]), classes=len(config["classes"]),
                **{name: config[name] for name in SETTINGS})


def parts(model: UNet) -> list[tuple[str, str, int]]:
    """Name, output shape and parameters of each part, from a real forward pass."""
    rows = []

    def record(name: str, part: nn.Module, output: Tensor) -> None:
        rows.append((name, "×".join(map(str, output.shape[1:])),
                     sum(p.numel() for p in part.parameters())))

    wanted = (ResidualBlock, Attention, Halve, Double)
    hooks = [part.register_forward_hook(
                 lambda part, _inputs, output, name=name: record(name, part, output))
             for name, part in model.named_modules()
             if isinstance(part, wanted) or name in ONCE]
    with torch.no_grad():
        model(torch.zeros(1, *model.shape), torch.zeros(1, dtype=torch.long))
    for hook in hooks:
        hook.remove()
    return rows


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Print the table of parts."""
    parser = argparse.ArgumentParser(description=main.__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--preset", choices=PRESETS, default="small", help="default: small")
    add("--shape", metavar="N", type=positive_int, nargs=3, default=[1, 28, 28],
        help="channels, height and width (default: 1 28 28)")
    add("--classes", metavar="N", type=natural, default=10, help="0 for none (default: 10)")
    args = parser.parse_args(argv)
    rows = parts(UNet(tuple(args.shape), classes=args.classes, **PRESETS[args.preset]))
    print(f"{'part':12} {'output':>10} {'parameters':>11}")
    for name, shape, parameters in rows:
        print(f"{name:12} {shape:>10} {parameters:>11,}")
    print(f"{'total':12} {'':10} {sum(row[2] for row in rows):>11,}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
