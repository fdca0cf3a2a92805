"""Layers, losses and networks in NumPy, against torch.autograd, closed forms and extremes."""

import copy
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from support import ROOT, load, run

FOLDER = ROOT / "backprop_from_scratch"
backprop = load("backprop_from_scratch")
model, losses = backprop.model, backprop.losses

ACTIVATIONS = ["relu", "sigmoid", "tanh"]
LOSSES = ["cross-entropy", "squared error", "binary cross-entropy", "softmax, squared error"]
OURS = {"relu": model.ReLU, "sigmoid": model.Sigmoid, "tanh": model.Tanh,
        "softmax": model.Softmax, "cross-entropy": losses.CrossEntropy,
        "squared error": losses.MeanSquaredError,
        "binary cross-entropy": losses.BinaryCrossEntropy}
THEIRS = {"relu": torch.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh,
          "softmax": lambda z: z.softmax(1), "cross-entropy": F.cross_entropy,
          "squared error": F.mse_loss,
          "binary cross-entropy": F.binary_cross_entropy_with_logits}
CONFIG = {"sizes": [6, 8, 7, 4], "activation": "relu", "init": "he", "dropout": 0.0,
          "dtype": "float64"}
DTYPES = {"float32": 1e-5, "float64": 1e-12}      # with the relative error that rounding makes

each_activation = pytest.mark.parametrize("activation", ACTIVATIONS)
each_loss = pytest.mark.parametrize("loss", LOSSES)
each_plain_loss = pytest.mark.parametrize("loss", LOSSES[:3])
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def draw_targets(loss: str, samples: int, outputs: int, rng: np.random.Generator) -> np.ndarray:
    """Random targets of the kind that a loss reads."""
    if loss == "cross-entropy":
        return rng.integers(outputs, size=samples)
    if loss == "binary cross-entropy":
        return rng.integers(2, size=(samples, outputs)).astype(float)
    return rng.normal(size=(samples, outputs))


def draw_network(sizes: list[int], activation: str, loss: str, rng: np.random.Generator,
                 dropout: float = 0.0) -> model.Network:
    """A network with random biases too: zeros would hide what is wrong with them."""
    layers = []
    for inputs, outputs in zip(sizes, sizes[1:]):
        if layers:
            layers.append(OURS[activation]())
            layers += [model.Dropout(dropout, rng)] if dropout else []
        layers.append(model.Linear(inputs, outputs, rng, "xavier"))
        layers[-1].parameters["bias"] += rng.normal(size=outputs)
    return model.Network(layers + [model.Softmax()] * loss.startswith("softmax"))


def draw_case(activation: str, loss: str, seed: int) -> tuple:
    """A random network of 1 to 6 linear layers, its loss, and a batch of 1 to 33 samples."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 65, size=2 + seed % 6).tolist()
    samples, dropout = int(rng.integers(1, 34)), 0.3 if seed % 4 > 1 else 0.0
    network = draw_network(sizes, activation, loss, rng, dropout)
    targets = draw_targets(loss, samples, sizes[-1], rng)
    return network, OURS[loss.split(", ")[-1]](), rng.normal(size=(samples, sizes[0])), targets


def backpropagate(network: model.Network, loss: object, x: np.ndarray, y: np.ndarray) -> tuple:
    """The loss, and the gradients of all parameters and of the input, by our own hand."""
    value = loss.forward(network.forward(x), y)
    gradient = network.backward(loss.backward())
    gradients = {name: array.copy() for name, array in network.gradients.items()}
    return value, gradients | ({} if gradient is None else {"input": gradient.copy()})


def differentiate(network: model.Network, loss: object, x: np.ndarray, y: np.ndarray) -> tuple:
    """The same by torch.autograd, with the dropout masks of our last forward pass."""
    leaves = {**network.parameters, "input": x}
    leaves = {name: torch.tensor(array, requires_grad=True) for name, array in leaves.items()}
    theirs = {kind: THEIRS[name] for name, kind in OURS.items()}
    out = leaves["input"]
    for number, layer in enumerate(network.layers):
        if isinstance(layer, model.Linear):
            out = out @ leaves[f"{number}.weight"] + leaves[f"{number}.bias"]
        elif isinstance(layer, model.Dropout):
            out = out * torch.tensor(layer.mask)
        else:
            out = theirs[type(layer)](out)
    value = theirs[type(loss)](out, torch.tensor(y))
    gradients = torch.autograd.grad(value, list(leaves.values()))
    return value.item(), dict(zip(leaves, (gradient.numpy() for gradient in gradients)))


def distance(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The length of the difference, relative to the length of what is right."""
    assert ours.shape == theirs.shape
    length = np.linalg.norm(theirs)
    return float(np.linalg.norm(ours - theirs) / (length if length else 1.0))


