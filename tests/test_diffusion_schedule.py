"""Schedules: the numbers of the papers, in 64 bits, any number of times; diffusers agrees."""

import math

import pytest
import torch

from support import load

diffusion = load("diffusion_from_scratch")
schedule = diffusion.schedule
Schedule = schedule.Schedule


def exact(name: str = "linear", times: int = 1000) -> Schedule:
    return Schedule.named(name, times, torch.float64)


# ---------------------------------------------------------------- the numbers


def test_the_papers_noise_is_a_line_from_a_ten_thousandth_to_a_fiftieth() -> None:
    beta = schedule.betas("linear", 1000)
    assert beta.dtype == torch.float64 and beta[[0, -1]].tolist() == [1e-4, 0.02]
    assert torch.allclose(beta.diff(), beta.diff()[:1], rtol=1e-9)
    s = exact()
    assert s.exact[0].item() == pytest.approx(0.9999) and s.exact[-1].item() == pytest.approx(
        4.0358e-5, rel=1e-4)
    assert ((s.snr - 1).abs().argmin().item(), (s.snr - 5).abs().argmin().item()) == (258, 130)


def test_the_cosine_is_that_of_the_paper_until_it_is_cut() -> None:
    s, f = exact("cosine"), [math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2
                             for t in range(1001)]
    expected = torch.tensor([value / f[0] for value in f[1:]], dtype=torch.float64)
    assert torch.allclose(s.exact[:-1], expected[:-1], rtol=1e-9)
    assert s.beta[-1].item() == pytest.approx(0.999) and s.beta.max() <= 0.999 + 1e-12
    assert (s.exact[0].item(), s.exact[-1].item()) == (
        pytest.approx(0.999959, abs=1e-6), pytest.approx(2.43e-9, rel=1e-2))
    assert (s.snr - 1).abs().argmin().item() == 495


def test_few_times_drown_a_picture_only_if_each_adds_more() -> None:
    for times, left in ((100, 0.364), (200, 0.132), (400, 0.0173), (1000, 4.0e-5)):
        assert exact("unscaled", times).exact[-1].item() == pytest.approx(left, rel=0.02)
        assert exact("linear", times).drowns
        assert exact("unscaled", times).drowns == (times == 1000)
    assert not Schedule(torch.tensor([0.5, 0.005])).drowns
    for name in ("linear", "cosine"):
        for times in (1, 2, 5, 20, 50):
            assert (exact(name, times).beta < 1).all() and (exact(name, times).beta > 0).all()


@pytest.mark.parametrize("name", schedule.NAMES)
def test_everything_follows_from_beta(name: str) -> None:
    s, beta = exact(name), schedule.betas(name, 1000)
    bar = torch.cumprod(1 - beta, 0)
    before = torch.cat([torch.ones(1).double(), bar[:-1]])
    for found, expected in (
            (s.beta, beta), (s.alpha_bar, bar), (s.before, before), (s.signal, bar.sqrt()),
            (s.noise, (1 - bar).sqrt()), (s.snr, bar / (1 - bar)),
            (s.posterior_variance, beta * (1 - before) / (1 - bar)),
            (s.of_picture, beta * before.sqrt() / (1 - bar)),
            (s.of_noised, (1 - beta).sqrt() * (1 - before) / (1 - bar))):
        assert torch.allclose(found, expected, rtol=1e-9, atol=1e-14)
    assert s.posterior_variance[0] == 0 and s.of_noised[0] == 0
    assert s.of_picture[0].item() == pytest.approx(1, abs=1e-9)


def test_the_posterior_is_bayes_rule() -> None:
    """Of three Gaussians in one dimension, by the textbook's precision-weighted mean."""
    s, t, x0, x = exact(), 300, 0.7, -0.4
    alpha, before, beta = 1 - s.beta[t], s.before[t], s.beta[t]
    precision = alpha / beta + 1 / (1 - before)
    mean = (alpha.sqrt() / beta * x + before.sqrt() / (1 - before) * x0) / precision
    assert s.posterior_variance[t].item() == pytest.approx((1 / precision).item(), rel=1e-9)
    assert (s.of_picture[t] * x0 + s.of_noised[t] * x).item() == pytest.approx(mean.item())


