"""The table of evaluate.py: painters whose answers are known, and what cannot be measured."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from sd_tiny import TINY, save_tiny
from support import ROOT, load

sd = load("stable_diffusion_from_scratch")
evaluating, measures, scenes, words = sd.evaluate, sd.measures, sd.scenes, sd.words
checkpoint, Scene = sd.checkpoint, sd.scenes.Scene
Patch, Said = pytest.MonkeyPatch, pytest.CaptureFixture
FOLDER = "stable_diffusion_from_scratch"
PRETRAINED = ROOT / FOLDER / "pretrained.pt"
EVERY = sorted(set(scenes.COLOURS) | set(scenes.SHAPES) | set(TINY["tokenizer"]["words"])
               | {word for kind in ("two", "trained") for text, _ in words.prompts(kind, 90)
                  for word in words.split(text)})
CONFIG = {**TINY, "data": "shapes",
          "tokenizer": {"kind": "words", "length": 20, "words": EVERY},
          "text": {**TINY["text"], "vocabulary": len(EVERY) + 2, "positions": 20}}


@pytest.fixture(scope="module")
def painter() -> sd.painter.Painter:
    """An untrained model that draws something, whatever it is asked for."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    return sd.painter.Painter(sd.model.build(CONFIG), CONFIG, torch.device("cpu"))


class Oracle:
    """Draws exactly what it is asked for, and without a prompt a blue circle."""

    size = (32, 32)

    def __init__(self, kind: str = "trained") -> None:
        self.known = {text: scene for number in (0, 1)
                      for text, scene in words.prompts(kind, 80, number)}
        self.seeds: list[int] = []

    def draw(self, texts: list[str], seeds: list[int], **_how: object) -> Tensor:
        thing = scenes.Thing("blue", "circle", "large", 16, 16, 8.5)
        silent = Scene("black", "middle", (thing,))
        self.seeds += seeds
        drawn = scenes.paint([self.known.get(text, silent) for text in texts])
        return torch.from_numpy(drawn)


# ---------------------------------------------------------------- what is counted


@pytest.mark.parametrize("kind", ["trained", "held-out", "two"])
def test_a_painter_that_obeys_is_right_and_a_deaf_one_is_at_chance(kind: str) -> None:
    oracle, asked = Oracle(kind), words.prompts(kind, 80)
    right = measures.adherence(oracle, asked, seed=7)
    assert min(right.values()) >= 0.98 and oracle.seeds == list(range(7, 87))
    silent = measures.adherence(oracle, asked, seed=7, silent=True)
    first = [scene.things[0] for _, scene in asked]
    wanted = 0 if kind == "two" else np.mean([thing.colour == "blue" for thing in first])
    assert silent["colour"] == wanted and silent["both"] <= silent["shape"] < 0.5


def test_unseen_pictures_are_read_through_a_perfect_autoencoder(painter: object) -> None:
    images, seen = measures.unseen(40, 32)
    assert images.shape == (40, 32, 32, 3) and len(seen) == 40
    drawn = {scenes.draw_scene(0, index) for index in range(500)}
    assert not drawn & set(seen)
    found = measures.autoencoder(painter, images)
    known = sd.validation.encode_all(painter.pipe.model, images, torch.device("cpu"))
    back = painter.pipe.pictures(known.mean)
    assert torch.equal(found.pictures, back)
    square = ((back.double() - images.double()) / 127.5).square().mean().item()
    assert found.decibels == pytest.approx(10 * np.log10(4 / square), abs=1e-3)
    draws = known.mean + known.deviation * torch.randn(known.mean.shape)
    assert found.deviation == pytest.approx(draws.std().item(), rel=0.02)


