"""Backpropagation through any expression, one number at a time.

    a = Value(2.0, "a")
    b = a * a + a
    b.backward()
    a.grad                      # 5.0, the slope of b in a

Each result remembers the values it was made of and its slope towards each: a graph grows as
you calculate. `backward` walks it in reverse, multiplies slopes along paths and adds up paths.
"""

import math


class Value:
    """A number that remembers how it was made: `data`, and after `backward` its `grad`.

    `parents` holds pairs of a value this one was made of and the slope towards it.
    """

    __slots__ = ("data", "grad", "parents", "name")

    def __init__(self, data: float, name: str = "",
                 parents: tuple[tuple["Value", float], ...] = ()) -> None:
        self.data, self.grad, self.name, self.parents = float(data), 0.0, name, parents

    def __add__(self, other: "Value | float") -> "Value":
        other = _value(other)
        return Value(self.data + other.data, "+", ((self, 1.0), (other, 1.0)))

    def __mul__(self, other: "Value | float") -> "Value":
        other = _value(other)
        return Value(self.data * other.data, "×", ((self, other.data), (other, self.data)))

    def __pow__(self, power: float) -> "Value":
        if isinstance(power, Value):
            raise TypeError("the power must be a plain number: write (a.log() * b).exp()")
        slope = power * self.data ** (power - 1) if power else 0.0
        return Value(self.data**power, f"^{power:g}", ((self, slope),))

    def exp(self) -> "Value":
        """e to this number, its own slope."""
        y = math.exp(self.data)
        return Value(y, "exp", ((self, y),))

    def log(self) -> "Value":
        """The natural logarithm of a number above 0."""
        return Value(math.log(self.data), "log", ((self, 1 / self.data),))

    def tanh(self) -> "Value":
        """The number squashed into (-1, 1)."""
        y = math.tanh(self.data)
        return Value(y, "tanh", ((self, 1 - y * y),))

    def relu(self) -> "Value":
        """The number if it is positive, else 0."""
        return Value(max(self.data, 0.0), "relu", ((self, float(self.data > 0)),))

    def __neg__(self) -> "Value":
        return self * -1

    def __sub__(self, other: "Value | float") -> "Value":
        return self + -_value(other)

    def __truediv__(self, other: "Value | float") -> "Value":
        return self * _value(other) ** -1

    def __radd__(self, other: float) -> "Value":
        return self + other

    def __rmul__(self, other: float) -> "Value":
        return self * other

    def __rsub__(self, other: float) -> "Value":
        return _value(other) - self

    def __rtruediv__(self, other: float) -> "Value":
        return _value(other) / self

    def __repr__(self) -> str:
        return f"Value({self.data:g}, grad={self.grad:g})"

    def backward(self) -> None:
        """Give every value that this one depends on its `grad`, the slope ∂self/∂value.

        Values that you made (leaves) add it to what they have, as in PyTorch: set `grad` to 0
        between two calls, unless you want the sum. Results in between start from 0 each time.
        """
        order = self.sorted()
        for value in order:
            if value.parents:
                value.grad = 0.0
        self.grad += 1.0
        for value in reversed(order):
            for parent, slope in value.parents:
                parent.grad += slope * value.grad                          # (24)

    def sorted(self) -> list["Value"]:
        """All values this one depends on and itself, each after those it was made of.

        With b = a + a and c = b + b, a walk that hands on a gradient as soon as it comes
        leaves b with half of its own. In this order a value is complete before it is used.
        No recursion: a long calculation would exceed Python's stack.
        """
        order, seen, stack = [], set(), [(self, False)]
        while stack:
            value, parents_are_done = stack.pop()
            if parents_are_done:
                order.append(value)
            elif id(value) not in seen:
                seen.add(id(value))
                stack.append((value, True))
                stack.extend((parent, False) for parent, _ in value.parents)
        return order


def _value(number: "Value | float") -> Value:
    return number if isinstance(number, Value) else Value(number, f"{number:g}")

