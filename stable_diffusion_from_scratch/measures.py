"""What can be counted about a trained model of drawn shapes; evaluate.py prints it."""

# N pictures, C channels, H height and W width of latents, P pixels of a side, S tokens

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from adherence import parts_of, shares, spread
from attention import watched
from losses import decibels
from painter import Painter
from pipeline import WordMaps, floats
from scenes import TRAINED, Scene, draw_scene, paint
from schedulers import noise_like
from validation import AT_ONCE, deviation, encode_all
from visualize import hole
from words import PROMPT_SEED, caption, prompts

NEAR = 16            # a pointing may miss a thing by a 16th of a side; 15 of 224 are usual
POINTED = 32         # pictures whose attention is watched together


class Autoencoder(NamedTuple):
    """How good the autoencoder is on pictures it never saw."""

    decibels: float
    deviation: float
    pictures: Tensor      # what it made of them (N, P, P, 3)


class Filled(NamedTuple):
    """How holes were filled: shares of right things, and how far off is what should stay."""

    colour: float
    both: float
    latents: float        # the largest difference of kept latents from the picture's
    levels: float         # the mean one of kept pixels from those that were decoded at once


def unseen(count: int, side: int) -> tuple[Tensor, list[Scene]]:
    """Pictures (N, P, P, 3) that no run trains on, and their scenes."""
    scenes = [draw_scene(PROMPT_SEED + 2, index) for index in range(count)]
    return torch.from_numpy(paint(scenes, side)), scenes


@torch.no_grad()
def autoencoder(painter: Painter, images: Tensor) -> Autoencoder:
    """Pictures (N, P, P, 3) there and back again, without noise in between."""
    known = encode_all(painter.pipe.model, images, painter.pipe.device)
    back = torch.cat([painter.pipe.pictures(part.to(painter.pipe.device))
                      for part in known.mean.split(AT_ONCE)])          # (N, P, P, 3)
    square = (floats(back) - floats(images)).square().mean().item()
    return Autoencoder(decibels(square), deviation(known), back)


def adherence(painter: Painter, asked: Sequence[tuple[str, Scene]], seed: int,
              silent: bool = False, **how: object) -> dict[str, float]:
    """How often pictures are what was asked for; if `silent`, the model is not told."""
    texts = ["" if silent else text for text, _ in asked]
    drawn = painter.draw(texts, range(seed, seed + len(asked)), **how)  # (N, P, P, 3)
    return shares(drawn.numpy(), [scene for _, scene in asked])


def near(picture: np.ndarray) -> np.ndarray:                           # (P, P, 3)
    """The pixels (P, P) of the largest thing in a picture, and those next to them."""
    things = parts_of(picture)[1]
    mask = things[0] if things else np.zeros(picture.shape[:2], bool)  # (P, P)
    for _ in range(len(picture) // NEAR):
        mask = spread(mask)                                            # (P, P)
    return mask                                                        # (P, P)


def pointing(painter: Painter, count: int, seed: int, **how: object) -> tuple[float, float]:
    """How often the word for a shape is looked at most on the thing, and what chance would do.

    Maps are those of the layers that look last at each size, enlarged to that of the picture.
    """
    asked, model = prompts("trained", count, seed=1), painter.pipe.model
    size, tokenizer, hits, areas = painter.size, painter.pipe.tokenizer, [], []
    for start in range(0, count, POINTED):
        some = asked[start : start + POINTED]
        watch = WordMaps(tuple(side // model.vae.factor for side in size), len(some),
                         model.unet.last_looks)
        seeds = range(seed + start, seed + start + len(some))
        with watched(model.unet, watch):
            drawn = painter.pipe.draw([text for text, _ in some], seeds, size, **how)
        maps = F.interpolate(watch.maps().cpu(), size, mode="bilinear")    # (N, S, P, P)
        for picture, own, (text, scene) in zip(drawn.numpy(), maps, some):
            word = tokenizer.numbers[scene.things[0].shape]
            place = own[tokenizer.encode(text).index(word) + 1].argmax().item()
            mask = near(picture)                                       # (P, P)
            hits.append(mask.flat[place])
            areas.append(mask.mean())
    return float(np.mean(hits)), float(np.mean(areas))


def holes(count: int) -> list[tuple[Scene, Scene]]:
    """Small things in the middle, and the same scenes with another colour."""
    pairs, index = [], 0
    while len(pairs) < count:
        scene = draw_scene(PROMPT_SEED + 3, index, two=0.0)
        index += 1
        thing = scene.things[0]
        others = [colour for colour, shape in TRAINED
                  if shape == thing.shape and colour != thing.colour]
        if (scene.place, thing.size) == ("middle", "small"):
            other = thing._replace(colour=others[index % len(others)])
            pairs.append((scene, scene._replace(things=(other,))))
    return pairs


def inpainting(painter: Painter, count: int, seed: int, **how: object) -> Filled:
    """Take small things out of pictures, and ask for others in their place."""
    wanted, drawn, latents, levels = holes(count), [], [], []
    for start in range(0, count, AT_ONCE):
        some = wanted[start : start + AT_ONCE]
        seeds = range(seed + start, seed + start + len(some))
        pictures, away, far = fill(painter, some, seeds, **how)
        drawn.append(pictures.numpy())
        latents.append(away)
        levels += [far] * len(some)
    right = shares(np.concatenate(drawn), [scene for _, scene in wanted])
    return Filled(right["colour"], right["both"], max(latents), float(np.mean(levels)))


@torch.no_grad()
def fill(painter: Painter, wanted: Sequence[tuple[Scene, Scene]], seeds: Sequence[int],
         **how: object) -> tuple[Tensor, float, float]:
    """Pictures of first scenes whose holes the second ones fill: (N, P, P, 3).

    Besides, how far off is what should stay: the latents at most, the pixels in the mean.
    """
    pipe, last = painter.pipe, []
    images = floats(torch.from_numpy(paint([scene for scene, _ in wanted], painter.size[0])))
    mask = hole(images.permute(0, 2, 3, 1))                            # (1, 1, P, P)
    drawn = pipe.draw([caption(scene) for _, scene in wanted], seeds, image=images, mask=mask,
                      watch=lambda _step, x, _clean: last.append(x), **how)
    generators = [torch.Generator().manual_seed(number) for number in seeds]
    known = pipe.encode(images, noise_like(last[-1].shape[1:], generators).to(last[-1]))
    kept = 1 - F.interpolate(mask, known.shape[2:]).to(known)          # (1, 1, H, W)
    far = (pipe.pictures(known).float() - drawn.float()).abs().mean(3)[:, mask[0, 0] == 0]
    return drawn, (kept * (last[-1] - known)).abs().max().item(), far.mean().item()
