"""Train LeNet-5's plan with AdamW, a one-cycle rate, label smoothing and distorted pictures.

    python train.py                          # MNIST if it can be had, else digits
    python train.py --data digits            # nothing to fetch
    python train.py --tune 12 --data digits  # search for better settings, say the command
    python train.py --resume                 # go on exactly where a run stopped
"""

# N pictures
import argparse
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

import checkpoint
import console
import devices
import options
import pictures
from augment import distort
from data import Data, Part, load, shortened, to_input
from detector import measure
from model import NAME, SWITCHES, build
from optimization import make_optimizer, rate_share
from tune import search

COLUMNS = ["epoch", "step", "lr", "train_loss", "validation_loss", "validation_error",
           "seconds"]


def shuffled(count: int, seed: int, epoch: int) -> Tensor:
    """The order of an epoch: a function of seed and epoch, not of what was drawn before."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return torch.randperm(count, generator=generator)                  # (N,)


def batches_of(order: Tensor, size: int) -> tuple[Tensor, ...]:
    """The order (N,) in batches; a last one of a single picture is left out: (2) needs two."""
    batches = order.split(size)
    return batches[:-1] if len(batches[-1]) == 1 < size else batches


@torch.no_grad()
def evaluate(model: nn.Module, part: Part, config: dict) -> tuple[float, float, Tensor]:
    """Mean loss in nats, error rate from 0 to 1, and the logits (N, K), on the CPU."""
    device, training = next(model.parameters()).device, model.training
    model.eval()
    logits = torch.cat([model(to_input(images.to(device), config["mean"], config["std"])).cpu()
                        for images in part.images.split(1000)])
    model.train(training)
    labels = part.labels.cpu()
    wrong = (logits.argmax(1) != labels).double().mean().item()
    return model.loss(logits, labels).item(), wrong, logits


def configure(args: argparse.Namespace, data: Data) -> dict:
    """All that is needed to rebuild the model and to prepare its input."""
    pixels = data.train.images.float() / 255
    switches = {name: getattr(args, name) for name in SWITCHES}
    return {**switches, "classes": data.classes, "mean": pixels.mean().item(),
            "std": pixels.std().item(), "data": data.name}


class Run:
    """A training run: the model, where it stands, and the files it leaves behind."""

    def __init__(self, args: argparse.Namespace, data: Data, device: torch.device,
                 saved: dict | None = None) -> None:
        self.args, self.device, self.data_digest = args, device, data.digest
        torch.manual_seed(args.seed)
        self.config = saved["config"] if saved else configure(args, data)
        if saved and saved["data"] != self.data_digest:
            raise console.Refusal(f"{data.name} is not what it was when the run began: start a "
                                  "new one")
        self.model = build(self.config).to(device)
        self.optimizer = make_optimizer(self.model, args)
        self.batches = len(batches_of(data.train.labels, args.batch_size))
        self.step = self.epoch = self.batch = self.best_epoch = 0
        self.loss_sum, self.best, self.seconds = 0.0, None, 0.0
        if saved:
            checkpoint.restore(self.model, saved["model"], args.resume)
            self.optimizer.load_state_dict(saved["optimizer"])
            self.optimizer.param_groups[0]["weight_decay"] = args.weight_decay  # typed: it wins
            checkpoint.set_rng_state(saved["rng"])
            for name in ("step", "epoch", "batch", "loss_sum", "best", "best_epoch", "seconds"):
                setattr(self, name, saved[name])
        self.started = time.monotonic() - self.seconds
        args.out_dir.mkdir(parents=True, exist_ok=True)
        self.metrics = checkpoint.Metrics(args.out_dir / "metrics.csv", COLUMNS,
                                          self.step if saved else None)

    @property
    def done(self) -> bool:
        """Whether all epochs were run, or the last `--patience` of them brought nothing."""
        stale = self.epoch - self.best_epoch >= self.args.patience
        return self.epoch >= self.args.epochs or stale

    def save(self, name: str) -> None:
        """Write everything that the run needs to go on, whole or not at all."""
        self.seconds = time.monotonic() - self.started
        typed = {key: str(value.resolve()) if isinstance(value, Path) else value
                 for key, value in vars(self.args).items() if key not in ("resume", "debug")}
        checkpoint.save(self.args.out_dir / name, {
            "folder": NAME, "config": self.config, "options": typed, "data": self.data_digest,
            "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
            "rng": checkpoint.rng_state(), "step": self.step, "epoch": self.epoch,
            "batch": self.batch, "loss_sum": self.loss_sum, "best": self.best,
            "best_epoch": self.best_epoch, "seconds": self.seconds,
        })

    def set_rate(self) -> float:
        """Set the learning rate of this step, a function of the step alone, and return it."""
        progress = self.step / (self.args.epochs * self.batches)
        rate = self.args.lr * rate_share(self.args.schedule, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def finish_epoch(self, validation: Part) -> None:
        """Validate, write a row, and save the checkpoints; print a line if it is due."""
        self.epoch, self.batch = self.epoch + 1, 0
        rate = self.optimizer.param_groups[0]["lr"]        # of the last step
        loss, error, _ = evaluate(self.model, validation, self.config)
        seconds = time.monotonic() - self.started
        row = dict(zip(COLUMNS, (self.epoch, self.step, rate, self.loss_sum / self.batches,
                                 loss, error, round(seconds, 2))))
        self.loss_sum = 0.0
        self.metrics.add(**row)
        if self.best is None or (error, loss) < self.best:   # the loss decides between equals
            self.best, self.best_epoch = (error, loss), self.epoch
            self.save("best.pt")      # before checkpoint.pt, which says that it is there
        self.save("checkpoint.pt")
        if self.args.log_every and (self.epoch % self.args.log_every == 0 or self.done):
            print(f"{self.epoch:5} {self.step:7} {row['train_loss']:11.4f} {loss:16.4f} "
                  f"{error:15.2%} {seconds:7.0f} s", flush=True)


def train(run: Run, data: Data, stop: console.Stop) -> None:
    """The loop: until the last epoch, or until a signal asks to stop between two steps."""
    args, model, optimizer = run.args, run.model, run.optimizer
    images, labels = (tensor.to(run.device) for tensor in data.train)
    model.train()
    while not run.done:
        order = shuffled(len(labels), args.seed, run.epoch).to(run.device)
        left = batches_of(order, args.batch_size)[run.batch :]
        for chosen in tqdm(left, f"epoch {run.epoch + 1}", leave=False, disable=None):
            rate = run.set_rate()
            seen = distort(images[chosen], args.augment, args.seed * 1_000_003 + run.step)
            inputs = to_input(seen, run.config["mean"], run.config["std"])
            with devices.autocast(run.device, args.precision):
                logits = model(inputs)
            loss = model.loss(logits.float(), labels[chosen], args.smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            devices.check_finite(loss, model.parameters(), run.step + 1, rate)
            optimizer.step()
            run.step, run.batch = run.step + 1, run.batch + 1
            run.loss_sum += loss.item()
            if stop.requested:
                return run.save("checkpoint.pt")
        run.finish_epoch(data.validation)


def restore_best(run: Run) -> dict:
    """Put the weights that validated best into the run's model; the whole checkpoint."""
    path = console.from_here(run.args.out_dir / "best.pt")
    best = checkpoint.load(path, NAME)
    checkpoint.restore(run.model, best["model"], path)
    return best


