"""A trained model that draws: the one of a checkpoint, or of published weights.

A checkpoint's configuration has what `model.build` needs, and besides: `tokenizer`, the state
of one; `image_size`, the side of a picture in training; `prompts`, some captions to draw where
nothing is asked for.
"""

# B pictures, P pixels of a side, S tokens of a prompt, E channels of a token

import contextlib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

import checkpoint
from console import Refusal, from_here, say, to_type
from model import NAME, StableDiffusion, build
from pipeline import Pipeline
from tokenizer import ClipTokenizer, Tokenizer, from_state
from weights import load_pretrained

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
AT_ONCE = 512 * 512      # pixels that are drawn together
TRAINED = 64             # latents of a side, where nothing says how many there were in training


class Painter:
    """A pipeline, and what its pictures are like where nothing else is asked for."""

    def __init__(self, model: StableDiffusion, config: dict, device: torch.device,
                 precision: str = "fp32") -> None:
        self.config = config
        self.size = (config.get("image_size", TRAINED * model.vae.factor),) * 2
        self.prompts = list(config.get("prompts", [""]))
        if precision == "auto":
            able = device.type == "cuda" and torch.cuda.is_bf16_supported()
            precision = "bf16" if able else "fp32"
        scale = model.scale_factor.to(device)     # in 16 bits it would not be the trained one
        model.to(device, PRECISIONS[precision]).scale_factor = scale
        self.pipe = Pipeline(model, from_state(config["tokenizer"]))

    @classmethod
    def open(cls, path: Path | None, device: torch.device,
             precision: str = "auto") -> "Painter":
        """The model of a checkpoint with its averaged weights, without a path of the newest.

        Raises Refusal for a file that is damaged or none of this folder's checkpoints, and for
        a run whose first stage is not over.
        """
        path = path or checkpoint.newest(Path(__file__).resolve().parent)
        contents = checkpoint.load(path, NAME)
        if contents.get("stage") == "vae":
            raise Refusal(f"{from_here(path)} has a trained autoencoder and nothing else: go "
                          "on with python train.py --stage diffusion --weights "
                          f"{to_type(path)}")
        model = build(contents["config"])
        checkpoint.restore(model, contents.get("ema", contents["model"]), path)
        say(f"using {from_here(path)}")
        return cls(model, contents["config"], device, precision)

    @classmethod
    def published(cls, path: Path, vocabulary: Path | None, device: torch.device,
                  precision: str = "auto") -> "Painter":
        """The model of published weights, a file or a folder, and CLIP's tokenizer.

        The vocabulary may be left out where the weights bring one. Raises Refusal if there is
        none, if it is another model's, or if the weights cannot be read safely.
        """
        model, config = load_pretrained(path)
        tokenizer = find_tokenizer(path, vocabulary, config)
        return cls(model, {**config, "tokenizer": tokenizer.state()}, device, precision)

    def draw(self, prompts: Sequence[str], seeds: Sequence[int],
             size: tuple[int, int] | None = None, **how: object) -> Tensor:
        """Pictures (B, P, P, 3) of prompts, one for all seeds or one each; see Pipeline.draw.

        Few at a time: large ones one by one, so that memory does not depend on their number.
        `how` may have an image (1, 3, P, P), and `watch` sees one part after the other.
        """
        image = how.get("image")
        size = size or self.size if image is None else tuple(image.shape[2:])
        at_once, parts = max(1, AT_ONCE // (size[0] * size[1])), []
        for first in range(0, len(seeds), at_once):
            here = slice(first, first + at_once)
            told = prompts if len(prompts) == 1 else prompts[here]
            parts.append(self.pipe.draw(told, seeds[here], size, **how))
        return torch.cat(parts)                                        # (B, ..., 3)


def find_tokenizer(weights: Path, vocabulary: Path | None, config: dict) -> Tokenizer:
    """The tokenizer that was named or comes with weights, with rows as long as these know.

    Raises Refusal if there is none, or if it is another model's.
    """
    tokenizer, known = named_tokenizer(weights, vocabulary, config), config["text"]
    tokenizer.length = known["positions"]
    if len(tokenizer) != known["vocabulary"]:
        raise Refusal(f"the tokenizer has {len(tokenizer):,} tokens and {from_here(weights)} "
                      f"knows {known['vocabulary']:,}: name the --tokenizer that belongs to it")
    return tokenizer


def named_tokenizer(weights: Path, vocabulary: Path | None, config: dict) -> Tokenizer:
    """The tokenizer that was named, or that comes with weights: in notes, or in a folder."""
    if vocabulary:
        return ClipTokenizer.load(vocabulary)
    with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):
        return from_state(config["tokenizer"])       # notes may be anything: a Refusal follows
    if (weights / "tokenizer" / "merges.txt").is_file():
        return ClipTokenizer.load(weights)
    raise Refusal(f"{from_here(weights)} has no vocabulary to read prompts with: say where "
                  "CLIP's lies with --tokenizer")