def assert_equal_gradients(ours: dict, theirs: dict, tolerance: float) -> None:
    assert ours.keys() == theirs.keys()
    far = {name: distance(ours[name], theirs[name]) for name in theirs}
    assert not {name: error for name, error in far.items() if not error <= tolerance}


# ---------------------------------------------------------------- parity


@each_loss
@each_activation
def test_every_gradient_of_17_random_networks_is_that_of_autograd(activation, loss):
    """3 activations × 4 losses × 17: all in all 204 networks, half of them with dropout."""
    for seed in range(17):
        case = draw_case(activation, loss, seed)
        value, ours = backpropagate(*case)
        expected, theirs = differentiate(*case)
        assert value == pytest.approx(expected, rel=1e-10, abs=1e-15), seed
        assert_equal_gradients(ours, theirs, 1e-10)


def test_the_random_networks_have_all_depths_and_sizes_that_they_should():
    """If the cases became small or equal, the test above would prove little."""
    cases = [draw_case("relu", "squared error", seed) for seed in range(17)]
    depths = {sum(isinstance(layer, model.Linear) for layer in case[0].layers)
              for case in cases}
    widths = [width for case in cases for array in case[0].parameters.values()
              for width in array.shape]
    samples = [len(case[2]) for case in cases]
    assert depths == {1, 2, 3, 4, 5, 6}
    assert min(widths) <= 3 and max(widths) >= 60
    assert min(samples) <= 3 and max(samples) >= 30


def test_every_layer_of_model_py_is_in_some_network_that_was_compared():
    """Whoever adds a layer has to add it here too."""
    kinds = {kind for kind in vars(model).values()
             if isinstance(kind, type) and issubclass(kind, model.Layer)}
    compared = {type(layer) for activation in ACTIVATIONS for loss in LOSSES
                for layer in draw_case(activation, loss, 3)[0].layers}
    assert kinds - {model.Layer} == compared


@pytest.mark.parametrize("name", [*ACTIVATIONS, "softmax"])
def test_every_activation_alone_is_that_of_torch(name):
    rng = np.random.default_rng(1)
    z, grad = rng.normal(size=(9, 5)) * 4, rng.normal(size=(9, 5))
    leaf, layer = torch.tensor(z, requires_grad=True), OURS[name]()
    out = THEIRS[name](leaf)
    out.backward(torch.tensor(grad))
    assert distance(layer.forward(z), out.detach().numpy()) <= 1e-14
    assert distance(layer.backward(grad), leaf.grad.numpy()) <= 1e-12


def test_a_binary_target_may_lie_between_no_and_yes():
    rng = np.random.default_rng(2)
    logits, targets = rng.normal(size=(7, 3)) * 3, rng.random((7, 3))
    loss, leaf = losses.BinaryCrossEntropy(), torch.tensor(logits, requires_grad=True)
    expected = F.binary_cross_entropy_with_logits(leaf, torch.tensor(targets))
    expected.backward()
    assert loss.forward(logits, targets) == pytest.approx(expected.item(), rel=1e-13)
    assert distance(loss.backward(), leaf.grad.numpy()) <= 1e-13


# ---------------------------------------------------------------- a mean over the batch


