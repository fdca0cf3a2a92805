"""Where the samples come from: drawn sets, scikit-learn's, MNIST, a CSV; and their scale."""

import csv
import gzip
import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_diabetes, load_digits
from sklearn.linear_model import LogisticRegression
from torchvision.datasets import MNIST

from support import ROOT, load

backprop = load("backprop_from_scratch")
data, scaling = backprop.data, backprop.scaling
Part, Refusal = data.Part, backprop.console.Refusal

NOWHERE = Path("nowhere")
DIGITS = [str(digit) for digit in range(10)]
NOBODY = "http://127.0.0.1:9/"     # the discard port: a connection is refused at once
SIZES = {"moons": (668, 82, 250), "spirals": (668, 82, 250), "sine": (668, 82, 250),
         "digits": (1200, 147, 450), "diabetes": (294, 37, 111)}


def samples(*parts: data.Part) -> list[bytes]:
    """All inputs of some parts, as bytes that can be compared and counted."""
    return [row.tobytes() for part in parts for row in part.x]


def pairs(*parts: data.Part) -> list[tuple]:
    """All inputs with their labels or targets."""
    return [(x.tobytes(), y.tobytes()) for part in parts for x, y in zip(part.x, part.y)]


def seeded(seed: int, name: str) -> data.Data:
    """A set that is loaded while NumPy's legacy dice, which scikit-learn would use, lie so."""
    np.random.seed(seed)  # noqa: NPY002 - the legacy state is the point
    return data.load(name, NOWHERE)


# ---------------------------------------------------------------- the embedded sets


@pytest.mark.parametrize("name", SIZES)
def test_every_embedded_set_has_the_promised_number_of_samples(name: str) -> None:
    loaded = data.load(name, NOWHERE)
    assert loaded.name == name
    for part, size in zip(loaded[3:], SIZES[name]):
        assert part.x.shape == (size, len(loaded.inputs))
        assert part.y.shape == ((size,) if loaded.classes else (size, 1))


def test_every_embedded_set_is_tested_here() -> None:
    assert set(SIZES) == set(data.EMBEDDED)
    assert data.NAMES == ("auto", "mnist", *data.EMBEDDED)


@pytest.mark.parametrize("name", SIZES)
def test_no_sample_of_an_embedded_set_is_in_two_parts(name: str) -> None:
    assert len(set(samples(*data.load(name, NOWHERE)[3:]))) == sum(SIZES[name])


@pytest.mark.parametrize("name", ["moons", "spirals", "digits"])
@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_every_part_has_every_class_about_equally_often(name: str, part: str) -> None:
    loaded = data.load(name, NOWHERE)
    counts = np.bincount(getattr(loaded, part).y, minlength=len(loaded.classes))
    assert len(counts) == len(loaded.classes)
    assert counts.max() <= 1.2 * counts.min()


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("seed", [1, 2])
def test_an_embedded_set_and_its_split_are_the_same_whatever_the_seeds(name: str,
                                                                       seed: int) -> None:
    first, again = (seeded(number, name) for number in (0, seed))
    assert [pairs(part) for part in again[3:]] == [pairs(part) for part in first[3:]]


@pytest.mark.parametrize(("name", "source"), [
    ("digits", load_digits), ("diabetes", load_diabetes)])
def test_a_set_of_scikit_learn_is_there_whole_each_sample_with_its_target(
    name: str, source: Callable
) -> None:
    x, y = source(return_X_y=True)
    loaded = data.load(name, NOWHERE)
    ours = Counter((p.x[i].tobytes(), float(np.ravel(p.y)[i]))
                   for p in loaded[3:] for i in range(len(p.y)))
    assert ours == Counter((row.tobytes(), float(target)) for row, target in zip(x, y))


def test_the_task_follows_from_the_set() -> None:
    tasks = {name: data.load(name, NOWHERE).task for name in SIZES}
    assert tasks == {"moons": "classification", "spirals": "classification",
                     "digits": "classification", "sine": "regression",
                     "diabetes": "regression"}


def linear_score(name: str) -> float:
    """The share of test samples that a network without a hidden layer gets right."""
    loaded = data.load(name, NOWHERE)
    peer = LogisticRegression(max_iter=1000).fit(*loaded.train)
    return peer.score(*loaded.test)


@pytest.mark.parametrize(("name", "most"), [("moons", 0.92), ("spirals", 0.85)])
def test_the_drawn_classes_need_a_hidden_layer(name: str, most: float) -> None:
    assert 1 / 3 < linear_score(name) < most


def test_the_spirals_are_three_arms_turned_by_a_third_of_a_circle() -> None:
    """Turned back by its arm and by its radius, every sample lies on one ray."""
    loaded = data.load("spirals", NOWHERE)
    x, y = np.concatenate([p.x for p in loaded[3:]]), np.concatenate([p.y for p in loaded[3:]])
    radius = np.hypot(*x.T)
    assert radius.min() >= 0.1 and radius.max() <= 1
    turn = np.arctan2(x[:, 1], x[:, 0]) - 4 * radius - y * 2 * np.pi / 3
    rest = np.angle(np.exp(1j * turn))
    assert abs(rest.mean()) < 0.02 and 0.13 < rest.std() < 0.17


