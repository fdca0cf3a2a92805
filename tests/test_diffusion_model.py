"""The U-Net: any size of picture, silent at first, weight by weight that of diffusers."""

import math
import re

import pytest
import torch
from torch import Tensor

from support import load

diffusion = load("diffusion_from_scratch")
model = diffusion.model
UNet = model.UNet
SIZES = [(1, 28, 28), (3, 32, 32), (3, 25, 31), (2, 33, 7), (1, 1, 1), (4, 5, 64), (3, 17, 16)]
TINY = {"width": 12, "multipliers": (1, 2), "blocks": 1, "attention": (1,), "patch": 2}


def net(shape: tuple[int, int, int] = (1, 9, 7), loud: bool = True, **changes: object) -> UNet:
    """A small network; loud: with random weights where training begins with zeros."""
    torch.manual_seed(0)
    one = UNet(shape, **{**TINY, "classes": 3, **changes})
    if loud:
        for p in one.parameters():
            if not p.any():
                torch.nn.init.normal_(p, std=0.1)
    return one.eval()


def pictures(count: int, shape: tuple[int, int, int] = (1, 9, 7)) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(1))


def times(*t: int) -> Tensor:
    return torch.tensor(t, dtype=torch.long)


# ---------------------------------------------------------------- sizes and parameters


@pytest.mark.parametrize("patch", [1, 2, 3])
@pytest.mark.parametrize("shape", SIZES)
def test_pictures_of_any_size_come_back_in_it(shape: tuple[int, int, int], patch: int) -> None:
    one, x = net(shape, patch=patch, multipliers=(1, 2, 1)), pictures(2, shape)
    assert one(x, times(0, 999), times(0, 3)).shape == x.shape


@pytest.mark.parametrize("width", [8, 12, 20, 24, 28, 33, 48])
def test_channels_of_any_number_can_be_normalised(width: int) -> None:
    one = net(width=width)
    assert width % model.groups(width) == 0 and model.groups(width) <= 32
    assert one(pictures(1), times(5)).isfinite().all()
    found = [model.groups(channels) for channels in (128, 256, 48, 96, 12, 33, 31)]
    assert found == [32, 32, 12, 24, 3, 3, 1]


@pytest.mark.parametrize("changes", [{}, {"patch": 1}, {"classes": 0}, {"blocks": 2},
                                     {"multipliers": (1, 2, 2, 4)}, {"attention": ()}])
def test_every_parameter_learns(changes: dict) -> None:
    one = net(**changes).train()
    labels = times(0, 3) if one.classes else None
    one(pictures(2), times(3, 700), labels).square().mean().backward()
    assert not [name for name, p in one.named_parameters() if p.grad is None]
    assert not [name for name, p in one.named_parameters() if p.grad.abs().max() < 1e-7]


def test_normalisation_leaves_what_a_block_is_told() -> None:
    """A group of one channel would take away whatever is the same at all its places."""
    for channels in (8, 16, 32, 48, 64):
        block, x = model.ResidualBlock(channels, channels, 6), torch.randn(1, channels, 5, 5)
        torch.nn.init.normal_(block.conv2.weight, std=0.1)
        one, other = (block(x, told) for told in torch.randn(2, 1, 6))
        assert (one - other).std() > 0.02 * one.std()


def test_the_widths_are_the_multiples_that_were_asked_for() -> None:
    one = net(multipliers=(1, 2, 4))
    found = [block[0].conv2.out_channels for block in one.down]
    assert found == [12, 24, 48]
    assert [block[0].conv2.out_channels for block in one.up] == [48, 48, 24, 24, 12, 12]


def test_the_papers_network_has_its_parameters() -> None:
    with torch.device("meta"):
        one = UNet((3, 32, 32), **model.PRESETS["paper"])
    assert sum(p.numel() for p in one.parameters()) == 35_746_307
    told = [name for name, part in one.named_modules() if isinstance(part, model.Attention)]
    assert len(told) == 2 + 1 + 3                 # at 16×16 down and up, and in the middle


# ---------------------------------------------------------------- behaviour


