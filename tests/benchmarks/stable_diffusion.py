"""The speed of our U-Net and decoder beside diffusers', at the published size.

    python tests/benchmarks/stable_diffusion.py --pixels 256 --rounds 3

Both share one set of random weights and take turns; the medians count. Seconds are those of the
processors, added up, so that others at work matter less. It takes 5 GB of memory.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from sd_peers import filled, sd


def pairs(pixels: int) -> dict[str, tuple[Callable, Callable]]:
    """Ours and theirs for each part: functions without arguments."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    net, side = sd.model.hollow(sd.model.SD15), pixels // 8
    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768)
        vae = AutoencoderKL(block_out_channels=[128, 256, 512, 512], layers_per_block=2,
                            latent_channels=4, down_block_types=["DownEncoderBlock2D"] * 4,
                            up_block_types=["UpDecoderBlock2D"] * 4)
    for ours, peer, namer in ((net.unet, unet, sd.layouts.unet_namer),
                              (net.vae, vae, sd.layouts.vae_namer)):
        named = namer(peer.state_dict())
        weights = filled({name: tensor.shape for name, tensor in ours.state_dict().items()})
        ours.load_state_dict(weights, assign=True)
        peer.load_state_dict({name: weights[named(name)].reshape(tensor.shape)
                              for name, tensor in peer.state_dict().items()}, assign=True)
        ours.eval(), peer.eval()
    x, text = torch.randn(2, 4, side, side), torch.randn(2, 77, 768)
    step = torch.tensor([981.0])
    return {"U-Net, a step with guidance": (lambda: net.unet(x, step.expand(2), text),
                                            lambda: unet(x, step, text).sample),
            "decoder": (lambda: net.vae.decode(x[:1]), lambda: vae.decode(x[:1]).sample)}


@torch.no_grad()
def main(argv: list[str] | None = None) -> int:
    """Print seconds and the ratio of each part."""
    parser = argparse.ArgumentParser(description=main.__doc__, allow_abbrev=False)
    parser.add_argument("--pixels", type=int, default=256, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    args = parser.parse_args(argv)
    for part, both in pairs(args.pixels).items():
        seconds = ([], [])
        off = (both[0]() - both[1]()).abs().max().item()     # and both are warm
        for _ in range(args.rounds):
            for run, found in zip(both, seconds):
                began = time.process_time()
                run()
                found.append(time.process_time() - began)
        ours, theirs = map(statistics.median, seconds)
        print(f"{part:28} ours {ours:.2f} s, theirs {theirs:.2f} s: {theirs / ours:.2f} times "
              f"its speed, largest difference {off:.1e}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
