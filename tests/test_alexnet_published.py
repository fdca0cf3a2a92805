"""The weights that torchvision publishes: fetched, checked, renamed, and read as it reads them.

The real file is not to be had without a network; torchvision's model with random weights has
the same names and shapes.
"""

import hashlib
import os
import pickle
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.models import AlexNet_Weights
from torchvision.models import alexnet as torchvision_alexnet

from support import load

alexnet = load("alexnet_from_scratch")
published, augment, inputs = alexnet.published, alexnet.augment, alexnet.inputs
Refusal = alexnet.console.Refusal

CPU = torch.device("cpu")
NAMES = AlexNet_Weights.IMAGENET1K_V1.meta["categories"]
SMALL = {"features.0.weight": torch.zeros(64, 3, 11, 11), "features.0.bias": torch.zeros(64)}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """torchvision's network with random weights and a decided opinion, and its file.

    `seven` is a file of the same network with seven classes.
    """
    torch.manual_seed(0)
    home, net = tmp_path_factory.mktemp("published"), torchvision_alexnet().eval()
    nn.init.normal_(net.classifier[6].weight, std=3.0)
    torch.save(net.state_dict(), home / "whole.pth")
    last = {name: net.state_dict()[f"classifier.6.{name}"][:7].clone()
            for name in ("weight", "bias")}
    torch.save(net.state_dict() | {f"classifier.6.{name}": last[name] for name in last},
               home / "seven.pth")
    yield SimpleNamespace(net=net, whole=home / "whole.pth", seven=home / "seven.pth")
    for path in home.iterdir():
        path.unlink()


@pytest.fixture(scope="module")
def opened(files: SimpleNamespace) -> tuple[nn.Module, dict]:
    """Our model and configuration from the file with a thousand classes."""
    return published.open_published(str(files.whole), Path("nowhere"), CPU)


def refusal(source: str | Path, data_dir: Path = Path("nowhere")) -> str:
    """The one sentence with which a file is refused."""
    with pytest.raises(Refusal) as refused:
        published.open_published(str(source), data_dir, CPU)
    text = str(refused.value)
    assert "\n" not in text and str(source if source != "torchvision" else data_dir) in text
    return text


# ---------------------------------------------------------------- names and numbers


def test_the_address_is_torchvisions_and_the_hash_begins_as_in_the_name() -> None:
    assert published.URL == AlexNet_Weights.IMAGENET1K_V1.url
    short = re.search(r"-([0-9a-f]+)\.pth$", published.URL)[1]
    assert len(short) == 8 and published.SHA256.startswith(short)
    assert re.fullmatch(r"[0-9a-f]{64}", published.SHA256)


def test_the_names_of_torchvisions_layers_become_ours() -> None:
    with torch.device("meta"):
        theirs, ours = torchvision_alexnet(), alexnet.model.AlexNet(variant="torchvision")
    weights = published.translated(theirs.state_dict())
    assert list(weights) == list(ours.state_dict()) and len(weights) == 16
    for name, tensor in ours.state_dict().items():
        assert weights[name].shape == tensor.shape, name


@pytest.mark.parametrize("name", ["features.1.weight", "module.features.0.weight", "fc", ""])
def test_a_layer_that_torchvision_does_not_have_is_a_key_error(name: str) -> None:
    with pytest.raises(KeyError):
        published.translated({**SMALL, name: torch.zeros(1)})


def test_the_configuration_is_how_torchvision_prepares_pictures() -> None:
    config, preset = published.imagenet_config(1000), AlexNet_Weights.IMAGENET1K_V1.transforms()
    assert config["mean"].shape == config["std"].shape == (3, 1, 1)
    assert (config["mean"] / 255).flatten().tolist() == pytest.approx(preset.mean, abs=1e-6)
    assert (config["std"] / 255).flatten().tolist() == pytest.approx(preset.std, abs=1e-6)
    assert [config["image_size"]] == preset.crop_size
    assert [alexnet.data.stored_side(config["image_size"])] == preset.resize_size
    assert config["classes"] == NAMES and len(set(NAMES)) > 990 and NAMES[0] == "tench"


def test_other_numbers_of_classes_have_numbers_for_names() -> None:
    assert published.imagenet_config(3)["classes"] == ["class 0", "class 1", "class 2"]


# ---------------------------------------------------------------- the whole way


def test_the_opened_model_answers_as_torchvisions(
    files: SimpleNamespace, opened: tuple
) -> None:
    ours, config = opened
    images = torch.randn(3, 3, 224, 224)
    assert not ours.training and config["classes"] == NAMES
    with torch.no_grad():
        logits, expected = ours(images), files.net(images)
    assert logits.shape == (3, 1000) and expected.std() > 0.5
    assert torch.allclose(logits, expected, rtol=0, atol=1e-4)


def photograph(path: Path, size: tuple[int, int]) -> None:
    """Write a picture of coloured clouds, which has what photographs have: few sharp edges."""
    seeds = torch.randint(256, (9, 12, 3), dtype=torch.uint8).numpy()
    Image.fromarray(seeds).resize(size, Image.Resampling.BICUBIC).save(path, quality=95)


