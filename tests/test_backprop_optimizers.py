"""Six optimizers in NumPy against torch.optim, step by step, and against closed forms."""

import copy

import numpy as np
import pytest
import torch

from support import load

backprop = load("backprop_from_scratch")
model, optimizers = backprop.model, backprop.optimizers

# The shapes are those of a weight, a wide and a tall one, a bias, and one of one number.
SHAPES = {"weight": (3, 4), "row": (1, 7), "column": (6, 1), "bias": (5,), "lone bias": (1,)}
THEIRS = {
    "sgd": lambda groups, lr: torch.optim.SGD(groups, lr),
    "momentum": lambda groups, lr: torch.optim.SGD(groups, lr, momentum=0.9),
    "nesterov": lambda groups, lr: torch.optim.SGD(groups, lr, momentum=0.9, nesterov=True),
    "rmsprop": lambda groups, lr: torch.optim.RMSprop(groups, lr),
    "adam": lambda groups, lr: torch.optim.Adam(groups, lr),
    "adamw": lambda groups, lr: torch.optim.AdamW(groups, lr),
}

each_optimizer = pytest.mark.parametrize("name", optimizers.OPTIMIZERS)


def draw(rng: np.random.Generator, scale: float = 1.0) -> dict[str, np.ndarray]:
    """A random array of each shape."""
    return {name: scale * rng.normal(size=shape) for name, shape in SHAPES.items()}


def draw_gradients(rng: np.random.Generator, step: int) -> dict[str, np.ndarray]:
    """Random gradients, small in some steps, so that ε counts, and absent in others."""
    return draw(rng, (1.0, 1e-4, 0.0, 1e-8, 30.0)[step % 5])


def both(name: str, lr: float, l2: float) -> tuple:
    """Our optimizer and PyTorch's, with equal parameters; biases are not decayed by either."""
    parameters = draw(np.random.default_rng(0))
    tensors = {key: torch.tensor(w, requires_grad=True) for key, w in parameters.items()}
    groups = [{"params": [w for w in tensors.values() if w.ndim > 1], "weight_decay": l2},
              {"params": [w for w in tensors.values() if w.ndim == 1], "weight_decay": 0.0}]
    ours = optimizers.OPTIMIZERS[name](parameters, lr, l2)
    return parameters, ours, tensors, THEIRS[name](groups, lr)


def farthest(parameters: dict[str, np.ndarray], tensors: dict[str, torch.Tensor]) -> float:
    """The greatest difference of two sets of parameters, in any number."""
    return max(np.abs(w - tensors[key].detach().numpy()).max() for key, w in parameters.items())


# ---------------------------------------------------------------- parity


def follow(name: str, l2: float, rates: list[float]) -> None:
    """Step both optimizers with the same gradients at these rates; they must not part."""
    parameters, ours, tensors, theirs = both(name, rates[0], l2)
    start, rng = copy.deepcopy(parameters), np.random.default_rng(1)
    for step, rate in enumerate(rates):
        gradients = draw_gradients(rng, step)
        for key, w in tensors.items():
            w.grad = torch.tensor(gradients[key])
        ours.lr = rate
        for group in theirs.param_groups:
            group["lr"] = rate
        ours.step(gradients)
        theirs.step()
        assert farthest(parameters, tensors) <= 1e-12, step
    assert all((w != start[key]).all() for key, w in parameters.items())


@pytest.mark.parametrize("l2", [0.0, 0.1])
@each_optimizer
def test_two_hundred_steps_are_those_of_torch(name, l2):
    follow(name, l2, [0.01] * 200)


@each_optimizer
def test_the_steps_are_those_of_torch_when_the_rate_changes_on_the_way(name):
    """Where the rate stands, inside or outside of what is remembered, shows only here."""
    follow(name, 0.05, [0.01] * 20 + [0.001] * 20 + [0.02 * 0.9**step for step in range(20)])


@pytest.mark.parametrize("l2", [0.0, 0.1])
@each_optimizer
def test_a_constant_gradient_is_followed_as_by_torch(name, l2):
    parameters, ours, tensors, theirs = both(name, 0.001, l2)
    gradients = draw(np.random.default_rng(2))
    for key, w in tensors.items():
        w.grad = torch.tensor(gradients[key])
    for _ in range(200):
        ours.step(gradients)
        theirs.step()
    assert farthest(parameters, tensors) <= 1e-12


