"""A trained model that paints: opened from a checkpoint, it makes pictures from seeds."""

# N pictures, C channels, H height and W width

from pathlib import Path

import torch
from torch import Tensor

import checkpoint
from batches import SEEDS
from console import Refusal, from_here, say
from data import Data, to_image
from diffusion import Diffusion, Sampling, Watcher, denoise, gaussian
from model import NAME, UNet, build
from schedule import Schedule

AT_ONCE = 250        # pictures that are painted together


class Painter:
    """A network, what its output means, and how pictures come of it."""

    def __init__(self, model: UNet, config: dict, device: torch.device) -> None:
        self.model, self.config, self.device = model, config, device
        self.classes: list[str] = config["classes"]
        schedule = Schedule.named(config["schedule"], config["times"], device=device)
        self.diffusion = Diffusion(schedule, config["predict"], config["gamma"])

    @classmethod
    def open(cls, path: Path | None, device: torch.device, last: bool = False) -> "Painter":
        """The model of a checkpoint with its averaged weights, or with the last ones.

        Raises Refusal if those that are asked for are not in it.
        """
        path = path or checkpoint.newest(Path(__file__).resolve().parent)
        contents = checkpoint.load(path, NAME)
        config, slim = contents["config"], "optimizer" not in contents
        if last and slim:
            raise Refusal(f"{from_here(path)} holds the averaged weights only: ask without "
                          "--last")
        if not last and not slim and config["ema"] and "ema" not in contents:
            raise Refusal(f"{from_here(path)} has no averaged weights, without which pictures "
                          "are poor: train again, or ask for the --last ones")
        weights = contents["model"] if last else contents.get("ema", contents["model"])
        model = build(config)
        checkpoint.restore(model, weights, path)
        say(f"using {from_here(path)}{', its last weights' if last else ''}")
        return cls(model.to(device, memory_format=torch.channels_last).eval(), config, device)

    def check(self, how: Sampling) -> None:
        """Refuse impossible steps, and guidance where there is nothing to be guided by."""
        try:
            self.diffusion.schedule.spaced(how.steps)
        except ValueError as error:
            raise Refusal(f"{error}") from None
        if how.guidance and not self.classes:
            raise Refusal("this model knows no classes that could guide it: leave out "
                          "--guidance")

    def check_size(self, data: Data) -> None:
        """Refuse pictures of another size than this model draws."""
        if data.test.images.shape[1:] != torch.Size(self.config["shape"]):
            raise Refusal(f"{data.name} has pictures of another size than this model draws")

    def number(self, name: str) -> int:
        """The number of a class. Raises Refusal if the model does not know it."""
        if name not in self.classes:
            choice = ", ".join(self.classes) or "none"
            raise Refusal(f"there is no label {name}: this model knows {choice}")
        return self.classes.index(name)

    def labels(self, count: int, name: str | None = None) -> Tensor | None:
        """A label for each picture (N,): all the same, or all classes in turn; None without."""
        if name is not None:
            return torch.full((count,), self.number(name))             # (N,)
        return torch.arange(count) % len(self.classes) if self.classes else None

    def noise(self, count: int, seed: int) -> Tensor:
        """What pictures begin as: (N, C, H, W), each the same however many there are."""
        generator = torch.Generator().manual_seed(seed)
        shape = (1, *self.config["shape"])
        drawn = [gaussian(torch.empty(shape), generator) for _ in range(count)]
        return torch.cat(drawn)                                        # (N, C, H, W)

    def paint(self, x: Tensor, labels: Tensor | None, how: Sampling, seed: int = 0,
              start: int | None = None, known: tuple[Tensor, Tensor] | None = None,
              watch: Watcher | None = None) -> Tensor:                 # (N, C, H, W)
        """Pictures from 0 to 1 on the CPU, made of noise, or of noised pictures: see `denoise`.

        Fresh noise of a picture follows from seed and place, so it is the same in any company.
        `watch` sees the first AT_ONCE pictures.
        """
        self.check(how)
        generators = [torch.Generator().manual_seed((seed + 1) * SEEDS + place)
                      for place in range(len(x))]
        done = []
        for first in range(0, len(x), AT_ONCE):
            here = slice(first, first + AT_ONCE)
            told = None if labels is None else labels[here].to(self.device)
            kept = known and tuple(each[here].to(self.device) for each in known)
            begun = x[here].to(self.device, memory_format=torch.channels_last)
            made = denoise(self.model, self.diffusion, begun, told, how, generators[here],
                           start, kept, None if first else watch)
            done.append(self.show(made))
        return torch.cat(done)                                         # (N, C, H, W)

    def show(self, x: Tensor) -> Tensor:                               # (N, C, H, W)
        """What the model reads or draws as pictures from 0 to 1, on the CPU."""
        return to_image(x, self.config["centred"]).cpu()               # (N, C, H, W)

    def samples(self, count: int, how: Sampling, seed: int = 0,
                name: str | None = None) -> Tensor:
        """New pictures from 0 to 1: (N, C, H, W)."""
        return self.paint(self.noise(count, seed), self.labels(count, name), how, seed)
