"""What AlexNet says of pictures, as inference.py tells it, and what visualize.py draws."""

import contextlib
import csv
import io
import json
import re
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import matplotlib.colors
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from torchvision.models import alexnet as torchvision_alexnet

from support import ROOT, load, run

alexnet = load("alexnet_from_scratch")
inference, visualize, checkpoint = alexnet.inference, alexnet.visualize, alexnet.checkpoint
pictures, shapes = alexnet.pictures, alexnet.shapes
INFERENCE = ROOT / "alexnet_from_scratch" / "inference.py"
COUNTS = (10, 10, 20)     # drawn pictures, where the default would take seconds
BAD = {"broken.jpg": b"\xff\xd8 no picture", "text.png": b"dear reader", "empty.png": b""}


@pytest.fixture(scope="module")
def best(quick_run) -> Path:
    return quick_run("alexnet_from_scratch").out / "best.pt"


@pytest.fixture(scope="module")
def net(best) -> SimpleNamespace:
    """The trained model and its configuration, put together by hand."""
    contents = checkpoint.load(best)
    model = alexnet.model.build(contents["config"])
    model.load_state_dict(contents["model"])
    return SimpleNamespace(model=model.eval(), config=contents["config"])


@torch.no_grad()
def believed(net: SimpleNamespace, square: Tensor, ten: bool = False) -> Tensor:
    """Probabilities (K,) for a picture of 128 pixels, of which 112 are read, by hand."""
    places = [(8, 8)] if not ten else [(0, 0), (0, 16), (16, 0), (16, 16), (8, 8)]
    crops = [square[:, top : top + 112, left : left + 112].float() for top, left in places]
    crops += [crop.flip(2) for crop in crops] if ten else []
    inputs = [(crop - net.config["mean"]) / net.config["std"] for crop in crops]
    return torch.cat([net.model(one[None]).softmax(1) for one in inputs]).mean(0)


def drawn(number: int, side: int = 128) -> Tensor:
    return torch.from_numpy(shapes.draw(number, side)[0]).permute(2, 0, 1)


