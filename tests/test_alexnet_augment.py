"""What AlexNet is given and what is made of it: crops, light, batches, steps, answers, maps."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor, nn

from support import load

alexnet = load("alexnet_from_scratch")
augment, batches, explain = alexnet.augment, alexnet.batches, alexnet.explain
evaluation, inputs, optimization = alexnet.evaluation, alexnet.inputs, alexnet.optimization
Part = alexnet.parts.Part

UNLIKELY = 1e-4     # an honest sample fails a test of odds this rarely; the seeds are fixed


def noise(count: int, side: int, seed: int = 5) -> Tensor:
    """Pictures as bytes (N, 3, S, S), in which every pixel has its own colour."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 3, side, side), generator=generator, dtype=torch.uint8)


def coloured(count: int, side: int) -> Tensor:
    """Pictures in grey levels whose colours hang together and drift from one to the next."""
    mix = torch.tensor([[50.0, 8.0, 1.0], [45.0, -3.0, 5.0], [40.0, -12.0, -2.0]])
    pixels = (torch.randn(count, side, side, 3) @ mix.T).permute(0, 3, 1, 2)
    drift = torch.linspace(0, 90, count)[:, None, None, None]
    return pixels + drift + torch.tensor([90.0, 110.0, 130.0])[:, None, None]


def is_even(counts: Tensor) -> bool:
    """Whether counts are those of equally likely cases."""
    return chisquare(counts.flatten().numpy()).pvalue > UNLIKELY


# ---------------------------------------------------------------- draws


@pytest.fixture(scope="module")
def many() -> tuple:
    """The draws of 300 neighbouring seeds, as the steps of a training use them."""
    return augment.Draws(*map(torch.cat, zip(*(augment.draw(100, 4, 7_000 + seed)
                                               for seed in range(300)))))


def test_each_place_and_side_of_a_crop_is_equally_likely(many: tuple) -> None:
    """32² · 2 pictures of one in the paper; (room + 1)² · 2 it is, here 50."""
    case = (5 * many.top + many.left) * 2 + many.flip
    counts = torch.bincount(case, minlength=50)
    assert len(counts) == 50 and is_even(counts)
    assert is_even(counts.view(25, 2).sum(1)) and is_even(counts.view(25, 2).sum(0))


def test_the_light_is_normal_and_drawn_apart(many: tuple) -> None:
    assert many.light.mean(0).abs().max() < 0.03
    assert many.light.std(0).tolist() == pytest.approx([1] * 3, abs=0.02)
    assert (many.light.abs() > 2).double().mean().item() == pytest.approx(0.0455, abs=0.003)
    table = torch.cat([many.light, torch.stack([many.top, many.left, many.flip], 1)], dim=1)
    assert np.abs(np.corrcoef(table.T.numpy()) - np.eye(6)).max() < 0.03


