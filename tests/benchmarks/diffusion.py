"""Against the package `denoising-diffusion-pytorch`: a training step, and drawing.

    python tests/benchmarks/diffusion.py             # grey pictures of 28×28, batches of 64
    python tests/benchmarks/diffusion.py DATA_DIR    # a race on MNIST

Both networks see the same pictures; ours is given as many levels and channels as make
parameters and operations about equal, and a line says how equal. A step is the loss, the
gradient and Adam. A second pair has our own default network, which costs less.

The race: our recipe for MNIST, shortened and predicting x0, which wins in short runs, and the
digits it draws (guidance 0.2); then the package's network of the first part, trained as its own
Trainer does (Adam with its rate, its averaged weights, labels unknown), three times as long.
Time is that of the processor, so other work on the machine does not count, and drawing does
not count either.
"""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import timing
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from support import load

diffusion = load("diffusion_from_scratch")
BATCH, SHAPE = 64, (1, 28, 28)
STEPS, DRAWN = 800, 500      # of the race
DRAWINGS, DRAWING_STEPS = 16, 10
PEER = {"dim": 32, "dim_mults": (1, 2, 4), "channels": 1}
OURS = {"width": 38, "multipliers": (1, 2, 3), "blocks": 1, "attention": (2,), "patch": 1}


def size_of(model: nn.Module) -> tuple[int, float]:
    """Parameters, and billions of operations of a forward pass of one picture."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.randn(1, *SHAPE), torch.zeros(1, dtype=torch.long))
    return sum(p.numel() for p in model.parameters()), counter.get_total_flops() / 1e9


def peer(images: Tensor) -> tuple[nn.Module, Callable[[], None]]:
    """The package's network in its process, and what trains it as its `Trainer` does."""
    from denoising_diffusion_pytorch import GaussianDiffusion, Unet

    whole = GaussianDiffusion(Unet(**PEER), image_size=SHAPE[-1], objective="pred_v",
                              sampling_timesteps=DRAWING_STEPS)
    optimizer = torch.optim.Adam(whole.parameters(), lr=1e-4)

    def step() -> None:
        loss = whole(images)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(whole.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return whole, step


def ours(settings: dict, images: Tensor) -> tuple[nn.Module, Callable[[], None]]:
    """Ours, with the same objective."""
    model = diffusion.model.UNet(SHAPE, **settings).to(memory_format=torch.channels_last)
    process = diffusion.diffusion.Diffusion(diffusion.schedule.Schedule.named("cosine"), "v")
    optimizer = diffusion.optimization.make_optimizer(model, 0.0)
    parameters = list(model.parameters())

    def step() -> None:
        x0, t = 2 * images - 1, torch.randint(1000, (len(images),))
        noise = torch.randn_like(x0)
        losses = process.losses(model(process.q_sample(x0, t, noise), t), x0, t, noise)
        optimizer.zero_grad(set_to_none=True)
        losses.mean().backward()
        diffusion.optimization.clip(parameters, 1.0)
        optimizer.step()

    return model, step


def quality(judge: nn.Module, images: Tensor, real: Tensor) -> float:
    """The distance of pictures (N, 1, 28, 28) from 0 to 1, as in `evaluate.py`."""
    return diffusion.measures.frechet(judge.judge(images)[0], real)


def race(data_dir: Path) -> None:
    """Print how far both come in which time."""
    args = diffusion.ablation.parse(["--data", "mnist", "--data-dir", str(data_dir),
                                     "--steps", str(STEPS), "--count", str(DRAWN)])
    laboratory = diffusion.ablation.Laboratory(args)
    begin = time.process_time()
    with diffusion.console.Stop() as stop:
        run = laboratory.trained(["--predict", "x0"], stop)
    mine = time.process_time() - begin
    run.judged.eval()
    drawn = run.painter.samples(DRAWN, diffusion.diffusion.Sampling(guidance=0.2))
    distance = quality(laboratory.judge, drawn, laboratory.real)
    print(f"ours: {STEPS} steps, {mine:.0f} s, distance {distance:.4f}", flush=True)
    print(race_of_peer(laboratory, 3 * mine))


def race_of_peer(laboratory: "diffusion.ablation.Laboratory", limit: float) -> str:
    """What the package has reached after so many seconds of the processor."""
    from denoising_diffusion_pytorch import GaussianDiffusion, Unet
    from ema_pytorch import EMA

    torch.manual_seed(0)
    whole = GaussianDiffusion(Unet(**PEER), image_size=SHAPE[-1], objective="pred_v",
                              sampling_timesteps=50)
    average = EMA(whole, beta=0.995, update_every=10)        # as in its Trainer
    optimizer = torch.optim.Adam(whole.parameters(), lr=1e-4, betas=(0.9, 0.99))
    images, begin, steps = laboratory.data.train.images, time.process_time(), 0
    while time.process_time() - begin < limit:
        chosen = diffusion.batches.chosen(len(images), BATCH, 0, steps)
        whole(images[chosen].float() / 255).backward()
        torch.nn.utils.clip_grad_norm_(whole.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.update()
        steps += 1
    seconds = time.process_time() - begin
    drawn = torch.cat([average.ema_model.sample(batch_size=250) for _ in range(DRAWN // 250)])
    distance = quality(laboratory.judge, drawn.clamp(0, 1), laboratory.real)
    return f"the package: {steps} steps, {seconds:.0f} s, distance {distance:.4f}"


def pairs(quick: bool) -> Iterator[timing.Pair]:
    """A step of networks as large, of our default one, and pictures drawn by DDIM."""
    torch.manual_seed(0)
    images, few = torch.rand(2 if quick else BATCH, *SHAPE), 2 if quick else DRAWINGS
    whole, their_step = peer(images)
    small = {**diffusion.model.PRESETS["small"], "classes": 10}
    name = "denoising-diffusion-pytorch"
    for kind, settings in (("as large", OURS), ("our default, smaller", small)):
        model, our_step = ours(settings, images)
        sizes = "; ".join(f"{side} {parameters:,} parameters, {operations:.3f} GFLOP"
                          for side, (parameters, operations) in
                          (("ours", size_of(model)), ("theirs", size_of(whole.model))))
        yield timing.Pair(f"training step, batch {len(images)}, {kind}", name, our_step,
                          their_step, remark=lambda *_, sizes=sizes: sizes)
    model, _ = ours(OURS, images)
    process = diffusion.diffusion.Diffusion(diffusion.schedule.Schedule.named("cosine"), "v")
    how = diffusion.diffusion.Sampling(steps=DRAWING_STEPS)

    def draw() -> Tensor:
        noise = torch.randn(few, *SHAPE).to(memory_format=torch.channels_last)
        return diffusion.diffusion.denoise(model.eval(), process, noise, how=how)

    yield timing.Pair(f"drawing {few} pictures, {DRAWING_STEPS} steps of DDIM, as large", name,
                      draw, lambda: whole.eval().sample(batch_size=few),
                      amount=(few, "pictures"))


def main(argv: list[str] | None = None) -> int:
    """Measure and print; with a folder, race."""
    parser = timing.parser(__doc__)
    parser.add_argument("data_dir", metavar="DATA_DIR", type=Path, nargs="?",
                        help="with MNIST in it: race, and measure nothing else")
    args = timing.parse(parser, argv, rounds=7)
    if args.data_dir:
        timing.set_threads(args.threads[-1])
        race(args.data_dir)
    else:
        timing.measure("diffusion", lambda: pairs(args.quick), args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
