"""A training step against the package `denoising-diffusion-pytorch`, side by side.

    python tests/benchmarks/diffusion.py             # grey pictures of 28×28, batches of 64
    python tests/benchmarks/diffusion.py DATA_DIR    # a race on MNIST

Both networks see the same pictures; ours is given as many levels and channels as make
parameters and operations about equal, and a line says how equal. A step is the loss, the
gradient and Adam. The second part times our own default network, which costs less.

The race: our recipe for MNIST, made a third as long, and its digits (guidance 0.2); then the
package's network of the first part, trained as its own Trainer does (Adam with its rate, its
averaged weights, labels unknown), three times as long. Time is that of the processor, so other
work on the machine does not count, and drawing does not count either.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support import load

diffusion = load("diffusion_from_scratch")
BATCH, ROUNDS, SHAPE = 64, 7, (1, 28, 28)
STEPS, DRAWN = 700, 500      # of the race
PEER = {"dim": 32, "dim_mults": (1, 2, 4), "channels": 1}
OURS = {"width": 38, "multipliers": (1, 2, 3), "blocks": 1, "attention": (2,), "patch": 1}


def size_of(model: nn.Module) -> tuple[int, float]:
    """Parameters, and billions of operations of a forward pass of one picture."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.randn(1, *SHAPE), torch.zeros(1, dtype=torch.long))
    return sum(p.numel() for p in model.parameters()), counter.get_total_flops() / 1e9


def peer() -> tuple[nn.Module, Callable[[torch.Tensor], None]]:
    """The package's network and what trains it for a step, as its `Trainer` does."""
    from denoising_diffusion_pytorch import GaussianDiffusion, Unet

    model = Unet(**PEER)
    whole = GaussianDiffusion(model, image_size=SHAPE[-1], objective="pred_v")
    optimizer = torch.optim.Adam(whole.parameters(), lr=1e-4)

    def step(images: torch.Tensor) -> None:
        loss = whole(images)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(whole.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return model, step


def ours(settings: dict) -> tuple[nn.Module, Callable[[torch.Tensor], None]]:
    """Ours, with the same objective."""
    model = diffusion.model.UNet(SHAPE, **settings).to(memory_format=torch.channels_last)
    process = diffusion.diffusion.Diffusion(diffusion.schedule.Schedule.named("cosine"), "v")
    optimizer = diffusion.optimization.make_optimizer(model, 0.0)
    parameters = list(model.parameters())

    def step(images: torch.Tensor) -> None:
        x0, t = 2 * images - 1, torch.randint(1000, (len(images),))
        noise = torch.randn_like(x0)
        losses = process.losses(model(process.q_sample(x0, t, noise), t), x0, t, noise)
        optimizer.zero_grad(set_to_none=True)
        losses.mean().backward()
        diffusion.optimization.clip(parameters, 1.0)
        optimizer.step()

    return model, step


def seconds(step: Callable[[torch.Tensor], None], images: torch.Tensor) -> float:
    """How long a step takes."""
    begin = time.perf_counter()
    step(images)
    return time.perf_counter() - begin


def quality(judge: nn.Module, images: torch.Tensor, real: torch.Tensor) -> float:
    """The distance of pictures (N, 1, 28, 28) from 0 to 1, as in `evaluate.py`."""
    return diffusion.measures.frechet(judge.judge(images)[0], real)


def race(data_dir: Path) -> None:
    """Print how far both come in which time."""
    args = diffusion.ablation.parse(["--data", "mnist", "--data-dir", str(data_dir),
                                     "--steps", str(STEPS), "--count", str(DRAWN)])
    laboratory = diffusion.ablation.Laboratory(args)
    begin = time.process_time()
    with diffusion.console.Stop() as stop:
        run = laboratory.trained([], stop)
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


def main() -> None:
    """Print sizes and times, in turn."""
    if len(sys.argv) > 1:
        return race(Path(sys.argv[1]))
    torch.manual_seed(0)
    images = torch.rand(BATCH, *SHAPE)
    small = {**diffusion.model.PRESETS["small"], "classes": 10}
    rivals = {"the package": peer(), "ours, as large": ours(OURS), "ours, small": ours(small)}
    found: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(ROUNDS + 1):
        for name, (_, step) in rivals.items():
            found[name].append(seconds(step, images))
    base = statistics.median(found["the package"][1:])
    for name, (model, _) in rivals.items():
        parameters, operations = size_of(model)
        middle = statistics.median(found[name][1:])
        print(f"{name:16} {parameters:10,} parameters {operations:7.3f} GFLOP "
              f"{1000 * middle:7.0f} ms a step, {base / middle:.2f} times as fast")
    print(f"batches of {BATCH}, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