def save(number: int, path: Path) -> Path:
    """A drawn picture in a file that is read back without a change."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(shapes.draw(number, 128)[0]).save(path)
    return path


@pytest.fixture
def ask(best, tmp_path, capsys, monkeypatch):
    """Runs inference.py in this process: exit code, lines of stdout, and of stderr."""
    monkeypatch.setattr(inference, "SHAPES", COUNTS)

    def asked(*flags: object, known: bool = True) -> SimpleNamespace:
        argv = ["--out", tmp_path / "out", *(["--checkpoint", best] if known else []), *flags]
        code = inference.main(list(map(str, argv)))
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return SimpleNamespace(code=code, lines=said.out.splitlines(),
                               errors=[line for line in said.err.splitlines()
                                       if not line.startswith("using ")])

    return asked


def assert_answers(found: list[dict], belief: Tensor, count: int = 5) -> None:
    """The best classes, the best first, with their probabilities; equal ones in any order."""
    names, shown = ([one[key] for one in found] for key in ("class", "probability"))
    own = [belief[shapes.CLASSES.index(name)].item() for name in names]
    best = belief.sort(descending=True).values[:count].tolist()
    assert len(set(names)) == len(best) and shown == sorted(shown, reverse=True)
    assert shown == pytest.approx(own, abs=2e-5) and shown == pytest.approx(best, abs=2e-5)


# ---------------------------------------------------------------- one picture of the test set


def test_a_fresh_process_says_what_the_checkpoint_alone_says(best, net, tmp_path) -> None:
    copy = shutil.copy(best, tmp_path / "copy.pt")
    result = run(INFERENCE, "--checkpoint", copy, "--index", 13, "--json", cwd=tmp_path)
    assert result.returncode == 0 and result.stderr == "using copy.pt\n"
    found = json.loads(result.stdout)
    assert_answers(found.pop("answers"), believed(net, drawn(13)))
    assert found == {"data": "shapes", "index": 13, "truth": "disc"}
    assert [path.name for path in tmp_path.iterdir()] == ["copy.pt"]


def test_without_flags_the_first_test_picture_is_named_in_words(ask, net) -> None:
    answer, belief = ask(), believed(net, drawn(0))
    words = ", ".join(f"{shapes.CLASSES[k]} {belief[k]:.1%}" for k in belief.topk(5).indices)
    assert answer.lines == [f"test picture 0 of shapes (arrow): {words}"]
    assert (answer.code, answer.errors) == (0, [])


@pytest.mark.parametrize(("count", "shown"), [(1, 1), (3, 3), (50, 10)])
def test_as_many_answers_as_asked_for_and_there_are(ask, net, count, shown) -> None:
    found = json.loads(ask("--index", 4, "--top-k", count, "--json").lines[0])["answers"]
    assert len(found) == shown
    assert_answers(found, believed(net, drawn(4)), count)
    assert (sum(one["probability"] for one in found) > 0.9999) == (shown == 10)


def test_ten_crops_are_the_mean_of_ten_answers(ask, net) -> None:
    one, ten = (json.loads(ask("--index", 5, "--json", *more).lines[0])["answers"]
                for more in ((), ("--ten-crop",)))
    assert_answers(ten, believed(net, drawn(5), ten=True))
    assert one != ten


@pytest.mark.parametrize("ten", [False, True])
def test_errors_on_the_test_set_are_those_of_all_its_pictures(ask, net, ten) -> None:
    flags, labels = ["--test", *(["--ten-crop"] if ten else [])], torch.arange(20) % 10
    belief = torch.stack([believed(net, drawn(i), ten) for i in range(20)])
    order = belief.argsort(1, descending=True)
    error = (order[:, 0] != labels).double().mean().item()
    five = 1 - (order[:, :5] == labels[:, None]).any(1).double().mean().item()
    loss = -belief[range(20), labels].log().mean().item()
    found = json.loads(ask(*flags, "--json").lines[0])
    assert found == {"data": "shapes", "pictures": 20, "error": pytest.approx(error),
                     "top5_error": pytest.approx(five), "loss": pytest.approx(loss, abs=1e-4)}
    assert ask(*flags).lines == [f"test error {error:.2%}, top-5 {five:.2%}, loss "
                                 f"{loss:.4f}, on 20 pictures of shapes"]


def test_the_error_is_the_one_of_the_training_run(ask, quick_run, monkeypatch) -> None:
    monkeypatch.setattr(inference, "SHAPES", (10, 10, 50))
    printed = re.search(r"one crop: (test error .*, top-5 .*%), on 50 pictures",
                        quick_run("alexnet_from_scratch").result.stdout)
    assert ask("--test").lines[0].startswith(printed[1])


# ---------------------------------------------------------------- pictures of one's own


def test_files_and_folders_are_answered_in_order(ask, net, tmp_path, monkeypatch) -> None:
    """In small groups with broken files among them: batch mates change nothing."""
    monkeypatch.setattr(inference, "BATCH", 3)
    names = ["z.png", "f/1.png", "f/sub/2.png", "f/sub/3.png", "f/t.PNG", "a.png", "g/y.png"]
    for number, name in enumerate(names):
        save(number, tmp_path / name)
    for name, content in BAD.items():
        (tmp_path / "f" / name).write_bytes(content)
    (tmp_path / "f" / "notes.txt").write_text("not called a picture")
    asked = [tmp_path / name for name in ("missing.png", "z.png", "f", "a.png", "g")]
    answer = ask("--json", "--image", *asked)
    found = [json.loads(line) for line in answer.lines]
    assert [one["file"] for one in found] == [str(tmp_path / name) for name in names]
    for number, one in enumerate(found):
        assert_answers(one["answers"], believed(net, drawn(number)))
    named = [re.search(r"[a-z]+\.(png|jpg)", line)[0] for line in answer.errors]
    assert named == ["missing.png", "broken.jpg", "empty.png", "text.png"]
    assert all(line.startswith("error: ") for line in answer.errors) and answer.code == 1
    answer = ask("--image", tmp_path / "g", "--top-k", 1)
    assert answer.code == 0 and re.fullmatch(
        rf"{tmp_path}/g/y\.png: {found[-1]['answers'][0]['class']} [\d.]+%", answer.lines[0])


@pytest.mark.parametrize(("name", "words"), [
    ("folder/", "folder holds no pictures: name"), ("folder/a.txt", "holds no pictures"),
    ("folder/a.png", "folder/a.png is not a picture")])
def test_a_folder_without_pictures_is_an_error(ask, tmp_path, name, words) -> None:
    """Said before any work if files have no such names, else beside the answers."""
    (tmp_path / "folder").mkdir()
    if not name.endswith("/"):
        (tmp_path / name).write_text("no picture")
    answer = ask("--image", save(0, tmp_path / "good.png"), tmp_path / "folder")
    assert answer.code == 1 and len(answer.errors) == 1 and words in answer.errors[0]
    assert len(answer.lines) == name.endswith("png")


def save_two_classes(folder: Path) -> Path:
    for number in range(20):
        save(number, folder / "ab"[number % 2] / f"{number}.png")
    return folder


def test_what_is_not_there_or_does_not_fit_is_refused(ask, best, tmp_path) -> None:
    other = ("--data", save_two_classes(tmp_path / "data"))
    for flags, words in ((other, "the model knows other classes than "),
                         ((*other, "--test"), "the model knows other classes than "),
                         (("--weights", tmp_path / "no.pth"), "there is no file "),
                         (("--weights", best), f"{best} does not hold the weights of tor"),
                         (("--index", 20), "shapes has the test pictures 0 to 19")):
        answer = ask(*flags)
        assert (answer.code, answer.lines, len(answer.errors)) == (1, [], 1)
        assert answer.errors[0].startswith(f"error: {words}")


@pytest.mark.parametrize("flags", [("--index", "-1"), ("--top-k", "0"), ("--image",),
                                   ("--test", "--image", "x.png"), ("--index", "x")])
def test_questions_that_make_no_sense_are_a_matter_of_usage(ask, flags, capsys) -> None:
    with pytest.raises(SystemExit) as end:
        ask(*flags)
    assert end.value.code == 2 and "usage: " in capsys.readouterr().err


def test_occlusion_is_drawn_where_asked_for_each_picture(ask, tmp_path, monkeypatch) -> None:
    """Here of each picture of two that have one name; the names differ, as JSON says."""
    heat = torch.rand(112, 112)
    monkeypatch.setattr(inference, "BATCH", 1)
    monkeypatch.setattr(alexnet.speaker, "occlusion", lambda *_: heat)
    files = [save(number, tmp_path / str(number) / "same.png") for number in range(2)]
    lines = ask("--image", *files, "--json", "--occlusion").lines
    written = [json.loads(line)["drawn"] for line in lines]
    assert sorted(written) == sorted(map(str, (tmp_path / "out").iterdir()))
    assert len(written) == 2 and all(Image.open(path).format == "PNG" for path in written)
    shown = {}
    monkeypatch.setattr(pictures, "save", lambda figure, path: shown.update({path: figure}))
    line = ask("--index", 3, "--occlusion").lines[0]
    path = tmp_path / "out" / "test_3_occlusion.png"
    assert line.endswith(f"; drawn in {path}") and list(shown) == [path]
    left, right, _ = shown[path].axes
    crop = drawn(3)[:, 8:120, 8:120].permute(1, 2, 0)
    assert np.array_equal(left.images[0].get_array(), crop)
    assert line.split(": ")[1].startswith(left.get_title())
    assert np.array_equal(right.images[1].get_array(), heat)


# ---------------------------------------------------------------- published weights


def test_torchvisions_weights_in_a_file_say_what_torchvision_says(ask, tmp_path) -> None:
    theirs, path = torchvision_alexnet(num_classes=7).eval(), tmp_path / "weights.pth"
    torch.save(theirs.state_dict(), path)
    picture = drawn(3, 256)
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(tmp_path / "a.png")
    answer = ask("--weights", path, "--json", "--image", tmp_path / "a.png", known=False)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in
                 ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        inputs = (picture[:, 16:240, 16:240] / 255 - mean) / std
        belief, order = theirs(inputs[None]).softmax(1)[0].sort(descending=True)
    found = json.loads(answer.lines[0])["answers"]
    assert [one["class"] for one in found] == [f"class {k}" for k in order[:5]]
    assert [one["probability"] for one in found] == pytest.approx(belief[:5], abs=1e-5)
    path.unlink()


@pytest.mark.slow
def test_a_thousand_photographs_are_answered(tmp_path: Path) -> None:
    """The seconds are printed, not judged: the machine may have other work."""
    weights, photos = tmp_path / "weights.pth", tmp_path / "photos"
    torch.save(torchvision_alexnet().state_dict(), weights)
    photos.mkdir()
    for number in range(10):
        picture = Image.fromarray(shapes.draw(number, 1024)[0]).crop((0, 128, 1024, 896))
        for kind, count in (("RGB", 90), ("L", 5), ("CMYK", 5)):
            picture.convert(kind).save(tmp_path / "a.jpg", quality=90)
            for copy in range(count):
                shutil.copy(tmp_path / "a.jpg", photos / f"{kind}_{number}_{copy}.jpg")
    started = time.monotonic()
    result = run(INFERENCE, "--weights", weights, "--image", photos, timeout=280)
    seconds = time.monotonic() - started
    print(f"1,000 photographs: {seconds:.0f} s")
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == len(list(photos.iterdir())) == 1000


# ---------------------------------------------------------------- visualize.py


def draw(best: Path, out: Path, *flags: object, keep: bool = False) -> SimpleNamespace:
    """Runs visualize.py in this process: exit code, what it said, and the figures by name."""
    figures, write, said = {}, pictures.save, (io.StringIO(), io.StringIO())

    def note(figure: Figure, path: Path) -> None:
        figures[path.stem] = figure
        if keep:
            write(figure, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "save", note)
        for name, value in (("SHAPES", COUNTS), ("SEARCHED", 30), ("SOME", 12)):
            patch.setattr(visualize, name, value)
        with contextlib.redirect_stdout(said[0]), contextlib.redirect_stderr(said[1]):
            argv = ["--checkpoint", best, "--out", out, *flags]
            code = visualize.main(list(map(str, argv)))
    return SimpleNamespace(code=code, out=said[0].getvalue(), figures=figures,
                           error=said[1].getvalue().splitlines()[-1])


@pytest.fixture(scope="module")
def shown(best, tmp_path_factory) -> SimpleNamespace:
    """All that is drawn, once: of test picture 2, with its files."""
    out = tmp_path_factory.mktemp("shown")
    made = draw(best, out, "--index", 2, "--seed", 4, keep=True)
    return SimpleNamespace(**vars(made), to=out)


ALL = ["maps", "augment", "filters", "answers", "neighbours", "loss"]


def test_exactly_what_is_said_is_written(shown) -> None:
    names = [f"{name}.png" for name in ALL]
    assert shown.code == 0 and shown.out == f"wrote {', '.join(names)} to {shown.to}\n"
    assert sorted(path.name for path in shown.to.iterdir()) == sorted(names)
    for path in shown.to.iterdir():
        with Image.open(path) as image:
            assert image.format == "PNG" and image.width > 300
            assert np.asarray(image.convert("L")).std() > 10


def test_without_data_and_table_what_is_left_is_drawn(best, net, tmp_path) -> None:
    """Also of a picture of one's own: its maps, not those of a test picture."""
    contents, out = checkpoint.load(best), tmp_path / "out"
    contents["config"]["data"] = str(tmp_path / "nowhere")
    checkpoint.save(tmp_path / "lost.pt", contents)
    found = draw(tmp_path / "lost.pt", out, "--image", save(7, tmp_path / "a.png"))
    assert list(found.figures) == ALL[:3]
    assert found.out == f"wrote maps.png, augment.png, filters.png to {out}\n"
    assert_maps(found.figures["maps"], net, drawn(7))
    refused = draw(tmp_path / "lost.pt", out)
    assert refused.code == 1 and "nowhere is not on this disk: say --image" in refused.error