@pytest.mark.parametrize(("looks", "wanted"), [("thing", 1.0), ("corner", 0.0)])
def test_pointing_follows_the_map_of_the_shapes_word(looks: str, wanted: float,
                                                     monkeypatch: Patch) -> None:
    oracle, asked = Oracle(), words.prompts("trained", 40, seed=1)
    reader = sd.tokenizer.from_state(CONFIG["tokenizer"])
    model = SimpleNamespace(unet=SimpleNamespace(last_looks=["last"]),
                            vae=SimpleNamespace(factor=4))
    oracle.pipe = SimpleNamespace(model=model, tokenizer=reader,
                                  draw=lambda texts, seeds, size, **how: oracle.draw(
                                      texts, list(seeds)))
    done = []

    class Maps:
        def __init__(self, size: tuple[int, int], count: int, layers: list[str]) -> None:
            self.count = count
            assert size == (8, 8) and layers == ["last"]

        def maps(self) -> Tensor:
            maps = torch.zeros(self.count, 20, 8, 8)
            for own, (text, scene) in zip(maps, asked[len(done) :]):
                own[:, 0, 0] = 0.5                         # all other words look elsewhere
                thing = scene.things[0]
                place = words.split(text).index(thing.shape) + 1
                own[place] = 0
                at = (int(thing.y) // 4, int(thing.x) // 4)
                own[place][at if looks == "thing" else (0, 0)] = 1
            done.extend(range(self.count))
            return maps

    monkeypatch.setattr(measures, "WordMaps", Maps)
    monkeypatch.setattr(measures, "watched", lambda *_: contextlib.nullcontext())
    hit, chance = measures.pointing(oracle, 40, 0)
    assert hit == wanted and 0.15 < chance < 0.6


def test_near_is_the_largest_thing_and_two_pixels_around(painter: object) -> None:
    thing = scenes.Thing("red", "square", "large", 16, 16, 8 / 0.88)
    scene = Scene("white", "middle", (thing,))
    mask = measures.near(scenes.paint([scene])[0])
    assert mask[8:24, 8:24].all() and mask[6, 16] and not mask[5, 16] and not mask[6, 6]
    assert not measures.near(np.zeros((32, 32, 3), np.uint8)).any()


def test_holes_ask_for_another_colour_of_the_same_thing() -> None:
    pairs = measures.holes(50)
    for scene, other in pairs:
        one, two = scene.things[0], other.things[0]
        assert one.colour != two.colour and one._replace(colour=two.colour) == two
        assert (two.colour, two.shape) in scenes.TRAINED and one.size == "small"
        assert max(abs(one.x - 16), abs(one.y - 16)) + one.radius < 8
    assert len({two.things[0].colour for _, two in pairs}) == 8


def test_what_shall_stay_is_the_round_trip_to_the_bit(painter: object,
                                                      monkeypatch: Patch) -> None:
    found = measures.inpainting(painter, 4, 0, steps=3, guidance=3.0)
    assert found.latents == 0 and 0 <= found.colour <= 1
    kept = sd.pipeline.Pipeline.keep
    monkeypatch.setattr(sd.pipeline.Pipeline, "keep", lambda self, *given: kept(self, *given)
                        + 1e-3)
    assert measures.inpainting(painter, 4, 0, steps=3, guidance=3.0).latents > 5e-4


class Filler:
    """A painter of one latent a pixel that fills holes with what it is told, a bit darker."""

    size, device, dtype, exact = (32, 32), torch.device("cpu"), torch.float32, torch.float32
    model = SimpleNamespace(vae=SimpleNamespace(factor=1, latents=3))

    def __init__(self, count: int, deaf: bool) -> None:
        self.pipe, self.deaf, self.seeds = self, deaf, []
        self.known = {words.caption(scene): scene for pair in measures.holes(count)
                      for scene in pair}

    def draw(self, texts: list[str], seeds: list[int], _size: object = None, *, image: Tensor,
             mask: Tensor, watch: object, **_how: object) -> Tensor:
        self.seeds += seeds
        watch(0, image + mask, image)
        painted = torch.from_numpy(scenes.paint([self.known[text] for text in texts]))
        drawn = self.pictures(image) if self.deaf else painted
        return (drawn.int() - 2).clamp(min=0).byte()

    def encode(self, image: Tensor, noise: Tensor) -> Tensor:
        assert image.shape == noise.shape
        return image

    def pictures(self, latents: Tensor) -> Tensor:
        return ((latents + 1) * 127.5).round().byte().permute(0, 2, 3, 1)


@pytest.mark.parametrize("deaf", [False, True])
def test_holes_are_filled_with_what_was_asked_for_and_not_with_what_was_there(
        deaf: bool) -> None:
    """Only what is around them is compared with the picture: here it is two levels darker."""
    painter = Filler(40, deaf)
    found = measures.inpainting(painter, 40, 7)
    assert (found.colour, found.latents, found.levels) == (0 if deaf else 1, 0, 2)
    assert found.both == 0 if deaf else found.both >= 0.95
    assert painter.seeds == list(range(7, 47))


# ---------------------------------------------------------------- the table


def test_a_row_has_the_interval_of_everything(capsys: Said) -> None:
    right = dict(zip(evaluating.NAMES, (0.9, 0.8, 0.7, 0.6, 0.5)))
    assert evaluating.rows(100, [("as asked", right)]) == {"as asked": right}
    cells = capsys.readouterr().out.split()
    assert cells == ["as", "asked", "100", "90.0%", "80.0%", "70.0%", "60.0%", "50.0%", "40.4%",
                     "to", "59.6%"]


def test_every_row_asks_for_its_kind_of_prompts(monkeypatch: Patch) -> None:
    given = []

    def judged(_painter: object, asked: list, seed: int, silent: bool = False,
               **how: object) -> dict[str, float]:
        given.append((asked, seed, silent, how))
        return dict.fromkeys(evaluating.NAMES, 0.5)

    monkeypatch.setattr(evaluating, "adherence", judged)
    names = [name for name, _ in evaluating.read_drawn(None, SimpleNamespace(count=5, seed=3),
                                                       {"steps": 2})]
    wanted = {"as asked": ("trained", False), "without a prompt": ("trained", True),
              "held-out pairs": ("held-out", False), "two things, related": ("two", False)}
    assert names == list(wanted)
    assert given == [(words.prompts(kind, 5), 3, silent, {"steps": 2})
                     for kind, silent in wanted.values()]


@pytest.fixture(scope="module")
def best(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("best") / "best.pt"
    torch.manual_seed(0)
    checkpoint.save(path, {"folder": FOLDER, "config": CONFIG,
                           "model": sd.model.build(CONFIG).state_dict()})
    return path


def test_the_table_has_every_row(best: Path, capsys: Said, monkeypatch: Patch) -> None:
    monkeypatch.setattr(evaluating, "PICTURES", 60)
    ask = ["--checkpoint", str(best), "--count", "6", "--steps", "2"]
    assert evaluating.main(ask) == 0
    said = capsys.readouterr().out
    table = {line[:30].strip(): line[30:].split() for line in said.splitlines()[1:8]}
    assert list(table) == ["real pictures", "real, captions shuffled",
                           "real, through the autoencoder", "as asked", "without a prompt",
                           "held-out pairs", "two things, related"]
    assert table["real pictures"][:6] == ["60", *["100.0%"] * 5]
    shuffled = [float(cell.strip("%")) for cell in table["real, captions shuffled"][1:4]]
    assert shuffled[0] < 30 and shuffled[1] < 40 and shuffled[2] < 20
    assert [row[0] for row in list(table.values())[3:]] == ["6"] * 4
    for words_ in ("PSNR", "looked at most on the thing", "filled holes", "ddim, 2 steps"):
        assert words_ in said
    assert "kept latents differ by 0," in said
    assert evaluating.main(ask) == 0
    again = capsys.readouterr().out
    assert again.splitlines()[:-1] == said.splitlines()[:-1]


def test_a_model_of_something_else_is_refused(tmp_path: Path, capsys: Said) -> None:
    path = save_tiny(tmp_path / "best.pt")
    assert evaluating.main(["--checkpoint", str(path)]) == 1
    assert "the reader knows drawn shapes only" in capsys.readouterr().err
    for flag in ("--count=0", "--steps=1001", "--guidance=-1", "--sampler=heun"):
        with pytest.raises(SystemExit, match="2"):
            evaluating.main(["--checkpoint", str(path), flag])


# ---------------------------------------------------------------- the committed weights


@pytest.fixture(scope="module")
def trained() -> Iterator[sd.painter.Painter]:
    torch.set_num_threads(1)
    yield sd.painter.Painter.open(PRETRAINED, torch.device("cpu"), "fp32")


def test_the_pretrained_model_follows_prompts(trained: sd.painter.Painter) -> None:
    assert PRETRAINED.stat().st_size <= 12_000_000
    images, _ = measures.unseen(60, 32)
    found = measures.autoencoder(trained, images)
    assert found.decibels >= 27 and abs(found.deviation - 1) <= 0.05
    right = measures.adherence(trained, words.prompts("trained", 48), 0, steps=10, guidance=3.0)
    assert right["both"] >= 0.9
