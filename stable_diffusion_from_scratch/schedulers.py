"""How noise is taken away: six samplers, any number of steps from 1 to 1,000.

J. Ho and others, "Denoising Diffusion Probabilistic Models", 2020 (ddpm); J. Song and others,
"Denoising Diffusion Implicit Models", 2021 (ddim); L. Liu and others, "Pseudo Numerical Methods
for Diffusion Models on Manifolds", 2022 (plms); T. Karras and others, "Elucidating the Design
Space of Diffusion-Based Generative Models", 2022 (euler, euler-a); C. Lu and others,
"DPM-Solver++", 2022 (dpm++).

A sampler is made for one run and then thrown away: it remembers what it has seen. Latents
always have the size they had in training, so the model is asked about them as they are; where
others divide by √(1 + σ²) first, here that division has been done.
"""

# no shapes here: every latent of a map is treated alike

import functools
import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

TRAINED = 1000                  # steps of the noising that the model learned to undo
FIRST, LAST = 0.00085, 0.012    # variances that the first and the last of them add


class Level(NamedTuple):
    """How much of a latent is signal, and how much is noise; the squares sum up to one."""

    signal: float
    noise: float

    @property
    def sigma(self) -> float:
        """Noise for one part of signal, the σ of Karras."""
        return self.noise / self.signal

    def mix(self, clean: Tensor, noise: Tensor) -> Tensor:
        """A clean latent at this level of noise."""
        return self.signal * clean + self.noise * noise                # (5)


CLEAN = Level(1.0, 0.0)


@functools.cache
def alpha_bars() -> np.ndarray:
    """The share of a clean latent's variance that is left after each step, in 64 bits.

    In 32 bits a product of a thousand factors would be off by half a millionth.
    """
    betas = np.linspace(FIRST**0.5, LAST**0.5, TRAINED) ** 2           # (4)
    return np.cumprod(1 - betas)                                       # (4)


def level(time: float) -> Level:
    """The level at a time from 0 to 999; between two steps σ is interpolated."""
    bars = alpha_bars()
    sigma = np.interp(time, np.arange(TRAINED), np.sqrt((1 - bars) / bars)).item()
    return Level(1 / math.hypot(1, sigma), sigma / math.hypot(1, sigma))


class Sampler:
    """Times at which the model is asked, and the level to which each answer leads.

    `skip` leaves out that many of the first steps: for latents that are not all noise. Without
    it a run begins with `start` of noise. Subclasses say how times are spaced and what a step
    does with an answer; those with `fresh` need new noise in every step.
    """

    fresh = False

    def __init__(self, steps: int, skip: int = 0) -> None:
        if not 1 <= steps <= TRAINED:
            raise ValueError(f"{steps} steps cannot be taken: use 1 to {TRAINED:,}")
        self.skipped, spaced = skip, self.spaced(steps)
        levels = [*map(level, spaced), self.end()]
        self.times = spaced[skip:]
        self.moves = list(pairwise(levels))[skip:]                # from a level to the next

    def spaced(self, steps: int) -> list[float]:
        """Every so many steps of training, from 1 on, backwards; all 1,000 begin with 0.

        As in the release: the noisiest time is asked about only if there are many steps, and
        with one step, the time is 1.
        """
        gap, offset = TRAINED // steps, min(1, TRAINED - steps)
        return [float(gap * step + offset) for step in reversed(range(steps))]

    def end(self) -> Level:
        """The level at which a run ends: a thousandth of noise stays, as in the release."""
        return level(0)

    def start(self, noise: Tensor) -> Tensor:
        """The latents of a run that begins with nothing but noise."""
        return noise

    def step(self, number: int, x: Tensor, noise: Tensor,
             fresh: Tensor | None = None) -> Tensor:
        """The latents after answer `number`, which says what noise the model sees in x."""
        here, there = self.moves[number]
        return there.mix(clean(x, noise, here), noise)                 # (12)


def clean(x: Tensor, noise: Tensor, here: Level) -> Tensor:
    """The latents that are left if the noise is taken away at once."""
    return (x - here.noise * noise) / here.signal                      # (11)


def renew(x: Tensor, noise: Tensor, here: Level, there: Level, fresh: Tensor) -> Tensor:
    """A step that takes away more noise than it should, and adds new noise for the difference.

    What stays of the old is chosen such that both together are as much as they should be.
    """
    old = there.noise * there.sigma / here.sigma
    new = math.sqrt(max(there.noise**2 - old**2, 0))
    return there.signal * clean(x, noise, here) + old * noise + new * fresh      # (13)


class DDIM(Sampler):
    """Straight on: what is clean stays clean, and the noise becomes less."""


class DDPM(Sampler):
    """With new noise in every step; with 1,000 steps the chain that was trained, backwards."""

    fresh = True

    def end(self) -> Level:
        """Nothing is left at the end."""
        return CLEAN

    def step(self, number: int, x: Tensor, noise: Tensor,
             fresh: Tensor | None = None) -> Tensor:
        """The latents after answer `number`; `fresh` is new noise of the same shape."""
        return renew(x, noise, *self.moves[number], fresh)


