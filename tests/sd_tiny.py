"""A very small Stable Diffusion with random weights, as a training run would leave it."""

from pathlib import Path

import torch

from sd_peers import randomise, sd

WORDS = ("a above background black blue circle green in large left little middle of on red "
         "small square the white yellow").split()
PROMPTS = ["a large red circle in the middle on a black background", "a small blue square",
           "a green circle above a yellow square"]
TINY = {"unet": {**sd.model.SMALL["unet"], "channels": 16, "context": 16, "groups": 4},
        "vae": {**sd.model.SMALL["vae"], "channels": 8, "groups": 4},
        "text": {"vocabulary": len(WORDS) + 2, "positions": 16, "layers": 1, "heads": 2,
                 "channels": 16},
        "tokenizer": {"kind": "words", "length": 16, "words": WORDS},
        "image_size": 32, "prompts": PROMPTS}


def tiny(seed: int = 0) -> torch.nn.Module:
    """The model, no weight of which is zero or one by habit."""
    torch.manual_seed(seed)
    return randomise(sd.model.build(TINY))


def save_tiny(path: Path, seed: int = 0, **more: object) -> Path:
    """Write it as a checkpoint: with the averaged weights beside others, if there are some."""
    sd.checkpoint.save(path, {"folder": sd.model.NAME, "config": TINY,
                              "model": tiny(seed).state_dict(), **more})
    return path
