"""Drawn shapes and what is said of them; the reader that must see what was drawn; folders."""

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from support import load

diffusion = load("stable_diffusion_from_scratch")
scenes, words, adherence = diffusion.scenes, diffusion.words, diffusion.adherence
data, folders, tokenizer = diffusion.data, diffusion.folders, diffusion.tokenizer
Refusal, Said = diffusion.console.Refusal, pytest.CaptureFixture
Thing, Scene = scenes.Thing, scenes.Scene


@pytest.fixture(scope="module")
def some() -> list[Scene]:
    return [scenes.draw_scene(0, index) for index in range(1000)]


def alone(shape: str, colour: str = "red", radius: float = 8.5, x: float = 16, y: float = 16,
          background: str = "black", place: str = "middle") -> Scene:
    return Scene(background, place, (Thing(colour, shape, "large", x, y, radius),))


# ---------------------------------------------------------------- scenes


def test_a_scene_depends_on_seed_and_number_alone(some: list[Scene]) -> None:
    np.random.default_rng(1).random(3)
    again = [scenes.draw_scene(0, index) for index in (999, 3, 3)]
    assert again == [some[999], some[3], some[3]]
    assert scenes.draw_scene(1, 3) != some[3] != some[4]
    many, few = (data.drawn_shapes(32, 5, counts) for counts in ((30, 4), (30, 2)))
    assert torch.equal(many.train.images, few.train.images)
    assert many.train.captions == few.train.captions
    assert torch.equal(many.validation.images[:2], few.validation.images)
    assert data.drawn_shapes(32, 6, (30, 4)).digest != many.digest != few.digest


def test_all_that_can_be_drawn_is_drawn_and_held_out_pairs_never(some: list[Scene]) -> None:
    things = [thing for scene in some for thing in scene.things]
    pairs = Counter((thing.colour, thing.shape) for thing in things)
    assert set(pairs) == set(scenes.TRAINED) and min(pairs.values()) > 15
    assert len(scenes.TRAINED) + len(scenes.HELD_OUT) == 8 * 4
    for colour in scenes.COLOURS:
        assert sum(pair[0] == colour for pair in scenes.TRAINED) >= 3
    assert 450 < sum(len(scene.things) == 2 for scene in some) < 550
    places = Counter(scene.place for scene in some)
    assert set(places) == {*scenes.POSITIONS, *scenes.RELATIONS} and min(places.values()) > 50
    assert {scene.background for scene in some} == set(scenes.BACKGROUNDS)


def test_things_lie_inside_and_apart_and_where_they_are_said_to(some: list[Scene]) -> None:
    for scene in some:
        for thing in scene.things:
            assert 0 <= min(thing.x, thing.y) - thing.radius
            assert max(thing.x, thing.y) + thing.radius <= 32
        first = scene.things[0]
        if len(scene.things) == 1:
            wanted = scenes.POSITIONS[scene.place]
            assert abs(first.x - 16 - wanted[0]) <= 1 and abs(first.y - 16 - wanted[1]) <= 1
            assert (first.radius > 7) == (first.size == "large")
        else:
            second = scene.things[1]
            assert first.colour != second.colour
            along, down = np.sign(scenes.RELATIONS[scene.place])
            distance = (first.x - second.x) * along + (first.y - second.y) * down
            assert distance >= 15 and distance - first.radius - second.radius >= 1.5 - 1e-9


@pytest.mark.parametrize(("shape", "area"), [("circle", np.pi), ("square", 1.76**2),
                                             ("triangle", 0.5 * 1.9 * 1.9),
                                             ("cross", 4 * 0.68 - 0.68**2)])
