"""Distorted pictures: each part of the distortion against what it says it does."""

import math

import numpy as np
import pytest
import torch

from support import load

lenet5 = load("lenet5_from_scratch")
augment = lenet5.augment
AMOUNTS = ("SHIFT", "ROTATION", "SLANT", "SCALE", "ELASTIC")


def noise(*shape: int) -> torch.Tensor:
    """Pictures in which every pixel has its own brightness, 0 to 255 as float32."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(5)) * 255


def digits(count: int) -> torch.Tensor:
    """The first embedded training digits, uint8 (B, 28, 28)."""
    return lenet5.data.embedded_digits().train.images[:count]


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch):
    """Leaves one kind of distortion, at the amount given, and switches the others off."""

    def leave(**amounts: float) -> None:
        for name in AMOUNTS:
            monkeypatch.setattr(augment, name, amounts.get(name, 0.0))

    return leave


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch):
    """Where `distort` looks, for each pixel of B pictures: columns and rows, (B, H, W, 2)."""

    def looked_at(images: torch.Tensor, strength: float, seed: int = 0) -> torch.Tensor:
        with monkeypatch.context() as patch:
            patch.setattr(augment, "sample", lambda images, places: places)
            found = augment.distort(images, strength, seed)
        return found.view(*images.shape, 2)

    return looked_at


# ---------------------------------------------------------------- sampling


def test_looking_where_the_pixels_are_changes_nothing():
    images = noise(3, 28, 28)
    here = augment.pixel_places(images).expand(3, -1, -1)
    assert torch.allclose(augment.sample(images, here), images, rtol=0, atol=1e-3)


def test_the_places_of_the_pixels_are_counted_from_the_centre_column_first():
    here = augment.pixel_places(torch.zeros(1, 3, 4)).view(3, 4, 2)
    assert here[0, 0].tolist() == [-1.5, -1.0] and here[0, 3].tolist() == [1.5, -1.0]
    assert here[2, 0].tolist() == [-1.5, 1.0] and here.mean(dim=(0, 1)).tolist() == [0, 0]


@pytest.mark.parametrize(("right", "down"), [(3, 0), (0, 2), (-4, 1), (5, -7), (-1, -1)])
@pytest.mark.parametrize("shape", [(2, 28, 28), (2, 20, 33)])
def test_a_shift_by_whole_pixels_is_the_shifted_array_and_black_comes_in(right, down, shape):
    images = noise(*shape) + 1
    _, height, width = shape
    there = augment.pixel_places(images) - torch.tensor([right, down])
    expected = torch.zeros_like(images)
    expected[:, max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = (
        images[:, max(-down, 0) : height + min(-down, 0),
               max(-right, 0) : width + min(-right, 0)])
    moved = augment.sample(images, there.expand(2, -1, -1))
    assert torch.allclose(moved, expected, rtol=0, atol=2e-3)
    assert (moved[expected == 0].abs() < 2e-3).all()


def test_half_way_between_two_pixels_is_their_mean():
    images = noise(1, 6, 6)
    there = (augment.pixel_places(images) + torch.tensor([0.5, 0.0]))[None]
    expected = (images[:, :, :-1] + images[:, :, 1:]) / 2
    moved = augment.sample(images, there)
    assert torch.allclose(moved[:, :, :-1], expected, rtol=0, atol=1e-3)
    assert torch.allclose(moved[:, :, -1], images[:, :, -1] / 2, rtol=0, atol=1e-3)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_places_turned_by_quarters_give_the_turned_array(quarters):
    images = noise(2, 28, 28)
    x, y = augment.pixel_places(images).unbind(1)
    for _ in range(quarters):
        x, y = -y, x
    there = torch.stack([x, y], dim=1).expand(2, -1, -1)
    turned = torch.rot90(images, quarters, dims=(1, 2))
    assert torch.allclose(augment.sample(images, there), turned, rtol=0, atol=3e-3)


def test_each_picture_of_a_batch_is_sampled_as_it_would_be_alone():
    images = noise(6, 14, 19)
    there = augment.pixel_places(images) + 2 * torch.randn(6, 14 * 19, 2)
    together = augment.sample(images, there)
    for i in range(6):
        alone = augment.sample(images[i : i + 1], there[i : i + 1])
        assert torch.equal(together[i : i + 1], alone)


def test_what_is_sampled_is_the_bilinear_formula_written_as_loops():
    images = noise(2, 5, 7)
    there = augment.pixel_places(images) + 1.5 * torch.randn(2, 35, 2)
    moved = augment.sample(images, there)
    for b in range(2):
        for i, (x, y) in enumerate(there[b].tolist()):
            column, row, total = x + 3, y + 2, 0.0
            for r in range(5):
                for c in range(7):
                    near = max(0, 1 - abs(row - r)) * max(0, 1 - abs(column - c))
                    total += near * images[b, r, c].item()
            assert moved[b, i // 7, i % 7].item() == pytest.approx(total, abs=2e-3)


# ---------------------------------------------------------------- the whole distortion


def test_strength_zero_is_the_identity():
    images = digits(5)
    same = augment.distort(images, 0, seed=3)
    assert same.dtype == torch.float32 and torch.equal(same, images.float())


def test_hardly_any_strength_hardly_changes_anything():
    images = digits(5)
    change = (augment.distort(images, 1e-4, seed=3) - images).abs()
    assert 0 < change.max() < 0.5


def test_the_same_seed_distorts_in_the_same_way_and_another_seed_in_another():
    images = digits(20)
    first, again, other = (augment.distort(images, 1.0, seed) for seed in (8, 8, 9))
    assert torch.equal(first, again)
    assert ((first - other).abs().amax(dim=(1, 2)) > 10).all()


def test_distorting_takes_nothing_from_the_random_numbers_of_the_training():
    before = torch.get_rng_state()
    augment.distort(digits(4), 1.0, seed=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_equal_pictures_of_a_batch_get_different_distortions():
    images = augment.distort(digits(1).expand(40, -1, -1), 1.0, seed=0)
    apart = torch.cdist(images.flatten(1), images.flatten(1)).fill_diagonal_(math.inf)
    assert apart.min() > 20


def test_the_pictures_given_are_left_as_they_were():
    images = digits(4)
    before = images.clone()
    augment.distort(images, 1.0, seed=0)
    assert torch.equal(images, before)


def test_bytes_and_floats_are_distorted_alike_and_become_float32():
    images = digits(6)
    answers = [augment.distort(kind, 1.0, seed=2)
               for kind in (images, images.float(), images.double(), images.long())]
    for answer in answers:
        assert answer.dtype == torch.float32 and answer.shape == images.shape
        assert torch.equal(answer, answers[0])


@pytest.mark.parametrize("shape", [(3, 20, 33), (3, 41, 12), (1, 28, 28)])
def test_pictures_that_are_no_squares_are_distorted_too(shape, places):
    images = noise(*shape)
    assert augment.distort(images, 1.0, seed=0).shape == shape
    there = places(images, 1.0)
    corners = (shape[2] - 1) / 2, (shape[1] - 1) / 2
    reached = there.abs().amax(dim=(0, 1, 2)).tolist()
    for most, corner in zip(reached, corners):
        assert 0.85 * corner < most < 1.5 * corner + 8


def test_what_moves_in_is_black_and_nothing_is_brighter_than_it_was():
    images = torch.full((50, 28, 28), 200.0)
    moved = augment.distort(images, 1.0, seed=0)
    assert moved.min() == 0 and moved.max() <= 200.01
    assert torch.allclose(moved[:, 10:18, 10:18], torch.tensor(200.0), rtol=0, atol=0.01)


def test_a_digit_keeps_about_its_ink():
    """Size and place change a little, so each picture's ink does; on average it stays."""
    images = digits(400).float()
    share = augment.distort(images, 1.0, seed=1).sum(dim=(1, 2)) / images.sum(dim=(1, 2))
    assert share.mean().item() == pytest.approx(1, abs=0.05)
    assert 0.4 < share.min() < 0.9 and 1.1 < share.max() < 2


