"""Why the network says so: maps against closed forms, and what stands in the pictures."""

import copy
import itertools
import re
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import spearmanr
from torch import Tensor, nn

from support import ROOT, load, run

lenet5 = load("lenet5_from_scratch")
explain, visualize, pictures = lenet5.explain, lenet5.visualize, lenet5.pictures
measures, Part = lenet5.measures, lenet5.data.Part

PAPER = -0.4
CLASSES = list("0123456789")


# ---------------------------------------------------------------- a network one can see through


class Toy(nn.Module):
    """Linear: each map is the image, four pixels in one, times a factor; logits weigh them."""

    def __init__(self, maps: int = 3, classes: int = 4) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.randn(maps, dtype=torch.float64))
        self.weight = nn.Parameter(torch.randn(classes, maps, 14, 14, dtype=torch.float64))

    def maps(self, images: Tensor) -> Tensor:
        small = images.unflatten(2, (14, 2)).unflatten(4, (14, 2)).mean((3, 5))
        return small * self.factor[:, None, None]

    def classify(self, maps: Tensor) -> Tensor:
        return torch.einsum("bchw,kchw->bk", maps, self.weight)

    def slope(self, target: int) -> Tensor:
        """How a class's logit changes with each pixel, (28, 28)."""
        each = (self.factor[:, None, None] * self.weight[target]).sum(0) / 4
        return each.repeat_interleave(2, 0).repeat_interleave(2, 1).detach()


@pytest.fixture
def toy() -> Toy:
    """The linear network, the same in every test."""
    torch.manual_seed(0)
    return Toy()


