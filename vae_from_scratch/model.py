"""A variational autoencoder: an encoder, a decoder, and the bound that trains both.

D. P. Kingma, M. Welling, "Auto-Encoding Variational Bayes", ICLR 2014. The encoder says which
codes z an image may have come from, the decoder what images a code may become. All costs are
in nats an image, summed over pixels and latents, never averaged over them.

    python model.py                                    # what train.py makes of the creatures
    python model.py --network mlp --shape 1 28 28      # the paper's kind of network
"""

# B images in a batch, C channels, H height and W width of images, L latents, S samples,
# F features, M channels of the maps, E and D their height and width

import argparse
import math
import sys

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from console import one_line_errors, positive_int
from distributions import (
    Elbo,
    bernoulli_cost,
    gaussian_cost,
    kl_to_standard,
    log_normal,
    squeeze,
)

NAME = "vae_from_scratch"            # whose checkpoints these are
LIKELIHOODS = ("bernoulli", "gaussian")
ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "silu": nn.SiLU}
SMALLEST = 1 / 255**2                # of σ²: bytes say nothing finer than one grey level
AT_ONCE = 20                         # samples of every image that are decoded together


# ---------------------------------------------------------------- networks


def halvings(height: int, width: int) -> list[tuple[int, int]]:
    """Height and width of an image and of its maps, each half of the last, rounded up.

    Down to a shorter side of at most four pixels, but at least once.
    """
    sizes = [(height, width)]
    while len(sizes) == 1 or min(sizes[-1]) > 4:
        sizes.append(tuple(-(-side // 2) for side in sizes[-1]))
    return sizes


def widths(width: int, count: int) -> list[int]:
    """Channels of the maps behind each halving: they double, to four times at most."""
    return [width * min(2**i, 4) for i in range(count)]


class Encoder(nn.Module):
    """Convolutions that halve an image (C, H, W) of any size, then mean and log-variance."""

    def __init__(self, shape: tuple[int, int, int], latents: int, width: int = 32,
                 activation: str = "silu") -> None:
        super().__init__()
        sizes = halvings(*shape[1:])
        channels = [shape[0], *widths(width, len(sizes) - 1)]
        layers = []
        for before, after in zip(channels, channels[1:]):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1),
                       ACTIVATIONS[activation]()]
        self.maps = nn.Sequential(*layers)
        self.head = nn.Linear(channels[-1] * math.prod(sizes[-1]), 2 * latents)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:             # (B, C, H, W)
        """The mean and the logarithm of the variance of q(z|x)."""
        maps = self.maps(x)                                            # (B, M, E, D)
        mean, logvar = self.head(maps.flatten(1)).chunk(2, dim=1)      # each (B, L)
        return mean, squeeze(logvar)                                   # (B, L), (B, L)


class Decoder(nn.Module):
    """The encoder backwards: transposed convolutions that double, cut to the sizes it had."""

    def __init__(self, shape: tuple[int, int, int], latents: int, width: int = 32,
                 activation: str = "silu") -> None:
        super().__init__()
        self.sizes = halvings(*shape[1:])[::-1]
        channels = widths(width, len(self.sizes) - 1)[::-1]
        self.start = nn.Linear(latents, channels[0] * math.prod(self.sizes[0]))
        self.doublings = nn.ModuleList(     # kernel 4, stride 2: every pixel gets as many sums
            nn.ConvTranspose2d(before, after, 4, stride=2, padding=1)
            for before, after in zip(channels, [*channels[1:], shape[0]]))
        self.activate = ACTIVATIONS[activation]()

    def forward(self, z: Tensor) -> Tensor:                            # (B, L)
        """Logits of the pixels. An odd side was halved upwards: one row too many is cut."""
        maps = self.start(z).unflatten(1, (-1, *self.sizes[0]))        # (B, M, E, D)
        for double, (height, width) in zip(self.doublings, self.sizes[1:]):
            maps = double(self.activate(maps))[..., :height, :width]
        return maps                                                    # (B, C, H, W)


class MlpEncoder(nn.Module):
    """One hidden layer, as in the paper (appendix C), then mean and log-variance."""

    def __init__(self, shape: tuple[int, int, int], latents: int, hidden: int = 400,
                 activation: str = "relu") -> None:
        super().__init__()
        self.hide = nn.Linear(math.prod(shape), hidden)
        self.activate = ACTIVATIONS[activation]()
        self.head = nn.Linear(hidden, 2 * latents)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:             # (B, C, H, W)
        """The mean and the logarithm of the variance of q(z|x)."""
        hidden = self.activate(self.hide(x.flatten(1)))                # (B, F)
        mean, logvar = self.head(hidden).chunk(2, dim=1)               # each (B, L)
        return mean, squeeze(logvar)                                   # (B, L), (B, L)


class MlpDecoder(nn.Module):
    """One hidden layer, then a logit for every pixel."""

    def __init__(self, shape: tuple[int, int, int], latents: int, hidden: int = 400,
                 activation: str = "relu") -> None:
        super().__init__()
        self.shape = shape
        self.hide = nn.Linear(latents, hidden)
        self.activate = ACTIVATIONS[activation]()
        self.finish = nn.Linear(hidden, math.prod(shape))

    def forward(self, z: Tensor) -> Tensor:                            # (B, L)
        """Logits of the pixels."""
        hidden = self.activate(self.hide(z))                           # (B, F)
        return self.finish(hidden).unflatten(1, self.shape)            # (B, C, H, W)


NETWORKS = {"conv": (Encoder, Decoder), "mlp": (MlpEncoder, MlpDecoder)}


def start(layer: nn.Module) -> None:
    """He's weights, with which a signal is as strong behind a layer as before it; no biases.

    PyTorch's own are less than half of that: hues are lost on the way, and never found.
    """
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        seen = layer.weight[0].numel()
        if isinstance(layer, nn.ConvTranspose2d):     # a pixel sees every fourth weight
            seen = layer.in_channels * layer.weight[0, 0].numel() / math.prod(layer.stride)
        nn.init.normal_(layer.weight, std=(2 / seen) ** 0.5)
        nn.init.zeros_(layer.bias)


# ---------------------------------------------------------------- the model


class VAE(nn.Module):
    """Encoder, decoder, and a likelihood for what lies between a decoded image and a real one.

    Images (B, C, H, W) have values from 0 to 1. `bernoulli` takes a pixel for the probability
    of ink; `gaussian` adds noise of one standard deviation σ, which `fit_variance` finds.
    """

    def __init__(self, shape: tuple[int, int, int], latents: int = 32, network: str = "conv",
                 width: int = 32, activation: str = "silu",
                 likelihood: str = "gaussian") -> None:
        super().__init__()
        if network not in NETWORKS or likelihood not in LIKELIHOODS:
            raise ValueError(f"network is one of {', '.join(NETWORKS)}, likelihood one of "
                             f"{', '.join(LIKELIHOODS)}")
        self.shape, self.latents, self.likelihood = tuple(shape), latents, likelihood
        encoder, decoder = NETWORKS[network]
        self.encoder = encoder(self.shape, latents, width, activation)
        self.decoder = decoder(self.shape, latents, width, activation)
        self.register_buffer("variance", torch.tensor(0.1))            # σ² of gaussian pixels
        self.apply(start)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:              # (B, C, H, W)
        """Mean and log-variance of q(z|x), each (B, L). Refuses what is no image for it."""
        if x.shape[1:] != self.shape:
            raise ValueError(f"the model reads images of {'×'.join(map(str, self.shape))} "
                             f"numbers, these have {'×'.join(map(str, x.shape[1:]))}")
        return self.encoder(x)

    def reparameterize(self, mean: Tensor, logvar: Tensor,
                       generator: torch.Generator | None = None) -> Tensor:  # each (B, L)
        """A draw from q(z|x) through which gradients flow: the noise knows nothing of them."""
        noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype,
                            device=generator.device if generator else mean.device)
        return mean + (0.5 * logvar).exp() * noise.to(mean.device)     # (B, L)  (3)

    def picture(self, output: Tensor) -> Tensor:
        """What the decoder's output means: the expected image, from 0 to 1."""
        return output.sigmoid()

    def decode(self, z: Tensor) -> Tensor:                             # (B, L)
        """The expected images of codes."""
        return self.picture(self.decoder(z))                           # (B, C, H, W)

    def cost(self, output: Tensor, x: Tensor) -> Tensor:               # each (B, C, H, W)
        """Minus log p(x|z) in nats, summed over pixels."""
        if self.likelihood == "bernoulli":
            return bernoulli_cost(output, x)                           # (B,)
        return gaussian_cost(self.picture(output), x, self.variance)   # (B,)

    @torch.no_grad()
    def fit_variance(self, output: Tensor, x: Tensor, share: float = 1.0) -> None:
        """Move σ² by this share towards its best value, the mean squared error of a pixel.

        At the best value the bound has no slope in σ, so no gradient is missed.
        """
        best = F.mse_loss(self.picture(output), x)                     # ()  (8)
        self.variance.lerp_(best, share).clamp_(min=SMALLEST)          # ()

    def elbo(self, x: Tensor, generator: torch.Generator | None = None,
             fit: float = 0.0) -> Elbo:                                # (B, C, H, W)
        """Both terms of the bound, with one draw of z for each image.

        `fit` is the share of `fit_variance`, for training. Raises ValueError for values
        outside 0 to 1: their cross-entropy would have no lower end.
        """
        low, high = torch.aminmax(x)
        if not (low >= 0 and high <= 1):
            raise ValueError(f"pixels lie from 0 to 1, these from {low.item():g} to "
                             f"{high.item():g}: scale them")
        mean, logvar = (t.to(x.dtype) for t in self.encode(x))         # each (B, L)
        output = self.decoder(self.reparameterize(mean, logvar, generator)).to(x.dtype)
        if fit and self.likelihood == "gaussian":
            self.fit_variance(output, x, fit)
        return Elbo(self.cost(output, x), kl_to_standard(mean, logvar))

    @torch.no_grad()
    def log_likelihood(self, x: Tensor, samples: int,
                       generator: torch.Generator | None = None) -> Tensor:  # (B, C, H, W)
        """log p(x), equation (1), by importance sampling: from below, exact in the limit."""
        mean, logvar = self.encode(x)                                  # each (B, L)
        total = torch.full_like(mean[:, 0], -math.inf)                 # (B,)
        for start in range(0, samples, AT_ONCE):
            S = min(AT_ONCE, samples - start)
            m, v = mean.repeat(S, 1), logvar.repeat(S, 1)              # each (S*B, L)
            z = self.reparameterize(m, v, generator)                   # (S*B, L)
            weight = log_normal(z, 0.0, 0.0) - log_normal(z, m, v)     # p(z) / q(z|x)
            weight -= self.cost(self.decoder(z), x.repeat(S, 1, 1, 1))      # (S*B,)
            some = weight.unflatten(0, (S, -1)).logsumexp(0)           # (B,)
            total = torch.logaddexp(total, some)                       # (B,)
        return total - math.log(samples)                               # (B,)  (10)

    def forward(self, x: Tensor) -> Tensor:                            # (B, C, H, W)
        """The reconstruction: the image of the most probable code."""
        return self.decode(self.encode(x)[0])                          # (B, C, H, W)


