"""AlexNet and its parts, against formulas, torchvision's model and the paper's numbers."""

import copy
import functools
import inspect
import math
import re

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
    assert torch.equal(mine, other) or (mine - other).abs().max() <= atol


def inputs_of(net: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """What each layer with weights is given while a copy of the network reads pictures."""
    seen, net = {}, copy.deepcopy(net)
    for name in LAYERS:
        net.get_submodule(name).register_forward_pre_hook(
            lambda _, given, name=name: seen.update({name: given[0].clone()}))
    net(images)
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
    assert model.layers(net, size) == rows         # no hook of the first time is left
    assert [shape[-1] for name, shape, *_ in rows if len(shape) == 3] == SIDES
    assert net.side == 6 and net.fc6.in_features == 36 * net.conv5.out_channels


def test_the_sides_in_the_comments_of_the_code_are_true() -> None:
    comments = re.findall(r"# ([^(]*)$", inspect.getsource(model.AlexNet.maps), re.MULTILINE)
    assert [int(number) for number in re.findall(r"\d+", " ".join(comments))] == SIDES


def test_small_pictures_get_a_finer_first_layer() -> None:
    found = [model.stem(size, modern=False) for size in (224, 112, 111, 56, 55, 32)]
    assert found == [(4, 11, 0)] * 2 + [(2, 7, 2)] * 2 + [(1, 5, 2)] * 2
    assert model.stem(224, modern=True) == (4, 11, 2)


@each_variant
@pytest.mark.parametrize("size", [15, 32, 55, 56, 63, 97, 111, 112, 115, 130, 225])
def test_a_network_for_any_size_reads_pictures_of_that_size(variant: str, size: int) -> None:
    net = network(variant, image_size=size, width=0.02).float()
    assert net(torch.randn(2, 3, size, size)).shape == (2, 10)
    assert net.maps(torch.randn(1, 3, size, size))[-1].size(-1) == net.side


def test_width_scales_channels_and_hidden_layers_in_whole_pairs() -> None:
    for width, channels, hidden in ((0.5, [48, 128, 192, 192, 128], 2048),
                                    (0.3, [28, 76, 116, 116, 76], 1229), (0.001, [2] * 5, 4)):
        net = network(width=width)
        assert [net.get_submodule(name).out_channels for name in CONVOLUTIONS] == channels
        assert net.fc6.out_features == net.fc7.out_features == hidden


def test_the_frame_adds_three_zeros_to_the_right_and_below_at_224_pixels() -> None:
    net, images = network(image_size=224, init="he"), random_doubles(2, 3, 224, 224) + 9
    framed = net.frame(images)
    assert framed.shape == (2, 3, 227, 227)
    assert torch.equal(framed[..., :224, :224], images)
    assert not framed[..., 224:, :].any() and not framed[..., 224:].any()
    assert_same(net(images), net(F.pad(images, (0, 3, 0, 3))))
    assert not torch.allclose(net(images), net(F.pad(images, (3, 0, 3, 0))), atol=1e-9)


def test_there_is_no_frame_where_all_windows_fit_or_pytorch_pads() -> None:
    for variant, size in (("paper", 227), ("paper", 32), ("torchvision", 224)):
        frame, images = network(variant, image_size=size).frame, torch.randn(1, 3, size, size)
        assert torch.equal(frame(images), images)


# ---------------------------------------------------------------- torchvision's model


@pytest.fixture(scope="module")
def both() -> tuple[nn.Module, nn.Module]:
    """Our network and torchvision's, with torchvision's random weights in both."""
    torch.manual_seed(1)
    theirs, ours = torchvision_alexnet(), copy.deepcopy(full("torchvision"))
    weights = alexnet.published.translated(theirs.state_dict())
    assert set(weights) == set(ours.state_dict())
    ours.load_state_dict(weights)
    return ours, theirs


@pytest.mark.parametrize(("size", "training"), [
    (63, False), (63, True), (224, False), (256, False)])
def test_it_is_torchvisions_network_forward_and_backward(
    both: tuple, size: int, training: bool
) -> None:
    """While training as well: the masks of dropout are drawn in the same order."""
    labels, images = torch.tensor([3, 141]), torch.randn(2, 3, size, size)
    twins, logits = [images.clone().requires_grad_() for _ in range(2)], []
    for net, twin in zip(both, twins):
        torch.manual_seed(5)
        net.train(training).zero_grad(set_to_none=False)
        logits.append(net(twin))
        F.cross_entropy(logits[-1], labels).backward()
    ours, theirs = both
    assert_same(*logits, atol=1e-6)
    assert_same(twins[0].grad, twins[1].grad, atol=1e-6)
    gradients = alexnet.published.translated(
        {name: p.grad for name, p in theirs.named_parameters()})
    for name, parameter in ours.named_parameters():
        assert gradients[name].any() and parameter.grad.any()
        assert_same(parameter.grad, gradients[name], atol=1e-6)


# ---------------------------------------------------------------- local response normalisation


def normalised(a: Tensor, k: float, n: int, alpha: float, beta: float) -> Tensor:
    """The paper's formula, one channel after another."""
    N, channels = a.size(1), []
    for i in range(N):
        near = range(max(0, i - n // 2), min(N - 1, i + n // 2) + 1)
        channels.append(a[:, i] / (k + alpha * sum(a[:, j] ** 2 for j in near)) ** beta)
    return torch.stack(channels, dim=1)


@pytest.mark.parametrize("k", [1.0, 2.0])
@pytest.mark.parametrize("n", [3, 5])
def test_response_normalisation_is_the_formula_forward_and_backward(k: float, n: int) -> None:
    a, g = 9 * random_doubles(2, 8, 3, 2), random_doubles(2, 8, 3, 2)
    twins = [a.clone().requires_grad_() for _ in range(2)]
    mine = model.LocalResponseNorm(k, n, 0.02, 0.6)(twins[0])
    loops = normalised(twins[1], k, n, 0.02, 0.6)
    assert_same(mine, loops)
    for b in (mine, loops):
        b.backward(g)
    assert_same(twins[0].grad, twins[1].grad)
    assert (mine - a * k**-0.6).abs().max() > 1     # neighbours count


def test_response_normalisation_is_pytorchs_with_an_alpha_n_times_as_large() -> None:
    a = 30 * random_doubles(2, 12, 4, 4)
    assert_same(model.LocalResponseNorm()(a),
                nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)(a))
    assert_same(model.LocalResponseNorm(n=3)(a), nn.LocalResponseNorm(3, 3e-4, k=2.0)(a))


def test_an_even_number_of_neighbours_is_refused() -> None:
    with pytest.raises(ValueError, match="n is 4: an even number"):
        model.LocalResponseNorm(n=4)


def test_under_mixed_precision_the_normalisation_still_computes_in_32_bits() -> None:
    norm = model.LocalResponseNorm()
    for dtype in (torch.float32, torch.bfloat16):
        a = (50 * torch.randn(2, 8, 5, 5)).to(dtype)
        with torch.autocast("cpu", torch.bfloat16):
            found = norm(a)
        assert found.dtype == torch.float32 and torch.equal(found, norm(a.float()))
        assert_same(found.double(), norm(a.double()), atol=1e-4)


@pytest.mark.parametrize("channel", [0, 4, 9])
def test_an_active_channel_quietens_two_neighbours_on_each_side(channel: int) -> None:
    norm, a = model.LocalResponseNorm(alpha=0.01), torch.zeros(1, 10, 2, 2).double()
    a[0, channel, 1, 0] = 30.0
    alone = norm(a)
    assert alone[0, channel, 1, 0].item() == pytest.approx(30 * (2 + 9) ** -0.75, rel=1e-12)
    changed = (norm(a + 1) - norm(torch.ones_like(a)) - alone).abs() > 1e-3
    assert changed[0, :, 1, 0].tolist() == [abs(i - channel) <= 2 for i in range(10)]
    assert (alone != 0).sum() == 1 and changed.sum() == changed[0, :, 1, 0].sum()


def test_only_the_first_two_layers_are_normalised_and_without_it_nothing_is() -> None:
    net, images, calls = network(), random_doubles(2, 3, 64, 64), []
    net.norm.register_forward_hook(lambda _, given, output: calls.append(given[0]))
    maps = net.maps(images)
    assert [a.size(1) for a in calls] == [net.conv1.out_channels, net.conv2.out_channels]
    assert all((a >= 0).all() for a in calls)      # what is normalised has been rectified
    assert_same(net.pool(net.norm(F.relu(net.conv1(net.frame(images))))), maps[0])
    assert isinstance(network(lrn=False).norm, nn.Identity)


# ---------------------------------------------------------------- two towers


@pytest.mark.parametrize("name", ["conv2", "conv4", "conv5"])
def test_a_convolution_in_two_groups_is_two_towers_side_by_side(name: str) -> None:
    layer = network().get_submodule(name)
    x, padding = random_doubles(2, layer.in_channels, 9, 9), layer.padding
    inputs, outputs = layer.in_channels // 2, layer.out_channels // 2
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


# ---------------------------------------------------------------- dropout


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_dropout_leaves_out_a_share_and_later_scales_to_the_average(p: float) -> None:
    drop, x = model.Dropout(p), (torch.rand(500, 400) + 0.5).requires_grad_()
    y = drop(x)
    kept = y != 0
    assert torch.equal(y[kept], x[kept]) and not torch.equal(drop(x) != 0, kept)
    assert (~kept).double().mean().item() == pytest.approx(p, abs=0.006)
    y.sum().backward()
    assert torch.equal(x.grad, kept.float())
    average = torch.stack([drop(x[0]) for _ in range(4000)]).mean(0)
    assert torch.equal(drop.eval()(x), x * (1 - p))
    assert torch.allclose(average, drop(x[0]), rtol=0, atol=0.06)


@each_variant
def test_the_paper_drops_outputs_of_two_layers_and_torchvision_their_inputs(
    variant: str
) -> None:
    """tanh is never zero, so what is zero was left out; torchvision enlarges the rest."""
    net, images = network(variant, activation="tanh"), random_doubles(20, 3, 64, 64)
    plain = inputs_of(network(variant, activation="tanh", dropout=0.0), images)
    later, training = inputs_of(net, images), inputs_of(net.train(), images)
    dropped = ("fc6", "fc7") if variant == "torchvision" else ("fc7", "fc8")
    for name in LAYERS:
        left_out = (training[name] == 0).double().mean().item()
        assert left_out == pytest.approx(0.5 if name in dropped else 0, abs=0.04), name
    first, factor = dropped[0], 2 if variant == "torchvision" else 1
    kept = training[first] != 0
    assert_same(training[first][kept], factor * plain[first][kept])
    assert_same(later[first], factor / 2 * plain[first])


# ---------------------------------------------------------------- the start


@pytest.mark.parametrize("init", ["paper", "he"])
def test_weights_start_normally_distributed_as_promised(init: str) -> None:
    """He: variance 2/n for n inputs of a neuron; a ninth of that where inputs vary by 3."""
    net = network(width=0.25, init=init)
    for name in LAYERS:
        weight, expected = net.get_submodule(name).weight, 0.01
        if init == "he" and name != "fc8":
            expected = math.sqrt(2 / weight[0].numel()) / (3 if name == "conv1" else 1)
        scaled = (weight / expected).flatten()
        assert scaled.std().item() == pytest.approx(1, rel=0.04), name
        assert abs(scaled.mean().item()) < 5 / math.sqrt(len(scaled)), name
        assert (scaled.abs() > 2).double().mean().item() == pytest.approx(0.0455, abs=0.01)


@each_variant
def test_the_papers_biases_are_one_where_a_rectifier_needs_a_start(variant: str) -> None:
    net = network(variant, init="paper")
    found = {name: net.get_submodule(name).bias.unique().tolist() for name in LAYERS}
    ones = ("conv2", "conv4", "conv5", "fc6", "fc7")
    assert found == {name: [1.0 if name in ones else 0.0] for name in LAYERS}
    assert not any(layer.bias.any() for layer in network(variant, init="he").children()
                   if hasattr(layer, "bias"))


def test_the_pytorch_start_is_that_of_the_plain_layers() -> None:
    net = network("torchvision", seed=7).float()
    torch.manual_seed(7)
    for name in LAYERS:
        plain = copy.deepcopy(net.get_submodule(name))
        plain.reset_parameters()
        assert torch.equal(net.get_submodule(name).weight, plain.weight), name
        assert torch.equal(net.get_submodule(name).bias, plain.bias), name


@pytest.mark.parametrize("classes", [10, 1000])
def test_hes_start_has_no_opinion_to_begin_with(classes: int) -> None:
    """Small logits of variance v make the loss ln K + v/2, and v is about a tenth here."""
    images, labels = 3 * random_doubles(40, 3, 64, 64), torch.arange(40) % classes
    net = network(width=0.25, init="he", classes=classes)
    logits = net(images)
    assert 0.001 < logits.var().item() < 0.2
    assert F.cross_entropy(logits, labels).item() == pytest.approx(math.log(classes), abs=0.1)


# ---------------------------------------------------------------- the switches


def test_tanh_bends_where_the_rectifier_would() -> None:
    nets = {name: network(activation=name, init="he") for name in model.ACTIVATIONS}
    images = random_doubles(4, 3, 64, 64)
    for name, least in (("relu", 0), ("tanh", -1)):
        maps = nets[name].maps(images)
        for values in (*maps, nets[name].features(maps[-1])):
            assert values.min() >= least and (values < 0).any() == (least < 0)
            assert values.max() <= 1 or name == "relu"


def test_windows_that_do_not_overlap_are_of_two_pixels() -> None:
    net, images = network(overlap=False, lrn=False), random_doubles(2, 3, 64, 64)
    assert_same(net.maps(images)[0], F.max_pool2d(F.relu(net.conv1(net.frame(images))), 2))


@pytest.mark.parametrize(("switches", "words"), [
    ({"classes": 1}, "two classes"), ({"activation": "gelu"}, "relu, tanh"),
    ({"init": "zero"}, "paper, he, pytorch"), ({"image_size": 14}, "14 pixels are too small"),
    ({"image_size": 7, "overlap": False}, "7 pixels are too small")])
def test_a_description_that_makes_no_sense_is_refused(switches: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        network(**switches)


def test_pictures_of_a_size_the_network_was_not_built_for_are_refused() -> None:
    with pytest.raises(ValueError, match="images of 96 pixels leave 5 .* was built for 3"):
        network()(random_doubles(1, 3, 96, 96))


# ---------------------------------------------------------------- behaviour


@each_variant
def test_batch_mates_change_nothing_and_the_picture_matters(variant: str) -> None:
    net, images = network(variant, init="he"), random_doubles(4, 3, 64, 64)
    together = net(images)
    for i in range(4):
        assert_same(together[i : i + 1], net(images[i : i + 1]))
    assert torch.pdist(together).min() > 1e-4


def learn(net: nn.Module, count: int, size: int, steps: int) -> list[float]:
    """The losses while one batch of random pictures is learned, whose patches are of 1/8."""
    images = F.interpolate(torch.randn(count, 3, 8, 8), size, mode="bilinear")
    images, labels = 3 * images / images.std(), torch.arange(count) % 10
    optimizer, losses = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9), []
    while len(losses) < steps and (not losses or losses[-1] > 0.05):
        loss = F.cross_entropy(net.train()(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert (net.eval()(images).argmax(1) == labels).all(), losses
    return losses


@each_variant
def test_a_tiny_batch_can_be_learned_by_heart(variant: str) -> None:
    net = network(variant, width=0.25, init="he", dropout=0.0).float()
    assert learn(net, 8, 64, steps=30)[-1] < 0.05


@pytest.mark.slow
def test_the_whole_network_learns_32_random_pictures_by_heart() -> None:
    learn(model.AlexNet(10, image_size=227, init="he", dropout=0.0), 32, 227, steps=60)


# ---------------------------------------------------------------- the command line


@each_variant
def test_the_table_is_printed_with_its_total(
    variant: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    built, products = [], {"paper": "724,406,816", "single": "1,135,256,096",
                           "torchvision": "714,188,480"}
    net = full(variant)
    monkeypatch.setattr(model, "AlexNet", lambda *wanted: built.append(wanted) or net)
    assert model.main(["--variant", variant]) == 0 and built == [(1000, variant, 1.0, 224)]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["layer", "output", "parameters", "multiply-adds"]
    assert lines[1].split()[:2] == ["conv1", f"{net.conv1.out_channels}×55×55"]
    assert lines[-1].split() == ["total", f"{COUNTS[variant]:,}", products[variant]]
    assert len(lines) == 13 and len({len(line) for line in lines}) == 1


def test_alexnet_py_is_a_door_to_the_same_objects() -> None:
    assert all(getattr(alexnet.alexnet, name) is getattr(model, name)
               for name in (*alexnet.alexnet.__all__, "main"))
    printed = run(ROOT / "alexnet_from_scratch" / "alexnet.py", "--width", "0.1").stdout
    assert re.search(r"conv1 +10×55×55 ", printed) and "total" in printed
