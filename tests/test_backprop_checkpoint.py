"""Checkpoints in NumPy's format: whole or not at all, no flipped bit unseen, nothing is run."""

import io
import json
import os
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from support import ROOT, load, run

backprop = load("backprop_from_scratch")
checkpoint, Refusal = backprop.checkpoint, backprop.console.Refusal
NAME = "backprop_from_scratch"
INFERENCE = ROOT / NAME / "inference.py"


def contents(step: int = 0) -> dict:
    """A small checkpoint of every kind of value that a run saves."""
    rng = np.random.default_rng(step)
    return {
        "folder": NAME, "step": step, "best": [0.25, -0.5], "config": {"k": ["0", "ä"]},
        "model": {"0.weight": rng.normal(size=(9, 5)), "n": np.array([step]),
                  "half": np.ones((2, 3), np.float32)},
        "optimizer": {"mean": {"0.weight": np.ones(3)}, "square": {}}, "memory": {},
        "rng": rng.bit_generator.state, "nothing": None, "flag": True,
    }


def same(left: object, right: object) -> bool:
    """Equality to the bit of nested plain values and arrays, types included."""
    if type(left) is not type(right):
        return False
    if isinstance(left, np.ndarray):
        return (left.dtype == right.dtype and left.shape == right.shape
                and left.tobytes() == right.tobytes())
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


def seal(values: dict) -> str:
    """The digest that `save` would put into a file of these values."""
    arrays, plain = checkpoint.flatten(values)
    return checkpoint.digest(arrays, json.dumps(plain))


# ---------------------------------------------------------------- whole or not at all


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"
    checkpoint.save(path, contents(3))
    assert same(checkpoint.load(path, NAME), {"version": 1, **contents(3)})
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.npz"]


def test_values_that_only_look_alike_stay_apart(tmp_path: Path) -> None:
    """-0, the smallest number, infinity and the payload of a NaN, to the bit."""
    odd = np.array([-0.0, 5e-324, np.inf, np.nan, 1 / 3])
    odd.view(np.uint64)[3] += 7
    for dtype in (np.float64, ">f8", np.float32, np.int64, np.uint8, bool):
        with np.errstate(all="ignore"):
            array = odd.astype(dtype)
        checkpoint.save(tmp_path / "file", {"folder": "x", "m": {"w": array, "t": array[:0]}})
        assert same(checkpoint.load(tmp_path / "file")["m"], {"w": array, "t": array[:0]})


def test_an_array_that_lies_in_memory_column_by_column_is_loaded_alike(tmp_path: Path) -> None:
    array = np.asfortranarray(np.arange(12.0).reshape(3, 4))
    checkpoint.save(tmp_path / "file", {"folder": "x", "w": array, "t": array[:, ::2]})
    loaded = checkpoint.load(tmp_path / "file")
    assert (loaded["w"] == array).all() and (loaded["t"] == array[:, ::2]).all()


def test_no_single_flipped_bit_is_accepted_with_other_values(tmp_path: Path) -> None:
    path, damaged = tmp_path / "checkpoint.npz", tmp_path / "damaged.npz"
    checkpoint.save(path, contents())
    good, whole = path.read_bytes(), checkpoint.load(path)
    dice = random.Random(0)
    refused = 0
    for _ in range(600):
        position, bit = dice.randrange(len(good)), dice.randrange(8)
        flipped = bytearray(good)
        flipped[position] ^= 1 << bit
        damaged.write_bytes(flipped)
        try:
            assert same(checkpoint.load(damaged), whole), f"bit {bit} of byte {position}"
        except Refusal as error:
            assert "damaged" in str(error) or "is not a checkpoint" in str(error)
            refused += 1
    assert refused > 400      # the others hit what nobody reads, such as the times of the zip


