"""Faults in files, in every folder: what is damaged, foreign or hostile is one sentence.

Every bad checkpoint is given to `inference.py --checkpoint` and to `train.py --resume`, and is
made of the folder's own `pretrained` file. Downloads meet a full disk.
"""

import gzip
import io
import json
import os
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from support import FOLDERS, ROOT, load
from tiny_runs import FULL, sentence

Patch, Said = pytest.MonkeyPatch, pytest.CaptureFixture
NUMPY = "backprop_from_scratch"
each_folder = pytest.mark.parametrize("folder", FOLDERS)
WITH_DOWNLOADS = [folder for folder in FOLDERS if (ROOT / folder / "download.py").exists()]
WITH_MNIST = [folder for folder in WITH_DOWNLOADS if hasattr(load(folder).data, "_unpack")]
DAMAGED = "is damaged or not a checkpoint ("


def pretrained(folder: str) -> Path:
    return next((ROOT / folder).glob("pretrained.*"))


def assert_refused(folder: str, path: Path, words: str, capsys: Said) -> None:
    """By questions and by training, in one sentence that names the file; nothing is written."""
    modules, out = load(folder), path.parent / "out"
    before = path.read_bytes() if path.is_file() else None
    for main, *flags in ((modules.inference.main, "--out", out, "--checkpoint", path),
                         (modules.train.main, "--resume", path)):
        assert main(list(map(str, flags))) == 1
        said = sentence(capsys)
        assert str(path) in said and words in said, said
    assert not out.exists() and before == (path.read_bytes() if path.is_file() else None)


# ---------------------------------------------------------------- damaged and foreign files


def changed(folder: str, path: Path, /, **news: object) -> None:
    """The pretrained checkpoint with other entries and a digest that is right."""
    checkpoint = load(folder).checkpoint
    checkpoint.save(path, {**checkpoint.load(pretrained(folder)), **news})


def others(folder: str, path: Path) -> None:
    """Weights that somebody else has saved."""
    weights = load(folder).checkpoint.load(pretrained(folder))["model"]
    if folder == NUMPY:
        np.savez(path, **weights)
    else:
        torch.save(weights, path)


def altered(folder: str, path: Path) -> None:
    """A weight is changed, and all sums of the file format are right."""
    if folder == NUMPY:
        with np.load(pretrained(folder)) as file:
            contents = dict(file)
        next(iter(contents.values()))[...] += 1
        np.savez(path, **contents)
    else:
        contents = torch.load(pretrained(folder), weights_only=True)
        next(iter(contents["model"].values()))[...] += 1
        torch.save(contents, path)


def renamed(folder: str, path: Path) -> None:
    """Weights of another model: one has another name."""
    weights = dict(load(folder).checkpoint.load(pretrained(folder))["model"])
    weights["stranger"] = weights.pop(next(iter(weights)))
    changed(folder, path, model=weights)


def unlike(folder: str) -> str:
    return next(name for name in FOLDERS if name not in (folder, NUMPY))


BAD: dict[str, tuple[Callable[[str, Path], object], str]] = {
    "missing": (lambda folder, path: None, "there is no checkpoint"),
    "a folder": (lambda folder, path: path.mkdir(), "is a folder: name the checkpoint"),
    "empty": (lambda folder, path: path.touch(), DAMAGED),
    "garbage": (lambda folder, path: path.write_bytes(random.Random(0).randbytes(5000)),
                DAMAGED),
    "cut": (lambda folder, path: path.write_bytes(pretrained(folder).read_bytes()[:-999]),
            DAMAGED),
    "altered": (altered, "is damaged (its digest does not match)"),
    "of another folder": (lambda folder, path: shutil.copy(pretrained(unlike(folder)), path),
                          " was made by "),
    "of another name": (lambda folder, path: changed(folder, path, folder=unlike(folder)),
                        "_from_scratch, this is "),
    "of somebody else": (others, "of this "),
    "older": (lambda folder, path: changed(folder, path, version=0), "has layout version 0"),
    "newer": (lambda folder, path: changed(folder, path, version=2), "has layout version 2"),
}


@each_folder
@pytest.mark.parametrize("kind", BAD)
def test_a_bad_checkpoint_is_one_sentence(folder: str, kind: str, tmp_path: Path,
                                          capsys: Said) -> None:
    make, words = BAD[kind]
    if (folder, kind) == (NUMPY, "of another folder"):     # those of the others are no .npz
        words = " holds arrays but is not a checkpoint"
    path = tmp_path / "schlechte Gewichte" / pretrained(folder).name
    path.parent.mkdir()
    make(folder, path)
    assert_refused(folder, path, words, capsys)


@each_folder
def test_weights_of_another_model_and_an_answer_without_a_run_are_refused(
        folder: str, tmp_path: Path, capsys: Said) -> None:
    path, modules = tmp_path / pretrained(folder).name, load(folder)
    renamed(folder, path)
    assert modules.inference.main(["--checkpoint", str(path), "--out", str(tmp_path)]) == 1
    assert f"{path} does not fit this model: 2 " in sentence(capsys)
    assert modules.train.main(["--resume", str(pretrained(folder))]) == 1
    assert "holds only what inference needs: resume a checkpoint." in sentence(capsys)


