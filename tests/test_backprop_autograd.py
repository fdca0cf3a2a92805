"""Values that remember how they were made, against torch.autograd on random expressions."""

import gc
import math
import time
import weakref
from collections.abc import Callable

import numpy as np
import pytest
import torch

from support import load

Value = load("backprop_from_scratch").autograd.Value

# Name, what is written, and the numbers it is tried on.
UNARY = [
    ("exp", lambda a: a.exp(), (-3.0, -0.5, 0.0, 2.0)),
    ("log", lambda a: a.log(), (0.01, 1.0, 7.0)),
    ("tanh", lambda a: a.tanh(), (-20.0, -1.0, 0.0, 0.3)),
    ("relu", lambda a: a.relu(), (-2.0, -1e-9, 0.0, 1e-9, 3.0)),
    ("negative", lambda a: -a, (-2.0, 0.0, 3.0)),
    ("square", lambda a: a**2, (-2.0, 0.0, 3.0)),
    ("cube", lambda a: a**3, (-2.0, 0.0, 3.0)),
    ("inverse", lambda a: a**-1, (-2.0, 0.5, 3.0)),
    ("root", lambda a: a**0.5, (0.01, 2.0)),
    ("power 1", lambda a: a**1, (-2.0, 0.0, 3.0)),
    ("power 0", lambda a: a**0, (-2.0, 0.0, 3.0)),
    ("value + 2", lambda a: a + 2, (-2.0, 3.0)),
    ("2 + value", lambda a: 2 + a, (-2.0, 3.0)),
    ("value - 2", lambda a: a - 2, (-2.0, 3.0)),
    ("2 - value", lambda a: 2 - a, (-2.0, 3.0)),
    ("value * 2", lambda a: a * 2, (-2.0, 3.0)),
    ("2 * value", lambda a: 2 * a, (-2.0, 3.0)),
    ("value / 2", lambda a: a / 2, (-2.0, 3.0)),
    ("2 / value", lambda a: 2 / a, (-2.0, 3.0)),
]
BINARY = [("+", lambda a, b: a + b), ("-", lambda a, b: a - b), ("*", lambda a, b: a * b),
          ("/", lambda a, b: a / b)]


def leaf(number: float) -> torch.Tensor:
    """A number in double precision that takes a gradient."""
    return torch.tensor(number, dtype=torch.float64, requires_grad=True)


def slopes(expression: Callable, *numbers: float) -> tuple[float, list[float]]:
    """The value of an expression and its slopes, by our own hand."""
    leaves = [Value(number) for number in numbers]
    out = expression(*leaves)
    out.backward()
    return out.data, [value.grad for value in leaves]


def torch_slopes(expression: Callable, *numbers: float) -> tuple[float, list[float]]:
    """The same by torch."""
    leaves = [leaf(number) for number in numbers]
    out = expression(*leaves)
    return out.item(), [g.item() for g in torch.autograd.grad(out, leaves)]


def near(numbers: list[float]) -> object:
    """To be compared with ==: within 1e-10 of the numbers, relative."""
    return pytest.approx(numbers, rel=1e-10, abs=1e-290)


# ---------------------------------------------------------------- parity


@pytest.mark.parametrize(("expression", "numbers"), [row[1:] for row in UNARY],
                         ids=[row[0] for row in UNARY])
def test_every_operator_on_one_value_is_that_of_torch(expression, numbers):
    for number in numbers:
        data, grads = slopes(expression, number)
        expected, theirs = torch_slopes(expression, number)
        assert [data, *grads] == near([expected, *theirs]), number


@pytest.mark.parametrize("expression", [row[1] for row in BINARY],
                         ids=[row[0] for row in BINARY])
def test_every_operator_on_two_values_is_that_of_torch(expression):
    for numbers in ((2.0, 3.0), (-2.0, 0.5), (0.0, 3.0), (1e6, -1e-6)):
        data, grads = slopes(expression, *numbers)
        expected, theirs = torch_slopes(expression, *numbers)
        assert [data, *grads] == near([expected, *theirs]), numbers


def tame(value: Value | torch.Tensor) -> Value | torch.Tensor:
    """A number from ½ to 1½, whatever comes in: a logarithm and a division can take it."""
    return 1 + value.tanh() / 2


OPERATIONS = [
    lambda a, b, c: a + b, lambda a, b, c: a * b, lambda a, b, c: a - b,
    lambda a, b, c: a / tame(b), lambda a, b, c: -a, lambda a, b, c: a.tanh(),
    lambda a, b, c: a.relu(), lambda a, b, c: tame(a).log(), lambda a, b, c: a.tanh().exp(),
    lambda a, b, c: tame(a) ** c, lambda a, b, c: tame(a) ** -1, lambda a, b, c: a.tanh() ** 3,
    lambda a, b, c: a + c, lambda a, b, c: c - a, lambda a, b, c: c * a,
    lambda a, b, c: c / tame(a), lambda a, b, c: a * a + a, lambda a, b, c: a.tanh() ** 2,
]


