"""LeNet-5 with its modern parts, against formulas, closed forms and PyTorch's own layers."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from support import ROOT, load, run

lenet5 = load("lenet5_from_scratch")
model = lenet5.model

DIGITS = [str(digit) for digit in range(10)]
MODERN = {"activation": "relu", "batch_norm": True, "dropout": 0.0, "init": "he"}
LAYERS = ("conv1", "conv2", "fc1", "fc2", "fc3")
PLANS = list(itertools.product(model.ACTIVATIONS, (True, False)))


def random_doubles(*shape: int) -> torch.Tensor:
    """Random inputs in float64, where only true differences remain; they take gradients."""
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def network(seed: int = 0, **switches: object) -> nn.Module:
    """A newborn network in double precision; the same seed starts it in the same place."""
    torch.manual_seed(seed)
    return model.LeNet5(**switches).double()


def some_digits(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The first embedded training digits, as the network reads them."""
    data = lenet5.data.embedded_digits()
    pixels = data.train.images.float() / 255
    images = lenet5.data.to_input(data.train.images[:count], pixels.mean().item(),
                                  pixels.std().item())
    return images, data.train.labels[:count]


def shake(net: nn.Module) -> None:
    """Give every parameter and running average a value that is not the one it starts with."""
    with torch.no_grad():
        for name, value in net.state_dict().items():
            value.add_(0.3 * torch.rand_like(value))
            if name.endswith("bias"):
                value.sub_(0.15)


def assert_same(mine: torch.Tensor, other: torch.Tensor, atol: float = 1e-10) -> None:
    """Equal up to rounding, and nothing to do with broadcasting."""
    assert mine.shape == other.shape
    assert torch.allclose(mine, other, rtol=0, atol=atol)


# ---------------------------------------------------------------- counts


@pytest.mark.parametrize(("batch_norm", "count"), [(True, 61_932), (False, 61_706)])
def test_the_network_has_exactly_as_many_parameters_as_promised(batch_norm, count):
    """61,706 is LeNet-5's; (3) gives 2·226 channels a γ and a β and takes 226 biases away."""
    net = model.LeNet5(batch_norm=batch_norm)
    assert sum(p.numel() for p in net.parameters()) == count <= 62_000


def test_the_table_lists_every_layer_with_its_shape_and_parameters():
    assert model.layers(model.LeNet5()) == [
        ("conv1", (6, 28, 28), 150), ("norm1", (6, 28, 28), 12),
        ("conv2", (16, 10, 10), 2_400), ("norm2", (16, 10, 10), 32),
        ("fc1", (120,), 48_000), ("norm3", (120,), 240),
        ("fc2", (84,), 10_080), ("norm4", (84,), 168), ("fc3", (10,), 850),
    ]


def test_the_table_without_batch_normalisation_is_that_of_the_plain_plan():
    assert model.layers(model.LeNet5(batch_norm=False, classes=26)) == [
        ("conv1", (6, 28, 28), 156), ("conv2", (16, 10, 10), 2_416), ("fc1", (120,), 48_120),
        ("fc2", (84,), 10_164), ("fc3", (26,), 2_210),
    ]


def test_making_the_table_leaves_no_hook_behind():
    net = model.LeNet5()
    once = model.layers(net)
    net(torch.zeros(2, 1, 28, 28))
    assert model.layers(net) == once and len(once) == 9


@pytest.mark.parametrize(
    ("flags", "total", "rows"), [((), "61,932", 9), (("--no-batch-norm",), "61,706", 5)]
)
def test_python_model_py_prints_the_table_and_its_total(flags, total, rows):
    printed = run(ROOT / "lenet5_from_scratch" / "model.py", *flags).stdout.splitlines()
    assert printed[0].split() == ["layer", "output", "parameters"]
    assert printed[1].split()[:2] == ["conv1", "6×28×28"]
    assert printed[1 + rows].split() == ["total", total]


# ---------------------------------------------------------------- batch normalisation