@pytest.mark.parametrize("side", [32, 64, 96])
def test_shapes_have_the_area_of_geometry_at_every_size(shape: str, area: float,
                                                        side: int) -> None:
    picture = scenes.paint([alone(shape, radius=9.0, x=15.3, y=16.4)], side)[0].astype(float)
    red, black = (np.array(colours[name]) for colours, name in
                  ((scenes.COLOURS, "red"), (scenes.BACKGROUNDS, "black")))
    covered = ((picture - black) @ (red - black) / ((red - black) @ (red - black))).sum()
    assert covered * (32 / side) ** 2 == pytest.approx(area * 81, rel=0.02)


def test_edges_are_smooth_and_the_middle_is_pure() -> None:
    picture = scenes.paint([alone("circle", "blue", background="white")])[0]
    assert picture[16, 16].tolist() == list(scenes.COLOURS["blue"])
    assert picture[0, 0].tolist() == list(scenes.BACKGROUNDS["white"])
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) >= 6
    flat = picture.astype(int)
    assert np.abs(flat - flat[:, ::-1]).max() <= 1 and np.abs(flat - flat[::-1]).max() <= 1
    rows = (scenes.paint([alone("triangle")])[0][..., 0] > 100).sum(axis=1)
    assert rows[9] < rows[16] < rows[22]


# ---------------------------------------------------------------- words


def test_captions_say_what_is_there_in_many_wordings(some: list[Scene]) -> None:
    captions = [words.training_caption(scene, 0, index) for index, scene in enumerate(some)]
    assert words.training_caption(some[7], 0, 7) == captions[7]
    for scene, text in zip(some, captions):
        said = words.split(text)
        for thing in scene.things:
            assert thing.colour in said and thing.shape in said
        colours = [word for word in said if word in scenes.COLOURS]
        assert colours == [thing.colour for thing in scene.things]
        assert not {"black", "white", "grey"} & set(said) - {scene.background}
        sizes = {thing.size for thing in scene.things}
        assert not {"small", "little"} & set(said) or sizes == {"small"}
        assert not {"large", "big"} & set(said) or sizes == {"large"}
        if len(scene.things) == 2:
            assert any(f" {word} " in text for word in words.PLACE_WORDS[scene.place])
    one = [text for scene, text in zip(some, captions) if len(scene.things) == 1]
    silent = sum("background" not in text and "on " not in text for text in one) / len(one)
    assert 0.05 < silent < 0.25
    assert 0.1 < sum(" in " in text and text.endswith(tuple(scenes.COLOURS)) or any(
        f"{shape} in " in text for shape in scenes.SHAPES) for text in captions) / 1000 < 0.3
    assert len(set(captions)) > 850 and not any("  " in text for text in captions)
    assert any(text.startswith("an orange") for text in captions)
    assert not any(text.startswith("a orange") for text in captions)


def test_prompts_are_plain_and_of_the_kind_that_was_asked_for() -> None:
    for kind, pairs, count in (("trained", scenes.TRAINED, 1), ("two", scenes.TRAINED, 2),
                               ("held-out", scenes.HELD_OUT, 1)):
        asked = words.prompts(kind, 60)
        assert asked == words.prompts(kind, 60) != words.prompts(kind, 60, seed=1)
        for text, scene in asked:
            assert len(scene.things) == count and text == words.caption(scene)
            assert all((thing.colour, thing.shape) in pairs for thing in scene.things)
            assert text.endswith(f"on a {scene.background} background")
    assert words.caption(alone("cross", "pink", place="left")) == (
        "a large pink cross on the left on a black background")
    two = Scene("grey", "below", (Thing("orange", "circle", "medium", 16, 24, 5.5),
                                  Thing("red", "square", "medium", 16, 8, 5.5)))
    assert words.caption(two) == "an orange circle below a red square on a grey background"


def test_beside_a_slanted_edge_the_distance_is_the_shortest_way() -> None:
    for away in (-0.7, 0.0, 2.0):
        x, y = 4 + 2 * away / 5**0.5, -away / 5**0.5      # across the middle of the side
        found = scenes.edges(np.array(x), np.array(y), np.array(8.0))
        assert found[scenes.SHAPES.index("triangle")] == pytest.approx(away)