def test_digits_are_not_lost_on_the_way_to_32_bits() -> None:
    single, double = Schedule.named("linear"), exact()
    assert single.noise.dtype == torch.float32 and single.exact.dtype == torch.float64
    for name in ("noise", "signal", "snr", "of_picture", "posterior_variance"):
        rounded = getattr(double, name).float()
        assert torch.equal(getattr(single, name), rounded), name
    naive = (1 - (1 - torch.linspace(1e-4, 0.02, 1000)).cumprod(0)).sqrt()
    assert abs(naive[0] / double.noise[0] - 1) > 5e-5      # what 64 bits are for


# ---------------------------------------------------------------- some of the times


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 10, 13, 50, 333, 999, 1000])
def test_some_times_are_even_different_and_end_with_the_last(steps: int) -> None:
    s, few = exact("cosine"), exact("cosine").spaced(steps)
    assert len(few) == steps == len(set(few.times.tolist())) and few.times[-1] == 999
    gaps = few.times.diff()
    assert steps == 1 or gaps.min() >= 1 and gaps.max() - gaps.min() <= 1
    assert torch.equal(few.exact, s.exact[few.times]) and few.before[0] == 1
    assert torch.equal(few.before[1:], s.exact[few.times][:-1])
    assert torch.allclose((1 - few.beta).cumprod(0), few.exact, rtol=1e-9)


def test_all_times_are_the_schedule_itself() -> None:
    s, same = exact(), exact().spaced(1000)
    assert torch.equal(s.beta, same.beta) and torch.equal(same.times, torch.arange(1000))
    again = s.spaced(100).spaced(10)
    assert again.times.tolist() == s.spaced(10).times.tolist() == list(range(99, 1000, 100))


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_impossible_steps_are_refused_in_words(steps: int) -> None:
    with pytest.raises(ValueError, match=f"{steps} steps are not possible: this model has"):
        exact().spaced(steps)


def test_impossible_schedules_are_refused_in_words() -> None:
    with pytest.raises(ValueError, match="there is no schedule square: use one of cosine, lin"):
        Schedule.named("square")
    with pytest.raises(ValueError, match="at least one time, not 0"):
        Schedule.named("cosine", 0)
    for bad in ([0.9, 0.9], [1.0, 0.5], [0.5, 0.6], [0.5, 0.0]):
        with pytest.raises(ValueError, match="falls with every time"):
            Schedule(torch.tensor(bad))


def test_values_meet_pictures_of_any_rank() -> None:
    values, x = torch.tensor([1.0, 2.0, 3.0]), torch.ones(2, 3, 4, 5)
    found = schedule.at(values, torch.tensor([2, 0]), x) * x
    assert found[0].eq(3).all() and found[1].eq(1).all()
    assert schedule.at(values, 1, x).shape == (1, 1, 1, 1) and schedule.at(values, 1, x) == 2


# ---------------------------------------------------------------- diffusers


def test_diffusers_has_the_same_schedules() -> None:
    peers = pytest.importorskip("diffusers")
    for ours, theirs in (("linear", "linear"), ("cosine", "squaredcos_cap_v2")):
        peer = peers.DDPMScheduler(beta_schedule=theirs)
        assert torch.allclose(schedule.betas(ours, 1000).float(), peer.betas, rtol=2e-4)
        s = Schedule.named(ours)
        assert torch.allclose(s.alpha_bar, peer.alphas_cumprod, rtol=1e-3, atol=1e-9)
    spaced = peers.DDIMScheduler(timestep_spacing="trailing")
    for steps in (10, 50, 1000):
        spaced.set_timesteps(steps)
        assert spaced.timesteps.tolist()[::-1] == exact().spaced(steps).times.tolist()
