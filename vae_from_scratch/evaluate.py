"""Everything that can be counted of a trained autoencoder, on the test pictures.

    python evaluate.py                                     # the newest run, else the pretrained
    python evaluate.py --samples 500 --count 2000          # log p(x) as well
"""

# N pictures, I invented ones, L latents, C channels, H height and W width

import argparse
import sys

import torch
from torch import Tensor

import checkpoint
import console
import devices
from attributes import Attributes
from data import CREATURES, NAMES, QUICK, Data, to_input
from evaluation import AT_ONCE, encode, evaluate, inputs_of, sigma_of
from gallery import Gallery
from judge import Judge, changes, train_judge
from measures import hue_r2, nearest, pca_psnr
from model import NAME, VAE, build
from pictures import samples

INVENTED = 2_000     # samples that are compared with the training pictures
REDRAWN = 500        # training pictures that show how near a copy would come


def say_bound(model: VAE, x: Tensor, train: Tensor) -> dict:
    """The bound and its parts, units in use, sharpness beside PCA; pictures (N, C, H, W)."""
    found, linear = evaluate(model, x), pca_psnr(train, x, model.latents)
    print(f"-ELBO                 {found.cost:.2f} nats an image (reconstruction "
          f"{found.reconstruction:.2f}, KL {found.kl:.2f})")
    print(f"active units          {found.active} of {model.latents}")
    numbers = {"cost": found.cost, "kl": found.kl, "active": found.active, "psnr": found.psnr,
               "pca_psnr": linear}
    if model.likelihood == "gaussian":
        numbers["sigma"] = sigma_of(model)
        print(f"σ of a pixel          {numbers['sigma']:.4f}")
    print(f"PSNR                  {found.psnr:.2f} dB; PCA with {model.latents} components "
          f"{linear:.2f} dB")
    return numbers


def say_likelihood(model: VAE, x: Tensor, count: int, seed: int) -> dict:
    """log p(x) of pictures (N, C, H, W) by importance sampling, with its standard error."""
    generator = torch.Generator().manual_seed(seed)
    device = model.variance.device
    values = torch.cat([model.log_likelihood(some.to(device), count, generator).cpu()
                        for some in x.split(AT_ONCE)])                 # (N,)
    error = values.std(unbiased=len(values) > 1).item() / len(values) ** 0.5
    print(f"log p(x)              {values.mean():.2f} ± {error:.2f} nats, {count} samples for "
          f"each of {len(values):,} pictures")
    return {"log_likelihood": values.mean().item(), "standard_error": error}


def say_probes(attributes: Attributes, z: Tensor, known: dict[str, Tensor]) -> dict:
    """How well a linear model reads attributes off the codes of unseen pictures (N, L)."""
    rights = {name: (attributes.read(name, z) == known[name]).double().mean().item()
              for name in attributes.values}
    found = {"probe": sum(rights.values()) / len(rights), "probes": rights}
    print(f"linear probe          {found['probe']:.1%} ("
          + ", ".join(f"{name} {right:.1%}" for name, right in rights.items()) + ")")
    if "turn" in known:
        found["hue_r2"] = hue_r2(attributes.codes, attributes.known["turn"], z, known["turn"])
        print(f"hue, circular R²      {found['hue_r2']:.3f}")
    return found


def arithmetic(model: VAE, attributes: Attributes, judge: Judge,
               z: Tensor) -> dict[str, tuple[float, float]]:
    """For each value, how often adding it to codes (N, L) succeeds, and what else changes.

    Both as the judge sees it, against what it saw in the reconstruction; the second is a
    mean over the other attributes. Pictures that have the value are left out.
    """
    before, found = judge.judge(model.decode(z)), {}
    for name, values in attributes.values.items():
        for place, value in enumerate(values):
            lack = before[name] != place                               # (N,)
            if not lack.any():
                continue
            old = before[name][lack]
            codes = attributes.change(name, z[lack], old, torch.full_like(old, place))
            after = judge.judge(model.decode(codes))
            changed = changes({key: each[lack] for key, each in before.items()}, after)
            others = [change for key, change in changed.items() if key != name]
            found[f"{name}={value}"] = ((after[name] == place).double().mean().item(),
                                        torch.stack(others).double().mean().item())
    return found


def say_arithmetic(model: VAE, attributes: Attributes, data: Data, z: Tensor) -> dict:
    """Train a judge of creatures, test it, and let it look at changed ones; z is (N, L)."""
    judge = train_judge(data.train)
    wrong = changes(data.test.known, judge.judge(to_input(data.test.images)))
    worst = max(each.double().mean().item() for each in wrong.values())
    print(f"judge                 right in at least {1 - worst:.1%} of drawn ones, for each "
          "attribute")
    found = arithmetic(model.cpu(), attributes, judge, z)
    for name, (right, else_) in found.items():
        print(f"  {name:19} {right:.1%} become it, {else_:.1%} of what else there is changes")
    rights, others = (sum(column) / len(found) for column in zip(*found.values()))
    print(f"attribute arithmetic  {rights:.1%} succeed, {others:.1%} collateral changes")
    return {"judge": 1 - worst, "succeeds": rights, "collateral": others,
            "succeeds_each": {name: right for name, (right, _) in found.items()}}


def say_memory(model: VAE, train: Tensor, seed: int) -> dict:
    """Whether samples are copies of training pictures (N, C, H, W).

    No decoder redraws to the last grey level what it knows by heart, so a copy is a sample
    that is as near to a training picture as what comes back of one usually is to itself.
    """
    again = model(train[:REDRAWN].to(model.variance.device)).cpu()
    copy = nearest(again, train)[1].median()                           # ()
    distances = nearest(samples(model, INVENTED, seed), train)[1]      # (I,)
    copies = int((distances <= copy).sum())
    print(f"memorisation          {copies} copies among {INVENTED:,} "
          f"samples; the nearest training picture is {255 * distances.min():.1f} grey levels "
          f"away at least, {255 * distances.median():.1f} in the median, and what comes back "
          f"of one {255 * copy:.1f}")
    return {"copies": copies, "nearest": 255 * distances.min().item(),
            "redrawn": 255 * copy.item()}


@console.one_line_errors
@torch.no_grad()
def main(argv: list[str] | None = None) -> int:
    """Print a table of measures."""
    parser = console.inference_parser("Measure a trained autoencoder.")
    parser.add_argument("--samples", metavar="N", type=console.positive_int,
                        help="estimate log p(x) with so many codes for each picture")
    parser.add_argument("--count", metavar="N", type=console.positive_int,
                        help="test pictures that are used (default: all)")
    parser.add_argument("--quick", action="store_true", help="a smoke run: few creatures")
    console.add_data_flags(parser, NAMES, default=None)
    args: argparse.Namespace = parser.parse_args(argv)
    model, config = checkpoint.open_model(args.checkpoint, NAME, build,
                                          devices.choose(args.device))
    data = Gallery(config, args).data(QUICK if args.quick else CREATURES)
    data = data._replace(test=data.test.some(slice(args.count)))
    x, train = inputs_of(data.test, config), inputs_of(data.train, config)
    print(f"{data.name}: {len(x):,} test pictures")
    found = say_bound(model, x, train)
    if args.samples:
        found |= say_likelihood(model, x, args.samples, args.seed)
    if data.values:
        attributes, z = Attributes(model, data, config), encode(model, x)
        found |= say_probes(attributes, z, data.test.known)
        if "turn" in data.test.known:
            found |= say_arithmetic(model, attributes, data, z)
    found |= say_memory(model, train, args.seed)
    console.write_results(args.out, "evaluate.py", args, **found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