def test_there_are_six_optimizers_and_each_was_compared():
    kinds = {kind for kind in vars(optimizers).values()
             if isinstance(kind, type) and issubclass(kind, optimizers.Optimizer)}
    assert optimizers.OPTIMIZERS.keys() == THEIRS.keys()
    assert set(optimizers.OPTIMIZERS.values()) == kinds - {optimizers.Optimizer}


# ---------------------------------------------------------------- closed forms


def path(name: str, gradients: list[float], lr: float = 0.01, l2: float = 0.0,
         start: float = 0.0) -> list[float]:
    """Where one weight goes from its start, along these gradients."""
    w = np.full((1, 1), start)
    optimizer, visited = optimizers.OPTIMIZERS[name]({"w": w}, lr, l2), []
    for g in gradients:
        optimizer.step({"w": np.full((1, 1), g)})
        visited.append(float(w[0, 0]))
    return visited


@pytest.mark.parametrize("g", [1000.0, 1.0, 1e-3, -1e-3, -7.0])
@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_every_adam_step_along_a_constant_gradient_is_the_rate(name, g):
    """Without bias correction the first step is three times as long and the tenth not half."""
    visited = [0.0, *path(name, [g] * 1000, lr=0.001)]
    lengths = -np.diff(visited) * np.sign(g)
    assert lengths == pytest.approx(0.001 / (1 + 1e-8 / abs(g)), rel=1e-9)


def test_momentum_of_a_constant_gradient_ends_ten_times_as_fast():
    """The velocity is 1 + 0.9 + 0.81 + …: 1, 1.9 and 2.71 at first, 10 in the end."""
    visited = path("momentum", [1.0] * 300, lr=1.0)
    assert visited[:3] == pytest.approx([-1.0, -2.9, -5.61], rel=1e-12)
    assert visited[-2] - visited[-1] == pytest.approx(10.0, rel=1e-9)


def test_nesterov_is_one_step_of_momentum_ahead():
    """η·(g + μ·v): 1.9 at first, 1 + 0.9·1.9 = 2.71 next."""
    assert path("nesterov", [1.0, 1.0], lr=1.0) == pytest.approx([-1.9, -4.61], rel=1e-12)


def test_momentum_rolls_on_where_the_slope_ends_and_sgd_stops():
    assert path("momentum", [1.0, 0.0, 0.0], lr=1.0) == pytest.approx([-1.0, -1.9, -2.71])
    assert path("sgd", [1.0, 0.0, 0.0], lr=1.0) == [-1.0, -1.0, -1.0]


