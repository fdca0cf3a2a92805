"""Where LeNet's pictures come from: the embedded set, MNIST, folders, and downloads."""

import gzip
import hashlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from support import load

lenet = load("lenet_from_scratch")
data = lenet.data
Refusal = lenet.console.Refusal

DIGITS = [str(digit) for digit in range(10)]
NOBODY = "http://127.0.0.1:9/"     # the discard port: a connection is refused at once


def pictures(*parts: data.Part) -> list[bytes]:
    """All pictures of some parts, as bytes that can be compared and counted."""
    return [image.numpy().tobytes() for part in parts for image in part.images]


# ---------------------------------------------------------------- the embedded digits


@pytest.fixture(scope="module")
def digits() -> data.Data:
    return data.embedded_digits()


def test_the_embedded_digits_are_1200_to_train_147_to_validate_and_450_to_test(digits):
    assert [len(part.labels) for part in digits[2:]] == [1200, 147, 450]
    assert [len(part.images) for part in digits[2:]] == [1200, 147, 450]


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_every_part_of_the_embedded_digits_has_every_class_about_equally_often(digits, part):
    counts = getattr(digits, part).labels.bincount(minlength=10)
    assert len(counts) == 10
    assert counts.max() <= 1.2 * counts.min()


def test_no_embedded_digit_is_in_two_parts(digits):
    assert len(set(pictures(*digits[2:]))) == 1797


def test_the_embedded_digits_look_like_mnist(digits):
    """uint8, 28×28, and a frame of black: the digit fills the 20 pixels in the middle."""
    images = digits.train.images
    assert images.dtype == torch.uint8
    assert images.shape[1:] == (28, 28)
    assert (images.amax(dim=(1, 2)) == 255).all()
    heights = (images.amax(2) > 0).sum(1)
    widths = (images.amax(1) > 0).sum(1)
    assert (torch.maximum(heights, widths) == 20).float().mean() > 0.95


def test_the_labels_of_the_embedded_digits_are_class_numbers(digits):
    assert digits.classes == DIGITS
    assert digits.train.labels.dtype == torch.int64


def test_the_embedded_digits_belong_to_their_labels(digits):
    """The mean picture of a class is nearest to most pictures of that class."""
    images, labels = digits.train.images.flatten(1).float(), digits.train.labels
    means = torch.stack([images[labels == digit].mean(0) for digit in range(10)])
    nearest = torch.cdist(digits.test.images.flatten(1).float(), means).argmin(1)
    assert (nearest == digits.test.labels).float().mean() > 0.8


@pytest.mark.parametrize("seed", [1, 2])
def test_the_split_of_the_embedded_digits_is_the_same_whatever_the_seeds(digits, seed):
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the legacy state is what scikit-learn would use
    again = data.embedded_digits()
    assert pictures(*again[2:]) == pictures(*digits[2:])


def test_a_shortened_set_keeps_the_first_pictures_of_each_part_with_their_labels(digits):
    short = data.shortened(digits, 150)
    assert [len(part.images) for part in short[2:]] == [150, 147, 150]
    assert torch.equal(short.test.images, digits.test.images[:150])
    assert torch.equal(short.test.labels, digits.test.labels[:150])


# ---------------------------------------------------------------- MNIST on disk


@pytest.fixture(scope="module")
def mnist(shared) -> data.Data:
    return data.load("mnist", shared("MNIST"))


def test_mnist_is_55000_to_train_5000_to_validate_and_10000_to_test(mnist):
    assert [len(part.labels) for part in mnist[2:]] == [55_000, 5_000, 10_000]
    assert [tuple(part.images.shape[1:]) for part in mnist[2:]] == [(28, 28)] * 3


def test_training_and_validation_parts_of_mnist_are_its_60000_once_each(mnist, shared):
    """Every picture is there with its label, none is lost, and none is in both parts."""
    raw = shared("MNIST") / "MNIST/raw"
    pixels = (raw / "train-images-idx3-ubyte").read_bytes()[16:]
    published = [pixels[start : start + 784] for start in range(0, len(pixels), 784)]
    labels = (raw / "train-labels-idx1-ubyte").read_bytes()[8:]
    ours = torch.cat([mnist.train.labels, mnist.validation.labels]).tolist()
    assert Counter(zip(pictures(mnist.train, mnist.validation), ours)) == Counter(
        zip(published, labels))


