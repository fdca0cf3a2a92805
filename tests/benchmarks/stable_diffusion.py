"""Our U-Net, decoder and whole step beside diffusers', at the published size.

    python tests/benchmarks/stable_diffusion.py --pixels 256 --rounds 5

Both share one set of random weights. A step is all that a pipeline does between two latents:
the text and its absence in one batch, guidance, and DDIM. It takes 5 GB of memory.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import timing
import torch
from torch import Tensor, nn

from sd_peers import PAPER_SCHEDULE, filled, sd, twins

GUIDANCE = 7.5


def published() -> tuple[nn.Module, nn.Module, nn.Module]:
    """Ours, and diffusers' U-Net and autoencoder with equal weights, as large as published."""
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
        ours.load_state_dict(weights, assign=True)
        peer.load_state_dict({name: weights[named(name)].reshape(tensor.shape)
                              for name, tensor in peer.state_dict().items()}, assign=True)
    return net.eval(), unet.eval(), vae.eval()


def tiny() -> tuple[nn.Module, nn.Module, nn.Module]:
    """The same three, small."""
    with tempfile.TemporaryDirectory() as folder:
        found = twins(0, Path(folder))
    return found.ours.float().eval(), found.unet.float(), found.vae.float()


def pipeline_of(unet: nn.Module, vae: nn.Module) -> Callable[..., object]:
    """The pipeline of diffusers around these, with DDIM as published and no text encoder."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline
    scheduler = DDIMScheduler(**PAPER_SCHEDULE, clip_sample=False, set_alpha_to_one=False,
                              steps_offset=1)
    pipe = StableDiffusionPipeline(
        vae=vae, text_encoder=None, tokenizer=None, unet=unet, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def difference(ours: Tensor, theirs: Tensor) -> str:
    """How far the results are apart."""
    off = (ours - theirs).abs().max().item()
    return f"largest difference {off:.1e} of {theirs.abs().max().item():.1f}"


def pairs(models: tuple[nn.Module, nn.Module, nn.Module],
          side: int) -> Iterator[timing.Pair]:
    """The parts, and a whole step, on latents of this side."""
    net, unet, vae = models
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, side, side, generator=generator)
    texts = torch.randn(2, 77, unet.config.cross_attention_dim, generator=generator)
    when, plan = torch.tensor([981.0]), sd.schedulers.make("ddim", 1)
    draws, pipe = sd.pipeline.Pipeline(net, None), pipeline_of(unet, vae)
    size = side * pipe.vae_scale_factor

    def our_step() -> Tensor:
        noise = draws.noise(x[:1], plan.times[0], texts, GUIDANCE)
        return plan.step(0, x[:1], noise)

    def their_step() -> Tensor:
        return pipe(prompt_embeds=texts[1:], negative_prompt_embeds=texts[:1], latents=x[:1],
                    num_inference_steps=1, guidance_scale=GUIDANCE, height=size, width=size,
                    output_type="latent").images

    works = {"U-Net, batch 2": (lambda: net.unet(x, when.expand(2), texts),
                                lambda: unet(x, when, texts).sample),
             "decoder": (lambda: net.vae.decode(x[:1]), lambda: vae.decode(x[:1]).sample),
             "pipeline step with guidance": (our_step, their_step)}
    for name, both in works.items():
        yield timing.Pair(f"{name}, {size} pixels", "diffusers", *map(torch.no_grad(), both),
                          remark=difference)


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = timing.parser(__doc__)
    parser.add_argument("--pixels", metavar="N", type=timing.count, default=256,
                        help="side of a picture, a multiple of 8 (default: %(default)s)")
    args = timing.parse(parser, argv)
    if args.pixels % 8:
        parser.error(f"--pixels: {args.pixels} is no multiple of 8")
    models = tiny() if args.quick else published()
    side = 8 if args.quick else args.pixels // 8
    timing.measure("stable_diffusion", lambda: pairs(models, side), args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