def test_the_sine_is_a_sine_on_a_slope_with_noise() -> None:
    for part in data.load("sine", NOWHERE)[3:]:
        rest = part.y - np.sin(2 * part.x) - part.x / 2
        assert abs(rest.mean()) < 0.04 and 0.07 < rest.std() < 0.13
        assert part.x.min() < -2.8 and part.x.max() > 2.8


def test_a_shortened_set_keeps_the_first_samples_of_each_part_with_their_labels() -> None:
    whole = data.load("digits", NOWHERE)
    short = data.shortened(whole, 150)
    assert [len(part.y) for part in short[3:]] == [150, 147, 150]
    assert pairs(short.test) == pairs(whole.test)[:150]
    assert short[:3] == whole[:3]


# ---------------------------------------------------------------- choosing


def test_auto_is_mnist_where_mnist_is_on_disk(shared: Callable) -> None:
    assert data.load("auto", shared("MNIST")).name == "mnist"
    assert data.on_disk("mnist", shared("MNIST"))


@pytest.fixture
def no_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every mirror of MNIST refuses the connection."""
    monkeypatch.setattr(data, "MIRRORS", (NOBODY,))


def test_auto_without_mnist_and_without_a_network_is_the_digits_and_says_so(
    tmp_path: Path, no_mirror: None, capsys: pytest.CaptureFixture
) -> None:
    assert data.load("auto", tmp_path).name == "digits"
    printed = capsys.readouterr()
    assert "using the embedded digits instead of MNIST" in printed.err
    assert "could not be fetched" in printed.err and printed.out == ""


def test_auto_falls_back_where_nothing_can_be_written(tmp_path: Path, no_mirror: None) -> None:
    (tmp_path / "a_file").write_text("no folder can be made in me")
    assert data.load("auto", tmp_path / "a_file").name == "digits"


def test_auto_for_a_regression_is_diabetes_and_asks_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "fetch", None)
    assert data.load("auto", tmp_path, "regression").name == "diabetes"


def test_an_explicit_name_never_falls_back(tmp_path: Path, no_mirror: None) -> None:
    with pytest.raises(Refusal, match="could not be fetched"):
        data.load("mnist", tmp_path)


def test_a_name_that_is_nothing_is_refused_with_the_names_there_are(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="use auto, mnist, moons, .*, or a CSV of your"):
        data.load(str(tmp_path / "nowhere"), tmp_path)


@pytest.mark.parametrize(("name", "task"), [("digits", "regression"),
                                            ("sine", "classification")])
def test_a_set_is_not_used_for_what_it_is_not_for(name: str, task: str) -> None:
    with pytest.raises(Refusal, match=f"{name} is for .*, not {task}"):
        data.load(name, NOWHERE, task)


# ---------------------------------------------------------------- MNIST on disk


@pytest.fixture(scope="module")
def mnist(shared: Callable) -> data.Data:
    return data.load("mnist", shared("MNIST"))


def test_mnist_is_55000_to_train_5000_to_validate_and_10000_to_test(mnist: data.Data) -> None:
    assert [part.x.shape for part in mnist[3:]] == [(55_000, 784), (5_000, 784), (10_000, 784)]
    assert [part.y.shape for part in mnist[3:]] == [(55_000,), (5_000,), (10_000,)]
    assert (mnist.classes, mnist.task) == (DIGITS, "classification")
    assert {part.x.dtype.str for part in mnist[3:]} == {"|u1"}


def test_the_test_part_of_mnist_is_that_of_torchvision_pixel_for_pixel(
    mnist: data.Data, shared: Callable
) -> None:
    theirs = MNIST(shared("MNIST"), train=False)
    assert (mnist.test.x == theirs.data.flatten(1).numpy()).all()
    assert (mnist.test.y == theirs.targets.numpy()).all()


def test_training_and_validation_parts_of_mnist_are_torchvisions_60000_once_each(
    mnist: data.Data, shared: Callable
) -> None:
    """Every picture is there with its label, none is lost, and none is in both parts."""
    theirs = MNIST(shared("MNIST"), train=True)
    published = Part(theirs.data.flatten(1).numpy(), theirs.targets.numpy())
    assert Counter(pairs(mnist.train, mnist.validation)) == Counter(pairs(published))


def test_both_parts_of_mnist_have_all_digits_and_are_not_in_the_published_order(
    mnist: data.Data, shared: Callable
) -> None:
    for part in mnist[3:]:
        shares = np.bincount(part.y) / len(part.y)
        assert len(shares) == 10 and 0.08 < shares.min() and shares.max() < 0.125
    theirs = MNIST(shared("MNIST"), train=True)
    assert (mnist.validation.y != theirs.targets[:5_000].numpy()).mean() > 0.8


def test_the_inputs_of_mnist_are_named_by_their_places(mnist: data.Data) -> None:
    assert len(set(mnist.inputs)) == 784
    assert mnist.inputs[28 * 3 + 5] == "row 3 column 5"


# ---------------------------------------------------------------- MNIST over a network


@pytest.fixture
def server() -> Iterator[SimpleNamespace]:
    """A web server of this machine: `url`, the `files` it serves, the `requests` it got."""
    requests, files = [], {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            body = files.get(self.path)
            self.send_response(404 if body is None else 200)
            self.end_headers()
            self.wfile.write(body or b"not here")

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()

    def stop() -> None:
        http.shutdown()
        http.server_close()
        thread.join()

    yield SimpleNamespace(url=f"http://127.0.0.1:{http.server_port}", files=files,
                          requests=requests, stop=stop)
    stop()


def idx(array: np.ndarray) -> bytes:
    """MNIST's file format: zero, zero, type 8 for bytes, axes, their sizes, the bytes."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


