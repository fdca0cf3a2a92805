"""LeNet-5, both networks, against the numbers and formulas of the paper and against PyTorch."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import gradcheck

from support import ROOT, load, run

lenet = load("lenet_from_scratch")
model = lenet.model

DIGITS = [str(digit) for digit in range(10)]

# Name, output shape, trainable parameters, connections: section II-B of the paper.
PAPER_LAYERS = [
    ("c1", (6, 28, 28), 156, 122_304),
    ("s2", (6, 14, 14), 12, 5_880),
    ("c3", (16, 10, 10), 1_516, 151_600),
    ("s4", (16, 5, 5), 32, 2_000),
    ("c5", (120, 1, 1), 48_120, 48_120),
    ("f6", (84,), 10_164, 10_164),
    ("output", (10,), 0, 840),
]

# Table I as the paper prints it: a row is a map of S2, a column a map of C3.
PAPER_TABLE = """
X...XXX..XXXX.XX
XX...XXX..XXXX.X
XXX...XXX..X.XXX
.XXX..XXXX..X.XX
..XXX..XXXX.XX.X
...XXX..XXXX.XXX
""".split()

# Figure 3 as other programs transcribe it: a byte is a row of seven pixels, left to right.
TRANSCRIPTION = """
3e 00 1c 36 63 63 63 63 36 1c 00 00
0c 1c 3c 0c 0c 0c 0c 0c 0c 3f 00 00
3e 00 3e 63 43 06 1c 30 60 7f 00 00
7f 03 06 0c 1e 03 03 03 63 3e 00 00
3e 00 00 33 33 73 63 63 67 3f 03 03
3e 00 7f 60 60 3c 1e 03 63 3e 00 00
1e 30 60 60 7e 73 63 63 73 3e 00 00
7f 03 03 06 0c 0c 18 18 18 18 00 00
3e 63 63 63 3e 63 63 63 63 3e 00 00
3e 67 63 63 67 3f 03 03 06 3c 00 00
""".strip().splitlines()


def random_doubles(*shape: int) -> torch.Tensor:
    """Random inputs in float64, where only true differences remain; they take gradients."""
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def twenty_digits(variant: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The first twenty embedded training digits as a network of this variant reads them."""
    digits = lenet.data.embedded_digits()
    config = lenet.train.configure(variant, digits)
    images, labels = digits.train.images[:20], digits.train.labels[:20]
    return lenet.data.to_input(images, config["mean"], config["std"]), labels


def build(variant: str) -> nn.Module:
    return model.build({"variant": variant, "classes": DIGITS})


# ---------------------------------------------------------------- counts


def test_the_classic_network_has_61706_parameters():
    assert sum(p.numel() for p in model.LeNet().parameters()) == 61_706


def test_the_1998_network_has_60000_parameters():
    assert sum(p.numel() for p in model.LeNet1998().parameters()) == 60_000


def test_every_layer_of_1998_has_the_shape_parameters_and_connections_of_the_paper():
    assert model.layers(model.LeNet1998()) == PAPER_LAYERS


def test_the_1998_network_has_340908_connections():
    assert sum(row[3] for row in model.layers(model.LeNet1998())) == 340_908


def test_the_layers_of_the_classic_network_add_up_to_all_its_parameters():
    assert sum(row[2] for row in model.layers(model.LeNet())) == 61_706


@pytest.mark.parametrize(
    ("flags", "last_line"),
    [((), ["total", "61,706", "423,038"]),
     (("--variant", "1998"), ["total", "60,000", "340,908"])],
)
def test_python_model_py_prints_the_totals(flags, last_line):
    """423,038 = 6·26·28² + 16·151·10² + 120·401 + 84·121 + 10·85, counted by hand."""
    printed = run(ROOT / "lenet_from_scratch" / "model.py", *flags).stdout
    assert printed.splitlines()[-1].split() == last_line


def test_python_model_py_prints_the_parameters_of_every_layer_of_1998(capsys):
    model.main(["--variant", "1998"])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[1:-1]]
    assert [line[2] for line in lines] == ["156", "12", "1,516", "32", "48,120", "10,164", "0"]


# ---------------------------------------------------------------- the classic network


