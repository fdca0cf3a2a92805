"""What is asked of a trained autoencoder, what is measured of it, and what is drawn."""

import csv
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from support import load

vae = load("vae_from_scratch")
checkpoint, measures, attributes = vae.checkpoint, vae.measures, vae.attributes
Refusal, pictures, judging = vae.console.Refusal, vae.pictures, vae.judge
COUNTS = (160, 20, 40)


@pytest.fixture(scope="module", autouse=True)
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A small model after a few steps on creatures, of which there are few."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        for module in (vae.train, vae.gallery, vae.evaluate):
            patch.setattr(module, "CREATURES", COUNTS)
        patch.setattr(vae.gallery.Gallery.data, "__defaults__", (COUNTS,))
        patch.setattr(vae.train, "report", lambda *_: None)
        flags = "--width 8 --latents 8 --epochs 12 --batch-size 16 --beta-warm-up 1 --lr 0.01"
        assert vae.train.main([*flags.split(), "--out-dir", str(out)]) == 0
        best = checkpoint.load(out / "best.pt")
        model = vae.model.build(best["config"])
        model.load_state_dict(best["model"])
        yield SimpleNamespace(out=out, best=out / "best.pt", model=model.eval(),
                              config=best["config"],
                              data=vae.data.load("creatures", Path("no"), counts=COUNTS))


@pytest.fixture
def ask(trained: SimpleNamespace, capsys: pytest.CaptureFixture, tmp_path: Path) -> Callable:
    """Runs inference.py in this process: exit code, lines of stdout, stderr, and its folder."""

    def asked(*flags: object, path: Path | None = None) -> SimpleNamespace:
        out = tmp_path / "asked"
        code = vae.inference.main(["--checkpoint", str(path or trained.best), "--out", str(out),
                                   *map(str, flags)])
        said = capsys.readouterr()
        return SimpleNamespace(code=code, lines=said.out.splitlines(), error=said.err, out=out)

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


def test_pictures(trained: SimpleNamespace) -> Tensor:
    return vae.data.to_input(trained.data.test.images)


test_pictures.__test__ = False


# ---------------------------------------------------------------- questions


def test_reconstructions_are_those_of_the_most_probable_codes(
        trained: SimpleNamespace, ask: Callable, sheets: dict) -> None:
    x, said = test_pictures(trained), ask("--reconstruct", 3, 0, 39)
    assert said.code == 0 and said.lines[-1].startswith("wrote reconstructions.png to ")
    given, again, wrong = sheets["reconstructions.png"].split(3)
    assert torch.equal(given, x[[3, 0, 39]])
    assert torch.allclose(again, trained.model(given), atol=1e-5)
    assert torch.allclose(wrong, 1 - (given - again).abs())
    assert torch.equal(ask("--reconstruct").out and sheets["reconstructions.png"][:12], x[:12])
    assert ask().lines == ask("--reconstruct").lines


def test_samples_are_pictures_of_codes_from_the_prior(
        trained: SimpleNamespace, ask: Callable, sheets: dict) -> None:
    assert ask("--sample", 10, "--seed", 4).code == 0
    z = torch.randn(10, 8, generator=torch.Generator().manual_seed(4))
    assert torch.allclose(sheets["samples.png"], trained.model.decode(z), atol=1e-5)
    first = sheets["samples.png"]
    assert ask("--sample", 10, "--seed", 5).code == 0
    assert not torch.equal(first, sheets["samples.png"])
    with Image.open(ask("--sample", 5).out / "samples.png") as image:
        assert image.size == (3 * (3 * 33 + 1), 3 * (2 * 33 + 1))


def test_an_interpolation_begins_and_ends_with_its_pictures(
        trained: SimpleNamespace, ask: Callable, sheets: dict) -> None:
    x, said = test_pictures(trained), ask("--interpolate", 5, 9, "--frames", 4)
    row = sheets["interpolation.png"]
    assert said.code == 0 and len(row) == 6
    assert torch.equal(row[[0, -1]], x[[5, 9]])
    assert torch.allclose(row[[1, -2]], trained.model(x[[5, 9]]), atol=1e-4)


def test_an_arc_keeps_length_and_step() -> None:
    a, b = torch.tensor([2.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 2.0])
    arc = attributes.between(a, b, 5)
    assert torch.allclose(arc[[0, -1]], torch.stack([a, b]), atol=1e-6)
    assert arc.norm(dim=1).tolist() == pytest.approx([2] * 5)
    assert torch.allclose(arc[2], torch.tensor([2**0.5, 0, 2**0.5]), atol=1e-6)
    steps = (arc[1:] - arc[:-1]).norm(dim=1)
    assert steps.tolist() == pytest.approx([4 * math.sin(math.pi / 16)] * 4)
    line = attributes.between(a, 3 * a, 3)
    assert line.tolist() == [[2, 0, 0], [4, 0, 0], [6, 0, 0]]
    assert attributes.between(a, 0 * a, 3).isfinite().all()


