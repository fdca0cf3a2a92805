"""Whether it is a digit at all, what is mixed up, and how far to trust a probability."""

import itertools
import json

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix
from torch import Tensor, nn

from support import load

lenet5 = load("lenet5_from_scratch")
detector, measures, checkpoint = lenet5.detector, lenet5.measures, lenet5.checkpoint
Part = lenet5.data.Part

CONFIG = {"classes": list("0123456789"), "mean": 0.25, "std": 0.5}


# ---------------------------------------------------------------- the area under the curve


@pytest.mark.parametrize(("inside", "outside", "expected"), [
    ([3.0, 4.0], [1.0, 2.0], 1.0),                    # perfect
    ([1.0, 2.0], [3.0, 4.0], 0.0),                    # reversed
    ([2.0, 2.0, 2.0], [2.0, 2.0], 0.5),               # nothing but ties
    ([1.0, 3.0], [2.0], 0.5),
    ([1.0, 3.0, 4.0, 5.0], [2.0], 0.75),
    ([2.0], [1.0, 2.0], 0.75),                        # a tie counts half
])
def test_the_area_of_examples(inside, outside, expected):
    found = detector.auroc(torch.tensor(inside), torch.tensor(outside))
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("levels", [3, 1000])
def test_the_area_is_the_chance_that_a_digit_scores_higher(levels):
    """Over all pairs of one digit and one that is none, with many ties and with few."""
    for seed in range(5):
        random = np.random.default_rng(seed)
        inside = torch.tensor(random.integers(0, levels, 40) + 0.5 * levels * random.random())
        outside = torch.tensor(random.integers(0, levels, 60).astype(float))
        wins = [float(a > b) + 0.5 * float(a == b)
                for a, b in itertools.product(inside.tolist(), outside.tolist())]
        found = detector.auroc(inside, outside)
        assert isinstance(found, float) and found == pytest.approx(np.mean(wins), abs=1e-12)


# ---------------------------------------------------------------- a network and its threshold


class Linear(nn.Module):
    """Ten fixed random logits that are linear in the pixels."""

    def __init__(self) -> None:
        super().__init__()
        weight = torch.randn(10, 784, generator=torch.Generator().manual_seed(0)) / 10
        self.weight, self.dropout = nn.Parameter(weight), nn.Dropout(0.5)

    def forward(self, images: Tensor) -> Tensor:
        return self.dropout(images.flatten(1)) @ self.weight.T

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.softmax(1)


class KnowsAMark(nn.Module):
    """Sure of pictures with full ink in two corners, and of no other; or of all others."""

    def __init__(self, wrongly: bool = False) -> None:
        super().__init__()
        self.weight, self.wrongly = nn.Parameter(torch.zeros(10)), wrongly

    def forward(self, images: Tensor) -> Tensor:
        marked = (images[:, 0, [0, 27], [0, 27]] > 1.49).all(1)   # (1 - mean) / std is 1.5
        logits = torch.zeros(len(images), 10)
        logits[:, 3] = 10 * (marked != self.wrongly)
        return logits + self.weight

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.softmax(1)