def random_expression(seed: int) -> tuple[Callable, list[float]]:
    """A random graph of 30 operations on five numbers; every result may be used again.

    The result is the mean of all that was calculated, so that nothing is left out.
    """
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=5).tolist()
    plan = [(rng.integers(len(OPERATIONS)), rng.random(2), rng.normal()) for _ in range(30)]

    def expression(*leaves):
        values = list(leaves)
        for operation, places, constant in plan:
            a, b = (values[int(place * len(values))] for place in places)
            values.append(OPERATIONS[operation](a, b, float(constant)))
            if abs(values[-1].data) > 10:
                values[-1] = values[-1].tanh()
        return sum(values) / len(values)

    return expression, numbers


def test_two_hundred_random_expressions_have_the_values_and_slopes_of_torch():
    """Slopes are compared relative to the greatest: a sum of ±10 may cancel to 1e-9."""
    for seed in range(200):
        expression, numbers = random_expression(seed)
        data, grads = slopes(expression, *numbers)
        expected, theirs = torch_slopes(expression, *numbers)
        assert data == pytest.approx(expected, rel=1e-10, abs=1e-12), seed
        assert grads == pytest.approx(theirs, rel=1e-10,
                                      abs=1e-12 * max(map(abs, theirs))), seed


def test_the_random_expressions_use_every_operation_and_share_results():
    used = set()
    for seed in range(20):
        expression, numbers = random_expression(seed)
        values = expression(*map(Value, numbers)).sorted()
        used |= {value.name for value in values if value.parents}
        users = [id(parent) for value in values for parent, _ in value.parents]
        assert len(users) > len(set(users)) + 10
    assert {"+", "×", "^-1", "^2", "^3", "exp", "log", "tanh", "relu"} <= used


# ---------------------------------------------------------------- the order


def test_a_value_that_is_used_twice_hands_on_its_gradient_when_it_is_complete():
    """c = b + b is 4a: a walk that hands on what has come so far gives 3, or 2 without sums.

    The two ways from c to b both add to b's gradient. Whoever passes it to a after the first
    of them passes half: hence `sorted`, where a value comes after all that uses it.
    """
    a = Value(3.0)
    b = a + a
    c = b + b
    c.backward()
    assert (a.grad, b.grad, c.grad) == (4.0, 2.0, 1.0)


def test_a_value_reached_by_a_short_and_by_a_long_way_is_not_handed_on_too_early():
    """Neither a walk in depth nor one in breadth does: d is met before it is complete."""
    for expression in (lambda a, d, e: d + e * e, lambda a, d, e: e * e + d,
                       lambda a, d, e: e * (d * e)):
        a = Value(2.0)
        d = a * a
        out = expression(a, d, (d + 1).tanh())
        out.backward()
        other = leaf(2.0)
        square = other * other
        expected = torch.autograd.grad(expression(other, square, (square + 1).tanh()), other)
        assert a.grad == near(expected[0].item())


def test_sorted_lists_every_value_once_and_after_what_it_was_made_of():
    for seed in range(20):
        expression, numbers = random_expression(seed)
        leaves = [Value(number) for number in numbers]
        out = expression(*leaves)
        order = out.sorted()
        place = {id(value): index for index, value in enumerate(order)}
        assert len(place) == len(order) and order[-1] is out
        assert all(id(value) in place for value in leaves)
        assert all(place[id(parent)] < place[id(value)]
                   for value in order for parent, _ in value.parents)


def test_two_to_the_fiftieth_ways_are_walked_at_once():
    """Fifty doublings: whoever follows every path never comes back."""
    a = out = Value(1.0)
    for _ in range(50):
        out = out + out
    out.backward()
    assert a.grad == 2.0**50


@pytest.mark.parametrize("step", [lambda value, a: value + a, lambda value, a: a + value,
                                  lambda value, a: value * 1.0])
def test_a_chain_of_a_hundred_thousand_operations_needs_no_recursion(step):
    start = time.process_time()
    a = Value(2.0)
    out = a
    for _ in range(100_000):
        out = step(out, a)
    out.backward()
    expected = 1.0 if out.data == 2.0 else 100_001.0
    assert a.grad == expected
    gone = out.parents[0][0].sorted()
    del out, gone                       # to forget a long chain must not recurse either
    gc.collect()
    assert time.process_time() - start < 10


# ---------------------------------------------------------------- twice