def our_norm_and_torchs(shape: tuple[int, ...]) -> tuple[nn.Module, nn.Module]:
    """Both normalisations in double precision with the same γ, β and running averages."""
    theirs = nn.BatchNorm1d(shape[1]) if len(shape) == 2 else nn.BatchNorm2d(shape[1])
    ours, theirs = model.BatchNorm(shape[1]).double(), theirs.double()
    with torch.no_grad():
        theirs.weight.uniform_(0.5, 2).mul_(torch.tensor([-1.0]).double())
        theirs.bias.normal_()
        theirs.running_mean.normal_()
        theirs.running_var.uniform_(0.5, 2)
        for mine, other in ((ours.scale, theirs.weight), (ours.shift, theirs.bias),
                            (ours.mean, theirs.running_mean),
                            (ours.variance, theirs.running_var)):
            mine.copy_(other)
    return ours, theirs


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(7, 5), (4, 3, 6, 2)])
@pytest.mark.parametrize("way", ["forward", "written_out"])
def test_batch_normalisation_is_pytorchs_forward_and_backward(way, shape, training):
    ours, theirs = (layer.train(training) for layer in our_norm_and_torchs(shape))
    x, weight = 3 * random_doubles(*shape).detach() + 1, random_doubles(*shape).detach()
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    outputs = getattr(ours, way)(inputs[0]), theirs(inputs[1])
    for output in outputs:
        (output * weight).sum().backward()
    assert_same(*outputs)
    assert_same(inputs[0].grad, inputs[1].grad)
    assert_same(ours.scale.grad, theirs.weight.grad)
    assert_same(ours.shift.grad, theirs.bias.grad)
    assert_same(ours.mean, theirs.running_mean)
    assert_same(ours.variance, theirs.running_var)


@pytest.mark.parametrize("way", ["forward", "written_out"])
def test_the_running_averages_keep_nine_tenths_and_learn_from_training_alone(way):
    norm, x = model.BatchNorm(3).double(), 5 + 2 * random_doubles(50, 3).detach()
    getattr(norm, way)(x)
    assert_same(norm.mean, 0.1 * x.mean(0))
    assert_same(norm.variance, 0.9 + 0.1 * x.var(0))
    kept = norm.mean.clone(), norm.variance.clone()
    getattr(norm.eval(), way)(x)
    assert torch.equal(norm.mean, kept[0]) and torch.equal(norm.variance, kept[1])


def test_the_running_averages_become_mean_and_variance_of_all_pictures():
    norm, pictures = model.BatchNorm(2).double(), random_doubles(400, 2).detach() * 3 - 1
    for batch in range(300):
        norm(pictures[torch.randperm(400)[:200]])
        assert batch or not torch.allclose(norm.mean, pictures.mean(0), rtol=0, atol=0.2)
    assert torch.allclose(norm.mean, pictures.mean(0), rtol=0, atol=0.2)
    assert torch.allclose(norm.variance, pictures.var(0), rtol=0.1, atol=0)


def test_a_channel_in_which_nothing_ever_changes_stays_finite():
    norm = model.BatchNorm(2)
    x = torch.ones(8, 2, requires_grad=True)
    for way in (norm.forward, norm.written_out):
        output = way(x)
        output.sum().backward()
        assert torch.equal(output, torch.zeros(8, 2)) and x.grad.isfinite().all()


def test_what_the_fused_kernel_is_said_to_differ_by_is_rounding():
    assert 0 < model.fused_difference() < 1e-5


def test_the_averages_are_saved_with_the_weights_but_are_no_parameters():
    norm = model.BatchNorm(4)
    assert [name for name, _ in norm.named_parameters()] == ["scale", "shift"]
    assert set(norm.state_dict()) == {"scale", "shift", "mean", "variance"}


# ---------------------------------------------------------------- the whole network


def reference(activation: str, batch_norm: bool) -> nn.Sequential:
    """The same plan out of PyTorch's own parts, written independently of ours."""
    def norm(kind: type, channels: int) -> list[nn.Module]:
        return [kind(channels)] if batch_norm else []

    bend = nn.ReLU if activation == "relu" else nn.Tanh
    bias = not batch_norm
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2, bias=bias), *norm(nn.BatchNorm2d, 6), bend(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5, bias=bias), *norm(nn.BatchNorm2d, 16), bend(), nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120, bias=bias), *norm(nn.BatchNorm1d, 120), bend(),
        nn.Linear(120, 84, bias=bias), *norm(nn.BatchNorm1d, 84), bend(),
        nn.Linear(84, 10),
    ).double()


