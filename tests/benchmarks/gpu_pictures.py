"""Pictures a minute on a GPU, ours beside diffusers', at the published size.

    python tests/benchmarks/gpu_pictures.py --pixels 512 --steps 20 --rounds 5

Both share one set of random weights in bfloat16 and take turns. A picture is DDIM with
guidance, each with its own scheduler, and the decoder; the prompts' readings are given to both.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from sd_peers import PAPER_SCHEDULE, filled, sd

GUIDANCE = 7.5


def pair(device: torch.device) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Ours, and diffusers' U-Net and autoencoder with equal weights, in bfloat16."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    net = sd.model.hollow(sd.model.SD15)
    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768)
        vae = AutoencoderKL(block_out_channels=[128, 256, 512, 512], layers_per_block=2,
                            latent_channels=4, down_block_types=["DownEncoderBlock2D"] * 4,
                            up_block_types=["UpDecoderBlock2D"] * 4)
    for ours, peer, namer in ((net.unet, unet, sd.layouts.unet_namer),
                              (net.vae, vae, sd.layouts.vae_namer)):
        named = namer(peer.state_dict())
        weights = filled({name: tensor.shape for name, tensor in ours.state_dict().items()})
        weights = {name: tensor.to(device, torch.bfloat16) for name, tensor in weights.items()}
        ours.load_state_dict(weights, assign=True)
        peer.load_state_dict({name: weights[named(name)].reshape(tensor.shape)
                              for name, tensor in peer.state_dict().items()}, assign=True)
    return net.eval(), unet.eval(), vae.eval()


def painters(device: torch.device, pixels: int, steps: int) -> dict[str, Callable[[], Tensor]]:
    """Functions that draw a picture (1, 3, P, P) from one noise and one pair of readings."""
    from diffusers import DDIMScheduler
    net, unet, vae = pair(device)
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(1, 4, pixels // 8, pixels // 8, generator=generator).to(device)
    texts = torch.randn(2, 77, 768, generator=generator).to(device, torch.bfloat16)
    theirs = DDIMScheduler(**PAPER_SCHEDULE, clip_sample=False, set_alpha_to_one=False,
                           steps_offset=1)

    def guided(answer: Tensor) -> Tensor:                              # (2, 4, H, W)
        without, given = answer.float().chunk(2)
        return without + GUIDANCE * (given - without)

    def ours_draws() -> Tensor:
        plan, x = sd.schedulers.make("ddim", steps), start
        for number, when in enumerate(plan.times):
            asked = x.repeat(2, 1, 1, 1).bfloat16()
            times = torch.full((2,), when, device=device)
            x = plan.step(number, x, guided(net.unet(asked, times, texts)), None)
        return net.vae.decode(x.bfloat16() / sd.model.SCALE)

    def theirs_draws() -> Tensor:
        theirs.set_timesteps(steps, device=device)
        x = start
        for when in theirs.timesteps:
            asked = x.repeat(2, 1, 1, 1).bfloat16()
            x = theirs.step(guided(unet(asked, when, texts).sample), when, x).prev_sample
        return vae.decode(x.bfloat16() / sd.model.SCALE).sample

    return {"ours": ours_draws, "diffusers": theirs_draws}


def seconds(draw: Callable[[], Tensor], device: torch.device) -> float:
    """How long a picture takes, until it is there."""
    begin = time.perf_counter()
    draw().float().cpu()
    return time.perf_counter() - begin


@torch.no_grad()
def main(argv: list[str] | None = None) -> int:
    """Print pictures a minute of both, and the most memory that each needed."""
    parser = argparse.ArgumentParser(description=main.__doc__, allow_abbrev=False)
    parser.add_argument("--pixels", type=int, default=512, help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=20, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--device", default="cuda", help="default: %(default)s")
    args = parser.parse_args(argv)
    device = torch.device(args.device)
    rivals = painters(device, args.pixels, args.steps)
    found: dict[str, list[float]] = {name: [] for name in rivals}
    drawn = {name: draw().float().cpu() for name, draw in rivals.items()}     # and warm
    memory = {}
    for _ in range(args.rounds):
        for name, draw in rivals.items():
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            found[name].append(seconds(draw, device))
            if device.type == "cuda":
                memory[name] = torch.cuda.max_memory_allocated() / 1e9
    for name, times in found.items():
        print(f"{name:10} {60 / statistics.median(times):7.1f} pictures a minute, "
              f"{min(times):.3f} to {max(times):.3f} s each, {memory.get(name, 0):.2f} GB")
    both = [theirs / ours for ours, theirs in zip(found["ours"], found["diffusers"])]
    off = (drawn["ours"] - drawn["diffusers"]).abs()
    print(f"ours is {statistics.median(both):.2f} times as fast ({min(both):.2f} to "
          f"{max(both):.2f}); pictures differ by {off.mean():.4f} of {drawn['ours'].std():.4f} "
          "in the mean")
    print(json.dumps({"device": str(device), "pixels": args.pixels, "steps": args.steps,
                      "seconds": found, "gigabytes": memory}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
