"""Train the encoder to name the topic of a text: Adam, a warm-up, label smoothing.

    python train.py                                # drawn sentences of five topics
    python train.py --data hard                    # most of them need the order of words
    python train.py --data my_texts.csv            # rows of label,text
    python train.py --resume                       # go on exactly where a run stopped
"""

# N texts, K classes

import argparse
import copy
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

import checkpoint
import console
import devices
import measures
import optimization
import options
import pictures
from batches import Inputs, batches_of, encode, hide
from data import Data, load
from model import NAME, SETTINGS, build
from tokenizer import Tokenizer

COLUMNS = ["epoch", "step", "lr", "train_loss", "validation_loss", "validation_accuracy",
           "seconds"]
QUICK = (400, 100, 100)      # texts of a smoke run
AT_ONCE = 200                # texts of a batch where nothing is learned


@torch.no_grad()
def evaluate(model: nn.Module, inputs: Inputs) -> tuple[float, float, Tensor]:
    """Mean loss in nats, accuracy from 0 to 1, and the logits (N, K), on the CPU."""
    training = model.training
    model.eval()
    order = inputs.lengths.argsort(stable=True)                        # little padding
    logits = torch.cat([model(inputs.take(chosen)[0]) for chosen in order.split(AT_ONCE)])
    model.train(training)
    logits = logits[order.argsort()].float().cpu()                     # (N, K)
    labels = inputs.labels.cpu()
    right = (logits.argmax(1) == labels).double().mean().item()
    return F.cross_entropy(logits, labels).item(), right, logits


def configure(args: argparse.Namespace, data: Data) -> dict:
    """All that is needed to rebuild the model and to prepare its input."""
    settings = {name: getattr(args, name) for name in SETTINGS}
    tokenizer = Tokenizer.learn(data.train.texts, args.least)
    return {**settings, "vocabulary": tokenizer.vocabulary, "classes": data.classes,
            "data": args.data, "data_digest": data.digest, "seed": args.seed}


class Run:
    """A training run: the model, where it stands, and the files it leaves behind."""

    PROGRESS = ("step", "epoch", "batch", "loss_sum", "best", "best_epoch", "seconds")  # kept

    def __init__(self, args: argparse.Namespace, data: Data, device: torch.device,
                 saved: dict | None = None) -> None:
        self.args, self.device, self.data_digest = args, device, data.digest
        if saved and saved["data"] != self.data_digest:
            raise console.Refusal(f"{data.name} is not what it was when the run began: start a "
                                  "new one")
        torch.manual_seed(args.seed)
        self.config = saved["config"] if saved else configure(args, data)
        tokenizer = Tokenizer(self.config["vocabulary"])
        self.inputs, self.validation, self.test = (
            encode(part, tokenizer, args.longest, device) for part in data[2:5])
        self.model = build(self.config).to(device)
        self.average = copy.deepcopy(self.model)      # follows, and is what answers
        self.optimizer = optimization.make_optimizer(self.model, args.weight_decay)
        self.step = self.epoch = self.batch = self.best_epoch = 0
        self.loss_sum, self.best, self.seconds = 0.0, None, 0.0
        if saved:
            checkpoint.restore(self.model, saved["model"], args.resume)
            checkpoint.restore(self.average, saved["ema"], args.resume)
            self.optimizer.load_state_dict(saved["optimizer"])
            self.optimizer.param_groups[0]["weight_decay"] = args.weight_decay  # typed: it wins
            checkpoint.set_rng_state(saved["rng"])
            for name in self.PROGRESS:
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
            "model": self.model.state_dict(), "ema": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": checkpoint.rng_state(), **{key: getattr(self, key) for key in self.PROGRESS},
        })

    def batches(self) -> list[Tensor]:
        """Which texts the batches of this epoch have."""
        return batches_of(self.inputs.lengths, self.args.batch_size, self.args.seed, self.epoch)

    def set_rate(self) -> float:
        """Set the learning rate of this step, a function of the step alone, and return it."""
        rate = self.args.lr * optimization.rate_share(self.step + 1, self.args.warm_up)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def finish_epoch(self, count: int) -> None:
        """Validate, write a row, and save the checkpoints; print a line if it is due."""
        self.epoch, self.batch = self.epoch + 1, 0
        rate = self.optimizer.param_groups[0]["lr"]        # of the last step
        loss, right, _ = evaluate(self.average, self.validation)
        seconds = time.monotonic() - self.started
        row = dict(zip(COLUMNS, (self.epoch, self.step, rate, self.loss_sum / count, loss,
                                 right, round(seconds, 2))))
        self.loss_sum = 0.0
        self.metrics.add(**row)
        if self.best is None or (-right, loss) < self.best:   # the loss decides between equals
            self.best, self.best_epoch = (-right, loss), self.epoch
            self.save("best.pt")      # before checkpoint.pt, which says that it is there
        self.save("checkpoint.pt")
        if self.args.log_every and (self.epoch % self.args.log_every == 0 or self.done):
            print(f"{self.epoch:5} {self.step:7} {rate:9.1e} {row['train_loss']:11.4f} "
                  f"{loss:16.4f} {right:20.2%} {seconds:7.0f} s", flush=True)


