"""Posterior collapse on purpose, and what helps: a decoder that does not need the code.

Here a decoder sees the pixels above and to the left of the one that it predicts, and that is
nearly enough: a code brings little, and where a nat of it costs more than it brings, nothing is
said at all. Each cure lets the encoder speak for less: for good, for a while, or a little.
All four are compared by the same bound, with β = 1.

    python collapse.py          # four runs on small black and white digits, and a picture
"""

# B images in a batch, N pictures, H height and W width, L latents

import argparse
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

import console
import optimization
import pictures
from distributions import Elbo, bernoulli_cost, kl_to_standard
from evaluation import evaluate
from model import VAE

LATENTS, WIDTH, BATCH, RATE = 16, 16, 64, 3e-3
STEPS, TEST = 800, 297            # of a run; digits that are kept for testing
RUNS = {                          # share of the steps that warm up, free nats a latent, β
    "β = 4": (0.0, 0.0, 4.0),
    "β = 1": (0.0, 0.0, 1.0),
    "warm-up": (1.0, 0.0, 4.0),   # β = 4 in the last step only
    "free nats": (0.0, 0.1, 4.0),
}


class MaskedConv2d(nn.Conv2d):
    """A convolution that sees only what was read before: rows above, and pixels to the left.

    The first one does not see the pixel itself, which it is to predict.
    """

    def __init__(self, before: int, after: int, kernel: int, sees_itself: bool) -> None:
        super().__init__(before, after, kernel, padding=kernel // 2)
        mask = torch.ones(kernel, kernel)
        mask[kernel // 2, kernel // 2 + int(sees_itself) :] = 0
        mask[kernel // 2 + 1 :] = 0
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:                            # (B, ..., H, W)
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=self.padding)


class Gossip(VAE):
    """An autoencoder whose decoder overhears the pixels that were already drawn."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__(shape, LATENTS, width=WIDTH, likelihood="bernoulli")
        self.overhear = nn.Sequential(
            MaskedConv2d(shape[0], 2 * WIDTH, 7, sees_itself=False), nn.SiLU(),
            MaskedConv2d(2 * WIDTH, 2 * WIDTH, 5, sees_itself=True), nn.SiLU(),
            nn.Conv2d(2 * WIDTH, shape[0], 1))

    def elbo(self, x: Tensor, generator: torch.Generator | None = None,
             fit: float = 0.0) -> Elbo:                                # (B, 1, H, W)
        """Both terms; log p(x|z) is a sum over pixels, each given z and those before it."""
        mean, logvar = self.encode(x)                                  # each (B, L)
        logits = self.decoder(self.reparameterize(mean, logvar, generator)) + self.overhear(x)
        return Elbo(bernoulli_cost(logits, x), kl_to_standard(mean, logvar))


def digits() -> tuple[Tensor, Tensor]:
    """Black and white digits of 8×8 pixels, to train on and to test: (N, 1, 8, 8)."""
    x = torch.from_numpy(load_digits().images > 7).float()[:, None]    # (N, 1, 8, 8)
    return x[TEST:], x[:TEST]


def train(x: Tensor, warm_up: int, free: float, beta: float, steps: int, seed: int) -> Gossip:
    """A model after so many steps; the same for the same seed."""
    torch.manual_seed(seed)
    model = Gossip(x.shape[1:])
    optimizer = optimization.make_optimizer(model)
    for step in range(1, steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = RATE * optimization.rate_share(step, steps)
        terms = model.elbo(x[torch.randint(len(x), (BATCH,))])
        loss = terms.loss(optimization.beta(step, warm_up, beta), free)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return model.eval()


@console.one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Let it happen at a high price, prevent it in three ways, and draw all four."""
    parser = argparse.ArgumentParser(description=main.__doc__, allow_abbrev=False)
    parser.add_argument("--steps", metavar="N", type=console.positive_int, default=STEPS,
                        help="of each run (default: %(default)s)")
    parser.add_argument("--seed", metavar="N", type=console.seed, default=0, help="default: 0")
    parser.add_argument("--out", metavar="DIR", type=Path,
                        default=Path(__file__).with_name("runs"),
                        help="where collapse.png and results.json go (default: runs/ in this "
                             "folder)")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    args = parser.parse_args(argv)
    known, unseen = digits()
    print(f"{'run':12} {'-ELBO':>7} {'recon.':>7} {'KL':>6} {'active':>7}", flush=True)
    found = {}
    for name, (warm_up, free, beta) in RUNS.items():
        model = train(known, round(warm_up * args.steps), free, beta, args.steps, args.seed)
        each = evaluate(model, unseen)
        found[name] = each.units, each.cost, each.active
        print(f"{name:12} {each.cost:7.2f} {each.reconstruction:7.2f} {each.kl:6.2f} "
              f"{each.active:7}", flush=True)
    pictures.draw_collapse(found, args.out / "collapse.png")
    console.write_results(args.out, "collapse.py", args, runs={
        name: {"cost": cost, "kl": units.sum().item(), "active": active}
        for name, (units, cost, active) in found.items()})
    print(f"wrote collapse.png and results.json to {console.from_here(args.out)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
