"""Train a network of linear layers with gradients from `model.py` and nothing else.

    python train.py                              # MNIST if it can be had, else digits
    python train.py --resume                     # go on exactly where a run stopped
"""

# N samples, O outputs

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

import checkpoint
import console
import pictures
from data import NAMES, Data, Part, load, shortened
from model import ACTIVATIONS, INITIALISATIONS, LOSSES, NAME, Network, build, flat
from optimizers import OPTIMIZERS
from scaling import measure, standardised

TABLE = {"layers": [32, 32], "epochs": 60, "batch_size": 32, "lr": 3e-3, "decay": 0.96,
         "l2": 1e-4, "dropout": 0.0, "dtype": "float64"}
RECIPES = {                     # found on validation samples; what is not said is as in TABLE
    "mnist": {"layers": [300, 100], "epochs": 30, "batch_size": 128, "lr": 1e-3, "decay": 0.9,
              "l2": 5e-4, "dropout": 0.2, "dtype": "float32"},
    "digits": {"layers": [256, 256], "batch_size": 16, "lr": 2e-3, "dropout": 0.4},
    "diabetes": {"layers": [16], "lr": 1e-2, "l2": 0.1},
}
SCORES = {"classification": "accuracy", "regression": "R²"}
COLUMNS = "epoch step lr train_loss validation_loss validation_score seconds".split()
FIXED = ("data", "task", "layers", "activation", "init", "dropout", "dtype", "optimizer",
         "batch_size", "seed", "quick", "out_dir")      # kept by --resume


def configure(args: argparse.Namespace, data: Data) -> dict:
    """All that is needed to rebuild the network, prepare its input and read its output."""
    return {"sizes": [len(data.inputs), *args.layers, len(data.classes) or 1],
            "activation": args.activation, "init": args.init, "dropout": args.dropout,
            "dtype": args.dtype, "task": data.task, "data": data.name, "inputs": data.inputs,
            "classes": data.classes, **measure(data)}


def evaluate(network: Network, part: Part, task: str) -> tuple[float, float, np.ndarray]:
    """Mean loss, score (share of right answers, or R²) and outputs (N, O), without dropout."""
    network.train(False)
    outputs = np.concatenate([network.forward(part.x[i : i + 1000])
                              for i in range(0, len(part.x), 1000)])       # (N, O)
    network.train(True)
    if task == "classification":
        score = (outputs.argmax(axis=1) == part.y).mean()
    else:
        error, spread = ((outputs - part.y) ** 2).mean(), part.y.var()
        score = 1 - error / spread if np.ptp(part.y) > 0 else 0.0      # equal targets: no R²
    return LOSSES[task]().forward(outputs, part.y), float(score), outputs