def test_what_cannot_be_drawn_is_refused(best, tmp_path) -> None:
    (tmp_path / "bad.png").write_text("no picture")
    other = save_two_classes(tmp_path / "data")
    for flags, words in ((("--index", 20), "shapes has the test pictures 0 to 19"),
                         (("--image", tmp_path / "bad.png"), "bad.png is not a picture"),
                         (("--data", other), "the model knows other classes than ")):
        refused = draw(best, tmp_path / "out", *flags)
        assert refused.code == 1 and words in refused.error and not refused.figures


def assert_maps(figure: Figure, net: SimpleNamespace, picture: Tensor) -> None:
    """The first sixteen of each stage, whose title says how many there are, and how large."""
    with torch.no_grad():
        crop = picture[None, :, 8:120, 8:120].float()
        maps = net.model.maps((crop - net.config["mean"]) / net.config["std"])
    rows = np.array(figure.axes).reshape(5, 16)
    for number, (row, found) in enumerate(zip(rows, maps), start=1):
        shape = " × ".join(map(str, found.shape[1:]))
        assert row[0].get_title(loc="left") == f"conv{number}: {shape}"
        for axis, values in zip(row, found[0]):
            assert np.allclose(axis.images[0].get_array(), values, atol=1e-4)


def test_maps_are_those_of_the_picture_asked_for(shown, net) -> None:
    assert_maps(shown.figures["maps"], net, drawn(2))