@each_folder
def test_a_setting_that_older_code_did_not_know_is_one_sentence(
        folder: str, tmp_path: Path, capsys: Said) -> None:
    path, modules = tmp_path / pretrained(folder).name, load(folder)
    (first, _), *rest = modules.checkpoint.load(pretrained(folder))["config"].items()
    changed(folder, path, config=dict(rest), options={}, best=None)
    for script, flag in (modules.inference, "--checkpoint"), (modules.train, "--resume"):
        assert script.main([flag, str(path)]) == 1
        said = sentence(capsys)
        assert " is missing: if older code has written this checkpoint, train again (" in said
        assert flag == "--resume" or f"'{first}'" in said


@each_folder
def test_no_flipped_bit_is_accepted_with_other_values(folder: str, tmp_path: Path) -> None:
    """Of a small checkpoint; among the weights of the real one none at all."""
    checkpoint, Refusal = load(folder).checkpoint, load(folder).console.Refusal
    some = np.random.default_rng(0).random((8, 5))
    path, damaged, dice, refused = tmp_path / "a.pt", tmp_path / "b.pt", random.Random(0), 0
    checkpoint.save(path, {"folder": folder, "best": 0.25, "config": {"k": ["0"]}, "model": {
        "weight": some if folder == NUMPY else torch.from_numpy(some)}})

    def read(flipped: bytes, place: int) -> str:
        flipped[place] ^= 1 << dice.randrange(8)
        damaged.write_bytes(flipped)
        found = checkpoint.load(damaged)
        return repr({**found, "model": found["model"]["weight"].tolist()})

    whole, good = repr({**checkpoint.load(path), "model": some.tolist()}), path.read_bytes()
    for _ in range(100):
        try:
            assert read(bytearray(good), dice.randrange(len(good))) == whole
        except Refusal:
            refused += 1
    assert refused > 20
    weight = max((each for each in checkpoint.load(pretrained(folder))["model"].values()
                  if each.ndim == 2), key=len)
    good = pretrained(folder).read_bytes()
    with pytest.raises(Refusal, match="is damaged"):
        read(bytearray(good), good.index(np.asarray(weight).tobytes()) + 1)


class Payload:
    """A pickle that would make a file if anything in it were run."""

    def __init__(self, marker: Path) -> None:
        self.call = os.system, (f"touch '{marker}'",)

    def __reduce__(self) -> tuple:
        return self.call


def hostile(marker: Path) -> dict[str, bytes]:
    """Files that run code when somebody unpickles them, by name."""
    payload, zipped, table = Payload(marker), io.BytesIO(), io.BytesIO()
    torch.save({"digest": "x", "model": {"weight": payload}}, zipped)
    np.savez(table, plain=np.array([json.dumps({}), payload], dtype=object))
    return {"pickle": pickle.dumps(payload), "torch": zipped.getvalue(),
            "numpy": table.getvalue()}


def test_a_hostile_file_works_in_an_unsafe_loader(tmp_path: Path) -> None:
    files = hostile(tmp_path / "marker")
    for unsafe in (lambda: pickle.loads(files["pickle"]),
                   lambda: torch.load(io.BytesIO(files["torch"]), weights_only=False),
                   lambda: np.load(io.BytesIO(files["numpy"]), allow_pickle=True)["plain"]):
        unsafe()
        (tmp_path / "marker").unlink()


@each_folder
def test_nothing_in_a_hostile_file_is_run(folder: str, tmp_path: Path, capsys: Said) -> None:
    for name, content in hostile(tmp_path / "marker").items():
        path = tmp_path / name
        path.write_bytes(content)
        assert_refused(folder, path, "not a checkpoint", capsys)
        assert not (tmp_path / "marker").exists(), name


# ---------------------------------------------------------------- downloads on a full disk


@pytest.mark.parametrize("folder", WITH_DOWNLOADS)
def test_a_download_that_fills_the_disk_leaves_what_was_there(
        folder: str, tmp_path: Path) -> None:
    modules = load(folder)
    download, source = modules.download, tmp_path / "there" / "data set"
    path = tmp_path / "hier é" / "data set"
    for file, text in ((source, "new" * 40_000), (path, "old")):
        file.parent.mkdir()
        file.write_text(text)
    partial, wanted = path.with_name("data set.partial"), download.file_hash(source)
    partial.symlink_to(FULL)
    with pytest.raises(modules.console.Refusal) as refusal:
        download.fetch([source.as_uri()], path, wanted)
    assert "No space left on device" in str(refusal.value)
    assert f"place it at {path} yourself" in str(refusal.value)
    assert path.read_text() == "old" and not partial.is_symlink()
    download.fetch([source.as_uri()], path, wanted)
    assert path.read_bytes() == source.read_bytes()
    assert [file.name for file in path.parent.iterdir()] == ["data set"]


@pytest.mark.parametrize("folder", WITH_MNIST)
def test_a_disk_that_is_full_before_all_is_unpacked_is_one_sentence(
        folder: str, tmp_path: Path, monkeypatch: Patch, capsys: Said) -> None:
    """No half of a data set is taken for a whole one, neither now nor later."""
    modules, seen = load(folder), []

    def arrive(_urls: list[str], packed: Path, _sha256: str) -> None:
        packed.parent.mkdir(parents=True, exist_ok=True)
        packed.write_bytes(gzip.compress(bytes(100_000)))
        target = packed.with_suffix("")
        target.with_name(target.name + ".partial").symlink_to(FULL)
        seen.append(target)

    monkeypatch.setattr(modules.data, "fetch", arrive)
    out = tmp_path / "out"
    flags = ["--data", "mnist", "--data-dir", str(tmp_path), "--out-dir", str(out)]
    assert modules.train.main(flags) == 1
    assert "there is no room left on the disk: make room" in sentence(capsys)
    assert len(seen) == 1 and not seen[0].exists() and not out.exists()
