"""Train LeNet-5 by stochastic gradient descent with momentum.

    python train.py                                 # MNIST if it can be had, else digits
    python train.py --variant 1998 --data digits    # the paper's network, nothing to fetch
    python train.py --resume                        # go on exactly where a run stopped
"""

# N pictures
import argparse
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

import checkpoint
import console
import devices
import pictures
from data import NAMES, Data, Part, load, shortened, to_input
from model import BLACK, NAME, VARIANTS, WHITE, build

MOMENTUM = 0.9
RATES = {("classic", "large"): 0.02, ("classic", "small"): 0.02,  # all of this was found
         ("1998", "large"): 0.003, ("1998", "small"): 0.001}      # on validation pictures
RECIPES = {
    "large": {"epochs": 20, "batch_size": 64, "decay": 0.85, "weight_decay": 5e-4},
    "small": {"epochs": 60, "batch_size": 16, "decay": 0.95, "weight_decay": 2e-3},
}
SMALL = 10_000  # pictures; with fewer, an epoch has few steps and more of them are needed
COLUMNS = ["epoch", "step", "lr", "train_loss", "validation_loss", "validation_error",
           "seconds"]
FIXED = ("data", "variant", "batch_size", "seed", "quick", "out_dir")  # kept by --resume


def shuffled(count: int, seed: int, epoch: int) -> Tensor:
    """The order of an epoch: a function of seed and epoch, not of what was drawn before."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return torch.randperm(count, generator=generator)                  # (N,)


@torch.no_grad()
def evaluate(model: nn.Module, part: Part, config: dict) -> tuple[float, float, Tensor]:
    """Mean loss in nats, error rate from 0 to 1, and the probabilities (N, K), on the CPU."""
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    total, probabilities = 0.0, []
    for images, labels in zip(part.images.split(1000), part.labels.split(1000)):
        logits = model(to_input(images.to(device), config["mean"], config["std"]))
        total += model.loss(logits, labels.to(device)).item() * len(labels)
        probabilities.append(model.probabilities(logits).cpu())
    model.train(training)
    probabilities = torch.cat(probabilities)
    wrong = (probabilities.argmax(1) != part.labels.cpu()).double().mean().item()
    return total / len(part.labels), wrong, probabilities


def configure(variant: str, data: Data) -> dict:
    """All that is needed to rebuild the model and to prepare its input."""
    if variant == "1998":        # paper at -0.1 and ink at 1.175, as (p - mean) / std
        std = 1 / (BLACK - WHITE)
        mean = -WHITE * std
    else:
        pixels = data.train.images.float() / 255
        mean, std = pixels.mean().item(), pixels.std().item()
    return {"variant": variant, "classes": data.classes, "mean": mean, "std": std,
            "data": data.name}


class Run:
    """A training run: the model, where it stands, and the files it leaves behind."""

    def __init__(self, args: argparse.Namespace, data: Data, device: torch.device,
                 saved: dict | None) -> None:
        self.args, self.device = args, device
        torch.manual_seed(args.seed)
        self.config = saved["config"] if saved else configure(args.variant, data)
        self.data_digest = data.digest
        if saved and saved["data"] != self.data_digest:
            raise console.Refusal(f"{data.name} is not what it was when the run began: start a "
                                  "new one")
        self.model = build(self.config).to(device, memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=args.lr, momentum=MOMENTUM,
                                         weight_decay=args.weight_decay)
        self.step = self.epoch = self.batch = 0
        self.loss_sum, self.best, self.seconds = 0.0, None, 0.0
        if saved:
            checkpoint.restore(self.model, saved["model"], args.resume)
            self.optimizer.load_state_dict(saved["optimizer"])
            checkpoint.set_rng_state(saved["rng"])
            for name in ("step", "epoch", "batch", "loss_sum", "best", "seconds"):
                setattr(self, name, saved[name])
        self.started = time.monotonic() - self.seconds
        args.out_dir.mkdir(parents=True, exist_ok=True)
        self.metrics = checkpoint.Metrics(args.out_dir / "metrics.csv", COLUMNS,
                                          self.step if saved else None)

    def save(self, name: str) -> None:
        """Write everything that the run needs to go on, whole or not at all."""
        self.seconds = time.monotonic() - self.started
        options = {key: str(value.resolve()) if isinstance(value, Path) else value
                   for key, value in vars(self.args).items() if key not in ("resume", "debug")}
        checkpoint.save(self.args.out_dir / name, {
            "folder": NAME, "config": self.config, "options": options,
            "data": self.data_digest,
            "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
            "rng": checkpoint.rng_state(), "step": self.step, "epoch": self.epoch,
            "batch": self.batch, "loss_sum": self.loss_sum, "best": self.best,
            "seconds": self.seconds,
        })

    def set_rate(self) -> float:
        """Set the learning rate of this epoch, a function of the epoch alone, and return it."""
        rate = self.args.lr * self.args.decay**self.epoch              # (12)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
            group["weight_decay"] = self.args.weight_decay
        return rate

    def finish_epoch(self, validation: Part, rate: float, batches: int) -> None:
        """Validate, write a row, and save the checkpoints; print a line if it is due."""
        self.epoch, self.batch = self.epoch + 1, 0
        loss, error, _ = evaluate(self.model, validation, self.config)
        seconds = time.monotonic() - self.started
        row = dict(zip(COLUMNS, (self.epoch, self.step, rate, self.loss_sum / batches, loss,
                                 error, round(seconds, 2))))
        self.loss_sum = 0.0
        self.metrics.add(**row)
        if self.best is None or (error, loss) < self.best:   # the loss decides between equals
            self.best = (error, loss)
            self.save("best.pt")      # before checkpoint.pt, which says that it is there
        self.save("checkpoint.pt")
        if self.epoch % self.args.log_every == 0 or self.epoch == self.args.epochs:
            print(f"{self.epoch:5} {self.step:7} {row['train_loss']:11.4f} {loss:16.4f} "
                  f"{error:15.2%} {seconds:7.0f} s", flush=True)


def train(run: Run, data: Data, stop: console.Stop) -> None:
    """The loop: until the last epoch, or until a signal asks to stop between two steps."""
    args, model, optimizer = run.args, run.model, run.optimizer
    images, labels = (tensor.to(run.device) for tensor in data.train)
    batches = -(-len(labels) // args.batch_size)
    model.train()
    while run.epoch < args.epochs:
        rate = run.set_rate()
        order = shuffled(len(labels), args.seed, run.epoch).to(run.device)
        left = order.split(args.batch_size)[run.batch :]
        for chosen in tqdm(left, f"epoch {run.epoch + 1}", leave=False, disable=None):
            inputs = to_input(images[chosen], run.config["mean"], run.config["std"])
            with devices.autocast(run.device, args.precision):
                logits = model(inputs)
            loss = model.loss(logits.float(), labels[chosen])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            devices.check_finite(loss, model.parameters(), run.step + 1, rate)
            optimizer.step()                                           # (11)
            run.step, run.batch = run.step + 1, run.batch + 1
            run.loss_sum += loss.item()
            if stop.requested:
                return run.save("checkpoint.pt")
        run.finish_epoch(data.validation, rate, batches)


def report(run: Run, data: Data) -> None:
    """Draw the pictures and use the test set, once, on the weights that validated best."""
    out = run.args.out_dir
    best_path = console.from_here(out / "best.pt")
    best = checkpoint.load(best_path, NAME)
    checkpoint.restore(run.model, best["model"], best_path)
    _, error, probabilities = evaluate(run.model, data.test, run.config)
    pictures.draw_curves(run.metrics.path, out / "loss.png")
    pictures.draw_mistakes(data.test, probabilities, data.classes, out / "mistakes.png")
    pictures.draw_filters(run.model, out / "filters.png")
    console.write_results(out, "train.py", run.args, steps=run.step, best_epoch=best["epoch"],
                          test_error=error, seconds=run.seconds)
    print(f"test error {error:.2%} on {len(data.test.labels):,} pictures, with the weights of "
          f"epoch {best['epoch']} (paper: 0.95% on MNIST)")
    print("wrote best.pt, checkpoint.pt, filters.png, loss.png, metrics.csv, mistakes.png, "
          "results.json")
    print(f"next: python inference.py --checkpoint {console.to_type(best_path)} --image "
          "YOUR_PICTURE")


def parse(argv: list[str] | None) -> tuple[argparse.Namespace, dict | None]:
    """The options, and the checkpoint if a run is resumed."""
    parser = console.training_parser("Train LeNet-5.", data=NAMES, length="epochs")
    parser.add_argument("--variant", choices=VARIANTS, default="classic",
                        help="the network of the textbooks or of the paper (default: classic)")
    parser.add_argument("--weight-decay", metavar="X", type=console.non_negative_float,
                        help="pull of all weights towards zero (default: what suits the data)")
    parser.add_argument("--decay", metavar="X", type=console.positive_float,
                        help="factor on the rate after an epoch (default: what suits the data)")
    return checkpoint.read_options(parser, argv, NAME, FIXED)


def set_defaults(args: argparse.Namespace, data: Data) -> None:
    """What the flags leave open follows from the network and the size of its data."""
    size = "small" if len(data.train.labels) < SMALL else "large"
    if args.quick and args.epochs is None:
        args.epochs = 2
    for name, value in {"lr": RATES[args.variant, size], **RECIPES[size]}.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    args.log_every = args.log_every or -(-args.epochs // 15)


@console.one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Train, test once, and leave a checkpoint, a table and three pictures."""
    args, saved = parse(argv)
    if args.quick and args.data == "auto":
        args.data = "digits"
    device = devices.choose(args.device)
    data = load(args.data, Path(args.data_dir), args.workers)
    if args.quick:
        data = shortened(data, 1_200)
    args.data = data.name  # what "auto" has found, so that a resumed run finds the same
    set_defaults(args, data)
    if args.batch_size <= 16:   # too little work to share: threads would wait for each other
        torch.set_num_threads(1)
    run = Run(args, data, device, saved)
    parameters = sum(p.numel() for p in run.model.parameters())
    train_size, validation_size, test_size = (len(part.labels) for part in data[2:])
    print(f"LeNet-5 ({args.variant}), {parameters:,} parameters; {data.name}: {train_size:,} "
          f"pictures to train on, {validation_size:,} to validate, {test_size:,} to test; "
          f"{devices.describe(device)}; seed {args.seed}")
    print(f"writing to {console.from_here(args.out_dir)}; stop with Ctrl-C, go on with "
          "--resume")
    print("epoch    step  train loss  validation loss  validation error  time", flush=True)
    if run.epoch >= args.epochs:
        console.say(f"the run is finished, at epoch {run.epoch}: only the report is left")
    with console.Stop() as stop:
        train(run, data, stop)
    if stop.requested:
        console.say(f"stopped after step {run.step}: go on with python train.py --resume "
                    f"{console.to_type(args.out_dir / 'checkpoint.pt')}")
        return stop.exit_code
    report(run, data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
