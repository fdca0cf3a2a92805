"""AlexNet: five convolutions, three fully connected layers, and three ways to build them.

A. Krizhevsky, I. Sutskever, G. Hinton, "ImageNet Classification with Deep Convolutional
Neural Networks", 2012. `VARIANTS` has the network of the paper, the same without its two
groups (as on a single card), and the one that torchvision publishes under the name.

    python model.py                          # the paper's: 60,965,224 parameters
    python model.py --variant torchvision    # the one whose weights are published
"""

# B images in a batch, K classes, C channels, S side of the images, M side of the last maps,
# F features of a fully connected layer, H height and W width of maps

import argparse
import sys
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from console import one_line_errors

NAME = "alexnet_from_scratch"  # whose checkpoints these are
HIDDEN = 4096                  # features of each of the two hidden layers at the end
SPREAD = 3.0                   # standard deviation of the input that He's start expects
ACTIVATIONS = ("relu", "tanh")
STARTS = ("paper", "he", "pytorch")


class Variant(NamedTuple):
    """One description of AlexNet; each field is a switch that can be changed by itself."""

    channels: tuple[int, ...]        # of the five convolutions
    groups: int                      # in how many groups convolutions 2, 4 and 5 are cut
    lrn: bool                        # local response normalisation after the first two
    modern: bool                     # torchvision's frame, padding and places of dropout
    init: str                        # where the weights start: one of STARTS
    overlap: bool = True             # pooling windows of 3 at a distance of 2, else of 2
    dropout: float = 0.5             # share of features that a training step leaves out
    activation: str = "relu"         # one of ACTIVATIONS


VARIANTS = {
    "paper": Variant((96, 256, 384, 384, 256), groups=2, lrn=True, modern=False, init="paper"),
    "single": Variant((96, 256, 384, 384, 256), groups=1, lrn=True, modern=False, init="paper"),
    "torchvision": Variant((64, 192, 384, 256, 256), groups=1, lrn=False, modern=True,
                           init="pytorch"),
}


class LocalResponseNorm(nn.Module):
    """Divides each number by how active the neighbouring channels are at the same place.

    Paper, section 3.3. α is the paper's: the sum over n channels is not averaged. PyTorch,
    Caffe average, so they need n times our α to do the same. n has to be odd.
    """

    def __init__(self, k: float = 2.0, n: int = 5, alpha: float = 1e-4,
                 beta: float = 0.75) -> None:
        super().__init__()
        if n % 2 == 0:
            raise ValueError(f"n is {n}: an even number of neighbours has no middle")
        self.k, self.n, self.alpha, self.beta = k, n, alpha, beta

    def forward(self, a: Tensor) -> Tensor:                            # (B, C, H, W)
        """The sum over neighbours is a convolution of size one whose weights are a band."""
        channel = torch.arange(a.size(1), device=a.device)
        near = (channel[:, None] - channel).abs() <= self.n // 2       # (C, C)
        with torch.autocast(a.device.type, enabled=False):             # squares need precision
            a = a if a.dtype == torch.float64 else a.float()
            band = near.to(a.dtype)[:, :, None, None]                  # (C, C, 1, 1)
            sums = F.conv2d(a.square(), band)                          # (B, C, H, W)
            return a * (self.k + self.alpha * sums) ** -self.beta      # (B, C, H, W)  (2)


