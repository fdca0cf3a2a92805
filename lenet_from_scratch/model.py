"""LeNet-5, twice: as it is mostly built today, and as its paper describes it.

Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-Based Learning Applied to Document
Recognition", Proceedings of the IEEE 86(11), 1998. Small filters slide over the picture,
the maps they make are shrunk, and a few dense layers read the answer off the last maps:
the same detector serves everywhere, so 60,000 weights are enough.

    python model.py                   # the network of the textbooks, 61,706 parameters
    python model.py --variant 1998    # the network of the paper, 60,000 parameters
"""

# B images in a batch, K classes, O output maps, I input maps, H height, W width

import argparse
import sys

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from console import one_line_errors

NAME = "lenet_from_scratch"  # whose checkpoints these are
VARIANTS = ("classic", "1998")


class LeNet(nn.Module):
    """The LeNet-5 of the textbooks: two convolutions, max pooling, ReLU, and 120-84-K.

    Takes standardised images (B, 1, 28, 28) and returns one logit per class, (B, K).
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, kernel_size=5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, kernel_size=5)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, classes)

    def forward(self, images: Tensor) -> Tensor:                       # (B, 1, 28, 28)
        x = self.pool(F.relu(self.conv1(images)))                      # (B, 6, 14, 14)  (1, 2)
        x = self.pool(F.relu(self.conv2(x)))                           # (B, 16, 5, 5)
        x = x.flatten(1)                                               # (B, 400)
        x = F.relu(self.fc1(x))                                        # (B, 120)
        x = F.relu(self.fc2(x))                                        # (B, 84)
        return self.fc3(x)                                             # (B, K)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy in nats, averaged over the batch; labels (B,) are class numbers."""
        return F.cross_entropy(logits, labels)                         # (4)

    def probabilities(self, logits: Tensor) -> Tensor:
        """What the network believes of each class; every row sums to 1."""
        return logits.softmax(1)                                       # (B, K)  (3)


# ---------------------------------------------------------------- the network of 1998

WHITE, BLACK = -0.1, 1.175  # paper and ink as the 1998 network sees them (§II-B)
RUBBISH = 10.0              # j of equation (9); the paper says only that it is positive

# Table I of the paper: the maps of S2 that each of the sixteen maps of C3 looks at.
C3_TABLE = "012 123 234 345 045 015 0123 1234 2345 0345 0145 0125 0134 1245 0235 012345".split()

# Figure 3 of the paper: each class is a drawing of 7×12 pixels that layer F6 has to make.
# This is the transcription in common use; it could not be held beside the printed figure.
CODES = """
.#####. ...##.. .#####. ####### .#####. .#####. ..####. ####### .#####. .#####.
....... ..###.. ....... .....## ....... ....... .##.... .....## ##...## ##..###
..###.. .####.. .#####. ....##. ....... ####### ##..... .....## ##...## ##...##
.##.##. ...##.. ##...## ...##.. .##..## ##..... ##..... ....##. ##...## ##...##
##...## ...##.. #....## ..####. .##..## ##..... ######. ...##.. .#####. ##..###
##...## ...##.. ....##. .....## ###..## .####.. ###..## ...##.. ##...## .######
##...## ...##.. ..###.. .....## ##...## ..####. ##...## ..##... ##...## .....##
##...## ...##.. .##.... .....## ##...## .....## ##...## ..##... ##...## .....##
.##.##. ...##.. ##..... ##...## ##..### ##...## ###..## ..##... ##...## ....##.
..###.. .###### ####### .#####. .###### .#####. .#####. ..##... .#####. .####..
....... ....... ....... ....... .....## ....... ....... ....... ....... .......
....... ....... ....... ....... .....## ....... ....... ....... ....... .......
"""


def codes() -> Tensor:
    """The ten drawings of `CODES` as targets for F6, (10, 84): ink is +1, paper is -1."""
    rows = [line.split() for line in CODES.split("\n") if line]
    drawings = ["".join(row[digit] for row in rows) for digit in range(10)]
    return torch.tensor([[1.0 if p == "#" else -1.0 for p in pixels] for pixels in drawings])