def average(results: list[tuple]) -> tuple:
    """The mean of losses and of gradients, name by name."""
    values, gradients = zip(*results)
    return np.mean(values), {name: np.mean([g[name] for g in gradients], axis=0)
                             for name in gradients[0]}


@each_loss
def test_the_gradient_of_a_batch_is_the_mean_of_the_gradients_of_its_samples(loss):
    rng = np.random.default_rng(3)
    network, x = draw_network([5, 8, 4], "tanh", loss, rng), rng.normal(size=(7, 5))
    kind, y = OURS[loss.split(", ")[-1]], draw_targets(loss, 7, 4, rng)
    value, whole = backpropagate(network, kind(), x, y)
    singles = [backpropagate(network, kind(), x[i : i + 1], y[i : i + 1]) for i in range(7)]
    inputs = np.concatenate([gradients.pop("input") for _, gradients in singles]) / 7
    expected, mean = average(singles)
    assert value == pytest.approx(expected, rel=1e-12)
    assert_equal_gradients(whole, mean | {"input": inputs}, 1e-12)


@each_loss
def test_a_batch_that_comes_twice_has_the_gradients_of_one_that_comes_once(loss):
    rng = np.random.default_rng(4)
    network, x = draw_network([5, 8, 4], "relu", loss, rng), rng.normal(size=(7, 5))
    kind, y = OURS[loss.split(", ")[-1]], draw_targets(loss, 7, 4, rng)
    value, once = backpropagate(network, kind(), x, y)
    x, y = np.concatenate([x, x]), np.concatenate([y, y])
    again, twice = backpropagate(network, kind(), x, y)
    twice["input"] = 2 * twice["input"][:7]
    assert again == pytest.approx(value, rel=1e-12)
    assert_equal_gradients(twice, once, 1e-12)


@each_loss
@each_activation
def test_neither_way_changes_a_parameter_or_its_argument(activation, loss):
    network, kind, x, y = draw_case(activation, loss, 3)
    kept = copy.deepcopy(({**network.parameters}, x, y))
    kind.forward(network.forward(x), y)
    grad = kind.backward()
    given = grad.copy()
    network.backward(grad)
    after = {**network.parameters}, x, y
    assert all(np.array_equal(after[0][name], array) for name, array in kept[0].items())
    assert np.array_equal(x, kept[1]) and np.array_equal(y, kept[2])
    assert np.array_equal(grad, given)


@each_loss
@each_activation
def test_a_second_backward_pass_gives_the_same_gradients_not_their_double(activation, loss):
    network, kind, x, y = draw_case(activation, loss, 3)
    _, once = backpropagate(network, kind, x, y)
    twice = {"input": network.backward(kind.backward()), **network.gradients}
    assert all(np.array_equal(twice[name], array) for name, array in once.items())


def test_the_gradients_are_those_of_the_last_batch_even_if_it_is_smaller():
    rng = np.random.default_rng(5)
    network = draw_network([5, 8, 4], "relu", "cross-entropy", rng)
    for samples in (9, 2, 5):
        case = (network, losses.CrossEntropy(), rng.normal(size=(samples, 5)),
                rng.integers(4, size=samples))
        assert_equal_gradients(backpropagate(*case)[1], differentiate(*case)[1], 1e-12)


@pytest.mark.parametrize(("argument", "expected"), [(0.0, 0.0), (-0.0, 0.0), (1e-300, 1.0)])
def test_the_slope_of_relu_at_exactly_zero_is_zero_as_in_torch(argument, expected):
    layer = model.ReLU()
    layer.forward(np.array([[argument]]))
    assert layer.backward(np.array([[1.0]]))[0, 0] == expected


def test_the_first_layer_of_a_built_network_computes_no_gradient_for_the_data():
    network = model.build(CONFIG)
    network.forward(np.ones((2, 6)))
    assert network.backward(np.ones((2, 4))) is None
    assert network.gradients.keys() == network.parameters.keys()


# ---------------------------------------------------------------- how weights start