class Dropout(nn.Module):
    """While training, leaves out each feature with probability p; later scales all by 1 - p.

    Paper, section 4.2. PyTorch's `nn.Dropout` divides by 1 - p while training instead, and
    does nothing later: then the weights after it are smaller by that factor.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"dropout is a share from 0 to below 1, not {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:                            # (B, F)
        if self.training:
            return x * (torch.rand_like(x) >= self.p)                  # (B, F)  (4)
        return x * (1 - self.p)                                        # (B, F)  (5)


class AlexNet(nn.Module):
    """AlexNet for `image_size` pixels: 60,965,224 parameters as in the paper.

    Takes images (B, 3, S, S) without their mean and returns one logit per class, (B, K).
    `width` scales channels and hidden layers, `changes` replace fields of the variant.
    Raises ValueError if the description makes no sense.
    """

    def __init__(self, classes: int = 1000, variant: str = "paper", width: float = 1.0,
                 image_size: int = 224, **changes: object) -> None:
        super().__init__()
        if variant not in VARIANTS or classes < 2 or width <= 0:
            raise ValueError(f"variant is one of {', '.join(VARIANTS)}, there are at least two "
                             "classes, and the width is above 0")
        plan = VARIANTS[variant]._replace(**changes)
        if plan.activation not in ACTIVATIONS or plan.init not in STARTS:
            raise ValueError(f"activation is one of {', '.join(ACTIVATIONS)} and init one of "
                             f"{', '.join(STARTS)}")
        self.plan, groups = plan, plan.groups
        C1, C2, C3, C4, C5 = (max(2, 2 * round(C * width / 2)) for C in plan.channels)
        self.stride, kernel, padding = stem(image_size, plan.modern)
        self.conv1 = nn.Conv2d(3, C1, kernel, self.stride, padding)
        self.conv2 = nn.Conv2d(C1, C2, kernel_size=5, padding=2, groups=groups)
        self.conv3 = nn.Conv2d(C2, C3, kernel_size=3, padding=1)   # sees both groups
        self.conv4 = nn.Conv2d(C3, C4, kernel_size=3, padding=1, groups=groups)
        self.conv5 = nn.Conv2d(C4, C5, kernel_size=3, padding=1, groups=groups)
        self.norm = LocalResponseNorm() if plan.lrn else nn.Identity()
        self.pool = nn.MaxPool2d(kernel_size=3 if plan.overlap else 2, stride=2)    # (3)
        self.side = self._last_side(image_size)
        features, hidden = C5 * self.side**2, max(2, round(HIDDEN * width))
        self.fc6 = nn.Linear(features, hidden)
        self.fc7 = nn.Linear(hidden, hidden)
        self.fc8 = nn.Linear(hidden, classes)
        drop = nn.Dropout(plan.dropout) if plan.modern else Dropout(plan.dropout)
        self.drop6 = drop if plan.modern else nn.Identity()   # torchvision: before fc6 and fc7
        self.drop7 = drop
        self.drop8 = nn.Identity() if plan.modern else drop   # the paper: behind fc6 and fc7
        self._start(plan.init)

    def _last_side(self, image_size: int) -> int:
        """Side of the last maps, which the first hidden layer reads."""
        extent = image_size + 2 * self.conv1.padding[0] - self.conv1.kernel_size[0]
        side = 1 + (extent // self.stride if self.plan.modern else -(-extent // self.stride))
        for _ in range(3):
            side = (side - self.pool.kernel_size) // 2 + 1
        if side < 1:
            raise ValueError(f"images of {image_size} pixels are too small: nothing would be "
                             "left of them after three poolings")
        return side

    def _start(self, init: str) -> None:
        """The paper's weights are from N(0, 0.01²), and some biases are 1; He's keep variance.

        A bias of 1 lets most rectifiers pass something on from the first step (section 5).
        """
        for name, layer in self.named_children():
            if not isinstance(layer, nn.Conv2d | nn.Linear) or init == "pytorch":
                continue
            he = (2 / layer.weight[0].numel()) ** 0.5 / (SPREAD if name == "conv1" else 1)
            paper = init == "paper" or name == "fc8"    # small logits: no opinion to begin with
            nn.init.normal_(layer.weight, std=0.01 if paper else he)
            ones = init == "paper" and name in ("conv2", "conv4", "conv5", "fc6", "fc7")
            nn.init.constant_(layer.bias, float(ones))

    def activate(self, x: Tensor) -> Tensor:
        """max(0, x), in place since nobody needs what was there; or tanh."""
        return F.relu(x, inplace=True) if self.plan.activation == "relu" else x.tanh()   # (1)

    def frame(self, images: Tensor) -> Tensor:                         # (B, 3, S, S)
        """Zeros to the right and below until the last window fits: none at 227 pixels.

        So 224 pixels give 55 positions, as in the paper, whose authors' code rounded up.
        """
        missing = -(images.size(-1) - self.conv1.kernel_size[0]) % self.stride
        return images if self.plan.modern else F.pad(images, (0, missing, 0, missing))

    def maps(self, images: Tensor) -> list[Tensor]:                    # (B, 3, S, S)
        """What each of the five convolutions hands on; sides are the paper's."""
        first = self.activate(self.conv1(self.frame(images)))          # 55, after pooling 27
        first = self.pool(self.norm(first))
        second = self.pool(self.norm(self.activate(self.conv2(first))))    # 27, then 13
        third = self.activate(self.conv3(second))                      # 13
        fourth = self.activate(self.conv4(third))                      # 13
        fifth = self.pool(self.activate(self.conv5(fourth)))           # 13, then 6
        return [first, second, third, fourth, fifth]

    def features(self, maps: Tensor) -> Tensor:                        # (B, C, M, M)
        """The numbers by which the last layer tells the classes apart: 4,096 in the paper."""
        x = self.drop6(maps.flatten(1))                                # (B, C*M*M)
        x = self.drop7(self.activate(self.fc6(x)))                     # (B, F)
        return self.activate(self.fc7(x))                              # (B, F)

    def forward(self, images: Tensor) -> Tensor:                       # (B, 3, S, S)
        """Logits. torchvision's variant averages maps of any size to its own; others refuse."""
        maps = self.maps(images)[-1]                                   # (B, C, M, M)
        if self.plan.modern:
            maps = F.adaptive_avg_pool2d(maps, self.side)
        if maps.size(-1) != self.side:
            raise ValueError(f"images of {images.size(-1)} pixels leave {maps.size(-1)} in the "
                             f"last maps, and this model was built for {self.side}")
        return self.fc8(self.drop8(self.features(maps)))               # (B, K)