def test_no_seed_that_can_be_given_draws_what_prompts_ask_for() -> None:
    largest = 2**32 - 1      # that --seed takes
    asked = {scene for number in range(3) for _, scene in words.prompts("trained", 30, number)}
    for seed in (largest, largest - 1, 2**31, 2**31 + 2):
        assert not asked & {scenes.draw_scene(seed, index) for index in range(60)}
    assert words.PROMPT_SEED > largest


def test_the_vocabulary_knows_every_prompt(some: list[Scene]) -> None:
    captions = [words.training_caption(scene, 0, index) for index, scene in enumerate(some)]
    known, length = words.vocabulary(captions)
    reader = tokenizer.WordTokenizer(known, length)
    assert known == sorted(known) and len(known) < 60
    for kind in ("trained", "held-out", "two"):
        for text, _ in words.prompts(kind, 100):
            assert not reader.remarks(text) and reader.decode(reader.encode(text)) == text
    assert length == max(len(words.split(text)) for text in captions) + 2
    assert words.vocabulary(["one"]) == (["one"], 16)
    assert words.vocabulary([" ".join(["word"] * 200)])[1] == 77
    many = [f"w{number:05} common" for number in range(5000)]
    known = words.vocabulary(many)[0]
    assert len(known) == words.MOST and "common" in known


# ---------------------------------------------------------------- the reader


def test_the_reader_sees_what_was_drawn_and_chance_where_words_are_shuffled(
        some: list[Scene]) -> None:
    some = some[:500]
    images = scenes.paint(some)
    right = adherence.shares(images, some)
    assert min(right.values()) >= 0.995
    wrong = adherence.shares(images, [*some[1:], some[0]])
    assert wrong["colour"] < 0.15 and wrong["shape"] < 0.25 and wrong["both"] < 0.08
    noise = np.random.default_rng(0).normal(0, 12, images[:200].shape)
    noisy = (images[:200] + noise).clip(0, 255).astype(np.uint8)
    assert adherence.shares(noisy, some[:200])["everything"] >= 0.99


def test_larger_pictures_are_read_as_well(some: list[Scene]) -> None:
    assert min(adherence.shares(scenes.paint(some[:80], 64), some[:80]).values()) >= 0.98


@pytest.mark.parametrize("shape", scenes.SHAPES)
def test_a_thing_is_found_with_colour_shape_and_place(shape: str) -> None:
    seen, = adherence.read(scenes.paint([alone(shape, "cyan", 6, 11, 20.5, "grey")])[0])
    assert (seen.colour, seen.shape) == ("cyan", shape)
    assert abs(seen.x - 11) < 0.4 and abs(seen.y - 20.5) < 0.6


def test_blobs_and_frames_are_no_shape_and_an_empty_picture_is_empty() -> None:
    empty = scenes.paint([alone("circle", radius=0.01)])[0]
    assert adherence.read(empty) == []
    bars = empty.copy()
    bars[14:18, 3:29] = scenes.COLOURS["red"]
    ring = scenes.paint([alone("circle", radius=10)])[0]
    ring[10:22, 10:22] = scenes.BACKGROUNDS["black"]
    for picture in (bars, ring):
        assert [seen.shape for seen in adherence.read(picture)] == [adherence.NOTHING]
        assert not adherence.judge(adherence.read(picture), alone("square")).shape
    specks = empty.copy()
    specks[3, 3:5] = specks[20:22, 7] = 255
    assert adherence.read(specks) == []


