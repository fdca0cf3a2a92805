"""Noise is added by a formula and taken away by a network: the loss and the samplers.

J. Ho, A. Jain, P. Abbeel, "Denoising Diffusion Probabilistic Models", NeurIPS 2020 (DDPM);
J. Song, C. Meng, S. Ermon, "Denoising Diffusion Implicit Models", ICLR 2021 (DDIM);
J. Ho, T. Salimans, "Classifier-Free Diffusion Guidance", 2022.
"""

# B pictures in a batch, C channels, H height and W width, T times

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from schedule import Schedule, at

PREDICTIONS = ("noise", "x0", "v")
SAMPLERS = ("ddim", "ddpm")
VARIANCES = ("posterior", "beta")

Network = Callable[[Tensor, Tensor, Tensor | None], Tensor]
Watcher = Callable[[int, Tensor, Tensor], None]
Generators = torch.Generator | list[torch.Generator] | None


class Diffusion:
    """What a network predicts, how wrong it is, and what that says of picture and noise.

    The network may predict the noise, the picture, or v, a rotation of both: with a weight
    for each time these are the same loss. With `gamma` the weight of the picture's error is
    the signal-to-noise ratio, at most gamma. Raises ValueError for another prediction.
    """

    def __init__(self, schedule: Schedule, predicts: str = "v",
                 gamma: float | None = None) -> None:
        if predicts not in PREDICTIONS:
            raise ValueError(f"a network predicts one of {', '.join(PREDICTIONS)}, not "
                             f"{predicts}")
        self.schedule, self.predicts, self.gamma = schedule, predicts, gamma

    def q_sample(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:   # (B, C, H, W)
        """Pictures at times (B,): all noise of the way there in one stroke."""
        s = self.schedule
        return at(s.signal, t, x0) * x0 + at(s.noise, t, x0) * noise   # (B, C, H, W)  (2)

    def target(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:  # (B, C, H, W)
        """What the network should say of the noised pictures."""
        s = self.schedule
        if self.predicts == "v":
            return at(s.signal, t, x0) * noise - at(s.noise, t, x0) * x0    # (B, C, H, W)  (8)
        return noise if self.predicts == "noise" else x0               # (B, C, H, W)

    def understand(self, output: Tensor, x: Tensor, t: Tensor | int,
                   schedule: Schedule | None = None) -> Tensor:        # (B, C, H, W)
        """The picture that an output for noised pictures x at times t means."""
        s = schedule or self.schedule
        signal, noise = at(s.signal, t, x), at(s.noise, t, x)
        if self.predicts == "v":
            return signal * x - noise * output                         # (B, C, H, W)  (8)
        if self.predicts == "noise":
            return (x - noise * output) / signal                       # (B, C, H, W)  (2)
        return output                                                  # (B, C, H, W)

    def weight(self) -> Tensor:
        """What the squared error of the output counts at each time."""
        s = self.schedule
        if self.gamma is None:
            return torch.ones_like(s.snr)                              # (T,)
        snr = (s.exact / (1 - s.exact)).to(s.device)                   # (T,)
        unit = {"noise": snr, "x0": torch.ones_like(snr), "v": snr + 1}[self.predicts]    # (9)
        return (snr.clamp(max=self.gamma) / unit).to(s.dtype)          # (T,)

    def losses(self, output: Tensor, x0: Tensor, t: Tensor,
               noise: Tensor) -> Tensor:                               # (B, C, H, W)
        """The weighted mean squared error of each picture's output."""
        error = (output - self.target(x0, t, noise)) ** 2              # (B, C, H, W)
        return self.weight()[t] * error.flatten(1).mean(1)             # (B,)


# ---------------------------------------------------------------- one step back


def ddpm_step(s: Schedule, i: int, x: Tensor, x0: Tensor, fresh: Tensor,
              variance: str = "posterior") -> Tensor:
    """From place i of a schedule to the one before, if the picture were x0; (B, C, H, W).

    The variance is that of q(x_{t-1}|x_t, x_0), right for one single picture, or β, right for
    pictures of pure noise. At place 0 the picture itself is reached: no noise is added.
    """
    mean = s.of_picture[i] * x0 + s.of_noised[i] * x                   # (B, C, H, W)  (6)
    spread = s.posterior_variance if variance == "posterior" else s.beta
    return mean + spread[i].sqrt() * fresh if i else mean              # (B, C, H, W)  (11)


def ddim_step(s: Schedule, i: int, x: Tensor, x0: Tensor, fresh: Tensor,
              eta: float = 0.0) -> Tensor:
    """The same with a share η of fresh noise; the rest is the noise that was there, less of it.

    η = 1 is `ddpm_step` with the posterior's variance; η = 0 draws nothing.
    """
    noise = (x - s.signal[i] * x0) / s.noise[i]                        # (B, C, H, W)  (2)
    spread = eta**2 * s.posterior_variance[i]
    kept = (1 - s.before[i] - spread).clamp(min=0).sqrt()
    x = s.before[i].sqrt() * x0 + kept * noise                         # (B, C, H, W)  (12)
    return x + spread.sqrt() * fresh if i else x                       # (B, C, H, W)


# ---------------------------------------------------------------- all steps


class Sampling(NamedTuple):
    """How pictures are drawn: which sampler, in how many steps, and how strictly by label."""

    sampler: str = "ddim"
    steps: int = 50
    eta: float = 0.0                # of DDIM: share of fresh noise
    variance: str = "posterior"     # of DDPM
    guidance: float = 0.0           # 0 follows the label as training did
    clip: bool = True               # pictures have values from -1 to 1, and so have guesses


DEFAULT = Sampling()


def gaussian(like: Tensor, generator: Generators = None) -> Tensor:
    """Noise of the shape of a tensor; a generator of the CPU gives the same on all devices.

    With a list of generators each picture (B, C, H, W) has its own: its noise does not depend
    on the others.
    """
    if isinstance(generator, list):
        pairs = zip(like, generator, strict=True)
        return torch.cat([gaussian(x[None], own) for x, own in pairs])
    device = generator.device if generator else like.device
    drawn = torch.randn(like.shape, generator=generator, dtype=like.dtype, device=device)
    return drawn.to(like.device)


def guided(model: Network, x: Tensor, t: Tensor, labels: Tensor | None,
           guidance: float) -> Tensor:
    """The output for a label, pushed away from the one without: (1 + w) known - w unknown.

    Both are asked in one call. Needs labels if w is not 0.
    """
    if not guidance:
        return model(x, t, labels)                                     # (B, C, H, W)
    if labels is None:
        raise ValueError("guidance needs labels to be guided by")
    none = torch.full_like(labels, model.classes)                      # (B,)
    both = model(torch.cat([x, x]), torch.cat([t, t]), torch.cat([labels, none]))
    known, unknown = both.chunk(2)                                     # each (B, C, H, W)
    return (1 + guidance) * known - guidance * unknown                 # (B, C, H, W)  (13)


@torch.no_grad()
def denoise(model: Network, diffusion: Diffusion, x: Tensor, labels: Tensor | None = None,
            how: Sampling = DEFAULT, generator: Generators = None,
            start: int | None = None, known: tuple[Tensor, Tensor] | None = None,
            watch: Watcher | None = None) -> Tensor:
    """Pictures (B, C, H, W) from noise, step by step, or from noised ones: `start` says where.

    `start` is a place of the spaced schedule, by default its last. `known` are
    pictures and a mask, 1 where they are to be kept. `watch` sees the place, the noised
    pictures, and what the network believes they are. Raises ValueError for impossible steps.
    """
    s = diffusion.schedule.spaced(how.steps)
    for i in reversed(range(len(s) if start is None else start + 1)):
        t = s.times[i].to(x.device).expand(len(x))                     # (B,)
        output = guided(model, x, t, labels, how.guidance)             # (B, C, H, W)
        x0 = diffusion.understand(output, x, i, s)                     # (B, C, H, W)
        if how.clip:
            x0 = x0.clamp(-1, 1)
        if watch:
            watch(i, x, x0)
        draws = how.sampler == "ddpm" or how.eta > 0
        fresh = gaussian(x, generator) if draws and i else torch.zeros_like(x)
        if how.sampler == "ddpm":
            x = ddpm_step(s, i, x, x0, fresh, how.variance)            # (B, C, H, W)
        else:
            x = ddim_step(s, i, x, x0, fresh, how.eta)                 # (B, C, H, W)
        if known:
            x = keep_known(s, i, x, *known, generator)                 # (B, C, H, W)
    return x                                                           # (B, C, H, W)


def keep_known(s: Schedule, i: int, x: Tensor, picture: Tensor, mask: Tensor,
               generator: Generators) -> Tensor:
    """Where the mask is 1, the picture as it would be after this step, else what was drawn."""
    noise = gaussian(x, generator) if i else torch.zeros_like(x)
    there = s.before[i].sqrt() * picture + (1 - s.before[i]).sqrt() * noise
    return torch.where(mask > 0, there, x)                             # (B, C, H, W)
