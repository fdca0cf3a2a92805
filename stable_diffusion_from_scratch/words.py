"""What is said of a scene: captions to train on, in many wordings, and prompts to test with.

Some captions leave out what could be said of size, position or background; then the picture
may have any, and that is what the model learns.
"""

# no shapes here: words

from collections import Counter
from collections.abc import Iterable

import numpy as np

from scenes import HELD_OUT, TRAINED, Scene, Thing, draw_scene
from tokenizer import split

SIZE_WORDS = {"small": ("small", "little"), "large": ("large", "big"), "medium": ()}
PLACE_WORDS = {"left": ("on the left", "at the left"),
               "right": ("on the right", "at the right"), "top": ("at the top",),
               "bottom": ("at the bottom",), "middle": ("in the middle", "in the centre"),
               "left of": ("left of", "to the left of"),
               "right of": ("right of", "to the right of"),
               "above": ("above",), "below": ("below", "under")}
BACKGROUND_WORDS = ("on a {} background", "on {}")
ARTICLES = ("a", "a", "the", "")
VOWELS = "aeiou"
TURNED = 0.15        # share of "circle in red"
MOST = 4000          # words of a vocabulary
LENGTHS = (16, 77)   # tokens of a row: at least, at most
PROMPT_SEED = 2**32  # from here on seeds belong to prompts: --seed ends below


def describe(thing: Thing, rng: np.random.Generator | None, size: bool) -> str:
    """A thing in words, its size only if asked for; without `rng` in the plainest wording."""
    sizes = SIZE_WORDS[thing.size] if size else ()
    article = ARTICLES[rng.integers(len(ARTICLES)) if rng else 0]
    how = sizes[rng.integers(len(sizes)) if rng else 0] if sizes else ""
    what = f"{thing.colour} {thing.shape}"
    if rng and rng.random() < TURNED:
        what = f"{thing.shape} in {thing.colour}"
    said = " ".join(filter(None, [how, what]))
    if article == "a" and said[0] in VOWELS:
        article = "an"
    return f"{article} {said}".strip()


def caption(scene: Scene, rng: np.random.Generator | None = None) -> str:
    """A scene in words: with `rng` in one of many wordings, without it in full and plainly."""

    def choice(words: tuple[str, ...], silent: float) -> str:
        if rng is None:
            return words[0]
        return "" if rng.random() < silent else words[rng.integers(len(words))]

    two = len(scene.things) == 2
    parts = [describe(thing, rng, rng is None or rng.random() < 0.7) for thing in scene.things]
    parts.insert(1, choice(PLACE_WORDS[scene.place], 0.0 if two else 0.4))
    parts.append(choice(BACKGROUND_WORDS, 0.2).format(scene.background))
    return " ".join(filter(None, parts))


def training_caption(scene: Scene, seed: int, index: int) -> str:
    """The wording of a training picture, a function of seed and number."""
    return caption(scene, np.random.default_rng((seed, index, 1)))


def prompts(kind: str, count: int, seed: int = 0) -> list[tuple[str, Scene]]:
    """Prompts in plain words, each with the scene that it asks for.

    `kind` is "trained": one thing, of a pair of colour and shape that training pictures have;
    "held-out": one of the other pairs; "two": two things and their relation.
    """
    pairs, two = {"trained": (TRAINED, 0.0), "held-out": (HELD_OUT, 0.0),
                  "two": (TRAINED, 1.0)}[kind]
    scenes = [draw_scene(PROMPT_SEED + seed, index, pairs, two) for index in range(count)]
    return [(caption(scene), scene) for scene in scenes]


def vocabulary(captions: Iterable[str]) -> tuple[list[str], int]:
    """The words of captions by the alphabet, the commonest if they are many; a row's length."""
    rows = [split(text) for text in captions]
    counts = Counter(word for row in rows for word in row)
    longest = max(map(len, rows)) + 2                       # and two marks
    commonest = sorted(counts, key=lambda word: (-counts[word], word))[:MOST]
    return sorted(commonest), min(max(LENGTHS[0], longest), LENGTHS[1])
