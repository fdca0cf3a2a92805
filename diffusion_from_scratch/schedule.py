"""How fast pictures drown in noise, and every number that follows from it, one for each time.

Computed in 64 bits and kept in 32: a product of a thousand numbers near one loses its digits
otherwise. Time 0 means "noised once": a picture that no noise has touched has no time.
"""

# T times

import math

import torch
from torch import Tensor

NAMES = ("cosine", "linear", "unscaled")
FIRST, LAST = 1e-4, 0.02     # β of the paper, for a thousand times
OFFSET = 0.008               # of the cosine: at time 0 there is a little noise already
MOST = 0.999                 # of β: something of the picture must be left to divide by
ENOUGH = 1e-3                # of ᾱ at the last time: more, and the picture is still to be seen


def betas(name: str, times: int) -> Tensor:
    """The share of variance that each time replaces by noise, in 64 bits (T,).

    "linear" adds as much noise as the paper does in a thousand times, in hundreds or dozens of
    them; "unscaled" takes the paper's numbers as they are, which for few times leaves the
    picture visible at the end. Raises
    ValueError for another name, or for no time at all.
    """
    if times < 1:
        raise ValueError(f"a schedule has at least one time, not {times}")
    if name == "cosine":
        moments = torch.arange(times + 1, dtype=torch.float64) / times # (T+1,)
        kept = ((moments + OFFSET) / (1 + OFFSET) * math.pi / 2).cos() ** 2  # (T+1,)  (4)
        return (1 - kept[1:] / kept[:-1]).clamp(max=MOST)              # (T,)
    if name not in NAMES:
        raise ValueError(f"there is no schedule {name}: use one of {', '.join(NAMES)}")
    scale = 1000 / times if name == "linear" else 1.0
    line = torch.linspace(FIRST, LAST, times, dtype=torch.float64)     # (T,)  (3)
    return (scale * line).clamp(max=MOST)                              # (T,)


class Schedule:
    """What is kept of the picture at each time, and how to go back, each (T,).

    `alpha_bar` is ᾱ in 64 bits; `times` are the network's names of the times, where only some
    of them are taken. Raises ValueError where ᾱ does not fall from below 1 to above 0.
    """

    def __init__(self, alpha_bar: Tensor, times: Tensor | None = None,
                 dtype: torch.dtype = torch.float32,
                 device: torch.device | str = "cpu") -> None:
        exact = alpha_bar.double().cpu()                               # (T,)
        before = torch.cat([torch.ones(1, dtype=torch.float64), exact])[:-1]
        if not (exact < before).all() or not (exact > 0).all():
            raise ValueError("what is kept of a picture falls with every time, from below 1 to "
                             "above 0")
        beta = 1 - exact / before                                      # (T,)  (10)
        self.exact, self.dtype, self.device = exact, dtype, torch.device(device)
        self.times = torch.arange(len(exact)) if times is None else times    # (T,)

        def keep(values: Tensor) -> Tensor:
            return values.to(device, dtype)                            # (T,)

        self.beta, self.alpha_bar, self.before = keep(beta), keep(exact), keep(before)
        self.signal, self.noise = keep(exact.sqrt()), keep((1 - exact).sqrt())
        self.snr = keep(exact / (1 - exact))                           # (T,)  (5)
        self.posterior_variance = keep((1 - before) / (1 - exact) * beta)    # (T,)  (7)
        self.of_picture = keep(before.sqrt() * beta / (1 - exact))     # (T,)  (6)
        self.of_noised = keep((1 - beta).sqrt() * (1 - before) / (1 - exact))    # (T,)  (6)

    def __len__(self) -> int:
        return len(self.exact)

    @classmethod
    def named(cls, name: str, times: int = 1000, dtype: torch.dtype = torch.float32,
              device: torch.device | str = "cpu") -> "Schedule":
        """The schedule with this name: see `betas`."""
        kept = 1 - betas(name, times)                                  # (T,)  (1)
        return cls(kept.cumprod(0), None, dtype, device)    # (2)

    @property
    def drowns(self) -> bool:
        """Whether so little of the picture is left at the last time that sampling may begin."""
        return self.exact[-1].item() < ENOUGH

    def spaced(self, steps: int) -> "Schedule":
        """The schedule of some of the times, evenly spaced, the last always among them.

        With β made anew between those that are left it is a schedule like any other, so every
        sampler can take few steps. Raises ValueError for no step, or more than there are times.
        """
        if not 1 <= steps <= len(self):
            raise ValueError(f"{steps} steps are not possible: this model has {len(self)} "
                             f"times, use 1 to {len(self)} steps")
        chosen = torch.arange(1, steps + 1) * len(self) // steps - 1   # (T,)
        return Schedule(self.exact[chosen], self.times[chosen], self.dtype, self.device)


def at(values: Tensor, t: Tensor | int, like: Tensor) -> Tensor:
    """The values of times (B,), or of one, with axes to multiply pictures (B, C, H, W) with."""
    chosen = values[t]
    return chosen.reshape(-1, *(1,) * (like.ndim - 1))