def train(run: Run, stop: console.Stop) -> None:
    """The loop: until the last epoch, or until a signal asks to stop between two steps."""
    args, model, optimizer = run.args, run.model, run.optimizer
    model.train()
    while not run.done:
        batches = run.batches()
        left = tqdm(batches[run.batch :], f"epoch {run.epoch + 1}", leave=False, disable=None)
        for chosen in left:
            rate = run.set_rate()
            tokens, labels = run.inputs.take(chosen)
            tokens = hide(tokens, args.hide, args.seed, run.step)
            with devices.autocast(run.device, args.precision):
                logits = model(tokens)
            loss = F.cross_entropy(logits.float(), labels,             # (13)
                                   label_smoothing=args.smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            devices.check_finite(loss, model.parameters(), run.step + 1, rate)
            optimizer.step()
            optimization.follow(run.average, model, run.step + 1)
            run.step, run.batch = run.step + 1, run.batch + 1
            run.loss_sum += loss.item()
            if stop.requested:
                return run.save("checkpoint.pt")
        run.finish_epoch(len(batches))


def restore_best(run: Run) -> dict:
    """Make the run's averaged weights those that validated best; their whole checkpoint."""
    path = console.from_here(run.args.out_dir / "best.pt")
    best = checkpoint.load(path, NAME)
    checkpoint.restore(run.average, best["ema"], path)
    return best


def report(run: Run, data: Data) -> None:
    """Use the test set, once, on the weights that validated best; compare, draw, say."""
    out, labels, best = run.args.out_dir, data.test.labels, restore_best(run)
    answers = evaluate(run.average, run.test)[2].argmax(1)               # (N,)
    table = measures.confusion(labels, answers, len(data.classes))     # (K, K)
    pictures.draw_confusion(table, data.classes, out / "confusion.png")
    pictures.draw_curves(run.metrics.path, out / "loss.png")
    print(f"test accuracy {measures.accuracy(answers, labels)} on {len(labels):,} texts, with "
          f"the weights of epoch {best['epoch']}")
    peers = measures.linear_answers(data)
    rights = {name: (each == labels).double().mean().item()
              for name, each in {"this network": answers, **peers}.items()}
    console.write_results(out, "train.py", run.args, epochs=run.epoch, best_epoch=best["epoch"],
                          test_accuracy=rights, seconds=run.seconds)
    for name, theirs in peers.items():
        print(f"one to three words in a row, {name}: {measures.accuracy(theirs, labels)}")
    if (lead := max((theirs == labels).sum() for theirs in peers.values()) - table.trace()) > 0:
        print(f"a linear model is right on {lead} texts more")
    print("wrote best.pt, checkpoint.pt, confusion.png, loss.png, metrics.csv, results.json")
    where = console.to_type(out / "best.pt")
    print(f"next: python inference.py --checkpoint {where} --text \"YOUR TEXT\"")


@console.one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Train, test once, and leave a checkpoint, a table and two pictures."""
    args, saved = options.parse(argv, NAME)
    device = devices.choose(args.device)
    options.set_defaults(args)
    data = load(args.data, Path(args.data_dir), args.seed, args.workers)
    data = data.shortened(QUICK) if args.quick else data
    run = Run(args, data, device, saved)
    parameters = sum(p.numel() for p in run.model.parameters())
    train_size, validation_size, test_size = (len(part.labels) for part in data[2:5])
    print(f"Transformer encoder, {args.layers} blocks, {parameters:,} parameters, "
          f"{len(run.config['vocabulary']):,} words; {data.name}: {train_size:,} texts to "
          f"train on, {validation_size:,} to validate, {test_size:,} to test; "
          f"{devices.describe(device)}; seed {args.seed}")
    print(f"writing to {console.from_here(args.out_dir)}; stop with Ctrl-C, go on with "
          "--resume")
    print("epoch    step      rate  train loss  validation loss  validation accuracy      time",
          flush=True)
    if run.done:
        console.say(f"the run is finished, at epoch {run.epoch}: only the report is left")
    with console.Stop() as stop:
        train(run, stop)
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
