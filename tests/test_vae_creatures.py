"""Drawn creatures: what they are called is what they look like, and no part is in two sets."""

from types import SimpleNamespace

import numpy as np
import pytest

from support import load

vae = load("vae_from_scratch")
creatures = vae.creatures
ATTRIBUTES, SIDE = creatures.ATTRIBUTES, creatures.SIDE
COLOURS = ("WHITE", "SKIN", "DARK", "DEEP", "PALE", "CREAM", "BLACK")


def places(hue: float = 0.6, loose: tuple[float, ...] = (0, 0),
           **kinds: str) -> np.ndarray:
    """The palette numbers (S, S) of one creature, plain but for what is named."""
    row = [values.index(kinds.get(name, values[0])) for name, values in ATTRIBUTES.items()]
    image = creatures.paint(np.array([row]), np.float32([hue]), np.float32([loose]))[0]
    colours = creatures.palette(np.float32([hue]), np.float32([0.88 + 0.08 * loose[1]]))[0]
    same = (image[:, :, None] == colours).all(-1)
    assert same.any(-1).all() and len(colours) == len(COLOURS)     # no other colour is used
    return same.argmax(-1)


def count(image: np.ndarray, name: str) -> int:
    return int((image == getattr(creatures, name)).sum())


def boxed(image: np.ndarray) -> SimpleNamespace:
    rows, columns = np.nonzero(image != creatures.WHITE)
    return SimpleNamespace(top=rows.min(), bottom=rows.max(), left=columns.min(),
                           right=columns.max())


def test_combinations_are_split_for_good_and_every_value_is_in_each_part() -> None:
    parts, again = creatures.split(), creatures.split()
    rows = [set(map(tuple, part)) for part in parts]
    assert [len(part) for part in rows] == [1383, 86, 259] and sum(map(len, rows)) == 1728
    assert len(set.union(*rows)) == 1728 == creatures.COMBINATIONS
    for part, other in zip(parts, again):
        assert np.array_equal(part, other)
        for column, values in zip(part.T, ATTRIBUTES.values()):
            assert sorted(set(column)) == list(range(len(values)))


def test_the_same_seed_draws_the_same_creatures_and_all_combinations_take_turns() -> None:
    combinations = creatures.split()[1]
    first, again, other = (creatures.draw_many(combinations, 200, seed) for seed in (3, 3, 4))
    for one, two, three in zip(first, again, other):
        assert np.array_equal(one, two) and not np.array_equal(one, three)
    images, chosen, hues = first
    assert images.shape == (200, SIDE, SIDE, 3) and images.dtype == np.uint8
    assert chosen.shape == (200, 6) and hues.min() >= 0 and hues.max() < 1
    counts = np.unique(chosen, axis=0, return_counts=True)[1]
    assert set(counts) <= {2, 3} and len(counts) == len(combinations)


def test_many_are_drawn_as_well_as_few() -> None:
    """More than are drawn together: white around each, and something in the middle."""
    images, chosen, hues = creatures.draw_many(creatures.split()[0], 600, 0)
    inked = (images != 255).any(-1).sum((1, 2))
    assert (images[:, :3, :3] == 255).all() and (images[:, -3:, :3] == 255).all()
    assert 90 < inked.min() and inked.max() < 450, (inked.min(), inked.max())
    assert len(chosen) == len(hues) == 600


def test_a_creature_does_not_depend_on_those_drawn_with_it() -> None:
    rng = np.random.default_rng(0)
    chosen = creatures.split()[0][:300]
    hues, loose = rng.random(300, np.float32), rng.uniform(-1, 1, (300, 2)).astype(np.float32)
    whole = creatures.paint(chosen, hues, loose)
    assert np.array_equal(whole[17:18], creatures.paint(chosen[17:18], hues[17:18],
                                                        loose[17:18]))


