"""What is asked of a trained model: prompts, seeds, pictures, holes, weights, refusals."""

import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from sd_peers import sd
from sd_tiny import PROMPTS, TINY, save_tiny, tiny
from support import run

Painter, Refusal = sd.painter.Painter, sd.console.Refusal
CPU = torch.device("cpu")
BRIEF = {"steps": 3, "guidance": 3.0}


@pytest.fixture(scope="module")
def best(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with averaged weights beside the last ones."""
    path = tmp_path_factory.mktemp("trained") / "best.pt"
    return save_tiny(path, seed=1, ema=tiny(2).state_dict())


@pytest.fixture(scope="module")
def painter(best: Path) -> Painter:
    return Painter.open(best, CPU)


@pytest.fixture
def ask(best: Path, capsys: pytest.CaptureFixture, tmp_path: Path) -> Callable:
    """Runs inference.py in this process: exit code, lines of stdout, stderr, and its folder."""

    def asked(*flags: object) -> SimpleNamespace:
        out = tmp_path / "asked"
        model = () if "--weights" in flags else ("--checkpoint", str(best))
        code = sd.inference.main([*model, "--out", str(out), "--steps", "3",
                                  *map(str, flags)])
        said = capsys.readouterr()
        return SimpleNamespace(code=code, out=out, lines=said.out.splitlines(), error=said.err)

    return asked


def pixels(path: Path) -> Tensor:
    """A picture file in bytes (H, W, 3)."""
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image.convert("RGB")))


def near(first: Tensor, second: Tensor) -> bool:
    """Whether bytes differ by one at most."""
    return first.shape == second.shape and (first.int() - second.int()).abs().max() <= 1


def photo(path: Path, size: tuple[int, int] = (32, 32), colour: str = "orange") -> Path:
    """A picture with a smooth change from left to right."""
    width, height = size
    image = Image.new("RGB", size, colour)
    shade = Image.fromarray(np.tile(np.linspace(0, 255, width, dtype=np.uint8), (height, 1)))
    image.paste("blue", mask=shade)
    image.save(path)
    return path


# ---------------------------------------------------------------- the painter


def test_averaged_weights_draw_where_there_are_some(best: Path, painter: Painter,
                                                    tmp_path: Path) -> None:
    found = painter.pipe.model.state_dict()
    assert all(torch.equal(found[name], value) for name, value in tiny(2).state_dict().items())
    assert painter.size == (32, 32) and painter.prompts == PROMPTS
    last = Painter.open(save_tiny(tmp_path / "last.pt", seed=1), CPU)
    assert not near(last.draw(PROMPTS[:1], [0], **BRIEF),
                    painter.draw(PROMPTS[:1], [0], **BRIEF))


def test_an_autoencoder_alone_does_not_draw(tmp_path: Path) -> None:
    save_tiny(tmp_path / "first.pt", stage="vae")
    with pytest.raises(Refusal, match="first.pt has a trained autoencoder and nothing else: go "
                                      "on with python train.py --stage diffusion --weights"):
        Painter.open(tmp_path / "first.pt", CPU)
    Painter.open(save_tiny(tmp_path / "then.pt", stage="diffusion"), CPU)


def test_a_slim_copy_in_half_precision_draws_nearly_the_same(best: Path, painter: Painter,
                                                             tmp_path: Path) -> None:
    slim = tmp_path / "slim.pt"
    assert sd.checkpoint.main([str(best), str(slim), "--half"]) == 0
    found = Painter.open(slim, CPU).draw(PROMPTS[:1], [0], **BRIEF)
    expected = painter.draw(PROMPTS[:1], [0], **BRIEF)
    assert (found.int() - expected.int()).abs().float().mean() < 3
    assert expected.float().std() > 9


def test_sixteen_bits_leave_the_scale_of_latents_alone(best: Path) -> None:
    for precision, kind in (("bf16", torch.bfloat16), ("fp16", torch.float16)):
        found = Painter.open(best, CPU, precision).pipe.model
        assert found.unet.out[-1].weight.dtype == kind
        assert found.scale_factor.item() == torch.tensor(sd.model.SCALE).item()
    assert Painter.open(best, CPU, "auto").pipe.dtype == torch.float32


def test_many_pictures_are_drawn_in_parts(painter: Painter,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    """With one prompt or one for each, over an image or not, all as if drawn together."""
    texts, image = [PROMPTS[number % 3] for number in range(5)], torch.zeros(1, 3, 16, 32)
    asked = [(PROMPTS[:1], {}), (texts, {}), (texts, {"image": image, "strength": 0.7})]
    whole = [painter.draw(prompts, range(5), **BRIEF, **how) for prompts, how in asked]
    counts, draw = [], painter.pipe.draw
    monkeypatch.setattr(sd.painter, "AT_ONCE", 2 * 32 * 32)
    monkeypatch.setattr(painter.pipe, "draw", lambda prompts, seeds, *rest, **how: (
        counts.append(len(seeds)), draw(prompts, seeds, *rest, **how))[1])
    for expected, (prompts, how) in zip(whole, asked):
        assert near(painter.draw(prompts, range(5), **BRIEF, **how), expected)
    assert counts == [2, 2, 1, 2, 2, 1, 4, 1]      # of half as large ones twice as many
    assert not near(whole[0], whole[1]) and whole[2].shape == (5, 16, 32, 3)


# ---------------------------------------------------------------- questions


def test_every_seed_has_its_picture(ask: Callable, painter: Painter) -> None:
    found = ask("--prompt", PROMPTS[1], "--seed", 4, "--count", 3, "--guidance", 2)
    assert found.code == 0
    assert found.lines[-1] == (f"wrote seed_4.png to seed_6.png, samples.png to {found.out}")
    assert found.lines[:3] == [f"seed {seed}: {PROMPTS[1]}" for seed in (4, 5, 6)]
    expected = painter.draw([PROMPTS[1]], [4, 5, 6], steps=3, guidance=2.0)
    for seed, picture in zip((4, 5, 6), expected):
        assert torch.equal(pixels(found.out / f"seed_{seed}.png"), picture)
    alone = ask("--prompt", PROMPTS[1], "--seed", 5, "--count", 1, "--guidance", 2)
    assert near(pixels(alone.out / "seed_5.png"), expected[1])
    assert alone.lines[-1] == f"wrote seed_5.png to {alone.out}"


def test_without_a_prompt_training_captions_are_drawn_in_turn(ask: Callable,
                                                              painter: Painter) -> None:
    found = ask("--count", 4)
    assert found.lines[:4] == [f"seed {seed}: {PROMPTS[seed % 3]}" for seed in range(4)]
    expected = painter.draw([PROMPTS[2]], [2], steps=3, guidance=sd.asking.GUIDANCE)
    assert near(pixels(found.out / "seed_2.png"), expected[0])


@pytest.mark.parametrize(("flags", "how"), [
    (("--negative", "blue square"), {"negative": "blue square"}),
    (("--guidance", 1), {"guidance": 1.0}), (("--steps", 5), {"steps": 5}),
    (("--sampler", "euler-a"), {"sampler": "euler-a"}),
    (("--size", "24x16"), {"size": (16, 24)}),
])
def test_flags_are_followed(ask: Callable, painter: Painter, flags: tuple, how: dict) -> None:
    asked = "--prompt", PROMPTS[0], "--count", 1
    found = pixels(ask(*asked, *flags).out / "seed_0.png")
    assert torch.equal(found, painter.draw([PROMPTS[0]], [0], **{**BRIEF, **how})[0])
    assert not torch.equal(found, painter.draw([PROMPTS[0]], [0], **BRIEF)[0])
    half = pixels(ask(*asked, *flags, "--precision", "bf16").out / "seed_0.png")
    assert not torch.equal(half, found)


def test_what_a_model_does_not_read_is_said(ask: Callable) -> None:
    found = ask("--prompt", "a purple zebra circle", "--count", 2)
    assert "the model has never read purple, zebra: it knows 20 words" in found.error
    found = ask("--prompt", "red " * 500, "--count", 1)
    assert found.code == 0 and "it has 486 tokens more than there is room for" in found.error
    found = ask("--prompt", "", "--count", 1)
    assert found.code == 0 and "an empty prompt asks for nothing" in found.error
    assert (found.out / "seed_0.png").exists()


def test_a_picture_to_begin_with(ask: Callable, painter: Painter, tmp_path: Path) -> None:
    """It keeps its size unless another is asked for; strength is how much may change."""
    path = photo(tmp_path / "mine.png", (40, 24))
    image = sd.pipeline.floats(pixels(path)[None])
    for strength, given in ((0.0, ("--strength", 0)), (0.8, ())):
        found = ask("--init", path, "--count", 1, "--prompt", PROMPTS[1], "--steps", 5, *given)
        expected = painter.draw([PROMPTS[1]], [0], steps=5, image=image, strength=strength,
                                guidance=3.0)
        assert torch.equal(pixels(found.out / "seed_0.png"), expected[0])
    found = ask("--init", path, "--count", 1, "--size", 16, "--prompt", PROMPTS[1])
    assert pixels(found.out / "seed_0.png").shape == (16, 16, 3)


def test_a_hole_is_filled_and_the_rest_stays(ask: Callable, painter: Painter,
                                             tmp_path: Path) -> None:
    path, mask = photo(tmp_path / "mine.png"), tmp_path / "mask.png"
    Image.fromarray(np.uint8([[255] * 16 + [0] * 16] * 32)).save(mask)
    found = ask("--init", path, "--mask", mask, "--count", 2, "--prompt", PROMPTS[0])
    hole = torch.zeros(1, 1, 32, 32)
    hole[..., :16] = 1
    image = sd.pipeline.floats(pixels(path)[None])
    expected = painter.draw(PROMPTS[:1], [0, 1], image=image, mask=hole, **BRIEF)
    assert torch.equal(pixels(found.out / "seed_1.png"), expected[1])
    whole = painter.draw(PROMPTS[:1], [0], image=image, mask=1 - hole, **BRIEF)
    assert not near(expected[:1], whole)


def test_a_tokenizer_has_rows_of_the_model_and_belongs_to_it(tmp_path: Path) -> None:
    config = {**TINY, "text": {**TINY["text"], "positions": 11}}
    found = sd.painter.find_tokenizer(tmp_path, None, config)
    assert found.length == 11 and found(["a red circle"]).shape == (1, 11)
    config["text"]["vocabulary"] += 1
    with pytest.raises(sd.console.Refusal, match="has 22 tokens and .* knows 23: name the"):
        sd.painter.find_tokenizer(tmp_path, None, config)


def test_attention_changes_nothing_and_is_shown(ask: Callable) -> None:
    flags = ("--prompt", PROMPTS[1], "--count", 2)
    plain = [pixels(ask(*flags).out / f"seed_{seed}.png") for seed in (0, 1)]
    found = ask(*flags, "--attention")
    assert found.lines[-1] == ("wrote seed_0.png to seed_1.png, samples.png, attention_0.png, "
                               f"attention_1.png to {found.out}")
    for seed in (0, 1):
        assert near(pixels(found.out / f"seed_{seed}.png"), plain[seed])
        sheet = pixels(found.out / f"attention_{seed}.png")
        assert sheet.shape[1] == 3 * (5 * 33 + 1)              # a drawing and four words
    found = ask("--prompt", "zebra", "--attention", "--count", 1)
    assert found.code == 1 and "there is no word in the prompt" in found.error


# ---------------------------------------------------------------- published weights


MERGES = [("r", "e"), ("re", "d</w>"), ("o", "n</w>")]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A file in the layout of the release without a tokenizer, and CLIP's in a folder."""
    home = tmp_path_factory.mktemp("published")
    text = {**TINY["text"], "vocabulary": 517}
    config = {"unet": TINY["unet"], "vae": TINY["vae"], "text": text}
    torch.manual_seed(0)
    model = sd.model.build(config)
    sd.weights.save(model, config, home / "model.safetensors")
    lines = ["#version: 0.2", *map(" ".join, MERGES), ""]
    (home / "clip").mkdir()
    (home / "clip" / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    return SimpleNamespace(file=home / "model.safetensors", clip=home / "clip", model=model)


def test_published_weights_draw_with_clips_tokenizer(ask: Callable,
                                                     published: SimpleNamespace) -> None:
    found = ask("--weights", published.file, "--tokenizer", published.clip, "--size", 16,
                "--prompt", "red on")
    assert found.code == 0 and found.lines[-1] == f"wrote seed_0.png to {found.out}"
    tokenizer = sd.tokenizer.ClipTokenizer(MERGES, 16)
    expected = sd.pipeline.Pipeline(published.model, tokenizer).draw(
        ["red on"], [0], (16, 16), steps=3, guidance=7.5)
    assert near(pixels(found.out / "seed_0.png"), expected[0])
    painter = Painter.published(published.file, published.clip, CPU)
    assert painter.size == (256, 256)              # 64 latents of four pixels


def test_our_own_weights_bring_their_tokenizer(painter: Painter, tmp_path: Path) -> None:
    sd.weights.save(painter.pipe.model, painter.config, tmp_path / "ours.safetensors")
    again = Painter.published(tmp_path / "ours.safetensors", None, CPU)
    assert (again.size, again.prompts) == (painter.size, painter.prompts)
    assert near(again.draw(PROMPTS[:1], [3], **BRIEF), painter.draw(PROMPTS[:1], [3], **BRIEF))


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.mkdir, (self.path,)


def test_weights_that_cannot_be_used_are_refused_in_a_sentence(
        ask: Callable, published: SimpleNamespace, tmp_path: Path) -> None:
    short, hostile = tmp_path / "short.safetensors", tmp_path / "hostile.ckpt"
    short.write_bytes(published.file.read_bytes()[:-1000])
    hostile.write_bytes(pickle.dumps({"state_dict": {"x": Hostile(tmp_path / "owned")}}))
    (tmp_path / "merges.txt").write_text("#\nr e\n", encoding="utf-8")
    for path, vocabulary, words in (
            (short, published.clip, "cannot be read safely"),
            (hostile, published.clip, "cannot be read safely"),
            (tmp_path / "no.ckpt", published.clip, "there are no weights at"),
            (published.file, tmp_path, "the tokenizer has 515 tokens and "),
            (published.file, tmp_path / "no", "cannot be read")):
        found = ask("--weights", path, "--tokenizer", vocabulary)
        assert found.code == 1 and words in found.error and not found.out.exists()
        assert found.error.splitlines()[-1].startswith("error: ") and not found.lines
    found = ask("--weights", published.file)
    assert found.code == 1 and "say where CLIP's lies with --tokenizer" in found.error
    assert not (tmp_path / "owned").exists()


# ---------------------------------------------------------------- what may not be asked


@pytest.mark.parametrize(("flags", "words"), [
    (("--size", "33"), "33×33 pixels cannot be drawn: both sides have to be multiples of 4"),
    (("--size", "32x30"), "32×30 pixels cannot be drawn"),
    (("--init", "{odd}"), "30×31 pixels cannot be drawn"),
    (("--init", "no.png"), "there is no file no.png: name a picture"),
    (("--init", "{text}"), "is not a picture that Pillow can read"),
    (("--init", "{photo}", "--mask", "{odd}"),
     "the mask has 30×31 pixels and the picture 32×32: make them equal"),
    (("--init", "{photo}", "--mask", "{odd}", "--size", "16"), "make them equal"),
    (("--init", "{photo}", "--mask", "{black}"), "black all over: paint white where to draw"),
    (("--init", "{photo}", "--strength", "0", "--attention"), "no step is taken"),
    (("--checkpoint", "no.pt"), "there is no checkpoint no.pt"),
])
def test_what_is_impossible_is_refused_in_a_sentence(flags: tuple, words: str, ask: Callable,
                                                     tmp_path: Path) -> None:
    files = {"photo": photo(tmp_path / "photo.png"), "odd": photo(tmp_path / "o.png", (30, 31)),
             "text": tmp_path / "text.png", "black": tmp_path / "black.png"}
    files["text"].write_text("no picture", encoding="utf-8")
    Image.new("L", (32, 32)).save(files["black"])
    found = ask(*(flag.format(**files) for flag in flags))
    assert found.code == 1 and words in found.error and not found.lines
    assert found.error.splitlines()[-1].startswith("error: ") and not found.out.exists()


@pytest.mark.parametrize("flags", [
    "--steps 0", "--steps 1001", "--steps x", "--init x --strength 1.1", "--strength 0.5",
    "--init x --strength -0.1", "--mask x.png", "--count 0", "--count 10001", "--guidance -1",
    "--sampler heun", "--size 0", "--size 8x", "--size 10000",
    "--tokenizer x", "--weights x", "--seed -1", "--precision fp8"])
def test_bad_flags_end_with_2(flags: str, ask: Callable, best: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        sd.inference.main(["--checkpoint", str(best), *flags.split()])


def test_what_overflows_in_16_bits_is_refused(tmp_path: Path,
                                              capsys: pytest.CaptureFixture) -> None:
    model = tiny(2)
    model.vae.decoder.conv_out.weight.data *= 1e5
    sd.checkpoint.save(tmp_path / "loud.pt", {"folder": sd.model.NAME, "config": TINY,
                                              "model": model.state_dict()})
    flags = ["--checkpoint", str(tmp_path / "loud.pt"), "--steps", "2", "--count", "1"]
    assert sd.inference.main([*flags, "--out", str(tmp_path / "a")]) == 0
    assert sd.inference.main([*flags, "--out", str(tmp_path / "b"), "--precision", "fp16"]) == 1
    assert "the picture is not a number, as happens in 16 bits" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_a_user_gets_pictures_and_no_traceback(best: Path, tmp_path: Path) -> None:
    script = Path(sd.inference.__file__)
    done = run(script, "--checkpoint", best, "--out", tmp_path / "out", "--steps", "2",
               cwd=tmp_path)
    assert done.returncode == 0 and len(list((tmp_path / "out").iterdir())) == 9
    assert done.stderr == f"using {best}\n"
    done = run(script, "--checkpoint", best, "--size", "30", cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