def test_views_are_crops_reflections_and_colours_of_the_picture(shown) -> None:
    figure, picture = shown.figures["augment"], drawn(2)
    rows = {row[0].get_ylabel(): [np.asarray(axis.images[0].get_array()).transpose(2, 0, 1)
                                  for axis in row if axis.images]
            for row in np.array(figure.axes).reshape(6, 8)}
    assert [len(row) for row in rows.values()] == [1, 8, 8, 8, 8, 8]
    assert np.array_equal(rows["picture"][0], picture)
    middle = picture[:, 8:120, 8:120].numpy()
    places = {picture[:, y : y + 112, x : x + 112].numpy().tobytes(): (y, x)
              for y in range(17) for x in range(17)}
    assert len({places[view.tobytes()] for view in rows["crop"]}) >= 6
    turned = [np.array_equal(view, middle[:, :, ::-1]) for view in rows["reflection"]]
    assert all(flip or np.array_equal(view, middle)
               for flip, view in zip(turned, rows["reflection"])) and 0 < sum(turned) < 8
    shifts = {}
    for name in ("colour", "colour × 5"):
        safe = (middle > 100) & (middle < 150)       # where nothing can be cut off
        steps = [[(view.astype(int) - middle)[c][safe[c]] for c in range(3)]
                 for view in rows[name]]
        assert all(np.ptp(step) <= 1 for view in steps for step in view)
        shifts[name] = np.array([[step.mean() for step in view] for view in steps])
    assert shifts["colour × 5"] == pytest.approx(5 * shifts["colour"], abs=5)
    assert np.abs(shifts["colour"]).max() > 2 and shifts["colour"].std(0).min() > 0.5
    together = [places.get((view[:, :, ::-1] if flip else view).tobytes())
                for flip, view in zip(turned, rows["all"])]
    assert together == [None] * 8                    # since the colours differ, too