@pytest.mark.parametrize("shape", [(400, 300), (150, 700)])
@pytest.mark.parametrize(
    ("init", "variance"),
    [("he", lambda inputs, _: 2 / inputs), ("lecun", lambda inputs, _: 1 / inputs),
     ("xavier", lambda inputs, outputs: 2 / (inputs + outputs))],
)
def test_weights_start_normal_with_the_variance_of_the_paper(init, variance, shape):
    weight = model.Linear(*shape, np.random.default_rng(0), init).parameters["weight"]
    scaled = weight.ravel() / math.sqrt(variance(*shape))
    assert scaled.mean() == pytest.approx(0, abs=0.02)
    assert scaled.var() == pytest.approx(1, rel=0.03)
    assert (scaled**4).mean() == pytest.approx(3, rel=0.05)      # a normal one: not uniform


def test_biases_start_at_zero():
    network = model.build(CONFIG)
    biases = [array for name, array in network.parameters.items() if name.endswith("bias")]
    assert [array.tolist() for array in biases] == [[0.0] * 8, [0.0] * 7, [0.0] * 4]


def deviations(activation: str, init: str, scale: float) -> list[float]:
    """The standard deviation of the values after each of ten layers, over that of the input."""
    config = CONFIG | {"sizes": [512] * 11, "activation": activation, "init": init}
    x, found = scale * np.random.default_rng(1).normal(size=(200, 512)), []
    for layer in model.build(config, np.random.default_rng(2)).layers:
        x = layer.forward(x)
        if not isinstance(layer, model.Linear):
            found.append(float(x.std()) / scale)
    return found


def test_he_and_relu_keep_the_size_of_values_over_ten_layers():
    assert all(0.5 < deviation < 2 for deviation in deviations("relu", "he", 1.0))


@pytest.mark.parametrize("init", ["xavier", "lecun"])
def test_xavier_and_tanh_keep_the_size_of_values_that_are_small_over_ten_layers(init):
    """Small, as the theory takes tanh for a straight line; larger values it pulls to ±1."""
    assert all(0.5 < deviation < 2 for deviation in deviations("tanh", init, 0.1))


def test_lecun_and_relu_lose_half_of_the_variance_in_every_layer():
    """He's weights are LeCun's times √2, and a ReLU hands a factor on: exactly √2 a layer."""
    he, lecun = deviations("relu", "he", 1.0), deviations("relu", "lecun", 1.0)
    ratios = [big / small for big, small in zip(he, lecun)]
    assert ratios == pytest.approx([2 ** (layer / 2) for layer in range(1, 10)], rel=1e-9)


def test_the_same_seed_gives_the_same_weights_and_another_seed_gives_others():
    networks = [model.build(CONFIG, np.random.default_rng(seed)) for seed in (7, 7, 8)]
    first, same, other = (network.parameters["2.weight"] for network in networks)
    assert np.array_equal(first, same)
    assert not np.isclose(first, other).any()


def test_no_two_layers_start_with_the_same_weights():
    network = model.build(CONFIG | {"sizes": [5, 5, 5]})
    assert not np.isclose(network.parameters["0.weight"], network.parameters["2.weight"]).any()


@each_activation
@each_plain_loss
def test_float32_stays_float32_all_the_way_and_through_every_optimizer(loss, activation):
    rng = np.random.default_rng(0)
    config = CONFIG | {"activation": activation, "dropout": 0.2, "dtype": "float32"}
    x, y = rng.normal(size=(5, 6)).astype("float32"), draw_targets(loss, 5, 4, rng)
    y = y if loss == "cross-entropy" else y.astype("float32")
    for kind in backprop.optimizers.OPTIMIZERS.values():
        network, of_batch = model.build(config, rng), OURS[loss]()
        optimizer = kind(network.parameters, lr=0.01, l2=0.01)
        out = network.forward(x)
        assert isinstance(of_batch.forward(out, y), float)
        network.backward(of_batch.backward())
        optimizer.step(network.gradients)
        kept = [array for kept in optimizer.memory.values() for array in kept.values()]
        arrays = [out, of_batch.backward(), *network.gradients.values(),
                  *network.parameters.values(), *kept]
        assert {array.dtype for array in arrays} == {np.dtype("float32")}