def test_of_two_backward_passes_leaves_add_up_and_results_do_not():
    """As in torch: a leaf's gradient is the user's to reset."""
    a = Value(3.0)
    b = a * a
    c = b * 2
    c.backward()
    assert (a.grad, b.grad, c.grad) == (12.0, 2.0, 1.0)
    c.backward()
    assert (a.grad, b.grad, c.grad) == (24.0, 2.0, 1.0)


def test_a_leaf_that_was_reset_gets_the_gradient_again():
    a = Value(3.0)
    for _ in range(3):
        a.grad = 0.0
        (a * a).backward()
        assert a.grad == 6.0


def test_two_results_of_one_leaf_add_their_slopes_as_two_losses_would():
    a = Value(3.0)
    b = a * a
    (b + a).backward()
    (b * 2).backward()
    assert a.grad == 7.0 + 12.0 and b.grad == 2.0


def test_a_result_in_between_may_itself_be_the_start():
    a = Value(3.0)
    b = a * a
    c = b * 2
    b.backward()
    assert (a.grad, b.grad, c.grad) == (6.0, 1.0, 0.0)


def test_a_leaf_alone_has_slope_one_in_itself():
    a = Value(3.0)
    a.backward()
    assert a.grad == 1.0
    a.backward()
    assert a.grad == 2.0          # it is a leaf and adds up like any other


def test_backward_changes_no_value_and_what_is_not_in_the_graph_has_no_slope():
    a, b, stranger = Value(3.0), Value(-2.0), Value(5.0)
    out = (a * b).tanh() + a
    before = [value.data for value in out.sorted()]
    _ = a * stranger
    out.backward()
    assert [value.data for value in out.sorted()] == before
    assert stranger.grad == 0.0


# ---------------------------------------------------------------- corners and errors


def test_the_slope_of_relu_at_exactly_zero_is_zero():
    assert slopes(lambda a: a.relu(), 0.0) == (0.0, [0.0])
    assert slopes(lambda a: a.relu(), -0.0)[1] == [0.0]


@pytest.mark.parametrize("number", [-2.0, 0.0, 3.0])
def test_a_power_of_zero_is_one_everywhere_and_has_no_slope(number):
    """0·0⁻¹ would be a division by zero at 0."""
    assert slopes(lambda a: a**0, number) == (1.0, [0.0])
    assert slopes(lambda a: a**0.0, number) == (1.0, [0.0])


def test_data_and_gradient_are_plain_floats():
    a = Value(3)
    out = np.float64(2.0) * a + np.float64(1.0)
    out.backward()
    assert type(out) is Value
    assert [type(number) for number in (a.data, a.grad, out.data)] == [float] * 3
    assert (out.data, a.grad) == (7.0, 2.0)


def test_python_can_sum_values():
    a, b = Value(1.0), Value(2.0)
    out = sum([a, b, a])
    out.backward()
    assert (out.data, a.grad, b.grad) == (4.0, 2.0, 1.0)


def test_a_value_as_power_is_refused_with_what_to_write_instead():
    with pytest.raises(TypeError, match=r"write \(a\.log\(\) \* b\)\.exp\(\)"):
        Value(2.0) ** Value(3.0)


def test_what_the_refusal_advises_works():
    data, grads = slopes(lambda a, b: (a.log() * b).exp(), 2.0, 3.0)
    assert [data, *grads] == near([8.0, 12.0, 8 * math.log(2)])


@pytest.mark.parametrize("number", [-1.0, 0.0])
def test_there_is_no_logarithm_of_what_is_not_above_zero(number):
    with pytest.raises(ValueError):
        Value(number).log()


@pytest.mark.parametrize("expression", [lambda a: a**-1, lambda a: 1 / a, lambda a: a / a])
def test_a_division_by_zero_is_an_error_and_not_infinity(expression):
    with pytest.raises(ZeroDivisionError):
        expression(Value(0.0))


def test_a_value_prints_its_number_and_its_gradient():
    a = Value(1.5)
    (a * 2).backward()
    assert repr(a) == "Value(1.5, grad=2)"


def test_results_are_named_after_what_made_them_and_leaves_after_the_user():
    a = Value(1.5, "a")
    names = [value.name for value in ((a + 1) * a).exp().sorted()]
    assert sorted(names) == sorted(["a", "1", "+", "×", "exp"])


def test_values_that_nobody_needs_any_more_are_forgotten():
    """A graph has no loops, so that Python frees it at once, without its collector."""
    class Watched(Value):
        __slots__ = ("__weakref__",)

    gc.disable()
    try:
        a = Watched(1.0)
        trace = weakref.ref(a)
        (a * 2 + a).backward()
        del a
        assert trace() is None
    finally:
        gc.enable()
