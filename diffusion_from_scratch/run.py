"""One training run: network and average, where it stands, and the files it leaves behind."""

# B pictures in a batch, Q quarters of the times

import argparse
import math
import time
from pathlib import Path

import torch
from torch import Tensor

import checkpoint
import console
import devices
import distributed
import optimization
import pictures
from batches import SEEDS, Batch, make_batch, share
from data import Data
from diffusion import Sampling
from ema import Average
from model import NAME, SETTINGS, build
from painter import Painter

QUARTERS = 4         # of the times, whose losses are reported one by one
COLUMNS = ["step", "lr", "train_loss", *(f"loss_{quarter}" for quarter in range(QUARTERS)),
           "validation_loss", "seconds"]
VALIDATED = 512      # pictures at most
AT_ONCE = 128        # of them
STRIP = 20           # pictures of a strip of samples
ROUGH = 10           # steps in which they are drawn


def configure(args: argparse.Namespace, data: Data) -> dict:
    """All that is needed to rebuild the model and to understand its output."""
    names = (*SETTINGS, "schedule", "times", "predict", "gamma", "ema", "image_size", "seed")
    return {**{name: getattr(args, name) for name in names}, "centred": args.centre,
            "shape": tuple(data.train.images.shape[1:]), "data": args.data,
            "classes": data.classes if args.labels else []}


