"""The guided walk of backprop: its numbers add up, and what it says of them is true."""

import math
import re
import sys

import numpy as np
import pytest
import torch

from support import ROOT, load, run

backprop = load("backprop_from_scratch")
demo, by_hand = backprop.demo, backprop.by_hand
QUESTIONS, ANSWERS = demo.truth_table()
DEMO = ROOT / "backprop_from_scratch" / "demo.py"


def shown(name: str, capsys: pytest.CaptureFixture) -> str:
    """What one of the demos prints."""
    assert demo.main(["--demo", name]) == 0
    return capsys.readouterr().out


# ---------------------------------------------------------------- the trace


def trace_lines(text: str) -> list[tuple[str, str, str, float]]:
    """Name, formula, formula in numbers, and result of each line of the trace."""
    found = re.findall(r"^ *\(\d+\) +(\S+) = (.*?) += (.*?) += (\S+)$", text, re.MULTILINE)
    return [(name, formula.strip(), numbers.strip(), float(result))
            for name, formula, numbers, result in found]


def calculate(numbers: str) -> float:
    """The value of a formula in numbers, as a pencil would find it."""
    python = numbers.replace("·", "*").replace("²", "**2").replace("^", "**")
    return eval(python, {"e": math.e})


def given(text: str) -> dict[str, float]:
    """The numbers that the trace starts from."""
    line = re.search(r"^given +(.*)$", text, re.MULTILINE)[1]
    return {name: float(value) for name, value in
            (pair.split(" = ") for pair in line.split(", "))}


def test_every_line_of_the_trace_adds_up(capsys):
    lines = trace_lines(shown("trace", capsys))
    assert len(lines) == 6 + 14 + 9
    for name, _, numbers, result in lines:
        assert calculate(numbers) == pytest.approx(result, rel=2e-4, abs=6e-5), name


def test_each_line_of_the_trace_uses_only_numbers_that_stand_above_it(capsys):
    """Each name in a formula is given or was a result before, and stands for that number."""
    text = shown("trace", capsys)
    known = {name: f"{value:g}" for name, value in given(text).items()}
    for name, formula, numbers, result in trace_lines(text):
        expected = re.sub(
            r"∂?[a-zA-Z]\d*", lambda m: m[0] if m[0] == "e" else
            (f"({known[m[0]]})" if known[m[0]].startswith("-") else known[m[0]]), formula)
        assert numbers == expected, name
        known[name] = f"{result:g}" if float(f"{result:g}") == result else str(result)


def test_the_trace_has_the_gradients_of_pytorch():
    numbers = by_hand.traced_numbers()
    leaf = {name: torch.tensor(numbers[name], dtype=torch.float64, requires_grad=True)
            for name in by_hand.PARAMETERS}
    h1 = torch.sigmoid(leaf["w11"] * 1 + leaf["w21"] * 2 + leaf["b1"])
    h2 = torch.sigmoid(leaf["w12"] * 1 + leaf["w22"] * 2 + leaf["b2"])
    loss = (leaf["v1"] * h1 + leaf["v2"] * h2 + leaf["c"] - 1) ** 2
    loss.backward()
    assert numbers["L"] == pytest.approx(loss.item(), rel=1e-12)
    for name in by_hand.PARAMETERS:
        assert numbers[f"∂{name}"] == pytest.approx(leaf[name].grad.item(), rel=1e-12), name
    assert numbers["L'"] < numbers["L"]


def test_the_trace_names_every_gradient_once(capsys):
    names = [name for name, *_ in trace_lines(shown("trace", capsys))]
    assert len(set(names)) == len(names)
    assert {f"∂{name}" for name in by_hand.PARAMETERS} < set(names)
    assert {f"{name}'" for name in by_hand.PARAMETERS} < set(names)


# ---------------------------------------------------------------- the others


def test_handing_gradients_on_at_once_is_wrong_and_sorting_is_right(capsys):
    text = shown("autograd", capsys)
    assert re.search(r"at once +∂c/∂b = 2, ∂c/∂a = 6 +WRONG", text)
    assert re.search(r"sorted +∂c/∂b = 2, ∂c/∂a = 4 +right", text)
    assert "slope is 2.71827 (by formula 2.71827)" in text


def test_the_gradient_check_passes_correct_layers_and_finds_the_planted_bug(capsys):
    text = shown("gradient-check", capsys)
    verdicts = re.findall(r"^4-5-3 with .*: (\w+)$", text, re.MULTILINE)
    assert verdicts == ["passed", "passed", "passed", "FAILED"]
    last = text.split("FAILED")[1]
    assert re.findall(r"^  (\S+) .* WRONG$", last, re.MULTILINE) == ["0.weight", "0.bias",
                                                                   "input"]


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh"])
def test_xor_is_solved_by_99_of_100_seeds(activation):
    """Below 0.001, which four right answers alone do not give."""
    attempts = [demo.solve_xor(activation, seed) for seed in range(100)]
    assert sum(attempt.solved for attempt in attempts) >= 99
    for attempt in attempts:
        right = (attempt.network.forward(QUESTIONS) > 0) == ANSWERS
        assert not attempt.solved or right.all() and attempt.loss < 1e-3