def test_the_judge_wants_the_number_the_colours_and_the_order() -> None:
    red, blue = (adherence.Seen(colour, "circle", x, 16, 90) for colour, x in
                 (("red", 8), ("blue", 24)))
    things = (Thing("red", "circle", "medium", 8, 16, 5), Thing("blue", "circle", "medium", 24,
                                                               16, 5))
    asked = Scene("black", "left of", things)
    for seen in ([red, blue], [blue, red]):
        assert adherence.judge(seen, asked).everything
        swapped = adherence.judge(seen, asked._replace(place="right of"))
        assert swapped.both and not swapped.relation
        assert not adherence.judge(seen, asked._replace(place="above")).relation
    assert adherence.judge([red], asked) == (False, False, False)
    assert adherence.judge([red, blue], alone("circle")) == (False, False, False)
    other = adherence.judge([red, blue._replace(colour="green")], asked)
    assert other == (False, True, False)
    square = adherence.judge([red._replace(shape="square"), blue], asked)
    assert square == (True, False, True) and not square.both
    crossed = Scene("black", "left of", (things[0], things[1]._replace(shape="cross")))
    assert not adherence.judge([red._replace(shape="cross"), blue], crossed).shape


@pytest.mark.parametrize("relation", scenes.RELATIONS)
def test_a_relation_is_seen_within_60_degrees(relation: str) -> None:
    way = np.array(scenes.RELATIONS[relation]) / 8
    aside = way[::-1]
    for degrees, wanted in ((0, True), (50, True), (-50, True), (70, False), (80, False),
                            (-80, False), (100, False), (180, False)):
        turn = np.radians(degrees)
        places_ = 16 + np.outer((6, -6), np.cos(turn) * way + np.sin(turn) * aside)
        seen = [adherence.Seen(colour, "circle", x, y, 90)
                for colour, (x, y) in zip(("red", "blue"), places_)]
        things = tuple(Thing(one.colour, "circle", "medium", 16, 16, 6) for one in seen)
        assert adherence.apart(*seen, relation) == wanted, degrees
        found = adherence.judge(seen, Scene("black", relation, things))
        assert found.both and found.relation == wanted, degrees


def test_pieces_are_those_that_hang_together() -> None:
    mask = np.zeros((9, 9), bool)
    mask[1, 1:8] = mask[1:8, 1] = mask[7, 1:8] = True             # a bracket
    mask[3:5, 4] = True
    mask[5, 5] = True                                             # touches only at a corner
    found = adherence.pieces(mask)
    assert [piece.sum() for piece in found] == [19, 2, 1]
    assert (np.sum(found, axis=0) == mask).all()


def test_wilsons_interval() -> None:
    """Its ends are where (p - share)² = Z² p (1 - p) / N."""
    for p in adherence.wilson(19, 20):
        assert (p - 19 / 20) ** 2 == pytest.approx(adherence.Z**2 * p * (1 - p) / 20)
    low, high = adherence.wilson(243, 256)
    assert (low, high) == (pytest.approx(0.9152, abs=1e-3), pytest.approx(0.9700, abs=1e-3))
    assert all(adherence.wilson(0, count)[0] >= 0 for count in range(1, 100))
    assert all(adherence.wilson(count, count)[1] <= 1 for count in range(1, 100))
    assert adherence.wilson(256, 256) == pytest.approx((256 / (256 + adherence.Z**2), 1))
    assert adherence.wilson(0, 20) == pytest.approx((0, adherence.Z**2 / (20 + adherence.Z**2)))


# ---------------------------------------------------------------- folders


def make_folder(folder: Path, count: int = 12) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"picture_{number:02}.png" for number in range(count)]
    for number, path in enumerate(paths):
        Image.new("RGB", (40 + number, 30), (10 * number, 5, 9)).save(path)
        path.with_suffix(".txt").write_text(f" Picture\nnumber  {number} \n", encoding="utf-8")
    return paths


