"""The gradient check: silent about what is right, loud about eight mistakes people make."""

import copy
import itertools
import types
from collections.abc import Callable

import numpy as np
import pytest

from support import load

backprop = load("backprop_from_scratch")
model, losses = backprop.model, backprop.losses
gradient_check, Check = backprop.gradient_check.gradient_check, backprop.gradient_check.Check
Linear, ReLU, Adam = model.Linear, model.ReLU, backprop.optimizers.Adam

ACTIVATIONS = {"relu": ReLU, "sigmoid": model.Sigmoid, "tanh": model.Tanh}
LOSSES = {"cross-entropy": losses.CrossEntropy, "squared error": losses.MeanSquaredError,
          "binary cross-entropy": losses.BinaryCrossEntropy}
three_seeds = pytest.mark.parametrize("seed", range(3))


def draw_network(sizes: list[int], activation: str, rng: np.random.Generator,
                 dropout: float = 0.0) -> model.Network:
    """Linear layers with random biases, so that no unit sits on its kink by chance."""
    layers = []
    for inputs, outputs in zip(sizes, sizes[1:]):
        if layers:
            layers.append(ACTIVATIONS[activation]())
            layers += [model.Dropout(dropout, rng)] if dropout else []
        layers.append(Linear(inputs, outputs, rng, "xavier"))
        layers[-1].parameters["bias"] += 0.5 * rng.normal(size=outputs)
    return model.Network(layers)