def test_an_untrained_network_says_nothing_and_its_blocks_change_nothing() -> None:
    one = net(loud=False, shape=(1, 28, 28))
    x = pictures(4, (1, 28, 28))
    assert not one(x, times(0, 1, 500, 999), times(0, 1, 2, 3)).any()
    block, told = model.ResidualBlock(8, 8, 6), torch.randn(2, 6)
    h = torch.randn(2, 8, 5, 5)
    assert torch.equal(block(h, told), h) and torch.equal(model.Attention(8)(h), h)


def test_pictures_do_not_know_of_each_other() -> None:
    one, x = net().double(), pictures(5).double()
    t, labels = times(0, 10, 100, 500, 999), times(0, 1, 2, 3, 0)
    alone = torch.cat([one(x[i : i + 1], t[i : i + 1], labels[i : i + 1]) for i in range(5)])
    assert torch.allclose(one(x, t, labels), alone, atol=1e-10)


def test_time_and_label_matter_and_no_label_is_the_last_one() -> None:
    one, x = net(), pictures(1)
    outputs = [one(x, times(t), times(label)) for t in (0, 1, 998) for label in range(4)]
    for number, output in enumerate(outputs):
        assert not any(torch.allclose(output, other) for other in outputs[:number])
    assert torch.equal(one(x, times(7)), one(x, times(7), times(3)))
    one(x, times(7)).sum().backward()
    gradient = one.label.weight.grad
    assert gradient[3].any() and not gradient[:3].any()


def test_every_place_can_see_every_other() -> None:
    """Through the small maps and the attention, also at the edge of an odd picture."""
    one, x = net((1, 21, 15)), pictures(1, (1, 21, 15)).requires_grad_()
    one(x, times(10))[0, 0, 20, 14].backward()
    assert (x.grad != 0).all()