def test_the_draws_are_a_function_of_the_seed_alone() -> None:
    first = augment.draw(40, 8, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(first, augment.draw(40, 8, seed=3)))
    assert not any(torch.equal(a, b) for a, b in zip(first, augment.draw(40, 8, seed=4)))


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_the_shares_of_the_processes_are_the_whole(ranks: int) -> None:
    drawn = augment.draw(11, 8, seed=0)
    shares = [drawn.share(rank, ranks, 99) for rank in range(ranks)]
    for whole, parts in zip(drawn, zip(*shares)):
        for i in range(11):
            assert torch.equal(whole[i], parts[i % ranks][i // ranks])
        assert sum(map(len, parts)) == 11
    assert all(len(part) == 2 for part in drawn.share(0, ranks, 2))


# ---------------------------------------------------------------- crops


@pytest.mark.parametrize("room", [0, 5])
def test_crops_and_reflections_are_slices_of_the_pictures(room: int) -> None:
    images, drawn, size = noise(60, 12), augment.draw(60, room, seed=1), 12 - room
    assert drawn.flip.any() and not drawn.flip.all()
    found = augment.crop(images, drawn, size)
    assert found.shape == (60, 3, size, size) and found.dtype == torch.uint8
    for picture, crop, top, left, flip in zip(images, found, *drawn[:3]):
        expected = picture[:, top : top + size, left : left + size]
        assert torch.equal(crop, expected.flip(2) if flip else expected)


@pytest.mark.parametrize(("side", "size", "start"), [(12, 8, 2), (13, 8, 2), (8, 8, 0)])
def test_the_centre_crop_is_the_middle(side: int, size: int, start: int) -> None:
    images = noise(2, side)
    middle = images[:, :, start : start + size, start : start + size]
    assert torch.equal(augment.centre_crop(images, size), middle)
    assert torch.equal(augment.centre_crop(images[0], size), middle[0])


@pytest.mark.parametrize(("side", "room"), [(12, 4), (13, 5)])
def test_ten_crops_are_corners_and_middle_and_their_mirror_images(side: int, room: int) -> None:
    images, places = noise(3, side), [(0, 0), (0, room), (room, 0), (room, room), (2, 2)]
    ten = augment.ten_crops(images, 8)
    assert ten.shape == (10, 3, 3, 8, 8)
    for i, (top, left) in enumerate(places):
        expected = images[:, :, top : top + 8, left : left + 8]
        assert torch.equal(ten[i], expected)
        assert torch.equal(ten[i + 5], expected.flip(3))


# ---------------------------------------------------------------- colours


@pytest.fixture(scope="module")
def covariance() -> tuple[Tensor, np.ndarray]:
    """230 pictures, and how their three colours vary together, by NumPy."""
    torch.manual_seed(0)
    images = coloured(230, 6)
    pixels = images.permute(1, 0, 2, 3).flatten(1).double().numpy()
    return images, np.cov(pixels, bias=True)


def test_the_axes_of_colour_are_eigenvectors_as_long_as_standard_deviations(
    covariance: tuple
) -> None:
    images, expected = covariance
    axes = augment.colour_axes(images).double().numpy()
    values, vectors = np.linalg.eigh(expected)
    products = axes.T @ axes
    assert np.abs(products - np.diag(np.diag(products))).max() < 1e-3 * values.min()
    assert np.diag(products) == pytest.approx(values, rel=1e-3)
    assert np.trace(products) == pytest.approx(np.trace(expected), rel=1e-4)
    assert np.abs((vectors * axes).sum(0)) == pytest.approx(np.sqrt(values), rel=1e-3)
    assert axes @ axes.T == pytest.approx(expected, rel=1e-3)


def test_the_axes_mean_the_same_in_every_unit(covariance: tuple) -> None:
    """Had they the length of variances, 255 would count twice."""
    images, _ = covariance
    axes, small = augment.colour_axes(images), augment.colour_axes(images / 255)
    assert torch.allclose(axes.abs(), 255 * small.abs(), rtol=1e-3, atol=1e-3)
    in_bytes = augment.colour_axes(noise(5, 8))
    assert torch.allclose(in_bytes, augment.colour_axes(noise(5, 8).float()))


def test_grey_pictures_have_one_axis_and_no_length_along_the_others() -> None:
    grey = (40 * torch.randn(20, 1, 8, 8) + 128).expand(-1, 3, -1, -1)
    axes = augment.colour_axes(grey)
    assert axes.isfinite().all() and axes[:, :2].abs().max() < 1e-2
    assert axes[:, 2].abs().tolist() == pytest.approx([grey.std().item()] * 3, rel=1e-2)


def test_the_light_moves_a_tenth_of_a_standard_deviation_along_each_axis(
    covariance: tuple
) -> None:
    """A tenth of √λ, not of λ: these pictures' largest λ is thousands of grey levels."""
    images, expected = covariance
    values, vectors = np.linalg.eigh(expected)
    assert augment.STRENGTH == 0.1 and values[-1] > 2000
    drawn, black = augment.draw(20_000, 0, seed=2), torch.zeros(20_000, 3, 1, 1)
    moved = augment.shift_colour(black, drawn, augment.colour_axes(images), augment.STRENGTH)
    along = moved[:, :, 0, 0].double().numpy() @ vectors
    assert along.std(0) == pytest.approx(0.1 * np.sqrt(values), rel=0.04)
    assert np.abs(along.mean(0) / along.std(0)).max() < 0.04
    assert np.abs(np.corrcoef(along.T) - np.eye(3)).max() < 0.04


def test_a_picture_gets_one_colour_at_all_its_pixels() -> None:
    images, drawn = coloured(4, 5), augment.draw(4, 0, seed=0)
    axes = 100 * torch.randn(3, 3)
    moves = augment.shift_colour(images, drawn, axes, 0.3) - images
    for move, light in zip(moves, drawn.light):
        colour = 0.3 * sum(light[i] * axes[:, i] for i in range(3))
        assert torch.allclose(move, colour[:, None, None].expand(3, 5, 5), atol=1e-3)
    assert torch.pdist(moves[:, :, 0, 0]).min() > 1
    assert torch.equal(augment.shift_colour(images, drawn, axes, 0.0), images)


# ---------------------------------------------------------------- what the network is given


def test_the_training_set_is_measured_as_the_formulas_say() -> None:
    images = coloured(230, 9).clamp(0, 255).byte()
    part, pixels = Part(images, torch.zeros(230, dtype=torch.int64), 9), images.double()
    found = inputs.measure(part, 6, in_grey_levels=False)
    mean = pixels.mean(0)[:, 1:7, 1:7]                                # (9 - 6) // 2 is 1
    assert torch.allclose(found["mean"].double(), mean, rtol=0, atol=1e-3)
    deviation = pixels.var((0, 2, 3), correction=0).mean().sqrt().item()
    assert found["std"] == pytest.approx(deviation / alexnet.model.SPREAD, rel=1e-4)
    assert torch.equal(found["colour_axes"], augment.colour_axes(images[torch.randperm(
        230, generator=torch.Generator().manual_seed(0))]))
    paper = inputs.measure(part, 6, in_grey_levels=True)
    assert paper["std"] == 1.0 and torch.equal(paper["mean"], found["mean"])


def test_inputs_vary_by_what_the_start_of_the_weights_expects() -> None:
    images = noise(300, 10)
    config = inputs.measure(Part(images, torch.zeros(300), 10), 8, in_grey_levels=False)
    given = inputs.to_input(augment.centre_crop(images, 8).float(), config)
    assert given.std().item() == pytest.approx(alexnet.model.SPREAD, rel=0.02)
    assert given.mean((0, 2, 3)).abs().max() < 1e-3


@pytest.mark.parametrize("std", [20.0, torch.tensor([10.0, 20.0, 40.0]).view(3, 1, 1)])
def test_inputs_are_grey_levels_without_the_mean_in_units_of_the_scale(
    std: float | Tensor
) -> None:
    crops, mean = noise(4, 5).float(), 100 * torch.rand(3, 5, 5)
    found = inputs.to_input(crops, {"mean": mean, "std": std})
    for channel in range(3):
        scale = std[channel] if isinstance(std, Tensor) else std
        assert torch.allclose(found[:, channel], (crops[:, channel] - mean[channel]) / scale)
    assert found.is_contiguous(memory_format=torch.channels_last)


# ---------------------------------------------------------------- batches


def part_and_config(count: int = 23) -> tuple:
    """Pictures whose label is their number, in and out as grey levels."""
    config = {"image_size": 8, "mean": torch.zeros(3, 8, 8), "std": 1.0,
              "colour_axes": 30 * torch.eye(3)}
    return Part(noise(count, 11), torch.arange(count), 11), config


def an_epoch(epoch: int = 0, step: int = 0, done: int = 0, seed: int = 0, colour: float = 0.1,
             size: int = 5) -> list[tuple[int, Tensor, Tensor]]:
    """What is left of an epoch of 23 pictures."""
    part, config = part_and_config()
    return list(batches.prepared(part, size, seed, config, colour, torch.device("cpu"),
                                 (epoch, step, done)))


def labels_of(found: list) -> list[int]:
    return torch.cat([labels for _, _, labels in found]).tolist()


def assert_equal_batches(some: list, others: list) -> None:
    assert len(some) == len(others)
    for (count, images, labels), (number, pictures, names) in zip(some, others):
        assert count == number and torch.equal(images, pictures) and torch.equal(labels, names)


def test_an_epoch_has_every_picture_once() -> None:
    found = an_epoch()
    assert [count for count, *_ in found] == [5, 5, 5, 5, 3]
    assert [tuple(images.shape) for _, images, _ in found[-2:]] == [(5, 3, 8, 8), (3, 3, 8, 8)]
    assert sorted(labels_of(found)) == list(range(23)) != labels_of(found)


def test_each_input_is_some_crop_of_the_picture_that_its_label_names() -> None:
    part, _ = part_and_config()
    for _, images, labels in an_epoch(colour=0.0):
        for image, label in zip(images, labels):
            crops = part.images[label].float().unfold(1, 8, 1).unfold(2, 8, 1)
            both = torch.stack([crops, crops.flip(4)])            # (2, 3, 4, 4, 8, 8)
            same = (both == image[:, None, None]).flatten(4).all(4).all(1)
            assert same.sum() == 1


def test_order_and_crops_are_a_function_of_seed_epoch_and_step() -> None:
    first = an_epoch()
    torch.rand(7)
    assert_equal_batches(an_epoch(), first)
    orders = [labels_of(an_epoch(epoch, seed=seed)) for epoch in range(3) for seed in range(3)]
    assert len(set(map(tuple, orders))) == 9
    later = an_epoch(step=1)
    assert labels_of(later) == labels_of(first)
    assert not any(torch.equal(a[1], b[1]) for a, b in zip(first, later))


@pytest.mark.parametrize("done", [1, 3, 5])
def test_resumed_in_the_middle_an_epoch_goes_on_with_the_same_batches(done: int) -> None:
    whole = an_epoch(epoch=2, step=10)
    assert_equal_batches(an_epoch(epoch=2, step=10 + done, done=done), whole[done:])


def test_the_light_of_a_batch_has_the_strength_that_was_asked_for() -> None:
    for (_, dark, _), (_, lit, _) in zip(an_epoch(colour=0.0), an_epoch(colour=0.2)):
        moves = lit - dark
        assert torch.allclose(moves, moves[:, :, :1, :1].expand_as(moves), atol=1e-3)
        assert 1 < moves.std() < 15                             # 0.2 of 30 is 6


@pytest.mark.parametrize("ranks", [2, 3])
def test_several_processes_share_each_batch_of_one(
    ranks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Crops, light and order included, so that the gradients add up to the same."""
    alone = an_epoch(epoch=1, step=5)
    monkeypatch.setattr(alexnet.distributed, "ranks", lambda: ranks)
    for rank in range(ranks):
        monkeypatch.setattr(alexnet.distributed, "rank", lambda rank=rank: rank)
        expected = [(count, images[rank::ranks], labels[rank::ranks])
                    for count, images, labels in alone]
        assert_equal_batches(an_epoch(epoch=1, step=5), expected)


# ---------------------------------------------------------------- answers


class Brightness(nn.Module):
    """Two classes: the logit of the first is a factor times the mean of the input."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, images: Tensor) -> Tensor:
        return self.factor * images.mean((1, 2, 3))[:, None] * torch.tensor([1.0, 0.0])


def test_the_answer_from_ten_crops_is_the_mean_of_probabilities_not_of_logits() -> None:
    """The five crops' brightness is 9, 0, 0, 0 and 0; their logits' mean is 9/5."""
    images = torch.zeros(1, 3, 6, 6, dtype=torch.uint8)
    images[:, :, :2, :2] = 9
    config = {"image_size": 2, "mean": torch.zeros(3, 2, 2), "std": 1.0}
    ten = evaluation.probabilities(Brightness(1.0), images, config, ten=True)
    sure, of_logits = 1 / (1 + math.exp(-9)), 1 / (1 + math.exp(-9 / 5))
    assert ten[0].tolist() == pytest.approx([0.2 * sure + 0.4, 0.6 - 0.2 * sure], abs=1e-6)
    assert abs(ten[0, 0].item() - of_logits) > 0.2
    centre = evaluation.probabilities(Brightness(1.0), images, config)
    assert centre[0].tolist() == pytest.approx([0.5, 0.5], abs=1e-6)


def test_one_crop_is_the_middle_without_the_mean_in_units_of_the_scale() -> None:
    images, mean = noise(7, 9), 50 * torch.rand(3, 4, 4)
    config = {"image_size": 4, "mean": mean, "std": 60.0}
    found = evaluation.probabilities(Brightness(2.0), images, config)
    logits = 2 * ((images[:, :, 2:6, 2:6].float() - mean) / 60).mean((1, 2, 3))
    assert torch.allclose(found[:, 0], logits.sigmoid(), rtol=0, atol=1e-5)
    assert torch.allclose(found.sum(1), torch.ones(7))


class Fixed(nn.Module):
    """Answers with the colours of the first pixels as logits, whatever else is there."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> Tensor:
        return images[:, 0].flatten(1)[:, :7] + 0 * self.weight


def test_loss_and_errors_are_counted_over_all_pictures() -> None:
    images, draw = noise(230, 3), torch.Generator().manual_seed(0)
    for image in images:                         # no two scores of a picture are equal
        image[0] = torch.randperm(256, generator=draw)[:9].view(3, 3)
    labels, scores = torch.arange(230) % 7, images[:, 0].flatten(1)[:, :7].double() / 50
    net, config = Fixed().train(), {"image_size": 3, "mean": torch.zeros(3, 3, 3), "std": 50.0}
    loss, first, five, _ = evaluation.evaluate(net, Part(images, labels, 3), config)
    own = scores[torch.arange(230), labels]
    assert loss == pytest.approx((scores.logsumexp(1) - own).mean().item(), abs=1e-5)
    above = (scores > own[:, None]).sum(1)
    assert first == pytest.approx((above >= 1).double().mean().item(), abs=1e-9)
    assert five == pytest.approx((above >= 5).double().mean().item(), abs=1e-9)
    assert 0.1 < five < first < 0.95 and net.training


# ---------------------------------------------------------------- steps


def test_weights_and_biases_follow_momentum_written_by_hand() -> None:
    """Weights decay; biases do not, and go twice as fast; after three steps the rate falls."""
    net = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Flatten(), nn.Linear(12, 4)).double()
    hand = {name: p.detach().clone() for name, p in net.named_parameters()}
    speed = {name: torch.zeros_like(p) for name, p in hand.items()}
    optimizer, decay = optimization.make_optimizer(net), 0.05
    for step in range(7):
        rate = 0.1 if step < 3 else 0.01
        optimization.set_rate(optimizer, rate, decay)
        optimizer.zero_grad()
        net(torch.randn(5, 2, 3, 3, dtype=torch.float64)).square().mean().backward()
        for name, p in net.named_parameters():
            bias = name.endswith("bias")
            slope = p.grad + (0 if bias else decay) * hand[name]
            speed[name] = 0.9 * speed[name] + slope
            hand[name] = hand[name] - (2 if bias else 1) * rate * speed[name]
        optimizer.step()
    for name, p in net.named_parameters():
        assert torch.allclose(p, hand[name], rtol=0, atol=1e-12) and p.abs().max() < 9, name


def test_there_are_two_groups_and_every_parameter_is_in_one() -> None:
    net = alexnet.model.AlexNet(10, width=0.02, image_size=32)
    weights, biases = optimization.make_optimizer(net).param_groups
    names = {id(p): name for name, p in net.named_parameters()}
    for group, ending in ((weights, "weight"), (biases, "bias")):
        found = [names[id(p)] for p in group["params"]]
        assert len(found) == 8 and all(name.endswith(ending) for name in found)
        assert group["momentum"] == 0.9 and not group["nesterov"] and group["dampening"] == 0
    assert (optimization.WEIGHT_DECAY, optimization.BIAS_RATE) == (5e-4, 2)
    assert (optimization.FALL, optimization.DROPS) == (10, 3)


# ---------------------------------------------------------------- occlusion


class Block(nn.Module):
    """Two classes; the first is likelier the brighter one block of pixels is."""

    rows, columns = slice(20, 24), slice(30, 34)

    def forward(self, images: Tensor) -> Tensor:
        block = images[:, :, self.rows, self.columns].mean((1, 2, 3))
        return torch.stack([block, -block], dim=1)


@pytest.mark.parametrize("size", [56, 61])
def test_occlusion_is_the_mean_loss_of_belief_under_all_covers_of_a_pixel(size: int) -> None:
    image, cover = torch.rand(3, size, size) + 0.5, size // 7
    starts = [*range(0, size - cover + 1, 2)] + [size - cover] * (size % 2)
    believed = Block()(image[None]).softmax(1)[0, 0]
    lost, times = torch.zeros(size, size), torch.zeros(size, size)
    for top, left in itertools.product(starts, starts):
        covered = image.clone()
        place = slice(top, top + cover), slice(left, left + cover)
        covered[:, place[0], place[1]] = 0
        lost[place] += believed - Block()(covered[None]).softmax(1)[0, 0]
        times[place] += 1
    found = explain.occlusion(Block(), image, 0)
    assert times.min() > 0 and torch.allclose(found, lost / times, rtol=0, atol=1e-5)


def test_the_map_peaks_at_what_decides_and_is_nothing_where_nothing_does() -> None:
    image = torch.rand(3, 56, 56) + 0.5
    found = explain.occlusion(Block(), image, 0)
    row, column = divmod(int(found.argmax()), 56)
    assert 20 <= row < 24 and 30 <= column < 34 and found.max() > 0.2
    far = torch.ones(56, 56, dtype=torch.bool)
    far[20 - 8 : 24 + 8, 30 - 8 : 34 + 8] = False
    assert found[far].abs().max() < 1e-6 and (found[~far] > 0).double().mean() > 0.5
    assert torch.allclose(explain.occlusion(Block(), image, 1), -found, rtol=0, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 7, 10_000])
def test_how_many_covers_are_tried_at_once_changes_nothing(batch: int) -> None:
    image = torch.rand(3, 35, 35)
    expected = explain.occlusion(Block(), image, 0)
    assert torch.allclose(explain.occlusion(Block(), image, 0, batch), expected, atol=1e-6)


@pytest.mark.parametrize("size", [5, 15, 27, 32])
def test_every_pixel_of_a_small_picture_is_covered(size: int) -> None:
    assert explain.occlusion(Brightness(1.0), torch.rand(3, size, size), 0).isfinite().all()
