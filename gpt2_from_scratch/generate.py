"""Texts that go on: tokens are drawn one after the other, each from what the model expects.

How to draw decides as much as the model does. Always the likeliest token (temperature 0) soon
repeats itself; a fair draw sooner or later takes a bad one, after which all goes astray. So
the tail of unlikely tokens is cut off: all but the k best (A. Fan and others, 2018), or all
but the fewest that together have probability p (A. Holtzman and others, 2020).
"""

# B texts, T tokens, V vocabulary, K candidates

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from cache import Cache
from model import GPT

NOTHING = -1    # stands before a text that is shorter than the others of its batch


class Sampling(NamedTuple):
    """How the next token is drawn; as it stands, fairly."""

    temperature: float = 1.0    # below 1 bolder differences, above 1 smaller; 0: the likeliest
    top_k: int | None = None    # so many tokens may be drawn at most
    top_p: float = 1.0          # the likeliest that have this probability together may be
    penalty: float = 1.0        # above 1: what was there before becomes less likely


def penalise(logits: Tensor, text: Tensor, penalty: float) -> Tensor:  # (B, V), (B, T)
    """Make the tokens that a text has already less likely (N. S. Keskar and others, 2019).

    A positive logit is divided and a negative one multiplied: both become smaller.
    """
    words = logits.size(1)
    there = logits.new_zeros(len(logits), words + 1, dtype=torch.bool)       # (B, V+1)
    there.scatter_(1, text.where(text != NOTHING, words), True)        # (B, V+1)
    smaller = torch.where(logits > 0, logits / penalty, logits * penalty)    # (B, V)
    return torch.where(there[:, :words], smaller, logits)              # (B, V)  (12)


def draw(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> Tensor:   # (B, V)
    """A token for each row (B,).

    First the k best are kept, then the fewest that reach probability p together, the one with
    which they cross it among them. Of tokens that are equally likely at the edge some stay.
    """
    if sampling.temperature == 0:
        return logits.argmax(-1)
    best = logits.max(-1, keepdim=True).values                         # (B, 1)
    scores = (logits - best).double() / sampling.temperature           # (B, V)  (13)
    if sampling.top_k is None and sampling.top_p == 1:
        return scores.softmax(-1).multinomial(1, generator=generator)[:, 0]  # (B,)
    scores, tokens = scores.topk(min(sampling.top_k or scores.size(1), scores.size(1)))
    shares = scores.softmax(-1)                                        # (B, K)
    before = shares.cumsum(-1) - shares                                # (B, K)
    shares = shares.where(before < sampling.top_p, 0)                  # (B, K)  (14)
    return tokens.gather(1, shares.multinomial(1, generator=generator))[:, 0]    # (B,)


def pad(texts: list[list[int]]) -> Tensor:
    """Texts of any length in one tensor (B, T), with `NOTHING` before the shorter ones."""
    longest = max(map(len, texts))
    return torch.tensor([[NOTHING] * (longest - len(text)) + text for text in texts])


def behind(model: GPT, text: Tensor, cache: Cache | None,
           room: int) -> tuple[Tensor, Cache]:
    """What may follow a text (B, T): logits (B, V), and the cache that now holds it.

    A text that has outgrown the context loses its beginning. Then all that is left has new
    positions, so that nothing in the cache is true any more and all is read again.
    """
    if cache is None or text.size(1) > cache.room:
        text = text[:, -model.context :]                               # (B, T)
        padding = (text == NOTHING).sum(1)                             # (B,)
        cache = model.cache(len(text), room, padding if padding.any() else None)
    return model.extend(text[:, cache.length :].clamp(min=0), cache)


@torch.inference_mode()
def generate(model: GPT, prompts: list[list[int]], count: int, sampling: Sampling,
             generator: torch.Generator, stop: int | None = None) -> Iterator[list[int | None]]:
    """Continue texts of any length together by up to `count` tokens: at each step one of each.

    A row that has come to its `stop` gives None from then on. The model should be in its
    evaluation mode and the generator on its device.
    """
    text = pad(prompts).to(model.embed.weight.device)                  # (B, T)
    ended = torch.zeros(len(text), dtype=torch.bool, device=text.device)     # (B,)
    room, cache = min(text.size(1) + count, model.context), None
    for _ in range(count):
        logits, cache = behind(model, text, cache, room)
        logits = logits.float()                                        # (B, V)
        if sampling.penalty != 1:
            logits = penalise(logits, text, sampling.penalty)          # (B, V)
        token = draw(logits, sampling, generator)                      # (B,)
        if stop is not None:
            ended |= token == stop                                     # (B,)
        yield [None if over else one for one, over in zip(token.tolist(), ended.tolist())]
        if ended.all():
            return
        text = torch.cat([text, token[:, None]], dim=1)