# ---------------------------------------------------------------- each of the five amounts

# A picture's own strength is uniform from 0 to `strength`, and each amount uniform within
# it: the product has the standard deviation √(1/3 · 1/3) of the most that it can be.


@pytest.mark.parametrize("strength", [0.5, 1.0, 2.0])
def test_the_shift_stays_within_its_amount_in_each_direction(strength, only, places):
    only(SHIFT=1.5)
    images = torch.zeros(3000, 6, 6)
    moves = places(images, strength) - augment.pixel_places(images).view(6, 6, 2)
    assert torch.allclose(moves, moves[:, :1, :1].expand_as(moves), rtol=0, atol=1e-5)
    amount, moves = 1.5 * strength, moves[:, 0, 0]
    assert 0.93 * amount < moves.abs().amax(0).min() <= moves.abs().max() < 1.0001 * amount
    assert moves.std(0).tolist() == pytest.approx([amount / 3] * 2, rel=0.06)
    assert np.abs(moves.mean(0).numpy()).max() < 0.06 * amount
    assert abs(np.corrcoef(moves.T.numpy())[0, 1]) < 0.07


def linear_part(there: torch.Tensor, here: torch.Tensor) -> torch.Tensor:
    """The matrices (B, 2, 2) that bring the pixels where `distort` looks."""
    found = torch.linalg.lstsq(here.expand(len(there), -1, -1), there.flatten(1, 2)).solution
    return found.transpose(1, 2)


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_the_rotation_stays_within_its_degrees_and_is_nothing_else(strength, only, places):
    only(ROTATION=12.0)
    images = torch.zeros(3000, 6, 6)
    turn = linear_part(places(images, strength), augment.pixel_places(images))
    eye = torch.eye(2).expand_as(turn)
    assert torch.allclose(turn @ turn.transpose(1, 2), eye, rtol=0, atol=1e-5)
    assert torch.allclose(torch.linalg.det(turn), torch.ones(3000), rtol=0, atol=1e-5)
    degrees = torch.rad2deg(torch.atan2(turn[:, 1, 0], turn[:, 0, 0]))
    most = 12 * strength
    assert 0.93 * most < degrees.max() < 1.001 * most
    assert -1.001 * most < degrees.min() < -0.93 * most
    assert degrees.std().item() == pytest.approx(most / 3, rel=0.06)