@pytest.fixture
def small_mnist(server: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A set in MNIST's form, 60 + 20 pictures, on a second mirror; the first has nothing."""
    random = np.random.default_rng(0)
    arrays = {
        "train-images-idx3-ubyte": random.integers(0, 256, (60, 28, 28)),
        "train-labels-idx1-ubyte": np.arange(60) % 10,
        "t10k-images-idx3-ubyte": random.integers(0, 256, (20, 28, 28)),
        "t10k-labels-idx1-ubyte": np.arange(20) % 10,
    }
    packed = {name: gzip.compress(idx(array)) for name, array in arrays.items()}
    server.files.update({f"/{name}.gz": content for name, content in packed.items()})
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in packed.items()}
    monkeypatch.setattr(data, "MIRRORS", (f"{server.url}/closed/", f"{server.url}/"))
    monkeypatch.setattr(data, "FILES", hashes)
    monkeypatch.setattr(data, "VALIDATION", 10)
    return SimpleNamespace(arrays=arrays, server=server)


@pytest.mark.parametrize("name", ["mnist", "auto"])
def test_mnist_is_fetched_unpacked_and_read(tmp_path: Path, small_mnist: SimpleNamespace,
                                            name: str) -> None:
    loaded = data.load(name, tmp_path / "new")
    assert [len(part.y) for part in loaded[3:]] == [50, 10, 20]
    images, labels = (small_mnist.arrays[f"t10k-{kind}-ubyte"]
                      for kind in ("images-idx3", "labels-idx1"))
    assert (loaded.test.x == images.reshape(20, 784)).all()
    assert (loaded.test.y == labels).all()
    assert not list(tmp_path.rglob("*.partial"))


def test_mnist_once_fetched_needs_no_network(tmp_path: Path,
                                             small_mnist: SimpleNamespace) -> None:
    assert not data.on_disk("mnist", tmp_path)
    first = data.load("mnist", tmp_path)
    assert data.on_disk("mnist", tmp_path)
    small_mnist.server.stop()
    assert pairs(*data.load("mnist", tmp_path)[3:]) == pairs(*first[3:])


