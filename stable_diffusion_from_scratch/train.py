"""Train Stable Diffusion: first the autoencoder, then what sees noise in its latents.

    python train.py                                    # drawn shapes, two cores, minutes
    python train.py --data FOLDER --image-size 64 --preset shapes64     # your own pictures
    python train.py --stage vae                        # only the autoencoder ...
    python train.py --stage diffusion --weights runs/best.pt    # ... and only the rest
    python train.py --preset sd15 --weights FILE --data FOLDER  # go on from published weights
    torchrun --nproc-per-node 2 train.py
    python train.py --resume                           # go on exactly where a run stopped
"""

# B pictures in a batch, C channels, H height and W width of latents

import shlex
import sys
from pathlib import Path

from tqdm import tqdm

import checkpoint
import console
import curves
import devices
import distributed
import optimization
import options
from data import load
from losses import noise_losses, noised, vae_losses
from model import NAME
from run import Run
from start import say_unknown


def train_vae(run: Run, stop: console.Stop) -> None:
    """Stage one, until its last step or a signal: pictures through few numbers, and back."""
    args, optimizer, vae = run.args, run.optimizer, distributed.parallel(run.model.vae)
    while run.stage == "vae" and not run.done:
        for _ in tqdm(range(run.step, run.until), leave=False, disable=None):
            rate, (x, noise) = run.set_rate(), run.pictures_of_step()
            with devices.autocast(run.device, args.precision):
                drawn, found = vae(x, noise)
            losses = vae_losses(drawn.float(), x, found, args.kl)      # (B,)
            loss = losses.sum() * distributed.ranks() / args.vae_batch_size
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            run.note(loss, rate, stop)
            optimization.clip(run.learning, args.clip)
            optimizer.step()
            if run.stopped:
                return run.save("checkpoint.pt")
        run.finish_interval()


def train_diffusion(run: Run, stop: console.Stop) -> None:
    """Stage two, until its last step or a signal: the noise in latents, given a text."""
    args, optimizer, denoiser = run.args, run.optimizer, distributed.parallel(run.denoiser)
    while not run.done:
        for _ in tqdm(range(run.step, run.until), leave=False, disable=None):
            rate, (latents, noise, t, tokens) = run.set_rate(), run.latents_of_step()
            x = noised(latents, noise, t)                              # (B, C, H, W)  (5)
            with devices.autocast(run.device, args.precision):
                seen = denoiser(x, t, tokens)                          # (B, C, H, W)
            losses = noise_losses(seen.float(), noise, t, args.gamma, args.delta)   # (B,)
            loss = losses.sum() * distributed.ranks() / args.batch_size
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            run.note(loss, rate, stop)
            optimization.clip(run.learning, args.clip)
            optimizer.step()
            run.follow()
            if run.stopped:
                return run.save("checkpoint.pt")
        run.finish_interval()


def train(run: Run, stop: console.Stop) -> None:
    """One stage after the other; a run that is resumed begins in the one where it stopped."""
    if run.stage == "vae":
        train_vae(run, stop)
    if run.stage == "diffusion" and not run.stopped:
        train_diffusion(run, stop)


def report(run: Run) -> None:
    """Draw with the weights that validated best, and draw curves."""
    out = run.args.out_dir
    path = console.from_here(out / "best.pt")
    best = checkpoint.load(path, NAME)
    checkpoint.restore(run.judged, best.get("ema", best["model"]), path)
    run.validation.draw(run.judged, run.stage, out / "samples.png")
    curves.draw_curves(run.metrics.path, out / "loss.png")
    console.write_results(out, "train.py", run.args, steps=run.step, validation_loss=run.best,
                          best_step=best["best_step"], seconds=run.seconds)
    print(f"validation loss {run.best:.5f}, with the weights of step {best['best_step']}")
    print("wrote best.pt, checkpoint.pt, loss.png, metrics.csv, progress, results.json, "
          "samples.png")
    where = console.to_type(path)
    if run.stage == "vae":
        print(f"next: python train.py --stage diffusion --weights {where} --out-dir DIR")
    else:
        print(f"next: python inference.py --checkpoint {where} --prompt "
              f"{shlex.quote(run.config['prompts'][0])}")


def prepare(argv: list[str] | None) -> Run:
    """The run that the command line describes; what is impossible is refused."""
    args, saved = options.parse(argv, NAME)
    device = devices.choose(args.device)
    distributed.start(device)
    options.set_defaults(args, distributed.ranks())
    with distributed.first_alone():
        data = load(args.data, Path(args.data_dir), args.image_size, args.seed, args.workers,
                    args.quick)
    return Run(args, data, device, saved)


def announce(run: Run) -> None:
    """Say what will run."""
    args, data = run.args, run.data
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in
             (("U-Net", run.model.unet), ("autoencoder", run.model.vae),
              ("text encoder", run.model.text))}
    print(f"Stable Diffusion, preset {args.preset}; parameters: "
          + ", ".join(f"{number:,} {name}" for name, number in count.items())
          + f"; {data.name}: pictures of {args.image_size}×{args.image_size}, "
          f"{len(data.train.images):,} to train on, {len(data.validation.images):,} to "
          f"validate, {len(run.tokenizer):,} tokens; {devices.describe(run.device)}; "
          f"processes: {distributed.ranks()}; seed {args.seed}")
    print(f"{args.vae_steps:,} steps for the autoencoder, {args.steps - args.vae_steps:,} for "
          f"diffusion; writing to {console.from_here(args.out_dir)}; stop with Ctrl-C, go on "
          "with --resume")
    if args.weights and not args.resume:
        say_unknown(run.config, data.train.captions)
    print("   step stage         rate  train loss  validation     time", flush=True)


@console.one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Train both stages, validate as they go, leave a checkpoint, a table and pictures."""
    with distributed.together():
        run = prepare(argv)
        if run.writes:
            announce(run)
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
