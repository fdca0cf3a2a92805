"""The samplers against diffusers', and on noise whose removal is known exactly."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from sd_peers import PAPER_SCHEDULE, sd

schedulers = sd.schedulers
STEPS = [1, 2, 3, 5, 9, 10, 20, 27, 30, 37, 50, 100, 999, 1000]
NAMES = list(schedulers.SAMPLERS)
TIMES = {   # of 10 steps, as published
    "ddim": [901, 801, 701, 601, 501, 401, 301, 201, 101, 1],
    "ddpm": [901, 801, 701, 601, 501, 401, 301, 201, 101, 1],
    "plms": [901, 801, 801, 701, 601, 501, 401, 301, 201, 101, 1],
    "euler": [999, 888, 777, 666, 555, 444, 333, 222, 111, 0],
    "euler-a": [999, 888, 777, 666, 555, 444, 333, 222, 111, 0],
    "dpm++": [999, 899, 799, 699, 599, 500, 400, 300, 200, 100],
}


class Doubled:
    """PyTorch, but what it calls 32 bits has 64: theirs rounds every latent to 32."""

    float32 = torch.float64

    def __getattr__(self, name: str) -> object:
        return getattr(torch, name)


def peer_of(name: str, steps: int, patch: pytest.MonkeyPatch) -> object:
    """The scheduler of diffusers with the published settings, in 64 bits and our table.

    An offset of 1 in 1,000 steps asks it about time 1,000, which does not exist.
    """
    import diffusers
    offset = {"steps_offset": min(1, 1000 - steps)}
    kind, settings = {
        "ddim": ("DDIMScheduler", offset | {"clip_sample": False, "set_alpha_to_one": False}),
        "ddpm": ("DDPMScheduler", offset | {"clip_sample": False}),
        "plms": ("PNDMScheduler", offset | {"skip_prk_steps": True}),
        "euler": ("EulerDiscreteScheduler", {}),
        "euler-a": ("EulerAncestralDiscreteScheduler", {}),
        "dpm++": ("DPMSolverMultistepScheduler", {})}[name]
    made = getattr(diffusers, kind)(**PAPER_SCHEDULE, **settings)
    patch.setattr(f"{type(made).__module__}.torch", Doubled())
    made.alphas_cumprod = torch.tensor(schedulers.alpha_bars())
    made.final_alpha_cumprod = made.alphas_cumprod[0]
    made.set_timesteps(steps)
    if hasattr(made, "sigmas"):
        levels = [schedulers.level(time).sigma for time in made.timesteps.tolist()]
        made.sigmas = torch.tensor([*levels, 0.0], dtype=torch.float64)
    return made


def denoiser(x: Tensor, time: float) -> Tensor:
    """The noise in latents of deviation ½, bent, so that no step is exact."""
    here = schedulers.level(time)
    return x * here.noise / (0.25 * here.signal**2 + here.noise**2) - 0.1 * torch.tanh(x)


def run_both(name: str, steps: int, patch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A run of both from the same noise, fresh noise included; the largest difference."""
    theirs, ours = peer_of(name, steps, patch), schedulers.make(name, steps)
    noise = torch.randn(1, 4, 6, 6, dtype=torch.float64)
    x, y, worst = ours.start(noise), noise * theirs.init_noise_sigma, 0.0
    draws = [torch.Generator().manual_seed(1) for _ in range(2)]
    given = {"generator": draws[0]} if ours.fresh else {}
    for number, time in enumerate(theirs.timesteps):
        seen = denoiser(theirs.scale_model_input(y, time), float(time))
        y = theirs.step(seen, time, y, **given).prev_sample
        fresh = (torch.randn(x.shape, generator=draws[1], dtype=torch.float64)
                 if ours.fresh and not (name == "ddpm" and time == 0) else torch.zeros_like(x))
        x = ours.step(number, x, denoiser(x, ours.times[number]), fresh)
        ratio = ours.moves[number][1].signal if name.startswith("euler") else 1.0
        if y.isfinite().all():
            worst = max(worst, ((x / ratio - y).norm() / y.norm()).item())
    return SimpleNamespace(ours=ours, theirs=theirs, worst=worst, x=x, y=y)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("name", NAMES)