SETTINGS = ("latents", "network", "width", "activation", "likelihood")


def build(config: dict) -> VAE:
    """The untrained model that a checkpoint's configuration describes."""
    return VAE(tuple(config["shape"]), **{name: config[name] for name in SETTINGS})


def layers(model: VAE) -> list[tuple[str, str, int]]:
    """Name, output shape and parameters of each layer, from a real forward pass."""
    rows = []

    def record(name: str, layer: nn.Module, output: Tensor) -> None:
        rows.append((name, "×".join(map(str, output.shape[1:])),
                     sum(p.numel() for p in layer.parameters())))

    hooks = [layer.register_forward_hook(
                 lambda layer, _inputs, output, name=name: record(name, layer, output))
             for name, layer in model.named_modules()
             if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)]
    with torch.no_grad():
        model(torch.zeros(1, *model.shape))
    for hook in hooks:
        hook.remove()
    return rows


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Print the table of layers."""
    parser = argparse.ArgumentParser(description=main.__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--network", choices=NETWORKS, default="conv", help="default: conv")
    add("--shape", metavar="N", type=positive_int, nargs=3, default=[3, 32, 32],
        help="channels, height and width (default: 3 32 32)")
    add("--latents", metavar="N", type=positive_int, default=32, help="default: 32")
    add("--width", metavar="N", type=positive_int,
        help="channels of the first maps, or hidden features (default: 32, or 400)")
    args = parser.parse_args(argv)
    width = args.width or {"conv": 32, "mlp": 400}[args.network]
    rows = layers(VAE(tuple(args.shape), args.latents, args.network, width))
    print(f"{'layer':20} {'output':>9} {'parameters':>11}")
    for name, shape, parameters in rows:
        print(f"{name:20} {shape:>9} {parameters:>11,}")
    print(f"{'total':20} {'':9} {sum(row[2] for row in rows):>11,}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