def test_packed_files_placed_by_hand_are_enough(tmp_path: Path,
                                                small_mnist: SimpleNamespace) -> None:
    """This is what the message about failed mirrors asks the user to do."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in small_mnist.arrays:
        (raw / f"{name}.gz").write_bytes(small_mnist.server.files[f"/{name}.gz"])
    assert len(data.load("mnist", tmp_path).test.y) == 20
    assert small_mnist.server.requests == []


def test_a_fetch_that_stopped_half_way_goes_on_with_the_files_that_are_missing(
    tmp_path: Path, small_mnist: SimpleNamespace
) -> None:
    labels = "/t10k-labels-idx1-ubyte.gz"
    content = small_mnist.server.files.pop(labels)
    with pytest.raises(Refusal):
        data.load("mnist", tmp_path)
    small_mnist.server.files[labels] = content
    small_mnist.server.requests.clear()
    data.load("mnist", tmp_path)
    assert small_mnist.server.requests == [f"/closed{labels}", labels]


def test_a_wrong_file_is_not_taken_and_the_user_learns_what_to_place_where(
    tmp_path: Path, small_mnist: SimpleNamespace
) -> None:
    name = "train-images-idx3-ubyte"
    small_mnist.server.files[f"/{name}.gz"] = gzip.compress(b"<html>log in first</html>")
    with pytest.raises(Refusal) as refusal:
        data.load("mnist", tmp_path)
    raw = tmp_path / "MNIST" / "raw"
    for word in ("/closed/", small_mnist.server.url, f"place it at {raw / name}.gz yourself",
                 data.FILES[name]):
        assert word in str(refusal.value)
    assert list(raw.iterdir()) == []


def damage(raw: Path, how: str) -> None:
    """Spoil one file of MNIST as disks and people do."""
    images, labels = raw / "train-images-idx3-ubyte", raw / "train-labels-idx1-ubyte"
    match how:
        case "empty":
            images.write_bytes(b"")
        case "cut":
            images.write_bytes(images.read_bytes()[:-1])
        case "cut in its head":
            images.write_bytes(images.read_bytes()[:9])
        case "too long":
            labels.write_bytes(labels.read_bytes() + b"\0")
        case "a web page":
            images.write_text("<html>404</html>")
        case "still packed":
            images.write_bytes(gzip.compress(images.read_bytes()))
        case "numbers of four bytes":
            labels.write_bytes(b"\0\0\x0c" + labels.read_bytes()[3:])
        case "fewer labels than images":
            labels.write_bytes(idx(np.arange(30) % 10))
        case "fewer images than labels":
            images.write_bytes(idx(np.zeros((30, 28, 28))))
        case "smaller pictures":
            images.write_bytes(idx(np.zeros((60, 20, 20))))
        case "labels in place of pictures":
            images.write_bytes(labels.read_bytes())


@pytest.mark.parametrize("how", [
    "empty", "cut", "cut in its head", "too long", "a web page", "still packed",
    "numbers of four bytes", "fewer labels than images", "fewer images than labels",
    "smaller pictures", "labels in place of pictures"])
def test_damaged_files_of_mnist_are_refused_with_their_place_and_the_remedy(
    tmp_path: Path, small_mnist: SimpleNamespace, how: str
) -> None:
    data.load("mnist", tmp_path)
    damage(tmp_path / "MNIST" / "raw", how)
    with pytest.raises(Refusal, match=r"MNIST.raw.*: delete (it|them)$"):
        data.load("mnist", tmp_path)


# ---------------------------------------------------------------- a CSV


def write(path: Path, *lines: object, encoding: str = "utf-8") -> Path:
    """A text file of some lines."""
    path.write_bytes("".join(f"{line}\n" for line in lines).encode(encoding))
    return path


KINDS = [f"{i},{i % 7},{'ab'[i % 2]}" for i in range(40)]


def everything(loaded: data.Data) -> list[tuple]:
    """All rows of a set in their first order, each with its class or number."""
    return sorted((*map(float, x), loaded.classes[y] if loaded.classes else float(y[0]))
                  for part in loaded[3:] for x, y in zip(part.x, part.y))


EXPECTED = [(float(i), float(i % 7), "ab"[i % 2]) for i in range(40)]


def test_a_table_with_a_header_gives_its_names_its_classes_and_every_row(
    tmp_path: Path
) -> None:
    path = write(tmp_path / "own.csv", "height,width,kind", *KINDS)
    loaded = data.load(str(path), NOWHERE)
    assert loaded[:3] == (str(path), ["height", "width"], ["a", "b"])
    assert everything(loaded) == EXPECTED
    assert [len(part.y) for part in loaded[3:]] == [26, 4, 10]


def test_the_first_row_of_a_table_without_a_header_is_not_lost(tmp_path: Path) -> None:
    loaded = data.load(str(write(tmp_path / "own.csv", *KINDS)), NOWHERE)
    assert loaded.inputs == ["column 1", "column 2"]
    assert everything(loaded) == EXPECTED


@pytest.mark.parametrize("kind", ["BOM", "CRLF", "quotes", "spaces", "blank lines",
                                  "no last newline"])
def test_a_table_is_read_however_a_program_has_written_it(kind: str, tmp_path: Path) -> None:
    lines, path = ["height,width,kind", *KINDS], tmp_path / "own.csv"
    if kind == "BOM":
        write(path, *lines, encoding="utf-8-sig")
    elif kind == "CRLF":
        path.write_bytes("\r\n".join(lines).encode())
    elif kind == "quotes":
        write(path, *(",".join(f'"{entry}"' for entry in line.split(",")) for line in lines))
    elif kind == "spaces":
        write(path, *(line.replace(",", " ,  ") for line in lines))
    elif kind == "blank lines":
        write(path, "", *(f"{line}\n" for line in lines), "")
    else:
        path.write_text("\n".join(lines))
    loaded = data.load(str(path), NOWHERE)
    assert loaded.inputs == ["height", "width"] and everything(loaded) == EXPECTED


def test_class_names_may_hold_commas_letters_of_all_alphabets_and_numbers(
    tmp_path: Path
) -> None:
    names = ['"red, round"', "größer", "7", "10"]
    rows = [f"{i},{names[i % 4]}" for i in range(40)]
    loaded = data.load(str(write(tmp_path / "own.csv", "x,kind", *rows)), NOWHERE)
    assert loaded.classes == ["10", "7", "größer", "red, round"]
    plain = [name.strip('"') for name in names]
    assert everything(loaded) == [(float(i), plain[i % 4]) for i in range(40)]


def test_a_regression_reads_the_last_column_as_a_number(tmp_path: Path) -> None:
    rows = [f"{i},{i * 1e-3},{-i * 1.5e3}" for i in range(40)]
    path = write(tmp_path / "own.csv", "a,b,price", *rows)
    loaded = data.load(str(path), NOWHERE, "regression")
    assert (loaded.task, loaded.classes, loaded.inputs) == ("regression", [], ["a", "b"])
    assert everything(loaded) == [(float(i), i * 1e-3, -i * 1.5e3) for i in range(40)]


@pytest.mark.parametrize("count", [2, 10, 26])
def test_ten_rows_of_each_class_are_enough_for_any_number_of_classes(
    count: int, tmp_path: Path
) -> None:
    rows = [f"{i},{'abcdefghijklmnopqrstuvwxyz'[i % count]}" for i in range(10 * count)]
    loaded = data.load(str(write(tmp_path / "own.csv", "x,kind", *rows)), NOWHERE)
    for part in loaded[3:]:
        assert (np.bincount(part.y, minlength=count) > 0).all()


def test_the_split_of_a_table_is_the_same_whatever_the_seeds(tmp_path: Path) -> None:
    path = write(tmp_path / "own.csv", "height,width,kind", *KINDS)
    first, again = (seeded(number, str(path)) for number in (0, 5))
    assert [pairs(part) for part in first[3:]] == [pairs(part) for part in again[3:]]


def test_a_refused_row_is_named_by_the_line_that_an_editor_shows(tmp_path: Path) -> None:
    path = write(tmp_path / "own.csv", "a,b,kind", *KINDS[:5], "1,2", *KINDS)
    with pytest.raises(Refusal, match="line 7: 2 values, but there are 3 columns"):
        data.load(str(path), NOWHERE)
    two_lines = '1,2,"red\nround"'
    path = write(tmp_path / "own.csv", "a,b,kind", two_lines, "", "1,2", *KINDS)
    with pytest.raises(Refusal, match="line 5: 2 values, but there are 3 columns"):
        data.load(str(path), NOWHERE)


@pytest.mark.parametrize("scale", [1e98, 1e-98, 1e-200, 5e-324])
def test_numbers_of_any_size_are_learned_from_without_a_warning(
    scale: float, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    rows = [f"{i * scale!r},{i % 7},{'ab'[i > 20]}" for i in range(40)]
    path = write(tmp_path / "own.csv", "x,y,kind", *rows)
    assert train(tmp_path / "out", "--data", path, "--epochs", 2).exists()
    assert not capsys.readouterr().err


# ---------------------------------------------------------------- the scale


def prepared(loaded: data.Data, dtype: str = "float64") -> tuple[list[data.Part], dict]:
    """The three parts as the network gets them, and what was measured."""
    config = {"dtype": dtype, "task": loaded.task, **scaling.measure(loaded)}
    return [scaling.standardised(part, config) for part in loaded[3:]], config


@pytest.mark.parametrize("name", ["moons", "spirals", "sine", "diabetes"])
def test_each_column_of_the_training_part_has_mean_0_and_deviation_1(name: str) -> None:
    (train, *_), _ = prepared(data.load(name, NOWHERE))
    np.testing.assert_allclose(train.x.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(train.x.std(axis=0), 1, atol=1e-12)


def test_all_pixels_of_pictures_share_one_scale() -> None:
    """A pixel in a corner that is nearly always black must not be blown up."""
    loaded = data.load("digits", NOWHERE)
    (train, *_), config = prepared(loaded)
    assert len(config["mean"]) == len(config["std"]) == 1
    assert train.x.mean() == pytest.approx(0) and train.x.std() == pytest.approx(1)
    assert len({float(train.x[i, j]) for i, j in zip(*np.nonzero(loaded.train.x == 0))}) == 1


@pytest.mark.parametrize("name", ["sine", "diabetes"])
def test_the_targets_of_a_regression_have_mean_0_and_deviation_1(name: str) -> None:
    (train, *_), _ = prepared(data.load(name, NOWHERE))
    assert train.y.mean() == pytest.approx(0) and train.y.std() == pytest.approx(1)


def test_labels_stay_as_they_are() -> None:
    loaded = data.load("digits", NOWHERE)
    parts, _ = prepared(loaded)
    assert all((ours.y == theirs.y).all() for ours, theirs in zip(parts, loaded[3:]))


def test_the_other_parts_are_measured_with_the_scale_of_the_training_part() -> None:
    """Their own would tell the network something about samples that it must not know."""
    loaded = data.load("diabetes", NOWHERE)
    (_, *others), _ = prepared(loaded)
    x, y = loaded.train
    for ours, raw in zip(others, loaded[4:]):
        np.testing.assert_allclose(ours.x, (raw.x - x.mean(axis=0)) / x.std(axis=0))
        np.testing.assert_allclose(ours.y, (raw.y - y.mean()) / y.std())
        assert abs(ours.x.mean(axis=0)).max() > 0.01


@pytest.mark.parametrize("name", ["digits", "diabetes"])
def test_inputs_and_targets_come_in_the_numbers_of_the_network(name: str) -> None:
    parts, _ = prepared(data.load(name, NOWHERE), "float32")
    kinds = {part.x.dtype.str for part in parts} | {
        part.y.dtype.str for part in parts if name == "diabetes"}
    assert kinds == {"<f4"}


@pytest.mark.parametrize("value", [0.0, 7.0, 0.1, 1 / 3, 1e9 + 0.1])
def test_a_column_that_never_changes_becomes_0_and_a_new_value_in_it_is_no_catastrophe(
    value: float
) -> None:
    """The mean of many 0.1 is not 0.1 to the last bit, so its deviation is not quite 0."""
    rng = np.random.default_rng(0)
    x = np.stack([rng.normal(size=668), np.full(668, value)], axis=1)
    part = Part(x, np.arange(668) % 2)
    (train, *_), config = prepared(data.Data("own", ["a", "b"], ["p", "q"], part, part, part))
    np.testing.assert_allclose(train.x[:, 1], 0, atol=1e-3)
    assert train.x[:, 0].std() == pytest.approx(1)
    new = scaling.to_input(np.array([[0.0, value + 1]]), config)
    assert abs(new[0, 1]) <= 1.001


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_targets_that_never_change_in_the_training_part_are_no_catastrophe(
    value: float
) -> None:
    """A table with one rare number in its last column may have it in the test part."""
    x = np.random.default_rng(0).normal(size=(100, 1))
    part = Part(x, np.full((100, 1), value))
    rare = Part(x[:1], np.ones((1, 1)))
    (train, _, test), _ = prepared(data.Data("own", ["a"], [], part, part, rare))
    np.testing.assert_allclose(train.y, 0, atol=1e-12)
    assert test.y == pytest.approx(1 - value)


# ---------------------------------------------------------------- inference: tables


def train(out: Path, *flags: object) -> Path:
    """A short run; gives its best checkpoint."""
    given = ["--out-dir", out, *flags]
    assert backprop.train.main([str(word) for word in given]) == 0
    return out / "best.npz"


def weight(age: float, size: float) -> float:
    return 50_000 + 3_000 * age - 800 * size


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A classifier of red above blue, and a regression in large units, of own tables."""
    home, rng = tmp_path_factory.mktemp("own"), np.random.default_rng(0)
    ages, sizes = rng.uniform(0, 10, 200), rng.uniform(100, 200, 200)
    kinds = [f"{a},{s},{'red' if a > 5 else 'blue'}" for a, s in zip(ages, sizes)]
    weights = [f"{a},{s},{weight(a, s)}" for a, s in zip(ages, sizes)]
    kind = write(home / "kinds.csv", "age,size,kind", *kinds)
    number = write(home / "weights.csv", "age,size,weight", *weights)
    return SimpleNamespace(
        home=home, classifier=train(home / "c", "--data", kind),
        regression=train(home / "r", "--data", number, "--task", "regression"))


