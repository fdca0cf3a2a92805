"""Ten kinds of drawn objects: textured, lit, turned, tilted, among clutter.

A picture is a function of its number and its size alone, so a set of any size needs no file
and no network. Colours, textures, light and place say nothing about the class: only the
outline does, and a network has to find out what an outline is.
"""

# S side of a picture

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

CLASSES = ["arrow", "crescent", "cross", "disc", "gear", "heart", "ring", "square", "star",
           "triangle"]
TEXTURES = ("plain", "stripes", "checks", "dots", "cloud")
FINER = 2          # outlines are drawn that many times larger, then reduced: smooth edges
CONTRAST = 40      # grey levels, at least, by which an object is lighter than its background
Points = np.ndarray


# ---------------------------------------------------------------- outlines


def arc(radius: float, start: float, end: float, count: int, x: float = 0.0) -> Points:
    """Points (count, 2) on a part of a circle around (x, 0); angles in turns."""
    angle = 2 * math.pi * np.linspace(start, end, count)
    return np.stack([x + radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def cogs(teeth: int, outer: float, inner: float, per_tooth: int) -> Points:
    """A star with two points to a tooth, a gear wheel with four."""
    count = teeth * per_tooth
    radius = np.where(np.arange(count) % per_tooth < per_tooth / 2, outer, inner)
    return arc(1.0, 0, 1 - 1 / count, count) * radius[:, None]


def crescent(outer: float = 0.9, tip: float = 0.2, shift: float = 0.5) -> Points:
    """Two arcs that meet in the tips; the inner one is part of a circle around (shift, 0)."""
    back = arc(outer, tip, 1 - tip, 40)
    x, y = back[0] - (shift, 0)
    angle = math.atan2(y, x) / (2 * math.pi)
    return np.concatenate([back, arc(math.hypot(x, y), 1 - angle, angle, 40, x=shift)])


def cross(arm: float = 0.28, reach: float = 0.95) -> Points:
    """Two bars, one across the other."""
    end = np.array([[reach, -arm], [reach, arm], [arm, arm]])
    quarter_turn = np.array([[0, 1], [-1, 0]])
    return np.concatenate([end @ np.linalg.matrix_power(quarter_turn, i) for i in range(4)])


def heart() -> Points:
    """A well-known curve: x = 16 sin³ t, y = 13 cos t - 5 cos 2t - 2 cos 3t - cos 4t."""
    t = np.linspace(0, 2 * math.pi, 60, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3, -y], axis=1) / 17


def outline(name: str) -> list[Points]:
    """The corners of a class within the unit circle, and those of a hole if it has one."""
    arrow = [[1, 0], [0.15, -0.75], [0.15, -0.3], [-0.95, -0.3], [-0.95, 0.3], [0.15, 0.3],
             [0.15, 0.75]]
    return {
        "arrow": [np.array(arrow)], "crescent": [crescent()], "cross": [cross()],
        "disc": [arc(0.85, 0, 1, 60)], "gear": [cogs(8, 0.95, 0.68, 4)], "heart": [heart()],
        "ring": [arc(0.9, 0, 1, 60), arc(0.5, 0, 1, 60)], "square": [arc(1.0, 0, 0.75, 4)],
        "star": [cogs(5, 1.0, 0.42, 2)], "triangle": [arc(1.0, 0, 2 / 3, 3)],
    }[name]


def pose(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A matrix (2, 2) and a shift (2,): turned, tilted away from the eye, near or far."""
    def turn(angle: float) -> np.ndarray:
        return np.array([[math.cos(angle), math.sin(angle)],
                         [-math.sin(angle), math.cos(angle)]])
    size = rng.uniform(0.5, 0.85)
    tilt = np.diag([1.0, rng.uniform(0.65, 1.0)])     # seen from the side, things are narrower
    matrix = turn(rng.uniform(0, 2 * math.pi)) @ tilt @ turn(rng.uniform(0, 2 * math.pi)) * size
    return matrix, rng.uniform(-1, 1, 2) * (0.95 - size)


def mask(polygons: list[Points], side: int) -> np.ndarray:
    """How much of each pixel is covered, (S, S) from 0 to 1; later polygons are holes."""
    sheet = Image.new("L", (side * FINER, side * FINER))
    for number, corners in enumerate(polygons):
        places = (corners + 1) / 2 * side * FINER
        ImageDraw.Draw(sheet).polygon(places.ravel().tolist(), fill=0 if number else 255)
    return np.asarray(sheet.reduce(FINER), dtype=np.float32) / 255     # (S, S)


# ---------------------------------------------------------------- surfaces and light


def blurred(values: np.ndarray, radius: float) -> np.ndarray:
    """A map (S, S) from 0 to 1, blurred by a Gaussian; radius in pixels."""
    image = Image.fromarray(np.uint8(255 * values)).filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(image, dtype=np.float32) / 255                   # (S, S)


def texture(kind: str, side: int, rng: np.random.Generator) -> np.ndarray:
    """How much of a second colour each pixel has, (S, S) from 0 to 1."""
    if kind == "plain":
        return np.zeros((side, side), np.float32)
    if kind == "cloud":
        noise = blurred(rng.random((side, side)), side / 16)
        return np.clip(0.5 + 6 * (noise - noise.mean()), 0, 1)
    y, x = np.indices((side, side), dtype=np.float32) / side
    angle, period = rng.uniform(0, math.pi), rng.uniform(0.06, 0.2)
    across = np.sin(2 * math.pi * (x * math.cos(angle) + y * math.sin(angle)) / period)
    along = np.sin(2 * math.pi * (y * math.cos(angle) - x * math.sin(angle)) / period)
    wave = {"stripes": across, "checks": across * along, "dots": across + along - 0.8}[kind]
    return np.clip(0.5 + 4 * wave, 0, 1)


def surface(colour: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """A textured sheet (S, S, 3) whose mean is roughly this colour; grey levels 0 to 255."""
    second = np.clip(colour + rng.normal(0, 30, 3), 0, 255).astype(np.float32)
    share = texture(TEXTURES[rng.integers(len(TEXTURES))], side, rng)[..., None]
    return colour + share * (second - colour)


def clutter(sheet: np.ndarray, count: int, size: float, rng: np.random.Generator) -> None:
    """Paint scraps on a sheet (S, S, 3), in place: four random corners, a random colour."""
    for _ in range(count):
        corners = rng.uniform(-1, 1, 2) + size * rng.uniform(-1, 1, (4, 2))
        cover = mask([corners], len(sheet))[..., None]
        sheet += cover * (rng.uniform(0, 255, 3).astype(np.float32) - sheet)


def light(side: int, rng: np.random.Generator) -> np.ndarray:
    """Factors (S, S, 1) on the brightness: a bright side, a dark side, more or less in all."""
    y, x = np.indices((side, side), dtype=np.float32) / side - 0.5
    angle = rng.uniform(0, 2 * math.pi)
    slope = rng.uniform(0, 0.6) * (x * math.cos(angle) + y * math.sin(angle))
    return (rng.uniform(0.65, 1.1) * (1 + slope))[..., None]


def draw(number: int, side: int) -> tuple[np.ndarray, int]:
    """Picture `number` as bytes (S, S, 3), and its class, which is the number modulo ten."""
    rng = np.random.default_rng(number)
    label = number % len(CLASSES)
    ground, colour = 200 * rng.random(3, np.float32), 255 * rng.random(3, np.float32)
    while colour.mean() - ground.mean() < CONTRAST:
        ground, colour = 200 * rng.random(3, np.float32), 255 * rng.random(3, np.float32)
    sheet = surface(ground, side, rng)
    clutter(sheet, rng.integers(1, 6), 0.25, rng)
    matrix, shift = pose(rng)
    placed = [corners @ matrix + shift for corners in outline(CLASSES[label])]
    cover = mask(placed, side)
    fall = tuple(rng.integers(-side // 16, side // 16 + 1, 2))         # where the shadow falls
    shadow = blurred(np.roll(cover, fall, (0, 1)), side / 40)
    sheet *= 1 - rng.uniform(0, 0.5) * shadow[..., None]
    sheet += cover[..., None] * (surface(colour, side, rng) - sheet)
    clutter(sheet, rng.integers(0, 3), 0.12, rng)                      # lies in front
    sheet *= light(side, rng)
    sheet += rng.uniform(2, 10) * rng.standard_normal(sheet.shape, np.float32)
    return np.uint8(np.clip(sheet, 0, 255)), label
