"""Small random Stable Diffusions of diffusers and transformers, and the same in our classes."""

import functools
import math
import random
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn

from support import load

sd = load("stable_diffusion_from_scratch")
PAPER_SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def randomise(peer: nn.Module, spread: float = 0.1) -> nn.Module:
    """Give every parameter a value of its own: nothing may be zero or one by habit."""
    with torch.no_grad():
        for parameter in peer.parameters():
            if parameter.ndim > 1:
                fan = parameter[0].numel()
                parameter.normal_(0, 1 / fan**0.5)
            else:
                parameter.add_(spread * torch.randn_like(parameter))
    return peer.eval()


def shapes(seed: int) -> SimpleNamespace:
    """A configuration of all three models in diffusers' words, drawn at random."""
    draw = random.Random(seed)
    groups, levels = draw.choice([8, 16, 32]), draw.choice([1, 2, 3])
    heads = draw.choice([2, 4, 8])
    first = max(groups, 16) * heads // 2
    widths = [first * (draw.choice([1, 2, 3]) if level else 1) for level in range(levels)]
    looks = [draw.random() < 0.6 for _ in range(levels)]
    unet = {"in_channels": 4, "out_channels": 4, "layers_per_block": draw.choice([1, 2]),
            "block_out_channels": widths, "norm_num_groups": groups,
            "attention_head_dim": heads, "cross_attention_dim": 16 * draw.choice([1, 2, 3]),
            "transformer_layers_per_block": draw.choice([1, 2]),
            "down_block_types": ["CrossAttnDownBlock2D" if look else "DownBlock2D"
                                 for look in looks],
            "up_block_types": ["CrossAttnUpBlock2D" if look else "UpBlock2D"
                               for look in reversed(looks)]}
    depth = draw.choice([1, 2, 3])
    base = 8 * draw.choice([1, 2])
    vae = {"block_out_channels": [base * draw.choice([1, 2]) if level else base
                                  for level in range(depth)],
           "layers_per_block": draw.choice([1, 2]), "norm_num_groups": 8,
           "down_block_types": ["DownEncoderBlock2D"] * depth,
           "up_block_types": ["UpDecoderBlock2D"] * depth, "latent_channels": 4,
           "in_channels": 3, "out_channels": 3, "scaling_factor": 0.3}
    channels = unet["cross_attention_dim"]
    text = {"vocab_size": 50 + draw.randrange(50), "hidden_size": channels,
            "intermediate_size": 4 * channels, "num_hidden_layers": draw.choice([1, 2, 3]),
            "num_attention_heads": draw.choice([1, 2, 4]), "max_position_embeddings": 12,
            "hidden_act": "quick_gelu"}
    return SimpleNamespace(unet=unet, vae=vae, text=text)


def peers(config: SimpleNamespace, seed: int = 0) -> SimpleNamespace:
    """The three models of the libraries, with random weights."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel
    torch.manual_seed(seed)
    return SimpleNamespace(
        unet=randomise(UNet2DConditionModel(**config.unet)),
        vae=randomise(AutoencoderKL(**config.vae)),
        text=randomise(CLIPTextModel(CLIPTextConfig(**config.text))))


def save_folder(found: SimpleNamespace, folder: Path) -> Path:
    """Write the three models as diffusers does."""
    for name, part in (("unet", found.unet), ("vae", found.vae), ("text_encoder", found.text)):
        part.save_pretrained(folder / name)
    return folder


def filled(shapes: dict[str, torch.Size]) -> dict[str, torch.Tensor]:
    """Weights for all names: one block of noise, repeated, with a spread that fits each."""
    block, weights = torch.randn(2**20), {}
    for name, shape in shapes.items():
        times = -(-shape.numel() // 2**20)
        flat = block.roll(len(weights)).repeat(times)[: shape.numel()].clone()
        spread = 1 / math.sqrt(shape[1:].numel()) if len(shape) > 1 else 0.1
        norm = len(shape) == 1 and name.endswith("weight")
        weights[name] = flat.mul_(spread).add_(1.0 if norm else 0.0).reshape(shape)
    return weights


@functools.cache
def twins(seed: int, folder: Path) -> SimpleNamespace:
    """Ours, read by our loader from a folder, and theirs, both in 64 bits."""
    found = peers(shapes(seed), seed)
    ours, config = sd.weights.load_pretrained(save_folder(found, folder / str(seed)))
    return SimpleNamespace(ours=ours.double(), config=config, unet=found.unet.double(),
                           vae=found.vae.double(), text=found.text.double())
