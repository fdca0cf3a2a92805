"""LeNet-5's plan with what was learned since: ReLU, batch normalisation, dropout, He's start.

The plan is that of Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-Based Learning
Applied to Document Recognition", 1998: two convolutions, two shrinkings, and 120-84-K. Each
later part can be switched off, so that one can see what it is good for (`ablation.py`).

    python model.py        # the table of layers, 61,932 parameters
"""

# B images in a batch, K classes, C channels or features, N numbers of a channel

import argparse
import sys

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from console import one_line_errors

NAME = "lenet5_from_scratch"  # whose checkpoints these are
ACTIVATIONS = ("relu", "tanh")
STARTS = ("he", "pytorch")
SWITCHES = ("activation", "batch_norm", "dropout", "init")  # what a configuration says


class BatchNorm(nn.Module):
    """Each channel of a batch gets mean 0 and variance 1, then a mean and width it has learned.

    S. Ioffe, C. Szegedy, "Batch Normalization", 2015. Takes (B, C) or (B, C, H, W). While
    training, a picture's result depends on its batch mates; afterwards on running averages.
    """

    MOMENTUM = 0.1    # how much of the running averages each batch replaces
    EPSILON = 1e-5    # keeps a channel without any variance from dividing by zero

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))                # γ
        self.shift = nn.Parameter(torch.zeros(channels))               # β
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """PyTorch's fused kernel: the same numbers as `written_out`, several times faster."""
        return F.batch_norm(x, self.mean, self.variance, self.scale, self.shift,
                            self.training, self.MOMENTUM, self.EPSILON)

    def written_out(self, x: Tensor) -> Tensor:
        """What `forward` computes, line by line, the running averages included."""
        by_channel = x.transpose(0, 1).flatten(1)                      # (C, N)
        mean, variance = self.mean, self.variance
        if self.training:
            mean = by_channel.mean(1)                                  # (C,)  (1)
            variance = by_channel.var(1, correction=0)                 # (C,)  (2)
            unbiased = by_channel.var(1).detach()    # an estimate for all pictures
            self.mean.lerp_(mean.detach(), self.MOMENTUM)              # (4)
            self.variance.lerp_(unbiased, self.MOMENTUM)
        mean, variance, scale, shift = (
            value.view(-1, *[1] * (x.ndim - 2))
            for value in (mean, variance, self.scale, self.shift))
        return scale * (x - mean) / (variance + self.EPSILON).sqrt() + shift     # (3)


