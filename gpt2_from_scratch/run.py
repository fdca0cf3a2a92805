"""One training run: its model and tokens, where it stands, and the files it leaves behind."""

# B windows

import argparse
import hashlib
import textwrap
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import checkpoint
import console
import devices
import distributed
import measures
import optimization
import weights
from batches import SEEDS, begins, store
from data import Data
from generate import Sampling
from model import NAME, build
from reader import Reader
from show_params import flops_per_token
from tokenizer import Tokenizer

COLUMNS = ["step", "lr", "train_loss", "validation_loss", "nats_per_character",
           "bits_per_character", "seconds"]
SAMPLE = 60           # tokens that are written at each evaluation


def configure(args: argparse.Namespace, data: Data) -> tuple[dict, dict | None]:
    """All that is needed to rebuild the model and to read its input; weights to begin with."""
    words = args.tokenizer and Path(args.tokenizer)
    if args.weights is not None:
        with distributed.first_alone():
            model, config = weights.open_published(args.weights, args.data_dir, args.download,
                                                   words)
        if args.context > config["context"]:
            raise console.Refusal(f"{args.weights} reads {config['context']} tokens at once: "
                                  "use a smaller --context")
        config |= {"dropout": args.dropout, "data": data.name, "seed": args.seed}
        return config, model.state_dict()
    tokenizer = (Tokenizer.load(words) if words else
                 Tokenizer.train(data.training, args.vocabulary))
    shape = {name: getattr(args, name) for name in ("context", "layers", "heads", "channels",
                                                    "dropout", "bias")}
    return {"vocabulary": len(tokenizer), **shape, "tokenizer": tokenizer.state(),
            "data": data.name, "seed": args.seed}, None