@pytest.mark.parametrize(("part", "value", "colour", "where"), [
    ("wings", "wings", "PALE", (slice(None), slice(0, 6))),
    ("tail", "arrow", "DEEP", (slice(16, 28), slice(24, 32))),
    ("tail", "tuft", "PALE", (slice(16, 28), slice(24, 32))),
    ("horns", "horns", "CREAM", (slice(0, 10), slice(None))),
    ("horns", "ears", "PALE", (slice(6, 16), slice(None))),
    ("horns", "antenna", "CREAM", (slice(0, 8), slice(13, 19))),
    ("pattern", "belly", "PALE", (slice(18, 26), slice(12, 20))),
])
def test_a_part_is_where_it_belongs_and_only_if_it_is_named(
        part: str, value: str, colour: str, where: tuple[slice, slice]) -> None:
    assert count(places()[where], colour) == 0
    assert count(places(**{part: value})[where], colour) >= 3


def test_eyes_can_be_counted() -> None:
    one, two, three = (count(places(eyes=eyes), "BLACK") for eyes in ATTRIBUTES["eyes"])
    assert (one, two, three) == (12, 8, 12)
    columns = [np.nonzero((places(eyes=eyes) == creatures.BLACK).any(0))[0].tolist()
               for eyes in ATTRIBUTES["eyes"]]
    assert columns == [[14, 15, 16, 17], [12, 13, 18, 19], [11, 12, 15, 16, 19, 20]]


def test_patterns_differ_inside_the_body_only() -> None:
    plain = places()
    for pattern in ATTRIBUTES["pattern"][1:]:
        other = places(pattern=pattern)
        rows, columns = np.nonzero(plain != other)
        assert len(rows) > 15
        assert set(plain[rows, columns]) <= {creatures.SKIN, creatures.DEEP}
    assert count(places(pattern="stripes"), "DEEP") > count(plain, "DEEP") + 20
    assert count(places(pattern="spots"), "DEEP") > count(plain, "DEEP") + 8


def test_bodies_have_the_shape_of_their_names() -> None:
    box = {body: boxed(places(body=body)) for body in ATTRIBUTES["body"]}
    width = {body: each.right - each.left for body, each in box.items()}
    assert width["wide"] == max(width.values()) and width["tall"] == min(width.values())
    assert box["tall"].top == min(each.top for each in box.values())
    top = {body: int((places(body=body)[box[body].top + 1] != 0).sum()) for body in box}
    assert top["square"] > top["round"] > top["pear"]
    assert len(np.unique((places(body="ghost") != 0).sum(1))) > 3     # a hem, and no feet
    images = [places(body=body) for body in box]
    assert all((one != two).any() for i, one in enumerate(images) for two in images[:i])


@pytest.mark.parametrize("body", ATTRIBUTES["body"])
def test_left_and_right_are_alike_but_for_spots_and_the_tail(body: str) -> None:
    for horns in ATTRIBUTES["horns"]:
        image = places(body=body, horns=horns, wings="wings", eyes="three", pattern="stripes")
        assert np.array_equal(image, image[:, ::-1])
    assert not np.array_equal(places(tail="tuft"), places(tail="tuft")[:, ::-1])


@pytest.mark.parametrize("loose", [(-1, -1), (1, 1), (0, 0)])
def test_no_creature_leaves_its_picture(loose: tuple[float, ...]) -> None:
    every = np.concatenate(creatures.split())
    images = creatures.paint(every, np.full(len(every), 0.3, np.float32),
                             np.tile(np.float32(loose), (len(every), 1)))
    edge = np.ones((SIDE, SIDE), bool)
    edge[1:-1, 1:-1] = False
    outside = (images[:, edge] != 255).any(-1).sum(1)
    assert outside.max() <= 3                 # the tip of a tail may touch the frame


def test_loose_numbers_enlarge_and_brighten() -> None:
    small, large = (boxed(places(loose=(size, 0))) for size in (-1, 1))
    assert large.right - large.left > small.right - small.left
    dark, bright = (creatures.palette(np.float32([0.1]), np.float32([value])).mean()
                    for value in (0.8, 0.96))
    assert bright > dark


def test_hues_are_those_of_the_colour_wheel() -> None:
    hues = np.float32([0, 1 / 3, 2 / 3, 1 / 6])
    pure = np.round(creatures.tint(hues, 1.0, 1.0), 5).tolist()
    assert pure == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]]
    assert np.allclose(creatures.tint(np.float32([0.0]), 0.4, 0.5), [[0.5, 0.3, 0.3]])
    near, far = creatures.tint(np.float32([0.999, 0.001]), 0.6, 1.0)
    assert np.allclose(near, far, atol=0.02)