def test_adding_an_attribute_adds_the_difference_of_mean_codes(
        trained: SimpleNamespace, ask: Callable, sheets: dict) -> None:
    said = ask("--attribute", "wings=wings", "--on", 0, 1, 2, 3)
    assert said.code == 0 and len(said.lines) == 5
    x = test_pictures(trained)[:4]
    train = vae.data.to_input(trained.data.train.images)
    codes, z = trained.model.encode(train)[0], trained.model.encode(x)[0]
    wings = trained.data.train.known["wings"]
    means = [codes[wings == value].mean(0) for value in (0, 1)]
    had = torch.tensor([line.split(": wings ")[1].startswith("wings →") for line in
                        said.lines[:4]])
    expected = torch.where(had[:, None], z, z + means[1] - means[0])
    given, changed = sheets["attribute.png"].split(4)
    assert torch.equal(given, x)
    assert torch.allclose(changed, trained.model.decode(expected), atol=1e-4)
    assert all(line.endswith("→ wings") for line in said.lines[:4])


def test_without_a_value_an_attribute_is_turned_round() -> None:
    assert attributes.opposite(torch.tensor([0, 1, 3]), None).tolist() == [1, 0, 0]
    assert attributes.opposite(torch.tensor([0, 1, 3]), 2).tolist() == [2, 2, 2]


@pytest.mark.parametrize(("words", "sentence"), [
    ("beard", "there is no attribute beard: choose one of body, pattern, eyes, horns, wings, "),
    ("turn", "there is no attribute turn: choose one of body"),
    ("", "there is no attribute : choose one of"),
    ("horns=trunk", "horns has no value trunk: choose one of none, horns, ears, antenna"),
])
def test_an_attribute_that_does_not_exist_is_refused_in_words(
        words: str, sentence: str, ask: Callable) -> None:
    said = ask("--attribute", words)
    assert said.code == 1 and sentence in said.error and not said.out.exists()