@pytest.mark.parametrize(("name", "size"), [
    ("wide.png", (400, 300)), ("high.png", (300, 451)), ("large.jpg", (1600, 1200))])
def test_a_photograph_is_prepared_and_named_as_by_torchvision(
    name: str, size: tuple[int, int], files: SimpleNamespace, opened: tuple, tmp_path: Path
) -> None:
    """Theirs scales the whole, ours the middle square: at most a pixel is between them."""
    photograph(tmp_path / name, size)
    ours, config = opened
    square = alexnet.reading.read_square(tmp_path / name, 256)
    given = inputs.to_input(augment.centre_crop(square, 224)[None].float(), config)
    theirs = AlexNet_Weights.IMAGENET1K_V1.transforms()(Image.open(tmp_path / name))[None]
    assert (given - theirs).abs().mean() < 0.03 and theirs.std() > 0.5
    belief = alexnet.evaluation.probabilities(ours, square[None], config)
    with torch.no_grad():
        expected = files.net(theirs).softmax(1)
    assert expected.max() > 0.02 and belief.argmax() == expected.argmax()
    assert (belief - expected).abs().max() < 0.1 * expected.max()


# ---------------------------------------------------------------- downloads


@pytest.fixture
def server(files: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The file with seven classes on a web server of this machine; yields the requests."""
    content, requests = files.seven.read_bytes(), []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(content if "owt" in self.path else b"<html>Please log in.</html>")

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    url = f"http://127.0.0.1:{http.server_port}"
    monkeypatch.setattr(published, "URL", f"{url}/models/alexnet-owt-0.pth")
    monkeypatch.setattr(published, "SHA256", hashlib.sha256(content).hexdigest())
    yield requests
    http.shutdown()
    http.server_close()
    thread.join()


def test_torchvision_means_the_file_of_its_server_fetched_once(
    server: list, files: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    data_dir = tmp_path / "data"
    model, config = published.open_published("torchvision", data_dir, CPU)
    assert server == ["/models/alexnet-owt-0.pth"]
    assert [path.name for path in data_dir.iterdir()] == ["alexnet-owt-0.pth"]
    assert config["classes"] == [f"class {number}" for number in range(7)]
    assert torch.equal(model.fc6.weight, files.net.classifier[1].weight)
    assert torch.equal(model.fc8.weight, files.net.classifier[6].weight[:7])
    out, error = capsys.readouterr()
    assert not out and str(data_dir / "alexnet-owt-0.pth") in error.splitlines()[-1]
    published.open_published("torchvision", data_dir, CPU)
    assert len(server) == 1


def test_a_file_with_another_hash_is_refused_and_not_kept(
    server: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "URL", published.URL.replace("owt", "hotel"))
    text = refusal("torchvision", tmp_path)
    assert server == ["/models/alexnet-hotel-0.pth"] and not list(tmp_path.iterdir())
    assert published.SHA256 in text and "place it at" in text


# ---------------------------------------------------------------- wrong files


def test_a_missing_file_is_refused_with_the_way_to_get_it(tmp_path: Path) -> None:
    text = refusal(tmp_path / "none.pth")
    assert "there is no file" in text and "--weights torchvision" in text
    assert "does not hold" in refusal(tmp_path)


@pytest.mark.parametrize("damage", ["empty", "cut short", "text", "flipped"])
def test_a_damaged_file_is_refused(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "damaged.pth"
    torch.save(SMALL, path)
    content = path.read_bytes()
    middle = content.index(b"features")     # in the list of names
    path.write_bytes({"empty": b"", "cut short": content[:-100], "text": b"<html>no</html>",
                      "flipped": content[:middle] + b"F" + content[middle + 1 :]}[damage])
    assert "does not hold the weights of torchvision's AlexNet" in refusal(path)


@pytest.mark.parametrize("contents", [
    {"conv1.weight": torch.zeros(3)}, {"fc.weight": torch.zeros(3)}, {}, [], torch.zeros(3),
    {"folder": "lenet_from_scratch", "model": {}, "version": 1}, {3: torch.zeros(1)}, SMALL,
    {**SMALL, "features.0.bias": torch.zeros(65)},
    {**SMALL, "classifier.6.bias": torch.zeros(7)},
], ids=str)
def test_a_foreign_file_is_refused(
    contents: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names that the whole network would have to be built for are tried on a narrow one."""
    monkeypatch.setattr(published, "build", lambda config: alexnet.model.build(
        {**config, "width": 0.02}))
    torch.save(contents, tmp_path / "foreign.pth")
    assert re.search("does not (hold|fit)", refusal(tmp_path / "foreign.pth"))


class Hostile:
    """Makes a folder as soon as it is unpickled without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("plain", [True, False])
def test_code_inside_a_file_is_not_run(plain: bool, tmp_path: Path) -> None:
    path, made = tmp_path / "hostile.pth", tmp_path / "made"
    contents = {**SMALL, "features.3.weight": Hostile(made)}
    if plain:
        path.write_bytes(pickle.dumps({"features.0.weight": Hostile(made)}, protocol=2))
    else:
        torch.save(contents, path)
    assert "does not hold" in refusal(path)
    assert not made.exists()
