"""The data behind the pictures of backprop: landscapes, films, boundaries, graphs."""

import copy
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support import load

backprop = load("backprop_from_scratch")
model, watch, landscape, pictures = (backprop.model, backprop.watch, backprop.landscape,
                                     backprop.pictures)
Value = backprop.autograd.Value


@pytest.fixture(scope="module")
def film() -> object:
    """A short film of a ReLU network on the moons."""
    return watch.watch(backprop.data.moons(), [8, 8], "relu", "adam", 1e-2, epochs=5, seed=0)


def own_loss(film: object) -> float:
    """The loss of a film's last network on its training part."""
    return film.loss.forward(film.network.forward(film.part.x), film.part.y)


def ticks(count: int = 5, reach: float = 0.5) -> np.ndarray:
    """Places along a direction, the middle one exactly 0."""
    return np.arange(-(count // 2), count // 2 + 1) / (count // 2) * reach


def two_directions(network: object, seed: int = 0) -> tuple:
    """Two random directions, drawn with this seed."""
    rng = np.random.default_rng(seed)
    return landscape.random_direction(network, rng), landscape.random_direction(network, rng)


def frame(path: Path) -> np.ndarray:
    """The last frame of a moving picture, as colours."""
    with Image.open(path) as picture:
        picture.seek(picture.n_frames - 1)
        return np.asarray(picture.convert("RGB"), dtype=float)


# ---------------------------------------------------------------- landscape


def test_the_centre_of_the_landscape_is_the_loss(film):
    heights = landscape.surface(film.network, film.loss, film.part,
                                two_directions(film.network), ticks(), ticks())
    assert heights[2, 2] == pytest.approx(own_loss(film), rel=1e-12)
    assert np.isfinite(heights).all() and heights.std() > 0.01


def test_each_height_is_the_loss_at_the_weights_moved_so_far_along_both_directions(film):
    """Row by row the second direction, column by column the first; no two places alike."""
    first, second = two_directions(film.network)
    across, up = np.array([-0.3, 0.1]), np.array([-0.2, 0.05, 0.4])
    heights = landscape.surface(film.network, film.loss, film.part, (first, second), across, up)
    assert heights.shape == (3, 2)
    for row, b in enumerate(up):
        for column, a in enumerate(across):
            there = copy.deepcopy(film.network)
            for name, w in there.parameters.items():
                w += a * first[name] + b * second[name]
            expected = film.loss.forward(there.forward(film.part.x), film.part.y)
            assert heights[row, column] == pytest.approx(expected, rel=1e-12)


def test_a_landscape_leaves_the_network_as_it_was(film):
    before = model.flat(film.network.parameters)
    landscape.surface(film.network, film.loss, film.part, two_directions(film.network),
                      ticks(), ticks())
    assert np.array_equal(model.flat(film.network.parameters), before)


def rescaled(network: object, factors: tuple[float, ...]) -> object:
    """The same function: each hidden layer's units times a factor, what reads them divided."""
    network = copy.deepcopy(network)
    linear = [layer for layer in network.layers if isinstance(layer, model.Linear)]
    for layer, reader, factor in zip(linear, linear[1:], factors):
        for name in ("weight", "bias"):
            layer.parameters[name] *= factor
        reader.parameters["weight"] /= factor
    return network


@pytest.mark.parametrize("factors", [(10.0, 0.1), (3.0, 50.0)])
def test_the_landscape_is_the_same_for_a_rescaled_network(factors, film):
    there = rescaled(film.network, factors)
    x = film.part.x
    assert np.allclose(there.forward(x), film.network.forward(x), rtol=1e-10, atol=1e-10)
    heights = [landscape.surface(network, film.loss, film.part, two_directions(network),
                                 ticks(), ticks()) for network in (film.network, there)]
    assert np.allclose(*heights, rtol=1e-9)


def test_without_normalisation_a_rescaled_network_would_look_different(film):
    """Otherwise the test above would prove nothing."""
    there, heights = rescaled(film.network, (10.0, 0.1)), []
    for network in (film.network, there):
        rng = np.random.default_rng(0)
        plain = [{name: rng.normal(size=w.shape) * (w.ndim > 1)
                  for name, w in network.parameters.items()} for _ in range(2)]
        heights.append(landscape.surface(network, film.loss, film.part, tuple(plain),
                                         ticks(), ticks()))
    assert not np.allclose(*heights, rtol=0.05)


def test_a_direction_is_as_long_as_each_units_weights_and_spares_biases(film):
    direction = landscape.random_direction(film.network, np.random.default_rng(0))
    for name, w in film.network.parameters.items():
        if name.endswith("weight"):
            ours, theirs = np.linalg.norm(direction[name], axis=0), np.linalg.norm(w, axis=0)
            assert ours == pytest.approx(theirs, rel=1e-12)
            assert np.ptp(theirs) > 0.1          # units differ, so it matters
        else:
            assert not direction[name].any()


def test_the_plane_of_a_path_holds_its_end_and_its_stations(film):
    (first, second), coordinates, share = landscape.plane_of_path(film.network, film.path)
    axes = np.array([model.flat(first), model.flat(second)])
    assert axes @ axes.T == pytest.approx(np.eye(2), abs=1e-12)
    assert coordinates.shape == (6, 2) and coordinates[-1] == pytest.approx([0, 0], abs=1e-12)
    steps = film.path - film.path[-1]
    missed = steps - coordinates @ axes
    assert share == pytest.approx(1 - (missed**2).sum() / (steps**2).sum(), abs=1e-12)
    assert 0.8 < share < 1


def test_the_plane_of_a_flat_path_holds_all_of_it(film):
    """A path made of two directions only is found again, station by station."""
    rng = np.random.default_rng(0)
    end = model.flat(film.network.parameters)
    along, places = rng.normal(size=(2, len(end))), rng.normal(size=(7, 2))
    places[-1] = 0
    (first, second), coordinates, share = landscape.plane_of_path(film.network,
                                                                  end + places @ along)
    axes = np.array([model.flat(first), model.flat(second)])
    assert share == pytest.approx(1)
    assert coordinates @ axes == pytest.approx(places @ along, abs=1e-9)


# ---------------------------------------------------------------- films


def test_a_film_trains_as_a_plain_loop_does(film):
    """The same seeds and batches by hand end at the same weights, to the bit."""
    data = backprop.data.moons()
    part = backprop.scaling.standardised(data.train, film.config)
    network = model.build(film.config, np.random.default_rng(0))
    loss, adam = backprop.losses.CrossEntropy(), backprop.optimizers.Adam(network.parameters,
                                                                          1e-2)
    for epoch in range(5):
        order = np.random.default_rng([0, epoch]).permutation(len(part.y))
        for start in range(0, len(order), 32):
            chosen = order[start : start + 32]
            loss.forward(network.forward(part.x[chosen]), part.y[chosen])
            network.backward(loss.backward())
            adam.step(network.gradients)
    assert np.array_equal(model.flat(network.parameters), film.path[-1])
    assert np.array_equal(film.path[-1], model.flat(film.network.parameters))


def test_a_film_has_a_row_for_each_step_and_each_epoch(film):
    steps = 5 * -(-len(film.part.y) // 32)
    assert film.losses.shape == (steps,)
    assert film.gradients.shape == film.ratios.shape == (steps, 3)
    assert film.path.shape == (6, 2 * 8 + 8 + 8 * 8 + 8 + 8 * 2 + 2)
    assert film.dead.shape == (6, 2) and not np.array_equal(film.path[0], film.path[1])


def test_gradients_and_ratios_of_a_film_are_those_of_its_steps():
    """One batch an epoch, plain descent: each change is rate times gradient."""
    data = backprop.data.shortened(backprop.data.moons(), 32)
    film = watch.watch(data, [4], "tanh", "sgd", 0.1, epochs=3, seed=0)
    network = model.build(film.config)
    weight = slice(0, 8)                         # the first layer's weights in a row
    for step in range(3):
        before, after = film.path[step, weight], film.path[step + 1, weight]
        size = watch.root_mean_square(before)
        change = watch.root_mean_square(after - before)
        assert film.ratios[step, 0] == pytest.approx(change / size, rel=1e-9)
        assert film.gradients[step, 0] == pytest.approx(change / 0.1, rel=1e-9)
    assert len(network.parameters) == 4


def test_dead_units_are_counted():
    """Of four units one is always on, one sometimes, and two never."""
    network = model.Network([model.Linear(1, 4, np.random.default_rng(0)), model.ReLU()])
    network.parameters["0.weight"][:] = [[0, 1, 0, -1]]
    network.parameters["0.bias"][:] = [1, 0, -1, -1]
    assert watch.dead_shares(network, np.array([[-0.5], [0.5]])) == [0.5]
    network.layers[1] = model.Tanh()         # never silent
    assert watch.dead_shares(network, np.array([[-0.5], [0.5]])) == [0.0]


@pytest.mark.parametrize(("ratio", "words"), [(0.5, "lower --lr"), (1e-3, "usual range"),
                                              (1e-6, "higher --lr")])
def test_the_advice_follows_the_ratios_of_the_second_half(ratio, words, film):
    ratios = np.full_like(film.ratios, ratio)
    ratios[: len(ratios) // 2] = 1e-3
    assert words in pictures.advice(film._replace(ratios=ratios))


# ---------------------------------------------------------------- other data of pictures


def test_the_boundary_is_what_the_network_believes(film):
    p = pictures.probabilities(film, 5, film.part.x)
    assert np.array_equal(p, backprop.losses.softmax(film.network.forward(film.part.x)))
    first = pictures.probabilities(film, 0, film.part.x)
    assert p.sum(axis=1) == pytest.approx(1) and not np.allclose(p, first)
    right = [(q.argmax(axis=1) == film.part.y).mean() for q in (first, p)]
    assert right[1] > max(right[0], 0.85)


def test_the_boundary_moves_and_stays_small(film, tmp_path):
    pictures.draw_boundary(film, tmp_path / "boundary.gif")
    with Image.open(tmp_path / "boundary.gif") as picture:
        assert picture.n_frames >= 6
        frames = []
        for number in range(picture.n_frames):
            picture.seek(number)
            frames.append(np.asarray(picture.convert("RGB"), dtype=int))
    assert np.abs(frames[0] - frames[-1]).mean() > 5
    assert (tmp_path / "boundary.gif").stat().st_size < 2_000_000


def test_the_boundary_colours_lie_where_the_samples_do(film, tmp_path):
    """A pixel beside most samples of a class has more of that class's colour than before."""
    pictures.draw_boundary(film, tmp_path / "boundary.gif")
    last = frame(tmp_path / "boundary.gif")
    x, y = film.part
    reach = 1.1 * np.abs(x).max()
    column, row = ((x * [1, -1] / reach + 1) * pictures.SIDE / 2).astype(int).T
    blue, orange = (last[(row + 5).clip(0, 239)[y == k], column[y == k]] for k in (0, 1))
    assert blue[:, 2].mean() > blue[:, 0].mean() and orange[:, 0].mean() > orange[:, 2].mean()


@pytest.mark.parametrize("axis", [0, 1])
def test_a_straight_boundary_is_drawn_on_its_pixel(axis, film, tmp_path):
    """A network that looks at one coordinate alone changes its mind at 0.3 of the width."""
    x = np.array([[1.0, 1.0], [-1.0, -1.0]]) / 1.1              # the picture reaches to 1
    network = copy.deepcopy(film.network)
    for w in network.parameters.values():
        w[...] = 0
    weights = network.parameters
    weights["0.weight"][axis, :2], weights["0.bias"][:2] = [1, -1], [0.4, -0.4]
    for name in ("2.weight", "4.weight"):
        weights[name][:2, :2] = np.eye(2) * 100
    flat = model.flat(weights)
    straight = film._replace(network=network, part=backprop.data.Part(x, np.array([0, 1])),
                             path=np.array([flat, flat]))
    pictures.draw_boundary(straight, tmp_path / "b.gif")
    line = frame(tmp_path / "b.gif")[:, :, 0]                    # more red on the orange side
    line = line[120, :] if axis == 0 else line[::-1, 120]
    where = np.flatnonzero(np.diff(line > line.mean()))
    assert len(where) == 1 and abs(where[0] + 1 - 0.3 * pictures.SIDE) <= 0.5


def test_the_strongest_units_are_shown():
    rng = np.random.default_rng(0)
    network = model.Network([model.Linear(40, 3, rng), model.ReLU(), model.Linear(3, 2, rng)])
    weight = network.parameters["0.weight"]
    weight *= 0.01
    weight[[3, 30], 1] = 5.0
    inputs, hidden, outputs = pictures.strongest(network)
    assert len(inputs) == pictures.MOST_UNITS and {3, 30} <= set(inputs)
    assert list(inputs) == sorted(inputs) and list(hidden) == [0, 1, 2] and len(outputs) == 2


def test_the_drawn_slopes_of_activations_are_those_of_finite_differences(tmp_path):
    z = np.linspace(-3, 3, 13)[:, None] + 0.01
    for activation in model.ACTIVATIONS.values():
        layer, h = activation(), 1e-6
        measured = (layer.forward(z + h) - layer.forward(z - h)) / (2 * h)
        layer.forward(z)
        assert layer.backward(np.ones_like(z)) == pytest.approx(measured, abs=1e-8)


# ---------------------------------------------------------------- what stands in the pictures


@pytest.fixture
def drawn(monkeypatch) -> dict:
    """The figures that are saved, by name, instead of their files."""
    figures = {}
    monkeypatch.setattr(pictures, "save",
                        lambda figure, path: figures.__setitem__(path.stem, figure))
    return figures


def heights_of(lines: list) -> list[np.ndarray]:
    """The heights of a figure's lines."""
    return [np.asarray(line.get_ydata(), dtype=float) for line in lines]


def test_the_picture_of_dead_units_shows_their_share_in_percent(film, drawn):
    dead = np.array([[0.0, 0.5], [0.25, 0.5], [0.5, 0.75]])
    pictures.draw_dead({"one": film._replace(dead=dead), "two": film}, Path("dead.png"))
    left, right = drawn["dead"].axes
    assert np.array_equal(heights_of(left.lines), 100 * dead.T)
    assert np.array_equal(heights_of(right.lines), 100 * film.dead.T)
    assert left.get_title() == "one: 62 % dead at the end"       # (50 + 75) / 2


def test_flow_and_ratios_show_the_mean_of_the_last_twenty_steps(film, drawn):
    pictures.draw_ratios(film, Path("ratios.png"))
    pictures.draw_flow({"relu": film, "again": film}, Path("flow.png"))
    for axis, values in ((drawn["ratios"].axes[0], film.ratios),
                         (drawn["flow"].axes[0], film.gradients),
                         (drawn["flow"].axes[1], film.gradients)):
        for line, column in zip(axis.lines, values.T):
            assert list(line.get_xdata()) == list(range(20, len(column) + 1))
            for place in (0, 30, -1):
                end = int(line.get_xdata()[place])
                assert line.get_ydata()[place] == pytest.approx(column[end - 20 : end].mean())


@pytest.mark.parametrize(("ratio", "words"), [(1.1e-2, "lower"), (9e-3, "usual"),
                                              (1.1e-4, "usual"), (9e-5, "higher")])
def test_the_advice_begins_at_a_hundredth_and_at_a_ten_thousandth(ratio, words, film):
    ratios = np.full_like(film.ratios, ratio)
    ratios[: len(ratios) // 2] = 10.0                            # the beginning does not count
    assert words in pictures.advice(film._replace(ratios=ratios))


def test_the_landscapes_are_those_around_the_end_and_along_the_path(film, drawn, monkeypatch):
    shown = []
    monkeypatch.setattr(pictures, "_draw_heights",
                        lambda figure, axis, *data: shown.append((axis, *data)))
    pictures.draw_landscape(film, 3, Path("landscape.png"))
    (_, left, across, up), (axis, right, right_across, right_up) = shown
    directions = two_directions(film.network, seed=3)
    expected = landscape.surface(film.network, film.loss, film.part, directions, across, up)
    assert np.allclose(left, expected, rtol=1e-12) and left[20, 20] == own_loss(film)
    axes, coordinates, _ = landscape.plane_of_path(film.network, film.path)
    expected = landscape.surface(film.network, film.loss, film.part, axes, right_across,
                                 right_up)
    assert np.allclose(right, expected, rtol=1e-12)
    path = np.stack(axis.lines[0].get_data(), axis=1)
    assert np.allclose(path, coordinates)
    for ticks, places in ((right_across, coordinates[:, 0]), (right_up, coordinates[:, 1])):
        assert ticks[0] < places.min() and places.max() < ticks[-1]


def test_heights_are_drawn_row_by_row_upwards():
    figure = pictures.Figure()
    axis = figure.subplots()
    across, up = np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0])
    pictures._draw_heights(figure, axis, np.array([[1.0, 1, 1], [100, 100, 100]]), across, up)
    levels, (contours,) = np.linspace(0, 2, 3), axis.collections
    assert contours.get_array().max() == pytest.approx(levels[-1], abs=0.2)
    assert axis.get_xlim() == (0, 2) and axis.get_ylim() == (0, 1)


def test_lines_of_the_architecture_have_the_sign_and_size_of_their_weights(drawn):
    network = model.Network([model.Linear(2, 1, np.random.default_rng(0))])
    network.parameters["0.weight"][:] = [[-1.0], [0.5]]
    config = {"sizes": [2, 1], "data": "own", "activation": "relu"}
    pictures.draw_architecture(network, config, Path("architecture.png"))
    (axis,) = drawn["architecture"].axes
    (lines,) = (c for c in axis.collections if isinstance(c, pictures.LineCollection))
    weak, strong = lines.get_linewidths()                        # the strongest lies on top
    assert strong == pytest.approx(2 * weak)
    blue, orange = (tuple(int(c[i : i + 2], 16) / 255 for i in (1, 3, 5))
                    for c in (pictures.BLUE, pictures.ORANGE))
    found = [tuple(colour[:3]) for colour in lines.get_colors()]
    assert found == [pytest.approx(orange), pytest.approx(blue)]


def test_the_curves_are_those_of_the_table(drawn, tmp_path):
    table = tmp_path / "metrics.csv"
    table.write_text("epoch,train_loss,validation_loss,validation_score\n"
                     "1,3,4,0.5\n2,1,2,0.75\n3,0.5,3,0.7\n")
    pictures.draw_curves(table, "accuracy", tmp_path / "loss.png")
    left, right = drawn["loss"].axes
    assert np.array_equal(heights_of(left.lines), [[3, 1, 0.5], [4, 2, 3]])
    assert np.array_equal(heights_of(right.lines), [[0.5, 0.75, 0.7]])
    assert right.get_title() == "validation accuracy, 0.7500 at best"


def test_the_curves_of_activations_are_values_and_slopes(drawn):
    pictures.draw_activations(Path("activations.png"))
    for axis, slope in zip(drawn["activations"].axes, (1.0, 0.25, 1.0)):
        z, y = (np.ravel(values) for values in axis.lines[0].get_data())
        slopes = np.ravel(axis.lines[1].get_ydata())
        measured = np.gradient(y, z)
        assert np.abs(slopes - measured)[np.abs(z) > 0.02].max() < 1e-4
        assert slopes.max() == pytest.approx(slope, abs=1e-4)


def test_the_size_of_numbers_is_their_root_mean_square():
    assert watch.root_mean_square(np.array([[3.0, -4.0]])) == pytest.approx(12.5**0.5)


def test_a_film_starts_as_its_activation_and_seed_demand():
    data = backprop.data.shortened(backprop.data.moons(), 32)
    films = [watch.watch(data, [4], name, "sgd", 0.1, epochs=1, seed=seed)
             for name, seed in (("tanh", 0), ("tanh", 1), ("relu", 0))]
    assert [film.config["init"] for film in films] == ["xavier", "xavier", "he"]
    assert not np.array_equal(films[0].path[0], films[1].path[0])
    assert not np.array_equal(films[0].path[0], films[2].path[0])


def test_each_picture_is_drawn_from_the_network_that_it_is_about(monkeypatch, tmp_path, film):
    asked = []

    def watched(data, layers, activation, optimizer, lr, epochs, seed):
        asked.append((activation, lr, seed))
        return film

    monkeypatch.setattr(backprop.visualize, "watch", watched)
    flags = ["--activation", "tanh", "--lr", "0.01", "--seed", "5", "--out", str(tmp_path)]
    for name, expected in {
            "dead": [("relu", 0.01, 5), ("relu", 0.3, 5)],
            "flow": [("tanh", 0.01, 5), ("sigmoid", 0.01, 5)],
            "landscape": [("tanh", 0.01, 5)]}.items():
        asked.clear()
        assert backprop.visualize.main([f"--{name}", *flags]) == 0
        assert asked == expected


def test_a_value_stands_left_of_all_that_use_it_also_across_columns():
    a = Value(2.0, "a")
    b = (a * a).exp()
    c = a + b + a                                 # a is used near the root and far from it
    where = backprop.graph.places(c)
    for value in where:
        assert all(where[parent][0] < where[value][0] for parent, _ in value.parents)


# ---------------------------------------------------------------- the graph


def expression() -> Value:
    """c = b + b with b = a·a + d: a value used twice, and a product of one with itself."""
    a, d = Value(3.0, "a<b>"), Value(2.0, "d & e")
    b = a * a + d
    c = b + b
    c.backward()
    return c


def boxes(root: Value) -> list[tuple[float, float, float, float]]:
    """Left, top, right and bottom of each box in the drawing of a graph."""
    tree = ElementTree.fromstring(backprop.graph.svg(root))
    found = []
    for rect in tree.iter("{http://www.w3.org/2000/svg}rect"):
        if "x" in rect.attrib:
            x, y, width, height = (float(rect.get(k)) for k in ("x", "y", "width", "height"))
            found.append((x, y, x + width, y + height))
    width, height = float(tree.get("width")), float(tree.get("height"))
    assert all(0 <= x and 0 <= y and r <= width and b <= height for x, y, r, b in found)
    return found


def test_the_graph_shows_every_value_its_gradient_and_every_slope():
    root = expression()
    tree = ElementTree.fromstring(backprop.graph.svg(root))
    texts = [text.text for text in tree.iter("{http://www.w3.org/2000/svg}text")]
    for value in root.sorted():
        assert value.name in texts and f"{value.data:.4g}" in texts
        assert f"grad {value.grad:.4g}" in texts
    slopes = sorted(f"×{slope:.3g}" for value in root.sorted() for _, slope in value.parents)
    assert sorted(text for text in texts if text[0] == "×" and len(text) > 1) == slopes
    assert len(list(tree.iter("{http://www.w3.org/2000/svg}path"))) == len(slopes) == 6


def test_no_two_boxes_of_a_graph_overlap():
    rng = np.random.default_rng(0)
    for _ in range(20):
        values = [Value(float(number), f"v{number}") for number in range(3)]
        for _ in range(12):
            i, j = rng.integers(0, len(values), 2)
            values.append(values[i] + values[j] if rng.random() < 0.5
                          else values[i] * values[j])
        found = boxes(values[-1])
        assert len(found) == len(values[-1].sorted())
        for number, (x, y, right, bottom) in enumerate(found):
            assert all(right <= x2 or x >= right2 or bottom <= y2 or y >= bottom2
                       for x2, y2, right2, bottom2 in found[:number])


def test_a_graph_runs_from_left_to_right():
    root = expression()
    where = backprop.graph.places(root)
    assert len(set(where.values())) == len(where) == len(root.sorted())
    for value in where:
        assert all(where[parent][0] < where[value][0] for parent, _ in value.parents)


def test_a_deep_graph_needs_no_recursion():
    value = Value(1.0, "x")
    for _ in range(3_000):
        value = value + 1.0
    assert len(backprop.graph.places(value)) == 6_001


# ---------------------------------------------------------------- the commands


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The best checkpoint of a small run."""
    out = tmp_path_factory.mktemp("trained")
    assert backprop.train.main(["--data", "moons", "--epochs", "2", "--out-dir", str(out)]) == 0
    return out / "best.npz"


@pytest.mark.parametrize("name", backprop.visualize.PICTURES)
def test_each_picture_has_a_command_and_is_quick(name, trained, tmp_path, capsys):
    start = time.perf_counter()
    argv = [f"--{name}", "--checkpoint", str(trained), "--out", str(tmp_path)]
    assert backprop.visualize.main(argv) == 0
    seconds = time.perf_counter() - start
    (path,) = tmp_path.iterdir()
    assert path.stem == name and str(path) in capsys.readouterr().out
    assert seconds < 20
    if path.suffix == ".svg":
        ElementTree.fromstring(path.read_text(encoding="utf-8"))
    else:
        with Image.open(path) as picture:
            assert np.asarray(picture.convert("L")).std() > 5


@pytest.mark.parametrize("flags", [[], ["--all"], ["--all", "--graph"]])
def test_all_pictures_are_drawn_when_none_is_named(flags):
    assert backprop.visualize.parse(flags).pictures == list(backprop.visualize.PICTURES)


def test_pictures_that_make_no_sense_are_refused_before_anything_is_drawn(tmp_path, capsys):
    argv = ["--data", "digits", "--boundary", "--graph", "--out", str(tmp_path / "out")]
    assert backprop.visualize.main(argv) == 1
    assert "error: digits has no boundary in a plane" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_without_a_plane_all_pictures_are_all_but_the_boundary(trained, tmp_path, capsys):
    argv = ["--data", "sine", "--layers", "4", "--epochs", "2", "--checkpoint", str(trained),
            "--out", str(tmp_path)]
    assert backprop.visualize.main(argv) == 0
    assert "no boundary.gif: sine has no boundary in a plane" in capsys.readouterr().err
    assert {path.stem for path in tmp_path.iterdir()} == (
        set(backprop.visualize.PICTURES) - {"boundary"})


def test_a_rate_that_is_far_too_high_is_one_sentence(tmp_path, capsys):
    argv = ["--ratios", "--optimizer", "sgd", "--lr", "1e300", "--out", str(tmp_path)]
    assert backprop.visualize.main(argv) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: the loss of step 2 is not finite (learning rate 1e+300)")
    assert error.count("\n") == 1


def test_other_data_can_be_watched(tmp_path):
    argv = ["--data", "sine", "--ratios", "--epochs", "3", "--activation", "tanh",
            "--layers", "5", "--out", str(tmp_path)]
    assert backprop.visualize.main(argv) == 0
    assert (tmp_path / "ratios.png").exists()