def digest_of(path: Path) -> str | None:
    """The SHA-256 of a file, None if there is none."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Run:
    """A training run: the model, where it stands, and the files it leaves behind."""

    PROGRESS = ("step", "evaluated", "loss_sum", "best", "best_step", "stale",
                "seconds")         # what a checkpoint keeps of it

    def __init__(self, args: argparse.Namespace, data: Data, device: torch.device,
                 saved: dict | None = None) -> None:
        self.args, self.device, self.data_digest = args, device, data.digest
        if saved and saved["data"] != self.data_digest:
            raise console.Refusal(f"{data.name} is not what it was when the run began: start a "
                                  "new one")
        torch.manual_seed(args.seed)
        self.config, start = (saved["config"], None) if saved else configure(args, data)
        self.model = build(self.config)
        if start:
            self.model.load_state_dict(start)
        self.model.to(device)
        self.optimizer = optimization.make_optimizer(self.model, args.weight_decay, args.beta2)
        self.step = self.evaluated = self.best_step = self.stale = 0
        self.loss_sum, self.best, self.seconds = 0.0, None, 0.0
        self.stopped, self.writes = False, distributed.rank() == 0
        if saved:
            checkpoint.restore(self.model, saved["model"], args.resume)
            self.optimizer.load_state_dict(saved["optimizer"])
            self.optimizer.param_groups[0]["weight_decay"] = args.weight_decay  # typed: it wins
            for group in self.optimizer.param_groups:
                group["betas"] = (group["betas"][0], args.beta2)
            for name in self.PROGRESS:
                setattr(self, name, saved[name])
        self.reader = Reader(self.model, self.config)
        self.characters = len(data.validation)
        operations = 3 * flops_per_token(self.config, args.context)    # a token, in training
        speed = distributed.ranks() * measures.possible(device, args.precision)
        self.fastest = speed / operations                              # tokens a second
        with distributed.first_alone():
            self._open_files(data, saved)
        self.tokens_a_step = args.batch_size * args.context
        self.clock, self.timed = time.monotonic(), self.step
        self.started = self.clock - self.seconds

    def _open_files(self, data: Data, saved: dict | None) -> None:
        """Where the run writes, and its tokens: validation begins with the last of training."""
        out, context = self.args.out_dir, self.args.context
        paths = [out / f"{part}.npy" for part in ("training", "validation")]
        if self.writes:
            kept = saved and saved.get("tokens") == [digest_of(path) for path in paths]
            if not kept:
                parts = [self.reader.tokenizer.encode(text) for text in data[1:3]]
                if len(parts[0]) <= context:
                    raise console.Refusal(f"{data.name} has {len(parts[0])} tokens to train on "
                                          f"and a window needs {context + 1}: use more text, "
                                          "or a smaller --context")
            out.mkdir(parents=True, exist_ok=True)
            self.metrics = checkpoint.Metrics(out / "metrics.csv", COLUMNS,
                                              self.step if saved else None)
            if not kept:
                store(parts[0], paths[0])
                store(parts[0][-1:] + parts[1], paths[1])
            self.tokens = [digest_of(path) for path in paths]
        self.training, self.validation = (np.load(path, mmap_mode="r") for path in paths)

    @property
    def until(self) -> int:
        """The step after which it is time to evaluate."""
        every = self.args.log_every
        return min(self.args.steps, (self.evaluated // every + 1) * every)

    @property
    def done(self) -> bool:
        """Whether the last step was evaluated, or the last evaluations brought nothing."""
        return self.evaluated >= self.args.steps or self.stale >= self.args.patience

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
        checkpoint.save(self.args.out_dir / name, {
            "folder": NAME, "config": self.config, "options": typed, "data": self.data_digest,
            "tokens": self.tokens, "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            **{key: getattr(self, key) for key in self.PROGRESS},
        })

    def set_rate(self) -> float:
        """Set the learning rate of this step, a function of the step alone, and return it."""
        args = self.args
        rate = args.lr * optimization.rate_share(self.step + 1, args.steps, args.warm_up,
                                                 args.floor)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def parts(self) -> list[Tensor]:
        """Where the windows of this step and process begin, in parts that fit into memory."""
        args, rank = self.args, distributed.rank()
        mark = args.seed * SEEDS + self.step
        torch.manual_seed(mark + SEEDS**2 * rank)    # each process has its own dropout
        mine = begins(len(self.training), args.context, args.batch_size, args.seed, self.step)
        return list(mine[rank :: distributed.ranks()].chunk(args.accumulate))  # each (B,)

    def note(self, loss: Tensor, rate: float, stop: console.Stop) -> None:
        """Add up the loss of all processes; `stopped` if one of them was asked to stop.

        Raises Refusal if the loss or the gradient is not a number.
        """
        sums = distributed.total(torch.stack([loss, loss.new_tensor(stop.requested)]),
                                 self.device)
        devices.check_finite(sums[0], self.model.parameters(), self.step + 1, rate)
        loss, self.stopped = sums.tolist()
        self.step, self.loss_sum = self.step + 1, self.loss_sum + loss

    def evaluate(self) -> measures.Loss:
        """The loss on all of the validation part."""
        return measures.evaluate(self.model, self.validation, self.args.context,
                                 self.characters, self.args.precision)

    def finish_interval(self) -> None:
        """Validate, write a row and the checkpoints, print a line and what the model writes."""
        seconds = time.monotonic() - self.clock
        tokens = (self.step - self.timed) * self.tokens_a_step
        loss, rate = self.evaluate(), self.optimizer.param_groups[0]["lr"]   # of the last step
        train_loss = self.loss_sum / (self.step - self.evaluated)
        self.loss_sum, self.evaluated, self.stale = 0.0, self.step, self.stale + 1
        better = self.best is None or loss.token < self.best
        if better:
            self.best, self.best_step, self.stale = loss.token, self.step, 0
        row = (self.step, rate, train_loss, loss.token, loss.character, loss.bits,
               round(time.monotonic() - self.started, 2))
        if self.writes:
            self.metrics.add(**dict(zip(COLUMNS, row)))
            if better:
                self.save("best.pt")      # before checkpoint.pt, which says that it is there
            self.save("checkpoint.pt")
            speed = tokens / seconds
            print(f"{self.step:7} {rate:8.1e} {train_loss:10.4f} {loss.token:15.4f} "
                  f"{loss.character:10.4f} {loss.bits:9.4f} {speed:8,.0f}/s "
                  f"{speed / self.fastest:5.0%} {row[-1]:6.0f} s")
            print(self.sample(), flush=True)
        self.clock, self.timed = time.monotonic(), self.step

    def sample(self) -> str:
        """What the model writes after a line end, set in from the left."""
        self.model.eval()
        seed = self.args.seed * SEEDS + self.step
        pieces = self.reader.write(["\n"], SAMPLE, Sampling(temperature=0.8), seed)
        text = "".join(piece for (piece,) in pieces)
        self.model.train()
        plain = "".join(letter if letter.isprintable() or letter == "\n" else "\ufffd"
                        for letter in text.strip())
        return textwrap.indent(plain, " " * 8 + "| ", lambda line: True)