# ---------------------------------------------------------------- a network


def test_build_puts_activation_and_then_dropout_between_the_linear_layers():
    network = model.build(CONFIG | {"activation": "tanh", "dropout": 0.25})
    kinds = [type(layer) for layer in network.layers]
    between = [model.Tanh, model.Dropout]
    assert kinds == [model.Linear, *between, model.Linear, *between, model.Linear]
    assert {layer.share for layer in network.layers if type(layer) is model.Dropout} == {0.25}
    assert [name for name in network.parameters if "weight" in name] == [
        "0.weight", "3.weight", "6.weight"]


def test_parameters_are_the_arrays_themselves_so_that_an_optimizer_can_change_them():
    network, x = model.build(CONFIG), np.ones((1, 6))
    before = network.forward(x)
    network.parameters["4.bias"] += 1.0
    assert np.allclose(network.forward(x), before + 1.0, rtol=0, atol=1e-12)


def test_flat_is_a_copy_of_all_numbers_in_the_order_of_the_parameters():
    arrays = {"weight": np.array([[1.0, 2.0], [3.0, 4.0]]), "bias": np.array([5.0, 6.0])}
    row = model.flat(arrays)
    assert row.tolist() == [1, 2, 3, 4, 5, 6]
    row[:] = 0
    assert arrays["weight"].min() == 1


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_the_first_loss_is_the_logarithm_of_the_number_of_classes(classes):
    """log K, and half of the variance that the logits start with, which is ½·2·0.1² for He."""
    rng, config = np.random.default_rng(0), CONFIG | {"sizes": [200, 300, classes]}
    network, x = model.build(config, rng), 0.1 * rng.normal(size=(500, 200))
    value = losses.CrossEntropy().forward(network.forward(x), rng.integers(classes, size=500))
    assert value == pytest.approx(math.log(classes), rel=0.02)


@each_activation
@each_plain_loss
def test_a_batch_of_twenty_can_be_learned_by_heart(loss, activation):
    rng = np.random.default_rng(0)
    network = model.build(CONFIG | {"sizes": [6, 40, 4], "activation": activation}, rng)
    x, y, of_batch = rng.normal(size=(20, 6)), draw_targets(loss, 20, 4, rng), OURS[loss]()
    optimizer = backprop.optimizers.Adam(network.parameters, lr=0.05)
    start = of_batch.forward(network.forward(x), y)
    for _ in range(400):
        value = of_batch.forward(network.forward(x), y)
        network.backward(of_batch.backward())
        optimizer.step(network.gradients)
    assert value < 0.01 < start


# ---------------------------------------------------------------- dropout


def make_dropout(share: float, seed: int = 0) -> model.Dropout:
    return model.Dropout(share, np.random.default_rng(seed))


def test_dropout_in_use_lets_everything_pass_both_ways():
    layer, x = make_dropout(0.5), np.random.default_rng(1).normal(size=(20, 30))
    layer.forward(x)
    layer.training = False
    assert np.array_equal(layer.forward(x), x)
    assert np.array_equal(layer.backward(x), x)


def test_a_network_in_use_answers_the_same_every_time_and_in_training_does_not():
    network, x = model.build(CONFIG | {"dropout": 0.5}), np.ones((3, 6))
    assert not np.array_equal(network.forward(x), network.forward(x))
    network.train(False)
    assert np.array_equal(network.forward(x), network.forward(x))
    network.train()
    assert not np.array_equal(network.forward(x), network.forward(x))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_dropout_silences_its_share_and_preserves_the_expected_value(share):
    """200,000 coins: five standard deviations of the share are below 0.006."""
    out = make_dropout(share).forward(np.full((400, 500), 3.0))
    assert (out == 0).mean() == pytest.approx(share, abs=0.006)
    assert out.mean() == pytest.approx(3.0, rel=0.04)
    assert out[out != 0] == pytest.approx(3.0 / (1 - share), rel=1e-12)


