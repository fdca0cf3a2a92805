"""Train a variational autoencoder: Adam on both terms of the bound, in nats an image.

    python train.py                                      # drawn creatures, two cores, minutes
    python train.py --data mnist                         # binarised digits
    python train.py --data mnist --network mlp --no-binarise --latents 20    # the old example
    python train.py --data FOLDER --image-size 48        # your own pictures
    python train.py --resume                             # go on exactly where a run stopped
"""

# B images in a batch, N pictures, C channels, H height and W width

import argparse
import sys
import time
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

import checkpoint
import console
import devices
import optimization
import options
import pictures
from data import CREATURES, QUICK, Data, binarised, load, to_input
from evaluation import evaluate, inputs_of, sigma_of
from measures import pca_psnr
from model import NAME, SETTINGS, build

COLUMNS = ["epoch", "step", "lr", "beta", "train_reconstruction", "train_kl",
           "validation_reconstruction", "validation_kl", "active_units", "sigma", "seconds"]
SEEDS = 1_000_003    # apart: so far that runs of neighbouring seeds never meet
SHOWN = 12           # pictures in a row of the progress


def configure(args: argparse.Namespace, data: Data) -> dict:
    """All that is needed to rebuild the model and to prepare its input."""
    return {**{name: getattr(args, name) for name in SETTINGS},
            "shape": tuple(data.train.images.shape[1:]), "binarise": args.binarise,
            "data": args.data, "data_digest": data.digest, "image_size": args.image_size,
            "values": data.values, "seed": args.seed}


