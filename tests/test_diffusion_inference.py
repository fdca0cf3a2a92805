"""What is asked of a trained model: the right label, guidance, blends, repairs, refusals."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torch import Tensor

from support import load

diffusion = load("diffusion_from_scratch")
checkpoint, core, pictures = diffusion.checkpoint, diffusion.diffusion, diffusion.pictures
Painter, Sampling = diffusion.painter.Painter, core.Sampling
Refusal = diffusion.console.Refusal
CPU = torch.device("cpu")
BRIEF = Sampling(steps=3)


@pytest.fixture(scope="module", autouse=True)
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A small model after a few steps, and its painter."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diffusion.train, "report", lambda *_: None)
        flags = ["--quick", "--steps", "12", "--lr", "0.01", "--out-dir", str(out)]
        assert diffusion.train.main(flags) == 0
    yield SimpleNamespace(best=out / "best.pt", painter=Painter.open(out / "best.pt", CPU))


@pytest.fixture
def ask(trained: SimpleNamespace, capsys: pytest.CaptureFixture, tmp_path: Path) -> Callable:
    """Runs inference.py in this process: exit code, lines of stdout, stderr, and its folder."""

    def asked(*flags: object) -> SimpleNamespace:
        out = tmp_path / "asked"
        code = diffusion.inference.main(["--checkpoint", str(trained.best), "--out", str(out),
                                         *map(str, flags)])
        said = capsys.readouterr()
        return SimpleNamespace(code=code, out=out, lines=said.out.splitlines(), error=said.err)

    return asked


@pytest.fixture
def sheets(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """The pictures that are drawn as tiles, by the names of their files."""
    drawn, save = {}, pictures.save_tiles

    def kept(images: Tensor, columns: int, path: Path) -> None:
        drawn[path.name] = images
        save(images, columns, path)

    monkeypatch.setattr(pictures, "save_tiles", kept)
    return drawn


# ---------------------------------------------------------------- guidance


class Told(torch.nn.Module):
    """A network whose output is its label, so that one sees what it was told."""

    classes = 10

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        self.batch = len(x)
        return labels.to(x.dtype)[:, None, None, None].expand_as(x)


def test_guidance_pushes_away_from_no_label() -> None:
    network, x, t = Told(), torch.zeros(3, 1, 2, 2), torch.zeros(3, dtype=torch.long)
    labels = torch.tensor([2, 5, 9])
    for w in (0.5, 1.0, 4.0):
        found = core.guided(network, x, t, labels, w)[:, 0, 0, 0]
        assert torch.allclose(found, (1 + w) * labels - w * 10) and network.batch == 6
    assert torch.equal(core.guided(network, x, t, labels, 0.0)[:, 0, 0, 0], labels.float())
    assert network.batch == 3
    with pytest.raises(ValueError, match="guidance needs labels"):
        core.guided(network, x, t, None, 1.0)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_no_guidance_is_the_output_for_the_label_to_the_bit(trained: SimpleNamespace,
                                                            count: int) -> None:
    painter = trained.painter
    x, t = painter.noise(count, 0), torch.full((count,), 500)
    labels = painter.labels(count, "7")
    assert torch.equal(core.guided(painter.model, x, t, labels, 0.0),
                       painter.model(x, t, labels))
    two = (1.5 * painter.model(x, t, labels)
           - 0.5 * painter.model(x, t, torch.full_like(labels, 10)))
    assert torch.allclose(core.guided(painter.model, x, t, labels, 0.5), two, atol=1e-5)


# ---------------------------------------------------------------- the painter


@pytest.mark.parametrize("how", [BRIEF, BRIEF._replace(eta=0.5),
                                 BRIEF._replace(sampler="ddpm")])
def test_a_picture_is_the_same_in_any_company(how: Sampling, trained: SimpleNamespace,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    painter = trained.painter
    whole = painter.samples(7, how, seed=4)
    assert whole.shape == (7, 1, 28, 28) and whole.min() >= 0 and whole.max() <= 1
    assert torch.allclose(painter.samples(3, how, seed=4), whole[:3], atol=1e-5)
    monkeypatch.setattr(diffusion.painter, "AT_ONCE", 2)
    assert torch.allclose(painter.samples(7, how, seed=4), whole, atol=1e-5)
    assert not torch.allclose(painter.samples(7, how, seed=5), whole, atol=1e-2)
    assert not any(p.requires_grad and p.grad is not None for p in painter.model.parameters())


def test_fresh_noise_is_none_that_a_picture_began_with(
        trained: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, step = [], core.ddpm_step
    monkeypatch.setattr(core, "ddpm_step", lambda s, i, x, x0, fresh, variance: seen.append(
        fresh) or step(s, i, x, x0, fresh, variance))
    painter = trained.painter
    painter.samples(2, BRIEF._replace(sampler="ddpm"), seed=4)
    begun = torch.cat([painter.noise(4, seed) for seed in (3, 4, 5)])
    fresh = torch.cat(seen[:2])
    assert len(seen) == 3 and not seen[2].any() and fresh.std().item() == pytest.approx(
        1, abs=0.05)
    alike = torch.corrcoef(torch.cat([begun, fresh]).flatten(1)).triu(1)
    assert alike.abs().max() < 0.2


def test_a_model_paints_what_it_was_trained_on(trained: SimpleNamespace,
                                               tmp_path: Path) -> None:
    """Pixels from 0 to 1 where it learned them so; no dropout while it paints."""
    contents = checkpoint.load(trained.best)
    del contents["version"]
    contents["config"] = {**contents["config"], "centred": False, "dropout": 0.5}
    checkpoint.save(tmp_path / "best.pt", contents)
    painter = Painter.open(tmp_path / "best.pt", CPU)
    images = diffusion.data.digits().test.images[:2]
    x = diffusion.data.to_input(images, centred=False)
    assert torch.allclose(painter.show(x), images / 255) and not painter.model.training


def test_the_known_part_has_as_much_noise_as_the_rest() -> None:
    s = diffusion.schedule.Schedule.named("linear").spaced(10)
    x, picture = torch.full((1, 1, 200, 200), 9.0), torch.full((1, 1, 200, 200), 0.5)
    mask = torch.zeros(1, 1, 200, 200)
    mask[..., 100:] = 1
    for i in (9, 5, 1, 0):
        kept = core.keep_known(s, i, x, picture, mask, torch.Generator().manual_seed(0))
        known = kept[..., 100:]
        assert (kept[..., :100] == 9).all()
        assert known.mean().item() == pytest.approx(0.5 * s.before[i].sqrt().item(), abs=0.02)
        assert known.std().item() == pytest.approx((1 - s.before[i]).sqrt().item(), abs=0.02)


def test_what_is_known_leads_all_steps(trained: SimpleNamespace) -> None:
    """Also in the middle of the way the known part is the picture, noised."""
    painter, seen = trained.painter, []
    x = diffusion.data.to_input(diffusion.data.digits().test.images[:1])
    painter.paint(painter.noise(1, 0), painter.labels(1), Sampling(steps=20), 0,
                  known=(x, torch.ones(1, 1, 28, 28)),
                  watch=lambda i, now, _x0: seen.append((i, now.clone())))
    for i, now in seen[1:]:
        noised = now - painter.diffusion.schedule.spaced(20).signal[i] * x
        assert noised.std().item() == pytest.approx(
            painter.diffusion.schedule.spaced(20).noise[i].item(), rel=0.15)


def test_flags_of_sampling_are_what_they_say() -> None:
    def found(*flags: str) -> Sampling:
        parser = diffusion.console.inference_parser("")
        diffusion.asking.add_sampling_flags(parser)
        return diffusion.asking.sampling_of(parser.parse_args(flags), 400)

    assert found() == Sampling("ddim", 50, 0.0, "posterior", 0.0, True)
    assert found("--eta", "0.3", "--steps", "7", "--guidance", "2", "--no-clip") == Sampling(
        "ddim", 7, 0.3, "posterior", 2.0, False)
    assert found("--sampler", "ddpm", "--variance", "beta") == Sampling(
        "ddpm", 400, 0.0, "beta")
    for flags, words in ((("--sampler", "ddpm", "--eta", "0"), "--eta is a flag of --sampler"),
                         (("--variance", "beta"), "--variance is a flag of --sampler ddpm")):
        with pytest.raises(Refusal, match=words):
            found(*flags)


def test_labels_come_in_turn_or_all_alike(trained: SimpleNamespace) -> None:
    painter = trained.painter
    assert painter.labels(12).tolist() == [*range(10), 0, 1]
    assert painter.labels(3, "7").tolist() == [7, 7, 7]
    with pytest.raises(Refusal, match="there is no label seven: this model knows 0, 1, 2"):
        painter.labels(3, "seven")


def test_averaged_weights_answer_and_a_slim_copy_has_only_them(trained: SimpleNamespace,
                                                               tmp_path: Path) -> None:
    contents = checkpoint.load(trained.best)
    for last, part in ((False, "ema"), (True, "model")):
        found = Painter.open(trained.best, CPU, last).model.state_dict()
        assert checkpoint.digest(found) == checkpoint.digest(contents[part])
    assert checkpoint.main([str(trained.best), str(tmp_path / "slim.pt"), "--half"]) == 0
    slim = Painter.open(tmp_path / "slim.pt", CPU).model.state_dict()
    assert torch.allclose(slim["first.weight"], contents["ema"]["first.weight"], atol=1e-3)
    with pytest.raises(Refusal, match="holds the averaged weights only: ask without"):
        Painter.open(tmp_path / "slim.pt", CPU, last=True)


# ---------------------------------------------------------------- questions


def test_samples_are_drawn_by_label_and_seed(ask: Callable, sheets: dict,
                                             trained: SimpleNamespace) -> None:
    flags = ("--steps", 3, "--count", 6, "--label", 4, "--guidance", 1, "--seed", 9)
    found = ask(*flags)
    assert found.code == 0 and found.lines == [f"wrote samples.png to {found.out}"]
    how = Sampling(steps=3, guidance=1.0)
    expected = trained.painter.samples(6, how, 9, "4")
    assert torch.equal(sheets["samples.png"], expected)
    assert ask(*flags, "--sampler", "ddpm").code == 0
    assert not torch.equal(sheets["samples.png"], expected)
    assert ask("--grid", "--steps", 2).code == 0 and len(sheets["samples.png"]) == 80


def test_classes_stand_below_each_other(ask: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(pictures, "save_tiles", lambda x, columns, _path: seen.append(columns))
    for flags in (("--count", 23), ("--count", 9), ("--count", 16, "--label", 3)):
        assert ask("--steps", 1, *flags).code == 0
    assert seen == [10, 3, 4]


@pytest.mark.parametrize("steps", [79, 80])
def test_a_long_animation_has_few_pictures_and_the_noise_among_them(
        steps: int, trained: SimpleNamespace) -> None:
    how = Sampling(steps=steps)
    film = diffusion.inference.Film(trained.painter, how, 1)
    noise = trained.painter.noise(1, 0)
    trained.painter.paint(noise, trained.painter.labels(1), how, watch=film.watch)
    assert len(film.frames) <= 41
    assert torch.allclose(film.frames[0], trained.painter.show(noise))


def test_progress_shows_the_strips_that_double_and_the_last(tmp_path: Path) -> None:
    pictures.draw_progress(tmp_path, tmp_path / "all.png")
    assert not (tmp_path / "all.png").exists()
    for step in range(1, 16):
        Image.new("RGB", (4, 2), (step, 0, 0)).save(tmp_path / f"step_{step:06}.png")
    pictures.draw_progress(tmp_path, tmp_path / "all.png")
    with Image.open(tmp_path / "all.png") as image:
        assert image.size == (4, 10)
        assert [image.getpixel((1, 2 * row))[0] for row in range(5)] == [1, 2, 4, 8, 15]


def test_an_animation_begins_with_noise_and_ends_with_the_samples(ask: Callable,
                                                                  sheets: dict) -> None:
    found = ask("--steps", 5, "--count", 4, "--gif")
    with Image.open(found.out / "samples.gif") as film:
        assert film.n_frames == 6
        film.seek(5)
        last = film.convert("RGB")
        film.seek(0)
        first = film.convert("RGB")
    with Image.open(found.out / "samples.png") as sheet:
        assert sheet.size == last.size
        values = [torch.frombuffer(bytearray(image.convert("RGB").tobytes()),
                                   dtype=torch.uint8).float() for image in (sheet, last, first)]
    assert (values[0] - values[1]).abs().mean() < 2 < 20 < (values[0] - values[2]).abs().mean()


def test_a_blend_goes_from_one_picture_to_the_other(ask: Callable, sheets: dict) -> None:
    assert ask("--interpolate", 3, 5, "--steps", 20, "--frames", 5, "--strength", 0).code == 0
    row = sheets["interpolation.png"]
    test = diffusion.data.digits().test.images.float() / 255
    assert len(row) == 7 and torch.allclose(row[0], test[3], atol=1e-6)
    assert torch.allclose(row[-1], test[5], atol=1e-6)
    assert torch.allclose(row[1], test[3], atol=1e-6)    # a strength of 0 changes nothing
    assert torch.allclose(row[3], (test[3] + test[5]) / 2, atol=1e-6)
    assert ask("--interpolate", 3, 5, "--steps", 4, "--strength", 0.9).code == 0


def test_the_ends_of_a_blend_are_plain_reconstructions_from_the_same_time(
        trained: SimpleNamespace) -> None:
    painter = trained.painter
    x = diffusion.data.to_input(diffusion.data.digits().test.images[:2])
    labels, how = torch.tensor([1, 2]), Sampling(steps=10)
    row = diffusion.mixing.blend(painter, x, labels, how, 2, 0.5, seed=3)
    s = painter.diffusion.schedule.spaced(10)
    noise = torch.randn(1, 1, 28, 28, generator=torch.Generator().manual_seed(3))
    for i in (0, 1):
        at = s.times[4].reshape(1)             # the fifth of ten: a half
        noised = painter.diffusion.q_sample(x[i : i + 1], at, noise)
        again = painter.paint(noised, labels[i : i + 1], how, 3, start=4)
        assert torch.allclose(row[1 + i], again[0], atol=1e-5)


def test_a_repair_keeps_what_is_known_and_draws_the_rest(ask: Callable, sheets: dict,
                                                         tmp_path: Path) -> None:
    found = ask("--inpaint", 3, "--steps", 4, "--frames", 3, "--box", 2, 10, 28, 20)
    assert found.code == 0
    sheet, x = sheets["inpainting.png"], diffusion.data.digits().test.images[3].float() / 255
    inside = torch.zeros(1, 28, 28, dtype=torch.bool)
    inside[:, 10:20, 2:28] = True
    assert len(sheet) == 5 and torch.allclose(sheet[0], x, atol=1e-6)
    for repaired in sheet[1:]:
        assert torch.allclose(repaired[~inside], x[~inside], atol=1e-5)
        assert not torch.allclose(repaired[inside], x[inside], atol=0.1)
    assert not torch.allclose(sheet[2], sheet[3], atol=0.1)
    path = tmp_path / "mine.png"
    Image.new("RGB", (60, 40), "white").save(path)
    assert ask("--inpaint", path, "--label", 2, "--steps", 2).code == 0
    sheet = sheets["inpainting.png"]
    assert (sheet[0] == 1).all() and (sheet[1][:, 14:] == 0.5).all() and (
        sheet[1][:, :14] == 1).all()           # without a box the lower half is drawn anew


def test_a_file_has_no_label_and_a_number_its_own(trained: SimpleNamespace,
                                                  tmp_path: Path) -> None:
    Image.new("L", (28, 28), 255).save(tmp_path / "mine.png")
    args = SimpleNamespace(data=None, data_dir=tmp_path)
    _, labels = diffusion.gallery.Gallery(trained.painter, args).find(
        [str(tmp_path / "mine.png"), "3"])
    assert labels.tolist() == [10, diffusion.data.digits().test.labels[3]]


def test_pictures_of_a_folder_are_counted_as_in_training(
        trained: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given = []
    monkeypatch.setattr(diffusion.gallery, "load", lambda *args: given.append(
        args) or diffusion.data.digits())
    config = {**trained.painter.config, "data": str(tmp_path), "seed": 7, "image_size": 28}
    painter = Painter(trained.painter.model, config, CPU)
    args = SimpleNamespace(data=None, data_dir=tmp_path)
    diffusion.gallery.Gallery(painter, args).find(["0", "1"])
    assert given == [(str(tmp_path), tmp_path, 28, 7)]     # and read once


@pytest.mark.parametrize(("flags", "words"), [
    (("--label", "x"), "error: there is no label x: this model knows 0, 1,"),
    (("--steps", 1001), "error: 1001 steps are not possible: this model has 1000 times, use 1"),
    (("--interpolate", 0, 450), "error: digits has the test pictures 0 to 449"),
    (("--inpaint", "no.png"), "error: there is no file no.png"),
    (("--inpaint", 0, "--box", 0, 0, 29, 5), "error: the box 0 0 29 5 does not lie in a pict"),
    (("--inpaint", 0, "--box", 5, 5, 5, 9), "error: the box 5 5 5 9 does not lie"),
    (("--inpaint", 0, "--data", "nowhere"), "is neither a data set nor a folder"),
])
def test_what_is_impossible_is_refused_in_a_sentence(flags: tuple, words: str,
                                                     ask: Callable) -> None:
    found = ask(*flags)
    assert found.code == 1 and words in found.error and not found.lines
    assert len(found.error.splitlines()) == 2 and not found.out.exists()


@pytest.mark.parametrize("flags", ["--steps 0", "--steps -1", "--count 0", "--count 10001",
                                   "--guidance -1", "--sampler euler", "--strength 1",
                                   "--interpolate 1", "--eta -1", "--eta 1.5", "--frames 0",
                                   "--box 1 2", "--box 1 2 3 4", "--grid --label 3",
                                   "--grid --inpaint 3", "--interpolate 1 2 --inpaint 3",
                                   "--gif --inpaint 3"])
def test_bad_flags_end_with_2(flags: str, ask: Callable) -> None:
    with pytest.raises(SystemExit, match="2"):
        ask(*flags.split())


def test_figures_are_of_what_was_asked_for(trained: SimpleNamespace, tmp_path: Path,
                                           capsys: pytest.CaptureFixture) -> None:
    """A data set that is named is used or refused, and few times are enough."""
    contents = checkpoint.load(trained.best)
    del contents["version"]
    contents["config"] = {**contents["config"], "times": 4}
    checkpoint.save(tmp_path / "few.pt", contents)
    few = ["--checkpoint", str(tmp_path / "few.pt"), "--out", str(tmp_path / "out")]
    assert diffusion.visualize.main([*few, "--data", "nowhere"]) == 1
    assert "is neither a data set nor a folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert diffusion.visualize.main(few) == 0 and (tmp_path / "out" / "guidance.png").exists()


def test_everything_is_drawn(trained: SimpleNamespace, tmp_path: Path, sheets: dict,
                             capsys: pytest.CaptureFixture,
                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diffusion.visualize, "STEPS", (1, 2))
    monkeypatch.setattr(diffusion.visualize, "GUIDANCE", (0.0, 2.0))
    assert diffusion.visualize.main(["--checkpoint", str(trained.best), "--out",
                                     str(tmp_path)]) == 0
    said = capsys.readouterr().out.split(" to ")[0].removeprefix("wrote ").split(", ")
    assert sorted(said) == sorted(path.name for path in tmp_path.iterdir()) and len(said) == 7
    forward = sheets["forward.png"]
    test = diffusion.data.digits().test.images[:3].float() / 255
    assert (forward[::10] - test).abs().mean() < 0.02 and forward[9].std() > 0.3
    neighbours = sheets["neighbours.png"]
    train = diffusion.data.digits().train.images.float() / 255
    apart = (train - neighbours[0]).square().flatten(1).sum(1)
    assert torch.equal(train[apart.argmin()], neighbours[10])
