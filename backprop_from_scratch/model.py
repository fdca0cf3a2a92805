"""A neural network whose every gradient is worked out by hand, in NumPy.

A layer has two verbs. `forward(x)` computes its output and keeps what the way back will need;
`backward(grad)` receives ∂L/∂output, leaves ∂L/∂parameter in `gradients`, changes nothing else
and returns ∂L/∂input. A loss has the same two verbs, and a network is a list of layers.

    python model.py                     # the table of layers of 784-300-100-10
    python model.py --sizes 2 8 2
"""

# N samples in a batch, I inputs of a layer, O outputs of a layer, K classes

import argparse
import math
import sys
from collections.abc import Sequence

import numpy as np

from console import one_line_errors
from losses import CrossEntropy, MeanSquaredError, sigmoid, softmax

NAME = "backprop_from_scratch"
INITIALISATIONS = {          # variance of a weight, from the layer's inputs and outputs    (3)
    "he": lambda inputs, outputs: 2 / inputs,
    "xavier": lambda inputs, outputs: 2 / (inputs + outputs),
    "lecun": lambda inputs, outputs: 1 / inputs,
}

# ---------------------------------------------------------------- layers


class Layer:
    """A step of a network: derive your own from it and let `gradient_check` look at it.

    `parameters` and `gradients` are dictionaries with equal names; a layer without any leaves
    both empty. While `training` is false, `forward` gives the answer that counts in use.
    """

    training = True

    def __init__(self) -> None:
        self.parameters: dict[str, np.ndarray] = {}
        self.gradients: dict[str, np.ndarray] = {}

    def forward(self, x: np.ndarray) -> np.ndarray:
        """The output for a batch x, one sample a row."""
        raise NotImplementedError

    def backward(self, grad: np.ndarray) -> np.ndarray | None:
        """∂L/∂x for the x of the last forward pass, from grad = ∂L/∂output."""
        raise NotImplementedError

    def sides(self) -> np.ndarray | None:
        """On which side of a kink each value of the last pass lay; None where all is smooth."""
        return None


class Linear(Layer):
    """Every output is a weighted sum of all inputs and a bias.

    Weights are drawn by `init`, biases are zero. The gradient for the input of the `first`
    layer would say how to change the data: nobody asks, so it is not computed (None).
    """

    def __init__(self, inputs: int, outputs: int, rng: np.random.Generator, init: str = "he",
                 dtype: type = np.float64, first: bool = False) -> None:
        super().__init__()
        if init not in INITIALISATIONS:
            raise ValueError(f"there is no init {init!r}: use {', '.join(INITIALISATIONS)}")
        if min(inputs, outputs) < 1:
            raise ValueError(f"a layer from {inputs} inputs to {outputs} outputs is none")
        std = math.sqrt(INITIALISATIONS[init](inputs, outputs))
        weight = rng.normal(0.0, std, (inputs, outputs)).astype(dtype)     # (I, O)
        self.parameters = {"weight": weight, "bias": np.zeros(outputs, dtype)}
        self.first = first

    def forward(self, x: np.ndarray) -> np.ndarray:                        # (N, I)
        inputs = len(self.parameters["weight"])
        if x.ndim != 2 or x.shape[1] != inputs:
            raise ValueError(f"this layer reads batches of {inputs} numbers a sample, not "
                             f"arrays of shape {x.shape}")
        self.x = x
        return x @ self.parameters["weight"] + self.parameters["bias"]     # (N, O)  (1)

    def backward(self, grad: np.ndarray) -> np.ndarray | None:             # (N, O)
        """∂L/∂x; leaves ∂L/∂weight and ∂L/∂bias, each a sum over the batch."""
        self.gradients = {"weight": self.x.T @ grad, "bias": grad.sum(axis=0)}   # (2)
        if self.first:
            return None
        return grad @ self.parameters["weight"].T                          # (N, I)


class ReLU(Layer):
    """What is positive passes, the rest becomes 0; at 0 the slope is 0, as in PyTorch."""

    def forward(self, x: np.ndarray) -> np.ndarray:                        # (N, O)
        self.positive = x > 0                                              # (N, O)
        return np.maximum(x, 0)                                            # (N, O)  (4)

    def backward(self, grad: np.ndarray) -> np.ndarray:                    # (N, O)
        """∂L/∂x: the gradient passes where the input did."""
        return grad * self.positive                                        # (N, O)

    def sides(self) -> np.ndarray:
        """Which inputs were positive."""
        return self.positive                                               # (N, O)


class Sigmoid(Layer):
    """Squashes every number into (0, 1), with the greatest slope, ¼, at 0."""

    def forward(self, x: np.ndarray) -> np.ndarray:                        # (N, O)
        self.y = sigmoid(x)                                                # (N, O)
        return self.y

    def backward(self, grad: np.ndarray) -> np.ndarray:                    # (N, O)
        """∂L/∂x: the slope is known from the output alone."""
        return grad * (self.y * (1 - self.y))                              # (N, O)  (5)


class Tanh(Layer):
    """Squashes every number into (-1, 1), with the greatest slope, 1, at 0."""

    def forward(self, x: np.ndarray) -> np.ndarray:                        # (N, O)
        self.y = np.tanh(x)                                                # (N, O)
        return self.y

    def backward(self, grad: np.ndarray) -> np.ndarray:                    # (N, O)
        """∂L/∂x: the slope is known from the output alone."""
        return grad * (1 - self.y * self.y)                                # (N, O)  (6)


