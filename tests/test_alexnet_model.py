"""AlexNet and its parts, against formulas, torchvision's model and the paper's numbers."""

import functools
import inspect
import math
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import alexnet as torchvision_alexnet

from support import ROOT, load, run

alexnet = load("alexnet_from_scratch")
model = alexnet.model

CONVOLUTIONS = ("conv1", "conv2", "conv3", "conv4", "conv5")
LAYERS = (*CONVOLUTIONS, "fc6", "fc7", "fc8")
COUNTS = {"paper": 60_965_224, "single": 62_378_344, "torchvision": 61_100_840}
SIDES = [55, 27, 27, 13, 13, 13, 13, 6]    # after each convolution and each pooling, in order

each_variant = pytest.mark.parametrize("variant", COUNTS)


def network(variant: str = "paper", seed: int = 0, **switches: object) -> nn.Module:
    """A narrow one in double precision for ten classes and 64 pixels, ready to answer."""
    torch.manual_seed(seed)
    return model.AlexNet(**{"classes": 10, "variant": variant, "width": 0.1,
                            "image_size": 64, **switches}).double().eval()


@functools.cache
def full(variant: str) -> nn.Module:
    """The whole network of a variant; its weights are not to be changed."""
    torch.manual_seed(0)
    return model.AlexNet(variant=variant).eval()


def random_doubles(*shape: int) -> Tensor:
    """Random inputs in float64, where only true differences remain."""
    return torch.randn(shape, dtype=torch.float64)


def assert_same(mine: Tensor, other: Tensor, atol: float = 1e-12) -> None:
    """Equal up to rounding, and nothing to do with broadcasting."""
    assert mine.shape == other.shape
    assert torch.allclose(mine, other, rtol=0, atol=atol)


