"""Which word looks where: maps of the attention to a prompt, one for each of its words."""

# N words, S tokens of a prompt, H height and W width of a picture or of latents

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, stack

from attention import watched
from console import Refusal
from painter import Painter
from pipeline import WordMaps
from tokenizer import END, ClipTokenizer, Tokenizer


class Look(NamedTuple):
    """A drawing in bytes (H, W, 3), the words that were read, and a map of each (N, H, W)."""

    picture: Tensor
    words: list[str]
    maps: Tensor


def words_of(tokenizer: Tokenizer, prompt: str) -> list[tuple[str, list[int]]]:
    """The words of a prompt that the model reads, each with its places in a row of tokens.

    Of CLIP's tokens a word may have several; the last one of them has the mark of an end.
    """
    words, goes_on = [], False
    for place, token in enumerate(tokenizer.encode(prompt)[: tokenizer.length - 2], start=1):
        if not goes_on:
            words.append(([], []))
        for list_, value in zip(words[-1], (token, place)):
            list_.append(value)
        goes_on = (isinstance(tokenizer, ClipTokenizer)
                   and not tokenizer.tokens[token].endswith(END))
    return [(tokenizer.decode(tokens), places) for tokens, places in words]


def look(painter: Painter, prompt: str, seed: int, size: tuple[int, int] | None = None,
         **how: object) -> Look:
    """Draw, and see how much every place looked at each word on the way.

    Only the layers that look last count, and in each the head that looks most; the shares of a
    word's tokens are added up, those of steps are averaged. Raises Refusal where there is no
    word, or no step, to look at.
    """
    words = words_of(painter.pipe.tokenizer, prompt)
    if not words:
        raise Refusal("there is no word in the prompt whose attention could be shown")
    image, factor = how.get("image"), painter.pipe.model.vae.factor
    height, width = image.shape[2:] if image is not None else size or painter.size
    unet = painter.pipe.model.unet
    maps = WordMaps((height // factor, width // factor), 1, unet.last_looks)
    with watched(unet, maps):
        picture = painter.draw([prompt], [seed], size, **how)[0]       # (H, W, 3)
    if not maps.calls:
        raise Refusal("with so little strength no step is taken, and no word looked at")
    every = maps.maps()[0].cpu()                                       # (S, ...)
    mine = stack([every[places].sum(0) for _, places in words])        # (N, ...)
    mine = F.interpolate(mine[None], picture.shape[:2], mode="bilinear")[0]    # (N, H, W)
    return Look(picture, [word for word, _ in words], mine)