def test_the_first_step_of_rmsprop_is_ten_times_the_rate():
    """The mean square starts at 0 and takes in 1 % of g²: the root of it is a tenth of g."""
    assert path("rmsprop", [5.0]) == pytest.approx([-0.1], rel=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_without_a_gradient_l2_shrinks_weights_by_the_rate_times_lambda(name):
    visited = path(name, [0.0] * 3, lr=0.1, l2=0.5, start=2.0)
    assert visited == pytest.approx([2 * 0.95, 2 * 0.95**2, 2 * 0.95**3], rel=1e-14)


def test_l2_in_adam_is_a_gradient_and_its_size_is_lost():
    """The difference that AdamW makes: here λ decides the direction only."""
    weak, strong = (path("adam", [0.0], lr=0.1, l2=l2, start=2.0) for l2 in (0.01, 10.0))
    assert weak == pytest.approx([1.9], rel=1e-6) and strong == pytest.approx([1.9], rel=1e-6)


@each_optimizer
def test_l2_leaves_biases_alone(name):
    parameters = {"weight": np.ones((2, 2)), "bias": np.ones(2)}
    optimizer = optimizers.OPTIMIZERS[name](parameters, 0.1, 0.5)
    optimizer.step({"weight": np.zeros((2, 2)), "bias": np.zeros(2)})
    assert (parameters["weight"] < 1).all()
    assert (parameters["bias"] == 1).all()


# ---------------------------------------------------------------- manners


@pytest.mark.parametrize("l2", [0.0, 0.1])
@each_optimizer
def test_a_step_changes_the_parameters_in_place_and_never_a_gradient(name, l2):
    parameters, rng = draw(np.random.default_rng(0)), np.random.default_rng(1)
    optimizer, arrays = optimizers.OPTIMIZERS[name](parameters, 0.1, l2), {**parameters}
    for _ in range(3):
        gradients, before = draw(rng), copy.deepcopy(parameters)
        given = copy.deepcopy(gradients)
        optimizer.step(gradients)
        assert all(np.array_equal(gradients[key], g) for key, g in given.items())
        assert all((parameters[key] != w).all() for key, w in before.items())
    assert all(parameters[key] is array for key, array in arrays.items())


@each_optimizer
def test_a_gradient_that_changes_after_the_step_is_not_remembered(name):
    """A buffer that a training loop uses again must not reach into the memory."""
    paths = []
    for reuse in (False, True):
        parameters, rng = draw(np.random.default_rng(0)), np.random.default_rng(1)
        optimizer = optimizers.OPTIMIZERS[name](parameters, 0.1)
        for _ in range(3):
            gradients = draw(rng)
            optimizer.step(gradients)
            if reuse:
                for g in gradients.values():
                    g.fill(1e6)
        paths.append(parameters)
    assert all(np.array_equal(paths[0][key], w) for key, w in paths[1].items())


@each_optimizer
def test_memory_and_number_of_steps_are_all_that_an_optimizer_needs_to_go_on(name):
    """What `train.py --resume` relies on."""
    parameters, rng = draw(np.random.default_rng(0)), np.random.default_rng(1)
    optimizer = optimizers.OPTIMIZERS[name](parameters, 0.1, 0.1)
    for _ in range(5):
        optimizer.step(draw(rng))
    revived = copy.deepcopy(parameters)
    successor = optimizers.OPTIMIZERS[name](revived, 0.1, 0.1)
    for kind, kept in optimizer.memory.items():
        for key, array in kept.items():
            successor.memory[kind][key][...] = array
    successor.steps = optimizer.steps
    for _ in range(5):
        gradients = draw(rng)
        optimizer.step(gradients)
        successor.step(gradients)
    assert all(np.array_equal(revived[key], w) for key, w in parameters.items())


@each_optimizer
def test_two_optimizers_share_no_memory(name):
    parameters, others = draw(np.random.default_rng(0)), draw(np.random.default_rng(0))
    first, second = (optimizers.OPTIMIZERS[name](w, 0.1) for w in (parameters, others))
    gradients = draw(np.random.default_rng(1))
    for _ in range(3):
        first.step(gradients)
    second.step(gradients)
    alone = optimizers.OPTIMIZERS[name](draw(np.random.default_rng(0)), 0.1)
    alone.step(gradients)
    assert all(np.array_equal(w, others[key]) for key, w in alone.parameters.items())


# ---------------------------------------------------------------- every optimizer, every layer


def make_layer(kind: type, rng: np.random.Generator) -> model.Layer:
    """A layer of this kind that reads and gives four numbers."""
    if kind is model.Linear:
        return model.Linear(4, 4, rng)
    return model.Dropout(0.25, rng) if kind is model.Dropout else kind()


LAYERS = [kind for kind in vars(model).values() if isinstance(kind, type)
          and issubclass(kind, model.Layer) and kind is not model.Layer]


@pytest.mark.parametrize("kind", LAYERS)
@each_optimizer
def test_every_optimizer_trains_every_layer_two_steps(name, kind):
    rng = np.random.default_rng(0)
    network = model.Network([model.Linear(3, 4, rng), make_layer(kind, rng),
                             model.Linear(4, 2, rng)])
    x, y = rng.normal(size=(16, 3)), rng.integers(2, size=16)
    loss = backprop.losses.CrossEntropy()
    optimizer = optimizers.OPTIMIZERS[name](network.parameters, lr=0.002)
    network.train(False)
    found = [loss.forward(network.forward(x), y)]
    for _ in range(2):
        before = copy.deepcopy(network.parameters)
        network.train()
        loss.forward(network.forward(x), y)
        network.backward(loss.backward())
        optimizer.step(network.gradients)
        assert all((w != before[key]).any() for key, w in network.parameters.items())
        network.train(False)
        found.append(loss.forward(network.forward(x), y))
    assert found[0] > found[1] > found[2]


def test_a_step_needs_the_gradient_of_every_parameter():
    optimizer = optimizers.SGD({"weight": np.ones((2, 2)), "bias": np.ones(2)}, 0.1)
    with pytest.raises(KeyError, match="bias"):
        optimizer.step({"weight": np.ones((2, 2))})
