"""Pixel monsters with known attributes, drawn from numbers: no file, no network, no licence.

A creature is a function of its attributes, its hue and a few numbers that stand for nothing
(size and brightness). Everything is drawn for many creatures at once: a part is the set of
pixels where some formula is positive, and parts are painted one over the other.
"""

# N creatures, S side of a picture, A attributes

import numpy as np

SIDE = 32
ATTRIBUTES = {                                  # name: its values, the plainest first
    "body": ("round", "tall", "wide", "square", "pear", "ghost"),
    "pattern": ("plain", "spots", "stripes", "belly"),
    "eyes": ("one", "two", "three"),
    "horns": ("none", "horns", "ears", "antenna"),
    "wings": ("none", "wings"),
    "tail": ("none", "arrow", "tuft"),
}
HUES = ("red", "yellow", "green", "cyan", "blue", "magenta")    # at 0, 1/6, 2/6, … turns
COMBINATIONS = 6 * 4 * 3 * 4 * 2 * 3            # of them, not counting the hue
AT_ONCE = 256                                   # creatures drawn together: fits the cache
WHITE, SKIN, DARK, DEEP, PALE, CREAM, BLACK = range(7)    # the palette of a creature
HALF = {"round": (7.6, 7.6), "tall": (6.0, 8.6), "wide": (8.8, 6.4), "square": (7.4, 7.2),
        "pear": (8.0, 8.0), "ghost": (7.6, 8.2)}   # half width and half height of the bodies


# ---------------------------------------------------------------- which creatures


def split(share: tuple[float, float] = (0.05, 0.15)) -> tuple[np.ndarray, ...]:
    """Combinations of attributes to train with, to validate, to test: no two parts share one.

    Each is a table (count, A) of places in `ATTRIBUTES`. The split is the same for every seed.
    """
    sizes = [len(values) for values in ATTRIBUTES.values()]
    every = np.stack(np.unravel_index(np.arange(COMBINATIONS), sizes), axis=1)
    every = np.random.default_rng(0).permutation(every)                # (1728, 6)
    validation, test = (round(part * COMBINATIONS) for part in share)
    return every[validation + test :], every[:validation], every[validation : validation + test]


