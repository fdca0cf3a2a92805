"""A judge of digits: a small classifier, trained once, whose features measure all generators.

Its weights come with the folder, and their hash stands below, so that distances measured on
different days can be compared.

    python judge.py --data-dir DIR      # how judge.pt was made, in a minute
"""

# N pictures, B pictures in a batch, F features

import argparse
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import checkpoint
import console
from data import Data, Part, digits, mnist

NAME = "diffusion_from_scratch/judge"
FILE = "judge.pt"
HASH = "df12732940a47d69d070baa84dbabb71b91964baed8b73f56178cba0e03972c9"
TAUGHT = 40_000              # the first of MNIST's training pictures; the rest: for the floor
REPEATED = 5                 # times an embedded digit comes in an epoch
FEATURES, BATCH, EPOCHS, RATE = 64, 64, 4, 4e-3
NOISE, SHIFT = 0.05, 2       # in what it learns from: standard deviation, pixels
AT_ONCE = 1000


class Judge(nn.Module):
    """LeNet's plan: two convolutions, a layer of features, and one of ten answers."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Sequential(nn.Conv2d(1, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
                                  nn.Conv2d(16, 32, 5), nn.ReLU(), nn.MaxPool2d(2))
        self.features = nn.Linear(32 * 4 * 4, FEATURES)
        self.answer = nn.Linear(FEATURES, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:             # (B, 1, 28, 28)
        """The features of pictures from 0 to 1, and logits for the digits."""
        features = F.relu(self.features(self.maps(x).flatten(1)))      # (B, F)
        return features, self.answer(features)

    @torch.no_grad()
    def judge(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, F) in 64 bits, and the most probable digits (N,)."""
        found = [self(part) for part in x.split(AT_ONCE)]
        features = torch.cat([each[0] for each in found]).double()     # (N, F)
        return features, torch.cat([each[1].argmax(1) for each in found])


def spoiled(images: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures from 0 to 1 as a generator might draw them: shifted, with a little noise.

    A batch is shifted as one: that is one cut, and there are many batches.
    """
    x = F.pad(images.float() / 255, (SHIFT,) * 4)
    down, right = torch.randint(2 * SHIFT + 1, (2,), generator=generator).tolist()
    x = x[..., down : down + 28, right : right + 28]
    return x + NOISE * torch.randn(x.shape, generator=generator)


def lessons(data: Data) -> Part:
    """What the judge learns from: most of MNIST, and the embedded digits several times."""
    few = digits().train
    most = data.train.some(slice(TAUGHT))
    return Part(torch.cat([most.images, *[few.images] * REPEATED]),
                torch.cat([most.labels, *[few.labels] * REPEATED]))


def others(data: Data) -> Part:
    """Real pictures that are not for testing; of MNIST those that the judge does not know.

    The embedded digits are too few for that: theirs are those that all have learned from.
    """
    if data.name != "mnist":
        return data.train
    rest = data.train.some(slice(TAUGHT, None))
    return Part(*(torch.cat(both) for both in zip(data.validation, rest)))


def train_judge(part: Part, epochs: int = EPOCHS) -> Judge:
    """A judge who learned from these pictures; always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        judge = Judge()
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=RATE)
    steps = epochs * -(-len(part.images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for _ in range(epochs):
        for chosen in torch.randperm(len(part.images), generator=generator).split(BATCH):
            _, logits = judge(spoiled(part.images[chosen], generator))
            loss = F.cross_entropy(logits, part.labels[chosen])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
    return judge.eval()


def open_judge(path: Path | None = None) -> Judge:
    """The judge that comes with the folder. Raises Refusal if it is not the one of the hash."""
    path = path or Path(__file__).with_name(FILE)
    contents, judge = checkpoint.load(path, NAME), Judge()
    checkpoint.restore(judge, contents["model"], path)
    if checkpoint.digest(contents["model"]) != HASH:
        raise console.Refusal(f"{path} is another judge than the one that belongs to this "
                              "code: distances could not be compared")
    return judge.eval()


@console.one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Train the judge again, and say its hash."""
    parser = argparse.ArgumentParser(description=main.__doc__, allow_abbrev=False)
    parser.add_argument("--data-dir", metavar="DIR", type=Path,
                        default=Path(__file__).with_name("data"),
                        help="where MNIST lies or is downloaded to (default: data/ in this "
                             "folder)")
    parser.add_argument("--out", metavar="DIR", type=Path,
                        default=Path(__file__).with_name("runs"),
                        help="where judge.pt is written (default: runs/ in this folder)")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    args = parser.parse_args(argv)
    data = mnist(args.data_dir)
    judge = train_judge(lessons(data))
    args.out.mkdir(parents=True, exist_ok=True)
    checkpoint.save(args.out / FILE, {"folder": NAME, "model": judge.state_dict()})
    for part in (data.test, digits().test):
        right = judge.judge(part.images.float() / 255)[1] == part.labels
        print(f"{right.double().mean():.2%} of {len(right):,} test digits are right")
    print(f"hash: {checkpoint.digest(dict(judge.state_dict()))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
