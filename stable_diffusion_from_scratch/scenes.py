"""Pictures of coloured shapes, drawn from numbers: no file, no network, no licence.

A scene is one thing at a place, or two things of which one is left of the other, right of it,
above it or below. Lengths are in units of which a picture has 32 a side, whatever its pixels.
Edges are smooth: a pixel is covered as far as its centre lies inside of the edge.
"""

# N scenes, S side of a picture, K kinds of shapes

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

UNITS = 32                                      # of a side
COLOURS = {"red": (214, 39, 40), "orange": (255, 140, 0), "yellow": (250, 220, 40),
           "green": (30, 150, 60), "cyan": (60, 210, 220), "blue": (40, 70, 210),
           "purple": (130, 50, 170), "pink": (255, 130, 190)}
BACKGROUNDS = {"black": (16, 16, 16), "white": (245, 245, 245), "grey": (170, 170, 170)}
SHAPES = ("circle", "square", "triangle", "cross")
SIZES = {"small": 6.0, "large": 8.5}            # radius of a single thing
MEDIUM = 6.25                                   # radius of both of two
LOOSE = 0.5                                     # by which a radius and a place differ
POSITIONS = {"left": (-6, 0), "right": (6, 0), "top": (0, -6), "bottom": (0, 6),
             "middle": (0, 0)}                  # from the centre of the picture
RELATIONS = {"left of": (-8, 0), "right of": (8, 0), "above": (0, -8), "below": (0, 8)}
ASIDE = 3.0                                     # two things are not exactly in line
TWO = 0.5                                       # share of scenes with two things
PAIRS = tuple((colour, shape) for colour in COLOURS for shape in SHAPES)
# Never drawn to train on: whoever can draw them has understood what a colour and a shape is.
HELD_OUT = (("orange", "circle"), ("cyan", "square"), ("purple", "triangle"), ("pink", "cross"))
TRAINED = tuple(pair for pair in PAIRS if pair not in HELD_OUT)
AT_ONCE = 256                                   # scenes painted together: fits the cache

Pairs = Sequence[tuple[str, str]]


class Thing(NamedTuple):
    """A shape of one colour; x and y are those of its middle."""

    colour: str
    shape: str
    size: str
    x: float
    y: float
    radius: float


class Scene(NamedTuple):
    """One thing and its position, or two and the relation of the first to the second."""

    background: str
    place: str
    things: tuple[Thing, ...]


def one_thing(rng: np.random.Generator, pairs: Pairs) -> Scene:
    """A scene with a single thing."""
    background, place, size = (str(rng.choice(list(words)))
                               for words in (BACKGROUNDS, POSITIONS, SIZES))
    colour, shape = pairs[rng.integers(len(pairs))]
    x, y = UNITS / 2 + np.array(POSITIONS[place]) + rng.uniform(-2 * LOOSE, 2 * LOOSE, 2)
    radius = SIZES[size] + rng.uniform(-LOOSE, LOOSE)
    thing = Thing(colour, shape, size, float(x), float(y), float(radius))
    return Scene(background, place, (thing,))


def two_things(rng: np.random.Generator, pairs: Pairs) -> Scene:
    """A scene with two things of different colours."""
    background, place = (str(rng.choice(list(words))) for words in (BACKGROUNDS, RELATIONS))
    first, second = rng.choice(list(COLOURS), 2, replace=False)
    along = np.array(RELATIONS[place])
    aside = rng.uniform(-ASIDE, ASIDE) * (along == 0)
    things = []
    for colour, side in ((first, 1), (second, -1)):
        shapes = [shape for mine, shape in pairs if mine == colour]
        x, y = UNITS / 2 + side * (along + aside) + rng.uniform(-LOOSE, LOOSE, 2)
        radius = MEDIUM + rng.uniform(-LOOSE, LOOSE)
        things.append(Thing(str(colour), str(rng.choice(shapes)), "medium", float(x), float(y),
                            float(radius)))
    return Scene(background, place, tuple(things))


def draw_scene(seed: int, index: int, pairs: Pairs = TRAINED, two: float = TWO) -> Scene:
    """The scene of a number: a function of seed and number alone.

    `pairs` are the colours and shapes that things may have, all colours among them if there
    are two things; `two` is how probable two are.
    """
    rng = np.random.default_rng((seed, index))
    return two_things(rng, pairs) if rng.random() < two else one_thing(rng, pairs)


def edges(x: np.ndarray, y: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """How far outside of each shape's edge a place is, inside below 0: (K, ...).

    `x` and `y` are measured from the middle. Every shape is as large as the eye expects: a
    square whose sides had a circle's diameter would look larger than the circle.
    """
    u, v, side, arm = np.abs(x), np.abs(y), 0.88 * radius, 0.34 * radius
    circle = np.hypot(x, y) - radius
    square = np.maximum(u, v) - side
    slope = (2 * u - y - radius) / 5**0.5                  # apex above, twice as steep as wide
    triangle = np.maximum(slope, y - 0.9 * radius)
    cross = np.minimum(np.maximum(u - radius, v - arm), np.maximum(v - radius, u - arm))
    return np.stack([circle, square, triangle, cross])


def places(side: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y of the middles of all pixels, in units: each (S, S)."""
    y, x = (np.mgrid[:side, :side].astype(np.float32) + 0.5) * (UNITS / side)
    return x, y                                                        # each (S, S)


def cover(edge: np.ndarray, side: int) -> np.ndarray:
    """The share of each pixel that is covered, of its distance from the edge in units."""
    return np.clip(0.5 - edge * (side / UNITS), 0, 1)


def paint(scenes: Sequence[Scene], side: int = UNITS) -> np.ndarray:
    """Pictures of scenes in bytes: (N, S, S, 3)."""
    images = np.empty((len(scenes), side, side, 3), np.uint8)
    x, y = places(side)
    for start in range(0, len(scenes), AT_ONCE):
        some = scenes[start : start + AT_ONCE]
        canvas = np.array([BACKGROUNDS[scene.background] for scene in some], np.float32)
        canvas = np.tile(canvas[:, None, None], (1, side, side, 1))    # (N, S, S, 3)
        for number in range(2):
            owners = [i for i, scene in enumerate(some) if len(scene.things) > number]
            things = [some[i].things[number] for i in owners]
            if things:
                canvas[owners] = _put(canvas[owners], things, x, y)
        images[start : start + AT_ONCE] = np.round(canvas)
    return images                                                      # (N, S, S, 3)


def _put(canvas: np.ndarray, things: list[Thing], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """One more thing on each canvas (N, S, S, 3)."""
    left, top, radius = (np.array([getattr(thing, name) for thing in things], np.float32)
                         [:, None, None] for name in ("x", "y", "radius"))    # each (N, 1, 1)
    every = edges(x - left, y - top, radius)                           # (K, N, S, S)
    kinds = [SHAPES.index(thing.shape) for thing in things]
    edge = every[kinds, np.arange(len(things))]                        # (N, S, S)
    share = cover(edge, canvas.shape[1])[..., None]                    # (N, S, S, 1)
    colour = np.array([COLOURS[thing.colour] for thing in things], np.float32)
    return canvas + share * (colour[:, None, None] - canvas)           # (N, S, S, 3)