def test_filters_are_the_kernels_a_group_a_picture(shown, net) -> None:
    axes = shown.figures["filters"].axes
    assert [axis.get_title() for axis in axes] == [
        f"{name}, group {n}" for name in ("trained", "untrained") for n in (1, 2)]
    kernels = net.model.conv1.weight.detach().chunk(2)
    for axis, group in zip(axes, kernels):
        grid, (height, width) = axis.images[0].get_array(), group.shape[2:]
        assert grid.shape == (-(-len(group) // 12) * (height + 2), 12 * (width + 2), 3)
        for number, kernel in enumerate(group):
            top, left = number // 12 * (height + 2), number % 12 * (width + 2)
            tile = grid[top : top + height + 2, left : left + width + 2]
            low, high = kernel.min(), kernel.max()
            inside = ((kernel - low) / (high - low)).permute(1, 2, 0)
            assert np.allclose(tile[1:-1, 1:-1], inside, atol=1e-6)
            assert (tile[0] == 1).all() and (tile[:, -1] == 1).all()
    grids = [np.asarray(axis.images[0].get_array()) for axis in axes]
    assert not np.allclose(grids[0], grids[2], atol=0.01)


def test_bars_are_the_five_best_answers_and_the_truth_is_orange(shown, net) -> None:
    grid = np.array(shown.figures["answers"].axes).reshape(4, 4)
    above, below = np.concatenate(grid[::2]), np.concatenate(grid[1::2])
    orange = matplotlib.colors.to_rgba(pictures.ORANGE)
    for picture, bars in zip(above, below):
        image = torch.from_numpy(np.array(picture.images[0].get_array())).permute(2, 0, 1)
        number = next(i for i in range(12) if torch.equal(drawn(i), image))
        truth, belief = shapes.CLASSES[number % 10], believed(net, image)
        values, places = belief.topk(5)
        assert picture.get_title() == truth
        assert [bar.get_width() for bar in bars.patches] == pytest.approx(values, abs=1e-5)
        names = [text.get_text() for text in bars.texts]
        assert names == [shapes.CLASSES[k] for k in places]
        heights = [bar.get_y() + bar.get_height() / 2 for bar in bars.patches]
        assert heights == sorted(heights) == [text.get_position()[1] for text in bars.texts]
        assert bars.yaxis_inverted() and bars.get_xlim() == (0, 1)      # the best is on top
        found = [bar.get_facecolor() == orange for bar in bars.patches]
        assert found == [name == truth for name in names]
    assert len({axis.images[0].get_array().tobytes() for axis in above}) == 8


def test_neighbours_are_the_training_pictures_with_the_nearest_features(shown, net) -> None:
    rows = np.array(shown.figures["neighbours"].axes).reshape(5, 7)

    @torch.no_grad()
    def features(picture: np.ndarray) -> Tensor:
        crop = torch.tensor(picture[None, 8:120, 8:120]).permute(0, 3, 1, 2).float()
        maps = net.model.maps((crop - net.config["mean"]) / net.config["std"])
        return net.model.features(maps[-1])[0]

    searched = [shapes.draw(number, 128)[0] for number in range(1500, 1530)]
    known = torch.stack([features(picture) for picture in searched])
    tests = [shapes.draw(number, 128)[0] for number in range(12)]
    for row in rows:
        first, *others = (np.asarray(axis.images[0].get_array()) for axis in row)
        assert any(np.array_equal(first, picture) for picture in tests)
        nearest = (known - features(first)).norm(dim=1).argsort()[:6]
        assert all(np.array_equal(one, searched[i]) for one, i in zip(others, nearest))


def test_test_and_training_pictures_are_of_all_classes(net, tmp_path, monkeypatch) -> None:
    """A folder comes class by class: its first pictures would all be of the first."""
    told = {}
    monkeypatch.setattr(visualize, "SEARCHED", 20)
    monkeypatch.setattr(visualize, "SOME", 10)
    monkeypatch.setattr(visualize.pictures, "draw_answers",
                        lambda images, beliefs, labels, *_: told.update(labels=labels))
    monkeypatch.setattr(visualize, "neighbours",
                        lambda model, config, shown, searched: told.update(searched=searched))
    monkeypatch.setattr(visualize.pictures, "draw_neighbours", lambda *_: None)
    images = torch.zeros(60, 3, 128, 128, dtype=torch.uint8)
    part = alexnet.parts.Part(images, torch.arange(10).repeat_interleave(6), 128)
    data = alexnet.data.Data("a folder", net.config["classes"], part, part, part)
    visualize.draw_set(net.model, net.config, data, tmp_path)
    assert len(told["labels"]) == len(set(told["labels"].tolist())) == 8
    assert told["searched"].labels.bincount().tolist() == 10 * [2]


def test_curves_are_the_columns_of_the_table(tmp_path, monkeypatch) -> None:
    columns = alexnet.train.COLUMNS
    table = np.random.default_rng(0).uniform(0.1, 0.9, (4, len(columns))).round(3)
    table[:, 0] = range(1, 5)
    with (tmp_path / "metrics.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, *table.tolist()])
    figures = []
    monkeypatch.setattr(pictures, "save", lambda figure, _: figures.append(figure))
    pictures.draw_curves(tmp_path / "metrics.csv", tmp_path / "loss.png")
    losses, errors, rate = figures[0].axes
    column = dict(zip(columns, table.T))
    for axis, names, factor in ((losses, ("train_loss", "validation_loss"), 1),
                                (errors, ("train_error", "validation_error"), 100),
                                (rate, ("lr",), 1)):
        assert len(axis.lines) == len(names)
        for line, name in zip(axis.lines, names):
            assert list(line.get_xdata()) == [1, 2, 3, 4]
            assert line.get_ydata() == pytest.approx(factor * column[name])
    labels = [text.get_text().split()[0] for text in losses.get_legend().get_texts()]
    assert labels == ["training", "validation"] and rate.get_yscale() == "log"
    assert f"{100 * column['validation_error'].min():.1f} % at best" in errors.get_title()