class Run:
    """A training run: the network, where it stands, and the files it leaves behind."""

    def __init__(self, args: argparse.Namespace, data: Data, saved: dict | None) -> None:
        self.args, self.config = args, saved["config"] if saved else configure(args, data)
        self.data_digest = data.digest
        if saved and saved["data"] != self.data_digest:
            raise console.Refusal(f"{data.name} is not what it was when the run began: start a "
                                  "new one")
        self.rng = np.random.default_rng(args.seed)      # of first weights and dropout
        self.network = build(self.config, self.rng)
        self.loss = LOSSES[data.task]()
        self.optimizer = OPTIMIZERS[args.optimizer](self.network.parameters, args.lr)
        self.step = self.epoch = self.batch = 0
        self.loss_sum, self.best, self.seconds = 0.0, None, 0.0
        if saved:
            checkpoint.restore(self.network.parameters, saved["model"], args.resume)
            for kind, kept in self.optimizer.memory.items():
                checkpoint.restore(kept, saved["optimizer"].get(kind, {}), args.resume)
            self.rng.bit_generator.state = saved["rng"]
            for name in ("step", "epoch", "batch", "loss_sum", "best", "seconds"):
                setattr(self, name, saved[name])
            self.optimizer.steps = self.step
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
            "model": self.network.parameters, "optimizer": self.optimizer.memory,
            "rng": self.rng.bit_generator.state, "step": self.step, "epoch": self.epoch,
            "batch": self.batch, "loss_sum": self.loss_sum, "best": self.best,
            "seconds": self.seconds,
        })

    def set_rate(self) -> float:
        """Set rate and L2 of this epoch; the rate is a function of the epoch alone."""
        self.optimizer.lr = self.args.lr * self.args.decay**self.epoch     # (21)
        self.optimizer.l2 = self.args.l2
        return self.optimizer.lr

    def finish_epoch(self, validation: Part, rate: float, batches: int) -> None:
        """Validate, write a row, and save the checkpoints; print a line if it is due."""
        self.epoch, self.batch = self.epoch + 1, 0
        loss, score, _ = evaluate(self.network, validation, self.config["task"])
        check_finite(loss, {}, self.step, rate)
        values = (self.epoch, self.step, rate, self.loss_sum / batches, loss, score,
                  round(time.monotonic() - self.started, 2))
        self.metrics.add(**dict(zip(COLUMNS, values)))
        self.loss_sum = 0.0
        if self.best is None or score >= self.best:     # of equals the later one has seen more
            self.best = score
            self.save("best.npz")     # before checkpoint.npz, which says that it is there
        self.save("checkpoint.npz")
        if self.epoch % self.args.log_every == 0 or self.epoch == self.args.epochs:
            print("{:5} {:7} {:9.2g} {:11.4f} {:16.4f} {:19.4f} {:7.1f} s".format(*values),
                  flush=True)


def check_finite(loss: float, gradients: dict[str, np.ndarray], step: int, lr: float) -> None:
    """Refuse to go on with a loss or gradient that is not a number, before weights change."""
    if not (np.isfinite(loss) and all(np.isfinite(g).all() for g in gradients.values())):
        what = f"{'gradient' if np.isfinite(loss) else 'loss'} of step {step}"
        raise console.Refusal(f"the {what} is not finite (learning rate {lr:g}): start again "
                              "with a lower --lr, or --resume with one if a checkpoint.npz "
                              "was written")


