"""log p(x) by importance sampling, where the exact number is known: a linear Gaussian model."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from support import load

vae = load("vae_from_scratch")
model, terms = vae.model, vae.distributions
PIXELS, LATENTS, NOISE = 9, 3, 0.2


class Affine(nn.Module):
    """What an encoder or a decoder is where everything is linear."""

    def __init__(self, weight: Tensor, bias: Tensor, logvar: Tensor | None = None) -> None:
        super().__init__()
        self.weight, self.bias, self.logvar = weight, bias, logvar

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        y = x.flatten(1) @ self.weight.T + self.bias
        if self.logvar is None:
            return y.unflatten(1, (1, 3, 3))
        return y, self.logvar.expand_as(y)


def linear(off: float) -> tuple[model.VAE, MultivariateNormal]:
    """x = W z + b + noise, its exact density, and a posterior that is `off` the exact one."""
    torch.manual_seed(4)
    W, b = 0.3 * torch.randn(PIXELS, LATENTS).double(), torch.full((PIXELS,), 0.5).double()
    one = model.VAE((1, 3, 3), LATENTS, "mlp", 4, likelihood="gaussian").double()
    one.variance.fill_(NOISE**2)
    one.picture = lambda output: output                 # no sigmoid: everything stays Gaussian
    precision = torch.eye(LATENTS).double() + W.T @ W / NOISE**2
    gain = torch.linalg.solve(precision, W.T) / NOISE**2
    logvar = torch.linalg.inv(precision).diagonal().log() + 2 * off
    one.encoder = Affine(gain, off * 0.3 - gain @ b, logvar)
    one.decoder = Affine(W, b)
    covariance = W @ W.T + NOISE**2 * torch.eye(PIXELS).double()
    return one, MultivariateNormal(b, covariance)


def draws(exact: MultivariateNormal, count: int) -> tuple[Tensor, Tensor]:
    x = exact.sample((count,))
    return x.unflatten(1, (1, 3, 3)), exact.log_prob(x)


@pytest.mark.parametrize("off", [0.0, 0.3])
def test_five_thousand_samples_give_the_exact_likelihood(off: float) -> None:
    one, exact = linear(off)
    x, truth = draws(exact, 30)
    found = one.log_likelihood(x, 5_000, torch.Generator().manual_seed(0))
    assert abs((found - truth).mean().item()) < 0.02
    assert (found - truth).abs().max() < 0.2


def test_more_samples_are_nearer_from_below() -> None:
    one, exact = linear(0.4)
    x, truth = draws(exact, 400)
    generator = torch.Generator().manual_seed(0)
    gaps = [(truth - one.log_likelihood(x, count, generator)).mean().item()
            for count in (1, 5, 50, 500)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] > 0.3 and -0.02 < gaps[-1] < 0.05


def test_one_sample_is_the_bound_and_the_gap_is_the_divergence_of_the_posterior() -> None:
    one, exact = linear(0.3)
    x, truth = draws(exact, 2_000)
    single = one.log_likelihood(x, 1, torch.Generator().manual_seed(0)).mean()
    mean, logvar = one.encode(x)
    z = one.reparameterize(mean, logvar, torch.Generator().manual_seed(1))
    bound = -one.cost(one.decoder(z), x) - terms.kl_to_standard(mean, logvar).sum(1)
    assert abs((single - bound.mean()).item()) < 0.15
    W, b = one.decoder.weight, one.decoder.bias
    covariance = torch.linalg.inv(torch.eye(LATENTS).double() + W.T @ W / NOISE**2)
    centre = (x.flatten(1) - b) @ W @ covariance / NOISE**2
    posterior = MultivariateNormal(centre, covariance)
    theirs = MultivariateNormal(mean, torch.diag_embed(logvar.exp()))
    gap = torch.distributions.kl_divergence(theirs, posterior)
    assert (truth - bound).mean().item() == pytest.approx(gap.mean().item(), abs=0.15)


@pytest.mark.parametrize("likelihood", model.LIKELIHOODS)
def test_the_estimate_is_the_mean_of_weights(likelihood: str) -> None:
    """With the same noise, written out for every sample, however many are decoded together."""
    torch.manual_seed(2)
    one = model.VAE((1, 4, 4), 2, width=3, likelihood=likelihood).double()
    x, samples = torch.rand(5, 1, 4, 4).double().round(), 2 * model.AT_ONCE + 3
    found = one.log_likelihood(x, samples, torch.Generator().manual_seed(7))
    generator, weights = torch.Generator().manual_seed(7), []
    mean, logvar = one.encode(x)
    for start in range(0, samples, model.AT_ONCE):
        count = min(model.AT_ONCE, samples - start)
        noise = torch.randn(count * 5, 2, generator=generator, dtype=torch.float64)
        for z_noise in noise.unflatten(0, (count, 5)):
            z = mean + (0.5 * logvar).exp() * z_noise
            prior = -0.5 * (z**2).sum(1) - math.log(2 * math.pi)
            q = -0.5 * (z_noise**2 + logvar).sum(1) - math.log(2 * math.pi)
            weights.append(-one.cost(one.decoder(z), x) + prior - q)
    expected = torch.stack(weights).exp().mean(0).log()
    assert torch.allclose(found, expected, rtol=1e-9)