def validation(count: int = 300) -> object:
    """Random pictures, all with ink in two corners, in the place of validation digits."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, 28, 28)).astype(np.uint8)
    images[:, [0, 27], [0, 27]] = 255
    return Part(torch.from_numpy(images), torch.from_numpy(random.integers(0, 10, count)))


def test_logits_are_those_of_standardised_pictures_without_dropout():
    model, part = Linear(), validation(20)
    pixels = (part.images[:, None].float() / 255 - CONFIG["mean"]) / CONFIG["std"]
    expected = pixels.flatten(1) @ model.weight.T
    for images in (part.images, part.images.numpy()):
        found = detector.logits_of(model, CONFIG, images)
        assert found.shape == (20, 10) and not found.requires_grad
        assert torch.allclose(found, expected, atol=1e-5)


# ---------------------------------------------------------------- scores


def test_the_score_is_the_mean_belief_over_bent_copies_of_the_likeliest_class():
    """The picture as it is counts as one of the copies."""
    model, images = Linear(), validation(12).images
    seven = [lenet5.augment.distort(image.expand(detector.COPIES - 1, -1, -1), 1.0, 0)
             for image in images]
    copies = [images.float(), *torch.stack(seven, dim=1)]
    beliefs = [detector.logits_of(model, CONFIG, copy).softmax(1) for copy in copies]
    expected = sum(beliefs).div(detector.COPIES).max(1).values
    found = detector.score(model, CONFIG, images)
    assert found.shape == (12,) and found == pytest.approx(expected, abs=1e-6)
    assert torch.equal(found, detector.score(model, CONFIG, images.numpy()))
    assert ((0.1 <= found) & (found <= 1)).all()
    assert detector.COPIES > 1 and not torch.allclose(found, beliefs[0].max(1).values)


def test_the_score_of_a_picture_does_not_depend_on_the_others():
    model, images = Linear(), validation(12).images
    together = detector.score(model, CONFIG, images)
    alone = torch.cat([detector.score(model, CONFIG, image[None]) for image in images])
    assert torch.allclose(together, alone, atol=1e-6)


def test_what_changes_its_class_with_every_bend_scores_low():
    """A network that is always sure, but of another class each time, is believed by half."""

    class Fickle(Linear):
        """Sure of class 0, 1, 2, … in turn."""

        calls = 0

        def forward(self, images: Tensor) -> Tensor:
            logits = torch.full((len(images), 10), -100.0)
            logits[:, self.calls % 10] = 100.0
            self.calls += 1
            return logits

    found = detector.score(Fickle(), CONFIG, validation(3).images)
    assert found.tolist() == pytest.approx([1 / detector.COPIES] * 3)


@pytest.mark.parametrize("size", [1e2, 1e4, 1e30])
def test_scores_of_enormous_logits_are_numbers(size):
    model = Linear()
    with torch.no_grad():
        model.weight.mul_(size)
    found = detector.score(model, CONFIG, validation(20).images)
    assert torch.isfinite(found).all() and ((0.1 <= found) & (found <= 1)).all()


# ---------------------------------------------------------------- the threshold


@pytest.fixture(scope="module")
def measured() -> dict:
    """What is measured of the linear network."""
    return detector.measure(Linear(), CONFIG, validation())


def test_what_is_measured_is_plain_and_can_be_saved(measured):
    assert set(measured) == {"threshold", "auroc", "letters", "blanks", "letters_warned",
                             "blanks_warned"}
    assert all(type(number) is float for number in measured.values())
    assert json.loads(json.dumps(measured)) == measured
    assert checkpoint.digest(measured)                            # raises on anything else


def test_the_threshold_warns_of_the_promised_share_of_validation_digits(measured):
    part = validation()
    scores = detector.score(Linear(), CONFIG, part.images)
    warned = (scores < measured["threshold"]).float().mean().item()
    assert 0 < detector.REFUSED <= 0.05
    assert abs(warned - detector.REFUSED) <= 1 / len(part.labels)


def test_the_areas_are_those_of_letters_of_blanks_and_of_both(measured):
    """By brute force over the same drawn pictures; the whole lies between its two parts."""
    scores = {name: detector.score(Linear(), CONFIG, images) for name, images in (
        ("inside", validation().images),
        ("letters", lenet5.generate_test_digits.letters(10, 0)),
        ("blanks", lenet5.generate_test_digits.blanks(260, 0)))}
    scores["auroc"] = torch.cat([scores["letters"], scores["blanks"]])
    for name in ("letters", "blanks", "auroc"):
        one, other = scores["inside"][:, None], scores[name]
        chance = ((one > other).double() + 0.5 * (one == other)).mean().item()
        assert measured[name] == pytest.approx(chance, abs=1e-9)
    low, high = sorted((measured["letters"], measured["blanks"]))
    assert low - 1e-9 <= measured["auroc"] <= high + 1e-9


@pytest.mark.parametrize(("wrongly", "area"), [(False, 1.0), (True, 0.0)])
def test_a_network_that_is_sure_of_digits_alone_has_an_area_of_1_else_of_0(wrongly, area,
                                                                           monkeypatch):
    """Pictures stay as they are here, so that their marks stay in the corners."""
    monkeypatch.setattr(detector, "sample", lambda images, places: images.float())
    found = detector.measure(KnowsAMark(wrongly), CONFIG, validation())
    assert found["auroc"] == found["letters"] == found["blanks"] == area


def test_measuring_is_seeded_and_changes_no_weights():
    model = Linear()
    before = model.weight.detach().clone()
    one, again = (detector.measure(model, CONFIG, validation(), seed=3) for _ in range(2))
    other = detector.measure(model, CONFIG, validation(), seed=4)
    assert one == again and one["letters"] != other["letters"]
    assert torch.equal(model.weight, before) and model.weight.grad is None


# ---------------------------------------------------------------- what is mixed up


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_confusion_is_that_of_scikit_learn(classes):
    labels, answers = (torch.randint(0, classes, (200,)) for _ in range(2))
    found = measures.confusion(labels, answers, classes)
    expected = confusion_matrix(labels, answers, labels=range(classes))
    assert np.array_equal(found.numpy(), expected)


def test_confusion_has_a_row_for_each_truth_also_of_classes_that_never_occur():
    found = measures.confusion(torch.tensor([0, 0, 1]), torch.tensor([0, 2, 2]), 4)
    assert found.tolist() == [[1, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


# ---------------------------------------------------------------- how sure to be


def one_by_one(belief: np.ndarray, right: np.ndarray, bins: int) -> tuple[list, float]:
    """(mean belief, share right, count) of each bin, and the expected calibration error."""
    rows, error = [], 0.0
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        inside = [i for i, p in enumerate(belief) if low < p <= high or (p == 0 and low == 0)]
        if inside:
            sure, good = belief[inside].mean(), right[inside].mean()
            error += len(inside) / len(belief) * abs(good - sure)
            rows.append((sure, good, len(inside)))
        else:
            rows.append((0, 0, 0))
    return rows, error


@pytest.mark.parametrize("bins", [1, 7, 15])
@pytest.mark.parametrize("count", [3, 400])
def test_calibration_is_that_of_a_plain_loop(count, bins):
    probabilities = (3 * torch.randn(count, 10, dtype=torch.float64)).softmax(1)
    labels = torch.randint(0, 10, (count,))
    labels[::2] = probabilities.argmax(1)[::2]
    right = (probabilities.argmax(1) == labels).double().numpy()
    found = measures.calibration(probabilities, labels, bins)
    rows, error = one_by_one(probabilities.amax(1).numpy(), right, bins)
    assert torch.stack(found[:3], 1).tolist() == [pytest.approx(row, abs=1e-12) for row in rows]
    assert found.error == pytest.approx(error, abs=1e-12) and isinstance(found.error, float)
    assert found.count.sum() == count


def two_classes(belief: list[float], right: list[bool]) -> tuple[Tensor, Tensor]:
    """Probabilities of two classes, of which the first is believed in, and the labels."""
    first = torch.tensor(belief, dtype=torch.float64)
    return torch.stack([first, 1 - first], 1), torch.tensor([int(not good) for good in right])


@pytest.mark.parametrize(("belief", "right", "expected"), [
    ([0.75] * 4, [True, True, True, False], 0.0),     # perfectly calibrated
    ([1.0] * 4, [True, False, True, False], 0.5),     # always sure, half right
    ([1.0] * 4, [True] * 4, 0.0),
    ([1.0] * 4, [False] * 4, 1.0),
    ([0.6] * 4, [True] * 4, 0.4),                     # too modest
    ([0.9] * 3 + [0.6], [True] * 3 + [False], 0.75 * 0.1 + 0.25 * 0.6),
])
def test_calibration_of_examples(belief, right, expected):
    assert measures.calibration(*two_classes(belief, right)).error == pytest.approx(expected)


def test_errors_of_opposite_sign_cancel_within_a_bin_but_not_between_bins():
    both = two_classes([0.625, 0.875], [True, False])
    assert measures.calibration(*both, bins=2).error == pytest.approx(0.75 - 0.5)
    assert measures.calibration(*both, bins=4).error == pytest.approx((0.375 + 0.875) / 2)


def test_a_belief_on_the_edge_belongs_to_the_bin_below():
    probabilities = torch.tensor(
        [[0.25] * 4, [0.5, 0.5, 0, 0], [0.75, 0.25, 0, 0], [1, 0, 0, 0]])
    found = measures.calibration(probabilities, torch.zeros(4, dtype=torch.long), bins=4)
    assert found.count.tolist() == [1, 1, 1, 1]
    assert found.sure.tolist() == [0.25, 0.5, 0.75, 1.0]


def test_beliefs_of_exactly_0_and_1_fall_into_the_first_and_the_last_bin():
    found = measures.calibration(torch.tensor([[0.0], [1.0], [1.0]]), torch.tensor([0, 0, 0]))
    assert found.count[0] == 1 and found.count[-1] == 2 and found.count.sum() == 3
    assert found.sure[0] == 0 and found.sure[-1] == 1
    assert found.error == pytest.approx(1 / 3)


def test_empty_bins_are_no_numbers_out_of_nothing():
    found = measures.calibration(*two_classes([0.9], [True]))
    assert torch.isfinite(torch.stack(found[:3])).all()
    assert (found.count == 0).sum() == 14 and found.error == pytest.approx(0.1)