def our_network_and_the_reference(activation: str, batch_norm: bool) -> tuple:
    """Both networks in double precision, with the same weights and running averages."""
    ours = network(activation=activation, batch_norm=batch_norm)
    theirs = reference(activation, batch_norm)
    shake(ours)
    averages = [b for b in theirs.buffers() if b.is_floating_point()]
    with torch.no_grad():
        for mine, other in zip((*ours.parameters(), *ours.buffers()),
                               (*theirs.parameters(), *averages), strict=True):
            other.copy_(mine)
    return ours, theirs


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("activation", "batch_norm"), PLANS)
def test_the_network_is_the_reference_forward_and_backward(activation, batch_norm, training):
    ours, theirs = our_network_and_the_reference(activation, batch_norm)
    inputs = [torch.randn(6, 1, 28, 28, generator=torch.Generator().manual_seed(1),
                          dtype=torch.float64).requires_grad_() for _ in range(2)]
    logits = ours.train(training)(inputs[0]), theirs.train(training)(inputs[1])
    assert_same(*logits)
    labels = torch.tensor([3, 1, 4, 1, 5, 9])
    ours.loss(logits[0], labels, 0.1).backward()
    nn.CrossEntropyLoss(label_smoothing=0.1)(logits[1], labels).backward()
    assert_same(inputs[0].grad, inputs[1].grad)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert_same(mine.grad, other.grad)
    averages = [b for b in theirs.buffers() if b.is_floating_point()]
    for mine, other in zip(ours.buffers(), averages, strict=True):
        assert_same(mine, other)


def test_the_parts_one_after_another_are_the_whole():
    net, images = network().eval(), random_doubles(3, 1, 28, 28)
    maps = net.maps(images)
    features = net.features(maps)
    assert maps.shape == (3, 16, 10, 10) and features.shape == (3, 84)
    assert torch.equal(net.classify(maps), net(images))
    assert torch.equal(net.fc3(features), net(images))


def test_the_probabilities_are_those_of_the_logits_and_sum_to_one():
    logits = 5 * random_doubles(4, 10)
    beliefs = network().probabilities(logits)
    assert_same(beliefs, logits.exp() / logits.exp().sum(1, keepdim=True))
    assert_same(beliefs.sum(1), torch.ones(4).double())


# ---------------------------------------------------------------- the loss


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_the_loss_is_the_formula_of_label_smoothing_written_as_loops(smoothing):
    logits, labels, K = random_doubles(5, 7), [3, 0, 6, 3, 1], 7
    total = 0.0
    for z, label in zip(logits.tolist(), labels, strict=True):
        log_sum = math.log(sum(math.exp(value) for value in z))
        for k in range(K):
            wanted = smoothing / K + (1 - smoothing if k == label else 0)
            total += wanted * (log_sum - z[k])
    ours = network().loss(logits, torch.tensor(labels), smoothing)
    assert ours.item() == pytest.approx(total / 5, rel=0, abs=1e-12)
    theirs = nn.CrossEntropyLoss(label_smoothing=smoothing)(logits, torch.tensor(labels))
    assert_same(ours, theirs)


def test_with_smoothing_the_best_belief_is_not_certainty():
    """The loss is least where the beliefs are the smoothed targets: 1 - ε + ε/K and ε/K."""
    logits = torch.zeros(1, 10, dtype=torch.float64, requires_grad=True)
    best = torch.full((1, 10), 0.02, dtype=torch.float64)
    best[0, 4] = 0.82
    logits.data = best.log()
    net, label = network(), torch.tensor([4])
    net.loss(logits, label, 0.2).backward()
    assert logits.grad.abs().max() < 1e-12
    surer = logits.detach() + 5 * F.one_hot(label, 10)
    assert net.loss(surer, label, 0.2) > net.loss(logits, label, 0.2)
    assert net.loss(surer, label) < net.loss(logits, label)


# ---------------------------------------------------------------- the start


@pytest.fixture(scope="module")
def newborn() -> list[nn.Module]:
    """Twenty networks that nobody has trained."""
    return [network(seed).float() for seed in range(20)]


@pytest.mark.parametrize(
    ("layer", "inputs", "gain"),
    [("conv1", 25, 2), ("conv2", 150, 2), ("fc1", 400, 2), ("fc2", 120, 2), ("fc3", 84, 1)],
)
def test_weights_start_normally_distributed_with_the_variance_of_equation_5(
    newborn, layer, inputs, gain
):
    weights = torch.stack([net.get_submodule(layer).weight.detach() for net in newborn])
    scaled = (weights / math.sqrt(gain / inputs)).flatten()
    assert scaled.std().item() == pytest.approx(1, rel=0.06)
    assert scaled.mean().item() == pytest.approx(0, abs=0.08)
    assert (scaled.abs() > 2).double().mean().item() == pytest.approx(0.0455, abs=0.02)


@pytest.mark.parametrize("batch_norm", [True, False])
def test_biases_start_at_zero_and_normalisations_at_one_and_zero(batch_norm):
    state = model.LeNet5(batch_norm=batch_norm).state_dict()
    biases = [name for name in state if name.endswith("bias")]
    assert len(biases) == (1 if batch_norm else 5)
    for name, value in state.items():
        if name.endswith(("bias", "shift", "mean")):
            assert (value == 0).all(), name
        if name.endswith(("scale", "variance")):
            assert (value == 1).all(), name