class PLMS(Sampler):
    """Straight on, along a line through the last four answers.

    There is no line through one answer, so the first step is taken twice: after the second time
    the answers at both of its ends are known, and their mean is taken. The model is asked once
    more than there are steps, except for a single one.
    """

    def __init__(self, steps: int, skip: int = 0) -> None:
        super().__init__(steps, skip)
        self.past: list[Tensor] = []
        self.first: Tensor | None = None               # the latents before the first step
        self.times[2:] = self.times[1:]                # the second time is asked about twice
        self.moves[1:] = self.moves if len(self.moves) > 1 else []

    def step(self, number: int, x: Tensor, noise: Tensor,
             fresh: Tensor | None = None) -> Tensor:
        """The latents after answer `number`."""
        if number == 0:
            self.first = x
        if number == 1:
            x, noise = self.first, (noise + self.past[-1]) / 2
        else:
            self.past = [*self.past[-3:], noise]
            noise = self.blend()
        return super().step(number, x, noise)

    def blend(self) -> Tensor:
        """The answer extended along the last ones: Adams and Bashforth's weights."""
        e, weights = self.past[::-1], [[1], [3 / 2, -1 / 2], [23 / 12, -16 / 12, 5 / 12],
                                       [55 / 24, -59 / 24, 37 / 24, -9 / 24]]
        return sum(w * answer for w, answer in zip(weights[len(e) - 1], e))      # (14)


class Euler(Sampler):
    """DDIM's step at other times: evenly spaced from 999 to 0, with fractions, to no noise.

    As in the library diffusers: so with one step, the time of that step is 0.
    """

    def spaced(self, steps: int) -> list[float]:
        """In 32 bits, as the model is asked about them."""
        return np.linspace(0, TRAINED - 1, steps, dtype=np.float32)[::-1].tolist()

    def end(self) -> Level:
        """Nothing is left at the end."""
        return CLEAN

    def start(self, noise: Tensor) -> Tensor:
        """Noise as there is at the first level, where a trace of signal should be, too."""
        return noise * self.moves[0][0].noise


class EulerAncestral(Euler):
    """DDPM's step at Euler's times."""

    fresh = True

    def step(self, number: int, x: Tensor, noise: Tensor,
             fresh: Tensor | None = None) -> Tensor:
        """The latents after answer `number`; `fresh` is new noise of the same shape."""
        return renew(x, noise, *self.moves[number], fresh)


class DPM(Sampler):
    """DPM-Solver++(2M): along a line through the last two clean latents, over log σ.

    The first step has no line and the last is infinitely long there: both are DDIM's. So is one
    that follows a step of no length: of 1,000 times two are rounded to the same.
    """

    def __init__(self, steps: int, skip: int = 0) -> None:
        super().__init__(steps, skip)
        self.past: Tensor | None = None

    def spaced(self, steps: int) -> list[float]:
        """Evenly from 999 to what would be 0, which is left out."""
        return np.linspace(0, TRAINED - 1, steps + 1).round()[:0:-1].tolist()

    def end(self) -> Level:
        """Nothing is left at the end."""
        return CLEAN

    def step(self, number: int, x: Tensor, noise: Tensor,
             fresh: Tensor | None = None) -> Tensor:
        """The latents after answer `number`."""
        here, there = self.moves[number]
        before = self.moves[max(number - 1, 0)][0]
        line = now = clean(x, noise, here)
        if there.noise and before != here:
            ratio = math.log(here.sigma / there.sigma) / math.log(before.sigma / here.sigma)
            line = now + ratio / 2 * (now - self.past)                 # (15)
        self.past = now
        return there.noise / here.noise * (x - here.signal * line) + there.signal * line  # (15)


SAMPLERS = {"ddim": DDIM, "ddpm": DDPM, "plms": PLMS, "euler": Euler, "euler-a": EulerAncestral,
            "dpm++": DPM}


def make(name: str, steps: int, strength: float = 1.0) -> Sampler:
    """A sampler for one run; a `strength` below 1 leaves out the first steps, of that share.

    Raises ValueError for an unknown name, for steps that are not 1 to 1,000, and for a strength
    that is not 0 to 1.
    """
    if name not in SAMPLERS:
        raise ValueError(f"there is no sampler {name!r}: choose one of {', '.join(SAMPLERS)}")
    if not 0 <= strength <= 1:
        raise ValueError(f"a strength of {strength:g} is impossible: it goes from 0, which "
                         "changes nothing, to 1, which keeps next to nothing")
    return SAMPLERS[name](steps, steps - int(steps * strength))


def noise_like(shape: tuple[int, ...], generators: list[torch.Generator]) -> Tensor:
    """Standard normal noise in 32 bits on the CPU, from a generator for each image.

    So an image is the same alone and in a batch, and on every device.
    """
    return torch.cat([torch.randn((1, *shape), generator=g) for g in generators])