class Run:
    """A training run: the model, where it stands, and the files it leaves behind."""

    PROGRESS = ("step", "epoch", "batch", "sums", "best", "best_epoch",
                "seconds")         # what a checkpoint keeps of it

    def __init__(self, args: argparse.Namespace, data: Data, device: torch.device,
                 saved: dict | None = None) -> None:
        self.args, self.device, self.data_digest = args, device, data.digest
        if saved and saved["data"] != self.data_digest:
            raise console.Refusal(f"{data.name} is not what it was when the run began: start a "
                                  "new one")
        torch.manual_seed(args.seed)
        self.config = saved["config"] if saved else configure(args, data)
        self.images = data.train.images.to(device)
        self.validation = inputs_of(data.validation, self.config)
        self.model = build(self.config).to(device, memory_format=torch.channels_last)
        self.optimizer = optimization.make_optimizer(self.model)
        self.step = self.epoch = self.batch = self.best_epoch = 0
        self.sums, self.best, self.seconds = (0.0, 0.0), None, 0.0
        self.beta = args.beta
        if saved:
            checkpoint.restore(self.model, saved["model"], args.resume)
            self.optimizer.load_state_dict(saved["optimizer"])
            checkpoint.set_rng_state(saved["rng"])
            for name in self.PROGRESS:
                setattr(self, name, saved[name])
        self.started = time.monotonic() - self.seconds
        args.out_dir.mkdir(parents=True, exist_ok=True)
        self.metrics = checkpoint.Metrics(args.out_dir / "metrics.csv", COLUMNS,
                                          self.step if saved else None)

    def save(self, name: str) -> None:
        """Write everything that the run needs to go on, whole or not at all."""
        self.seconds = time.monotonic() - self.started
        typed = {key: str(value.resolve()) if isinstance(value, Path) else value
                 for key, value in vars(self.args).items() if key not in ("resume", "debug")}
        checkpoint.save(self.args.out_dir / name, {
            "folder": NAME, "config": self.config, "options": typed, "data": self.data_digest,
            "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
            "rng": checkpoint.rng_state(), **{key: getattr(self, key) for key in self.PROGRESS},
        })

    def batches(self) -> list[Tensor]:
        """Which pictures the batches of this epoch have: a function of seed and epoch."""
        generator = torch.Generator().manual_seed(self.args.seed * SEEDS + self.epoch)
        order = torch.randperm(len(self.images), generator=generator)
        return list(order.split(self.args.batch_size))

    def take(self, chosen: Tensor) -> Tensor:
        """The pictures of a batch as numbers from 0 to 1, or drawn black and white."""
        x = to_input(self.images[chosen.to(self.device)])              # (B, C, H, W)
        seed = self.args.seed * SEEDS + self.step
        return binarised(x, seed) if self.args.binarise else x

    def set_rate(self, steps: int) -> float:
        """Set learning rate and β of this step, functions of the step alone; gives the rate."""
        args, step = self.args, self.step + 1
        rate = args.lr * optimization.rate_share(step, steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.beta = optimization.beta(step, args.beta_warm_up, args.beta)
        return rate

    def finish_epoch(self, count: int) -> None:
        """Validate, write a row, and save the checkpoints; print a line if it is due."""
        self.epoch, self.batch, args = self.epoch + 1, 0, self.args
        rate, sigma = self.optimizer.param_groups[0]["lr"], sigma_of(self.model)
        found = evaluate(self.model, self.validation)
        row = dict(zip(COLUMNS, (
            self.epoch, self.step, rate, self.beta, *(each / count for each in self.sums),
            found.reconstruction, found.kl, found.active, sigma,
            round(time.monotonic() - self.started, 2))))
        self.sums = (0.0, 0.0)
        self.metrics.add(**row)
        paid = found.units.clamp(min=args.free_nats).sum().item()
        cost = found.reconstruction + args.beta * paid         # the objective at its full price
        if self.best is None or cost < self.best:
            self.best, self.best_epoch = cost, self.epoch
            self.save("best.pt")      # before checkpoint.pt, which says that it is there
        self.save("checkpoint.pt")
        if args.log_every and (self.epoch % args.log_every == 0 or self.epoch == args.epochs):
            mine = f"{row['train_reconstruction']:12.2f} {row['train_kl']:7.2f}"
            print(f"{self.epoch:5} {self.step:7} {rate:8.1e} {mine} {found.cost:16.2f} "
                  f"{found.kl:7.2f} {found.active:7} {sigma:7.4f} {row['seconds']:6.0f} s",
                  flush=True)
            pictures.draw_progress(self.model, self.validation[:SHOWN],
                                   args.out_dir / "progress" / f"epoch_{self.epoch:04}.png")


def train(run: Run, stop: console.Stop) -> None:
    """The loop: until the last epoch, or until a signal asks to stop between two steps."""
    args, model, optimizer = run.args, run.model, run.optimizer
    while run.epoch < args.epochs:
        batches = run.batches()
        left = tqdm(batches[run.batch :], f"epoch {run.epoch + 1}", leave=False, disable=None)
        for chosen in left:
            rate = run.set_rate(args.epochs * len(batches))
            x = run.take(chosen)
            with devices.autocast(run.device, args.precision):
                terms = model.elbo(x, fit=optimization.MEMORY)
            loss = terms.loss(run.beta, args.free_nats)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            devices.check_finite(loss, model.parameters(), run.step + 1, rate)
            optimizer.step()
            run.step, run.batch = run.step + 1, run.batch + 1
            run.sums = tuple(total + mean for total, mean in zip(run.sums, terms.means()))
            if stop.requested:
                return run.save("checkpoint.pt")
        run.finish_epoch(len(batches))


def restore_best(run: Run) -> dict:
    """Put the weights that validated best into the run's model; the whole checkpoint."""
    path = console.from_here(run.args.out_dir / "best.pt")
    best = checkpoint.load(path, NAME)
    checkpoint.restore(run.model, best["model"], path)
    return best


def report(run: Run, data: Data) -> None:
    """Use the test set, once, on the weights that validated best; compare, draw, say."""
    out, best, latents = run.args.out_dir, restore_best(run), run.config["latents"]
    x = inputs_of(data.test, run.config)                               # (N, C, H, W)
    found = evaluate(run.model, x)
    pictures.draw_curves(run.metrics.path, out / "loss.png")
    pictures.draw_reconstructions(run.model, x[:24], out / "reconstructions.png")
    pictures.draw_samples(run.model, run.args.seed, out / "samples.png")
    linear = pca_psnr(inputs_of(data.train, run.config), x, latents)
    console.write_results(out, "train.py", run.args, epochs=run.epoch, best_epoch=best["epoch"],
                          cost=found.cost, kl=found.kl, active=found.active, psnr=found.psnr,
                          pca_psnr=linear, seconds=run.seconds)
    print(f"test: -ELBO {found.cost:.2f} nats an image (reconstruction "
          f"{found.reconstruction:.2f}, KL {found.kl:.2f}), {found.active} of {latents} "
          f"latents active, on {len(x):,} pictures, with the weights of epoch {best['epoch']}")
    print(f"PSNR {found.psnr:.2f} dB; PCA with {latents} components {linear:.2f} dB")
    print("wrote best.pt, checkpoint.pt, loss.png, metrics.csv, progress, reconstructions.png, "
          "results.json, samples.png")
    where = console.to_type(out / "best.pt")
    print(f"next: python inference.py --checkpoint {where} --sample 64")


@console.one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Train, test once, and leave a checkpoint, a table and pictures."""
    args, saved = options.parse(argv, NAME)
    device = devices.choose(args.device)
    options.set_defaults(args)
    counts = QUICK if args.quick else CREATURES
    data = load(args.data, Path(args.data_dir), args.image_size, args.seed, args.workers,
                counts)
    data = data.shortened(QUICK) if args.quick else data
    run = Run(args, data, device, saved)
    parameters = sum(p.numel() for p in run.model.parameters())
    counts = ", ".join(f"{len(part.images):,} {word}" for part, word in
                       zip(data[2:], ("to train on", "to validate", "to test")))
    print(f"VAE ({args.network}, {args.likelihood}), {args.latents} latents, {parameters:,} "
          f"parameters; {data.name}: pictures of {'×'.join(map(str, run.config['shape']))}, "
          f"{counts}; {devices.describe(device)}; seed {args.seed}")
    print(f"writing to {console.from_here(args.out_dir)}; stop with Ctrl-C, go on with "
          "--resume")
    print("epoch    step     rate  train recon.      KL  validation -ELBO      KL  active   "
          "sigma     time", flush=True)
    if run.epoch >= args.epochs:
        console.say(f"the run is finished, at epoch {run.epoch}: only the report is left")
    with console.Stop() as stop:
        train(run, stop)
    if stop.requested:
        console.say(f"stopped after step {run.step}: go on with python train.py --resume "
                    f"{console.to_type(args.out_dir / 'checkpoint.pt')}")
        return stop.exit_code
    report(run, data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