def draw_batch(loss: str, samples: int, inputs: int, outputs: int,
               rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A random batch and targets of the kind that a loss reads."""
    x = rng.normal(size=(samples, inputs))
    if loss == "cross-entropy":
        return x, rng.integers(outputs, size=samples)
    return x, rng.random((samples, outputs))


def small_case(seed: int, activation: str = "tanh", loss: str = "cross-entropy") -> tuple:
    """A network 4-4-4 with equal sides, where a forgotten transpose fits, and five samples."""
    rng = np.random.default_rng(seed)
    network = draw_network([4, 4, 4], activation, rng)
    return network, LOSSES[loss](), *draw_batch(loss, 5, 4, 4, rng)


def plant(target: object, **verbs: Callable) -> None:
    """Give one layer, loss or optimizer wrong verbs of its own."""
    for name, verb in verbs.items():
        setattr(target, name, types.MethodType(verb, target))


def wrong(check: Check) -> set[str]:
    """What the printed check calls WRONG."""
    return {line.split()[0] for line in str(check).splitlines() if line.endswith("WRONG")}


# ---------------------------------------------------------------- what is right passes


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_a_smooth_network_is_right_to_seven_digits(activation, loss):
    check = gradient_check(*small_case(0, activation, loss))
    assert check.passed and not wrong(check)
    assert check.tolerance == 1e-7 and max(check.errors.values()) <= 1e-7
    assert (check.tried, check.skipped) == (2 * (16 + 4) + 20, 0)
    assert list(check.errors) == ["0.weight", "0.bias", "2.weight", "2.bias", "input"]


@pytest.mark.parametrize("loss", LOSSES)
def test_a_network_with_kinks_is_right_to_five_digits(loss):
    check = gradient_check(*small_case(0, "relu", loss))
    assert check.passed and not wrong(check)
    assert check.tolerance == 1e-5 and max(check.errors.values()) <= 1e-5
    assert check.skipped == 0


def test_the_measured_slopes_are_better_than_they_need_to_be():
    """Fourth order: a smooth network has seven digits to spare, or bugs could hide in them."""
    for seed in range(20):
        check = gradient_check(*small_case(seed))
        assert max(check.errors.values()) <= 1e-9, seed


def test_a_network_whose_first_layer_gives_no_input_gradient_passes_without_it():
    network, loss, x, y = small_case(0)
    network.layers[0].first = True
    check = gradient_check(network, loss, x, y)
    assert check.passed and "input" not in check.errors


def test_a_softmax_layer_passes():
    rng = np.random.default_rng(0)
    network = model.Network([Linear(3, 4, rng), model.Softmax(), Linear(4, 2, rng)])
    x, y = draw_batch("squared error", 5, 3, 2, rng)
    assert gradient_check(network, losses.MeanSquaredError(), x, y).passed


def test_a_single_layer_passes():
    rng = np.random.default_rng(0)
    x, y = draw_batch("squared error", 5, 3, 2, rng)
    check = gradient_check(Linear(3, 2, rng), losses.MeanSquaredError(), x, y)
    assert check.passed and list(check.errors) == ["weight", "bias", "input"]


def test_a_thousand_random_networks_raise_no_false_alarm():
    """All activations and losses, with and without dropout, softmax and biases of zero.

    Zero biases are how training starts: then a sample that no unit let through sits on kinks.
    """
    kinds = itertools.cycle(itertools.product(ACTIVATIONS, LOSSES))
    alarms = []
    for seed, (activation, loss) in zip(range(1000), kinds):
        rng = np.random.default_rng(seed)
        sizes = rng.integers(1, 9, size=rng.integers(2, 6)).tolist()
        network = draw_network(sizes, activation, rng, dropout=0.3 * (seed % 2))
        for name, array in network.parameters.items():
            array *= not (name.endswith("bias") and seed // 9 % 2)
        network.layers += [model.Softmax()] * (seed // 9 % 3 == 0)
        x, y = draw_batch(loss, int(rng.integers(1, 6)), sizes[0], sizes[-1], rng)
        check = gradient_check(network, LOSSES[loss](), x, y, most=12)
        if not check.passed:
            alarms.append(f"{seed}: {check}")
    assert not alarms, alarms[0]


@pytest.mark.parametrize("size", [1e-3, 1e3])
def test_large_and_small_inputs_raise_no_false_alarm(size):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        network, x = Linear(3, 2, rng), size * rng.normal(size=(4, 3))
        y = rng.normal(size=(4, 2))
        assert gradient_check(network, losses.MeanSquaredError(), x, y).passed, seed


# ---------------------------------------------------------------- eight mistakes


@three_seeds
def test_a_forgotten_transpose_in_the_input_gradient_is_found(seed):
    """On equal sides it fits; it reaches the input and all layers in front."""
    def backward(layer, grad):
        Linear.backward(layer, grad)
        return grad @ layer.parameters["weight"]

    case = small_case(seed)
    plant(case[0].layers[2], backward=backward)
    assert wrong(gradient_check(*case)) == {"0.weight", "0.bias", "input"}


@three_seeds
def test_a_transposed_weight_gradient_is_found(seed):
    def backward(layer, grad):
        result = Linear.backward(layer, grad)
        layer.gradients["weight"] = layer.gradients["weight"].T
        return result

    case = small_case(seed)
    plant(case[0].layers[0], backward=backward)
    assert wrong(gradient_check(*case)) == {"0.weight"}


@three_seeds
@pytest.mark.parametrize("loss", LOSSES)
def test_a_sum_over_the_batch_instead_of_its_mean_is_found(loss, seed):
    case = small_case(seed, "tanh", loss)
    right = type(case[1]).backward
    plant(case[1], backward=lambda loss: right(loss) * 5)
    assert len(wrong(gradient_check(*case))) == 5


@three_seeds
@pytest.mark.parametrize("mask", [lambda layer, grad: grad > 0,
                                  lambda layer, grad: ~layer.positive,
                                  lambda layer, grad: np.ones_like(grad)])
def test_a_relu_that_masks_the_wrong_region_is_found(mask, seed):
    case = small_case(seed, "relu")
    plant(case[0].layers[1], backward=lambda layer, grad: grad * mask(layer, grad))
    assert wrong(gradient_check(*case)) == {"0.weight", "0.bias", "input"}


def change_without_correction(adam, g, mean, square):
    """The step of an Adam that forgot both corrections."""
    mean += (1 - adam.fading_mean) * (g - mean)
    square += (1 - adam.fading_square) * (g * g - square)
    return adam.lr * mean / (np.sqrt(square) + adam.epsilon)


def change_with_constant_correction(adam, g, mean, square):
    """The step of an Adam that corrects by 1 - β for ever: right only once."""
    mean += (1 - adam.fading_mean) * (g - mean)
    square += (1 - adam.fading_square) * (g * g - square)
    size = np.sqrt(square / (1 - adam.fading_square)) + adam.epsilon
    return adam.lr * mean / (1 - adam.fading_mean) / size


@pytest.mark.parametrize("change", [change_without_correction, change_with_constant_correction])
def test_a_missing_bias_correction_in_adam_is_found(change):
    network, loss, x, y = small_case(0)
    adam = Adam(network.parameters, 1e-3)
    plant(adam, change=change)
    check = gradient_check(network, loss, x, y, adam=adam)
    assert wrong(check) == {"Adam's"} and not check.passed
    assert check.errors["Adam's step"] > 0.1


@three_seeds
def test_a_softmax_whose_slopes_are_only_the_diagonal_is_found(seed):
    rng = np.random.default_rng(seed)
    network = model.Network([Linear(3, 4, rng), model.Softmax()])
    plant(network.layers[1], backward=lambda layer, grad: grad * layer.p * (1 - layer.p))
    x, y = draw_batch("squared error", 5, 3, 4, rng)
    check = gradient_check(network, losses.MeanSquaredError(), x, y)
    assert wrong(check) == {"0.weight", "0.bias", "input"}


@three_seeds
@pytest.mark.parametrize("reduce", [lambda grad: grad, lambda grad: grad.mean(axis=0),
                                    lambda grad: grad[0], lambda grad: grad.sum(),
                                    lambda grad: grad.sum(axis=0, keepdims=True),
                                    lambda grad: np.full(4, grad.sum())])
def test_a_bias_gradient_that_broadcasts_or_averages_is_found(reduce, seed):
    """NumPy would subtract a number or a row (1, O) from a bias without a word."""
    def backward(layer, grad):
        result = Linear.backward(layer, grad)
        layer.gradients["bias"] = reduce(grad)
        return result

    case = small_case(seed)
    plant(case[0].layers[0], backward=backward)
    assert wrong(gradient_check(*case)) == {"0.bias"}


@three_seeds
@pytest.mark.parametrize("number", [0, 2])
def test_a_layer_that_keeps_its_first_input_is_found(number, seed):
    """The check shows every network another batch first, or this mistake would be invisible."""
    def forward(layer, x):
        first = getattr(layer, "x", x)
        out = Linear.forward(layer, x)
        layer.x = first
        return out

    case = small_case(seed)
    plant(case[0].layers[number], forward=forward)
    assert wrong(gradient_check(*case)) == {f"{number}.weight"}


@three_seeds
@pytest.mark.parametrize(("activation", "kept"),
                         [("sigmoid", "y"), ("tanh", "y"), ("relu", "positive")])
def test_an_activation_that_keeps_its_first_values_is_found(activation, kept, seed):
    case = small_case(seed, activation)
    layer = case[0].layers[1]
    right = type(layer).forward

    def forward(layer, x):
        first = getattr(layer, kept, None)
        out = right(layer, x)
        setattr(layer, kept, getattr(layer, kept) if first is None else first)
        return out

    plant(layer, forward=forward)
    assert wrong(gradient_check(*case)) == {"0.weight", "0.bias", "input"}


@three_seeds
def test_a_loss_that_keeps_its_first_outputs_is_found(seed):
    case = small_case(seed)
    right = type(case[1]).forward

    def forward(loss, logits, labels):
        first = getattr(loss, "p", None)
        value = right(loss, logits, labels)
        loss.p = loss.p if first is None else first
        return value

    plant(case[1], forward=forward)
    assert len(wrong(gradient_check(*case))) == 5


@three_seeds
def test_a_layer_that_adds_to_its_old_gradients_is_found(seed):
    def backward(layer, grad):
        old = layer.gradients
        result = Linear.backward(layer, grad)
        for name, array in old.items():
            layer.gradients[name] = array + layer.gradients[name]
        return result

    case = small_case(seed)
    plant(case[0].layers[2], backward=backward)
    assert wrong(gradient_check(*case)) == {"2.weight", "2.bias"}


def relu_in_place(layer: model.Layer, x: np.ndarray) -> np.ndarray:
    """The forward pass of a ReLU that saves an array by overwriting its input."""
    layer.positive = x > 0
    return np.maximum(x, 0, out=x)


@three_seeds
def test_a_layer_that_overwrites_the_batch_is_found(seed):
    rng = np.random.default_rng(seed)
    network = model.Network([ReLU(), Linear(4, 3, rng)])
    plant(network.layers[0], forward=relu_in_place)
    x, y = draw_batch("cross-entropy", 5, 4, 3, rng)
    check = gradient_check(network, losses.CrossEntropy(), x, y)
    assert check.changed == ["input"] and "input" in wrong(check) and not check.passed


@three_seeds
def test_a_layer_that_overwrites_what_the_layer_before_it_remembers_is_found(seed):
    """Tanh works its slope out from its own output, which the ReLU has taken as scrap paper."""
    rng = np.random.default_rng(seed)
    network = model.Network([Linear(4, 4, rng), model.Tanh(), ReLU(), Linear(4, 3, rng)])
    plant(network.layers[2], forward=relu_in_place)
    plant(network.layers[2], backward=lambda layer, grad: grad)
    x, y = draw_batch("cross-entropy", 5, 4, 3, rng)
    check = gradient_check(network, losses.CrossEntropy(), x, y)
    assert wrong(check) == {"0.weight", "0.bias", "input"}


@three_seeds
def test_a_layer_that_overwrites_a_gradient_which_another_has_kept_is_found(seed):
    """A batch of one: the bias gradient is a view of what is handed on and then scaled."""
    def keep_view(layer, grad):
        layer.gradients = {"weight": layer.x.T @ grad, "bias": grad[0]}
        return grad

    def scale_in_place(layer, grad):
        grad *= 1 - layer.y * layer.y
        return grad

    rng = np.random.default_rng(seed)
    network = model.Network([model.Tanh(), Linear(4, 4, rng)])
    network.layers[1].parameters["weight"][:] = np.eye(4)
    plant(network.layers[0], backward=scale_in_place)
    plant(network.layers[1], backward=keep_view)
    x, y = draw_batch("squared error", 1, 4, 4, rng)
    check = gradient_check(network, losses.MeanSquaredError(), x, y)
    assert wrong(check) == {"1.bias"}


@pytest.mark.parametrize("name", ["0.weight", "2.bias", "target"])
def test_a_pass_that_changes_a_parameter_or_the_targets_is_found(name):
    """An optimizer inside `backward`, say: then nothing can be checked or added up."""
    network, loss, x, y = small_case(0, "tanh", "squared error")
    arrays = {**network.parameters, "target": y}

    def backward(layer, grad):
        arrays[name] *= 0.9
        return Linear.backward(layer, grad)

    plant(network.layers[0], backward=backward)
    check = gradient_check(network, loss, x, y)
    assert check.changed == [name] and name in wrong(check) and not check.passed


def test_a_missing_gradient_is_wrong():
    case = small_case(0)
    plant(case[0].layers[2], backward=lambda layer, grad: grad @ layer.parameters["weight"].T)
    check = gradient_check(*case)
    assert wrong(check) == {"2.weight", "2.bias"} and check.errors["2.bias"] == 1.0


@pytest.mark.parametrize("factor", [1 + 1e-5, 1 - 1e-5, -1.0, 0.0, 2.0])
def test_a_gradient_that_is_off_by_a_factor_is_found_however_near_one_it_is(factor):
    def backward(layer, grad):
        result = Linear.backward(layer, grad)
        layer.gradients["weight"] *= factor
        return result

    case = small_case(0)
    plant(case[0].layers[2], backward=backward)
    check = gradient_check(*case)
    assert wrong(check) == {"2.weight"}
    expected = abs(1 - factor) / (1 + abs(factor))
    assert check.errors["2.weight"] == pytest.approx(expected, rel=1e-3)


def test_one_wrong_entry_in_a_large_array_is_found():
    def backward(layer, grad):
        result = Linear.backward(layer, grad)
        layer.gradients["weight"][17, 3] *= 1.01
        return result

    rng = np.random.default_rng(0)
    layer = Linear(40, 10, rng)
    plant(layer, backward=backward)
    x, y = draw_batch("squared error", 5, 40, 10, rng)
    assert wrong(gradient_check(layer, losses.MeanSquaredError(), x, y)) == {"weight"}


# ---------------------------------------------------------------- kinks


def check_relu(x: np.ndarray) -> Check:
    return gradient_check(ReLU(), losses.MeanSquaredError(), x, np.full_like(x, 3.0))


def test_an_input_exactly_on_a_kink_is_skipped_and_counted():
    check = check_relu(np.array([[0.5, 0.0, -0.5], [1.0, -1.0, 0.0]]))
    assert (check.tried, check.skipped) == (6, 2)
    assert check.passed
    assert str(check).splitlines()[-1] == "6 slopes, 2 skipped near a kink"


@pytest.mark.parametrize(("distance", "skipped"), [(1e-7, 1), (1.5e-6, 1), (2.5e-6, 0)])
@pytest.mark.parametrize("sign", [1, -1])
def test_an_input_is_skipped_up_to_two_steps_from_a_kink(distance, skipped, sign):
    """h is 2⁻²⁰, about 1e-6, and slopes are measured from 2h below to 2h above."""
    check = check_relu(np.array([[0.5, sign * distance, -0.5]]))
    assert check.skipped == skipped and check.passed


def test_a_weight_that_would_carry_a_hidden_unit_over_its_kink_is_skipped():
    rng = np.random.default_rng(0)
    network = model.Network([Linear(2, 3, rng), ReLU(), Linear(3, 2, rng)])
    x, y = np.array([[1.0, 2.0]]), np.array([1])
    network.layers[0].parameters["bias"][:] = [0.3, 0.0, 0.3]
    network.layers[0].parameters["weight"][:, 1] = [2.0, -1.0]
    check = gradient_check(network, losses.CrossEntropy(), x, y)
    assert check.skipped == 2 + 1 + 2 and check.passed     # its weights, bias, and both inputs


@pytest.mark.parametrize(("zeros", "passed"), [(0, True), (2, True), (3, False), (4, False)])
def test_a_check_that_skipped_more_than_half_has_not_passed(zeros, passed):
    x = np.array([[0.5, -0.5, 1.5, 2.5]])
    x[0, :zeros] = 0.0
    check = check_relu(x)
    assert check.skipped == zeros and check.passed == passed
    assert not wrong(check)


def test_a_wrong_slope_next_to_a_skipped_one_is_found_all_the_same():
    layer = ReLU()
    plant(layer, backward=lambda layer, grad: grad)
    x = np.array([[0.5, 0.0, -0.5]])
    check = gradient_check(layer, losses.MeanSquaredError(), x, np.full_like(x, 3.0))
    assert check.skipped == 1 and wrong(check) == {"input"}


# ---------------------------------------------------------------- what is printed


def test_a_printed_check_has_a_line_for_each_array_and_one_for_the_slopes():
    case = small_case(0)
    plant(case[0].layers[2], backward=lambda layer, grad: 2 * Linear.backward(layer, grad))
    lines = str(gradient_check(*case)).splitlines()
    assert [(line.split()[0], line.split()[-1]) for line in lines[:-1]] == [
        ("0.weight", "WRONG"), ("0.bias", "WRONG"), ("2.weight", "ok"), ("2.bias", "ok"),
        ("input", "WRONG")]
    assert lines[-1] == "60 slopes, 0 skipped near a kink"


@pytest.mark.parametrize(
    ("errors", "tried", "skipped", "changed", "passed"),
    [({"w": 1e-7}, 10, 5, [], True), ({"w": 1.1e-7}, 10, 0, [], False),
     ({"w": 0.0, "b": 1.0}, 10, 0, [], False), ({"w": 0.0}, 10, 6, [], False),
     ({"w": 0.0}, 10, 0, ["w"], False), ({"w": float("nan")}, 10, 0, [], False)],
)
def test_a_check_passes_only_if_all_agrees_nothing_changed_and_half_was_compared(
    errors, tried, skipped, changed, passed
):
    check = Check(errors, 1e-7, tried, skipped, changed)
    assert check.passed == passed
    assert ("WRONG" in str(check)) == (not passed and skipped == 0)


# ---------------------------------------------------------------- manners


@pytest.mark.parametrize("most", [1, 5, 1000])
def test_most_limits_the_slopes_of_each_array(most):
    check = gradient_check(*small_case(0), most=most)
    assert check.tried == sum(min(most, size) for size in (16, 4, 16, 4, 20)) and check.passed


def test_a_few_slopes_are_drawn_from_the_whole_array():
    """If `most` meant the first ones, a mistake in the last row would never be seen."""
    def backward(layer, grad):
        result = Linear.backward(layer, grad)
        layer.gradients["weight"][10:] *= -1
        return result

    rng = np.random.default_rng(0)
    layer = Linear(20, 20, rng)
    plant(layer, backward=backward)
    x, y = draw_batch("squared error", 5, 20, 20, rng)
    check = gradient_check(layer, losses.MeanSquaredError(), x, y, most=10)
    assert 0.05 < check.errors["weight"] < 0.95


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_parameters_and_batch_are_the_same_to_the_bit_after_a_check(activation):
    network, loss, x, y = small_case(0, activation)
    arrays = {**network.parameters, "x": x, "y": y}
    before = copy.deepcopy(arrays)
    adam = Adam(network.parameters, 0.1, 0.1)
    assert gradient_check(network, loss, x, y, adam=adam).passed
    assert all(np.array_equal(arrays[name], array) for name, array in before.items())
    assert adam.steps == 0 and adam.l2 == 0.1
    assert not any(array.any() for kept in adam.memory.values() for array in kept.values())


@pytest.mark.parametrize("kind", [Adam, backprop.optimizers.AdamW])
@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_a_correct_adam_passes(kind, l2):
    network, loss, x, y = small_case(0)
    check = gradient_check(network, loss, x, y, adam=kind(network.parameters, 1e-3, l2))
    assert check.passed and check.errors["Adam's step"] <= 1e-9


@pytest.mark.parametrize("kind", [Adam, backprop.optimizers.AdamW])
def test_a_correct_adam_passes_in_the_middle_of_a_training_and_keeps_its_memory(kind):
    network, loss, x, y = small_case(0)
    adam = kind(network.parameters, 1e-3, 0.1)
    for _ in range(7):
        loss.forward(network.forward(x), y)
        network.backward(loss.backward())
        adam.step(network.gradients)
    memory = copy.deepcopy(adam.memory)
    assert gradient_check(network, loss, x, y, adam=adam).passed
    assert adam.steps == 7
    assert all(np.array_equal(adam.memory[kind][name], array)
               for kind, kept in memory.items() for name, array in kept.items())


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64"])
def test_numbers_with_too_few_digits_are_refused(dtype):
    network, loss, x, y = small_case(0)
    with pytest.raises(ValueError, match=rf"{dtype}.*use float64$"):
        gradient_check(network, loss, x.astype(dtype), y)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", ["0.bias", "2.weight"])
def test_parameters_with_too_few_digits_are_refused_by_name(name, dtype):
    """Rounding would make slopes of a correct network look WRONG."""
    network, loss, x, y = small_case(0)
    number, key = name.split(".")
    parameters = network.layers[int(number)].parameters
    parameters[key] = parameters[key].astype(dtype)
    with pytest.raises(ValueError, match=rf"{dtype}.*{name}.*use float64"):
        gradient_check(network, loss, x, y)


@three_seeds
def test_dropout_keeps_one_mask_during_a_check(seed):
    rng = np.random.default_rng(seed)
    network = draw_network([4, 8, 8, 3], "tanh", rng, dropout=0.5)
    x, y = draw_batch("cross-entropy", 5, 4, 3, rng)
    check = gradient_check(network, losses.CrossEntropy(), x, y)
    assert check.passed and check.skipped == 0
    assert (network.layers[2].mask == 0).any()          # it was not simply switched off


def test_a_check_leaves_the_dice_of_dropout_as_they_were():
    def end_state(use: Callable) -> dict:
        rng = np.random.default_rng(0)
        network = draw_network([4, 8, 8, 3], "tanh", rng, dropout=0.5)
        use(network, *draw_batch("cross-entropy", 5, 4, 3, rng))
        return rng.bit_generator.state

    untouched = end_state(lambda network, x, y: None)
    checked = end_state(lambda network, x, y: gradient_check(
        network, losses.CrossEntropy(), x, y))
    assert checked == untouched


def test_dropout_that_is_switched_off_stays_off():
    rng = np.random.default_rng(0)
    network = draw_network([4, 8, 3], "tanh", rng, dropout=0.5)
    network.train(False)
    x, y = draw_batch("cross-entropy", 5, 4, 3, rng)
    assert gradient_check(network, losses.CrossEntropy(), x, y).passed
    assert not any(layer.training for layer in network.layers)
    assert (network.layers[2].mask == 1).all()


# ---------------------------------------------------------------- a layer of the reader's own


class Scale:
    """What a reader may write: a layer that derives from nothing and knows no `sides`."""

    def __init__(self, size: int) -> None:
        self.parameters, self.gradients = {"scale": np.linspace(0.5, 2.0, size)}, {}

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.x = x
        return x * self.parameters["scale"]

    def backward(self, grad: np.ndarray) -> np.ndarray:
        self.gradients = {"scale": (grad * self.x).sum(axis=0)}
        return grad * self.parameters["scale"]


def forget_the_input(layer: Scale, grad: np.ndarray) -> np.ndarray:
    layer.gradients = {"scale": grad.sum(axis=0)}
    return grad * layer.parameters["scale"]


@pytest.mark.parametrize("alone", [True, False])
def test_a_layer_of_ones_own_is_checked_alone_and_in_a_network(alone):
    rng, layer = np.random.default_rng(0), Scale(4)
    network = layer if alone else model.Network([Linear(4, 4, rng), layer, ReLU()])
    case = network, losses.MeanSquaredError(), *draw_batch("squared error", 5, 4, 4, rng)
    assert gradient_check(*case).passed
    plant(layer, backward=forget_the_input)
    assert wrong(gradient_check(*case)) == {"scale" if alone else "1.scale"}


@pytest.mark.parametrize("activation", [model.Sigmoid, model.Tanh])
@pytest.mark.parametrize("size", [1, 30, 255])
def test_large_inputs_of_a_smooth_network_raise_no_false_alarm(activation, size):
    """A weight that moves by h moves what follows by h times the input: h has to be short."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        network = model.Network([Linear(6, 5, rng), activation(), Linear(5, 4, rng)])
        x, labels = size * rng.normal(size=(8, 6)), rng.integers(0, 4, 8)
        assert gradient_check(network, losses.CrossEntropy(), x, labels, most=12).passed


def test_a_loss_that_is_not_finite_is_refused():
    class Log(model.Layer):
        def forward(self, x):
            self.x = x
            return np.log(x)

        def backward(self, grad):
            return grad / self.x

    ignored = np.errstate(invalid="ignore", divide="ignore")
    with ignored, pytest.raises(ValueError, match="loss .* is nan"):
        gradient_check(Log(), losses.MeanSquaredError(), -np.ones((2, 2)), np.ones((2, 2)))