def inputs_of(net: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """What each layer with weights is given while the network reads pictures."""
    seen, hooks = {}, []
    for name in LAYERS:
        hooks.append(net.get_submodule(name).register_forward_pre_hook(
            lambda _, given, name=name: seen.update({name: given[0].clone()})))
    with torch.no_grad():
        net(images)
    for hook in hooks:
        hook.remove()
    return seen


# ---------------------------------------------------------------- counts and sides


@each_variant
def test_the_network_has_exactly_as_many_parameters_as_promised(variant: str) -> None:
    net = full(variant)
    assert sum(p.numel() for p in net.parameters()) == COUNTS[variant]
    assert net.fc6.in_features == 9_216 and net.fc8.in_features == 4_096


def test_the_table_lists_every_layer_of_the_paper_with_its_cost() -> None:
    rows = model.layers(full("paper"), 224)
    assert rows == [
        ("conv1", (96, 55, 55), 34_944, 105_415_200), ("pool", (96, 27, 27), 0, 0),
        ("conv2", (256, 27, 27), 307_456, 223_948_800), ("pool", (256, 13, 13), 0, 0),
        ("conv3", (384, 13, 13), 885_120, 149_520_384),
        ("conv4", (384, 13, 13), 663_936, 112_140_288),
        ("conv5", (256, 13, 13), 442_624, 74_760_192), ("pool", (256, 6, 6), 0, 0),
        ("fc6", (4096,), 37_752_832, 37_748_736), ("fc7", (4096,), 16_781_312, 16_777_216),
        ("fc8", (1000,), 4_097_000, 4_096_000),
    ]
    assert sum(row[3] for row in rows) == 724_406_816


@pytest.mark.parametrize(("variant", "size"), [
    ("paper", 224), ("paper", 227), ("single", 224), ("torchvision", 224)])
def test_the_maps_have_the_sides_of_the_paper(variant: str, size: int) -> None:
    net = network(variant, image_size=size).float()
    rows = model.layers(net, size)
    assert [shape[-1] for name, shape, *_ in rows if len(shape) == 3] == SIDES
    assert net.side == 6 and net.fc6.in_features == 36 * net.conv5.out_channels


def test_the_sides_in_the_comments_of_the_code_are_true() -> None:
    comments = re.findall(r"# (.*)", inspect.getsource(model.AlexNet.maps))
    claimed = [int(number) for comment in comments if "(" not in comment
               for number in re.findall(r"\d+", comment)]
    assert claimed == SIDES


def test_the_maps_are_what_each_convolution_hands_on() -> None:
    maps = network(image_size=227).maps(random_doubles(2, 3, 227, 227))
    assert [tuple(m.shape) for m in maps] == [
        (2, 10, 27, 27), (2, 26, 13, 13), (2, 38, 13, 13), (2, 38, 13, 13), (2, 26, 6, 6)]


def test_making_the_table_leaves_no_hook_behind() -> None:
    net = network().float()
    once = model.layers(net, 64)
    net(torch.zeros(2, 3, 64, 64))
    assert model.layers(net, 64) == once and len(once) == 11


@pytest.mark.parametrize(("size", "modern", "expected"), [
    (224, False, (4, 11, 0)), (224, True, (4, 11, 2)), (112, False, (4, 11, 0)),
    (111, False, (2, 7, 2)), (56, True, (2, 7, 2)), (55, False, (1, 5, 2)),
    (32, True, (1, 5, 2))])
def test_small_pictures_get_a_finer_first_layer(
    size: int, modern: bool, expected: tuple[int, ...]
) -> None:
    assert model.stem(size, modern) == expected


@each_variant
@pytest.mark.parametrize("size", [15, 32, 55, 56, 63, 97, 111, 112, 115, 130, 225])
def test_a_network_for_any_size_reads_pictures_of_that_size(variant: str, size: int) -> None:
    net = network(variant, image_size=size, width=0.02).float()
    assert net(torch.randn(2, 3, size, size)).shape == (2, 10)
    assert net.maps(torch.randn(1, 3, size, size))[-1].size(-1) == net.side


def test_width_scales_channels_and_hidden_layers_in_whole_pairs() -> None:
    half = network(width=0.5)
    assert [half.get_submodule(name).out_channels for name in CONVOLUTIONS] == [
        48, 128, 192, 192, 128]
    assert half.fc6.out_features == half.fc7.out_features == 2048
    least = network(width=0.001)
    assert {least.get_submodule(name).out_channels for name in CONVOLUTIONS} == {2}
    odd = network(width=0.3)
    assert all(odd.get_submodule(name).out_channels % 2 == 0 for name in CONVOLUTIONS)


@each_variant
def test_the_configuration_of_a_checkpoint_describes_the_same_network(variant: str) -> None:
    net = model.build({"classes": list("abc"), "variant": variant, "width": 0.05,
                       "image_size": 96, "changes": {"overlap": False, "dropout": 0.25}})
    same = network(variant, classes=3, width=0.05, image_size=96, overlap=False)
    assert [p.shape for p in net.parameters()] == [p.shape for p in same.parameters()]
    assert net.plan.dropout == net.drop7.p == 0.25 and net.pool.kernel_size == 2


# ---------------------------------------------------------------- the frame


def test_the_frame_adds_three_zeros_to_the_right_and_below_at_224_pixels() -> None:
    net, images = network(image_size=224), random_doubles(2, 3, 224, 224) + 9
    framed = net.frame(images)
    assert framed.shape == (2, 3, 227, 227)
    assert torch.equal(framed[..., :224, :224], images)
    assert not framed[..., 224:, :].any() and not framed[..., 224:].any()
    assert_same(net(images), net(F.pad(images, (0, 3, 0, 3))))
    assert not torch.allclose(net(images), net(F.pad(images, (3, 0, 3, 0))), atol=1e-9)


@pytest.mark.parametrize(("variant", "size"), [
    ("paper", 227), ("torchvision", 224), ("torchvision", 226), ("paper", 32)])
def test_there_is_no_frame_where_all_windows_fit_or_pytorch_pads(
    variant: str, size: int
) -> None:
    images = torch.randn(1, 3, size, size)
    assert torch.equal(network(variant, image_size=size).frame(images), images)


# ---------------------------------------------------------------- torchvision's model


@pytest.fixture(scope="module")
def both() -> tuple[nn.Module, nn.Module]:
    """Our network and torchvision's, with torchvision's random weights in both."""
    torch.manual_seed(1)
    theirs, ours = torchvision_alexnet(), full("torchvision")
    weights = alexnet.published.translated(theirs.state_dict())
    assert set(weights) == set(ours.state_dict())
    ours.load_state_dict(weights)
    return ours, theirs


@pytest.mark.parametrize(("size", "training"), [
    (63, False), (224, False), (256, False), (63, True), (224, True)])
def test_it_is_torchvisions_network_forward_and_backward(
    both: tuple, size: int, training: bool
) -> None:
    """While training as well: the masks of dropout are drawn in the same order."""
    labels, images = torch.tensor([3, 141]), torch.randn(2, 3, size, size)
    copies, logits = [images.clone().requires_grad_() for _ in range(2)], []
    for net, copy in zip(both, copies):
        torch.manual_seed(5)
        net.train(training).zero_grad()
        logits.append(net(copy))
        F.cross_entropy(logits[-1], labels).backward()
    ours, theirs = both
    assert_same(*logits, atol=1e-6)
    assert_same(copies[0].grad, copies[1].grad, atol=1e-6)
    gradients = alexnet.published.translated(
        {name: p.grad for name, p in theirs.named_parameters()})
    for name, parameter in ours.named_parameters():
        assert gradients[name].any() and parameter.grad.any()
        assert_same(parameter.grad, gradients[name], atol=1e-6)
    for net in both:
        net.eval().zero_grad()


# ---------------------------------------------------------------- local response normalisation


def normalised(a: np.ndarray, k: float, n: int, alpha: float, beta: float) -> np.ndarray:
    """The paper's formula, one number after another."""
    b, N = np.zeros_like(a), a.shape[1]
    for picture, i, y, x in np.ndindex(a.shape):
        total = sum(a[picture, j, y, x] ** 2
                    for j in range(max(0, i - n // 2), min(N - 1, i + n // 2) + 1))
        b[picture, i, y, x] = a[picture, i, y, x] / (k + alpha * total) ** beta
    return b


def normalised_backward(a: np.ndarray, g: np.ndarray, k: float, n: int, alpha: float,
                        beta: float) -> np.ndarray:
    """Its derivative by hand: each number acts on its own response and on its neighbours'."""
    found, N, reach = np.zeros_like(a), a.shape[1], n // 2
    for picture, i, y, x in np.ndindex(a.shape):
        column, wanted = a[picture, :, y, x], g[picture, :, y, x]
        base = [k + alpha * sum(column[max(0, j - reach) : j + reach + 1] ** 2)
                for j in range(N)]
        found[picture, i, y, x] = wanted[i] * base[i] ** -beta - 2 * alpha * beta * sum(
            wanted[j] * column[j] * column[i] * base[j] ** (-beta - 1)
            for j in range(max(0, i - reach), min(N - 1, i + reach) + 1))
    return found


@pytest.mark.parametrize("k", [1.0, 2.0])
@pytest.mark.parametrize("n", [3, 5])
def test_response_normalisation_is_the_formula_written_as_loops(k: float, n: int) -> None:
    a, g = 9 * random_doubles(2, 8, 3, 2), random_doubles(2, 8, 3, 2)
    a.requires_grad_()
    b = model.LocalResponseNorm(k, n, 0.02, 0.6)(a)
    b.backward(g)
    values = a.detach().numpy()
    assert_same(b.detach(), torch.from_numpy(normalised(values, k, n, 0.02, 0.6)))
    expected = normalised_backward(values, g.numpy(), k, n, 0.02, 0.6)
    assert_same(a.grad, torch.from_numpy(expected))


@pytest.mark.parametrize("n", [3, 5])
def test_response_normalisation_is_pytorchs_with_an_alpha_n_times_as_large(n: int) -> None:
    a = 30 * random_doubles(2, 12, 4, 4)
    theirs = nn.LocalResponseNorm(n, alpha=n * 1e-3, beta=0.75, k=2.0)
    assert_same(model.LocalResponseNorm(n=n, alpha=1e-3)(a), theirs(a))
    averaged = nn.LocalResponseNorm(n, alpha=1e-3, beta=0.75, k=2.0)
    assert (model.LocalResponseNorm(n=n, alpha=1e-3)(a) - averaged(a)).abs().max() > 0.1


def test_the_constants_of_the_normalisation_are_the_papers() -> None:
    norm = full("paper").norm
    assert (norm.k, norm.n, norm.alpha, norm.beta) == (2.0, 5, 1e-4, 0.75)


@pytest.mark.parametrize("n", [2, 4])
def test_an_even_number_of_neighbours_is_refused(n: int) -> None:
    with pytest.raises(ValueError, match=f"n is {n}"):
        model.LocalResponseNorm(n=n)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_under_mixed_precision_the_normalisation_still_computes_in_32_bits(
    dtype: torch.dtype
) -> None:
    a, norm = (50 * torch.randn(2, 8, 5, 5)).to(dtype), model.LocalResponseNorm()
    with torch.autocast("cpu", torch.bfloat16):
        found = norm(a)
    assert found.dtype == torch.float32 and torch.equal(found, norm(a.float()))
    assert_same(found.double(), norm(a.double()), atol=1e-4)


@pytest.mark.parametrize("channel", [0, 4, 9])
def test_an_active_channel_quietens_itself_and_two_neighbours_on_each_side(
    channel: int
) -> None:
    norm, a = model.LocalResponseNorm(alpha=0.01), torch.zeros(1, 10, 2, 2).double()
    a[0, channel, 1, 0] = 30.0
    b = norm(a)
    assert b[0, channel, 1, 0].item() == pytest.approx(30 * (2 + 9) ** -0.75, rel=1e-12)
    assert (b != 0).sum() == 1
    quieter = norm(a + 1) < norm(torch.ones_like(a)) - 0.01
    quieter[0, channel, 1, 0] = True       # its own input is larger, its response too
    expected = (torch.arange(10) - channel).abs() <= 2
    assert torch.equal(quieter[0, :, 1, 0], expected)
    assert quieter.sum() == expected.sum()


def test_only_the_first_two_layers_are_normalised_and_without_it_nothing_is() -> None:
    net, images, calls = network(), random_doubles(2, 3, 64, 64), []
    net.norm.register_forward_hook(lambda _, given, output: calls.append(given[0]))
    maps = net.maps(images)
    assert [a.size(1) for a in calls] == [net.conv1.out_channels, net.conv2.out_channels]
    assert all((a >= 0).all() for a in calls)      # what is normalised has been rectified
    without = network(lrn=False)
    assert isinstance(without.norm, nn.Identity)
    assert not torch.allclose(without.maps(images)[0], maps[0], atol=1e-6)
    assert_same(net.pool(net.norm(F.relu(net.conv1(images)))), maps[0])


# ---------------------------------------------------------------- two towers


@pytest.mark.parametrize("name", ["conv2", "conv4", "conv5"])
def test_a_convolution_in_two_groups_is_two_towers_side_by_side(name: str) -> None:
    layer = network().get_submodule(name)
    x = random_doubles(2, layer.in_channels, 9, 9)
    inputs, outputs = layer.in_channels // 2, layer.out_channels // 2
    padding = layer.padding
    towers = [F.conv2d(part, weight, bias, padding=padding) for part, weight, bias in zip(
        x.chunk(2, 1), layer.weight.chunk(2), layer.bias.chunk(2))]
    assert_same(layer(x), torch.cat(towers, dim=1))
    masked = torch.zeros(2 * outputs, 2 * inputs, *layer.kernel_size).double()
    masked[:outputs, :inputs], masked[outputs:, inputs:] = layer.weight.chunk(2)
    assert_same(layer(x), F.conv2d(x, masked, layer.bias, padding=padding))


def test_the_towers_meet_in_the_third_layer_and_nowhere_before_the_end() -> None:
    net = network()
    for name in CONVOLUTIONS[1:]:
        layer = net.get_submodule(name)
        x = random_doubles(1, layer.in_channels, 7, 7).requires_grad_()
        left, right = layer(x)[:, 0].sum(), layer(x)[:, -1].sum()
        for output, own in ((left, 0), (right, 1)):
            halves = torch.autograd.grad(output, x, retain_graph=True)[0].chunk(2, 1)
            assert halves[own].all() and halves[1 - own].any() == (name == "conv3")
    one = network("single")
    assert all(one.get_submodule(name).groups == 1 for name in CONVOLUTIONS)


# ---------------------------------------------------------------- dropout


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_dropout_leaves_out_its_share_and_changes_nothing_else(p: float) -> None:
    drop, x = model.Dropout(p), torch.rand(500, 400) + 0.5
    x.requires_grad_()
    y = drop(x)
    kept = y != 0
    assert torch.equal(y[kept], x[kept])
    assert (~kept).double().mean().item() == pytest.approx(p, abs=0.006)
    assert (~kept).double().mean(0).std() == pytest.approx(math.sqrt(p * (1 - p) / 500),
                                                           rel=0.2)
    y.sum().backward()
    assert torch.equal(x.grad, kept.float())
    assert not torch.equal(drop(x) != 0, kept)


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_later_all_features_are_scaled_to_what_they_were_on_average(p: float) -> None:
    drop, x = model.Dropout(p), torch.rand(50) + 0.5
    average = torch.stack([drop(x) for _ in range(4000)]).mean(0)
    assert torch.equal(drop.eval()(x), x * (1 - p))
    assert torch.allclose(average, drop(x), rtol=0, atol=0.06)


@each_variant
def test_the_paper_drops_outputs_of_two_layers_and_torchvision_their_inputs(
    variant: str
) -> None:
    """tanh is never zero, so what is zero was left out; torchvision enlarges the rest."""
    net = network(variant, activation="tanh", init="he")
    images = random_doubles(20, 3, 64, 64)
    whole = inputs_of(net, images)
    net.drop6.p = net.drop7.p = net.drop8.p = 0.0
    plain = inputs_of(net, images)
    net.drop6.p = net.drop7.p = net.drop8.p = 0.5
    training = inputs_of(net.train(), images)
    dropped = ("fc6", "fc7") if variant == "torchvision" else ("fc7", "fc8")
    for name in LAYERS:
        left_out = (training[name] == 0).double().mean().item()
        assert left_out == pytest.approx(0.5 if name in dropped else 0, abs=0.04), name
    first, factor = dropped[0], 2 if variant == "torchvision" else 1
    kept = training[first] != 0
    assert_same(training[first][kept], factor * plain[first][kept])
    assert_same(whole[first], plain[first] * factor / 2)


# ---------------------------------------------------------------- the start


@pytest.fixture(scope="module")
def newborn() -> dict[str, nn.Module]:
    """A network of quarter width for each start."""
    torch.manual_seed(3)
    return {init: model.AlexNet(10, "paper", 0.25, 64, init=init) for init in model.STARTS}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("init", ["paper", "he"])
def test_weights_start_normally_distributed_as_promised(
    newborn: dict, init: str, name: str
) -> None:
    """He: variance 2/n for n inputs of a neuron; a ninth of that where inputs vary by 3."""
    weight = newborn[init].get_submodule(name).weight.detach()
    expected = 0.01
    if init == "he" and name != "fc8":
        expected = math.sqrt(2 / weight[0].numel()) / (3 if name == "conv1" else 1)
    scaled = (weight / expected).flatten()
    assert scaled.std().item() == pytest.approx(1, rel=0.03)
    assert abs(scaled.mean().item()) < 5 / math.sqrt(len(scaled))
    assert (scaled.abs() > 2).double().mean().item() == pytest.approx(0.0455, abs=0.01)


@each_variant
def test_the_papers_biases_are_one_where_a_rectifier_needs_a_start(variant: str) -> None:
    net = network(variant, init="paper")
    ones = {name for name in LAYERS if net.get_submodule(name).bias.eq(1).all()}
    zeros = {name for name in LAYERS if net.get_submodule(name).bias.eq(0).all()}
    assert ones == {"conv2", "conv4", "conv5", "fc6", "fc7"}
    assert zeros == {"conv1", "conv3", "fc8"}
    assert not any(layer.bias.any() for layer in network(variant, init="he").children()
                   if hasattr(layer, "bias"))