def train(run: Run, data: Data, stop: console.Stop) -> None:
    """The loop: until the last epoch, or until a signal asks to stop between two steps."""
    args, network, loss, optimizer = run.args, run.network, run.loss, run.optimizer
    (x, y), validation = (standardised(part, run.config) for part in data[3:5])
    batches = -(-len(y) // args.batch_size)
    while run.epoch < args.epochs:
        rate = run.set_rate()
        order = np.random.default_rng([args.seed, run.epoch]).permutation(len(y))
        starts = range(run.batch * args.batch_size, len(y), args.batch_size)
        for start in tqdm(starts, f"epoch {run.epoch + 1}", leave=False, disable=None):
            chosen = order[start : start + args.batch_size]
            cost = loss.forward(network.forward(x[chosen]), y[chosen])
            network.backward(loss.backward())
            check_finite(cost, network.gradients, run.step + 1, rate)
            optimizer.step(network.gradients)
            run.step, run.batch = run.step + 1, run.batch + 1
            run.loss_sum += cost
            if stop.requested:
                return run.save("checkpoint.npz")
        run.finish_epoch(validation, rate, batches)


def report(run: Run, data: Data) -> None:
    """Draw the curves and use the test set, once, on the weights that validated best."""
    out, task = run.args.out_dir, run.config["task"]
    best_path = console.from_here(out / "best.npz")
    best = checkpoint.load(best_path, NAME)
    checkpoint.restore(run.network.parameters, best["model"], best_path)
    score = evaluate(run.network, standardised(data.test, run.config), task)[1]
    pictures.draw_curves(run.metrics.path, SCORES[task], out / "loss.png")
    print(f"test {SCORES[task]} {score:.4f} on {len(data.test.y):,} samples, with the weights "
          f"of epoch {best['epoch']}")
    console.write_results(out, "train.py", run.args, steps=run.step, best_epoch=best["epoch"],
                          test_score=score, seconds=run.seconds)
    print("wrote best.npz, checkpoint.npz, loss.png, metrics.csv, results.json")
    where = f" --data-dir {console.to_type(run.args.data_dir)}" if data.name == "mnist" else ""
    print(f"next: python inference.py --checkpoint {console.to_type(best_path)} --index "
          f"0{where}")


def parse(argv: list[str] | None) -> tuple[argparse.Namespace, dict | None]:
    """The options, and the checkpoint if a run is resumed."""
    parser = console.training_parser("Train a network with hand-made gradients.", data=NAMES,
                                     length="epochs", devices=False)
    add = parser.add_argument
    add("--task", choices=LOSSES,
        help="how to read a CSV, what auto looks for (default: what the data is for)")
    add("--layers", metavar="N", type=console.positive_int, nargs="+",
        help="units of each hidden layer (default: what suits the data)")
    add("--activation", choices=ACTIVATIONS, default="relu",
        help="what bends between the layers (default: %(default)s)")
    add("--optimizer", choices=OPTIMIZERS, default="adam",
        help="the way downhill (default: %(default)s)")
    add("--init", choices=INITIALISATIONS,
        help="how weights start (default: he for relu, else xavier)")
    for flag, kind, about in (
            ("--l2", console.non_negative_float, "pull of all weights towards zero"),
            ("--dropout", console.share, "share of the hidden units silenced in a step"),
            ("--decay", console.positive_float, "factor on the rate after an epoch")):
        add(flag, metavar="X", type=kind, help=f"{about} (default: what suits the data)")
    add("--dtype", choices=("float64", "float32"),
        help="numbers of 8 or 4 bytes (default: what suits the data)")
    return checkpoint.read_options(parser, argv, NAME, FIXED)


def set_defaults(args: argparse.Namespace, data: Data) -> None:
    """What the flags leave open follows from the data and the activation."""
    args.task = data.task
    args.epochs = args.epochs or (3 if args.quick else None)
    args.init = args.init or ("he" if args.activation == "relu" else "xavier")
    for name, value in (TABLE | RECIPES.get(data.name, {})).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    args.log_every = args.log_every or -(-args.epochs // 15)


@console.one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Train, test once, and leave a checkpoint, a table and a picture."""
    args, saved = parse(argv)
    if args.quick and args.data == "auto":
        args.data = "diabetes" if args.task == "regression" else "digits"
    data = load(args.data, Path(args.data_dir), args.task)
    data = shortened(data, 1_000) if args.quick else data
    args.data = data.name  # what "auto" has found, so that a resumed run finds the same
    set_defaults(args, data)
    run = Run(args, data, saved)
    parameters = flat(run.network.parameters).size
    sizes = "-".join(map(str, run.config["sizes"]))
    print(f"network {sizes} ({args.activation}), {parameters:,} parameters; {data.name}: "
          f"{len(data.train.y):,} samples to train on, {len(data.validation.y):,} to validate, "
          f"{len(data.test.y):,} to test; cpu, {args.dtype}; seed {args.seed}")
    print(f"writing to {console.from_here(args.out_dir)}; stop with Ctrl-C, go on with "
          "--resume")
    print("epoch    step      rate  train loss  validation loss "
          f"{'validation ' + SCORES[data.task]:>19}     time", flush=True)
    if run.epoch >= args.epochs:
        console.say(f"the run is finished, at epoch {run.epoch}: only the report is left")
    with console.Stop() as stop, np.errstate(over="ignore", invalid="ignore"):  # check_finite
        train(run, data, stop)                                                # reports them
    if stop.requested:
        console.say(f"stopped after step {run.step}: go on with python train.py --resume "
                    f"{console.to_type(args.out_dir / 'checkpoint.npz')}")
        return stop.exit_code
    report(run, data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