def squash(a: Tensor) -> Tensor:
    """f(a) = A·tanh(S·a) with A = 1.7159, S = 2/3: f(±1) = ±1, where the curve bends most."""
    return 1.7159 * torch.tanh(2 / 3 * a)                              # (5)


def uniform(*shape: int, fan_in: int) -> nn.Parameter:
    """The paper's start: weights uniform in ±2.4 / (number of inputs of the unit)."""
    return nn.Parameter(torch.empty(shape).uniform_(-2.4 / fan_in, 2.4 / fan_in))


class Subsample(nn.Module):
    """S2 and S4: the sum of each 2×2 block, times one trainable number a map, plus another."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.coefficient = uniform(maps, 1, 1, fan_in=4)               # β
        self.bias = uniform(maps, 1, 1, fan_in=4)

    def forward(self, x: Tensor) -> Tensor:                            # (B, I, H, W)
        block_sum = 4 * F.avg_pool2d(x, 2)                             # (B, I, H/2, W/2)
        return self.coefficient * block_sum + self.bias                # (6)


class TableConv(nn.Module):
    """C3: a convolution in which each output map sees only the input maps a table gives it.

    Only the kernels that exist are parameters; the others are zeros made on the fly, so no
    update can touch them.
    """

    def __init__(self, table: list[str], kernel_size: int = 5) -> None:
        super().__init__()
        area = kernel_size**2
        fan_in = [area * len(inputs) for inputs in table]
        links = [(o, int(i)) for o, inputs in enumerate(table) for i in inputs]
        kernels = [uniform(kernel_size, kernel_size, fan_in=fan_in[o]) for o, _ in links]
        biases = [uniform(fan_in=fan) for fan in fan_in]
        self.kernels = nn.Parameter(torch.stack(kernels).detach())     # (60, 5, 5)
        self.bias = nn.Parameter(torch.stack(biases).detach())         # (O,)
        self.register_buffer("links", torch.tensor(links), persistent=False)  # (60, 2)

    def weight(self) -> Tensor:
        """The kernels at their places in a full weight, zeros elsewhere."""
        outputs, inputs = self.links.T
        maps = (len(self.bias), int(inputs.max()) + 1)
        full = self.kernels.new_zeros(*maps, *self.kernels.shape[1:])  # (O, I, 5, 5)
        return full.index_put((outputs, inputs), self.kernels)         # (O, I, 5, 5)

    def forward(self, x: Tensor) -> Tensor:                            # (B, I, H, W)
        return F.conv2d(x, self.weight(), self.bias)                   # (B, O, H-4, W-4)  (7)


class RBF(nn.Module):
    """The output: how far F6 is from each class's drawing, negated so that the largest wins.

    The paper's output y is the squared distance itself, a penalty: there the smallest wins.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centres", codes(), persistent=False)     # (10, 84)

    def forward(self, drawing: Tensor) -> Tensor:                      # (B, 84)
        y = (drawing[:, None, :] - self.centres).square().sum(2)       # (B, 10)  (8)
        return -y