def ask(capsys: pytest.CaptureFixture, checkpoint: Path, *flags: object) -> SimpleNamespace:
    """What inference.py answers: its `code`, `out`, and `err` after the line "using …"."""
    capsys.readouterr()
    given = ["--checkpoint", checkpoint, *flags]
    code = backprop.inference.main([str(word) for word in given])
    printed = capsys.readouterr()
    using, _, errors = printed.err.partition("\n")
    assert using == f"using {backprop.console.from_here(checkpoint)}"
    return SimpleNamespace(code=code, out=printed.out, err=errors)


def table(answer: SimpleNamespace) -> list[dict]:
    """The rows of an answer in CSV."""
    assert answer.code == 0 and answer.err == "", answer.err
    return list(csv.DictReader(answer.out.splitlines()))


ROWS = [(2.0, 130.0), (9.0, 170.0), (1.0, 180.0), (8.0, 110.0)]


@pytest.mark.parametrize("kind", ["as trained", "another order", "with the answer",
                                  "answer first", "no header", "other names", "one row"])
def test_a_table_is_answered_row_by_row_whatever_the_order_of_its_columns(
    kind: str, own: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Columns are found by their names, else by their places; the answer may be there too."""
    lines = {
        "as trained": ["age,size", *(f"{a},{s}" for a, s in ROWS)],
        "another order": ["size,other,age", *(f"{s},0,{a}" for a, s in ROWS)],
        "with the answer": ["age,size,kind", *(f"{a},{s},unknown" for a, s in ROWS)],
        "answer first": ["kind,age,size", *(f"?,{a},{s}" for a, s in ROWS)],
        "no header": [f"{a},{s}" for a, s in ROWS],
        "other names": ["a,b,c", *(f"{a},{s},red" for a, s in ROWS)],
        "one row": ["age,size", "2.0,130.0"],
    }[kind]
    path = write(tmp_path / "new.csv", *lines)
    answer = ask(capsys, own.classifier, "--csv", path)
    if kind == "other names":
        assert answer.err == "no column has a name from training: taking them in their order\n"
        answer.err = ""
    rows = table(answer)
    expected = ["blue", "red", "blue", "red"][: len(rows)]
    assert [row["prediction"] for row in rows] == expected
    assert len(rows) == (1 if kind == "one row" else 4)
    assert all(0.9 < float(row["probability"]) <= 1 for row in rows)


def test_columns_without_names_must_be_as_many_as_in_training(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """They are called column 1, column 2 … in messages, but nobody has named them."""
    best = train(tmp_path / "out", "--data", write(tmp_path / "own.csv", *KINDS), "--epochs", 1)
    for row, code in (("1,2", 0), ("1,2,a", 0), ("1,2,3,4", 1), ("1", 1)):
        assert ask(capsys, best, "--csv", write(tmp_path / "new.csv", row)).code == code


def test_a_regression_answers_in_the_units_of_its_targets(
    own: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = write(tmp_path / "new.csv", "size,age", *(f"{s},{a}" for a, s in ROWS))
    rows = table(ask(capsys, own.regression, "--csv", path))
    said = np.array([float(row["prediction"]) for row in rows])
    truth = np.array([weight(a, s) for a, s in ROWS])      # from -91,000 to -11,000
    assert abs(said - truth).max() < 5_000


@pytest.mark.parametrize(("lines", "sentence"), [
    (["age", "1"], "new.csv has no column size"),
    (["a,b,c,d", "1,2,3,4"], "of columns (4) than the network reads (2): age, size …"),
    (["age,size", "1,2", "1"], "line 3: 1 values, but there are 2 columns"),
    (["age,size", "1,2", "1,large"], "line 3, size: 'large' is not a number"),
    (["size,age", "", "1,nan"], "line 3, age: 'nan' is not between -1e+100 and 1e+100"),
    (["nan,1"], "line 1, column 1: 'nan' is not between -1e+100 and 1e+100"),
    (["age,size", "1,-inf"], "line 2, size: '-inf' is not between -1e+100 and 1e+100"),
    (["age,size", "1,-1e100"], "line 2, size: '-1e100' is not between -1e+100 and 1e+100"),
    (["age,size"], "needs rows of numbers"), ([], "is empty"),
])
def test_a_table_that_cannot_be_answered_is_one_sentence(
    lines: list[str], sentence: str, own: SimpleNamespace, tmp_path: Path,
    capsys: pytest.CaptureFixture
) -> None:
    path = write(tmp_path / "new.csv", *lines)
    answer = ask(capsys, own.classifier, "--csv", path)
    assert answer.code == 1 and answer.out == ""
    assert answer.err.startswith("error: ") and answer.err.count("\n") == 1
    assert sentence in answer.err


def test_a_table_that_is_not_there_is_one_sentence(own: SimpleNamespace, tmp_path: Path,
                                                   capsys: pytest.CaptureFixture) -> None:
    answer = ask(capsys, own.classifier, "--csv", tmp_path / "none.csv")
    assert answer.code == 1 and answer.out == "" and answer.err.count("\n") == 1
    assert str(tmp_path / "none.csv") in answer.err


# ---------------------------------------------------------------- inference: test samples


@pytest.mark.parametrize("index", [0, 7, 49])
def test_a_test_sample_is_answered_beside_the_truth(
    index: int, own: SimpleNamespace, capsys: pytest.CaptureFixture
) -> None:
    loaded = data.load(str(own.home / "kinds.csv"), NOWHERE)
    x, y = loaded.test.x[index], loaded.classes[loaded.test.y[index]]
    answer = ask(capsys, own.classifier, "--index", index)
    path = own.home / "kinds.csv"
    assert answer.out.startswith(f"test sample {index} of {path}, {y}: "), answer.err
    best, second = answer.out.rpartition(": ")[2].split(", ")
    assert best.startswith(f"{'red' if x[0] > 5 else 'blue'} (") and second.endswith("%)\n")


def test_a_sample_of_a_regression_is_answered_in_the_units_of_its_targets(
    own: SimpleNamespace, capsys: pytest.CaptureFixture
) -> None:
    answer = ask(capsys, own.regression, "--index", 3)
    truth, said = (float(word.rpartition(", ")[2]) for word in answer.out.rsplit(": ", 1))
    loaded = data.load(str(own.home / "weights.csv"), NOWHERE, "regression")
    assert truth == pytest.approx(float(loaded.test.y[3, 0]), rel=1e-3)
    assert said == pytest.approx(truth, abs=5_000)


def test_without_a_question_the_first_test_sample_is_answered(
    own: SimpleNamespace, capsys: pytest.CaptureFixture
) -> None:
    assert ask(capsys, own.classifier).out == ask(capsys, own.classifier, "--index", 0).out


def test_without_a_question_and_without_mnist_the_photograph_of_the_folder_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Right after cloning, the pretrained network must answer something; it never downloads."""
    folder = ROOT / "backprop_from_scratch"
    answer = ask(capsys, folder / "pretrained.npz", "--data-dir", tmp_path)
    assert answer.code == 0 and answer.err == ""
    file, said = answer.out.split(": ")
    assert Path(file) == folder / "assets" / "photo.jpg"
    assert said[0].isdigit() and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("index", [50, 10**9])
def test_an_index_beyond_the_test_samples_is_one_sentence(
    index: int, own: SimpleNamespace, capsys: pytest.CaptureFixture
) -> None:
    answer = ask(capsys, own.classifier, "--index", index)
    assert answer.code == 1 and answer.out == ""
    assert answer.err.endswith("has the test samples 0 to 49\n") and answer.err.count("\n") == 1


@pytest.mark.parametrize("flags", ["--index -1", "--index one", "--index 1 --csv x.csv"])
def test_a_question_that_makes_no_sense_is_a_matter_of_usage(
    flags: str, own: SimpleNamespace, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as end:
        backprop.inference.main(["--checkpoint", str(own.classifier), *flags.split()])
    assert end.value.code == 2


@pytest.mark.parametrize("name", ["moons", "digits"])
def test_a_set_with_other_columns_or_classes_than_the_checkpoint_is_refused(
    name: str, own: SimpleNamespace, capsys: pytest.CaptureFixture
) -> None:
    answer = ask(capsys, own.classifier, "--data", name)
    assert answer.code == 1 and answer.out == ""
    assert answer.err == (f"error: {name} has other columns or classes than the checkpoint: "
                          "name another set with --data, or another --checkpoint\n")


def test_a_set_that_is_gone_is_one_sentence_with_the_remedy_and_is_not_fetched(
    own: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = backprop.checkpoint.load(own.classifier)
    monkeypatch.setattr(data, "fetch", None)
    for name in (str(tmp_path / "gone.csv"), "mnist"):
        backprop.checkpoint.save(tmp_path / "x.npz", {
            **whole, "config": {**whole["config"], "data": name}})
        answer = ask(capsys, tmp_path / "x.npz", "--index", 0, "--data-dir", tmp_path)
        assert answer.code == 1 and answer.err.count("\n") == 1
        assert f"error: {name} is not on this disk: say where" in answer.err


# ---------------------------------------------------------------- inference: pictures


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that reads the embedded digits."""
    out = tmp_path_factory.mktemp("reader")
    return train(out, "--data", "digits", "--layers", 64, "--epochs", 30, "--dropout", 0.2)


def draw(path: Path, digit: np.ndarray, side: int = 200) -> Path:
    """One of the embedded digits (64,) in large, as black ink on a sheet of white paper."""
    ink = Image.fromarray((255 - digit.reshape(8, 8) * 255 / 16).round().astype(np.uint8))
    sheet = Image.new("L", (side + 100, side + 60), 255)
    sheet.paste(ink.resize((side, side), Image.Resampling.BICUBIC), (20, 30))
    sheet.save(path)
    return path


def test_drawn_digits_are_read_by_a_network_of_digits(
    reader: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Fewer than the test samples themselves, since they were drawn, cut out and shrunk."""
    test = data.load("digits", NOWHERE).test
    files = [draw(tmp_path / f"{i}.png", test.x[i]) for i in range(60)]
    answer = ask(capsys, reader, "--image", *files)
    assert answer.code == 0 and answer.err == ""
    lines = answer.out.splitlines()
    assert [line.split(": ")[0] for line in lines] == [str(file) for file in files]
    said = [line.split(": ")[1][0] for line in lines]
    assert np.mean([word == str(y) for word, y in zip(said, test.y)]) > 0.75


def test_a_prepared_picture_lies_on_the_scale_of_the_embedded_digits(tmp_path: Path) -> None:
    test, likeness = data.load("digits", NOWHERE).test, []
    for i in range(20):
        x = backprop.inference.picture(draw(tmp_path / "x.png", test.x[i]), {"data": "digits"})
        assert x.shape == (1, 64) and x.min() == 0 and x.max() == 16
        assert abs(x.mean() - test.x[i].mean()) < 2
        likeness.append(np.corrcoef(x[0], test.x[i])[0, 1])
    assert np.mean(likeness) > 0.75      # some are drawn off the centre, and are moved there


def test_a_wide_picture_and_a_tall_one_fit_into_the_field(tmp_path: Path) -> None:
    for size in ((100, 10), (10, 100), (60, 60)):
        sheet = Image.new("L", (160, 160), 255)
        sheet.paste(0, (20, 20, 20 + size[0], 20 + size[1]))
        sheet.save(tmp_path / "x.png")
        x = backprop.inference.picture(tmp_path / "x.png", {"data": "digits"}).reshape(8, 8)
        assert (x.max(axis=1) > 0).all()      # as the embedded digits fill all eight rows
        columns = np.flatnonzero(x.max(axis=0))
        assert abs(columns.mean() - 3.5) <= 0.5


def test_a_picture_for_a_network_of_mnist_is_prepared_as_lenet_does(tmp_path: Path) -> None:
    test = data.load("digits", NOWHERE).test
    theirs = load("lenet_from_scratch").prepare.prepare(draw(tmp_path / "x.png", test.x[0]))
    x = backprop.inference.picture(tmp_path / "x.png", {"data": "mnist"})
    assert x.shape == (1, 784)
    assert (x.reshape(28, 28) == np.asarray(theirs)).all()


def test_a_picture_is_refused_by_a_network_of_something_else(
    own: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    file = draw(tmp_path / "x.png", data.load("digits", NOWHERE).test.x[0])
    answer = ask(capsys, own.classifier, "--image", file)
    assert answer.code == 1 and answer.out == "" and answer.err.count("\n") == 1
    assert "kinds.csv, not pictures of digits" in answer.err


@pytest.mark.parametrize("kind", ["missing", "text", "blank"])
def test_a_picture_that_is_none_is_one_sentence(
    kind: str, reader: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    file = tmp_path / "x.png"
    if kind == "text":
        file.write_text("a seven")
    elif kind == "blank":
        Image.new("L", (100, 100), 255).save(file)
    answer = ask(capsys, reader, "--image", file)
    assert answer.code == 1 and answer.out == ""
    assert answer.err.startswith("error: ") and answer.err.count("\n") == 1
    assert "x.png" in answer.err


def test_pictures_are_prepared_by_the_text_that_is_tested_for_lenet() -> None:
    """The tests of that text are those of the other folder; only a number is not cited here."""
    ours, theirs = (ROOT / folder / "prepare.py"
                    for folder in ("backprop_from_scratch", "lenet_from_scratch"))
    cited = theirs.read_text(encoding="utf-8")
    assert cited.count("  # (13)\n") == 1
    assert ours.read_text(encoding="utf-8") == cited.replace("  # (13)\n", "\n")