def test_two_inputs_alone_cannot_solve_xor():
    """Without a hidden layer the best loss is log 2: no line parts the answers."""
    network = backprop.model.Network([backprop.model.Linear(2, 1, np.random.default_rng(0))])
    loss = backprop.losses.BinaryCrossEntropy()
    optimizer = backprop.optimizers.Adam(network.parameters, 0.1)
    for _ in range(2000):
        cost = loss.forward(network.forward(QUESTIONS), ANSWERS)
        network.backward(loss.backward())
        optimizer.step(network.gradients)
    assert cost == pytest.approx(math.log(2), abs=1e-6)


def test_a_failing_seed_has_units_that_are_dead_for_ever(capsys):
    """They are 0 for all questions and no gradient reaches their weights; the demo says so."""
    attempts = [demo.solve_xor("relu", seed, hidden=3) for seed in range(10)]
    worst = max(attempts, key=lambda attempt: attempt.dead.sum())
    assert worst.dead.sum() >= 2 and not worst.solved
    units = worst.network.layers[1].forward(worst.network.layers[0].forward(QUESTIONS))
    assert not units[:, worst.dead].any()
    assert not worst.network.gradients["0.weight"][:, worst.dead].any()
    text = shown("xor", capsys)
    assert f"Seed {attempts.index(worst)}, question by question" in text
    assert f"stuck, {worst.dead.sum()} of 3 units dead" in text
    assert "the largest slope of its incoming weights is 0." in text
    assert text.count("10 of 10 solved") == 3


def test_where_no_unit_is_dead_the_demo_does_not_speak_of_dead_units(monkeypatch, capsys):
    """So it is with the LeakyReLU of the exercise, which takes the place of ReLU."""
    class LeakyReLU(backprop.model.ReLU):
        def forward(self, x):
            return np.where(x > 0, x, 0.1 * x + 0 * super().forward(x))

        def backward(self, grad):
            return grad * np.where(self.positive, 1, 0.1)

    monkeypatch.setitem(backprop.model.ACTIVATIONS, "relu", LeakyReLU)
    monkeypatch.setattr(demo, "MOST_STEPS", 200)
    text = shown("xor", capsys)
    assert "stuck, 0 of 3 units dead" in text
    assert "question by question" not in text and "wake" not in text


def test_gradients_vanish_through_sigmoids_and_not_through_relus():
    sigmoid = demo.gradient_sizes("sigmoid", "xavier")
    relu = demo.gradient_sizes("relu", "he")
    assert len(sigmoid) == len(relu) == demo.DEPTH + 1
    assert sigmoid[-1] / sigmoid[0] < 1e-5 < 0.05 < relu[-1] / relu[0] < 20


def test_with_lecuns_weights_each_relu_takes_a_share_that_hes_give_back(capsys):
    """Half the variance in each of ten layers: 2⁻⁵ in size, more or less."""
    he, lecun = (demo.gradient_sizes("relu", init) for init in ("he", "lecun"))
    assert he[0] == pytest.approx(lecun[0], rel=0.5)
    assert 0.01 < (lecun[-1] / lecun[0]) / (he[-1] / he[0]) < 0.1
    assert shown("vanishing", capsys).count("\n") > demo.DEPTH


def test_the_sizes_are_those_of_pytorchs_gradients():
    data = backprop.data.moons()
    config = {**backprop.scaling.measure(data), "dtype": "float64"}
    x = torch.tensor(backprop.scaling.to_input(data.train.x, config))
    network = backprop.model.build({"sizes": [2, *[32] * 10, 2], "activation": "tanh",
                                    "init": "xavier", "dropout": 0.0, "dtype": "float64"})
    seen = []
    for layer in network.layers:
        if isinstance(layer, backprop.model.Tanh):
            x = torch.tanh(x)
        else:
            x = x @ torch.tensor(layer.parameters["weight"]) + torch.tensor(
                layer.parameters["bias"])
            x.requires_grad_() if x.is_leaf else x.retain_grad()
            seen.append(x)
    torch.nn.functional.cross_entropy(x, torch.tensor(data.train.y)).backward()
    expected = [z.grad.square().mean().sqrt().item() for z in reversed(seen)]
    assert demo.gradient_sizes("tanh", "xavier") == pytest.approx(expected, rel=1e-9)


# ---------------------------------------------------------------- the walk


def test_the_walk_shows_all_demos_in_order_and_does_not_wait_in_a_pipe():
    result = run(DEMO)
    assert result.returncode == 0, result.stderr
    headings = re.findall(r"^== ([\w-]+): ", result.stdout, re.MULTILINE)
    assert headings == list(demo.DEMOS) and not result.stderr
    assert result.stdout.splitlines()[-1].startswith("next: python train.py")


def test_in_a_terminal_the_walk_stops_between_two_demos(monkeypatch):
    prompts = []
    monkeypatch.setattr("builtins.input", prompts.append)
    for stream in (sys.stdin, sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(demo, "DEMOS", {name: lambda: None for name in demo.DEMOS})
    for function in demo.DEMOS.values():
        function.__doc__ = "A demo."
    assert demo.main([]) == 0
    assert len(prompts) == len(demo.DEMOS) - 1
    assert demo.main(["--demo", "xor"]) == 0
    assert len(prompts) == len(demo.DEMOS) - 1

    def no_more(prompt):     # as after Ctrl-D
        raise EOFError

    monkeypatch.setattr("builtins.input", no_more)
    assert demo.main([]) == 0


def test_an_unknown_demo_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as end:
        demo.main(["--demo", "magic"])
    assert end.value.code == 2 and "--demo" in capsys.readouterr().err