def test_the_test_part_of_mnist_is_the_published_one_in_its_order(mnist, shared):
    raw = shared("MNIST") / "MNIST/raw"
    assert b"".join(pictures(mnist.test)) == (raw / "t10k-images-idx3-ubyte").read_bytes()[16:]
    labels = mnist.test.labels.to(torch.uint8).numpy().tobytes()
    assert labels == (raw / "t10k-labels-idx1-ubyte").read_bytes()[8:]


def test_the_classes_of_mnist_are_the_digits(mnist):
    assert mnist.classes == DIGITS


@pytest.mark.parametrize("seed", [1, 2])
def test_the_validation_part_of_mnist_is_the_same_whatever_the_seeds(mnist, shared, seed):
    torch.manual_seed(seed)
    again = data.load("mnist", shared("MNIST"))
    assert torch.equal(again.validation.images, mnist.validation.images)


def test_auto_is_mnist_where_mnist_is_on_disk(shared):
    assert data.load("auto", shared("MNIST")).name == "mnist"


# ---------------------------------------------------------------- MNIST that is not there


@pytest.fixture
def no_mirror(monkeypatch) -> None:
    """Every mirror of every published set refuses the connection."""
    deaf = {name: source._replace(mirrors=(NOBODY,)) for name, source in data.SOURCES.items()}
    monkeypatch.setattr(data, "SOURCES", deaf)


def test_auto_without_mnist_and_without_a_network_is_the_embedded_digits(tmp_path, no_mirror):
    assert data.load("auto", tmp_path).name == "digits"


def test_auto_says_on_stderr_that_it_fell_back(tmp_path, no_mirror, capsys):
    data.load("auto", tmp_path)
    printed = capsys.readouterr()
    assert "digits instead of MNIST" in printed.err
    assert printed.out == ""


def test_auto_falls_back_where_nothing_can_be_written(tmp_path, no_mirror):
    """A folder installed by somebody else cannot be downloaded into; digits need no disk."""
    (tmp_path / "a_file").write_text("no folder can be made in me")
    assert data.load("auto", tmp_path / "a_file").name == "digits"


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_an_explicit_name_never_falls_back(tmp_path, no_mirror, name):
    with pytest.raises(Refusal, match="could not be fetched"):
        data.load(name, tmp_path)


def test_a_name_that_is_nothing_is_refused_with_the_names_there_are(tmp_path):
    with pytest.raises(Refusal, match="auto, digits, mnist, fashion-mnist"):
        data.load(str(tmp_path / "nowhere"), tmp_path)


# ---------------------------------------------------------------- a folder of your own


