"""Train GPT-2 to expect the next token of a text, and watch it learn to write.

    python train.py                                    # the prose of Python's reference
    python train.py --data my_book.txt                 # or a folder of texts
    python train.py --weights gpt2 --download --data my_book.txt
    torchrun --nproc-per-node 8 train.py --preset gpt2 --data FOLDER
    python train.py --resume                           # go on exactly where a run stopped
"""

# B windows, T tokens of a window, V vocabulary

import sys
from pathlib import Path

import torch
from tqdm import tqdm

import checkpoint
import console
import devices
import distributed
import measures
import optimization
import options
import pictures
from batches import windows
from data import Data, load
from model import NAME
from ngrams import baselines
from run import Run


def train(run: Run, stop: console.Stop) -> None:
    """The loop: until the last step, or until a signal asks to stop between two steps."""
    args, optimizer, ranks = run.args, run.optimizer, distributed.ranks()
    parallel = distributed.parallel(run.model)
    model = torch.compile(parallel) if args.compile else parallel
    run.model.train()
    while not run.done:
        for _ in tqdm(range(run.step, run.until), leave=False, disable=None):
            rate, parts, total = run.set_rate(), run.parts(), 0.0
            optimizer.zero_grad(set_to_none=True)
            for part in parts:
                inputs, targets = windows(run.training, part, args.context, run.device)
                with distributed.meeting(parallel, part is parts[-1]):
                    with devices.autocast(run.device, args.precision):
                        logits = model(inputs)                         # (B, T, V)
                    loss = measures.summed_loss(logits, targets) / run.tokens_a_step    # (19)
                    (loss * ranks).backward()      # since processes average their gradients
                total += loss.detach()
            run.note(total, rate, stop)
            optimization.clip(list(run.model.parameters()), args.clip)
            optimizer.step()
            if run.stopped:
                return run.save("checkpoint.pt")
        run.finish_interval()


def report(run: Run, counted: dict[str, float]) -> None:
    """Judge the weights that validated best beside what counting reaches, and draw curves."""
    distributed.wait()         # until the first process has written them
    path = console.from_here(run.args.out_dir / "best.pt")
    best = checkpoint.load(path, NAME)
    checkpoint.restore(run.model, best["model"], path)
    loss = run.evaluate()
    if not run.writes:
        return
    pictures.draw_curves(run.metrics.path, run.args.out_dir / "loss.png", counted)
    print(f"validation: {loss.token:.4f} nats a token, {loss.character:.4f} nats or "
          f"{loss.bits:.4f} bits a character, with the weights of step {best['best_step']}")
    better = [name for name, nats in counted.items() if nats < loss.character]
    print(f"counting is better: {', '.join(better)}" if better else "no counting is as good")
    console.write_results(path.parent, "train.py", run.args, steps=run.step, counting=counted,
                          best_step=best["best_step"], **loss._asdict(),
                          seconds=run.seconds)
    print("wrote best.pt, checkpoint.pt, loss.png, metrics.csv, results.json, training.npy, "
          "validation.npy")
    print(f"next: python inference.py --checkpoint {console.to_type(path)} "
          "--prompt \"YOUR TEXT\"")


def prepare(argv: list[str] | None) -> tuple[Run, Data]:
    """The run that the command line describes, and its data; what is impossible is refused."""
    args, saved = options.parse(argv, NAME)
    device = devices.choose(args.device)
    distributed.start(device)
    options.set_defaults(args, distributed.ranks())
    args.data_dir = Path(args.data_dir)        # a resumed run has it as text
    with distributed.first_alone():
        data = load(args.data, args.data_dir, args.workers)
    return Run(args, data, device, saved), data


def announce(run: Run, data: Data, counted: dict[str, float]) -> None:
    """Say what will run, and what it has to beat."""
    args, config = run.args, run.config
    parameters = sum(p.numel() for p in run.model.parameters())
    print(f"GPT-2, {config['layers']} blocks, {parameters:,} parameters, "
          f"{config['vocabulary']:,} tokens known; {data.name}: {len(run.training):,} tokens "
          f"to train on, {len(run.validation) - 1:,} to validate, "
          f"{run.characters / (len(run.validation) - 1):.2f} characters each; "
          f"{devices.describe(run.device)}; processes: {distributed.ranks()}; seed {args.seed}")
    print("nats a character by counting: "
          + ", ".join(f"{name} {nats:.3f}" for name, nats in counted.items()))
    print(f"writing to {console.from_here(args.out_dir)}; stop with Ctrl-C, go on with "
          "--resume")
    print("   step     rate train loss validation loss nats/char bits/char     tokens  used"
          "     time", flush=True)


@console.one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Train, evaluate as it goes, and leave a checkpoint, a table and a picture."""
    with distributed.together():
        run, data = prepare(argv)
        counted = baselines(data.training, data.validation) if run.writes else {}
        if run.writes:
            announce(run, data, counted)
        if run.done:
            console.say(f"the run is finished, at step {run.step}: only the report is left")
        with console.Stop() as stop:
            train(run, stop)
        if run.stopped:
            where = console.to_type(run.args.out_dir / "checkpoint.pt")
            if run.writes:
                console.say(f"stopped after step {run.step}: go on with python train.py "
                            f"--resume {where}")
            return stop.exit_code
        if run.writes and run.step < run.args.steps:
            console.say(f"nothing was better since step {run.best_step}: stopped early")
        report(run, counted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
