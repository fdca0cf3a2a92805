"""Is it what was asked for? Colours, shapes and relations, read back from pixels.

No network judges here, only geometry: what differs from the background and hangs together is a
thing; its colour is the nearest of the palette; its shape is the one which, drawn as large,
covers it best. `evaluate.py` first shows that this reads real pictures without a mistake, and
finds nothing where captions are shuffled.
"""

# S side of a picture, K kinds of shapes

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from scenes import BACKGROUNDS, COLOURS, RELATIONS, SHAPES, UNITS, Scene, cover, edges, places

DIFFERENT = 64       # levels of a colour by which a thing differs from the background
LEAST = 8.0          # square units of a thing; less is a speck
ALIKE = 0.7          # of a shape and what is seen, at least this share must be common to both
STRETCH = (0.92, 1.0, 1.08)                       # sizes that are tried, around the measured
WIDTHS = (2.0, 1.76, 1.9, 2.0)                    # of each shape of radius 1, and its height
LOWER = (0.0, 0.0, -0.05, 0.0)                    # how far the middle of its height is below 0
NOTHING = "nothing"  # a shape that is none
Z = 1.959964         # standard deviations that hold 95 % of a normal distribution


class Seen(NamedTuple):
    """A thing in a picture; x and y are the middle of its width and of its height, in units."""

    colour: str
    shape: str
    x: float
    y: float
    area: float


class Right(NamedTuple):
    """What of a prompt a picture has got right."""

    colour: bool
    shape: bool
    relation: bool

    @property
    def both(self) -> bool:
        """Colour and shape of every thing."""
        return self.colour and self.shape

    @property
    def everything(self) -> bool:
        """Colours, shapes and the relation between two things."""
        return self.colour and self.shape and self.relation


def nearest(colour: np.ndarray, palette: dict[str, tuple[int, int, int]]) -> str:
    """The name of the colour (3,) in a palette."""
    away = np.linalg.norm(np.array(list(palette.values())) - colour, axis=1)
    return list(palette)[away.argmin()]


def spread(mask: np.ndarray, least: bool = False) -> np.ndarray:       # (S, S)
    """A mask with the four neighbours of its pixels; with `least` what is left without them."""
    grown = np.pad(mask, 1)                                            # (S+2, S+2)
    near = [mask, grown[2:, 1:-1], grown[:-2, 1:-1], grown[1:-1, 2:], grown[1:-1, :-2]]
    return np.all(near, axis=0) if least else np.any(near, axis=0)     # (S, S)


def pieces(mask: np.ndarray) -> list[np.ndarray]:                      # (S, S)
    """The parts of a mask that hang together, each a mask (S, S), the largest first."""
    found: list[np.ndarray] = []
    rest = mask.copy()                                                 # (S, S)
    while rest.any():
        piece = np.zeros_like(mask)                                    # (S, S)
        piece.flat[rest.argmax()] = True
        while not np.array_equal(grown := spread(piece) & rest, piece):
            piece = grown                                              # (S, S)
        found.append(piece)
        rest &= ~piece
    return sorted(found, key=np.sum, reverse=True)


def parts_of(picture: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:    # (S, S, 3)
    """The background's colour (3,), and the pixels (S, S) of each thing, the largest first."""
    rim = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])     # (4S, 3)
    behind = np.array(BACKGROUNDS[nearest(np.median(rim, axis=0), BACKGROUNDS)])   # (3,)
    things = pieces(np.abs(picture - behind).max(axis=2) > DIFFERENT)
    unit = UNITS / len(picture)
    return behind, [thing for thing in things if thing.sum() * unit**2 >= LEAST]


def read(picture: np.ndarray) -> list[Seen]:                           # (S, S, 3)
    """The things in a picture in bytes, the largest first."""
    behind, things = parts_of(picture)
    return [look(picture.astype(np.float32), behind, thing) for thing in things]


