"""The autoencoder against diffusers', and what its latents are."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from sd_peers import filled, sd, twins

vae_model, model = sd.vae_model, sd.model


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("peers")


@pytest.mark.parametrize("seed", range(20))
def test_both_halves_are_diffusers_in_64_bits(home: Path, seed: int) -> None:
    """Twenty random configurations; the weights come through our loader."""
    pair = twins(seed, home)
    ours, side = pair.ours.vae, pair.ours.vae.factor
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 3, 4 * side, 6 * side, generator=draw, dtype=torch.float64)
    z = torch.randn(2, 4, 5, 3, generator=draw, dtype=torch.float64)
    for tensor in (x, z):
        tensor.requires_grad_()
    found, expected = ours.encode(x), pair.vae.encode(x).latent_dist
    assert found.mean.std() > 0.2
    assert (found.mean - expected.mean).abs().max() <= 1e-9
    assert (found.logvar - expected.logvar).abs().max() <= 1e-9
    pictures, theirs = ours.decode(z), pair.vae.decode(z).sample
    assert (pictures - theirs).abs().max() <= 1e-9 and pictures.std() > 0.2
    for mine, peers in zip(torch.autograd.grad(found.mean.sum() + pictures.sum(), (x, z)),
                           torch.autograd.grad(expected.mean.sum() + theirs.sum(), (x, z))):
        assert (mine - peers).abs().max() <= 1e-9 and mine.abs().max() > 1e-3


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_published_size_agrees_in_32_bits() -> None:
    from diffusers import AutoencoderKL
    ours = model.hollow(model.SD15).vae
    with torch.device("meta"):
        peer = AutoencoderKL(block_out_channels=[128, 256, 512, 512], layers_per_block=2,
                             down_block_types=["DownEncoderBlock2D"] * 4,
                             up_block_types=["UpDecoderBlock2D"] * 4, latent_channels=4)
    named = sd.layouts.vae_namer(peer.state_dict())
    weights = filled({name: tensor.shape for name, tensor in ours.state_dict().items()})
    ours.load_state_dict(weights, assign=True)
    peer.load_state_dict({name: weights[named(name)].reshape(tensor.shape)
                          for name, tensor in peer.state_dict().items()}, assign=True)
    with torch.no_grad():
        x, z = torch.randn(1, 3, 64, 64), torch.randn(1, 4, 8, 8)
        assert (ours.encode(x).mean - peer.encode(x).latent_dist.mean).abs().max() <= 1e-5
        expected = peer.decode(z).sample
        assert (ours.decode(z) - expected).abs().max() <= 1e-5 * max(1, expected.abs().max())


# ---------------------------------------------------------------- the Gaussian


def test_draws_and_nats_are_those_of_torchs_distributions() -> None:
    mean, logvar, noise = (torch.randn(3, 4, 2, 2, dtype=torch.float64) for _ in range(3))
    found = vae_model.Gaussian(mean, logvar)
    spread = (logvar / 2).exp()
    assert torch.allclose(found.sample(noise), mean + spread * noise)
    kl = torch.distributions.kl_divergence(torch.distributions.Normal(mean, spread),
                                           torch.distributions.Normal(0.0, 1.0))
    assert torch.allclose(found.kl(), kl.sum((1, 2, 3)))


def test_log_variances_are_cut_off_as_in_the_release() -> None:
    net = model.build(model.SMALL).vae
    for value, expected in ((-100.0, -30.0), (100.0, 20.0)):
        with torch.no_grad():
            net.quant_conv.bias[4:] = value
        assert (net.encode(torch.zeros(1, 3, 32, 32)).logvar == expected).all()


def test_training_begins_with_little_noise() -> None:
    """With PyTorch's own start the noise is as strong as the signal, and little is learned."""
    found = model.build(model.SMALL).vae.encode(torch.rand(4, 3, 32, 32) * 2 - 1)
    assert found.logvar.mean().item() == pytest.approx(vae_model.START, abs=0.5)


