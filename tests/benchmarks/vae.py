"""The autoencoder against the loop of PyTorch's own example: an epoch of MNIST, side by side.

    python tests/benchmarks/vae.py                  # a few thousand pictures of noise
    python tests/benchmarks/vae.py ../shared/data   # MNIST, ten epochs, and the test loss

Both are a 784-400-20-400-784 network on grey pixels, with batches of 128 and Adam at 1e-3. The
peer is written as that example is: a data set of single pictures, a `DataLoader` that stacks
them, pixels through a sigmoid and `binary_cross_entropy`. Ours indexes one tensor.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import timing
import torch
import torch.nn.functional as F
import training
from torch import Tensor, nn
from torchvision.transforms.functional import to_tensor

from support import load

vae = load("vae_from_scratch")
BATCH, EPOCHS = 128, 10


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


def pairs(data: object, quick: bool) -> Iterator[timing.Pair]:
    """An epoch; afterwards both say what a picture of the test set costs them."""
    images = torch.cat([data.train.images, data.validation.images])[: 512 if quick else None]
    (mine, my_cost), (theirs, their_cost) = (make(images, data.test.images)
                                             for make in (ours, peer))
    yield timing.Pair(f"an epoch of {len(images):,} pictures", "the example's DataLoader loop",
                      mine, theirs, amount=(len(images), "pictures"), remark=lambda *_:
                      f"at the end ours {my_cost():.2f}, the example's {their_cost():.2f} nats "
                      "a test picture")


def main(argv: list[str] | None = None) -> int:
    """Measure and print; with MNIST one epoch that does not count and nine that do."""
    parser = timing.parser(__doc__)
    parser.add_argument("data_dir", metavar="DIR", type=Path, nargs="?",
                        help="with MNIST in it (default: noise of its form)")
    args = timing.parse(parser, argv)
    if args.data_dir and not args.quick:
        args = timing.parse(parser, argv, rounds=EPOCHS - 1)
    with training.mnist(args.data_dir, args.quick) as data_dir:
        data = vae.data.load("mnist", data_dir)
        timing.measure("vae", lambda: pairs(data, args.quick), args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