def test_a_folder_is_read_with_its_texts(tmp_path: Path, capsys: Said,
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    paths = make_folder(tmp_path / "own", 20)
    paths[3].with_suffix(".txt").unlink()
    (tmp_path / "own" / "broken.png").write_bytes(b"no picture")
    (tmp_path / "own" / "broken.txt").write_text("broken", encoding="utf-8")
    found = data.load(str(tmp_path / "own"), tmp_path, 16, seed=3)
    assert found.train.images.shape == (18, 16, 16, 3) and len(found.validation.captions) == 1
    for images, captions in (found.train, found.validation):
        for image, text in zip(images, captions):
            number = int(text.removeprefix("Picture number "))
            assert image[8, 8].tolist() == [10 * number, 5, 9]
    said = capsys.readouterr().err
    assert "left out 1 of 21 pictures" in said and "left out 1 of 20 files" in said
    again = data.load("gone/own", tmp_path, 16, seed=3, workers=2)     # looked for in data_dir
    other = data.load(str(tmp_path / "own"), tmp_path, 16, seed=4)
    assert again.digest == found.digest != other.digest
    monkeypatch.setattr(data, "QUICK", (5, 1))
    few = data.load(str(tmp_path / "own"), tmp_path, 16, seed=3, quick=True)
    assert few.train.captions == found.train.captions[:5] and len(few.validation.captions) == 1


@pytest.mark.parametrize("header", [True, False])
def test_a_table_says_what_pictures_show(header: bool, tmp_path: Path) -> None:
    paths = make_folder(tmp_path)
    with (tmp_path / "captions.csv").open("w", newline="", encoding="utf-8") as file:
        rows = [["file", "text"]] * header
        rows += [[path.name, f"no, {path.stem}"] for path in paths]
        csv.writer(file).writerows(rows)
    images, captions = folders.read_folder(tmp_path, 8)
    assert captions == [f"no, {path.stem}" for path in paths] and images.shape == (12, 8, 8, 3)


def test_what_cannot_be_used_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="is neither a data set nor a folder: use shapes, or a"):
        data.load(str(tmp_path / "none"), tmp_path)
    make_folder(tmp_path, 9)
    with pytest.raises(Refusal, match="has 9 pictures with captions, at least 10 are needed"):
        data.load(str(tmp_path), tmp_path)
    table = tmp_path / "captions.csv"
    for text, words_ in (("picture_00.png\n", "row 1 of .* has one cell"),
                         ("picture_00.png,a cat, asleep\n", "row 1 of .* has 3 cells: put quo"),
                         ("picture_00.png,a\nlost.png,b\n", "names lost.png, which is not"),
                         ("", "has 0 pictures with captions")):
        table.write_text(text, encoding="utf-8")
        with pytest.raises(Refusal, match=words_):
            data.load(str(tmp_path), tmp_path)
    table.write_bytes(b"picture_00.png,\xff\xfe\n")
    with pytest.raises(Refusal, match="cannot be read"):
        data.load(str(tmp_path), tmp_path)
    for name, words_ in (("none.png", "there is no file"),
                         ("captions.csv", "is not a picture")):
        with pytest.raises(ValueError, match=words_):
            folders.read_square(tmp_path / name, 8)


def test_transparent_pixels_are_white_and_photographs_are_turned_upright(
        tmp_path: Path, shared: Callable) -> None:
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    clear.putpixel((4, 4), (255, 0, 0, 255))
    clear.save(tmp_path / "clear.png")
    square = folders.read_square(tmp_path / "clear.png", 8)
    assert square[0, 0].tolist() == [255] * 3 and square[4, 4].tolist() == [255, 0, 0]
    turned = Image.new("RGB", (16, 16), "black")
    turned.paste("white", (0, 0, 16, 4))
    exif = Image.Exif()
    exif[0x0112] = 3
    turned.save(tmp_path / "turned.png", exif=exif)
    square = folders.read_square(tmp_path / "turned.png", 16)
    assert square[0].max() == 0 and square[15].min() == 255
    deep = Image.fromarray(np.full((9, 9), 65535, np.uint16))
    deep.save(tmp_path / "deep.png")
    assert folders.read_square(tmp_path / "deep.png", 8).min() == 255