def test_codes_are_written_a_row_each(trained: SimpleNamespace, ask: Callable) -> None:
    said = ask("--encode", 2, 7)
    with (said.out / "codes.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["picture", *(f"z{number}" for number in range(8))]
    expected = trained.model.encode(test_pictures(trained)[[2, 7]])[0]
    assert [row[0] for row in rows] == ["2", "7"]
    assert np.allclose([[float(z) for z in row[1:]] for row in rows], expected.tolist(),
                       atol=1e-5)


def test_files_of_any_size_are_read_and_bad_ones_among_them_left_out(
        ask: Callable, sheets: dict, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for number, size in enumerate(((32, 32), (70, 20), (5, 9))):
        Image.new("RGB", size, (200, 0, 90)).save(tmp_path / "mine" / f"{number}.png")
    (tmp_path / "mine" / "broken.png").write_bytes(b"no")
    said = ask("--reconstruct", tmp_path / "mine")
    assert said.code == 0 and said.error.count("left out: ") == 1
    assert "broken.png is not a picture" in said.error
    assert len(sheets["reconstructions.png"]) == 9
    one = ask("--encode", tmp_path / "mine" / "1.png")
    assert one.code == 0 and len((one.out / "codes.csv").read_text().splitlines()) == 2


@pytest.mark.parametrize(("flags", "sentence"), [
    (("--reconstruct", "40"), "creatures has the test pictures 0 to 39"),
    (("--reconstruct", "no.png"), "none of these is a picture: name files"),
    (("--interpolate", "0", "no.png"), "none of these is a picture"),
    (("--data", "no/such/place"), "is neither a data set nor a folder"),
])
def test_what_cannot_be_answered_is_said_in_a_sentence(
        flags: tuple, sentence: str, ask: Callable) -> None:
    said = ask(*flags)
    assert said.code == 1 and sentence in said.error and not said.lines
    assert not said.out.exists()


def test_only_one_question_at_a_time_and_no_endless_sheets(ask: Callable) -> None:
    for flags in (("--sample", 3, "--encode"), ("--sample", 10_001), ("--sample", 0),
                  ("--interpolate", 1), ("--frames", 0)):
        with pytest.raises(SystemExit, match="2"):
            ask(*flags)


# ---------------------------------------------------------------- measures


def test_decibels_and_the_best_linear_code() -> None:
    x = torch.rand(50, 1, 4, 4)
    assert measures.psnr(x, x + 0.1) == pytest.approx(20)
    assert measures.psnr(x, x) == pytest.approx(120)
    plane = torch.rand(80, 3) @ torch.rand(3, 16) / 3
    flat = plane.unflatten(1, (1, 4, 4))
    assert measures.pca_psnr(flat[:60], flat[60:], 3) > 60
    assert measures.pca_psnr(flat[:60], flat[60:], 1) < 40
    assert measures.pca_psnr(flat[:5], flat[60:], 30) > 10      # fewer pictures than asked for


def test_active_units_are_those_whose_means_vary() -> None:
    means = torch.randn(4_000, 4) * torch.tensor([1.0, 0.2, 0.05, 0.0]) + 5
    assert measures.active_units(means) == 2


def test_a_linear_model_reads_what_is_linear() -> None:
    z = torch.randn(300, 4)
    labels = (z[:, 1] > 0).long() + (z[:, 1] > 1).long()
    right = measures.read_off(100 * z[:200] + 3, labels[:200], 100 * z[200:] + 3)
    assert (right == labels[200:]).double().mean() > 0.87
    turns = torch.rand(400)
    codes = measures.on_circle(turns) @ torch.randn(2, 5)
    assert measures.hue_r2(codes[:300], turns[:300], codes[300:], turns[300:]) > 0.999
    noise = torch.randn(400, 5)
    assert measures.hue_r2(noise[:300], turns[:300], noise[300:], turns[300:]) < 0.1
    assert torch.allclose(measures.on_circle(torch.tensor([0.99999])),
                          measures.on_circle(torch.tensor([0.0])), atol=1e-4)


def test_the_nearest_picture_is_found_with_its_distance_a_pixel() -> None:
    those = torch.rand(30, 3, 5, 5)
    these = those[[7, 2]] + torch.tensor([0.0, 0.01])[:, None, None, None]
    places, distances = measures.nearest(these, those)
    assert places.tolist() == [7, 2]
    assert distances.tolist() == pytest.approx([0, 0.01], abs=1e-4)


def test_changes_are_counted_and_small_turns_of_the_hue_are_none() -> None:
    before = {name: torch.tensor([0, 1]) for name in judging.ATTRIBUTES}
    after = {**before, "wings": torch.tensor([1, 1]), "turn": torch.tensor([0.02, 0.6])}
    found = judging.changes({**before, "turn": torch.tensor([0.98, 0.5])}, after)
    assert found["wings"].tolist() == [True, False] and not found["body"].any()
    assert found["hue"].tolist() == [False, True]


def test_a_judge_learns_and_is_the_same_for_the_same_seed(trained: SimpleNamespace) -> None:
    part = trained.data.train
    one, two = (judging.train_judge(part, seed=3, epochs=8) for _ in range(2))
    assert checkpoint.digest(one.state_dict()) == checkpoint.digest(two.state_dict())
    said = one.judge(test_pictures(trained))
    wings = (said["wings"] == trained.data.test.known["wings"]).double().mean()
    assert wings > 0.7 and (0 <= said["turn"]).all() and (said["turn"] < 1).all()
    assert torch.equal(said["hue"], vae.data.nearest_hue(said["turn"]))


def test_arithmetic_is_judged_against_what_was_seen_before(trained: SimpleNamespace) -> None:
    """With a judge who reads the decoder's pictures without fault, and one attribute's mean."""
    known = attributes.Attributes(trained.model, trained.data, trained.config)
    z = known.codes[:30]

    class Sees:
        def judge(self, x: Tensor) -> dict[str, Tensor]:
            zero = torch.zeros(len(x), dtype=torch.int64)
            level = (x.mean((1, 2, 3)) > 2).long()      # never: nothing ever changes
            return {**dict.fromkeys(judging.ATTRIBUTES, zero), "wings": level,
                    "hue": zero, "turn": zero.float()}

    found = vae.evaluate.arithmetic(trained.model, known, Sees(), z)
    assert found["wings=wings"] == (0, 0) and "wings=none" not in found    # which all have
    assert len(found) == 28 - 7


def test_what_is_measured_is_what_the_model_does(trained: SimpleNamespace) -> None:
    x = test_pictures(trained)
    found = vae.evaluation.evaluate(trained.model, x)
    assert found.psnr == pytest.approx(measures.psnr(trained.model(x), x), abs=1e-3)
    train = vae.data.to_input(trained.data.train.images)
    near, far = measures.pca_psnr(x, x, 20), measures.pca_psnr(train, x, 20)
    assert near > far + 1                              # fitted to the first, judged on the last


class Twin:
    """A model that has learned all training pictures by heart and gives nothing else."""

    latents, variance = 3, torch.tensor(0.1)

    def __init__(self, train: Tensor) -> None:
        self.train = train

    def __call__(self, x: Tensor) -> Tensor:
        return (x + 0.02).clamp(0, 1)

    def decode(self, z: Tensor) -> Tensor:
        return (self.train[torch.arange(len(z)) % len(self.train)] + 0.01).clamp(0, 1)


def test_a_model_that_gives_training_pictures_is_found_out(
        trained: SimpleNamespace, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(vae.evaluate, "INVENTED", 30)
    train = vae.data.to_input(trained.data.train.images)
    vae.evaluate.say_memory(Twin(train), train, 0)
    vae.evaluate.say_memory(Twin(1 - train), train, 0)
    copies = [line.split()[1] for line in capsys.readouterr().out.splitlines()]
    assert copies == ["30", "0"]


def test_arithmetic_with_a_judge_who_sees_what_changes(trained: SimpleNamespace) -> None:
    """A step along the first code is wings to the judge; no other attribute has a step."""
    known = attributes.Attributes(trained.model, trained.data, trained.config)
    step = torch.tensor([10.0, *[0] * 7])
    known.means = lambda name: torch.stack([0 * step, (name == "wings") * step] * 3)
    codes = torch.zeros(20, 8)

    class Sees:
        def judge(self, x: Tensor) -> dict[str, Tensor]:
            zero = torch.zeros(len(x), dtype=torch.int64)
            there = (x - trained.model.decode(codes[:1])).abs().amax((1, 2, 3)) > 1e-3
            return {**dict.fromkeys(judging.ATTRIBUTES, zero), "wings": there.long(),
                    "hue": zero, "turn": zero.float()}

    found = vae.evaluate.arithmetic(trained.model, known, Sees(), codes)
    assert found.pop("wings=wings") == (1, 0)          # and nothing else
    assert set(found.values()) == {(0, 0)}


# ---------------------------------------------------------------- tables and pictures


def test_the_table_of_measures_has_them_all(trained: SimpleNamespace, monkeypatch: object,
                                            capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(vae.evaluate, "INVENTED", 30)
    assert vae.evaluate.main(["--checkpoint", str(trained.best), "--samples", "5", "--count",
                              "30"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("creatures: 30 test pictures\n")
    for start in ("-ELBO", "active units", "σ of a pixel", "PSNR", "log p(x)", "linear probe",
                  "hue, circular R²", "judge", "  horns=ears", "attribute arithmetic",
                  "memorisation"):
        assert f"\n{start} " in said, start
    found = vae.evaluation.evaluate(trained.model, test_pictures(trained)[:30])
    assert f"{found.cost:.2f} nats an image" in said and f"{found.psnr:.2f} dB" in said
    assert "copies among 30 samples; the nearest training picture is " in said


def test_visualize_draws_all_it_says(trained: SimpleNamespace, sheets: dict, tmp_path: Path,
                                     capsys: pytest.CaptureFixture) -> None:
    flags = ["--checkpoint", str(trained.best), "--out", str(tmp_path)]
    assert vae.visualize.main([*flags, "--attribute", "hue"]) == 0
    assert vae.visualize.main(flags) == 0
    names = capsys.readouterr().out.splitlines()[-1].removeprefix("wrote ").split(" to ")[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names.split(", "))
    walk, x = sheets["traversals.png"], test_pictures(trained)
    assert len(walk) == 8 * 9
    code = trained.model.encode(x[:1])[0].clone()
    units = vae.evaluation.evaluate(trained.model, x).units
    code[0, units.argmax()] = 3.0
    assert torch.allclose(walk[8], trained.model.decode(code)[0], atol=1e-4)
    assert vae.visualize.main([*flags, "--attribute", "beard"]) == 1
    assert "there is no attribute beard: choose one of body" in capsys.readouterr().err


def test_tiles_stand_in_rows_with_grey_between() -> None:
    images = torch.tensor([0, 0.5, 1]).expand(1, 2, 3, 3).permute(3, 0, 1, 2)
    sheet = pictures.tile(images, 2)
    assert sheet.shape == (7, 9, 3) and (sheet[0] == 191).all() and (sheet[:, 4] == 191).all()
    assert (sheet[1:3, 1:4] == 0).all() and (sheet[1:3, 5:8] == 128).all()
    assert (sheet[4:6, 1:4] == 255).all() and (sheet[4:6, 5:8] == 191).all()


def test_a_decoder_that_overhears_does_not_overhear_the_pixel_itself() -> None:
    one = vae.collapse.Gossip((1, 8, 8))
    x = torch.rand(1, 1, 8, 8, requires_grad=True)
    one.overhear(x)[0, 0, 3, 4].backward()
    seen = x.grad[0, 0] != 0
    assert not seen[3, 4:].any() and not seen[4:].any()
    assert seen[3, :4].any() and seen[2, 5:].any()


def test_the_collapse_is_shown_with_its_cures(tmp_path: Path,
                                              capsys: pytest.CaptureFixture) -> None:
    assert vae.collapse.main(["--steps", "3", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in said[1:5]] == list(vae.collapse.RUNS)
    assert (tmp_path / "collapse.png").exists()