def attempt(args: argparse.Namespace, data: Data, device: torch.device,
            stop: console.Stop) -> Run:
    """A run that leaves nothing behind but its model, with the weights that validated best."""
    with tempfile.TemporaryDirectory() as folder:
        mine = argparse.Namespace(**{**vars(args), "out_dir": Path(folder), "log_every": 0})
        run = Run(mine, data, device)
        train(run, data, stop)
        if not stop.requested:
            restore_best(run)
        run.metrics.file.close()      # Windows removes no open file
    return run


def report(run: Run, data: Data) -> None:
    """Draw the pictures and use the test set, once, on the weights that validated best."""
    out = run.args.out_dir
    best = restore_best(run)
    best["config"]["detector"] = detector = measure(run.model, run.config, data.validation)
    checkpoint.save(out / "best.pt", best)
    _, error, logits = evaluate(run.model, data.test, run.config)
    pictures.draw_curves(run.metrics.path, out / "loss.png")
    pictures.draw_mistakes(data.test, logits, data.classes, out / "mistakes.png")
    pictures.draw_confusion(data.test.labels, logits, data.classes, out / "confusion.png")
    console.write_results(out, "train.py", run.args, steps=run.step, best_epoch=best["epoch"],
                          test_error=error, seconds=run.seconds, **detector)
    print(f"test error {error:.2%} on {len(data.test.labels):,} pictures, with the weights of "
          f"epoch {best['epoch']}")
    print("doubts: " + ", ".join(
        f"AUROC {detector[name]:.3f} against {name}, {detector[f'{name}_warned']:.0%} warned of"
        for name in ("letters", "blanks")))
    print("wrote best.pt, checkpoint.pt, confusion.png, loss.png, metrics.csv, mistakes.png, "
          "results.json")
    where = console.to_type(out / "best.pt")
    print(f"next: python inference.py --checkpoint {where} --image YOUR_PICTURE")


@console.one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Train, test once, and leave a checkpoint, a table and three pictures."""
    args, saved = options.parse(argv, NAME)
    device = devices.choose(args.device)
    data = load(args.data, Path(args.data_dir), args.workers)
    if args.quick:
        data = shortened(data, 1_200)
    args.data = data.name  # what "auto" has found, so that a resumed run finds the same
    options.set_defaults(args, len(data.train.labels))
    torch.set_num_threads(1)   # too little work to share: threads would wait for each other
    if args.tune:
        return search(args, data, device, attempt)
    run = Run(args, data, device, saved)
    parameters = sum(p.numel() for p in run.model.parameters())
    train_size, validation_size, test_size = (len(part.labels) for part in data[2:])
    print(f"LeNet-5, {parameters:,} parameters; {data.name}: {train_size:,} "
          f"pictures to train on, {validation_size:,} to validate, {test_size:,} to test; "
          f"{devices.describe(device)}; seed {args.seed}")
    print(f"writing to {console.from_here(args.out_dir)}; stop with Ctrl-C, go on with "
          "--resume")
    print("epoch    step  train loss  validation loss  validation error  time", flush=True)
    if run.done:
        console.say(f"the run is finished, at epoch {run.epoch}: only the report is left")
    with console.Stop() as stop:
        train(run, data, stop)
    if stop.requested:
        console.say(f"stopped after step {run.step}: go on with python train.py --resume "
                    f"{console.to_type(args.out_dir / 'checkpoint.pt')}")
        return stop.exit_code
    if run.epoch < args.epochs:
        console.say(f"nothing was better since epoch {run.best_epoch}: stopped early")
    report(run, data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