def reference() -> nn.Sequential:
    """The classic LeNet-5 out of PyTorch's own parts, written independently of ours."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(),
        nn.Linear(120, 84), nn.ReLU(),
        nn.Linear(84, 10),
    )


def our_classic_and_the_reference() -> tuple[nn.Module, nn.Module]:
    """Both networks in double precision, with the same weights."""
    ours, theirs = model.LeNet().double(), reference().double()
    with torch.no_grad():
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            other.copy_(mine)
    return ours, theirs


def test_the_classic_network_computes_what_the_reference_computes():
    ours, theirs = our_classic_and_the_reference()
    images = random_doubles(5, 1, 28, 28)
    assert torch.allclose(ours(images), theirs(images), rtol=0, atol=1e-10)


def test_the_classic_network_has_the_gradients_of_the_reference():
    ours, theirs = our_classic_and_the_reference()
    images, labels = random_doubles(5, 1, 28, 28), torch.arange(5)
    ours.loss(ours(images), labels).backward()
    nn.CrossEntropyLoss()(theirs(images), labels).backward()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(mine.grad, other.grad, rtol=0, atol=1e-10)


def test_the_classic_network_has_as_many_logits_as_the_user_has_classes():
    letters = model.build({"variant": "classic", "classes": list("abcdefghijklmnopqrstuvwxyz")})
    assert letters(torch.zeros(2, 1, 28, 28)).shape == (2, 26)


def test_the_probabilities_of_the_classic_network_sum_to_one():
    net = model.LeNet().double()
    beliefs = net.probabilities(net(random_doubles(5, 1, 28, 28)))
    assert torch.allclose(beliefs.sum(1), torch.ones(5).double(), rtol=0, atol=1e-12)


# ---------------------------------------------------------------- the parts of 1998


def test_subsample_is_the_formula_of_the_paper_written_as_loops():
    layer, x = model.Subsample(3).double(), random_doubles(2, 3, 4, 6)
    expected = torch.empty(2, 3, 2, 3, dtype=torch.float64)
    for b, i, row, column in torch.cartesian_prod(*map(torch.arange, (2, 3, 2, 3))).tolist():
        block = [x[b, i, 2 * row + y, 2 * column + z] for y in (0, 1) for z in (0, 1)]
        expected[b, i, row, column] = layer.coefficient[i] * sum(block) + layer.bias[i]
    assert torch.allclose(layer(x), expected, rtol=0, atol=1e-12)


def test_tableconv_is_one_convolution_an_output_map_over_only_the_listed_maps():
    layer, x = model.TableConv(model.C3_TABLE).double(), random_doubles(2, 6, 14, 14)
    used, maps = 0, []
    for o, inputs in enumerate(model.C3_TABLE):
        listed = [int(i) for i in inputs]
        kernels = layer.kernels[used : used + len(listed)]
        maps.append(F.conv2d(x[:, listed], kernels[None], layer.bias[o : o + 1]))
        used += len(listed)
    assert torch.allclose(layer(x), torch.cat(maps, dim=1), rtol=0, atol=1e-12)


def test_tableconv_is_a_full_convolution_with_the_missing_kernels_masked_out():
    layer, x = model.TableConv(model.C3_TABLE).double(), random_doubles(2, 6, 14, 14)
    full = nn.Conv2d(6, 16, 5).double()
    mask = torch.tensor([[[[str(i) in row]] for i in range(6)] for row in model.C3_TABLE])
    with torch.no_grad():
        full.weight.copy_(layer.weight() + torch.randn(16, 6, 5, 5) * ~mask)
        full.bias.copy_(layer.bias)
    masked = F.conv2d(x, full.weight * mask, full.bias)
    assert torch.allclose(layer(x), masked, rtol=0, atol=1e-12)


def test_rbf_is_the_squared_distance_written_as_loops():
    layer, drawing = model.RBF().double(), random_doubles(3, 84)
    centres = model.codes().tolist()
    for b, pixels in enumerate(drawing.tolist()):
        for digit, centre in enumerate(centres):
            y = sum((x - w) ** 2 for x, w in zip(pixels, centre, strict=True))
            assert layer(drawing)[b, digit].item() == pytest.approx(-y, rel=0, abs=1e-12 * y)


def test_squash_is_the_formula_of_the_paper():
    for a in (-3.0, -1.0, -0.1, 0.0, 0.7, 5.0):
        expected = 1.7159 * math.tanh(2 / 3 * a)
        got = model.squash(torch.tensor(a, dtype=torch.float64)).item()
        assert got == pytest.approx(expected, rel=0, abs=1e-12)


def test_the_1998_network_is_its_parts_one_after_another_as_in_figure_2():
    net, images = model.LeNet1998().double(), random_doubles(2, 1, 28, 28)
    framed = torch.full((2, 1, 32, 32), -0.1, dtype=torch.float64)
    framed[:, :, 2:30, 2:30] = images
    x = framed
    for layer in (net.c1, net.s2, net.c3, net.s4, net.c5):
        x = 1.7159 * torch.tanh(2 / 3 * layer(x))
    drawing = 1.7159 * torch.tanh(2 / 3 * net.f6(x.reshape(2, 120)))
    distances = (drawing.unsqueeze(1) - model.codes().double()).pow(2).sum(2)
    assert torch.allclose(net(images), -distances, rtol=0, atol=1e-10)


# ---------------------------------------------------------------- derivatives of 1998


@pytest.mark.parametrize(
    ("make", "shape"),
    [(lambda: model.Subsample(2), (2, 2, 4, 4)),
     (lambda: model.TableConv(["01", "12", "012"], kernel_size=3), (2, 3, 5, 5)),
     (lambda: model.RBF(), (2, 84))],
    ids=["Subsample", "TableConv", "RBF"],
)
def test_the_gradient_of_each_part_is_its_finite_difference(make, shape):
    layer, x = make().double(), random_doubles(*shape)
    parameters = list(layer.parameters())
    assert gradcheck(lambda x, *_: layer(x), (x, *parameters))


def test_the_gradient_of_squash_is_its_finite_difference():
    assert gradcheck(model.squash, random_doubles(20))


def test_the_gradient_of_the_map_loss_is_its_finite_difference():
    labels = torch.tensor([3, 0, 9])
    assert gradcheck(lambda logits: model.map_loss(logits, labels), random_doubles(3, 10))


def test_the_gradient_of_the_whole_1998_network_is_its_finite_difference():
    net, labels = model.LeNet1998().double(), torch.tensor([3, 8])
    images = random_doubles(2, 1, 28, 28)
    assert gradcheck(lambda x: net.loss(net(x), labels), images, fast_mode=True)


# ---------------------------------------------------------------- the table of C3


def test_the_table_of_c3_is_table_one_of_the_paper():
    columns = ["".join(str(s) for s in range(6) if PAPER_TABLE[s][o] == "X") for o in range(16)]
    assert columns == model.C3_TABLE


def test_the_table_of_c3_has_sixty_links():
    assert sum(map(len, model.C3_TABLE)) == 60


def test_every_map_of_s2_is_used_exactly_ten_times():
    assert ["".join(model.C3_TABLE).count(str(i)) for i in range(6)] == [10] * 6


def test_six_maps_of_c3_see_three_maps_nine_see_four_and_the_last_sees_all():
    assert [len(row) for row in model.C3_TABLE] == [3] * 6 + [4] * 9 + [6]


def test_training_never_touches_a_weight_that_is_not_in_the_table():
    """A masked convolution would pass too, until weight decay or momentum moves its zeros."""
    net = model.LeNet1998()
    images, labels = twenty_digits("1998")
    linked = torch.tensor([[str(i) in row for i in range(6)] for row in model.C3_TABLE])
    before = net.c3.weight().detach()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.002, momentum=0.9, weight_decay=5e-4)
    for _ in range(20):
        optimizer.zero_grad()
        net.loss(net(images), labels).backward()
        optimizer.step()
    after = net.c3.weight().detach()
    assert (before[~linked] == 0).all()
    assert (after[~linked] == 0).all()
    assert (after[linked] != before[linked]).all()


# ---------------------------------------------------------------- the codes


def test_the_codes_are_ten_drawings_of_84_pixels_that_are_ink_or_paper():
    assert model.codes().shape == (10, 84)
    assert set(model.codes().unique().tolist()) == {-1.0, 1.0}


def test_the_codes_are_the_drawings_that_other_programs_have_too():
    for code, rows in zip(model.codes(), TRANSCRIPTION, strict=True):
        bits = "".join(f"{byte:07b}" for byte in bytes.fromhex(rows))
        assert code.tolist() == [1.0 if bit == "1" else -1.0 for bit in bits]


def test_six_and_eight_are_the_two_most_similar_codes_and_no_other_pair_is():
    distances = torch.cdist(model.codes(), model.codes()).square().round()
    distances.fill_diagonal_(math.inf)
    assert distances.min() == 48
    assert (distances == 48).nonzero().tolist() == [[6, 8], [8, 6]]


def test_the_two_most_different_codes_are_200_apart():
    assert torch.cdist(model.codes(), model.codes()).square().round().max() == 200


# ---------------------------------------------------------------- squash


def test_squash_leaves_plus_and_minus_one_where_they_are():
    """The targets of F6 are ±1: units that reach them are not saturated."""
    ones = torch.tensor([1.0, -1.0], dtype=torch.float64)
    assert torch.allclose(model.squash(ones), ones, rtol=0, atol=1e-5)


def test_the_slope_of_squash_at_zero_is_1_14393():
    zero = torch.zeros((), dtype=torch.float64, requires_grad=True)
    model.squash(zero).backward()
    assert zero.grad.item() == pytest.approx(1.14393, abs=5e-6)


def test_squash_bends_most_where_its_input_is_one():
    a = torch.linspace(0, 4, 40_001, dtype=torch.float64, requires_grad=True)
    slope = torch.autograd.grad(model.squash(a).sum(), a, create_graph=True)[0]
    bend = torch.autograd.grad(slope.sum(), a)[0]
    assert a[bend.abs().argmax()].item() == pytest.approx(1.0, rel=0.02)


# ---------------------------------------------------------------- the MAP loss and the rubbish


def test_the_map_loss_is_the_formula_of_the_paper_written_as_loops():
    distances, labels, j = random_doubles(4, 10).square() + 1, [3, 0, 9, 3], 2.5
    total = 0.0
    for y, digit in zip(distances.tolist(), labels, strict=True):
        total += y[digit] + math.log(math.exp(-j) + sum(math.exp(-y_i) for y_i in y))
    ours = model.map_loss(-distances, torch.tensor(labels), j)
    assert ours.item() == pytest.approx(total / 4, rel=0, abs=1e-12)


def test_the_map_loss_is_cross_entropy_over_eleven_classes_of_which_one_is_rubbish():
    logits, labels = -10 * random_doubles(6, 10).square(), torch.arange(6)
    eleven = torch.cat([logits, torch.full((6, 1), -model.RUBBISH).double()], dim=1)
    expected = F.cross_entropy(eleven, labels)
    assert torch.allclose(model.map_loss(logits, labels), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("j", "expected"), [(10.0, 1e4 - 10), (1e5, math.log(10))])
def test_the_map_loss_is_exact_for_distances_whose_exponential_is_zero(j, expected):
    """e^-10000 is 0 even in float64: where j is large too, the formula as printed is log 0."""
    logits = torch.full((2, 10), -1e4, dtype=torch.float64)
    loss = model.map_loss(logits, torch.tensor([0, 1]), j)
    assert loss.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("j", [10.0, 1e5])
def test_the_gradient_of_the_map_loss_is_finite_for_huge_distances(j):
    logits = torch.full((2, 10), -1e4, requires_grad=True)
    model.map_loss(logits, torch.tensor([0, 1]), j).backward()
    assert logits.grad.isfinite().all()


def test_a_smaller_j_raises_the_map_loss():
    logits, labels = -random_doubles(4, 10).square(), torch.arange(4)
    assert model.map_loss(logits, labels, j=1.0) > model.map_loss(logits, labels, j=3.0)


def test_the_map_loss_without_rubbish_is_plain_cross_entropy():
    logits, labels = -random_doubles(4, 10).square(), torch.arange(4)
    expected = F.cross_entropy(logits, labels)
    ours = model.map_loss(logits, labels, j=math.inf)
    assert torch.allclose(ours, expected, rtol=0, atol=1e-12)


def test_what_the_probabilities_of_1998_lack_to_one_is_the_probability_of_rubbish():
    net = model.LeNet1998().double()
    logits = -(model.RUBBISH + random_doubles(5, 10))
    eleven = torch.cat([logits, torch.full((5, 1), -model.RUBBISH).double()], dim=1)
    missing = 1 - net.probabilities(logits).sum(1)
    assert (missing > 0).all()
    assert torch.allclose(missing, eleven.softmax(1)[:, 10], rtol=0, atol=1e-12)


def test_a_drawing_far_from_every_code_is_believed_to_be_rubbish():
    net = model.LeNet1998().double()
    logits = net.output(torch.zeros(1, 84, dtype=torch.float64))
    assert net.probabilities(logits).sum() < 1e-20


def test_the_largest_logit_belongs_to_the_nearest_code():
    drawings = torch.randn(200, 84)
    nearest = torch.cdist(drawings, model.codes()).argmin(1)
    assert torch.equal(model.RBF()(drawings).argmax(1), nearest)


def test_a_perfect_drawing_of_a_digit_has_logit_zero_for_that_digit_alone():
    logits = model.RBF()(model.codes())
    assert torch.equal(logits == 0, torch.eye(10, dtype=torch.bool))


# ---------------------------------------------------------------- the start


def fan_in(name: str) -> torch.Tensor:
    """The number of inputs of the units that a parameter of the 1998 network belongs to."""
    if name == "c3.kernels":
        fans = [25 * len(row) for row in model.C3_TABLE for _ in row]
        return torch.tensor(fans)[:, None, None]
    if name == "c3.bias":
        return torch.tensor([25 * len(row) for row in model.C3_TABLE])
    return torch.tensor({"c1": 25, "s2": 4, "s4": 4, "c5": 400, "f6": 120}[name[:2]])


@pytest.fixture(scope="module")
def newborn() -> list[dict[str, torch.Tensor]]:
    """The parameters of twenty networks that nobody has trained."""
    torch.manual_seed(0)
    return [dict(model.LeNet1998().named_parameters()) for _ in range(20)]


@pytest.mark.parametrize("name", [name for name, _ in model.LeNet1998().named_parameters()])
def test_weights_start_uniform_in_the_whole_range_that_the_paper_gives(newborn, name):
    """In units of 2.4 / fan-in they are uniform from -1 to 1: so is their deviation, 1/√3."""
    parts = [(parameters[name] * fan_in(name) / 2.4).flatten() for parameters in newborn]
    scaled = torch.cat(parts).detach()
    assert scaled.abs().max() <= 1 + 1e-6
    assert scaled.max() > 0.9
    assert scaled.min() < -0.9
    assert scaled.std().item() == pytest.approx(1 / math.sqrt(3), rel=0.1)


def test_the_classic_network_starts_as_unsure_as_ten_classes_allow():
    images, labels = twenty_digits("classic")
    net = build("classic")
    assert net.loss(net(images), labels).item() == pytest.approx(math.log(10), rel=0.05)


# ---------------------------------------------------------------- behaviour of both


@pytest.mark.parametrize(
    ("variant", "lr", "steps"), [("classic", 0.02, 150), ("1998", 0.002, 300)]
)
def test_a_batch_of_twenty_digits_can_be_learned_by_heart(variant, lr, steps):
    images, labels = twenty_digits(variant)
    net = build(variant)
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
    for _ in range(steps):
        loss = net.loss(net(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    beliefs = net.probabilities(net(images))
    assert (beliefs.gather(1, labels[:, None]) > 0.9).all()


@pytest.mark.parametrize("variant", ["classic", "1998"])
def test_every_parameter_gets_a_gradient_that_is_finite_and_not_zero(variant):
    images, labels = twenty_digits(variant)
    net = build(variant)
    net.loss(net(images), labels).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("variant", ["classic", "1998"])
def test_every_pixel_of_a_picture_has_a_say_in_the_answer(variant):
    net, images = build(variant).double(), random_doubles(4, 1, 28, 28)
    net(images)[:, 0].sum().backward()
    assert (images.grad.abs().amax(dim=(0, 1)) > 0).all()


@pytest.mark.parametrize("variant", ["classic", "1998"])
def test_a_picture_gets_the_same_answer_alone_and_in_a_batch(variant):
    net, images = build(variant).double(), random_doubles(7, 1, 28, 28)
    assert torch.allclose(net(images)[3:4], net(images[3:4]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("variant", ["classic", "1998"])
def test_the_answer_to_one_picture_has_no_gradient_at_another(variant):
    net, images = build(variant).double(), random_doubles(4, 1, 28, 28)
    net(images)[0].sum().backward()
    assert (images.grad[0] != 0).any()
    assert (images.grad[1:] == 0).all()


def test_paper_and_ink_are_what_the_1998_network_was_made_for():
    """The frame that the network adds must be of the same paper as the picture."""
    config = lenet.train.configure("1998", lenet.data.embedded_digits())
    pixels = torch.tensor([[[0, 255]]], dtype=torch.uint8)
    inputs = lenet.data.to_input(pixels, config["mean"], config["std"])
    assert torch.equal(inputs.flatten(), torch.tensor([-0.1, 1.175]))


def test_the_frame_of_the_1998_network_cannot_be_told_from_blank_paper():
    """Inside a blank picture and at its rim, every unit of C1 sees the very same thing."""
    config = lenet.train.configure("1998", lenet.data.embedded_digits())
    blank = lenet.data.to_input(torch.zeros(1, 28, 28), config["mean"], config["std"])
    net, maps = model.LeNet1998(), []
    net.c1.register_forward_hook(lambda _layer, _inputs, output: maps.append(output))
    net(blank)
    assert torch.allclose(maps[0], maps[0][:, :, 14:15, 14:15], rtol=0, atol=1e-6)


@pytest.mark.parametrize("count", [2, 7, 26])
def test_the_1998_network_refuses_other_than_ten_classes_and_says_how_many_there_are(count):
    with pytest.raises(ValueError, match=rf"\b{count}\b"):
        model.build({"variant": "1998", "classes": list(range(count))})