class Run:
    """A training run: the model, where it stands, and the files it leaves behind."""

    PROGRESS = ("step", "evaluated", "sums", "counts", "best", "best_step",
                "seconds")         # what a checkpoint keeps of it

    def __init__(self, args: argparse.Namespace, data: Data, device: torch.device,
                 saved: dict | None = None) -> None:
        self.args, self.device, self.data_digest = args, device, data.digest
        self.training, self.validation = data.train, data.validation.some(slice(VALIDATED))
        if saved and saved["data"] != self.data_digest:
            raise console.Refusal(f"{data.name} is not what it was when the run began: start a "
                                  "new one")
        torch.manual_seed(args.seed)
        self.config = saved["config"] if saved else configure(args, data)
        self.model = build(self.config).to(device, memory_format=torch.channels_last)
        self.optimizer = optimization.make_optimizer(self.model, args.weight_decay)
        self.step = self.evaluated = self.best_step = 0
        self.sums, self.counts = ([0.0] * QUARTERS for _ in range(2))
        self.best, self.seconds, self.stopped = None, 0.0, False
        self.average = Average(self.model, args.ema) if args.ema else None
        if saved:
            self._restore(saved)
        self.painter = Painter(self.judged, self.config, device)
        self.diffusion = self.painter.diffusion
        self.started = time.monotonic() - self.seconds
        self.writes = distributed.rank() == 0
        if not self.writes:
            return
        args.out_dir.mkdir(parents=True, exist_ok=True)
        self.metrics = checkpoint.Metrics(args.out_dir / "metrics.csv", COLUMNS,
                                          self.step if saved else None)

    def _restore(self, saved: dict) -> None:
        path = self.args.resume
        checkpoint.restore(self.model, saved["model"], path)
        self.optimizer.load_state_dict(saved["optimizer"])
        self.optimizer.param_groups[0]["weight_decay"] = self.args.weight_decay    # typed: wins
        if self.average:
            if "ema" not in saved:
                raise console.Refusal(f"{path} has no averaged weights to go on with: start a "
                                      "new run")
            checkpoint.restore(self.average.model, saved["ema"], path)
        for name in self.PROGRESS:
            setattr(self, name, saved[name])

    @property
    def judged(self) -> torch.nn.Module:
        """The network that validates and paints: with averaged weights, if there are some."""
        return self.average.model if self.average else self.model

    @property
    def until(self) -> int:
        """The step after which it is time to evaluate."""
        every = self.args.log_every
        return min(self.args.steps, (self.evaluated // every + 1) * every)

    @property
    def done(self) -> bool:
        """Whether the last step was evaluated."""
        return self.evaluated >= self.args.steps

    def save(self, name: str) -> None:
        """Write everything that the run needs to go on, whole or not at all.

        Whatever is drawn at random is a function of seed, step and process, so no state of a
        generator is needed.
        """
        if not self.writes:
            return
        self.seconds = time.monotonic() - self.started
        typed = {key: str(value.resolve()) if isinstance(value, Path) else value
                 for key, value in vars(self.args).items() if key not in ("resume", "debug")}
        average = {"ema": self.average.model.state_dict()} if self.average else {}
        checkpoint.save(self.args.out_dir / name, {
            "folder": NAME, "config": self.config, "options": typed, "data": self.data_digest,
            "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
            **average, **{key: getattr(self, key) for key in self.PROGRESS},
        })

    def set_rate(self) -> float:
        """Set the learning rate of this step, a function of the step alone, and return it."""
        args = self.args
        rate = args.lr * optimization.rate_share(self.step + 1, args.steps, args.warm_up,
                                                 args.falls)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def batch(self) -> Batch:
        """What this process has of the batch of this step."""
        args, rank = self.args, distributed.rank()
        torch.manual_seed(args.seed * SEEDS + self.step + SEEDS**2 * rank)    # for dropout
        whole = make_batch(self.training, args.batch_size, args.seed, self.step, args.times,
                           len(self.config["classes"]), args.drop_labels, args.flip,
                           args.centre)
        return share(whole, rank, distributed.ranks(), self.device)

    def note(self, losses: Tensor, t: Tensor, rate: float, stop: console.Stop) -> None:
        """Add up the losses (B,) of all processes, for each quarter of the times t (B,).

        `stopped` if a process was asked to stop. Raises Refusal if loss or gradient is not a
        number.
        """
        quarters = t * QUARTERS // self.args.times                     # (B,)
        sums = torch.zeros(2, QUARTERS, device=self.device)            # (2, Q)
        sums.index_add_(1, quarters, torch.stack([losses.detach(), torch.ones_like(losses)]))
        asked = sums.new_tensor([[float(stop.requested)]] * 2)         # (2, 1)
        sums = distributed.total(torch.cat([sums, asked], dim=1), self.device)
        devices.check_finite(sums[0].sum(), self.model.parameters(), self.step + 1, rate)
        (*losses, asked), (*counts, _) = sums.tolist()
        self.sums = [before + now for before, now in zip(self.sums, losses)]
        self.counts = [before + now for before, now in zip(self.counts, counts)]
        self.step, self.stopped = self.step + 1, asked > 0

    def follow(self) -> None:
        """Let the averaged weights follow those of the step just made."""
        if self.average:
            self.average.update(self.model, self.step - 1)

    @torch.no_grad()
    def validate(self) -> float:
        """The loss on pictures not trained on, always with the same noise and times."""
        args, total = self.args, 0.0
        self.judged.eval()
        count = len(self.validation.images)
        batches = -(-count // AT_ONCE)
        size = -(-count // batches)     # all alike: the last may begin anew
        for step in range(batches):
            whole = make_batch(self.validation, size, 0, step, args.times,
                               len(self.config["classes"]), 0.0, False, args.centre)
            x0, noise, t, labels = share(whole, 0, 1, self.device)
            output = self.judged(self.diffusion.q_sample(x0, t, noise), t, labels)
            total += self.diffusion.losses(output, x0, t, noise).mean().item()
        self.model.train()
        return total / batches

    def sheet(self, count: int, steps: int) -> Tensor:
        """Samples in so many steps, or as many as there are: (count, C, H, W)."""
        self.judged.eval()
        how = Sampling(steps=min(steps, self.args.times))
        drawn = self.painter.samples(count, how, self.args.seed)
        self.model.train()
        return drawn

    def finish_interval(self) -> None:
        """Validate, write a row and the checkpoints, and show both."""
        loss, rate = self.validate(), self.optimizer.param_groups[0]["lr"]
        train_loss = sum(self.sums) / max(sum(self.counts), 1)
        each = [total / count if count else math.nan
                for total, count in zip(self.sums, self.counts)]
        self.sums, self.counts = ([0.0] * QUARTERS for _ in range(2))
        self.evaluated, better = self.step, self.best is None or loss < self.best
        if better:
            self.best, self.best_step = loss, self.step
        if not self.writes:
            return
        seconds = round(time.monotonic() - self.started, 2)
        row = (self.step, rate, train_loss, *each, loss, seconds)
        self.metrics.add(**dict(zip(COLUMNS, row)))
        if better:
            self.save("best.pt")      # before checkpoint.pt, which says that it is there
        self.save("checkpoint.pt")
        self.show(row)

    def show(self, row: tuple[float, ...]) -> None:
        """Print a row of the metrics, and draw what the run can do by now."""
        path = self.args.out_dir / "progress" / f"step_{self.step:06}.png"
        pictures.save_tiles(self.sheet(STRIP, ROUGH), STRIP // 2, path)
        step, rate, train_loss, *quarters, loss, seconds = row
        print(f"{step:7} {rate:8.1e} {train_loss:11.4f} {loss:16.4f}  "
              f"{' '.join(f'{value:.4f}' for value in quarters)} {seconds:6.0f} s", flush=True)