@pytest.mark.parametrize("where", ["an array", "a name", "the text"])
def test_the_digest_finds_a_change_that_the_sums_of_the_zip_do_not(
    where: str, tmp_path: Path
) -> None:
    """As if a disk or a hand had changed the file and the zip's own sums with it."""
    path = tmp_path / "checkpoint.npz"
    checkpoint.save(path, contents())
    with np.load(path) as file:
        arrays = dict(file)
    if where == "an array":
        arrays["model/0.weight"].view(np.uint8).flat[0] ^= 1
    elif where == "a name":
        arrays["model/1.weight"] = arrays.pop("model/0.weight")
    else:
        arrays["plain"][0] = arrays["plain"][0].replace("0.25", "0.35")
    np.savez(path, **arrays)
    with pytest.raises(Refusal, match="damaged .its digest does not match"):
        checkpoint.load(path)


def test_the_digest_covers_names_types_shapes_and_plain_values() -> None:
    base = {"a": np.zeros((2, 3)), "b": [1, 2]}
    variants = [
        {"a": np.zeros((3, 2)), "b": [1, 2]}, {"a": np.zeros((2, 3), np.int64), "b": [1, 2]},
        {"c": np.zeros((2, 3)), "b": [1, 2]}, {"a": np.zeros((2, 3)), "c": [1, 2]},
        {"a": np.zeros((2, 3)), "b": [12]}, {"a": np.zeros((2, 3)), "b": [True, 2]},
        {"a": np.zeros((2, 3)), "b": ["1", 2]}, {"a": np.zeros((2, 3)), "b": [1.0, 2]},
        {"a": -np.zeros((2, 3)), "b": [1, 2]}, {"a": np.zeros((2, 3), ">f8"), "b": [1, 2]},
        {"a": np.zeros(6), "b": [1, 2]}, {"x": {"a": np.zeros((2, 3))}, "b": [1, 2]},
        {"a": np.zeros((2, 3)), "b": {"c": [1, 2]}}, {"b": [1, 2]}, {"a": np.zeros((2, 3))},
    ]
    assert len({seal(value) for value in [base, *variants]}) == 1 + len(variants)
    assert seal(base) == seal({"a": np.zeros((2, 3)), "b": [1, 2]})


def test_the_digest_tells_a_number_from_a_row_of_one_number() -> None:
    assert seal({"a": np.zeros(())}) != seal({"a": np.zeros(1)})


@pytest.mark.parametrize("value", [Path("x"), float("nan"), float("inf"), {1, 2}, b"bytes",
                                   np.float32(1), np.array([{}])], ids=repr)
def test_only_arrays_and_what_json_knows_can_be_saved(value: object, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"
    checkpoint.save(path, contents())
    before = path.read_bytes()
    with pytest.raises((TypeError, ValueError)):
        checkpoint.save(path, {**contents(), "value": value})
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.npz"]


def test_a_checkpoint_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="could not be saved .*nothing was written: make room"):
        checkpoint.save(tmp_path / "nowhere" / "checkpoint.npz", contents())


# ---------------------------------------------------------------- nothing in it is run


class Payload:
    """A pickle that would create a file if anything in it were run."""

    def __init__(self, function: Callable, *arguments: str) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


def hostile_files(marker: Path) -> dict[str, bytes]:
    """Files that run code in an unsafe loader: by name, their bytes."""
    code = f"open({str(marker)!r}, 'w').close()"
    payloads = {"system": Payload(os.system, f"touch '{marker}'"),
                "eval": Payload(eval, code), "exec": Payload(exec, code)}
    arrays, plain = checkpoint.flatten({"version": 1, **contents()})
    text = json.dumps(plain)
    sealed = np.array([text, json.dumps({"digest": checkpoint.digest(arrays, text)})])
    files = {}
    for name, payload in payloads.items():
        objects = np.array([payload], dtype=object)
        files[f"pickle_{name}"] = pickle.dumps(payload)
        for kind, write in {
            "npy": lambda file, o=objects: np.save(file, o),
            "npz": lambda file, o=objects: np.savez(file, o),
            "plain": lambda file, o=objects: np.savez(file, **arrays, plain=o),
            "sealed": lambda file, o=objects: np.savez(
                file, **{**arrays, "model/0.weight": o}, plain=sealed),
            "torch": lambda file, p=payload: torch.save({"folder": NAME, "model": p}, file),
        }.items():
            buffer = io.BytesIO()
            write(buffer)
            files[f"{kind}_{name}"] = buffer.getvalue()
    return files


