"""Train AlexNet by stochastic gradient descent with momentum, on one device or on several.

    python train.py                                    # drawn shapes, two cores, minutes
    python train.py --data FOLDER --preset paper       # the recipe of 2012, for a GPU
    torchrun --nproc-per-node 8 train.py --data FOLDER --preset paper
    python train.py --resume                           # go on exactly where a run stopped
"""

# no shapes here: batches.py makes the tensors, model.py reads them

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import checkpoint
import console
import devices
import distributed
import optimization
import options
import pictures
from batches import SEEDS, prepared
from data import QUICK, SHAPES, Data, load, typical_side
from evaluation import evaluate
from inputs import measure
from model import NAME, build
from parts import Part

COLUMNS = ["epoch", "step", "lr", "train_loss", "train_error", "validation_loss",
           "validation_error", "validation_top5", "seconds"]


def configure(args: argparse.Namespace, data: Data) -> dict:
    """All that is needed to rebuild the model and to prepare its input."""
    return {"variant": args.variant, "width": args.width, "image_size": args.image_size,
            "changes": {name: getattr(args, name) for name in options.SWITCHES},
            "classes": data.classes, "data": data.name, "seed": args.seed,
            **measure(data.train, args.image_size, args.preset == "paper")}


class Run:
    """A training run: the model, where it stands, and the files it leaves behind."""

    PROGRESS = ("rate", "step", "epoch", "batch", "drops", "best_epoch", "last_drop",
                "loss_sum", "error_sum", "seen", "best", "seconds")     # kept in checkpoints

    def __init__(self, args: argparse.Namespace, data: Data, device: torch.device,
                 saved: dict | None = None) -> None:
        self.args, self.device, self.data_digest = args, device, data.digest
        if saved and saved["data"] != self.data_digest:
            raise console.Refusal(f"{data.name} is not what it was when the run began: start a "
                                  "new one")
        torch.manual_seed(args.seed)
        self.config = saved["config"] if saved else configure(args, data)
        self.model = build(self.config).to(device, memory_format=torch.channels_last)
        self.optimizer = optimization.make_optimizer(self.model)
        self.rate, self.step, self.epoch, self.batch = args.lr, 0, 0, 0
        self.drops = self.best_epoch = self.last_drop = 0
        self.loss_sum, self.error_sum, self.seen = 0.0, 0.0, 0
        self.best, self.seconds, self.stopped = None, 0.0, False
        if saved:
            checkpoint.restore(self.model, saved["model"], args.resume)
            self.optimizer.load_state_dict(saved["optimizer"])
            checkpoint.set_rng_state(saved["rng"])
            for name in self.PROGRESS:
                setattr(self, name, saved[name])
        self.started = time.monotonic() - self.seconds
        self.writes = distributed.rank() == 0
        if not self.writes:      # each process draws other masks for dropout
            torch.manual_seed(args.seed + SEEDS * distributed.rank() + self.step)
            return
        args.out_dir.mkdir(parents=True, exist_ok=True)
        self.metrics = checkpoint.Metrics(args.out_dir / "metrics.csv", COLUMNS,
                                          self.step if saved else None)

    @property
    def done(self) -> bool:
        """Whether all epochs were run, or the rate would have to fall once too often."""
        return self.epoch >= self.args.epochs or self.drops > optimization.DROPS

    def save(self, name: str) -> None:
        """Write everything that the run needs to go on, whole or not at all."""
        if not self.writes:
            return
        self.seconds = time.monotonic() - self.started
        typed = {key: str(value.resolve()) if isinstance(value, Path) else value
                 for key, value in vars(self.args).items() if key not in ("resume", "debug")}
        checkpoint.save(self.args.out_dir / name, {
            "folder": NAME, "config": self.config, "options": typed, "data": self.data_digest,
            "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
            "rng": checkpoint.rng_state(), **{key: getattr(self, key) for key in self.PROGRESS},
        })

    def batches(self, part: Part) -> Iterator[tuple[int, Tensor, Tensor]]:
        """What is left of this epoch: size of the batch, inputs (B, 3, S, S), labels (B,)."""
        self.trained, self.clock = 0, time.monotonic()
        return prepared(part, self.args.batch_size, self.args.seed, self.config,
                        self.args.colour, self.device, (self.epoch, self.step, self.batch))

    def note(self, count: int, loss: Tensor, wrong: Tensor, stop: console.Stop) -> None:
        """Add up pictures, loss and mistakes of all processes; `stopped` if one was asked to.

        Raises Refusal if the loss or the gradient is not a number.
        """
        mine = torch.tensor([count, stop.requested], device=self.device)
        sums = distributed.total(torch.stack([loss.detach(), wrong, *mine]), self.device)
        devices.check_finite(sums[0], self.model.parameters(), self.step + 1, self.rate)
        loss, wrong, count, self.stopped = sums.tolist()
        self.loss_sum, self.error_sum = self.loss_sum + loss, self.error_sum + wrong
        self.step, self.batch = self.step + 1, self.batch + 1
        self.seen, self.trained = self.seen + int(count), self.trained + count

    def finish_epoch(self, data: Data) -> None:
        """Validate, let the rate fall if it is time, write a row, and save the checkpoints."""
        args, count = self.args, max(self.seen, 1)
        self.epoch, self.batch = self.epoch + 1, 0
        speed = self.trained / (time.monotonic() - self.clock)
        loss, error, five, _ = evaluate(self.model, data.validation, self.config,
                                        precision=args.precision)
        row = (self.epoch, self.step, self.rate, self.loss_sum / count, self.error_sum / count,
               loss, error, five, round(time.monotonic() - self.started, 2))
        self.loss_sum, self.error_sum, self.seen = 0.0, 0.0, 0
        better = self.best is None or (error, loss) < self.best   # the loss decides in a draw
        if better:
            self.best, self.best_epoch = (error, loss), self.epoch
        elif self.epoch - max(self.best_epoch, self.last_drop) >= args.patience:
            self.rate, self.drops = self.rate / optimization.FALL, self.drops + 1     # (10)
            self.last_drop = self.epoch
        if not self.writes:
            return
        self.metrics.add(**dict(zip(COLUMNS, row)))
        if better:
            self.save("best.pt")      # before checkpoint.pt, which says that it is there
        self.save("checkpoint.pt")
        if args.log_every and (self.epoch % args.log_every == 0 or self.done):
            print(f"{self.epoch:5} {self.step:7} {row[2]:7.0e} {row[3]:11.4f} {loss:16.4f} "
                  f"{error:17.2%} {speed:8,.0f}/s {row[-1]:5.0f} s", flush=True)