def test_times_have_the_waves_of_the_paper_and_all_differ() -> None:
    for width in (2, 7, 32, 128):
        found = model.time_features(torch.arange(1000), width)
        assert found.shape == (1000, width) and found.dtype == torch.float32
        half = width // 2
        for t, i in ((0, 0), (1, half - 1), (999, half // 2)):
            angle = t * math.exp(-math.log(10_000) * i / max(half - 1, 1))
            assert found[t, i].item() == pytest.approx(math.sin(angle), abs=2e-4)
            assert found[t, half + i].item() == pytest.approx(math.cos(angle), abs=2e-4)
    found = model.time_features(torch.arange(1000), 32)
    apart = torch.cdist(found, found) + torch.eye(1000)
    assert apart.min() > 1e-3
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.time_features(torch.arange(1000), 32), found)


def test_attention_is_the_one_that_is_written_out() -> None:
    part = model.Attention(8).double()
    torch.nn.init.normal_(part.answer.weight)
    x = torch.randn(2, 8, 3, 5).double()
    q, k, v = part.ask(part.norm(x).flatten(2).transpose(1, 2)).chunk(3, 2)
    weights = (q @ k.transpose(1, 2) / math.sqrt(8)).softmax(2)
    expected = x + part.answer(weights @ v).transpose(1, 2).reshape(x.shape)
    assert torch.allclose(part(x), expected, atol=1e-12)


def test_halving_pads_as_the_authors_do() -> None:
    part = model.Halve(1)
    torch.nn.init.ones_(part.conv.weight), torch.nn.init.zeros_(part.conv.bias)
    even = part(torch.arange(16.0).reshape(1, 1, 4, 4))
    assert even.shape == (1, 1, 2, 2) and even[0, 0, 0, 0] == 0 + 1 + 2 + 4 + 5 + 6 + 8 + 9 + 10
    odd = part(torch.ones(1, 1, 5, 1))
    assert odd.flatten().tolist() == [2, 3, 2]


def test_one_batch_can_be_learned_by_heart() -> None:
    one, x = net(loud=False).train(), pictures(4).tanh()
    d = diffusion.diffusion.Diffusion(diffusion.schedule.Schedule.named("cosine"), "v")
    optimizer, losses = torch.optim.Adam(one.parameters(), 5e-3), []
    noise, t = pictures(8)[4:], times(50, 300, 600, 900)
    for _ in range(150):
        loss = d.losses(one(d.q_sample(x, t, noise), t, times(0, 1, 2, 3)), x, t, noise).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0.4 and losses[-1] < 0.1 * losses[0]


# ---------------------------------------------------------------- against diffusers

# Their names of parts, and ours; the parts of attention are joined below.
RENAMED = [(r"^conv_in", "first"), (r"^conv_norm_out", "last_norm"), (r"^conv_out", "last"),
           (r"^time_embedding.linear_1", "time.0"), (r"^time_embedding.linear_2", "time.2"),
           (r"time_emb_proj", "tell"), (r"conv_shortcut", "shortcut"), (r"group_norm", "norm"),
           (r"to_out.0", "answer")]


def renamed(theirs: dict[str, Tensor], blocks: int) -> dict[str, Tensor]:
    """The weights of a `UNet2DModel` under our names."""
    found, parts = {}, {}
    for name, weight in theirs.items():
        name = re.sub(r"^down_blocks.(\d).resnets.(\d)",
                      lambda m: f"down.{int(m[1]) * blocks + int(m[2])}.0", name)
        name = re.sub(r"^down_blocks.(\d).attentions.(\d)",
                      lambda m: f"down.{int(m[1]) * blocks + int(m[2])}.1", name)
        name = re.sub(r"^down_blocks.(\d).downsamplers.0", r"halvings.\1", name)
        name = re.sub(r"^up_blocks.(\d).resnets.(\d)",
                      lambda m: f"up.{int(m[1]) * (blocks + 1) + int(m[2])}.0", name)
        name = re.sub(r"^up_blocks.(\d).attentions.(\d)",
                      lambda m: f"up.{int(m[1]) * (blocks + 1) + int(m[2])}.1", name)
        name = re.sub(r"^up_blocks.(\d).upsamplers.0", r"doublings.\1", name)
        name = re.sub(r"^mid_block.resnets.(\d)", lambda m: f"middle.{2 * int(m[1])}", name)
        name = re.sub(r"^mid_block.attentions.0", "middle.1", name)
        for theirs_of, ours in RENAMED:
            name = re.sub(theirs_of, ours, name)
        if match := re.fullmatch(r"(.*)\.to_([qkv])\.(\w+)", name):
            parts.setdefault(f"{match[1]}.ask.{match[3]}", {})[match[2]] = weight
        else:
            found[name] = weight
    return found | {name: torch.cat([part[which] for which in "qkv"])
                    for name, part in parts.items()}


def test_the_papers_network_is_that_of_diffusers() -> None:
    """As google/ddpm-cifar10-32 is configured, with random weights; forward and backward."""
    peers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    theirs = peers.UNet2DModel(
        sample_size=32, block_out_channels=(128, 256, 256, 256), layers_per_block=2,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=None, downsample_padding=0, flip_sin_to_cos=False, freq_shift=1,
        norm_eps=1e-6, dropout=0.0, act_fn="silu", center_input_sample=False).eval()
    ours = UNet((3, 32, 32), **{**model.PRESETS["paper"], "dropout": 0.0}).eval()
    ours.load_state_dict(renamed(theirs.state_dict(), 2))
    sizes = [sum(p.numel() for p in each.parameters()) for each in (ours, theirs)]
    assert sizes[0] == sizes[1] == 35_746_307
    x, t = pictures(2, (3, 32, 32)), times(3, 700)
    one, two = ours(x, t), theirs(x, t).sample
    assert two.std() > 0.1 and (one - two).abs().max() <= 1e-4
    one.square().sum().backward(), two.square().sum().backward()
    expected = renamed({name: p.grad for name, p in theirs.named_parameters()}, 2)
    for name, p in ours.named_parameters():
        scale = expected[name].abs().max()
        assert (p.grad - expected[name]).abs().max() <= 1e-3 * scale + 1e-4, name


def test_the_table_of_layers_counts_everything(capsys: pytest.CaptureFixture) -> None:
    assert model.main(["--preset", "tiny", "--shape", "2", "9", "11", "--classes", "0"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    counts = [int(row[-1].replace(",", "")) for row in rows]
    assert sum(counts[:-1]) == counts[-1] == sum(
        p.numel() for p in UNet((2, 9, 11), **model.PRESETS["tiny"]).parameters())