@pytest.fixture
def image() -> Tensor:
    """A standardised image in double precision."""
    return torch.randn(1, 1, 28, 28, dtype=torch.float64,
                       generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("target", range(4))
def test_the_saliency_of_a_linear_network_is_the_size_of_its_slopes(toy, image, target):
    found = explain.saliency(toy, image, target)
    assert found.shape == (28, 28) and (toy.slope(target) < 0).any()
    assert torch.allclose(found, toy.slope(target).abs(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("target", range(4))
def test_the_occlusion_of_a_linear_network_is_what_the_covered_pixels_gave(toy, image, target):
    """At the corners and edges a part of the square lies outside."""
    found = explain.occlusion(toy, image, target, PAPER)
    lost, reach = toy.slope(target) * (image[0, 0] - PAPER), explain.PATCH // 2
    assert explain.PATCH % 2 == 1 and found.shape == (28, 28)
    for row, column in np.ndindex(28, 28):
        rows = slice(max(row - reach, 0), row + reach + 1)
        columns = slice(max(column - reach, 0), column + reach + 1)
        assert found[row, column].item() == pytest.approx(lost[rows, columns].sum().item(),
                                                          abs=1e-9)


def test_covering_paper_with_paper_loses_nothing(toy):
    blank = torch.full((1, 1, 28, 28), PAPER, dtype=torch.float64)
    assert explain.occlusion(toy, blank, 0, PAPER).abs().max() < 1e-9


def enlarged(small: np.ndarray) -> np.ndarray:
    """A picture at twice its size, by linear interpolation between the middles of pixels."""
    places = (np.arange(2 * len(small)) + 0.5) / 2 - 0.5
    known = np.arange(len(small))
    rows = np.stack([np.interp(places, known, column) for column in small.T], axis=1)
    return np.stack([np.interp(places, known, row) for row in rows])


@pytest.mark.parametrize("target", range(4))
def test_grad_cam_of_a_linear_network_is_the_weighted_sum_of_its_maps(toy, image, target):
    weight = toy.weight[target].detach().mean((1, 2))             # of each map
    heat = (weight[:, None, None] * toy.maps(image)[0].detach()).sum(0)
    assert (heat < 0).any() and (heat > 0).any()                  # so that the ReLU matters
    found = explain.grad_cam(toy, image, target)
    assert found.shape == (28, 28)
    assert found.numpy() == pytest.approx(enlarged(heat.clamp(min=0).numpy()), abs=1e-12)


def test_grad_cam_is_nothing_where_all_maps_speak_against_the_class(image):
    toy = Toy(maps=1)
    with torch.no_grad():
        toy.factor.fill_(1.0)
        toy.weight.fill_(-1.0)
    assert explain.grad_cam(toy, image.abs(), 0).abs().max() == 0


def lenet(seed: int = 0) -> nn.Module:
    """LeNet-5 with random weights and running averages, ready to answer."""
    torch.manual_seed(seed)
    model = lenet5.model.LeNet5()
    model.train()
    model(torch.randn(64, 1, 28, 28))
    return model.eval()


WAYS = {"saliency": explain.saliency, "Grad-CAM": explain.grad_cam,
        "occlusion": lambda *asked: explain.occlusion(*asked, PAPER)}


@pytest.mark.parametrize("way", WAYS)
def test_an_explanation_leaves_the_network_and_the_image_as_they_were(way):
    model, image = lenet(), torch.randn(1, 1, 28, 28)
    before, pixels = copy.deepcopy(model.state_dict()), image.clone()
    heat = WAYS[way](model, image, 3)
    assert heat.shape == (28, 28) and not heat.requires_grad and torch.isfinite(heat).all()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not any(module.training for module in model.modules())
    assert torch.equal(image, pixels) and not image.requires_grad and image.grad is None


@pytest.mark.parametrize("way", WAYS)
def test_each_class_has_an_explanation_of_its_own(way):
    model, image = lenet(), torch.randn(1, 1, 28, 28)
    heats = [WAYS[way](model, image, target) for target in range(10)]
    heats = [heat for heat in heats if heat.abs().max() > 0]      # Grad-CAM may find nothing
    assert len(heats) >= 3
    for one, other in itertools.combinations(heats, 2):
        assert explain.likeness(one, other) < 0.999


def test_saliency_is_the_slope_that_finite_differences_find():
    model = lenet().double()
    image = torch.randn(1, 1, 28, 28, dtype=torch.float64)
    heat, h = explain.saliency(model, image, 5), 1e-6
    for row, column in [(0, 0), (10, 14), (27, 3)]:
        step = torch.zeros_like(image)
        step[0, 0, row, column] = h
        with torch.no_grad():
            slope = (model(image + step) - model(image - step))[0, 5] / (2 * h)
        assert heat[row, column].item() == pytest.approx(abs(slope.item()), abs=1e-6)


# ---------------------------------------------------------------- the test of explanations


def test_a_forgetful_network_has_the_same_weights_in_another_order():
    model = lenet()
    other = explain.forgetful(model)
    for (name, one), two in zip(model.named_parameters(), other.parameters()):
        assert torch.equal(one.flatten().sort().values, two.flatten().sort().values)
        if one.ndim > 1:
            same = (one == two).double().mean()
            assert same < 0.1, name
        else:
            assert torch.equal(one, two)


def test_forgetting_leaves_the_original_alone():
    model = lenet()
    before = copy.deepcopy(model.state_dict())
    other = explain.forgetful(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    ours = {p.data_ptr() for p in model.parameters()}
    assert not ours & {p.data_ptr() for p in other.parameters()}
    assert other.training == model.training and all(p.requires_grad for p in other.parameters())


def test_forgetting_depends_on_its_seed_alone():
    model = lenet()
    one, again, other = (explain.forgetful(model, seed).conv2.weight for seed in (0, 0, 1))
    torch.manual_seed(99)
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert torch.equal(one, explain.forgetful(model, 0).conv2.weight)


def test_likeness_is_spearmans_correlation():
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        one, noise = (torch.randn(28, 28, generator=generator) for _ in range(2))
        other = one + seed * noise
        expected = spearmanr(one.flatten(), other.flatten()).statistic
        assert explain.likeness(one, other) == pytest.approx(expected, abs=1e-9)


def test_likeness_of_examples():
    one = torch.arange(12.0).view(3, 4)
    assert explain.likeness(one, one) == pytest.approx(1)
    assert explain.likeness(one, -one) == pytest.approx(-1)
    assert explain.likeness(one, one.exp()) == pytest.approx(1)   # only the order counts
    assert explain.likeness(one**3 - 5, 2 * one + 1) == pytest.approx(1)
    four, swapped = torch.tensor([[1.0, 2, 3, 4]]), torch.tensor([[2.0, 1, 3, 4]])
    assert explain.likeness(four, swapped) == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert isinstance(explain.likeness(one, one), float)


def test_likeness_of_maps_with_many_equal_values():
    """Grad-CAM is zero over large areas: pixels that are equal share a rank."""
    one, other = torch.zeros(28, 28), torch.zeros(28, 28)
    one[0, 0] = other[27, 27] = 1.0
    assert explain.likeness(one, other) == pytest.approx(-1 / 783, abs=1e-9)
    assert explain.likeness(one, one) == pytest.approx(1)
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        maps = [torch.randn(28, 28, generator=generator).clamp(min=0) for _ in range(2)]
        expected = spearmanr(*(heat.flatten() for heat in maps)).statistic
        assert explain.likeness(*maps) == pytest.approx(expected, abs=1e-9)


def test_a_map_that_is_the_same_everywhere_is_like_no_other():
    flat = torch.zeros(28, 28)
    assert explain.likeness(flat, torch.rand(28, 28)) == explain.likeness(flat, flat) == 0


@pytest.fixture(scope="module")
def trained(quick_run) -> SimpleNamespace:
    """A network that has learned from a smoke run, with its test set."""
    path = quick_run("lenet5_from_scratch").out / "best.pt"
    model, config = lenet5.checkpoint.open_model(path, "lenet5_from_scratch",
                                                 lenet5.model.build, torch.device("cpu"))
    return SimpleNamespace(model=model, config=config, path=path,
                           test=lenet5.data.embedded_digits().test)


def test_maps_of_a_network_that_forgot_what_it_learned_are_different(trained):
    """The mean of several pictures: measured -0.2 to 0.5, where 1 would be no difference."""
    alike = {way: [] for way in WAYS}
    for picture in trained.test.images[:10]:
        _, found = visualize.explanations(trained.model, trained.config, picture)
        for way, (one, other, likeness) in found.items():
            assert torch.isfinite(one).all() and one.shape == other.shape == (28, 28)
            alike[way].append(likeness)
    assert set(found) == set(WAYS)
    assert all(np.mean(values) < 0.75 for values in alike.values())


def test_explanations_are_of_the_answer_and_cover_with_paper(trained):
    """Ink is 0 on paper, which is -mean / std to the network."""
    config, picture = trained.config, trained.test.images[0]
    inputs = (picture[None, None].float() / 255 - config["mean"]) / config["std"]
    target, found = visualize.explanations(trained.model, config, picture)
    assert target == int(trained.model(inputs).argmax())
    asked = (trained.model, inputs, target)
    paper = -config["mean"] / config["std"]
    for way, expected in (("saliency", explain.saliency(*asked)),
                          ("Grad-CAM", explain.grad_cam(*asked)),
                          ("occlusion", explain.occlusion(*asked, paper))):
        assert torch.allclose(found[way][0], expected, atol=1e-5)


# ---------------------------------------------------------------- planes and stages


def test_the_plane_of_pca_is_the_one_of_the_singular_values(trained):
    images = trained.test.images[:60]
    planes = visualize.planes(trained.model, trained.config, images, seed=0)
    assert len(planes) == 2 and all(points.shape == (60, 2) for points in planes.values())
    (title, points), _ = planes.items()
    with torch.no_grad():
        inputs = lenet5.data.to_input(images, trained.config["mean"], trained.config["std"])
        features = trained.model.features(trained.model.maps(inputs)).double().numpy()
    assert features.shape == (60, 84)
    u, s, _ = np.linalg.svd(features - features.mean(0), full_matrices=False)
    for found, wanted in zip(points.T, (u * s)[:, :2].T):
        sign = np.sign((found * wanted).sum())
        assert sign * found == pytest.approx(wanted, abs=1e-3 * s[0])
    assert title.startswith("PCA") and f"{(s[:2] ** 2).sum() / (s**2).sum():.0%}" in title


def test_the_plane_of_tsne_depends_on_its_seed_and_keeps_neighbours(trained):
    images, labels = trained.test.images[:100], trained.test.labels[:100].numpy()
    both = (visualize.planes(trained.model, trained.config, images, seed=0) for _ in range(2))
    one, again = (list(planes.values())[1] for planes in both)
    assert np.array_equal(one, again)
    distances = ((one[:, None] - one) ** 2).sum(2)
    np.fill_diagonal(distances, np.inf)
    assert (labels[distances.argmin(1)] == labels).mean() > 0.6   # by chance 0.1


def test_a_few_pictures_are_enough_for_the_planes(trained):
    planes = visualize.planes(trained.model, trained.config, trained.test.images[:8], seed=0)
    assert all(np.isfinite(points).all() for points in planes.values())


def test_the_stages_are_those_of_the_networks_own_way(trained):
    model, config, picture = trained.model, trained.config, trained.test.images[3]
    seen = {}
    hooks = [layer.register_forward_hook(lambda _layer, _inputs, output, name=name:
                                         seen.__setitem__(name, output))
             for name, layer in model.named_children()]
    inputs = lenet5.data.to_input(picture[None], config["mean"], config["std"])
    with torch.no_grad():
        logits = model(inputs)
    for hook in hooks:
        hook.remove()
    found, belief = visualize.stages(model, config, picture)
    shapes = [tuple(maps.shape) for maps in found.values()]
    assert shapes == [(1, 28, 28), (6, 28, 28), (16, 10, 10), (16, 5, 5)]
    first, second = (torch.relu(seen[name][0]) for name in ("norm1", "norm2"))
    shrunk = second.unflatten(1, (5, 2)).unflatten(3, (5, 2)).amax((2, 4))
    for maps, expected in zip(found.values(), (picture[None], first, second, shrunk)):
        assert torch.allclose(maps, expected.float(), atol=1e-5)
    assert torch.allclose(belief, logits[0].softmax(0), atol=1e-6)


# ---------------------------------------------------------------- what stands in the pictures


@pytest.fixture
def drawn(monkeypatch) -> dict:
    """The figures that are saved, by name, instead of their files."""
    figures = {}
    monkeypatch.setattr(pictures, "save",
                        lambda figure, path: figures.__setitem__(path.stem, figure))
    return figures


def points_of(line: object) -> np.ndarray:
    """The points (N, 2) of a line in a figure."""
    return np.stack(line.get_data(), 1).astype(float)


def test_the_table_of_confusion_shows_each_count_at_its_place(drawn):
    labels, answers = torch.randint(0, 10, (300,)), torch.randint(0, 10, (300,))
    answers[:200] = labels[:200]
    logits = 5.0 * nn.functional.one_hot(answers, 10) + torch.rand(300, 10)
    pictures.draw_confusion(labels, logits, CLASSES, Path("confusion.png"))
    (axis,) = drawn["confusion"].axes
    shown = np.zeros((10, 10), dtype=int)
    for text in axis.texts:
        column, row = text.get_position()
        shown[row, column] = int(text.get_text())
    expected = np.zeros((10, 10), dtype=int)
    np.add.at(expected, (labels.numpy(), answers.numpy()), 1)
    assert np.array_equal(shown, expected)
    assert axis.get_title() == f"{expected.trace()} of 300 right"
    assert axis.get_xlabel() == "answer" and axis.get_ylabel() == "truth"
    colours = np.asarray(axis.images[0].get_array())
    mistakes = expected / expected.sum(1, keepdims=True) * (1 - np.eye(10))
    assert colours == pytest.approx(mistakes, abs=1e-6)


def test_a_perfect_table_of_confusion_can_be_drawn(drawn):
    logits = torch.eye(3)
    pictures.draw_confusion(torch.arange(3), logits, list("abc"), Path("confusion.png"))
    (axis,) = drawn["confusion"].axes
    assert [text.get_text() for text in axis.texts] == ["1", "1", "1"]
    assert [tick.get_text() for tick in axis.get_xticklabels()] == list("abc")


def test_calibration_is_drawn_where_there_are_pictures(drawn):
    measured = measures.Calibration(torch.tensor([0.0, 0.4, 0.7, 0.0]),
                                    torch.tensor([0.0, 0.5, 0.6, 0.0]),
                                    torch.tensor([0, 10, 3, 0]), 0.0769)
    pictures.draw_calibration(measured, Path("calibration.png"))
    axis, below = drawn["calibration"].axes
    perfect, line = axis.lines
    assert np.array_equal(points_of(perfect), [[0, 0], [1, 1]])
    assert points_of(line) == pytest.approx(np.array([[0.4, 0.5], [0.7, 0.6]]))
    assert [bar.get_height() for bar in below.patches] == [0, 10, 3, 0]
    assert [bar.get_x() for bar in below.patches] == pytest.approx([0, 0.25, 0.5, 0.75])
    assert [bar.get_width() for bar in below.patches] == pytest.approx([0.25] * 4)
    assert "0.077" in axis.get_title()


def answered(count: int, wrong: int) -> tuple[object, Tensor]:
    """Pictures that show their number in their first pixels, and logits, some of them wrong."""
    images = torch.zeros(count, 28, 28, dtype=torch.uint8)
    images[:, 0, 0], images[:, 0, 1] = torch.arange(count) % 256, torch.arange(count) // 256
    labels = torch.arange(count) % 10
    answers = labels.clone()
    chosen = torch.randperm(count)[:wrong]
    answers[chosen] = (answers[chosen] + 3) % 10
    logits = nn.functional.one_hot(answers, 10) * torch.linspace(1, 8, count)[
        torch.randperm(count), None]
    return Part(images, labels), logits


def mistakes_in(figure: object) -> list[tuple[int, str]]:
    """The number of each picture in the figure, and its title."""
    shown = [(np.asarray(axis.images[0].get_array()), axis.get_title())
             for axis in figure.axes if axis.images]
    return [(int(image[0, 0]) + 256 * int(image[0, 1]), title) for image, title in shown]


@pytest.mark.parametrize(("wrong", "shown"), [(0, 0), (5, 5), (40, 40), (90, 40)])
def test_the_most_confident_mistakes_are_drawn_at_most_forty_of_them(wrong, shown, drawn):
    part, logits = answered(500, wrong)
    pictures.draw_mistakes(part, logits, CLASSES, Path("mistakes.png"))
    found = mistakes_in(drawn["mistakes"])
    belief, answers = logits.softmax(1).max(1)
    all_wrong = [i for i in range(500) if answers[i] != part.labels[i]]
    expected = sorted(all_wrong, key=lambda i: -belief[i].item())[:40]
    assert len(found) == shown and [number for number, _ in found] == expected
    for number, title in found:
        said = f"{int(part.labels[number])} read as {int(answers[number])}\n"
        assert title == f"{said}{belief[number]:.0%} sure"
    title = drawn["mistakes"].get_suptitle()
    assert title.startswith(f"{shown} most confident mistakes of 500")


def test_each_trial_is_a_line_through_its_settings(drawn):
    """Rates on a scale of powers, shares on a plain one; the winner is thick and on top."""
    table = {"lr": [1e-4, 1e-3, 1e-2], "dropout": [0.0, 0.3, 0.4]}
    errors = [4.0, 1.0, 2.0]
    pictures.draw_parallel(table, errors, 2, Path("parallel.png"))
    (axis,) = drawn["parallel"].axes
    lines = [line for line in axis.lines if len(line.get_ydata()) == 3]
    found = sorted([list(line.get_ydata()) for line in lines])
    assert found == [pytest.approx(height, abs=1e-6) for height in
                     ([0.0, 0.0, 1.0], [0.5, 0.75, 0.0], [1.0, 1.0, 0.5])]
    assert list(lines[-1].get_ydata())[-1] == 0                  # better ones later
    winner = max(lines, key=lambda line: line.get_linewidth())
    assert winner.get_ydata() == pytest.approx([1.0, 1.0, 0.5])
    assert all(winner.get_zorder() > line.get_zorder() for line in lines if line is not winner)
    assert len({tuple(matplotlib.colors.to_rgba(line.get_color())) for line in lines}) == 3
    words = [text.get_text() for text in axis.texts]
    assert [name for name in words if name in (*table, "error (%)")] == [*table, "error (%)"]
    for value in ("0.0001", "0.01", "0", "0.4", "1", "4"):
        assert value in words


def test_settings_that_never_change_can_be_drawn(drawn):
    pictures.draw_parallel({"lr": [1e-3, 1e-3]}, [2.0, 2.0], 0, Path("parallel.png"))
    (axis,) = drawn["parallel"].axes
    assert all(np.isfinite(line.get_ydata()).all() for line in axis.lines)


def test_the_curves_are_those_of_the_table(drawn, tmp_path):
    table = tmp_path / "metrics.csv"
    table.write_text("epoch,step,lr,train_loss,validation_loss,validation_error,seconds\n"
                     "1,10,0.1,3,4,0.05,1\n2,20,0.3,1,2,0.01,2\n3,30,0.2,0.5,3,0.02,3\n")
    pictures.draw_curves(table, tmp_path / "loss.png")
    losses, error, rate = drawn["loss"].axes
    heights = [[list(map(float, line.get_ydata())) for line in axis.lines]
               for axis in (losses, error, rate)]
    assert heights[0] == [[3, 1, 0.5], [4, 2, 3]]
    assert heights[1] == [pytest.approx([5, 1, 2])] and heights[2] == [[0.1, 0.3, 0.2]]
    assert all(list(line.get_xdata()) == [1, 2, 3] for line in losses.lines)
    assert error.get_title() == "validation error, 1.00 % at best"


def test_features_are_points_coloured_by_class_with_a_name_at_their_middle(drawn):
    labels = torch.arange(30) % 3
    plane = np.random.default_rng(0).normal(size=(30, 2)) + 10 * labels[:, None].numpy()
    pictures.draw_features({"one": plane, "two": -plane}, labels, list("abc"), Path("f.png"))
    for axis, points, title in zip(drawn["f"].axes, (plane, -plane), ("one", "two")):
        (dots,) = axis.collections
        assert axis.get_title() == title and np.array_equal(dots.get_offsets(), points)
        colours = [tuple(colour) for colour in dots.get_facecolors()]
        assert len(set(colours)) == 3 and colours[:3] * 10 == colours
        for label, text in enumerate(axis.texts):
            assert text.get_text() == "abc"[label]
            middle = np.median(points[labels == label], axis=0)
            assert text.get_position() == pytest.approx(tuple(middle))


def test_tiles_stand_in_rows_and_columns_with_gaps():
    maps = torch.arange(2 * 3 * 4 * 5, dtype=torch.float64).view(2, 3, 4, 5)
    grid = pictures.tile(maps)
    assert grid.shape == (2 * 6, 3 * 7)
    for row, column in np.ndindex(2, 3):
        inside = grid[6 * row + 1 : 6 * row + 5, 7 * column + 1 : 7 * column + 6]
        assert np.array_equal(inside, maps[row, column])
    assert np.isfinite(grid).sum() == maps.numel()                # all else is gap


def test_filters_are_drawn_as_they_are_with_zero_in_the_middle_of_the_colours(drawn):
    model = lenet()
    pictures.draw_filters(model, Path("filters.png"))
    first, second = drawn["filters"].axes
    for axis, weight in ((first, model.conv1.weight), (second, model.conv2.weight)):
        weight = weight.detach().numpy()
        grid = np.ma.filled(axis.images[0].get_array(), np.nan)
        out, inside = weight.shape[:2]
        for i, j in np.ndindex(out, inside):
            row, column = (i, j) if axis is first else (j, i)
            tile = grid[7 * row + 1 : 7 * row + 6, 7 * column + 1 : 7 * column + 6]
            assert np.array_equal(tile, weight[i, j])
        low, high = axis.images[0].get_clim()
        assert -low == high == pytest.approx(np.abs(weight).max())


def test_maps_are_drawn_stage_by_stage_then_the_answer(drawn):
    stages = {"picture": torch.rand(1, 28, 28), "maps": torch.rand(6, 8, 8)}
    belief = torch.rand(10).softmax(0)
    pictures.draw_maps(stages, belief, CLASSES, Path("maps.png"))
    first, second, last = drawn["maps"].axes
    assert np.ma.filled(first.images[0].get_array())[1:29, 1:29] == pytest.approx(
        stages["picture"][0].numpy())
    grid = np.ma.filled(second.images[0].get_array(), np.nan)
    tiles = [grid[i : i + 8, j : j + 8] for i in range(1, grid.shape[0], 10)
             for j in range(1, grid.shape[1], 10)]
    assert np.array_equal(np.stack(tiles), stages["maps"])
    assert [bar.get_width() for bar in last.patches] == pytest.approx(belief.tolist())
    assert "6×8×8" in second.get_title()


def test_explanations_stand_above_those_of_the_shuffled_network(drawn):
    image = torch.rand(28, 28)
    signed, positive = torch.randn(28, 28), torch.rand(28, 28)
    maps = {"one": (positive, positive / 2, 0.25), "two": (signed, -signed, -0.5)}
    pictures.draw_explanations(image, maps, "why?", Path("why.png"))
    axes = np.array(drawn["why"].axes).reshape(2, 3)
    for row, pair in zip(axes, zip(*maps.values())):
        for axis, heat in zip(row[1:], pair):
            picture, shown = axis.images
            assert np.array_equal(picture.get_array(), image)
            assert np.array_equal(shown.get_array(), heat)
            low, high = shown.get_clim()
            assert high == pytest.approx(heat.abs().max().item())
            assert low == (-high if heat.min() < 0 else 0)
    assert [axis.get_title() for axis in axes[0, 1:]] == ["one", "two"]
    assert [axis.get_xlabel() for axis in axes[1, 1:]] == ["rank correlation 0.25",
                                                           "rank correlation -0.50"]
    assert (axes[0, 0].get_ylabel(), axes[1, 0].get_ylabel()) == ("trained", "weights shuffled")


def test_the_strip_shows_every_stage_and_the_answer(drawn):
    stages = {"as read": np.random.default_rng(0).random((40, 90)), "ink": np.zeros((28, 28))}
    pictures.draw_strip(stages, "7 (90 %)", Path("strip.png"))
    figure = drawn["strip"]
    assert figure.get_suptitle() == "7 (90 %)"
    for axis, (name, stage) in zip(figure.axes, stages.items()):
        assert np.array_equal(axis.images[0].get_array(), stage)
        assert axis.get_title() == f"{name}\n{stage.shape[1]}×{stage.shape[0]}"
        assert axis.images[0].get_clim() == (0, 1)


# ---------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def visualized(tmp_path_factory, trained) -> SimpleNamespace:
    """What visualize.py leaves of the smoke run."""
    out = tmp_path_factory.mktemp("visualized") / "new"
    result = run(ROOT / "lenet5_from_scratch" / "visualize.py", "--checkpoint", trained.path,
                 "--out", out, "--index", "7")
    assert result.returncode == 0, result.stderr
    return SimpleNamespace(out=out, result=result)


def test_the_files_that_are_named_are_written_and_no_other(visualized):
    (line,) = visualized.result.stdout.splitlines()
    names = re.findall(r"\w+\.png", line)
    assert line.startswith("wrote ") and line.endswith(str(visualized.out))
    assert set(names) == {path.name for path in visualized.out.iterdir()}
    assert {"loss.png", "confusion.png", "mistakes.png", "filters.png", "maps.png",
            "calibration.png", "features.png", "why.png"} <= set(names)


def test_all_files_are_pictures_with_something_in_them(visualized):
    for path in visualized.out.iterdir():
        with Image.open(path) as picture:
            assert picture.format == "PNG" and min(picture.size) > 200
            assert np.asarray(picture.convert("L")).std() > 5
        assert path.stat().st_size < 200_000


def test_nothing_but_the_checkpoint_is_said_on_stderr(visualized):
    (line,) = visualized.result.stderr.splitlines()
    assert line.startswith("using ")


def visualize_quickly(trained: SimpleNamespace, out: Path, *flags: str) -> int:
    """The exit code of visualize.py, in this process."""
    return visualize.main(["--checkpoint", str(trained.path), "--out", str(out), *flags])


def test_the_picture_that_is_asked_for_is_explained(trained, tmp_path, monkeypatch):
    """Not the first one: its maps and its reasons are of the same test picture."""
    seen = {}
    for name in ("draw_maps", "draw_explanations"):
        monkeypatch.setattr(pictures, name,
                            lambda *args, name=name: seen.__setitem__(name, args))
    monkeypatch.setattr(pictures, "save", lambda figure, path: None)
    monkeypatch.setattr(visualize, "POINTS", 40)
    assert visualize_quickly(trained, tmp_path, "--index", "11") == 0
    picture = trained.test.images[11]
    assert torch.equal(seen["draw_maps"][0]["picture"][0], picture.float())
    assert torch.equal(seen["draw_explanations"][0], picture)
    answer, _ = visualize.explanations(trained.model, trained.config, picture)
    assert seen["draw_explanations"][2] == f"why is this a {answer}?"


def test_a_picture_beyond_the_end_is_refused_before_any_drawing(trained, tmp_path, capsys):
    assert visualize_quickly(trained, tmp_path / "out", "--index", "450") == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == "error: digits has the test pictures 0 to 449"
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_of_another_folder_is_refused(tmp_path, capsys):
    other = SimpleNamespace(path=ROOT / "lenet_from_scratch" / "pretrained.pt")
    assert visualize_quickly(other, tmp_path / "out") == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and "was made by lenet_from_scratch" in error
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------- Grad-CAM on the real plan


@pytest.mark.parametrize("unit", [0, 5, 9])
def test_grad_cam_lies_where_the_units_of_the_maps_look(unit):
    """A unit of the second convolution has its middle at pixel 2i + 4.5 (no outer padding)."""
    network = lenet5.model.LeNet5().eval()
    maps = torch.zeros(1, 16, 10, 10)
    maps[0, :, unit, unit] = 1
    network.maps = lambda images: maps
    network.classify = lambda seen: (seen * maps).sum((1, 2, 3))[:, None]
    heat = explain.grad_cam(network, torch.zeros(1, 1, 28, 28), 0)
    middle = (heat.sum(1) * torch.arange(28)).sum() / heat.sum()
    inside = 0 < unit < 9                       # at the edges the blur is cut off on one side
    assert heat.shape == (28, 28)
    assert float(middle) == pytest.approx(2 * unit + 4.5, abs=0.01 if inside else 0.4)