class LeNet5(nn.Module):
    """LeNet-5's plan, at most 61,932 parameters for ten classes.

    Takes standardised images (B, 1, 28, 28) and returns one logit per class, (B, K).
    `dropout` is the share of the 120 and of the 84 features that a training step leaves out.
    Raises ValueError on an unknown activation or start.
    """

    def __init__(self, classes: int = 10, activation: str = "relu", batch_norm: bool = True,
                 dropout: float = 0.0, init: str = "he") -> None:
        super().__init__()
        if activation not in ACTIVATIONS or init not in STARTS:
            raise ValueError(f"activation is one of {', '.join(ACTIVATIONS)} and init one of "
                             f"{', '.join(STARTS)}, not {activation} and {init}")
        bias = not batch_norm      # (3) takes the mean away, and with it any bias before it
        self.conv1 = nn.Conv2d(1, 6, kernel_size=5, padding=2, bias=bias)
        self.norm1 = BatchNorm(6) if batch_norm else nn.Identity()
        self.conv2 = nn.Conv2d(6, 16, kernel_size=5, bias=bias)
        self.norm2 = BatchNorm(16) if batch_norm else nn.Identity()
        self.fc1 = nn.Linear(16 * 5 * 5, 120, bias=bias)
        self.norm3 = BatchNorm(120) if batch_norm else nn.Identity()
        self.fc2 = nn.Linear(120, 84, bias=bias)
        self.norm4 = BatchNorm(84) if batch_norm else nn.Identity()
        self.fc3 = nn.Linear(84, classes)
        self.dropout = nn.Dropout(dropout)                             # (6)
        self.activation = torch.relu if activation == "relu" else torch.tanh
        if init == "he":
            self._start_as_he()

    def _start_as_he(self) -> None:
        """Weights from N(0, g / inputs): g is 2 before an activation, 1 in the last layer.

        tanh gets 2, too, so that its switch changes one thing.
        """
        for layer in (self.conv1, self.conv2, self.fc1, self.fc2, self.fc3):
            gain = 1 if layer is self.fc3 else 2
            nn.init.normal_(layer.weight, std=(gain / layer.weight[0].numel()) ** 0.5)   # (5)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def maps(self, images: Tensor) -> Tensor:                          # (B, 1, 28, 28)
        """The sixteen maps of the second convolution: the last that know where things are."""
        x = self.activation(self.norm1(self.conv1(images)))            # (B, 6, 28, 28)
        x = F.max_pool2d(x, 2)                                         # (B, 6, 14, 14)
        return self.activation(self.norm2(self.conv2(x)))              # (B, 16, 10, 10)

    def features(self, maps: Tensor) -> Tensor:                        # (B, 16, 10, 10)
        """The 84 numbers by which the last layer tells the classes apart."""
        x = F.max_pool2d(maps, 2).flatten(1)                           # (B, 400)
        x = self.dropout(self.activation(self.norm3(self.fc1(x))))     # (B, 120)
        return self.activation(self.norm4(self.fc2(x)))                # (B, 84)

    def classify(self, maps: Tensor) -> Tensor:                        # (B, 16, 10, 10)
        """One logit per class from the maps."""
        return self.fc3(self.dropout(self.features(maps)))             # (B, K)

    def forward(self, images: Tensor) -> Tensor:                       # (B, 1, 28, 28)
        return self.classify(self.maps(images))                        # (B, K)

    def probabilities(self, logits: Tensor) -> Tensor:
        """What the network believes of each class; every row sums to 1."""
        return logits.softmax(1)                                       # (B, K)

    def loss(self, logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        """Cross-entropy in nats, averaged; labels (B,) are class numbers.

        `smoothing` ε asks for 1 - ε + ε/K at the true class and ε/K at each other one, since
        nobody is ever infinitely sure. (Szegedy and others, 2016.)
        """
        return F.cross_entropy(logits, labels, label_smoothing=smoothing)        # (7)


def build(config: dict) -> LeNet5:
    """The untrained model that a checkpoint's configuration describes."""
    return LeNet5(len(config["classes"]), **{name: config[name] for name in SWITCHES})


def layers(model: LeNet5) -> list[tuple[str, tuple[int, ...], int]]:
    """Name, output shape and parameters of each layer with weights in a real forward pass."""
    rows = []

    def record(name: str, layer: nn.Module, output: Tensor) -> None:
        count = sum(p.numel() for p in layer.parameters())
        rows.append((name, tuple(output.shape[1:]), count))

    hooks = [layer.register_forward_hook(
                 lambda layer, _inputs, output, name=name: record(name, layer, output))
             for name, layer in model.named_children() if list(layer.parameters())]
    model.eval()
    with torch.no_grad():
        model(torch.zeros(1, 1, 28, 28))
    for hook in hooks:
        hook.remove()
    return rows


def fused_difference(seed: int = 0) -> float:
    """The largest difference between batch normalisation fused and written out."""
    x = torch.randn(64, 6, 28, 28, generator=torch.Generator().manual_seed(seed))
    fused, plain = BatchNorm(6), BatchNorm(6)
    results = (fused(x) - plain.written_out(x), fused.mean - plain.mean,
               fused.variance - plain.variance)
    return max(difference.abs().max().item() for difference in results)


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Print the table of layers, and whether both ways of batch normalisation agree."""
    parser = argparse.ArgumentParser(description=main.__doc__, allow_abbrev=False)
    parser.add_argument("--no-batch-norm", dest="batch_norm", action="store_false",
                        help="the plan without batch normalisation")
    rows = layers(LeNet5(batch_norm=parser.parse_args(argv).batch_norm))
    rows.append(("total", (), sum(row[2] for row in rows)))
    print(f"{'layer':8} {'output':>10} {'parameters':>12}")
    for name, shape, parameters in rows:
        print(f"{name:8} {'×'.join(map(str, shape)):>10} {parameters:>12,}")
    agree = "agree" if fused_difference() < 1e-5 else "DIFFER"
    print(f"batch normalisation fused and written out: they {agree}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
