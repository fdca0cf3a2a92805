"""What visualize.py shows is what was drawn; sheets, maps and masks say what they should."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from sd_peers import sd
from sd_tiny import PROMPTS, TINY, save_tiny, tiny

pictures, gallery, looking, visualize = sd.pictures, sd.gallery, sd.looking, sd.visualize
floats, Refusal = sd.pipeline.floats, sd.console.Refusal
HOW = {"guidance": 2.0, "steps": 4, "sampler": "ddim", "negative": ""}
FIRST, THEN = PROMPTS[:2]


@pytest.fixture(scope="module")
def painter() -> sd.painter.Painter:
    return sd.painter.Painter(tiny(2), TINY, torch.device("cpu"))


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, list[str], list[str]]]:
    """The pictures of each sheet that is made, with the words above and beside them."""
    found, label = [], pictures.labelled

    def kept(images: Tensor, columns: list, rows: list = ()) -> Image.Image:
        found.append((images, list(columns), list(rows)))
        return label(images, columns, rows)

    monkeypatch.setattr(pictures, "labelled", kept)
    return found


def near(first: Tensor, second: Tensor) -> bool:
    """Whether bytes differ by one at most."""
    return first.shape == second.shape and (first.int() - second.int()).abs().max() <= 1


def noise(*shape: int) -> Tensor:
    """Random bytes."""
    return torch.randint(256, shape, dtype=torch.uint8)


# ---------------------------------------------------------------- sheets


@pytest.mark.parametrize(("side", "zoom"), [(32, 3), (64, 2), (95, 2), (96, 1), (512, 1)])
def test_every_pixel_of_a_sheet_is_in_its_place(side: int, zoom: int) -> None:
    images = noise(5, side, side, 3)
    sheet = np.array(pictures.tile(images, 3))
    assert sheet.shape == ((2 * (side + 1) + 1) * zoom, (3 * (side + 1) + 1) * zoom, 3)
    plain = sheet[::zoom, ::zoom]
    assert np.array_equal(np.repeat(np.repeat(plain, zoom, 0), zoom, 1), sheet)
    for number, image in enumerate(images.numpy()):
        y, x = number // 3 * (side + 1) + 1, number % 3 * (side + 1) + 1
        assert np.array_equal(plain[y : y + side, x : x + side], image)
    assert (plain[0] == pictures.GREY).all() and (plain[:, side + 1] == pictures.GREY).all()


def test_words_stand_above_and_beside_their_pictures() -> None:
    images = torch.full((4, 40, 30, 3), 200, dtype=torch.uint8)
    plain = np.array(pictures.tile(images, 2))
    sheet = np.array(pictures.labelled(images, ["", "word"], ["row", ""]))
    top, left = sheet.shape[0] - plain.shape[0], sheet.shape[1] - plain.shape[1]
    assert np.array_equal(sheet[top:, left:], plain) and top > 12 and left > 20
    half, middle = left + plain.shape[1] // 2, top + plain.shape[0] // 2
    ink = sheet.mean(2) < 100
    assert ink[:top, half:].any() and not ink[:top, :half].any()
    assert ink[top:middle, :left].any() and not ink[middle:, :left].any()
    assert pictures.labelled(images, ["", ""]).size == pictures.tile(images, 2).size
    assert pictures.labelled(images, ["", ""], ["word " * 99, ""]).width < 700


def test_a_map_is_bright_where_it_is_large() -> None:
    maps = torch.zeros(2, 8, 8)
    maps[0, 2, 5], maps[1, 6, 1] = 3.0, 1e-3
    found = pictures.heat(torch.zeros(8, 8, 3, dtype=torch.uint8), maps).float().mean(3)
    assert found.shape == (2, 8, 8) and found[0, 2, 5] == found[1, 6, 1] == found.max()
    assert found.flatten(1).argmax(1).tolist() == [2 * 8 + 5, 6 * 8 + 1]
    white = pictures.heat(torch.full((8, 8, 3), 255, dtype=torch.uint8), maps).float().mean(3)
    assert (white - found).min() > 60                   # the drawing shines through
    assert not pictures.heat(torch.zeros(8, 8, 3), torch.ones(1, 8, 8)).isnan().any()


def test_many_words_stand_in_rows(shown: list) -> None:
    picture, maps = noise(48, 48, 3), torch.rand(14, 48, 48)
    sheet = np.array(pictures.attended(picture, [f"w{n}" for n in range(14)], maps))
    assert [names for _, names, _ in shown] == [["", *(f"w{n}" for n in range(11))],
                                                ["w11", "w12", "w13"]]
    rows = [np.array(pictures.labelled(images, names)) for images, names, _ in list(shown)]
    assert torch.equal(shown[0][0][0], picture)
    assert torch.equal(shown[1][0], pictures.heat(picture, maps)[11:])
    assert np.array_equal(sheet[: len(rows[0])], rows[0])
    assert np.array_equal(sheet[len(rows[0]) :, : rows[1].shape[1]], rows[1])


def test_latents_are_grey_about_the_middle() -> None:
    latents = torch.tensor([[-9.0, -2.5, 0.0, 1.25, 2.5, 9.0]]).reshape(1, 6, 1, 1)
    found = pictures.grey(latents)
    assert found.shape == (6, 1, 1, 3)
    assert found[:, 0, 0, 1].tolist() == [0, 0, 128, 191, 255, 255]


# ---------------------------------------------------------------- pictures to begin with


def save(path: Path, image: Image.Image) -> Path:
    """Write a picture and give its path."""
    image.save(path)
    return path


def test_a_picture_keeps_its_size_or_is_cut_around_its_middle(tmp_path: Path) -> None:
    pixels = noise(20, 40, 3)
    path = save(tmp_path / "wide.png", Image.fromarray(pixels.numpy()))
    picture, mask = gallery.find(path, None, None)
    assert mask is None and torch.equal(picture, floats(pixels[None]))
    assert torch.equal(gallery.find(path, None, (20, 20))[0], floats(pixels[None, :, 10:30]))
    assert gallery.find(path, None, (8, 24))[0].shape == (1, 3, 8, 24)
    assert gallery.find(None, None, (8, 24)) == (None, None)


def test_a_picture_is_upright_and_on_white(tmp_path: Path) -> None:
    ghost = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    path = save(tmp_path / "ghost.png", ghost)
    assert torch.equal(gallery.find(path, None, None)[0], torch.ones(1, 3, 8, 8))
    turned = Image.new("RGB", (12, 8))
    exif = turned.getexif()
    exif[0x0112] = 6                                    # to be turned by a quarter
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert gallery.find(tmp_path / "turned.jpg", None, None)[0].shape == (1, 3, 12, 8)


def test_a_mask_is_one_where_it_is_white(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", Image.new("RGB", (4, 2)))
    levels = np.uint8([[0, 127, 128, 255], [0, 0, 0, 200]])
    mask = save(tmp_path / "m.png", Image.fromarray(levels))
    found = gallery.find(path, mask, None)[1]
    assert found.tolist() == [[[[0, 0, 1, 1], [0, 0, 0, 1]]]]
    assert gallery.find(path, mask, (16, 16))[1].unique().tolist() == [0, 1]
    for size in ((2, 4), (4, 3)):
        other = save(tmp_path / "o.png", Image.new("L", size, 255))
        with pytest.raises(Refusal, match="make them equal"):
            gallery.find(path, other, (8, 8))


# ---------------------------------------------------------------- words


def test_words_have_places_in_the_row_of_tokens() -> None:
    words = sd.tokenizer.WordTokenizer(["a", "red", "circle"], 6)
    assert looking.words_of(words, "A purple red CIRCLE") == [
        ("a", [1]), ("red", [2]), ("circle", [3])]
    assert looking.words_of(words, "red " * 9) == [("red", [n]) for n in (1, 2, 3, 4)]
    clip = sd.tokenizer.ClipTokenizer([("r", "e"), ("re", "d</w>")], 16)
    assert looking.words_of(clip, "red on red") == [
        ("red", [1]), ("on", [2, 3]), ("red", [4])]
    for text in ("on red", "red no"):
        row = clip([text])[0]
        for word, places in looking.words_of(clip, text):
            assert clip.decode(row[places].tolist()) == word
    assert looking.words_of(clip, "") == []


def test_a_look_has_the_map_of_every_word(painter: sd.painter.Painter) -> None:
    found = looking.look(painter, THEN, 3, **HOW)
    assert found.words == THEN.split() and found.maps.shape == (4, 32, 32)
    assert near(found.picture[None], painter.draw([THEN], [3], **HOW))
    maps = sd.pipeline.WordMaps((8, 8), 1, painter.pipe.model.unet.last_looks)
    with sd.attention.watched(painter.pipe.model.unet, maps):
        painter.draw([THEN], [3], **HOW)
    for place, mine in enumerate(found.maps, start=1):
        expected = torch.nn.functional.interpolate(maps.maps()[:, place : place + 1], (32, 32),
                                                   mode="bilinear")[0, 0]
        assert torch.allclose(mine, expected, atol=1e-6)
    image = torch.zeros(1, 3, 16, 24)
    assert looking.look(painter, THEN, 3, image=image, strength=0.5, **HOW
                        ).maps.shape == (4, 16, 24)


def test_a_word_of_several_tokens_has_all_their_shares() -> None:
    clip = sd.tokenizer.ClipTokenizer([("r", "e"), ("re", "d</w>")], 16)
    config = {**TINY, "text": {**TINY["text"], "vocabulary": len(clip)},
              "tokenizer": clip.state()}
    painter = sd.painter.Painter(sd.model.build(config), config, torch.device("cpu"))
    found = looking.look(painter, "on red", 0, (16, 16), **HOW)
    maps = sd.pipeline.WordMaps((4, 4), 1, painter.pipe.model.unet.last_looks)
    with sd.attention.watched(painter.pipe.model.unet, maps):
        painter.draw(["on red"], [0], (16, 16), **HOW)
    every = torch.nn.functional.interpolate(maps.maps(), (16, 16), mode="bilinear")[0]
    assert found.words == ["on", "red"]
    assert torch.allclose(found.maps, torch.stack([every[1] + every[2], every[3]]), atol=1e-6)


# ---------------------------------------------------------------- what each sheet shows


def test_a_film_ends_with_the_drawing(painter: sd.painter.Painter, shown: list) -> None:
    visualize.film(painter, FIRST, 5, **{**HOW, "steps": 12})
    images, columns, rows = shown[0]
    assert len(images) == 16 and columns[0] == "step 1" and columns[-1] == "step 12"
    drawn = painter.draw([FIRST], [5], **{**HOW, "steps": 12})
    assert near(images[7:8], drawn) and rows == ["latents", "without noise"]
    assert not near(images[:1], drawn) and not near(images[8:9], images[:1])
    visualize.film(painter, FIRST, 5, **{**HOW, "steps": 1})
    assert shown[1][1] == ["step 1"] and len(shown[1][0]) == 2


def test_latents_stand_between_a_drawing_and_its_like(painter: sd.painter.Painter,
                                                      shown: list) -> None:
    visualize.latent_channels(painter, FIRST, (1, 2), **HOW)
    images, columns, rows = shown[0]
    assert columns == ["picture", *(f"channel {n}" for n in (1, 2, 3, 4)), "decoded"]
    assert rows == ["seed 1", "seed 2"] and images.shape == (12, 32, 32, 3)
    drawn = painter.draw([FIRST], [1, 2], **HOW)
    assert near(images[::6], drawn)
    model = painter.pipe.model
    latents = model.vae.encode(floats(drawn)).mean * model.scale_factor
    assert near(images[5::6], painter.pipe.pictures(latents))
    assert near(images[2][::4, ::4], pictures.grey(latents[:1])[1])
    assert torch.equal(images[2][::4, ::4], images[2][3::4, 3::4])


def test_guidance_grows_from_left_to_right(painter: sd.painter.Painter, shown: list) -> None:
    visualize.guidance_sweep(painter, FIRST, (4, 5), **HOW)
    images, columns, rows = shown[0]
    assert columns == ["0", "1", "2", "3", "5", "8"] and rows == ["seed 4", "seed 5"]
    for at, guidance in enumerate(visualize.GUIDANCE):
        expected = painter.draw([FIRST], [4, 5], **{**HOW, "guidance": guidance})
        assert near(images[at::6], expected)


def test_all_samplers_begin_with_the_same_noise(painter: sd.painter.Painter, shown: list,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visualize, "STEPS", (2, 3))
    visualize.samplers(painter, FIRST, 4, **HOW)
    images, columns, rows = shown[0]
    assert columns == ["2", "3"] and rows == list(visualize.SAMPLERS)
    assert set(rows) == set(sd.schedulers.SAMPLERS) and len(images) == 12
    for number, (name, steps) in enumerate((n, s) for n in rows for s in (2, 3)):
        expected = painter.draw([FIRST], [4], **{**HOW, "sampler": name, "steps": steps})
        assert near(images[number : number + 1], expected)


def test_the_way_between_prompts_begins_and_ends_at_them(painter: sd.painter.Painter,
                                                         shown: list) -> None:
    visualize.interpolation(painter, FIRST, THEN, 4, 5, **HOW)
    images, columns, _ = shown[0]
    assert columns == ["0%", "25%", "50%", "75%", "100%"]
    for at, prompt in ((0, FIRST), (-1, THEN)):
        assert near(images[at][None], painter.draw([prompt], [4], **HOW))


def test_a_drawing_is_drawn_over(painter: sd.painter.Painter, shown: list) -> None:
    visualize.image_to_image(painter, FIRST, THEN, 4, **HOW)
    images, columns, _ = shown[0]
    assert columns == ["begun with", "0", "0.2", "0.4", "0.6", "0.8", "1"]
    begun = painter.draw([FIRST], [4], **HOW)
    assert torch.equal(images[:1], begun)
    for image, strength in zip(images[1:], visualize.STRENGTHS):
        expected = painter.draw([THEN], [4], image=floats(begun), strength=strength, **HOW)
        assert near(image[None], expected)


def test_a_hole_is_in_the_middle_and_filled_by_the_other_prompt(painter: sd.painter.Painter,
                                                                shown: list) -> None:
    visualize.inpainting(painter, FIRST, THEN, (4, 5), **HOW)
    images, columns, _ = shown[0]
    assert columns == ["begun with", "hole", "seed 4", "seed 5"]
    begun, mask = painter.draw([FIRST], [4], **HOW), torch.zeros(1, 1, 32, 32)
    mask[..., 8:24, 8:24] = 1
    assert torch.equal(visualize.hole(begun), mask) and torch.equal(images[:1], begun)
    inside = mask[0, 0].bool()
    assert (images[1][inside] == pictures.GREY).all()
    assert torch.equal(images[1][~inside], begun[0][~inside])
    expected = painter.draw([THEN], [4, 5], image=floats(begun), mask=mask, **HOW)
    assert near(images[2:], expected)


def test_everything_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture, shown: list,
                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visualize, "STEPS", (1, 2))
    best = save_tiny(tmp_path / "best.pt")
    out, flags = tmp_path / "out", ["--checkpoint", str(best), "--steps", "2", "--seed", "3"]
    assert visualize.main([*flags, "--out", str(out)]) == 0
    said = capsys.readouterr().out.split(" to ")[0].removeprefix("wrote ").split(", ")
    assert sorted(said) == sorted(path.name for path in out.iterdir()) and len(said) == 9
    images, columns, rows = shown[1]      # the first has the attention
    assert rows == PROMPTS and columns[0] == "seed 3" and len(images) == 24
    painter = sd.painter.Painter.open(best, torch.device("cpu"))
    expected = painter.draw([PROMPTS[1]], [4], guidance=sd.asking.GUIDANCE, steps=2)
    assert near(images[9:10], expected)
    row = ",".join(map(str, range(11))).replace("1,", "vae,", 1).replace("9,", ",")
    header = ("step,stage,lr,train_loss,validation_loss,psnr,deviation,colour,shape,both,"
              "seconds")
    (tmp_path / "metrics.csv").write_text(f"{header}\n{row}\n", encoding="utf-8")
    assert visualize.main([*flags, "--out", str(out)]) == 0
    assert "inpainting.png, loss.png to" in capsys.readouterr().out
    assert (out / "loss.png").exists()


def test_another_prompt_and_size_may_be_shown(tmp_path: Path, shown: list,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visualize, "STEPS", (1,))
    best = save_tiny(tmp_path / "best.pt")
    assert visualize.main(["--checkpoint", str(best), "--out", str(tmp_path / "out"), "--steps",
                           "1", "--prompt", "red", "--size", "24x16"]) == 0
    assert shown[1][2] == ["red"] and shown[1][0].shape[1:] == (16, 24, 3)
    assert all(images.shape[1:] == (16, 24, 3) for images, _, _ in shown)


def test_of_many_prompts_some_from_first_to_last_are_shown(
        monkeypatch: pytest.MonkeyPatch) -> None:
    given = {}

    def keep(name: str) -> None:
        monkeypatch.setattr(visualize, name, lambda _, *asked, **how: given.update(
            {name: asked}))

    names = ("samples", "film", "latent_channels", "attention", "guidance_sweep", "samplers",
             "interpolation", "image_to_image", "inpainting")
    for name in names:
        keep(name)
    many = [str(number) for number in range(16)]
    painter = SimpleNamespace(config={})
    assert len(visualize.sheets(painter, many, 0)) == len(given) == len(names)
    assert given["samples"][0] == many[::2]
    for name in names[1:]:
        assert given[name][0] == "0" and (name not in names[6:] or given[name][1] == "2")
    visualize.sheets(SimpleNamespace(config={"data": "shapes"}), many, 0)
    assert given["inpainting"][:2] == visualize.MIDDLE and given["image_to_image"][1] == "2"
    visualize.sheets(painter, ["alone"], 0)
    assert given["samples"][0] == ["alone"] and given["inpainting"][:2] == ("alone", "alone")


@pytest.mark.parametrize(("count", "columns"), [(3, 3), (8, 8), (65, 8), (100, 10)])
def test_a_sheet_of_many_is_about_as_wide_as_high(count: int, columns: int, tmp_path: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    sheets = []
    monkeypatch.setattr(pictures, "save_tiles", lambda images, across, path: sheets.append(
        (len(images), across, path)))
    monkeypatch.setattr(pictures, "save_image", lambda *_: None)
    monkeypatch.setattr(sd.painter.Painter, "draw", lambda _, prompts, seeds, *rest, **how: (
        torch.zeros(len(seeds), 4, 4, 3, dtype=torch.uint8)))
    best = save_tiny(tmp_path / "best.pt")
    assert sd.inference.main(["--checkpoint", str(best), "--count", str(count), "--out",
                              str(tmp_path)]) == 0
    assert sheets == [(count, columns, tmp_path / "samples.png")]