def draw_many(combinations: np.ndarray, count: int,
              seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pictures (N, S, S, 3) in bytes, attributes (N, A) and hues (N,), in turns from 0 to 1.

    The combinations take turns, so that all occur equally often; all else is random.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(np.arange(count) % len(combinations))
    chosen, hues = combinations[order], rng.random(count, dtype=np.float32)
    loose = rng.uniform(-1, 1, (count, 2)).astype(np.float32)
    images = np.empty((count, SIDE, SIDE, 3), np.uint8)
    for start in range(0, count, AT_ONCE):
        part = slice(start, start + AT_ONCE)
        images[part] = paint(chosen[part], hues[part], loose[part])
    return images, chosen, hues


# ---------------------------------------------------------------- colours


def tint(hue: np.ndarray, saturation: float, value: np.ndarray | float) -> np.ndarray:
    """Red, green and blue (N, 3), from 0 to 1, of hues (N,) in turns."""
    turn = hue[:, None] + np.array([0, 2 / 3, 1 / 3], np.float32)      # (N, 3)
    pure = np.clip(np.abs(turn % 1 * 6 - 3) - 1, 0, 1)                 # (N, 3)
    value = np.broadcast_to(np.asarray(value, np.float32), hue.shape)[:, None]
    return value * (1 - saturation + saturation * pure)                # (N, 3)


def palette(hues: np.ndarray, value: np.ndarray) -> np.ndarray:        # (N,), (N,)
    """The seven colours of each creature in bytes (N, 7, 3), from `WHITE` to `BLACK`."""
    colours = np.ones((len(hues), 7, 3), np.float32)                   # (N, 7, 3)
    for place, saturation, bright in ((SKIN, 0.62, value), (DARK, 0.75, 0.22),
                                      (DEEP, 0.8, 0.62 * value), (PALE, 0.22, 1.0)):
        colours[:, place] = tint(hues, saturation, bright)             # (N, 3)
    colours[:, CREAM], colours[:, BLACK] = (1, 0.9, 0.62), (0.08, 0.08, 0.08)
    return np.round(255 * colours).astype(np.uint8)


def inside(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask (N, S, S) whose four neighbours belong to it as well."""
    padded = np.pad(mask, ((0, 0), (1, 1), (1, 1)))
    return (padded[:, 2:, 1:-1] & padded[:, :-2, 1:-1] & padded[:, 1:-1, 2:]
            & padded[:, 1:-1, :-2])                                    # (N, S, S)


# ---------------------------------------------------------------- shapes


def body_mask(x: np.ndarray, y: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """The pixels of bodies: x and y (N, S, S) run from -1 to 1 over width and height."""
    square, pear, ghost = (kind == ATTRIBUTES["body"].index(name)
                           for name in ("square", "pear", "ghost"))
    narrow = np.where(pear, 0.78 + 0.3 * y, 1.0)                       # less at the top
    power = np.where(square, 4.0, 2.0)
    mask = np.abs(x / narrow) ** power + np.abs(y) ** power <= 1
    hem = 0.86 + 0.14 * np.cos(3 * np.pi * x)
    sheet = (np.abs(x) <= 0.98) & (y > 0) & (y <= hem)
    return np.where(ghost, (mask & (y <= 0)) | sheet, mask)            # (N, S, S)


def disc(x: np.ndarray, y: np.ndarray, radius: np.ndarray | float,
         flat: float = 1.0) -> np.ndarray:
    """A disc around the origin, or an ellipse that is `flat` times as high as wide."""
    return x**2 + (y / flat) ** 2 <= np.asarray(radius) ** 2


class Creatures:
    """Some creatures while they are painted: where each is, how large, and in what colours."""

    def __init__(self, chosen: np.ndarray, hues: np.ndarray, loose: np.ndarray) -> None:
        self.kinds = {name: chosen[:, i, None, None] for i, name in enumerate(ATTRIBUTES)}
        halves = np.array([HALF[name] for name in ATTRIBUTES["body"]], np.float32)
        size = halves[chosen[:, 0]] + 0.7 * loose[:, :1]               # (N, 2)
        self.a, self.b = size[:, 0, None, None], size[:, 1, None, None]    # half width, height
        rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32)
        self.x, self.y = columns[None] - 15.5, rows[None] - 17.5       # each (1, S, S)
        self.u = np.abs(self.x)                                        # left and right alike
        self.palette = palette(hues, 0.88 + 0.08 * loose[:, 1])
        self.places = np.full((len(chosen), SIDE, SIDE), WHITE, np.uint8)    # in the palette

    def are(self, attribute: str, value: str) -> np.ndarray:
        """Which creatures have this value: (N, 1, 1)."""
        return self.kinds[attribute] == ATTRIBUTES[attribute].index(value)

    def fill(self, mask: np.ndarray, colour: int, outline: bool = False) -> None:
        """Colour the pixels of a mask (N, S, S); with an outline those at its edge are dark."""
        np.copyto(self.places, np.uint8(colour), where=mask)
        if outline:
            np.copyto(self.places, np.uint8(DARK), where=mask & ~inside(mask))

    def tail(self) -> None:
        """A bow to the right, with a point or a tuft at its end."""
        along = (self.x - self.a + 3) / 5.5
        bow = 0.75 * self.b - 1.5 * along**2
        x, y = self.x - self.a - 2.5, self.y - 0.75 * self.b + 1.5
        rope = (along >= 0) & (along <= 1) & (np.abs(self.y - bow) <= 1.2)
        arrow = self.are("tail", "arrow")
        self.fill(rope & ~self.are("tail", "none"), DEEP)
        self.fill(arrow & (np.abs(x) + np.abs(y) <= 3), DEEP, outline=True)
        self.fill(self.are("tail", "tuft") & disc(x, y, 2.9), PALE, outline=True)

    def wings(self) -> None:
        """Two wings of a bat, scalloped below."""
        along = (self.u - self.a + 2.5) / 7
        top, low = 0.5 - 8 * along, 4 - 5 * along + 1.3 * np.cos(4 * np.pi * along)
        spread = (along >= 0) & (along <= 1) & (self.y >= top) & (self.y <= low)
        self.fill(spread & self.are("wings", "wings"), PALE, outline=True)

    def horns(self) -> None:
        """Horns, ears or an antenna, on the top of the head."""
        up = (1.5 - 0.86 * self.b - self.y) / 7
        lean = np.abs(self.u - 0.48 * self.a - 1.6 * up)
        horn = (up >= 0) & (up <= 1) & (lean <= 2.6 * (1 - up) + 0.4)
        self.fill(horn & self.are("horns", "horns"), CREAM, outline=True)
        u, y = self.u - 0.66 * self.a, self.y + 0.86 * self.b
        ears = self.are("horns", "ears")
        self.fill(ears & disc(u, y, 3.6), SKIN, outline=True)
        self.fill(ears & disc(u, y, 1.8), PALE)
        antenna, y = self.are("horns", "antenna"), self.y + self.b
        self.fill(antenna & (self.u < 1) & (y <= 1) & (y >= -4), DARK)
        self.fill(antenna & disc(self.x, y + 4.5, 2.3), CREAM, outline=True)

    def body(self) -> np.ndarray:
        """Feet and body; gives the pixels inside its outline."""
        feet = disc(self.u - 0.5 * self.a, self.y - self.b, 2.9, flat=0.75)
        self.fill(feet & ~self.are("body", "ghost"), DEEP, outline=True)
        mask = body_mask(self.x / self.a, self.y / self.b, self.kinds["body"])
        self.fill(mask, SKIN, outline=True)
        within = inside(mask)
        shadow = within & ~np.roll(within, -2, axis=1)                 # its two lowest pixels
        self.fill(shadow, DEEP)
        return within

    def pattern(self, within: np.ndarray) -> None:
        """Spots, stripes or a pale belly, inside the body."""
        spots = np.zeros((SIDE, SIDE), bool)
        for x, y in ((-5, 2), (5, -5), (5, 3), (-2, -6), (-3, 6)):
            spots = spots | disc(self.x - x, self.y - y, 1.6)          # (1, S, S)
        self.fill(within & spots & self.are("pattern", "spots"), DEEP)
        stripes = self.y % 4 > 2                                       # the same rows in all
        self.fill(within & stripes & self.are("pattern", "stripes"), DEEP)
        belly = disc(self.x / self.a, self.y / self.b - 0.55, 0.62, flat=0.8)
        self.fill(within & belly & self.are("pattern", "belly"), PALE)

    def face(self) -> None:
        """One to three eyes, and a mouth with two teeth."""
        y = self.y + 2                                                 # the same rows in all
        for value, radius, pupil, places in (
                ("one", 3.6, 1.6, ((0, 0),)), ("two", 2.2, 0.9, ((3, 0),)),
                ("three", 2.0, 0.9, ((4, 1), (0, -2)))):
            for across, down in places:
                u, these = self.u - across, self.are("eyes", value)
                self.fill(these & disc(u, y - down, radius), WHITE)
                self.fill(these & disc(u, y - down, pupil), BLACK)
        below = np.floor(self.y - 0.42 * self.b)
        self.fill((self.u < 3) & (below == 0), DARK)
        self.fill((np.abs(self.u - 1.5) < 0.6) & (below == 1), WHITE)


def paint(chosen: np.ndarray, hues: np.ndarray, loose: np.ndarray) -> np.ndarray:
    """Creatures from attributes (N, A), hues (N,) and two loose numbers (N, 2) from -1 to 1.

    The loose ones are size and brightness.
    """
    creatures = Creatures(chosen, hues, loose)
    creatures.tail()
    creatures.wings()
    creatures.horns()
    within = creatures.body()
    creatures.pattern(within)
    creatures.face()
    each = np.arange(len(chosen))[:, None, None]
    return creatures.palette[each, creatures.places]                   # (N, S, S, 3)