def stem(image_size: int, modern: bool) -> tuple[int, int, int]:
    """Stride, kernel and padding of the first convolution, for images of this size.

    11 and 4 from 112 pixels on, as in the paper; smaller ones would soon have no pixels left.
    """
    stride = 4 if image_size >= 112 else 2 if image_size >= 56 else 1
    kernel = 2 * stride + 3
    return stride, kernel, 2 if stride < 4 or modern else 0


def build(config: dict) -> AlexNet:
    """The untrained model that a checkpoint's configuration describes."""
    return AlexNet(len(config["classes"]), config["variant"], config["width"],
                   config["image_size"], **config["changes"])


def layers(model: AlexNet, image_size: int) -> list[tuple[str, tuple[int, ...], int, int]]:
    """Name, output shape, parameters and multiply-adds of each layer in a real forward pass."""
    rows = []

    def record(name: str, layer: nn.Module, output: Tensor) -> None:
        shape, weights = tuple(output.shape[1:]), getattr(layer, "weight", None)
        products = 0
        if weights is not None:    # a convolution uses each weight once for every place
            places = shape[1] * shape[2] if len(shape) == 3 else 1
            products = weights.numel() * places
        rows.append((name, shape, sum(p.numel() for p in layer.parameters()), products))

    hooks = [layer.register_forward_hook(
                 lambda layer, _inputs, output, name=name: record(name, layer, output))
             for name, layer in model.named_children()
             if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.Linear)]
    model.eval()
    with torch.no_grad():
        model(torch.zeros(1, 3, image_size, image_size))
    for hook in hooks:
        hook.remove()
    return rows


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Print the table of layers of one variant."""
    parser = argparse.ArgumentParser(description=main.__doc__, allow_abbrev=False)
    parser.add_argument("--variant", choices=VARIANTS, default="paper", help="default: paper")
    parser.add_argument("--image-size", metavar="N", type=int, default=224, help="default: 224")
    parser.add_argument("--width", metavar="X", type=float, default=1.0, help="default: 1")
    args = parser.parse_args(argv)
    try:
        model = AlexNet(1000, args.variant, args.width, args.image_size)
    except (ValueError, OverflowError) as error:
        parser.error(str(error))
    print(f"{'layer':6} {'output':>10} {'parameters':>12} {'multiply-adds':>14}")
    rows = layers(model, args.image_size)
    rows.append(("total", (), *(sum(row[i] for row in rows) for i in (2, 3))))
    for name, shape, parameters, products in rows:
        print(f"{name:6} {'×'.join(map(str, shape)):>10} {parameters:>12,} {products:>14,}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