def test_a_rotation_of_90_degrees_is_the_turned_array(only, monkeypatch):
    """Amounts are drawn at random; here each draw is the most that there is."""
    only(ROTATION=90.0)
    images = noise(2, 28, 28)
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.ones(shape))
    turned = augment.distort(images, 1.0, seed=0)
    assert torch.allclose(turned, torch.rot90(images, 1, dims=(1, 2)), rtol=0, atol=3e-3)


def test_the_slant_moves_rows_sideways_by_their_height_alone(only, places):
    only(SLANT=0.15)
    images = torch.zeros(3000, 6, 6)
    slant = linear_part(places(images, 1.0), augment.pixel_places(images))
    assert torch.allclose(slant[:, 0, 0], torch.ones(3000), rtol=0, atol=1e-5)
    assert torch.allclose(slant[:, 1], torch.tensor([0.0, 1.0]).expand(3000, 2), rtol=0,
                          atol=1e-5)
    amounts = slant[:, 0, 1]
    assert 0.139 < amounts.max() < 0.15001 and -0.15001 < amounts.min() < -0.139
    assert amounts.std().item() == pytest.approx(0.15 / 3, rel=0.06)


def test_width_and_height_are_scaled_within_their_share_and_apart(only, places):
    only(SCALE=0.12)
    images = torch.zeros(3000, 6, 6)
    scale = linear_part(places(images, 1.0), augment.pixel_places(images))
    assert scale[:, 0, 1].abs().max() < 1e-5 and scale[:, 1, 0].abs().max() < 1e-5
    for size in (scale[:, 0, 0], scale[:, 1, 1]):
        assert 1.111 < size.max() < 1.12001 and 0.87999 < size.min() < 0.889
        assert size.std().item() == pytest.approx(0.12 / 3, rel=0.06)
    both = np.corrcoef(scale[:, 0, 0].numpy(), scale[:, 1, 1].numpy())
    assert abs(both[0, 1]) < 0.07


def test_a_picture_has_one_strength_for_all_and_some_stay_almost_as_they_were(places):
    """Its turn, slant, scale, shift and bend are small together or large together; how much
    is uniform: a tenth of the pictures have less than a tenth.
    """
    images = torch.zeros(3000, 28, 28)
    here = augment.pixel_places(images).view(28, 28, 2)
    moves = (places(images, 1.0) - here).flatten(1)
    bent = (moves.view(3000, 28, 28, 2).diff(n=2, dim=1)).flatten(1).norm(dim=1)
    much = bent / (2 * bent.mean())
    for tenth in range(1, 10):
        assert (much < tenth / 10).double().mean().item() == pytest.approx(tenth / 10, abs=0.06)
    assert np.corrcoef(much.numpy(), moves.norm(dim=1).numpy())[0, 1] > 0.5
    assert moves.norm(dim=1).min() < 0.03 * moves.norm(dim=1).max()