def test_dropout_of_nothing_changes_nothing():
    x = np.random.default_rng(1).normal(size=(20, 30))
    assert np.array_equal(make_dropout(0.0).forward(x), x)


@each_dtype
def test_the_gradient_of_dropout_goes_through_the_mask_of_the_values(dtype):
    layer, ones = make_dropout(0.4), np.ones((50, 40), dtype)
    out = layer.forward(ones)
    assert np.array_equal(layer.backward(ones), out)
    assert 0 < (out == 0).sum() < out.size
    assert out.dtype == dtype


def test_dropout_draws_a_new_mask_for_every_batch_and_for_every_sample():
    layer, ones = make_dropout(0.5), np.ones((10, 40))
    first, second = layer.forward(ones), layer.forward(ones)
    assert not np.array_equal(first, second)
    assert len(np.unique(first, axis=0)) == 10


@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5, math.nan])
def test_dropout_refuses_a_share_that_is_none(share):
    with pytest.raises(ValueError, match=f"below 1, not {share}$"):
        make_dropout(share)


# ---------------------------------------------------------------- extremes


def every_pair(dtype: str) -> np.ndarray:
    """All pairs of some numbers from -10,000 to 10,000, as rows."""
    some = np.array([-1e4, -800, -100, -30, -1, 0, 1, 30, 100, 800, 1e4], dtype)
    return np.stack(np.meshgrid(some, some), axis=-1).reshape(-1, 2)


@each_dtype
@each_plain_loss
def test_losses_of_huge_logits_are_finite_and_those_of_torch(loss, dtype):
    """Under errstate a single overflow, division by zero or 0·∞ inside raises."""
    outputs = every_pair(dtype)
    for kind in range(2):
        y = np.full(len(outputs), kind) if loss == "cross-entropy" else np.full_like(
            outputs, kind)
        leaf, of_batch = torch.tensor(outputs, requires_grad=True), OURS[loss]()
        expected = THEIRS[loss](leaf, torch.tensor(y))
        expected.backward()
        with np.errstate(all="raise"):
            value, grad = of_batch.forward(outputs, y), of_batch.backward()
        assert value == pytest.approx(expected.item(), rel=DTYPES[dtype])
        assert np.isfinite(grad).all() and grad.dtype == dtype
        assert distance(grad, leaf.grad.numpy()) <= DTYPES[dtype]


@each_dtype
@pytest.mark.parametrize("name", [*ACTIVATIONS, "softmax"])
def test_activations_of_huge_numbers_are_finite_and_those_of_torch(name, dtype):
    z, layer = every_pair(dtype), OURS[name]()
    leaf, grad = torch.tensor(z, requires_grad=True), np.ones_like(z) * [[1, -2]]
    grad = grad.astype(dtype)
    expected = THEIRS[name](leaf)
    expected.backward(torch.tensor(grad))
    with np.errstate(all="raise"):
        out, back = layer.forward(z), layer.backward(grad)
    assert np.isfinite(out).all() and out.dtype == dtype
    assert np.isfinite(back).all() and back.dtype == dtype
    assert distance(out, expected.detach().numpy()) <= DTYPES[dtype]
    assert distance(back, leaf.grad.numpy()) <= DTYPES[dtype]


@each_dtype
@each_loss
@each_activation
def test_whole_networks_with_huge_numbers_stay_finite_without_a_warning(
    activation, loss, dtype
):
    rng = np.random.default_rng(0)
    network = draw_network([4, 6, 5, 3], activation, loss, rng)
    for layer in network.layers:
        layer.parameters = {name: 100 * array.astype(dtype)
                            for name, array in layer.parameters.items()}
    x, y = (1e4 * rng.normal(size=(9, 4))).astype(dtype), draw_targets(loss, 9, 3, rng)
    of_batch = OURS[loss.split(", ")[-1]]()
    y = y if loss == "cross-entropy" else y.astype(dtype)
    with np.errstate(all="raise"):
        value, gradients = backpropagate(network, of_batch, x, y)
    assert math.isfinite(value)
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())