def test_times_and_latents_are_diffusers(name: str, steps: int,
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    both = run_both(name, steps, monkeypatch)
    assert both.ours.times == both.theirs.timesteps.tolist()
    assert both.worst <= 1e-6 and both.x.isfinite().all()
    repeated = name == "dpm++" and steps == 1000       # theirs divides by a step of no length
    assert both.y.isfinite().all() or repeated


@pytest.mark.parametrize("name", NAMES)
def test_published_times(name: str) -> None:
    assert schedulers.make(name, 10).times == TIMES[name]
    assert len(schedulers.make(name, 50).times) == 50 + (name == "plms")


def test_published_times_of_other_lengths() -> None:
    """Lengths that do not divide 1,000 once made 31 steps of 30, or crashed."""
    assert schedulers.make("ddim", 50).times[:2] == [981, 961]
    assert schedulers.make("ddim", 30).times[:2] + schedulers.make("ddim", 30).times[-2:] == [
        958, 925, 34, 1]
    assert schedulers.make("euler", 20).times[1] == pytest.approx(946.4211, abs=1e-4)
    assert schedulers.make("dpm++", 20).times[-1] == 50


@pytest.mark.parametrize("name", NAMES)
def test_any_number_of_steps_works(name: str) -> None:
    for steps in range(1, 1001, 1 if name == "ddim" else 13):
        plan = schedulers.make(name, steps)
        assert len(plan.times) == len(plan.moves) == steps + (name == "plms" and steps > 1)
        assert all(0 <= time <= 999 for time in plan.times)
        assert plan.times == sorted(plan.times, reverse=True)
        for here, there in plan.moves:
            assert here.noise >= there.noise
            assert here.signal**2 + here.noise**2 == pytest.approx(1)


def test_the_table_is_the_published_one() -> None:
    bars = schedulers.alpha_bars()
    assert bars[0] == pytest.approx(0.99915) and bars[999] == pytest.approx(0.0046601, rel=1e-4)
    assert schedulers.level(999).sigma == pytest.approx(14.614641, rel=1e-5)
    assert schedulers.level(0).sigma == pytest.approx(0.029167, rel=1e-4)
    halfway = (schedulers.level(10).sigma + schedulers.level(11).sigma) / 2
    assert schedulers.level(10.5).sigma == pytest.approx(halfway)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("steps", [1, 2, 7, 50])
def test_noise_that_is_known_is_taken_away_exactly(name: str, steps: int) -> None:
    """Whoever always sees the true noise ends at the true latents, whatever the steps."""
    truth, noise = torch.randn(2, 2, 4, 5, 5, dtype=torch.float64)
    plan = schedulers.make(name, steps)
    x = plan.moves[0][0].mix(truth, noise)
    for number, time in enumerate(plan.times):
        here = schedulers.level(time)
        fresh = torch.randn_like(x)
        x = plan.step(number, x, (x - here.signal * truth) / here.noise, fresh)
    end = plan.moves[-1][1]
    assert (schedulers.clean(x, noise, end) - truth).abs().max() <= 1e-9


def test_two_runs_do_not_know_of_each_other() -> None:
    noise = torch.randn(1, 4, 4, 4)
    for name in NAMES:
        ends = []
        for _ in range(2):
            plan, x = schedulers.make(name, 6), noise
            for number, time in enumerate(plan.times):
                x = plan.step(number, x, denoiser(x, time), torch.ones_like(x))
            ends.append(x)
        assert torch.equal(*ends)


# ---------------------------------------------------------------- a mixture of two Gaussians


def mixture(x: Tensor, here: schedulers.Level) -> Tensor:
    """The exact noise in latents that are -1 or 1 with a deviation of 0.4, at a level."""
    spread = 0.16 * here.signal**2 + here.noise**2
    centres = torch.tensor([-1.0, 1.0], dtype=torch.float64) * here.signal
    shares = (-((x[..., None] - centres) ** 2) / (2 * spread)).softmax(-1)
    return here.noise / spread * (x - (shares * centres).sum(-1))


def ladder(steps: int, first: float = 10.0, last: float = 0.05) -> list:
    """Levels whose σ falls by the same factor every time."""
    sigmas = np.geomspace(first, last, steps + 1)
    levels = [schedulers.Level(1 / math.hypot(1, s), s / math.hypot(1, s)) for s in sigmas]
    return list(zip(levels, levels[1:]))


def end_of(name: str, steps: int) -> Tensor:
    """Where latents that are spread over all of the noise end."""
    plan = schedulers.make(name, 2)
    plan.moves = ladder(steps)
    x = torch.linspace(-2, 2, 41, dtype=torch.float64)
    for number, (here, _) in enumerate(plan.moves):
        x = plan.step(number, x, mixture(x, here), torch.zeros_like(x))
    return x


@pytest.mark.parametrize(("name", "least", "most"), [("ddim", 0.8, 1.2), ("euler", 0.8, 1.2),
                                                     ("dpm++", 1.7, 2.4)])
def test_errors_fall_with_the_order_that_theory_gives(name: str, least: float,
                                                      most: float) -> None:
    """Twice the steps: half the error, or a quarter."""
    exact = end_of("dpm++", 20_000)
    errors = [(end_of(name, steps) - exact).abs().mean().item() for steps in (40, 80, 160)]
    orders = [math.log2(a / b) for a, b in zip(errors, errors[1:])]
    assert all(least <= order <= most for order in orders), (orders, errors)


@pytest.mark.parametrize("name", ["ddpm", "euler-a"])
def test_new_noise_leads_to_the_whole_mixture(name: str) -> None:
    """Mean, deviation and the share of each centre, from 20,000 draws."""
    plan, draw = schedulers.make(name, 200), torch.Generator().manual_seed(0)
    x = plan.start(torch.randn(20_000, generator=draw, dtype=torch.float64))
    for number, time in enumerate(plan.times):
        fresh = torch.randn(x.shape, generator=draw, dtype=torch.float64)
        x = plan.step(number, x, mixture(x, schedulers.level(time)), fresh)
    assert abs(x.mean()) < 0.05 and abs((x > 0).double().mean() - 0.5) < 0.03
    assert x.std().item() == pytest.approx(math.sqrt(1.16), rel=0.03)


# ---------------------------------------------------------------- strength, and refusals


@pytest.mark.parametrize("name", NAMES)
def test_strength_is_the_share_of_steps_that_are_taken(name: str) -> None:
    for strength, taken in ((0.0, 0), (0.04, 0), (0.1, 1), (0.6, 6), (1.0, 10)):
        plan = schedulers.make(name, 10, strength)
        extra = name == "plms" and taken > 1
        assert len(plan.times) == len(plan.moves) == taken + extra
        if taken:
            every = list(dict.fromkeys(schedulers.make(name, 10).times))
            assert plan.times[0] == every[10 - taken]
    with pytest.raises(ValueError, match="strength of 1.5 is impossible"):
        schedulers.make(name, 10, 1.5)


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_impossible_steps_and_names_are_refused(steps: int) -> None:
    with pytest.raises(ValueError, match="steps cannot be taken: use 1 to 1,000"):
        schedulers.make("ddim", steps)
    with pytest.raises(ValueError, match="no sampler 'heun': choose one of ddim, ddpm"):
        schedulers.make("heun", 10)


def test_noise_depends_on_the_seed_of_its_picture_alone() -> None:
    def draws(seeds: list[int]) -> Tensor:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return schedulers.noise_like((4, 3, 3), generators)

    assert torch.equal(draws([5, 6, 7])[1:], draws([6, 7]))
    assert not torch.equal(*draws([5, 6]).chunk(2))