def test_behind_the_start_of_he_a_signal_keeps_its_size():
    """Each of two linear layers with ReLU hands on the mean square that it was given."""
    ratios = []
    for seed in range(40):
        net, maps = network(seed, batch_norm=False), random_doubles(8, 16, 10, 10)
        arriving = F.max_pool2d(maps, 2).square().mean()
        ratios.append((net.features(maps).square().mean() / arriving).item())
    assert sum(ratios) / 40 == pytest.approx(1, rel=0.2)


def test_the_newborn_network_is_as_unsure_as_its_start_says():
    """Half the variance that (3) makes survives ReLU, so a logit's is 1/2; and with normal
    logits of variance v the loss is ln K + v/2 - (e^v - 1) / 2K, a little above guessing.
    """
    images, labels = some_digits(500)
    logits = [network(seed).float()(images) for seed in range(12)]
    variance = torch.stack(logits).square().mean().item()
    loss = sum(F.cross_entropy(z, labels).item() for z in logits) / 12
    assert variance == pytest.approx(0.5, rel=0.15)
    expected = math.log(10) + 0.5 / 2 - (math.exp(0.5) - 1) / 20
    assert loss == pytest.approx(expected, abs=0.08)
    for z in logits:
        assert 2.2 < F.cross_entropy(z, labels).item() < 2.9


# ---------------------------------------------------------------- the switches


def test_tanh_changes_nothing_but_the_four_bends():
    relu, tanh = network(), network(activation="tanh")
    for (name, mine), (other, value) in zip(relu.state_dict().items(),
                                            tanh.state_dict().items(), strict=True):
        assert name == other and torch.equal(mine, value)
    images = random_doubles(4, 1, 28, 28)
    with torch.no_grad():
        for net, least in ((relu, 0), (tanh, -1)):
            for values in (net.maps(images), net.features(net.maps(images))):
                assert values.min() >= least
                assert (values < 0).any() == (least < 0)
        assert tanh.maps(images).max() <= 1 < relu.maps(images).max()


def test_without_batch_normalisation_there_are_biases_instead_and_batch_mates_are_free():
    names = {with_it: set(model.LeNet5(batch_norm=with_it).state_dict())
             for with_it in (True, False)}
    parts = ("scale", "shift", "mean", "variance")
    assert names[True] - names[False] == {f"norm{i}.{part}" for i in range(1, 5)
                                          for part in parts}
    assert names[False] - names[True] == {f"{layer}.bias" for layer in LAYERS[:-1]}
    images = random_doubles(4, 1, 28, 28)
    plain, normal = network(batch_norm=False), network()
    assert_same(plain(images)[:2], plain(images[:2]), atol=1e-12)
    assert not torch.allclose(normal(images)[:2], normal(images[:2]), rtol=0, atol=0.1)


def test_a_normalisation_that_has_seen_nothing_is_almost_no_normalisation():
    """With mean 0, variance 1 and biases of 0 the two plans are one and the same network."""
    normal, plain = network().eval(), network(batch_norm=False).eval()
    plain.load_state_dict({name: value for name, value in normal.state_dict().items()
                           if name in plain.state_dict()}, strict=False)
    images = random_doubles(3, 1, 28, 28)
    assert torch.allclose(normal(images), plain(images), rtol=1e-3, atol=1e-3)
    assert not torch.equal(normal(images), plain(images))


def test_dropout_changes_no_weight_and_nothing_after_training():
    plain, dropping = network(), network(dropout=0.4)
    images = random_doubles(5, 1, 28, 28)
    for mine, other in zip(plain.state_dict().values(), dropping.state_dict().values()):
        assert torch.equal(mine, other)
    assert not torch.allclose(plain(images), dropping(images))
    for net in (plain, dropping):
        net.load_state_dict(plain.state_dict())
        net.eval()
    assert torch.equal(plain(images), dropping(images))
    assert torch.equal(dropping(images), dropping(images))


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_dropout_leaves_its_share_out_before_each_of_the_last_two_layers(share):
    """What stays is enlarged, so that the sum is the same on average; tanh is never 0."""
    net = network(activation="tanh", batch_norm=False, dropout=share)
    seen = {}
    for name in LAYERS:
        net.get_submodule(name).register_forward_hook(
            lambda _, inputs, output, name=name: seen.update({name: (inputs[0], output)}))
    with torch.no_grad():
        net(random_doubles(200, 1, 28, 28))
    for name in LAYERS:
        left_out = (seen[name][0] == 0).double().mean().item()
        expected = share if name in ("fc2", "fc3") else 0
        assert left_out == pytest.approx(expected, abs=0.02 if expected else 0), name
    for before, after in (("fc1", "fc2"), ("fc2", "fc3")):
        whole, kept = seen[before][1].tanh(), seen[after][0]
        assert_same(kept[kept != 0], whole[kept != 0] / (1 - share))


