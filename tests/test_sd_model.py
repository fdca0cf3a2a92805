"""The U-Net against diffusers', in 64 bits and at full size; attention in three ways."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sd_peers import filled, sd, twins
from support import run

model, attention = sd.model, sd.attention
SEEDS = range(20)
PUBLISHED = {"unet": (859_520_964, 686), "vae": (83_653_863, 248), "text": (123_060_480, 196)}
KINDS = list(attention.KINDS)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("peers")


def inputs(seed: int, config: dict) -> tuple[torch.Tensor, ...]:
    """Latents of even or odd sizes, two times of which one is a fraction, and a text."""
    size = (8, 12) if seed % 2 else (9, 7)
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 4, *size, generator=draw, dtype=torch.float64)
    context = torch.randn(2, 5, config["context"], generator=draw, dtype=torch.float64)
    return x, torch.tensor([3.0, 946.42]), context


@pytest.mark.parametrize("seed", SEEDS)
def test_the_unet_is_diffusers_unet_in_64_bits(home: Path, seed: int) -> None:
    """Twenty random configurations; the weights come through our loader."""
    pair = twins(seed, home)
    x, times, context = inputs(seed, pair.config["unet"])
    for tensor in (x, context):
        tensor.requires_grad_()
    ours, theirs = pair.ours.unet(x, times, context), pair.unet(x, times, context).sample
    assert ours.std() > 0.2                       # what is near zero agrees too easily
    assert (ours - theirs).abs().max() <= 1e-9
    up = torch.randn_like(ours)
    for mine, peers in zip(torch.autograd.grad(ours, (x, context), up),
                           torch.autograd.grad(theirs, (x, context), up)):
        assert (mine - peers).abs().max() <= 1e-9 and mine.abs().max() > 1e-3


@pytest.mark.parametrize("part", PUBLISHED)
def test_the_published_models_have_their_numbers_of_parameters_and_names(part: str) -> None:
    net = getattr(model.hollow(model.SD15), part)
    found = sum(parameter.numel() for parameter in net.parameters()), len(net.state_dict())
    assert found == PUBLISHED[part] and all(p.is_meta for p in net.parameters())


def test_names_are_those_of_the_release() -> None:
    names = set(model.hollow(model.SD15).state_dict())
    inside = "transformer_blocks.0"
    for name in (f"model.diffusion_model.input_blocks.1.1.{inside}.attn2.to_k.weight",
                 f"model.diffusion_model.output_blocks.5.1.{inside}.ff.net.0.proj.bias",
                 f"model.diffusion_model.middle_block.1.{inside}.attn1.to_out.0.weight",
                 "model.diffusion_model.output_blocks.2.1.conv.weight",
                 "model.diffusion_model.output_blocks.8.2.conv.weight",
                 "model.diffusion_model.input_blocks.3.0.op.weight",
                 "model.diffusion_model.input_blocks.4.0.skip_connection.weight",
                 "model.diffusion_model.out.2.weight",
                 "model.diffusion_model.time_embed.2.bias",
                 "first_stage_model.encoder.down.0.downsample.conv.weight",
                 "first_stage_model.decoder.up.3.upsample.conv.bias",
                 "first_stage_model.decoder.mid.attn_1.proj_out.weight",
                 "first_stage_model.encoder.down.1.block.0.nin_shortcut.weight",
                 "cond_stage_model.transformer.text_model.embeddings.position_embedding.weight",
                 "cond_stage_model.transformer.text_model.encoder.layers.11.mlp.fc2.weight"):
        assert name in names, name
    assert len(names) == 686 + 248 + 196 + 1       # and the scale factor


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_published_size_agrees_in_32_bits_and_6_gigabytes() -> None:
    """Both nets share one set of numbers, so that memory holds little more than it."""
    from diffusers import UNet2DConditionModel
    status = Path("/proc/self/status")
    Path("/proc/self/clear_refs").write_text("5")     # forget what other tests have taken
    unet = model.hollow(model.SD15).unet
    with torch.device("meta"):
        peer = UNet2DConditionModel(cross_attention_dim=768, sample_size=64)
    ours = sd.layouts.unet_namer(peer.state_dict())
    weights = filled({name: tensor.shape for name, tensor in unet.state_dict().items()})
    unet.load_state_dict(weights, assign=True)
    peer.load_state_dict({name: weights[ours(name)] for name in peer.state_dict()}, assign=True)
    with torch.no_grad():
        for size, time in (((8, 8), 981.0), ((8, 16), 946.42)):
            x, context = torch.randn(1, 4, *size), torch.randn(1, 77, 768)
            found = unet.eval()(x, torch.tensor([time]), context)
            expected = peer.eval()(x, torch.tensor([time]), context).sample
            assert (found - expected).abs().max() <= 1e-5 * max(1, expected.abs().max())
    peak = status.read_text().split("VmHWM:")[1].split()[0]
    assert int(peak) < 6_000_000      # kilobytes


# ---------------------------------------------------------------- time


def test_times_become_cosines_then_sines_on_ever_slower_clocks() -> None:
    found = model.time_embedding(torch.tensor([0.0, 1.0, 946.42]), 320)
    assert found[0].tolist() == [1.0] * 160 + [0.0] * 160
    slowest = 10_000 ** (-159 / 160)
    assert found[1, 319].item() == pytest.approx(math.sin(slowest), rel=1e-5)
    assert found[1, 160].item() == pytest.approx(math.sin(1.0))
    for place in (0, 40, 159):
        angle = 946.42 * 10_000 ** (-place / 160)
        assert found[2, place].item() == pytest.approx(math.cos(angle), abs=1e-3)
    whole = model.time_embedding(torch.tensor([946.0]), 320)
    assert (whole - found[2]).abs().max() > 0.1     # a fraction is not rounded away


def test_the_epsilons_of_norms_are_those_of_the_release() -> None:
    """Off by ten they change outputs by less than 10⁻⁴: few tests would notice."""
    net = model.hollow(model.SD15)
    for name, norm in net.named_modules():
        if isinstance(norm, nn.GroupNorm):
            latent = name.startswith("first_stage") or name.endswith(".norm")
            assert norm.eps == (1e-6 if latent else 1e-5) and norm.num_groups == 32, name
        if isinstance(norm, nn.LayerNorm):
            assert norm.eps == 1e-5


# ---------------------------------------------------------------- attention


@pytest.mark.parametrize("causal", [False, True])
def test_three_ways_of_attention_give_the_same(
        causal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "ROWS", 4)
    q, k, v = (torch.randn(2, 3, 11, 8, dtype=torch.float64) for _ in range(3))
    found = {kind: attend(q, k, v, causal) for kind, attend in attention.KINDS.items()}
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    for kind, gathered in found.items():
        assert (gathered - expected).abs().max() <= 1e-12, kind


def test_slices_are_never_larger_than_said(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, whole = [], attention.explicit
    monkeypatch.setattr(attention, "explicit",
                        lambda q, *rest: rows.append(q.size(2)) or whole(q, *rest))
    x = torch.randn(1, 1, 2 * attention.ROWS + 1, 2)
    attention.sliced(x, x[:, :, :5], x[:, :, :5])
    assert rows == [attention.ROWS, attention.ROWS, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_unet_is_the_same_in_all_ways(home: Path, kind: str) -> None:
    pair = twins(0, home)
    x, times, context = inputs(0, pair.config["unet"])
    before = pair.ours.unet(x, times, context)
    attention.choose_attention(pair.ours, kind)
    found = pair.ours.unet(x, times, context)
    attention.choose_attention(pair.ours, "fused")
    assert (found - before).abs().max() <= 1e-10
    with pytest.raises(ValueError, match="no attention 'flash': choose one of explicit"):
        attention.choose_attention(pair.ours, "flash")


def test_who_looks_on_sees_shares_and_changes_nothing(home: Path) -> None:
    pair, seen = twins(0, home), {}
    x, times, context = inputs(0, pair.config["unet"])
    before = pair.ours.unet(x, times, context)
    with attention.watched(pair.ours.unet, lambda name, shares: seen.update({name: shares})):
        found = pair.ours.unet(x, times, context)
    assert (found - before).abs().max() <= 1e-10
    assert seen and all(name.endswith("attn2") for name in seen)
    for shares in seen.values():
        assert shares.shape[::3] == (2, 5)
        assert torch.allclose(shares.sum(-1), torch.ones(()).double())
    seen.clear()
    pair.ours.unet(x, times, context)
    assert not seen


def test_large_scores_in_16_bits_stay_finite() -> None:
    q, k, v = (torch.randn(1, 2, 6, 8).half() for _ in range(3))
    gathered, shares = attention.explicit(300 * q, 300 * k, v)
    assert gathered.isfinite().all() and gathered.dtype == shares.dtype == torch.float16


def test_an_open_gate_lets_everything_through() -> None:
    gate = attention.GEGLU(3, 4)
    with torch.no_grad():
        gate.proj.weight.zero_()
        gate.proj.bias.copy_(torch.tensor([1.0, 2, 3, 4] + [100.0] * 4))
    assert gate(torch.randn(1, 2, 3))[0, 0].tolist() == [100, 200, 300, 400]
    with torch.no_grad():
        gate.proj.bias[4:] = -100.0
    assert not gate(torch.randn(1, 2, 3)).any()


# ---------------------------------------------------------------- behaviour


def test_an_untrained_unet_sees_no_noise_and_can_learn_from_the_first_step() -> None:
    net = model.build(model.SMALL).unet
    x, context = torch.randn(2, 4, 8, 8), torch.randn(2, 16, 64)
    times = torch.tensor([5.0, 900.0])
    assert not net(x, times, context).any()
    net(x, times, context).sub(torch.randn_like(x)).square().mean().backward()
    assert net.out[-1].weight.grad.abs().max() > 0


def test_blocks_of_an_untrained_unet_pass_on_what_they_get() -> None:
    """So its depth is no burden at first: only the ways past are there."""
    net = model.build(model.SMALL).unet
    kinds = {kind: [part for part in net.modules() if isinstance(part, kind)]
             for kind in (model.ResBlock, attention.SpatialTransformer)}
    assert all(kinds.values())
    for part in kinds[attention.SpatialTransformer]:
        x = torch.randn(2, part.norm.num_channels, 4, 4)
        assert torch.equal(part(x, torch.randn(2, 16, 64)), x)
    for part in kinds[model.ResBlock]:
        x = torch.randn(2, part.in_layers[0].num_channels, 4, 4)
        assert torch.equal(part(x, torch.randn(2, 256)), part.skip_connection(x))
    assert any(isinstance(part.skip_connection, nn.Identity) for part in kinds[model.ResBlock])


def test_everything_that_is_given_matters_and_batch_mates_do_not(home: Path) -> None:
    pair = twins(2, home)
    x, times, context = inputs(2, pair.config["unet"])
    net = pair.ours.unet
    both = net(x, times, context)
    for row in range(2):
        alone = net(x[row:][:1], times[row:][:1], context[row:][:1])[0]
        assert (alone - both[row]).abs().max() <= 1e-10
    for other in ((x.flip(3), times, context), (x, times + 1, context), (x, times, -context)):
        assert (net(*other) - both).abs().max() > 1e-3


def test_impossible_heads_are_refused() -> None:
    with pytest.raises(ValueError, match="10 channels cannot be shared among 4 heads"):
        attention.CrossAttention(10, 8, 4)


@pytest.mark.parametrize("flags", ["", "--preset small", "--preset small --size 64"])
def test_the_table_adds_up(flags: str, capsys: pytest.CaptureFixture) -> None:
    assert model.main(flags.split()) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    rows = [(line[:24].strip(), int(line.split()[-1].replace(",", "")))
            for line in lines if line[-1].isdigit()]
    blocks = sum(count for key, count in rows if key and key != "total")
    net = model.hollow(model.PRESETS["small" if flags else "sd15"])
    assert rows[-1] == ("total", blocks)
    assert blocks == sum(parameter.numel() for parameter in net.parameters())
    assert [line for line in lines if line.endswith(".")] == [sd.layouts.UNET, sd.layouts.VAE,
                                                              sd.layouts.TEXT]


def test_a_size_that_cannot_be_is_refused() -> None:
    result = run(Path(model.__file__), "--size", "12")
    assert result.returncode == 2 and "multiples of 8" in result.stderr
