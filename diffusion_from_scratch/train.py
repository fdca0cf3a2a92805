"""Train a diffusion model: drown pictures in noise, and learn to say what is noise in them.

    python train.py                                    # embedded digits, two cores, minutes
    python train.py --data mnist
    python train.py --data FOLDER --image-size 32      # your own pictures
    torchrun --nproc-per-node 8 train.py --data cifar10 --preset paper
    python train.py --resume                           # go on exactly where a run stopped
"""

# B pictures in a batch, C channels, H height and W width

import sys
from pathlib import Path

from tqdm import tqdm

import checkpoint
import console
import devices
import distributed
import optimization
import options
import pictures
from data import QUICK, Data, load
from model import NAME
from run import Run

SAMPLES = 60         # pictures of the last sheet


def train(run: Run, stop: console.Stop) -> None:
    """The loop: until the last step, or until a signal asks to stop between two steps."""
    args, optimizer, diffusion = run.args, run.optimizer, run.diffusion
    model, ranks = distributed.parallel(run.model), distributed.ranks()
    model.train()
    while not run.done:
        for _ in tqdm(range(run.step, run.until), leave=False, disable=None):
            rate, (x0, noise, t, labels) = run.set_rate(), run.batch()
            x = diffusion.q_sample(x0, t, noise)                       # (B, C, H, W)  (2)
            with devices.autocast(run.device, args.precision):
                output = model(x, t, labels)                           # (B, C, H, W)
            losses = diffusion.losses(output.float(), x0, t, noise)    # (B,)
            loss = losses.sum() * ranks / args.batch_size    # processes average their gradients
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            run.note(losses, t, rate, stop)
            optimization.clip(list(run.model.parameters()), args.clip)
            optimizer.step()
            run.follow()
            if run.stopped:
                return run.save("checkpoint.pt")
        run.finish_interval()


def report(run: Run) -> None:
    """Paint with the weights that validated best, and draw curves."""
    out = run.args.out_dir
    path = console.from_here(out / "best.pt")
    best = checkpoint.load(path, NAME)
    checkpoint.restore(run.judged, best.get("ema", best["model"]), path)
    steps = 10 if run.args.quick else 50
    pictures.save_tiles(run.sheet(SAMPLES, steps), 10, out / "samples.png")
    pictures.draw_curves(run.metrics.path, out / "loss.png")
    pictures.draw_progress(out / "progress", out / "progress.png")
    console.write_results(out, "train.py", run.args, steps=run.step, validation_loss=run.best,
                          best_step=best["best_step"], seconds=run.seconds)
    print(f"validation loss {run.best:.4f}, with the weights of step {best['best_step']}")
    print("wrote best.pt, checkpoint.pt, loss.png, metrics.csv, progress, progress.png, "
          "results.json, samples.png")
    guidance = "--guidance 1 " if run.config["classes"] else ""
    print(f"next: python inference.py --checkpoint {console.to_type(path)} --count 40 "
          f"{guidance}--gif")


def prepare(argv: list[str] | None) -> tuple[Run, Data]:
    """The run that the command line describes, and its data; what is impossible is refused."""
    args, saved = options.parse(argv, NAME)
    device = devices.choose(args.device)
    distributed.start(device)
    options.set_defaults(args, distributed.ranks())
    args.data_dir = Path(args.data_dir)        # a resumed run has it as text
    with distributed.first_alone():
        data = load(args.data, args.data_dir, args.image_size, args.seed, args.workers)
    data = data.shortened(QUICK) if args.quick else data
    return Run(args, data, device, saved), data


def announce(run: Run, data: Data) -> None:
    """Say what will run."""
    args, kept = run.args, run.diffusion.schedule.exact[-1].item()
    parameters = sum(p.numel() for p in run.model.parameters())
    counts = ", ".join(f"{len(part.images):,} {word}" for part, word in
                       zip(data[2:], ("to train on", "to validate", "to compare with")))
    print(f"diffusion, {args.times} times, {args.schedule} schedule, the network predicts "
          f"{args.predict}; {parameters:,} parameters; {data.name}: pictures of "
          f"{'×'.join(map(str, run.config['shape']))}, {len(run.config['classes'])} classes, "
          f"{counts}; {devices.describe(run.device)}; processes: {distributed.ranks()}; seed "
          f"{args.seed}")
    if not run.diffusion.schedule.drowns:
        console.say(f"after {args.times} times {kept:.3f} of a picture's variance is left, so "
                    "sampling begins from what training never saw: use another --schedule or "
                    "more --times")
    print(f"writing to {console.from_here(args.out_dir)}; stop with Ctrl-C, go on with "
          "--resume")
    print("   step     rate  train loss  validation loss  loss by quarter of times      time",
          flush=True)


@console.one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Train, validate as it goes, and leave a checkpoint, a table and pictures."""
    with distributed.together():
        run, data = prepare(argv)
        if run.writes:
            announce(run, data)
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
        if run.writes:
            report(run)
    return 0


if __name__ == "__main__":
    sys.exit(main())
