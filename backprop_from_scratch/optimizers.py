"""Six ways downhill. An optimizer alone changes parameters, in place, one step at a time.

The formulas are those of `torch.optim` (a test follows both for 200 steps), which for some
of them differ from the paper in where the learning rate stands.
"""

import numpy as np

Arrays = dict[str, np.ndarray]


class Optimizer:
    """What all six share: the learning rate, L2, and a memory of arrays for each parameter.

    `l2` is λ of a penalty ½λ·Σw² that the loss does not show; it pulls at weights and leaves
    biases alone. `lr` may be changed between steps.
    """

    KEEPS: tuple[str, ...] = ()      # the arrays that are remembered for each parameter

    def __init__(self, parameters: Arrays, lr: float, l2: float = 0.0) -> None:
        self.parameters, self.lr, self.l2, self.steps = parameters, lr, l2, 0
        self.memory = {kind: {name: np.zeros_like(w) for name, w in parameters.items()}
                       for kind in self.KEEPS}

    def step(self, gradients: Arrays) -> None:
        """Change every parameter a little, against its gradient."""
        self.steps += 1
        for name, w in self.parameters.items():
            g = gradients[name]
            if self.l2 and w.ndim > 1:
                g = self.pull(w, g)
            w -= self.change(g, *(kept[name] for kept in self.memory.values()))

    def pull(self, w: np.ndarray, g: np.ndarray) -> np.ndarray:
        """The gradient with that of the L2 penalty, in a new array."""
        return g + self.l2 * w                                             # (15)

    def change(self, g: np.ndarray, *memory: np.ndarray) -> np.ndarray:
        """What to subtract from a parameter with gradient g; updates what is remembered."""
        raise NotImplementedError


class SGD(Optimizer):
    """Gradient descent: a step against the gradient of the batch."""

    def change(self, g: np.ndarray) -> np.ndarray:
        """η·g."""
        return self.lr * g                                                 # (14)


class Momentum(Optimizer):
    """A ball that rolls: the velocity sums all past gradients with fading weight."""

    KEEPS = ("velocity",)
    momentum = 0.9

    def change(self, g: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        """η·v."""
        velocity *= self.momentum
        velocity += g                                                      # (16)
        return self.lr * velocity


class Nesterov(Momentum):
    """Momentum that looks ahead: the step is the one the velocity is about to take."""

    def change(self, g: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        """η·(g + μ·v)."""
        velocity *= self.momentum
        velocity += g
        return self.lr * (g + self.momentum * velocity)                    # (17)


class RMSprop(Optimizer):
    """Every parameter has its own rate: η over the size that its gradients have lately."""

    KEEPS = ("square",)
    fading, epsilon = 0.99, 1e-8

    def change(self, g: np.ndarray, square: np.ndarray) -> np.ndarray:
        """η·g / (√s + ε)."""
        square *= self.fading
        square += (1 - self.fading) * (g * g)                              # (18)
        return self.lr * g / (np.sqrt(square) + self.epsilon)


class Adam(Optimizer):
    """Momentum over RMSprop's size, both freed from the zeros they started with.

    What is kept are m and s of (19) without their factors 1 - β, which come in at the end: two
    passes fewer over the arrays, and it is passes that cost time here.
    """

    KEEPS = ("total", "square_total")
    fading_mean, fading_square, epsilon = 0.9, 0.999, 1e-8

    def change(self, g: np.ndarray, total: np.ndarray, square_total: np.ndarray) -> np.ndarray:
        """η·m̂ / (√ŝ + ε), worked out in one new array."""
        total *= self.fading_mean
        total += g
        change = g * g
        square_total *= self.fading_square
        square_total += change
        mean_share, square_share = (
            (1 - fading) / (1 - fading**self.steps)
            for fading in (self.fading_mean, self.fading_square))
        root = square_share**0.5
        np.sqrt(square_total, out=change)
        change += self.epsilon / root
        np.divide(total, change, out=change)
        change *= self.lr * mean_share / root                              # (19)
        return change


class AdamW(Adam):
    """Adam whose L2 acts on the weights themselves, not through the averages."""

    def pull(self, w: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Shrink the weights by ηλ and leave the gradient as it is."""
        w *= 1 - self.lr * self.l2                                         # (20)
        return g


OPTIMIZERS = {"sgd": SGD, "momentum": Momentum, "nesterov": Nesterov, "rmsprop": RMSprop,
              "adam": Adam, "adamw": AdamW}