class Softmax(Layer):
    """Makes each row positive and lets it sum to one. For training see `CrossEntropy`.

    Every output depends on every input, so the slopes form a matrix: diag(p) - p pᵀ.
    """

    def forward(self, x: np.ndarray) -> np.ndarray:                        # (N, K)
        self.p = softmax(x)                                                # (N, K)
        return self.p

    def backward(self, grad: np.ndarray) -> np.ndarray:                    # (N, K)
        """∂L/∂x: the product with the whole matrix, which need not be written down."""
        common = (grad * self.p).sum(axis=1, keepdims=True)                # (N, 1)
        return self.p * (grad - common)                                    # (N, K)  (8)


class Dropout(Layer):
    """Silences a share of the inputs while training and scales the others up to make good."""

    def __init__(self, share: float, rng: np.random.Generator) -> None:
        super().__init__()
        if not 0 <= share < 1:
            raise ValueError(f"dropout silences a share of at least 0 and below 1, not {share}")
        self.share, self.rng = share, rng

    def forward(self, x: np.ndarray) -> np.ndarray:                        # (N, O)
        if not self.training or self.share == 0:
            self.mask = np.ones_like(x)                                    # (N, O)
        else:
            kept = self.rng.random(x.shape, dtype=x.dtype) >= self.share   # (N, O)
            self.mask = kept / x.dtype.type(1 - self.share)                # (N, O)
        return x * self.mask                                               # (N, O)  (13)

    def backward(self, grad: np.ndarray) -> np.ndarray:                    # (N, O)
        """∂L/∂x: the gradient takes the way of the values, through the same mask."""
        return grad * self.mask                                            # (N, O)


# ---------------------------------------------------------------- networks


class Network:
    """Layers one after another; the way back visits them in reverse."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        if not layers:
            raise ValueError("a network needs at least one layer")
        self.layers = list(layers)

    def forward(self, x: np.ndarray) -> np.ndarray:                        # (N, I)
        """The outputs for a batch x, one sample a row."""
        for layer in self.layers:
            x = layer.forward(x)
        return x                                                           # (N, O)

    def backward(self, grad: np.ndarray) -> np.ndarray | None:             # (N, O)
        """The chain rule: from ∂L/∂outputs to all gradients; returns ∂L/∂x."""
        for layer in reversed(self.layers):
            grad = layer.backward(grad)
        return grad

    def train(self, training: bool = True) -> None:
        """Switch what differs between training and use: dropout."""
        for layer in self.layers:
            layer.training = training

    @property
    def parameters(self) -> dict[str, np.ndarray]:
        """All parameters themselves, not copies, as "<number of the layer>.<name>"."""
        return {f"{number}.{name}": array for number, layer in enumerate(self.layers)
                for name, array in layer.parameters.items()}

    @property
    def gradients(self) -> dict[str, np.ndarray]:
        """All gradients of the last backward pass, under the names of their parameters."""
        return {f"{number}.{name}": array for number, layer in enumerate(self.layers)
                for name, array in layer.gradients.items()}


def flat(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """A copy of all numbers of all arrays in a row."""
    return np.concatenate([array.ravel() for array in arrays.values()])


ACTIVATIONS = {"relu": ReLU, "sigmoid": Sigmoid, "tanh": Tanh}
LOSSES = {"classification": CrossEntropy, "regression": MeanSquaredError}


def build(config: dict, rng: np.random.Generator | None = None) -> Network:
    """The untrained network that a configuration describes: linear layers and what bends them.

    `sizes` are the widths from input to output; `activation`, then `dropout`, follow every
    layer but the last; `init` and `dtype` say how weights start. Raises ValueError if one of
    them is not known.
    """
    rng = rng or np.random.default_rng(0)
    sizes, activation = config["sizes"], config["activation"]
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(f"a network needs at least one layer, sizes {sizes} make none")
    if activation not in ACTIVATIONS:
        raise ValueError(f"there is no activation {activation!r}: use {', '.join(ACTIVATIONS)}")
    made: list[Layer] = []
    for number, (inputs, outputs) in enumerate(zip(sizes, sizes[1:])):
        if number > 0:
            made.append(ACTIVATIONS[activation]())
            if config["dropout"]:
                made.append(Dropout(config["dropout"], rng))
        made.append(Linear(inputs, outputs, rng, config["init"], np.dtype(config["dtype"]),
                           first=number == 0))
    return Network(made)


def layers(network: Network, inputs: int) -> list[tuple[str, tuple[int, ...], int]]:
    """Name, output shape and number of parameters of each layer, from a real forward pass."""
    x, rows = np.zeros((1, inputs)), []
    for layer in network.layers:
        x = layer.forward(x)
        parameters = sum(array.size for array in layer.parameters.values())
        rows.append((type(layer).__name__, x.shape[1:], parameters))
    return rows


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Print the table of layers."""
    parser = argparse.ArgumentParser(description=main.__doc__, allow_abbrev=False)
    parser.add_argument("--sizes", metavar="N", type=int, nargs="+",
                        default=[784, 300, 100, 10],
                        help="numbers of inputs, of each layer's units, and of outputs")
    sizes = parser.parse_args(argv).sizes
    try:
        network = build({"sizes": sizes, "activation": "relu", "init": "he", "dropout": 0.0,
                         "dtype": "float64"})
    except ValueError as error:
        parser.error(str(error))
    rows = layers(network, sizes[0])
    rows.append(("total", (), sum(row[2] for row in rows)))
    print(f"{'layer':8} {'output':>8} {'parameters':>12}")
    for name, shape, parameters in rows:
        print(f"{name:8} {'×'.join(map(str, shape)):>8} {parameters:>12,}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