def picture(number: int) -> Image.Image:
    """A black line and a dot on white paper, different for every number."""
    image = Image.new("L", (32, 32), 255)
    pen = ImageDraw.Draw(image)
    pen.line([(6, 6 + number % 20), (25, 25)], fill=0, width=3)
    pen.rectangle([20, 6, 21 + number // 20, 8], fill=0)
    return image


def make_folder(folder: Path, *classes: str, count: int = 14) -> Path:
    """A folder of class folders with `count` pictures each."""
    for place, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            picture(40 * place + number).save(folder / name / f"{number}.png")
    return folder


def test_the_classes_of_a_folder_are_the_names_of_its_folders_in_order(tmp_path):
    folder = make_folder(tmp_path, "cherry", "apple", "banana")
    assert data.load(str(folder), tmp_path).classes == ["apple", "banana", "cherry"]


def test_every_picture_of_a_folder_is_in_exactly_one_part_with_its_own_label(tmp_path):
    folder = make_folder(tmp_path, "a", "b")
    loaded = data.load(str(folder), tmp_path)
    labels = torch.cat([part.labels for part in loaded[2:]]).tolist()
    expected = [(lenet.prepare.prepare(folder / name / f"{number}.png").tobytes(), label)
                for label, name in enumerate("ab") for number in range(14)]
    assert sorted(zip(pictures(*loaded[2:]), labels)) == sorted(expected)


def test_threads_that_read_a_folder_change_nothing(tmp_path):
    folder = make_folder(tmp_path, "a", "b")
    alone, threads = (data.load(str(folder), tmp_path, workers) for workers in (0, 3))
    assert pictures(*alone[2:]) == pictures(*threads[2:])
    for one, other in zip(alone[2:], threads[2:]):
        assert torch.equal(one.labels, other.labels)


def add_broken_pictures(folder: Path) -> None:
    """Four files that are called pictures and hold no digit."""
    whole = (folder / "a" / "0.png").read_bytes()
    (folder / "a" / "text.png").write_text("this is no picture")
    (folder / "a" / "empty.jpg").write_bytes(b"")
    (folder / "b" / "truncated.PNG").write_bytes(whole[: len(whole) // 2])
    Image.new("L", (28, 28), 255).save(folder / "b" / "blank.png")


def test_broken_pictures_are_left_out(tmp_path):
    folder = make_folder(tmp_path, "a", "b")
    before = data.load(str(folder), tmp_path)
    add_broken_pictures(folder)
    assert pictures(*data.load(str(folder), tmp_path)[2:]) == pictures(*before[2:])


def test_broken_pictures_are_counted_on_stderr(tmp_path, capsys):
    folder = make_folder(tmp_path, "a", "b")
    add_broken_pictures(folder)
    data.load(str(folder), tmp_path)
    assert "left out 4 of 32 files" in capsys.readouterr().err


def test_a_picture_that_breaks_the_reader_is_left_out_like_any_other(tmp_path):
    """Pillow reports some damage as RuntimeError or NotImplementedError."""
    folder = make_folder(tmp_path, "a", "b")
    picture(0).save(tmp_path / "a" / "damaged.avif")
    whole = (tmp_path / "a" / "damaged.avif").read_bytes()
    (tmp_path / "a" / "damaged.avif").write_bytes(whole.replace(b"pitm", b"pitx"))
    assert sum(len(part.labels) for part in data.load(str(folder), tmp_path)[2:]) == 28


def test_files_that_are_not_called_pictures_are_ignored_without_a_word(tmp_path, capsys):
    folder = make_folder(tmp_path, "a", "b")
    for place in (folder, folder / "a"):
        (place / "notes.txt").write_text("apples")
        (place / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    assert sum(len(part.labels) for part in data.load(str(folder), tmp_path)[2:]) == 28
    assert capsys.readouterr().err == ""


def test_a_hidden_folder_is_not_a_class(tmp_path):
    """Jupyter, macOS and git leave such folders wherever one looks at pictures."""
    folder = make_folder(tmp_path, "a", "b")
    (folder / ".ipynb_checkpoints").mkdir()
    assert data.load(str(folder), tmp_path).classes == ["a", "b"]


def test_pictures_in_folders_inside_a_class_folder_belong_to_that_class(tmp_path):
    folder = make_folder(tmp_path, "a", "b")
    (folder / "a" / "monday" / "morning").mkdir(parents=True)
    picture(39).save(folder / "a" / "monday" / "morning" / "1.png")
    loaded = data.load(str(folder), tmp_path)
    assert sum((part.labels == 0).sum() for part in loaded[2:]) == 15


@pytest.mark.parametrize("count", [0, 1])
def test_a_folder_with_fewer_than_two_classes_is_refused(tmp_path, count):
    folder = make_folder(tmp_path, *"ab"[:count])
    with pytest.raises(Refusal, match=f"at least two class folders, it has {count}"):
        data.load(str(folder), tmp_path)


@pytest.mark.parametrize("count", [0, 1, 9])
def test_a_class_with_too_few_pictures_is_refused_by_name(tmp_path, count):
    folder = make_folder(tmp_path, "enough")
    make_folder(tmp_path, "too_few", count=count)
    with pytest.raises(Refusal, match=f"too_few has {count} usable pictures"):
        data.load(str(folder), tmp_path)


@pytest.mark.parametrize("count", [2, 10, 26])
def test_ten_pictures_of_each_class_are_enough_for_any_number_of_classes(tmp_path, count):
    folder = make_folder(tmp_path, *"abcdefghijklmnopqrstuvwxyz"[:count], count=10)
    for part in data.load(str(folder), tmp_path)[2:]:
        assert (part.labels.bincount(minlength=count) > 0).all()


def test_a_file_in_place_of_a_folder_is_refused(tmp_path):
    picture(0).save(tmp_path / "picture.png")
    with pytest.raises(Refusal, match="picture.png"):
        data.load(str(tmp_path / "picture.png"), tmp_path)


def test_a_train_folder_and_a_test_folder_are_kept_apart(tmp_path):
    make_folder(tmp_path / "train", "a", "b", count=20)
    make_folder(tmp_path / "test", "a", "b", count=12)
    loaded = data.load(str(tmp_path), tmp_path)
    assert [len(part.labels) for part in loaded[2:]] == [36, 4, 24]
    tested = sorted(lenet.prepare.prepare(path).tobytes()
                    for path in (tmp_path / "test").rglob("*.png"))
    assert sorted(pictures(loaded.test)) == tested


def test_a_train_folder_without_a_test_folder_is_refused(tmp_path):
    make_folder(tmp_path / "train", "a", "b")
    with pytest.raises(Refusal, match="there is no folder .*test"):
        data.load(str(tmp_path), tmp_path)


def test_different_classes_in_train_and_test_are_refused(tmp_path):
    make_folder(tmp_path / "train", "a", "b")
    make_folder(tmp_path / "test", "a", "c")
    with pytest.raises(Refusal, match="different class folders"):
        data.load(str(tmp_path), tmp_path)


# ---------------------------------------------------------------- pictures for a checkpoint


def config(name: str, classes: list[str]) -> dict:
    """The part of a checkpoint's configuration that says what it was trained on."""
    return {"data": name, "classes": classes}


def test_without_a_name_the_test_pictures_are_those_the_checkpoint_was_trained_for(tmp_path):
    folder = make_folder(tmp_path, "a", "b")
    name, part = data.load_test(config(str(folder), ["a", "b"]), None, tmp_path)
    assert name == str(folder)
    assert pictures(part) == pictures(data.from_folder(folder).test)


def test_the_digits_stand_in_for_mnist_where_it_is_not_on_disk(tmp_path, capsys):
    """inference.py must answer right after cloning, and it never downloads."""
    name, part = data.load_test(config("mnist", DIGITS), None, tmp_path)
    assert (name, len(part.labels)) == ("digits", 450)
    assert "embedded digits" in capsys.readouterr().err


def test_mnist_on_disk_is_used_for_a_checkpoint_trained_on_mnist(shared, mnist):
    name, part = data.load_test(config("mnist", DIGITS), None, shared("MNIST"))
    assert name == "mnist"
    assert torch.equal(part.images, mnist.test.images)


def test_a_data_set_with_other_classes_than_the_checkpoint_is_refused_with_both(tmp_path):
    folder = make_folder(tmp_path, "a", "b")
    with pytest.raises(Refusal, match="knows the classes x, y.* has a, b"):
        data.load_test(config("digits", ["x", "y"]), str(folder), tmp_path)


def test_the_same_classes_in_another_order_are_other_classes(tmp_path):
    folder = make_folder(tmp_path, "a", "b")
    with pytest.raises(Refusal, match="classes"):
        data.load_test(config(str(folder), ["b", "a"]), None, tmp_path)


# ---------------------------------------------------------------- downloads


GOOD = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(GOOD).hexdigest()


@pytest.fixture
def server() -> Iterator[SimpleNamespace]:
    """A web server of this machine: `url`, the `files` it serves, the `requests` it got.

    Some paths misbehave: see `answer`.
    """
    requests, files, over = [], {"/good": GOOD}, threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            answer(self, files, over)

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()

    def stop() -> None:
        over.set()
        http.shutdown()
        http.server_close()
        thread.join()

    yield SimpleNamespace(url=f"http://127.0.0.1:{http.server_port}", files=files,
                          requests=requests, stop=stop)
    stop()


def answer(request: BaseHTTPRequestHandler, files: dict, over: threading.Event) -> None:
    """Serve one request, well or in one of the ways in which mirrors fail."""
    headers, body = {}, GOOD
    match request.path:
        case "/nonsense":
            request.wfile.write(b"220 this is the mail server\r\n\r\n")
            return
        case "/hangs":
            over.wait(20)
            return
        case "/redirect":
            headers = {"Location": "/good"}
        case "/truncated":
            headers, body = {"Content-Length": str(len(GOOD))}, GOOD[:1000]
        case "/truncated_chunk":
            headers, body = {"Transfer-Encoding": "chunked"}, b"fff\r\n" + GOOD[:1000]
        case "/wrong":
            body = b"<html>Please log in to this hotel's network.</html>"
    found = request.path in files or headers or request.path == "/wrong"
    request.send_response(302 if "Location" in headers else 200 if found else 403)
    for name, value in headers.items():
        request.send_header(name, value)
    request.end_headers()
    request.wfile.write(files.get(request.path, body) if found else b"go away")


def fetch(path: Path, *urls: str) -> None:
    waits = any("hangs" in url for url in urls)
    lenet.download.fetch(urls, path, SHA256, timeout=1 if waits else 10)


BAD = ["forbidden", "wrong", "truncated", "truncated_chunk", "hangs", "nonsense"]


def test_a_file_is_fetched_whole(tmp_path, server):
    fetch(tmp_path / "file", f"{server.url}/good")
    assert (tmp_path / "file").read_bytes() == GOOD


def test_a_folder_for_the_file_is_made(tmp_path, server):
    fetch(tmp_path / "new" / "folder" / "file", f"{server.url}/good")
    assert (tmp_path / "new" / "folder" / "file").exists()


@pytest.mark.parametrize("bad", BAD)
def test_after_a_mirror_that_fails_the_next_is_tried(tmp_path, server, bad):
    fetch(tmp_path / "file", f"{server.url}/{bad}", f"{server.url}/good")
    assert (tmp_path / "file").read_bytes() == GOOD
    assert server.requests == [f"/{bad}", "/good"]


def test_after_a_mirror_that_refuses_the_connection_the_next_is_tried(tmp_path, server):
    fetch(tmp_path / "file", NOBODY, f"{server.url}/good")
    assert (tmp_path / "file").read_bytes() == GOOD


def test_a_mirror_that_hangs_is_given_up_soon(tmp_path, server):
    """Half a second is the limit here; the server would keep us for twenty."""
    started = time.monotonic()
    fetch(tmp_path / "file", f"{server.url}/hangs", f"{server.url}/good")
    assert time.monotonic() - started < 10


def test_a_mirror_that_sends_us_elsewhere_is_followed(tmp_path, server):
    fetch(tmp_path / "file", f"{server.url}/redirect")
    assert (tmp_path / "file").read_bytes() == GOOD


def test_the_mirrors_after_a_good_one_are_left_alone(tmp_path, server):
    fetch(tmp_path / "file", f"{server.url}/good", f"{server.url}/forbidden")
    assert server.requests == ["/good"]


def test_a_file_that_is_there_is_not_fetched_again(tmp_path, server):
    fetch(tmp_path / "file", f"{server.url}/good")
    server.requests.clear()
    fetch(tmp_path / "file", f"{server.url}/good")
    assert server.requests == []


@pytest.mark.parametrize("bad", BAD)
def test_a_failed_download_leaves_nothing_behind(tmp_path, server, bad):
    with pytest.raises(Refusal):
        fetch(tmp_path / "file", f"{server.url}/{bad}")
    assert list(tmp_path.iterdir()) == []


def test_a_successful_download_leaves_only_the_file(tmp_path, server):
    fetch(tmp_path / "file", f"{server.url}/truncated", f"{server.url}/good")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_when_all_mirrors_fail_every_one_is_named(tmp_path, server):
    urls = [f"{server.url}/forbidden", f"{server.url}/wrong", NOBODY]
    with pytest.raises(Refusal) as refusal:
        fetch(tmp_path / "file", *urls)
    assert all(url in str(refusal.value) for url in urls)


def test_when_all_mirrors_fail_the_user_learns_where_to_place_which_file_by_hand(tmp_path):
    with pytest.raises(Refusal, match="place it at") as refusal:
        fetch(tmp_path / "file", NOBODY)
    assert str(tmp_path / "file") in str(refusal.value)
    assert SHA256 in str(refusal.value)


def test_a_wrong_file_that_was_there_stays_until_the_right_one_has_come(tmp_path, server):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(Refusal):
        fetch(tmp_path / "file", f"{server.url}/truncated")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_wrong_file_that_was_there_is_replaced_by_the_right_one(tmp_path, server):
    (tmp_path / "file").write_text("mine")
    fetch(tmp_path / "file", f"{server.url}/good")
    assert (tmp_path / "file").read_bytes() == GOOD


# ---------------------------------------------------------------- MNIST over a network


def idx(array: np.ndarray) -> bytes:
    """MNIST's file format: zero, zero, type 8 for bytes, axes, their sizes, the bytes."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


@pytest.fixture
def small_mnist(server, monkeypatch) -> SimpleNamespace:
    """A set in MNIST's form, 60 + 20 pictures, that `server` serves and SOURCES names."""
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
    mirrors = (f"{server.url}/closed/", f"{server.url}/")
    monkeypatch.setattr(data, "SOURCES", {"mnist": data.Source("MNIST", mirrors, hashes)})
    monkeypatch.setattr(data, "VALIDATION", 10)
    return SimpleNamespace(arrays=arrays, server=server)


@pytest.mark.parametrize("name", ["mnist", "auto"])
def test_mnist_is_fetched_unpacked_and_read(tmp_path, small_mnist, name):
    loaded = data.load(name, tmp_path)
    assert [len(part.labels) for part in loaded[2:]] == [50, 10, 20]
    images, labels = (small_mnist.arrays[f"t10k-{kind}-ubyte"]
                      for kind in ("images-idx3", "labels-idx1"))
    assert (loaded.test.images.numpy() == images).all()
    assert (loaded.test.labels.numpy() == labels).all()


def test_mnist_once_fetched_needs_no_network(tmp_path, small_mnist):
    first = data.load("mnist", tmp_path)
    small_mnist.server.stop()
    assert pictures(*data.load("mnist", tmp_path)[2:]) == pictures(*first[2:])


def test_packed_files_placed_by_hand_are_enough(tmp_path, small_mnist):
    """This is what the message about failed mirrors asks the user to do."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in small_mnist.arrays:
        (raw / f"{name}.gz").write_bytes(small_mnist.server.files[f"/{name}.gz"])
    assert len(data.load("mnist", tmp_path).test.labels) == 20
    assert small_mnist.server.requests == []


def test_a_fetch_that_stopped_half_way_goes_on_with_the_files_that_are_missing(
    tmp_path, small_mnist
):
    labels = "/t10k-labels-idx1-ubyte.gz"
    content = small_mnist.server.files.pop(labels)
    with pytest.raises(Refusal):
        data.load("mnist", tmp_path)
    small_mnist.server.files[labels] = content
    small_mnist.server.requests.clear()
    data.load("mnist", tmp_path)
    assert small_mnist.server.requests == [f"/closed{labels}", labels]


def damage(raw: Path, how: str) -> None:
    """Spoil one file of MNIST as disks and people do."""
    images, labels = raw / "train-images-idx3-ubyte", raw / "train-labels-idx1-ubyte"
    match how:
        case "empty":
            images.write_bytes(b"")
        case "cut":
            images.write_bytes(images.read_bytes()[:1000])
        case "a web page":
            images.write_text("<html>404</html>")
        case "fewer labels than images":
            labels.write_bytes(idx(np.arange(30) % 10))
        case "fewer images than labels":
            images.write_bytes(idx(np.zeros((30, 28, 28))))


@pytest.mark.parametrize("how", ["empty", "cut", "a web page", "fewer labels than images",
                                 "fewer images than labels"])
def test_damaged_files_of_mnist_are_refused_with_their_place_and_the_remedy(
    tmp_path, small_mnist, how
):
    data.load("mnist", tmp_path)
    damage(tmp_path / "MNIST" / "raw", how)
    with pytest.raises(Refusal, match=r"MNIST.raw are damaged \(.+\): delete them"):
        data.load("mnist", tmp_path)