class LeNet1998(nn.Module):
    """LeNet-5 as the paper has it, with exactly 60,000 trainable parameters.

    Takes images (B, 1, 28, 28) with paper at -0.1 and ink at 1.175; returns -y, the negated
    squared distances of F6 to the ten drawings, (B, 10).
    """

    def __init__(self) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(1, 6, kernel_size=5)
        self.s2 = Subsample(6)
        self.c3 = TableConv(C3_TABLE)
        self.s4 = Subsample(16)
        self.c5 = nn.Conv2d(16, 120, kernel_size=5)
        self.f6 = nn.Linear(120, 84)
        self.output = RBF()
        for layer in (self.c1, self.c5, self.f6):
            fan_in = layer.weight[0].numel()
            layer.weight = uniform(*layer.weight.shape, fan_in=fan_in)
            layer.bias = uniform(*layer.bias.shape, fan_in=fan_in)

    def draw(self, images: Tensor) -> Tensor:                          # (B, 1, 28, 28)
        """F6: the drawing, 7 wide and 12 high, that the network makes of each image."""
        x = F.pad(images, (2, 2, 2, 2), value=WHITE)                   # (B, 1, 32, 32)
        x = squash(self.c1(x))                                         # (B, 6, 28, 28)
        x = squash(self.s2(x))                                         # (B, 6, 14, 14)
        x = squash(self.c3(x))                                         # (B, 16, 10, 10)
        x = squash(self.s4(x))                                         # (B, 16, 5, 5)
        x = squash(self.c5(x)).flatten(1)                              # (B, 120)
        return squash(self.f6(x))                                      # (B, 84)

    def forward(self, images: Tensor) -> Tensor:                       # (B, 1, 28, 28)
        return self.output(self.draw(images))                          # (B, 10)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The paper's MAP criterion, averaged over the batch; labels (B,) are digits."""
        return map_loss(logits, labels)

    def probabilities(self, logits: Tensor) -> Tensor:
        """What the network believes of each digit; what a row lacks to 1 is "no digit".

        In float64, since e to the minus a distance of 600 is zero in float32.
        """
        return with_rubbish(logits.double()).softmax(1)[:, :-1]        # (B, 10)  (10)


def with_rubbish(logits: Tensor, j: float = RUBBISH) -> Tensor:
    """The logits and one more, always -j: the class of everything that is no digit."""
    rubbish = logits.new_full((len(logits), 1), -j)                    # (B, 1)
    return torch.cat([logits, rubbish], dim=1)                         # (B, K+1)


def map_loss(logits: Tensor, labels: Tensor, j: float = RUBBISH) -> Tensor:
    """y_t + log(e⁻ʲ + Σ e⁻ʸ), averaged: draw the right digit and none of the others (§II-C).

    This is the cross-entropy over K+1 classes of which the last is rubbish with logit -j.
    """
    right = logits.gather(1, labels[:, None]).squeeze(1)               # (B,)
    everything = with_rubbish(logits, j).logsumexp(1)                  # (B,)
    return (everything - right).mean()                                 # (9)


# ---------------------------------------------------------------- building and describing


def build(config: dict) -> LeNet | LeNet1998:
    """The untrained model that a checkpoint's configuration describes.

    Raises ValueError if the 1998 network is asked for other than ten classes.
    """
    classes = len(config["classes"])
    if config["variant"] == "classic":
        return LeNet(classes)
    if classes != 10:
        raise ValueError(f"the 1998 network has drawings for ten classes but there are "
                         f"{classes}: use --variant classic")
    return LeNet1998()


def layers(model: nn.Module) -> list[tuple[str, tuple[int, ...], int, int]]:
    """Name, output shape, parameters and connections of each layer in a real forward pass."""
    rows = []

    def record(name: str, layer: nn.Module, output: Tensor) -> None:
        parameters = sum(p.numel() for p in layer.parameters())
        if isinstance(layer, Subsample):
            connections = 5 * output[0].numel()         # each unit: four inputs and a bias
        elif isinstance(layer, RBF):
            connections = layer.centres.numel()         # fixed, and yet the paper counts them
        else:
            connections = parameters * output[0, 0].numel()   # a weight serves every place
        rows.append((name, tuple(output.shape[1:]), parameters, connections))

    hooks = [layer.register_forward_hook(
                 lambda layer, _inputs, output, name=name: record(name, layer, output))
             for name, layer in model.named_children()]
    with torch.no_grad():
        model(torch.zeros(2, 1, 28, 28))
    for hook in hooks:
        hook.remove()
    return rows


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Print the table of layers."""
    parser = argparse.ArgumentParser(description=main.__doc__, allow_abbrev=False)
    parser.add_argument("--variant", choices=VARIANTS, default="classic")
    rows = layers(build({"variant": parser.parse_args(argv).variant, "classes": range(10)}))
    rows.append(("total", (), sum(row[2] for row in rows), sum(row[3] for row in rows)))
    print(f"{'layer':8} {'output':>10} {'parameters':>12} {'connections':>12}")
    for name, shape, parameters, connections in rows:
        print(f"{name:8} {'×'.join(map(str, shape)):>10} {parameters:>12,} {connections:>12,}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