def test_the_loss_of_an_answer_that_is_right_and_sure_keeps_its_digits():
    """log(1 + e⁻³⁰) is 9.4e-14: adding it to 1 first would leave three digits of it."""
    for size in (5.0, 20.0, 30.0, 36.0, 300.0):
        logits, targets = np.array([[-size, size]]), np.array([[0.0, 1.0]])
        value = losses.BinaryCrossEntropy().forward(logits, targets)
        assert value == pytest.approx(math.log1p(math.exp(-size)), rel=1e-13, abs=0)


def test_sigmoid_keeps_its_digits_where_it_is_nearly_zero():
    for z in (-1.0, -10.0, -40.0, -300.0):
        found = losses.sigmoid(np.array([[z]]))[0, 0]
        assert found == pytest.approx(math.exp(z) / (1 + math.exp(z)), rel=1e-13, abs=0)


@each_dtype
def test_the_exponential_of_what_is_not_above_zero_is_that_of_numpy_or_exactly_zero(dtype):
    z = -np.logspace(-6, 4, 500, dtype=dtype)
    with np.errstate(all="raise"):
        ours = losses.exp(z)
        ours * ours                            # what is left has a square
    assert np.array_equal(ours[z > -43], np.exp(z[z > -43]))
    assert (ours[z < -355] == 0).all()


@each_dtype
def test_softmax_sums_to_one_and_does_not_see_what_is_added_to_a_row(dtype):
    rng = np.random.default_rng(0)
    z = rng.integers(-9, 9, size=(6, 5)).astype(dtype)
    p = losses.softmax(z)
    assert p.sum(axis=1) == pytest.approx(1.0, rel=1e-6)
    assert np.array_equal(losses.softmax(z + np.array([[1000]], dtype)), p)


# ---------------------------------------------------------------- errors


def sentence(call: Callable[[], object]) -> str:
    """The message of the ValueError that a call ends with: one line, and not NumPy's own."""
    with pytest.raises(ValueError) as end:
        call()
    message = str(end.value)
    assert "\n" not in message and len(message) > 30
    assert "broadcast" not in message and "operand" not in message
    return message


@pytest.mark.parametrize("shape", [(3, 5), (3, 7), (6,), (2, 3, 6)])
def test_a_batch_with_a_wrong_number_of_inputs_is_refused_with_both_numbers(shape):
    message = sentence(lambda: model.build(CONFIG).forward(np.zeros(shape)))
    assert "6 numbers a sample" in message and str(shape) in message


@pytest.mark.parametrize("labels", [[0, 1, 4], [-1, 0, 1], [0, 1], [[0], [1], [2]],
                                    [0, 1, 2, 3], [0.0, 1.0, 2.0]])
def test_labels_that_do_not_fit_the_logits_are_refused(labels):
    logits, labels = np.zeros((3, 4)), np.array(labels)
    message = sentence(lambda: losses.CrossEntropy().forward(logits, labels))
    assert "3 labels from 0 to 3" in message


def test_an_empty_batch_has_no_mean_loss():
    labels = np.zeros(0, int)
    sentence(lambda: losses.CrossEntropy().forward(np.zeros((0, 4)), labels))


@pytest.mark.parametrize(("inputs", "outputs", "init", "told"), [
    (0, 3, "he", "from 0 inputs"), (3, 0, "he", "to 0 outputs"), (3, -1, "he", "to -1 outputs"),
    (3, 3, "magic", "'magic': use he, xavier, lecun")])
def test_a_linear_layer_that_cannot_be_is_refused(inputs, outputs, init, told):
    rng = np.random.default_rng(0)
    assert told in sentence(lambda: model.Linear(inputs, outputs, rng, init))


def test_the_first_and_the_last_label_are_accepted():
    value = losses.CrossEntropy().forward(np.zeros((2, 4)), np.array([0, 3]))
    assert value == pytest.approx(math.log(4), rel=1e-15)


