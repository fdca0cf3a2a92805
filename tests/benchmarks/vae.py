"""The autoencoder against the loop of PyTorch's own example: an epoch of MNIST, side by side.

    python tests/benchmarks/vae.py                  # a few thousand pictures of noise
    python tests/benchmarks/vae.py ../shared/data   # MNIST, ten epochs, and the test loss

Both are a 784-400-20-400-784 network on grey pixels, with batches of 128 and Adam at 1e-3. The
peer is written as that example is: a data set of single pictures, a `DataLoader` that stacks
them, pixels through a sigmoid and `binary_cross_entropy`. Ours indexes one tensor.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms.functional import to_tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support import load

vae = load("vae_from_scratch")
BATCH, EPOCHS, ROUNDS, NOISE = 128, 10, 3, 6_000


class Peer(nn.Module):
    """The network of the example, in its words."""

    def __init__(self) -> None:
        super().__init__()
        self.hide, self.mean, self.logvar = (nn.Linear(*size) for size in (
            (784, 400), (400, 20), (400, 20)))
        self.widen, self.finish = nn.Linear(20, 400), nn.Linear(400, 784)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels from 0 to 1, mean and log-variance."""
        hidden = F.relu(self.hide(x.view(-1, 784)))
        mean, logvar = self.mean(hidden), self.logvar(hidden)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * logvar)
        return torch.sigmoid(self.finish(F.relu(self.widen(z)))), mean, logvar


def peer_loss(again: Tensor, x: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    """Both terms, summed over the batch."""
    cost = F.binary_cross_entropy(again, x.view(-1, 784), reduction="sum")
    return cost - 0.5 * torch.sum(1 + logvar - mean.pow(2) - logvar.exp())


class Pictures(torch.utils.data.Dataset):
    """Single pictures, each made a tensor when it is asked for, as torchvision does."""

    def __init__(self, images: Tensor) -> None:
        self.images = images.numpy()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, place: int) -> Tensor:
        return to_tensor(self.images[place, 0])


def peer(images: Tensor, test: Tensor) -> tuple[Callable[[], None], Callable[[], float]]:
    """What trains an epoch, and what gives the test loss."""
    torch.manual_seed(0)
    model = Peer()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader = torch.utils.data.DataLoader(Pictures(images), batch_size=BATCH, shuffle=True)

    def epoch() -> None:
        total = 0.0
        for x in loader:
            optimizer.zero_grad()
            again, mean, logvar = model(x)
            loss = peer_loss(again, x, mean, logvar)
            loss.backward()
            total += loss.item()
            optimizer.step()

    @torch.no_grad()
    def cost() -> float:
        x = vae.data.to_input(test)
        again, mean, logvar = model(x)
        return peer_loss(again, x, mean, logvar).item() / len(x)

    return epoch, cost


def ours(images: Tensor, test: Tensor) -> tuple[Callable[[], None], Callable[[], float]]:
    """The same, from the same weights, with the folder's model and its way to make batches."""
    torch.manual_seed(0)
    theirs, model = Peer(), vae.model.VAE((1, 28, 28), 20, "mlp", 400, "relu", "bernoulli")
    for layers, layer in (((theirs.hide,), model.encoder.hide),
                          ((theirs.mean, theirs.logvar), model.encoder.head),
                          ((theirs.widen,), model.decoder.hide),
                          ((theirs.finish,), model.decoder.finish)):
        layer.weight.data = torch.cat([each.weight.data for each in layers])
        layer.bias.data = torch.cat([each.bias.data for each in layers])
    optimizer = vae.optimization.make_optimizer(model)

    def epoch() -> None:
        total = 0.0
        for chosen in torch.randperm(len(images)).split(BATCH):
            terms = model.elbo(vae.data.to_input(images[chosen]))
            loss = terms.loss()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += sum(terms.means())

    return epoch, lambda: vae.evaluation.evaluate(model, vae.data.to_input(test)).cost


def seconds(work: Callable[[], None]) -> float:
    """Seconds of one epoch."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Print speed, and with real data the test losses."""
    if len(sys.argv) > 1:
        data = vae.data.load("mnist", Path(sys.argv[1]))
        images = torch.cat([data.train.images, data.validation.images])
        test, rounds = data.test.images, EPOCHS
    else:
        noise = torch.randint(256, (NOISE + 500, 1, 28, 28), dtype=torch.uint8)
        images, test, rounds = noise[:NOISE], noise[NOISE:], ROUNDS
    (mine, my_cost), (theirs, their_cost) = ours(images, test), peer(images, test)
    pairs = []
    for number in range(rounds):
        pairs.append((seconds(mine), seconds(theirs)))
        if len(sys.argv) > 1:
            print(f"epoch {number + 1}: ours {my_cost():.2f}, the example's {their_cost():.2f} "
                  "nats a test picture", flush=True)
    ratios = sorted(their / my for my, their in pairs)
    my, their = (statistics.median(column) for column in zip(*pairs))
    print(f"epoch of {len(images):,}: {my:.2f} s against {their:.2f} s, ratio "
          f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}); "
          f"{torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