def look(pixels: np.ndarray, behind: np.ndarray, thing: np.ndarray) -> Seen:
    """Colour, shape and place of a thing (S, S) in pixels (S, S, 3) before a background (3,).

    How far a pixel is covered says its colour: it lies on the way from the background to that
    of the thing.
    """
    core = spread(thing, least=True)                                   # (S, S)
    colour = pixels[core if core.any() else thing].mean(axis=0)        # (3,)
    way = colour - behind                                              # (3,)
    share = ((pixels - behind) @ way / (way @ way)).clip(0, 1)         # (S, S)
    share = share * spread(spread(thing))                              # (S, S)
    shape, x, y = which_shape(share)
    area = share.sum() * (UNITS / len(pixels)) ** 2
    return Seen(nearest(colour, COLOURS), shape, x, y, float(area))


def which_shape(share: np.ndarray) -> tuple[str, float, float]:        # (S, S)
    """The shape that is most like what covers so much of each pixel, and its middle.

    Each shape is drawn at the place and as large as what is seen, and compared: the area that
    is common to both, divided by the area that either has.
    """
    side = len(share)
    across, down = share.max(axis=0), share.max(axis=1)                # each (S,)
    middles = (np.arange(side) + 0.5) * UNITS / side                   # (S,)
    x, y = (float(line @ middles / line.sum()) for line in (across, down))
    size = (across.sum() + down.sum()) / 2 * UNITS / side
    best, alike = NOTHING, ALIKE
    for stretch in STRETCH:
        radius = (stretch * size / np.array(WIDTHS))[:, None, None]    # (K, 1, 1)
        left, top = places(side)
        below = y - np.array(LOWER)[:, None, None] * radius            # (K, 1, 1)
        every = edges(left - x, top - below, radius)                   # (K, K, S, S)
        drawn = cover(every[range(len(SHAPES)), range(len(SHAPES))], side)     # (K, S, S)
        common = np.minimum(drawn, share).sum((1, 2)) / np.maximum(drawn, share).sum((1, 2))
        if common.max() > alike:
            best, alike = SHAPES[common.argmax()], common.max()
    return best, x, y


def judge(seen: Sequence[Seen], scene: Scene) -> Right:
    """What of a scene is right in what was seen; nothing, if the number of things is wrong.

    Two things are told apart by their colours; if these are wrong, by their places.
    """
    if len(seen) != len(scene.things):
        return Right(False, False, False)
    if len(seen) == 1:
        thing, wanted = seen[0], scene.things[0]
        return Right(thing.colour == wanted.colour, thing.shape == wanted.shape, True)
    right, left = RELATIONS[scene.place]
    first, second = sorted(seen, key=lambda thing: -(thing.x * right + thing.y * left))
    placed = [one.colour for one in (first, second)] == [one.colour for one in scene.things]
    if [second.colour, first.colour] == [one.colour for one in scene.things]:
        first, second = second, first
    pairs = list(zip((first, second), scene.things))
    colours = all(thing.colour == wanted.colour for thing, wanted in pairs)
    return Right(colours, all(thing.shape == wanted.shape for thing, wanted in pairs),
                 colours and placed and apart(first, second, scene.place))


def apart(first: Seen, second: Seen, relation: str) -> bool:
    """Whether the first of two things stands in a relation to the second."""
    along, down = RELATIONS[relation]
    distance = (first.x - second.x) * along + (first.y - second.y) * down
    return bool(distance > 0.5 * math.hypot(first.x - second.x, first.y - second.y)
                * math.hypot(along, down))


def shares(pictures: np.ndarray, scenes: Sequence[Scene]) -> dict[str, float]:
    """How often pictures (…, S, S, 3) in bytes are right, for each of what can be right."""
    rights = [judge(read(picture), scene) for picture, scene in zip(pictures, scenes)]
    names = ("colour", "shape", "both", "relation", "everything")
    return {name: float(np.mean([getattr(right, name) for right in rights])) for name in names}


def wilson(right: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share of which `right` of `count` were seen (E. Wilson, 1927)."""
    share = right / count
    middle = share + Z**2 / (2 * count)
    margin = Z * (share * (1 - share) / count + Z**2 / (4 * count**2)) ** 0.5
    scale = 1 + Z**2 / count
    low, high = (middle - margin) / scale, (middle + margin) / scale
    return max(low, 0.0), min(high, 1.0)         # rounding may leave the range
