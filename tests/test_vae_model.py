"""The autoencoder's parts: closed forms, any size of image, gradients, and values too large."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Bernoulli, Normal, kl_divergence

from support import load

vae = load("vae_from_scratch")
model, terms = vae.model, vae.distributions
Elbo, VAE = terms.Elbo, model.VAE
SHAPES = [(1, 28, 28), (3, 32, 32), (3, 33, 47), (2, 5, 7), (4, 64, 3), (1, 1, 1), (3, 17, 16)]


def net(shape: tuple[int, int, int] = (1, 9, 7), **changes: object) -> VAE:
    torch.manual_seed(0)
    return VAE(shape, **{"latents": 3, "width": 4, "likelihood": "bernoulli", **changes})


def images(count: int, shape: tuple[int, int, int] = (1, 9, 7)) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))


# ---------------------------------------------------------------- both terms


def test_the_kl_is_that_of_torch_distributions_and_zero_only_for_the_prior() -> None:
    mean = 2 * torch.randn(50, 7, dtype=torch.float64)
    logvar = 3 * torch.randn(50, 7, dtype=torch.float64)
    prior, found = Normal(torch.zeros(50, 7).double(), 1.0), terms.kl_to_standard(mean, logvar)
    expected = kl_divergence(Normal(mean, (0.5 * logvar).exp()), prior)
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12) and (found > 0).all()
    single = terms.kl_to_standard(mean.float(), logvar.float())
    assert torch.allclose(single.double(), expected, rtol=1e-6, atol=1e-6)
    assert terms.kl_to_standard(torch.zeros(1, 2), torch.zeros(1, 2)).tolist() == [[0, 0]]


def test_the_kl_is_the_mean_of_a_difference_of_logarithms() -> None:
    mean, logvar = torch.tensor([[0.7, -1.2]]).double(), torch.tensor([[0.4, -1.5]]).double()
    z = mean + (0.5 * logvar).exp() * torch.randn(200_000, 2, dtype=torch.float64)
    drawn = terms.log_normal(z, mean, logvar) - terms.log_normal(z, 0.0, 0.0)
    error = drawn.std() / len(z) ** 0.5
    assert abs(drawn.mean() - terms.kl_to_standard(mean, logvar).sum()) < 4 * error


def test_costs_are_sums_of_log_probabilities_over_all_pixels() -> None:
    x, output = images(5).double(), torch.randn(5, 1, 9, 7, dtype=torch.float64)
    black = (x > 0.5).double()
    expected = -Bernoulli(logits=output).log_prob(black).flatten(1).sum(1)
    assert torch.allclose(terms.bernoulli_cost(output, black), expected, rtol=1e-12)
    variance = torch.tensor(0.03).double()
    expected = -Normal(output, variance.sqrt()).log_prob(x).flatten(1).sum(1)
    assert torch.allclose(terms.gaussian_cost(output, x, variance), expected, rtol=1e-12)
    assert terms.bernoulli_cost(torch.full((1, 1, 1, 1), 200.0), torch.zeros(1, 1, 1, 1)) == 200


def test_a_draw_has_the_deviation_and_the_gradients_of_the_closed_form() -> None:
    mean = torch.tensor([[0.3, -2.0]]).repeat(100_000, 1).requires_grad_()
    logvar = torch.tensor([[1.0, -3.0]]).repeat(100_000, 1).requires_grad_()
    z = net(latents=2).reparameterize(mean, logvar)
    assert z.std(0).tolist() == pytest.approx([math.exp(0.5), math.exp(-1.5)], rel=0.01)
    assert z.mean(0).tolist() == pytest.approx([0.3, -2.0], abs=0.03)
    z.sum().backward()
    noise = (z - mean) / (0.5 * logvar).exp()
    assert torch.equal(mean.grad, torch.ones_like(mean))
    assert torch.allclose(logvar.grad, 0.5 * (0.5 * logvar).exp() * noise, atol=1e-6)


@pytest.mark.parametrize("likelihood", model.LIKELIHOODS)
def test_doubled_pixels_double_the_reconstruction_and_leave_the_kl(likelihood: str) -> None:
    one, x = net(likelihood=likelihood), images(6).round()
    twice = net((2, 9, 7), likelihood=likelihood)
    twice.encoder.forward = lambda x: one.encoder(x[:, :1])
    twice.decoder.forward = lambda z: one.decoder(z).repeat(1, 2, 1, 1)
    found, other = (each.elbo(pixels, torch.Generator().manual_seed(3))
                    for each, pixels in ((one, x), (twice, x.repeat(1, 2, 1, 1))))
    assert torch.allclose(other.reconstruction, 2 * found.reconstruction, rtol=1e-6)
    assert torch.equal(other.kl, found.kl)


@pytest.mark.parametrize("likelihood", model.LIKELIHOODS)
@pytest.mark.parametrize("network", model.NETWORKS)
def test_the_size_of_the_batch_changes_nothing(network: str, likelihood: str) -> None:
    one, x = net(network=network, likelihood=likelihood).double(), images(8).double()
    one.reparameterize = lambda mean, logvar, generator: mean
    whole, parts = one.elbo(x), [one.elbo(part) for part in x.split(3)]
    for name in Elbo._fields:
        joined = torch.cat([getattr(part, name) for part in parts])
        assert torch.allclose(getattr(whole, name), joined, rtol=1e-12, atol=1e-12)
    doubled = one.elbo(torch.cat([x, x])).loss()
    assert doubled.item() == pytest.approx(whole.loss().item(), rel=1e-12)


def test_the_bound_and_the_loss_put_both_terms_together() -> None:
    found = Elbo(torch.tensor([5.0, 7.0]), torch.tensor([[1.0, 0.0], [3.0, 0.5]]))
    assert found.bound.tolist() == [-6, -10.5] and found.means() == (6, 2.25)
    assert found.loss() == 8.25 == -found.bound.mean() and found.loss(beta=4) == 6 + 4 * 2.25
    assert found.loss(beta=2, free=1.0) == 6 + 2 * (2 + 1)     # the second has 0.25, and pays 1


def test_free_nats_are_free_in_the_mean_over_the_batch() -> None:
    kl = torch.tensor([[0.0, 0.2], [1.0, 1.4]], requires_grad=True)    # means 0.5 and 0.8
    Elbo(torch.zeros(2), kl).loss(free=0.6).backward()
    assert kl.grad.tolist() == [[0, 0.5], [0, 0.5]]


def test_the_best_variance_is_the_mean_squared_error_and_the_bound_is_flat_there() -> None:
    one, x = net(likelihood="gaussian"), images(6)
    output = one.decoder(torch.randn(6, 3))
    one.fit_variance(output, x)
    error = F.mse_loss(output.sigmoid(), x).item()
    assert one.variance.item() == pytest.approx(error, rel=1e-6)
    variance = one.variance.clone().requires_grad_()
    terms.gaussian_cost(output.sigmoid(), x, variance).sum().backward()
    assert abs(variance.grad.item()) < 1e-3 * x.numel() / one.variance.item()
    half = 0.5 * x[0].numel() * (math.log(2 * math.pi * one.variance.item()) + 1)
    assert one.cost(output, x).mean().item() == pytest.approx(half, rel=1e-4)
    before = one.variance.item()
    one.fit_variance(output, output.sigmoid(), 0.25)
    assert one.variance.item() == pytest.approx(0.75 * before)
    one.fit_variance(output, output.sigmoid())
    assert one.variance.item() == pytest.approx(1 / 255**2)     # never less than a grey level


def test_only_training_moves_the_variance() -> None:
    one, x = net(likelihood="gaussian"), images(6)
    before = one.variance.item()
    one.elbo(x), one(x), one.log_likelihood(x, 3)
    assert one.variance.item() == before
    one.elbo(x, fit=0.5)
    assert one.variance.item() != before and "variance" in one.state_dict()


# ---------------------------------------------------------------- networks


@pytest.mark.parametrize("network", model.NETWORKS)
@pytest.mark.parametrize("shape", SHAPES)
def test_images_of_any_size_come_back_in_it(network: str, shape: tuple[int, int, int]) -> None:
    one, x = net(shape, network=network), images(2, shape)
    assert one(x).shape == x.shape and (one(x) >= 0).all() and (one(x) <= 1).all()
    one.elbo(x).loss().backward()
    assert not [name for name, p in one.named_parameters() if p.grad is None]
    assert one.encode(x[:1])[0].shape == (1, 3) and one.encode(x[:0])[0].shape == (0, 3)


def test_maps_are_halved_upwards_to_at_most_four_pixels() -> None:
    assert model.halvings(28, 28) == [(28, 28), (14, 14), (7, 7), (4, 4)]
    assert model.halvings(3, 64) == [(3, 64), (2, 32)]
    assert model.halvings(33, 40) == [(33, 40), (17, 20), (9, 10), (5, 5), (3, 3)]
    assert model.widths(8, 4) == [8, 16, 32, 32]


def test_the_old_example_has_its_parameters() -> None:
    one = VAE((1, 28, 28), 20, "mlp", 400, "relu", "bernoulli")
    assert sum(p.numel() for p in one.parameters()) == 652_824      # of 784-400-20-400-784
    assert isinstance(VAE((1, 28, 28), 20, "mlp", 500, "tanh").encoder.activate, torch.nn.Tanh)


def test_weights_start_as_strong_as_he_says() -> None:
    one = VAE((3, 32, 32), 32, width=32)
    for layer, seen in ((one.encoder.maps[2], 32 * 9), (one.encoder.head, 128 * 16),
                        (one.decoder.doublings[0], 128 * 4)):    # a quarter of its sixteen
        assert layer.weight.std().item() == pytest.approx((2 / seen) ** 0.5, rel=0.05)
    assert not any(p.any() for name, p in one.named_parameters() if name.endswith("bias"))


def test_two_models_of_one_configuration_are_alike() -> None:
    config = dict(shape=(3, 9, 8), latents=5, network="conv", width=4, activation="relu",
                  likelihood="gaussian")
    one, two = model.build(config), model.build(config)
    two.load_state_dict(one.state_dict())
    x = images(2, (3, 9, 8))
    assert torch.equal(one(x), two(x)) and one.latents == 5 and one.likelihood == "gaussian"


# ---------------------------------------------------------------- what could go wrong


@pytest.mark.parametrize("network", model.NETWORKS)
@pytest.mark.parametrize("extreme", [1e3, -1e3, 1e9, -1e9])
def test_huge_log_variances_are_squeezed_and_stay_finite(network: str, extreme: float) -> None:
    one, x = net(network=network), images(4)
    with torch.no_grad():
        one.encoder.head.bias[3:] = extreme
    loss = one.elbo(x).loss()
    loss.backward()
    assert loss.isfinite() and all(p.grad.isfinite().all() for p in one.parameters())
    assert one.log_likelihood(x, 5).isfinite().all()
    small = torch.tensor([0.01, -0.5])
    large = torch.tensor([-100.0, -30.0, 30.0, 100.0], requires_grad=True)
    assert torch.allclose(terms.squeeze(small), small, atol=1e-3)
    terms.squeeze(large).sum().backward()
    assert (terms.squeeze(large).abs() <= 12).all() and (large.grad > 0).all()


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan, math.inf])
def test_pixels_outside_their_range_are_refused_in_words(bad: float) -> None:
    x = images(3)
    x[1, 0, 2, 2] = bad
    with pytest.raises(ValueError, match="pixels lie from 0 to 1, these from"):
        net().elbo(x)


def test_other_images_and_unknown_words_are_refused_in_words() -> None:
    with pytest.raises(ValueError, match="reads images of 1×9×7 numbers, these have 1×7×9"):
        net().elbo(images(2, (1, 7, 9)))
    for wrong in ({"network": "rnn"}, {"likelihood": "poisson"}):
        with pytest.raises(ValueError, match="network is one of conv, mlp, likelihood one of"):
            net(**wrong)


def test_one_batch_can_be_learned_by_heart() -> None:
    one, x = net(width=16, latents=8), images(8).round()
    optimizer = torch.optim.Adam(one.parameters(), 1e-2)
    costs = []
    for _ in range(150):
        found = one.elbo(x)
        optimizer.zero_grad()
        found.loss().backward()
        optimizer.step()
        costs.append(found.loss().item())
    assert costs[0] == pytest.approx(63 * math.log(2), rel=1) and costs[-1] < 0.5 * costs[0]


def test_a_generator_makes_draws_repeatable(capsys: pytest.CaptureFixture) -> None:
    one, x = net(), images(3)

    def with_seed(ask: Callable, seed: int) -> Tensor:
        torch.randn(3)
        return ask(torch.Generator().manual_seed(seed))

    for ask in (lambda g: one.elbo(x, g).bound, lambda g: one.log_likelihood(x, 30, g)):
        assert torch.equal(with_seed(ask, 1), with_seed(ask, 1))
        assert not torch.equal(with_seed(ask, 1), with_seed(ask, 2))
    assert model.main(["--network", "mlp", "--shape", "1", "28", "28", "--latents", "20"]) == 0
    assert "652,824" in capsys.readouterr().out