def train(run: Run, data: Data, stop: console.Stop) -> None:
    """The loop: until the last epoch, or until a signal asks to stop between two steps."""
    model, ranks = distributed.parallel(run.model), distributed.ranks()
    optimizer = run.optimizer
    model.train()
    while not run.done:
        optimization.set_rate(optimizer, run.rate, run.args.weight_decay)
        for count, inputs, labels in run.batches(data.train):
            with devices.autocast(run.device, run.args.precision):
                logits = model(inputs)
            summed = F.cross_entropy(logits.float(), labels, reduction="sum")
            loss = summed * ranks / count    # (8), since processes average their gradients
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            wrong = (logits.argmax(1) != labels).sum()
            run.note(len(labels), summed, wrong, stop)
            optimizer.step()                                           # (9)
            if run.stopped:
                return run.save("checkpoint.pt")
        run.finish_epoch(data)


def restore_best(run: Run) -> dict:
    """Put the weights that validated best into the run's model; the whole checkpoint."""
    path = console.from_here(run.args.out_dir / "best.pt")
    best = checkpoint.load(path, NAME)
    checkpoint.restore(run.model, best["model"], path)
    return best


def report(run: Run, data: Data) -> None:
    """Use the test set, once, on the weights that validated best, and draw the pictures."""
    distributed.wait()         # until the first process has written them
    best = restore_best(run)
    tests = [evaluate(run.model, data.test, run.config, ten) for ten in (False, True)]
    if not run.writes:
        return
    out = run.args.out_dir
    pictures.draw_curves(run.metrics.path, out / "loss.png")
    pictures.draw_filters(run.model, build(run.config), out / "filters.png")
    for name, (_, error, five, tested) in zip(("one crop", "ten crops"), tests):
        print(f"{name}: test error {error:.2%}, top-5 {five:.2%}, on {tested:,} pictures, with "
              f"the weights of epoch {best['epoch']}")
    console.write_results(out, "train.py", run.args, epochs=run.epoch, best_epoch=best["epoch"],
                          test_error=tests[0][1], ten_crops_error=tests[1][1],
                          seconds=run.seconds)
    print("wrote best.pt, checkpoint.pt, filters.png, loss.png, metrics.csv, results.json")
    where = console.to_type(out / "best.pt")
    print(f"next: python inference.py --checkpoint {where} --image YOUR_PICTURE")


def prepare(argv: list[str] | None) -> tuple[Run, Data]:
    """The run that the command line describes, and its data; what is impossible is refused."""
    args, saved = options.parse(argv, NAME)
    device = devices.choose(args.device)
    distributed.start(device)
    options.set_defaults(args, 256 if args.preset == "paper" else typical_side(args.data))
    with distributed.first_alone():
        data = load(args.data, Path(args.data_dir), args.image_size, args.seed, args.workers,
                    QUICK if args.quick else SHAPES)
    if args.classes not in (None, len(data.classes)):
        raise console.Refusal(f"{data.name} has {len(data.classes)} classes, --classes says "
                              f"{args.classes}: leave it out, or mend the folder")
    data = data.shortened(QUICK) if args.quick else data
    return Run(args, data, device, saved), data


def announce(run: Run, data: Data) -> None:
    """Say what will run."""
    parameters = sum(p.numel() for p in run.model.parameters())
    train_size, validation_size, test_size = (len(part.labels) for part in data[2:])
    print(f"AlexNet ({run.args.variant}, {run.args.image_size} pixels), {parameters:,} "
          f"parameters; {data.name}: {train_size:,} pictures to train on, {validation_size:,} "
          f"to validate, {test_size:,} to test; {devices.describe(run.device)}; processes: "
          f"{distributed.ranks()}; seed {run.args.seed}")
    print(f"writing to {console.from_here(run.args.out_dir)}; stop with Ctrl-C, go on with "
          "--resume")
    print("epoch    step    rate  train loss  validation loss  validation error  pictures"
          "    time", flush=True)


@console.one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Train, test once, and leave a checkpoint, a table and two pictures."""
    with distributed.together():
        run, data = prepare(argv)
        if run.writes:
            announce(run, data)
        if run.done:
            console.say(f"the run is finished, at epoch {run.epoch}: only the report is left")
        with console.Stop() as stop:
            train(run, data, stop)
        if run.stopped:
            if run.writes:
                console.say(f"stopped after step {run.step}: go on with python train.py "
                            f"--resume {console.to_type(run.args.out_dir / 'checkpoint.pt')}")
            return stop.exit_code
        if run.writes and run.epoch < run.args.epochs:
            console.say(f"nothing was better since epoch {run.best_epoch}: stopped early")
        report(run, data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
