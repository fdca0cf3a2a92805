"""One step back and all of them: against diffusers, closed forms, data without a network."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from support import load

diffusion = load("diffusion_from_scratch")
core, schedule = diffusion.diffusion, diffusion.schedule
Diffusion, Sampling, denoise = core.Diffusion, core.Sampling, core.denoise
MEAN, SPREAD = 0.3, 0.2          # of the data that has no network
# diffusers 0.42.1 with float64 tables, for x = -0.9, x̂0 = 0.35, z = 1.3 on the linear schedule:
# (time, DDPM with β̃, DDPM with β, DDIM with η = 0 and with η = 0.5).
GOLDEN = [
    (0, 0.350000000000, 0.350000000000, 0.350000000000, 0.350000000000),
    (1, -0.208785683040, -0.204149590241, -0.492917780570, -0.428557330124),
    (2, -0.402096609579, -0.398743445190, -0.627338919702, -0.572624756887),
    (10, -0.708752766499, -0.707166023288, -0.811769808665, -0.781344552969),
    (100, -0.817429744781, -0.816895294191, -0.888587042268, -0.856077909003),
    (258, -0.796454802757, -0.796206427558, -0.896319959485, -0.847894165601),
    (500, -0.763290340292, -0.763234438439, -0.899077514777, -0.832550207589),
    (900, -0.717193284343, -0.717192851223, -0.899945176984, -0.810627155124),
    (999, -0.707061200027, -0.707061124312, -0.899977054388, -0.805794735124),
]



def exact(predicts: str = "noise", name: str = "linear", times: int = 1000,
          gamma: float | None = None) -> Diffusion:
    return Diffusion(schedule.Schedule.named(name, times, torch.float64), predicts, gamma)


def noise(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def ideal(d: Diffusion) -> Callable:
    """The best there is for data from N(0.3, 0.2²): what a network would be after for ever."""
    s = d.schedule

    def network(x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        bar = schedule.at(s.alpha_bar, t, x)
        noise = (1 - bar).sqrt() * (x - bar.sqrt() * MEAN) / (bar * SPREAD**2 + 1 - bar)
        x0 = (x - (1 - bar).sqrt() * noise) / bar.sqrt()
        return {"noise": noise, "x0": x0,
                "v": bar.sqrt() * noise - (1 - bar).sqrt() * x0}[d.predicts]

    return network


def drawn(how: Sampling, count: int = 20_000, predicts: str = "noise", seed: int = 0) -> Tensor:
    d = exact(predicts)
    generator = torch.Generator().manual_seed(seed + 1)
    return denoise(ideal(d), d, noise(count, 1, 1, 1, seed=seed), None, how, generator)


# ---------------------------------------------------------------- forward


def test_one_stroke_is_many_steps() -> None:
    d, s = exact(), exact().schedule
    x0, x = torch.full((100_000, 1), 0.8).double(), torch.full((100_000, 1), 0.8).double()
    for t in range(60):
        x = (1 - s.beta[t]).sqrt() * x + s.beta[t].sqrt() * noise(100_000, 1, seed=t)
    once = d.q_sample(x0, torch.full((100_000,), 59), noise(100_000, 1, seed=99))
    assert x.mean().item() == pytest.approx(once.mean().item(), abs=0.004)
    assert x.std().item() == pytest.approx(once.std().item(), rel=0.01)
    assert once.std().item() == pytest.approx(s.noise[59].item(), rel=0.01)


def test_time_zero_is_noised_once() -> None:
    d = exact()
    one = torch.ones(1, 1, 1, 1).double()
    found = d.q_sample(one, torch.tensor([0]), one)
    assert found.item() == pytest.approx(0.9999**0.5 + 1e-4**0.5)


# ---------------------------------------------------------------- three outputs, one model


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_the_three_outputs_say_the_same(name: str) -> None:
    x0, e = noise(6, 2, 3, 3), noise(6, 2, 3, 3, seed=1)
    t = torch.tensor([0, 1, 99, 500, 900, 990])
    for predicts in core.PREDICTIONS:
        d = exact(predicts, name)
        x = d.q_sample(x0, t, e)
        assert torch.allclose(d.understand(d.target(x0, t, e), x, t), x0, atol=1e-10)


@pytest.mark.parametrize("gamma", [None, 5.0])
def test_the_three_losses_are_one_under_three_weights(gamma: float | None) -> None:
    x0, e, t = noise(7, 1, 4, 4), noise(7, 1, 4, 4, seed=1), torch.arange(0, 994, 142)
    snr, guess = exact().schedule.snr[t], x0 + 0.1 * noise(7, 1, 4, 4, seed=2)
    plain = (guess - x0).square().flatten(1).mean(1)
    for predicts, unit in (("x0", 1), ("noise", snr), ("v", snr + 1)):
        d = exact(predicts, gamma=gamma)
        x = d.q_sample(x0, t, e)
        implied = (x - d.schedule.signal[t][:, None, None, None] * guess
                   ) / d.schedule.noise[t][:, None, None, None]
        output = d.target(guess, t, implied)
        counts = unit if gamma is None else snr.clamp(max=gamma)
        assert torch.allclose(d.losses(output, x0, t, e), counts * plain, rtol=1e-8)


def test_a_silent_network_loses_the_variance_of_what_it_should_say() -> None:
    x0, e, t = noise(64, 1, 9, 9).sign(), noise(64, 1, 9, 9, seed=1), torch.arange(0, 960, 15)
    for predicts in core.PREDICTIONS:
        lost = exact(predicts).losses(torch.zeros_like(x0), x0, t, e).mean().item()
        assert lost == pytest.approx(1, abs=0.04)


def test_another_prediction_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="predicts one of noise, x0, v, not mean"):
        exact("mean")


# ---------------------------------------------------------------- against diffusers


def peer(kind: str, **settings: object) -> object:
    """A scheduler of diffusers whose tables have 64 bits."""
    peers = pytest.importorskip("diffusers")
    one = getattr(peers, kind)(**{"beta_schedule": "linear", "clip_sample": False, **settings})
    one.betas = schedule.betas("linear", 1000)
    one.alphas, one.one = 1 - one.betas, torch.tensor(1.0).double()
    one.alphas_cumprod = one.alphas.cumprod(0)
    one.final_alpha_cumprod = one.one
    return one


WORDS = {"noise": "epsilon", "x0": "sample", "v": "v_prediction"}


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize(("variance", "theirs"), [("posterior", "fixed_small"),
                                                  ("beta", "fixed_large")])
@pytest.mark.parametrize("predicts", core.PREDICTIONS)
def test_a_ddpm_step_is_that_of_diffusers(predicts: str, variance: str, theirs: str, clip: bool,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    one = peer("DDPMScheduler", prediction_type=WORDS[predicts], variance_type=theirs,
               clip_sample=clip)
    d, worst = exact(predicts), 0.0
    x, output, fresh = noise(3, 1, 4, 4), noise(3, 1, 4, 4, seed=1), noise(3, 1, 4, 4, seed=2)
    module = __import__(type(one).__module__, fromlist=["x"])
    monkeypatch.setattr(module, "randn_tensor", lambda *_, **__: fresh)
    for t in range(1000):
        expected = one.step(output, t, x).prev_sample
        x0 = d.understand(output, x, t)
        x0 = x0.clamp(-1, 1) if clip else x0
        found = core.ddpm_step(d.schedule, t, x, x0, fresh, variance)
        worst = max(worst, (found - expected).abs().max().item() / (1 + expected.abs().max()))
    assert worst <= 1e-10


@pytest.mark.parametrize("steps", [10, 50, 1000])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("predicts", core.PREDICTIONS)
@pytest.mark.parametrize("clip", [False, True])
def test_a_ddim_step_is_that_of_diffusers(predicts: str, eta: float, steps: int,
                                          clip: bool) -> None:
    one = peer("DDIMScheduler", prediction_type=WORDS[predicts], clip_sample=clip,
               timestep_spacing="trailing")
    one.set_timesteps(steps)
    d = exact(predicts)
    s, worst = d.schedule.spaced(steps), 0.0
    x, output, fresh = noise(3, 1, 4, 4), noise(3, 1, 4, 4, seed=1), noise(3, 1, 4, 4, seed=2)
    for i in range(steps):
        t = int(s.times[i])
        told = {"variance_noise": fresh} if eta and i else {}
        expected = one.step(output, t, x, eta=eta if i else 0.0, use_clipped_model_output=clip,
                            **told).prev_sample
        x0 = d.understand(output, x, i, s)
        x0 = x0.clamp(-1, 1) if clip else x0
        found = core.ddim_step(s, i, x, x0, fresh, eta)
        worst = max(worst, (found - expected).abs().max().item() / (1 + expected.abs().max()))
    assert worst <= 1e-10


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: f"t={row[0]}")
def test_steps_have_the_values_that_diffusers_had(row: tuple[float, ...]) -> None:
    """So that a machine without diffusers knows them too."""
    t, *expected = row
    s, (x, x0, z) = exact().schedule, torch.tensor([-0.9, 0.35, 1.3], dtype=torch.float64)
    found = [core.ddpm_step(s, t, x, x0, z), core.ddpm_step(s, t, x, x0, z, "beta"),
             core.ddim_step(s, t, x, x0, z, 0.0), core.ddim_step(s, t, x, x0, z, 0.5)]
    assert [each.item() for each in found] == pytest.approx(expected, abs=1e-10)


def test_a_whole_sampling_in_32_bits_is_near_that_of_diffusers() -> None:
    peers = pytest.importorskip("diffusers")
    one = peers.DDIMScheduler(beta_schedule="linear", clip_sample=True,
                              timestep_spacing="trailing")
    one.set_timesteps(1000)
    single = Diffusion(schedule.Schedule.named("linear"), "noise")
    network, x = ideal(exact()), noise(16, 1, 2, 2).float()

    def ask(x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        return network(x.double(), t).float()

    theirs = x
    for t in one.timesteps:
        theirs = one.step(ask(theirs, t.expand(16)), t, theirs,
                          use_clipped_model_output=True).prev_sample
    ours = denoise(ask, single, x, None, Sampling(steps=1000))
    assert (ours - theirs).abs().max() <= 5e-4


# ---------------------------------------------------------------- data without a network


@pytest.mark.parametrize("predicts", core.PREDICTIONS)
def test_a_share_of_one_on_all_times_is_ddpm(predicts: str) -> None:
    ddim, ddpm = (drawn(how, 500, predicts) for how in (
        Sampling("ddim", 1000, eta=1.0), Sampling("ddpm", 1000)))
    assert (ddim - ddpm).abs().max() <= 1e-10


def test_ddpm_draws_from_the_data() -> None:
    small, large = (drawn(Sampling("ddpm", 1000, variance=variance))
                    for variance in core.VARIANCES)
    for x, deviation in ((small, 0.1967), (large, 0.2012)):
        assert x.mean().item() == pytest.approx(MEAN, abs=0.006)
        assert x.std().item() == pytest.approx(deviation, abs=0.003)


def test_ddim_errs_with_few_steps_as_the_closed_form_says() -> None:
    """A step maps a Gaussian to a Gaussian: its deviation is multiplied by a known factor."""
    s, x = exact().schedule, noise(2000, 1, 1, 1)
    for steps in (5, 10, 20, 50, 1000):
        few = s.spaced(steps)
        spread = torch.tensor(1.0).double()
        for i in reversed(range(steps)):
            bar, before = few.alpha_bar[i], few.before[i]
            shrink = bar.sqrt() * SPREAD**2 / (bar * SPREAD**2 + 1 - bar)    # of x in x̂0
            factor = before.sqrt() * shrink + (1 - before).sqrt() * (
                1 - bar.sqrt() * shrink) / (1 - bar).sqrt()
            spread = factor * spread
        found = denoise(ideal(exact()), exact(), x, None, Sampling(steps=steps, clip=False))
        assert (found.std() / x.std()).item() == pytest.approx(spread.item(), rel=1e-9)
    assert spread.item() == pytest.approx(0.199, abs=0.001)      # all times: nearly right


def test_two_heaps_keep_their_shares() -> None:
    """A mixture, 30 % at -0.5 and 70 % at 0.5, whose best network is known too."""
    d, shares, places, width = exact(), torch.tensor([0.3, 0.7]), (-0.5, 0.5), 0.1

    def network(x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        bar = schedule.at(d.schedule.alpha_bar, t, x)
        spread = bar * width**2 + 1 - bar
        centres = [bar.sqrt() * place for place in places]
        heaps = torch.stack([share.log() - (x - centre) ** 2 / (2 * spread)
                             for share, centre in zip(shares, centres)]).softmax(0)
        return sum(heap * (1 - bar).sqrt() * (x - centre) / spread
                   for heap, centre in zip(heaps, centres))

    for how in (Sampling("ddim", 100), Sampling("ddpm", 200)):
        x = denoise(network, d, noise(20_000, 1, 1, 1), None, how,
                    torch.Generator().manual_seed(1))
        assert (x > 0).double().mean().item() == pytest.approx(0.7, abs=0.02)
        assert x[x > 0].mean().item() == pytest.approx(0.5, abs=0.02)


# ---------------------------------------------------------------- manners of the sampler


def test_no_noise_is_added_at_the_last_step() -> None:
    for how in (Sampling("ddpm", 1000), Sampling("ddpm", 1), Sampling(steps=1, eta=1.0)):
        s, x, x0 = exact().schedule.spaced(how.steps), noise(2, 1, 2, 2), noise(2, 1, 2, 2)
        for step in (core.ddpm_step, core.ddim_step):
            for fresh in (torch.zeros_like(x), 1e6 * torch.ones_like(x)):
                assert torch.allclose(step(s, 0, x, x0, fresh, *(
                    ("beta",) if step is core.ddpm_step else (1.0,))), x0, atol=1e-9)


def test_guesses_are_cut_to_the_range_of_pixels_and_the_mean_knows() -> None:
    d = exact("x0")
    for sampler in core.SAMPLERS:
        cut = denoise(lambda x, *_: torch.full_like(x, 5.0), d, noise(2, 1, 2, 2), None,
                      Sampling(sampler, 7), torch.Generator().manual_seed(0))
        assert torch.allclose(cut, torch.ones_like(cut))
        free = denoise(lambda x, *_: torch.full_like(x, 5.0), d, noise(2, 1, 2, 2), None,
                       Sampling(sampler, 7, clip=False), torch.Generator().manual_seed(0))
        assert torch.allclose(free, 5 * torch.ones_like(free))


def test_a_seed_draws_the_same_and_another_something_else() -> None:
    for how in (Sampling("ddpm", 9), Sampling(steps=9, eta=0.7)):
        one, same = (denoise(ideal(exact()), exact(), noise(4, 1, 1, 1), None, how,
                             torch.Generator().manual_seed(3)) for _ in range(2))
        other = denoise(ideal(exact()), exact(), noise(4, 1, 1, 1), None, how,
                        torch.Generator().manual_seed(4))
        assert torch.equal(one, same) and not torch.equal(one, other)
