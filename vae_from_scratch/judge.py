"""A judge of creatures: a small classifier, trained on drawn ones, that never saw a decoder.

It decides whether wings that were added in latent space are wings, and what else has changed.
Since what it judges is soft, half of what it learns from is blurred, and all of it is noisy.
"""

# B pictures in a batch, F features

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from creatures import ATTRIBUTES
from data import Part, nearest_hue, to_input
from measures import on_circle

WIDTH, BATCH, EPOCHS, RATE = 24, 64, 4, 3e-3
NOISE = 0.05         # standard deviation, in what it learns from
SAME_HUE = 30 / 360  # turns by which a hue may move and still be the same colour


class Judge(nn.Module):
    """Three convolutions, and a linear layer for each attribute; the hue as a point."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, WIDTH, 2 * WIDTH, 4 * WIDTH)
        layers = [layer for before, after in zip(widths, widths[1:])
                  for layer in (nn.Conv2d(before, after, 3, 2, 1), nn.ReLU())]
        self.features = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * WIDTH, 128),
                                      nn.ReLU())
        self.answers = nn.ModuleDict({name: nn.Linear(128, len(values))
                                      for name, values in ATTRIBUTES.items()})
        self.hue = nn.Linear(128, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:                 # (B, 3, 32, 32)
        """Logits for each attribute, and the exact hue as a point on the circle (B, 2)."""
        features = self.features(x)                                    # (B, F)
        said = {name: answer(features) for name, answer in self.answers.items()}
        return {**said, "turn": self.hue(features)}

    @torch.no_grad()
    def judge(self, x: Tensor) -> dict[str, Tensor]:
        """The values of each attribute, and the exact hue in turns, each (B,)."""
        said = self.eval()(x)
        point = said.pop("turn")                                       # (B, 2)
        turns = torch.atan2(point[:, 1], point[:, 0]) / (2 * torch.pi) % 1
        values = {name: logits.argmax(1) for name, logits in said.items()}
        return {**values, "hue": nearest_hue(turns), "turn": turns}


def spoiled(x: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures as a decoder might give them: half of them blurred, all with a little noise."""
    some = torch.rand(len(x), 1, 1, 1, generator=generator) < 0.5
    soft = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    noise = NOISE * torch.randn(x.shape, generator=generator)
    return (torch.where(some, 0.5 * (soft + x), x) + noise).clamp(0, 1)


@torch.enable_grad()
def train_judge(part: Part, seed: int = 0, epochs: int = EPOCHS) -> Judge:
    """A judge who learned from these drawn creatures; the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        judge = Judge()
    generator = torch.Generator().manual_seed(seed)
    steps = epochs * -(-len(part.images) // BATCH)
    optimizer = torch.optim.Adam(judge.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for _ in range(epochs):
        for chosen in torch.randperm(len(part.images), generator=generator).split(BATCH):
            said = judge(spoiled(to_input(part.images[chosen]), generator))
            loss = F.mse_loss(said["turn"], on_circle(part.known["turn"][chosen]))
            loss = loss + sum(F.cross_entropy(said[name], part.known[name][chosen])
                              for name in ATTRIBUTES)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
    return judge.eval()


def changes(before: dict[str, Tensor], after: dict[str, Tensor]) -> dict[str, Tensor]:
    """For each attribute, which pictures have another value than before: (B,)."""
    found = {name: before[name] != after[name] for name in ATTRIBUTES}
    apart = (before["turn"] - after["turn"]).abs()
    return {**found, "hue": torch.minimum(apart, 1 - apart) > SAME_HUE}