@pytest.mark.parametrize("shape", [(3,), (3, 1), (1, 4), (4,), (4, 3), ()])
@pytest.mark.parametrize("loss", LOSSES[1:3])
def test_targets_that_numpy_would_broadcast_are_refused(loss, shape):
    message = sentence(lambda: OURS[loss]().forward(np.zeros((3, 4)), np.zeros(shape)))
    assert "(3, 4)" in message and str(shape) in message


@pytest.mark.parametrize("sizes", [[], [5], [5, 0], [0, 5], [5, -1, 2]])
def test_sizes_that_make_no_layer_are_refused(sizes):
    assert str(sizes) in sentence(lambda: model.build(CONFIG | {"sizes": sizes}))


def test_a_network_of_zero_layers_is_refused():
    with pytest.raises(ValueError, match="at least one layer"):
        model.Network([])


@pytest.mark.parametrize(("key", "known"), [("activation", "relu, sigmoid, tanh"),
                                            ("init", "he, xavier, lecun")])
def test_an_unknown_name_is_refused_with_those_that_are_known(key, known):
    message = sentence(lambda: model.build(CONFIG | {key: "magic"}))
    assert key in message and "'magic'" in message and known in message


# ---------------------------------------------------------------- python model.py


def test_the_table_has_a_row_for_every_layer_in_its_order():
    network = model.build(CONFIG | {"activation": "tanh", "dropout": 0.5})
    between = [("Tanh", (8,), 0), ("Dropout", (8,), 0)]
    assert model.layers(network, 6)[:4] == [("Linear", (8,), 6 * 8 + 8), *between,
                                            ("Linear", (7,), 8 * 7 + 7)]
    assert sum(row[2] for row in model.layers(network, 6)) == model.flat(
        network.parameters).size


def test_python_model_py_prints_the_266610_parameters_of_784_300_100_10(capsys):
    assert model.main([]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows == [["layer", "output", "parameters"], ["Linear", "300", "235,500"],
                    ["ReLU", "300", "0"], ["Linear", "100", "30,100"], ["ReLU", "100", "0"],
                    ["Linear", "10", "1,010"], ["total", "266,610"]]


def test_python_model_py_counts_the_sizes_that_it_is_given(capsys):
    assert model.main(["--sizes", "2", "8", "2"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == ["total", "42"]


def test_python_model_py_with_one_size_ends_with_2_and_a_sentence():
    result = run(FOLDER / "model.py", "--sizes", "5")
    assert result.returncode == 2 and not result.stdout
    assert "at least one layer" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


# ---------------------------------------------------------------- no loop over samples


def lines_run(call: Callable[[], object]) -> int:
    """How many lines of the folder's code a call executes, loops counted round by round."""
    count, before = 0, sys.gettrace()

    def trace(frame, event, _):
        nonlocal count
        if Path(frame.f_code.co_filename).parent != FOLDER:
            return None
        count += event == "line"
        return trace

    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


@each_loss
@each_activation
def test_a_thousand_samples_run_no_more_lines_than_two(activation, loss):
    rng, counts = np.random.default_rng(0), []
    network = draw_network([4, 6, 3], activation, loss, rng, dropout=0.5)
    for samples in (2, 1000):
        case = (network, OURS[loss.split(", ")[-1]](), rng.normal(size=(samples, 4)),
                draw_targets(loss, samples, 3, rng))
        counts.append(lines_run(lambda case=case: backpropagate(*case)))
    assert counts[0] == counts[1] > 20


def test_ten_thousand_samples_go_both_ways_in_a_moment():
    rng, seconds = np.random.default_rng(0), []
    network = model.build(CONFIG | {"sizes": [20, 50, 10]}, rng)
    x, y = rng.normal(size=(10_000, 20)), rng.integers(10, size=10_000)
    for _ in range(3):
        start = time.process_time()
        backpropagate(network, losses.CrossEntropy(), x, y)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.3