def load_without_care(path: Path) -> None:
    """What `checkpoint.load` must never do."""
    for loader in (lambda: torch.load(path, weights_only=False),
                   lambda: pickle.loads(path.read_bytes()),
                   lambda: [np.load(path, allow_pickle=True)[name]
                            for name in zipfile.ZipFile(path).namelist()],
                   lambda: np.load(path, allow_pickle=True)):
        try:
            loader()
        except Exception:  # another loader is the right one
            pass


def test_nothing_in_a_hostile_file_is_executed(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    for name, data in hostile_files(marker).items():
        path = tmp_path / f"{name}.npz"
        path.write_bytes(data)
        with pytest.raises(Refusal, match="damaged or not a checkpoint|is not a checkpoint of"):
            checkpoint.load(path)
        assert not marker.exists(), name


def test_the_payloads_would_have_worked_in_an_unsafe_loader(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    for name, data in hostile_files(marker).items():
        path = tmp_path / f"{name}.npz"
        path.write_bytes(data)
        load_without_care(path)
        assert marker.exists(), name
        marker.unlink()


# ---------------------------------------------------------------- bad files, in one sentence


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a short run leaves behind."""
    out = tmp_path_factory.mktemp("run")
    flags = ["--data", "moons", "--layers", "8", "--epochs", "2", "--out-dir", str(out)]
    assert backprop.train.main(flags) == 0
    return out


def spoil(kind: str, good: Path, path: Path) -> None:
    """Make a checkpoint at `path` that is bad in one way."""
    whole = checkpoint.load(good)
    bias = whole["model"]["2.bias"]
    if kind == "empty":
        path.touch()
    elif kind == "garbage":
        path.write_bytes(random.Random(0).randbytes(5000))
    elif kind == "truncated":
        path.write_bytes(good.read_bytes()[:-3000])
    elif kind == "foreign":
        checkpoint.save(path, {**whole, "folder": "vae_from_scratch"})
    elif kind == "newer":
        checkpoint.save(path, {**whole, "version": 2})
    elif kind == "plain npz":
        with path.open("wb") as file:
            np.savez(file, **whole["model"])
    elif kind == "npy":
        with path.open("wb") as file:
            np.save(file, bias)
    elif kind == "of PyTorch":
        torch.save({"folder": NAME, "version": 1, "model": torch.ones(3)}, path)
    elif kind == "folder":
        path.mkdir()
    elif kind != "missing":
        model = {"other shapes": {**whole["model"], "2.bias": np.ones(3)},
                 "other type": {**whole["model"], "2.bias": bias.astype(np.float32)},
                 "an array less": {n: a for n, a in whole["model"].items() if n != "2.bias"},
                 "an array more": {**whole["model"], "4.bias": bias}}[kind]
        checkpoint.save(path, {**whole, "model": model})


SENTENCES = {
    "empty": "damaged or not a checkpoint", "garbage": "damaged or not a checkpoint",
    "truncated": "damaged or not a checkpoint", "npy": "damaged or not a checkpoint",
    "foreign": "made by vae_from_scratch", "newer": "layout version 2, this code reads 1",
    "plain npz": "holds arrays but is not a checkpoint", "of PyTorch": "not a checkpoint",
    "missing": "there is no checkpoint", "folder": "is a folder",
    **{kind: "does not fit this model: 1 arrays differ in name, shape or type"
       for kind in ("other shapes", "other type", "an array less", "an array more")},
}


@pytest.mark.parametrize("kind", SENTENCES)
def test_a_bad_checkpoint_is_one_sentence_and_exit_code_1(
    kind: str, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "bad.npz"
    spoil(kind, out / "best.npz", path)
    asked = ["--index", "0", "--checkpoint", str(path), "--out", str(tmp_path / "out")]
    assert backprop.inference.main(asked) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1
    assert "bad.npz" in printed.err and SENTENCES[kind] in printed.err
    assert printed.out == "" and not (tmp_path / "out").exists()


def test_a_bad_checkpoint_ends_the_process_with_1_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_bytes(b"PK\3\4")
    result = run(INFERENCE, "--checkpoint", tmp_path / "bad.npz")
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    result = run(INFERENCE, "--checkpoint", tmp_path / "none.npz", "--debug")
    assert result.returncode == 1 and "Traceback" in result.stderr


# ---------------------------------------------------------------- what belongs to a checkpoint


def test_the_copy_for_inference_holds_no_optimizer_and_no_paths(out: Path,
                                                                tmp_path: Path) -> None:
    copy = tmp_path / "pretrained.npz"
    assert checkpoint.main([str(out / "best.npz"), str(copy)]) == 0
    small = checkpoint.load(copy, NAME)
    assert set(small) == {"version", "folder", "config", "model"}
    whole = checkpoint.load(out / "best.npz")
    assert same([small["model"], small["config"]], [whole["model"], whole["config"]])
    for place in (str(out), str(tmp_path), str(ROOT)):
        for encoding in ("utf-8", "utf-32-le"):      # of names, of texts in arrays
            assert place.encode(encoding) not in copy.read_bytes()


def test_a_run_cannot_be_resumed_from_the_copy_for_inference(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    copy = tmp_path / "pretrained.npz"
    assert checkpoint.main([str(out / "best.npz"), str(copy)]) == 0
    assert backprop.train.main(["--resume", str(copy)]) == 1
    assert "holds only what inference needs" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["pretrained.npz"]


def test_without_a_path_the_best_of_the_newest_run_is_taken(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path) == tmp_path / "pretrained.npz"
    for age, place in enumerate(("runs/b", "runs/a/deep", "runs")):      # not by their names
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / "best.npz").touch()
        os.utime(tmp_path / place / "best.npz", (1000 - age, 1000 - age))
    (tmp_path / "runs" / "checkpoint.npz").touch()
    assert checkpoint.newest(tmp_path) == tmp_path / "runs" / "b" / "best.npz"


def test_the_restored_arrays_are_copies_in_the_places_of_ours(tmp_path: Path) -> None:
    """The optimizer and the layers hold the same arrays: they must not come apart."""
    ours, theirs = {"w": np.zeros(3)}, {"w": np.arange(3.0)}
    before = ours["w"]
    checkpoint.restore(ours, theirs, tmp_path)
    assert ours["w"] is before and before.tolist() == [0, 1, 2] and ours["w"] is not theirs["w"]


def test_a_resumed_metrics_file_loses_the_rows_beyond_the_checkpoint(tmp_path: Path) -> None:
    path, columns = tmp_path / "metrics.csv", ["step", "loss", "seconds"]
    table = checkpoint.Metrics(path, columns)
    for step in (10, 20, 30):
        table.add(step=step, loss=1 / step, seconds=step)
    checkpoint.Metrics(path, columns, resume_step=20).add(step=30, loss=0.5, seconds=99)
    lines = path.read_text().split()
    assert lines == ["step,loss,seconds", "10,0.1,10", "20,0.05,20", "30,0.5,99"]
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.csv"]


def test_a_new_metrics_file_holds_no_rows_of_an_old_one(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    checkpoint.Metrics(path, ["step", "loss"]).add(step=1, loss=2)
    checkpoint.Metrics(path, ["step", "loss"])
    assert path.read_text().split() == ["step,loss"]