def test_angle_slant_and_shift_of_a_picture_are_drawn_apart(places):
    """One number used twice would make every turned digit also a slanted or moved one."""
    images = torch.zeros(3000, 28, 28)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(augment, "ELASTIC", 0.0)
        there = places(images, 1.0)
    here = augment.pixel_places(images)
    matrix, shift = linear_part(there, here), there.mean(dim=(1, 2))
    angle = torch.atan2(matrix[:, 1, 0], matrix[:, 0, 0])
    shear = (matrix[:, :, 0] * matrix[:, :, 1]).sum(1)
    wide, high = matrix[:, :, 0].norm(dim=1), torch.linalg.det(matrix)
    table = torch.stack([angle, shear, wide, high / wide, *shift.T])
    correlation = np.corrcoef(table.numpy()) - np.eye(6)
    assert np.abs(correlation).max() < 0.1


# ---------------------------------------------------------------- the elastic part


def fields(strength: float, count: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Displacements by `bend` alone, (B, H, W, 2)."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return (2 * torch.rand(count, *shape, generator=generator) - 1) * strength

    images = torch.zeros(count, height, width)
    return augment.bend(draw, images).view(count, height, width, 2)


@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize("shape", [(28, 28), (20, 33)])
def test_the_bend_has_the_standard_deviation_it_claims_at_every_pixel(shape, strength):
    """At the rim too, where fewer knots are near."""
    field = fields(strength, 4000, *shape)
    amount = augment.ELASTIC * strength
    assert field.std(dim=0).mean().item() == pytest.approx(amount, rel=0.02)
    assert field.std(dim=0).min() > 0.93 * amount
    assert field.std(dim=0).max() < 1.07 * amount
    assert field.mean(dim=0).abs().max() < 0.08 * amount


def test_the_bend_is_smooth():
    """The standard deviation of the step to the next pixel is ELASTIC·√(2 - 2r), where the
    correlation r of a field blurred with σ is about e^(-1/4σ²): a fifth of the bend itself.
    """
    field = fields(1.0, 2000, 28, 28)
    expected = augment.ELASTIC * math.sqrt(2 - 2 * math.exp(-1 / (4 * augment.SMOOTH**2)))
    for step in (field[:, 1:] - field[:, :-1], field[:, :, 1:] - field[:, :, :-1]):
        assert step[:, 5:-5, 5:-5].std().item() == pytest.approx(expected, rel=0.08)
        assert step.abs().max() < 1.0
    turn = field[:, 2:] - 2 * field[:, 1:-1] + field[:, :-2]
    assert turn.std() < 0.35 * expected


def test_far_pixels_and_the_two_directions_bend_independently():
    field = fields(1.0, 4000, 28, 28)
    rim, middle = field[:, 2, 2], field[:, 14, 25]
    table = torch.cat([rim, middle], dim=1).T
    correlation = np.corrcoef(table.numpy()) - np.eye(4)
    assert np.abs(correlation).max() < 0.07


def test_no_two_pictures_bend_alike():
    field = fields(1.0, 30, 28, 28).flatten(1)
    apart = torch.cdist(field, field).fill_diagonal_(math.inf)
    assert apart.min() > 20


def test_the_bend_is_blurred_noise_written_as_loops():
    """(10): knots displaced at random, and between them Gaussian weights, scaled to one."""
    height, width, noise = 6, 9, {}

    def draw(*shape: int) -> torch.Tensor:
        noise["drawn"] = torch.randn(1, *shape, generator=torch.Generator().manual_seed(2))
        return noise["drawn"]

    field = augment.bend(draw, torch.zeros(1, height, width)).view(height, width, 2)
    knots = noise["drawn"]
    for row, column in ((0, 0), (3, 5), (5, 8)):
        weights = {}
        for r in range(knots.size(2)):
            for c in range(knots.size(3)):
                far = ((row - augment.SPACING * r) ** 2
                       + (column - augment.SPACING * c) ** 2)
                weights[r, c] = math.exp(-far / (2 * augment.SMOOTH**2))
        size = math.sqrt(sum(weight**2 for weight in weights.values()) / 3)
        for axis in (0, 1):
            total = sum(w * knots[0, axis, r, c].item() for (r, c), w in weights.items())
            expected = augment.ELASTIC * total / size
            assert field[row, column, axis].item() == pytest.approx(expected, abs=1e-4)