@pytest.mark.parametrize("batch_norm", [True, False])
def test_the_pytorch_start_is_that_of_the_plain_layers(batch_norm):
    net = network(7, init="pytorch", batch_norm=batch_norm)
    torch.manual_seed(7)
    theirs = [layer for layer in reference("relu", batch_norm)
              if isinstance(layer, nn.Conv2d | nn.Linear)]
    for name, layer in zip(LAYERS, theirs, strict=True):
        ours = net.get_submodule(name)
        assert torch.equal(ours.weight, layer.weight)
        assert (ours.bias is None) == (layer.bias is None)
        assert ours.bias is None or torch.equal(ours.bias, layer.bias)
    he = network(7, batch_norm=batch_norm)
    assert set(he.state_dict()) == set(net.state_dict())
    for name in LAYERS:
        assert not torch.equal(he.get_submodule(name).weight, net.get_submodule(name).weight)


@pytest.mark.parametrize("switches", [{"activation": "gelu"}, {"init": "xavier"},
                                      {"activation": "ReLU"}, {"init": ""}])
def test_an_unknown_activation_or_start_is_refused_with_the_known_ones(switches):
    with pytest.raises(ValueError, match="relu, tanh and init one of he, pytorch, not"):
        model.LeNet5(**switches)


def test_a_configuration_builds_the_network_that_it_describes():
    config = {"classes": list("abc"), "activation": "tanh", "batch_norm": False,
              "dropout": 0.25, "init": "pytorch", "mean": 0.1, "std": 0.3, "data": "mine"}
    built = model.build(config)
    assert built(torch.zeros(2, 1, 28, 28)).shape == (2, 3)
    assert isinstance(built.norm1, nn.Identity) and built.dropout.p == 0.25
    assert built.maps(torch.randn(2, 1, 28, 28)).min() < 0
    torch.manual_seed(3)
    built = model.build({"classes": DIGITS, **MODERN})
    torch.manual_seed(3)
    assert torch.equal(built.fc1.weight, model.LeNet5().fc1.weight)


# ---------------------------------------------------------------- behaviour


def test_a_batch_of_twenty_digits_can_be_learned_by_heart():
    images, labels = some_digits(20)
    net = network().float()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.005)
    for _ in range(80):
        loss = net.loss(net(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    beliefs = net.eval().probabilities(net(images))
    assert (beliefs.gather(1, labels[:, None]) > 0.9).all()


@pytest.mark.parametrize(("activation", "batch_norm"), PLANS)
def test_every_parameter_gets_a_gradient_that_is_finite_and_not_zero(activation, batch_norm):
    images, labels = some_digits(20)
    net = network(activation=activation, batch_norm=batch_norm).float()
    net.loss(net(images), labels).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_every_pixel_of_a_picture_has_a_say_in_the_answer():
    net, images = network(activation="tanh").eval(), random_doubles(4, 1, 28, 28)
    net(images)[:, 0].sum().backward()
    assert (images.grad.abs().amax(dim=(0, 1)) > 0).sum() >= 28 * 28 * 0.9


def test_after_training_batch_mates_change_nothing():
    net, images = network(dropout=0.5), random_doubles(7, 1, 28, 28)
    net(images)                      # the averages have seen something
    net.eval()
    assert_same(net(images)[3:4], net(images[3:4]), atol=1e-12)
    net(images)[0].sum().backward()
    assert (images.grad[0] != 0).any() and (images.grad[1:] == 0).all()


def test_the_gradient_of_batch_normalisation_has_no_part_along_a_constant_or_along_its_input():
    """Neither the offset nor the size of x changes y, but for ε; so no slope points there."""
    norm = model.BatchNorm(3).double()
    x = (5 * torch.randn(64, 3, dtype=torch.float64) + 2).requires_grad_()
    for way in (norm, norm.written_out):
        (slope,) = torch.autograd.grad((way(x) * torch.randn_like(x)).sum(), x)
        assert slope.abs().mean() > 1e-2
        assert slope.sum(0).abs().max() < 1e-10
        assert (slope * x).sum(0).abs().max() < 1e-4