def test_training_begins_with_the_ways_past_alone_and_signals_of_their_size() -> None:
    net = model.build(model.SMALL).vae
    x = torch.randn(2, 64, 8, 8)
    for block in (*net.encoder.mid.values(), *net.decoder.mid.values()):
        assert torch.equal(block(x), x)
    deviations = [part.weight.std().item() * part.weight[0].numel() ** 0.5
                  for part in net.modules() if isinstance(part, torch.nn.Conv2d)
                  and part.kernel_size == (3, 3) and part.weight.any()]
    assert len(deviations) > 10 and deviations == pytest.approx([1] * len(deviations), abs=0.1)
    means = net.encode(torch.rand(4, 3, 32, 32) * 2 - 1).mean
    assert 0.3 < means.std() < 3      # far above the noise


# ---------------------------------------------------------------- places and scales


def test_pictures_are_padded_at_the_right_and_below_only() -> None:
    """Padded on all sides, windows would lie a pixel away from where the release has them."""
    layer = vae_model.Downsample(1)
    with torch.no_grad():
        layer.conv.weight.zero_()
        layer.conv.weight[0, 0, 0, 0] = 1.0       # takes the upper left pixel of each window
        layer.conv.bias.zero_()
    x = torch.arange(36.0).reshape(1, 1, 6, 6)
    assert torch.equal(layer(x), x[:, :, ::2, ::2])


def test_pixels_are_repeated_and_not_blended() -> None:
    layer = vae_model.Upsample(1)
    with torch.no_grad():
        layer.conv.weight.copy_(F.pad(torch.ones(1, 1, 1, 1), (1, 1, 1, 1)))
        layer.conv.bias.zero_()
    x = torch.randn(1, 1, 3, 4)
    assert torch.equal(layer(x), x.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_latents_are_scaled_on_the_way_in_and_back_on_the_way_out() -> None:
    net = model.build(model.SMALL)
    x, noise = torch.rand(2, 3, 32, 32) * 2 - 1, torch.randn(2, 4, 8, 8)
    copy = x.clone()
    plain = net.vae.encode(x).sample(noise)
    net.scale_factor.fill_(0.25)
    latents = net.encode(x, noise)
    assert torch.allclose(latents, 0.25 * plain)
    assert torch.allclose(net.decode(latents), net.vae.decode(plain), atol=1e-6)
    assert torch.equal(x, copy) and torch.allclose(latents, 0.25 * plain)     # nothing changed
    assert "scale_factor" in net.state_dict()     # nobody can forget it


def test_a_new_model_has_the_published_scale() -> None:
    assert model.build(model.SMALL).scale_factor.item() == pytest.approx(0.18215)


def test_sides_that_do_not_halve_are_refused() -> None:
    net = model.build(model.SMALL).vae
    assert net.encode(torch.zeros(1, 3, 36, 44)).mean.shape == (1, 4, 9, 11)
    with pytest.raises(ValueError, match="30×32 pixels cannot be encoded.*multiples of 4"):
        net.encode(torch.zeros(1, 3, 32, 30))


def test_a_picture_can_be_learned_by_heart() -> None:
    net = model.build(model.SMALL).vae
    x = torch.rand(2, 3, 8, 8).repeat_interleave(2, 2).repeat_interleave(2, 3) * 2 - 1
    optimizer, draw = torch.optim.Adam(net.parameters(), lr=2e-3), torch.Generator()
    for _ in range(120):
        found, _ = net(x, torch.randn(2, 4, 4, 4, generator=draw))
        loss = F.mse_loss(found, x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05


@pytest.mark.parametrize("kind", sd.attention.KINDS)
def test_the_autoencoder_is_the_same_with_every_attention(kind: str) -> None:
    net = model.build(model.SMALL).double()
    x = torch.rand(1, 3, 32, 32, dtype=torch.float64)
    before = net.vae.encode(x).mean
    sd.attention.choose_attention(net, kind)
    assert (net.vae.encode(x).mean - before).abs().max() <= 1e-12
