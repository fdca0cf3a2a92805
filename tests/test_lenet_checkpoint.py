"""Checkpoints of LeNet: whole or not at all, no flipped bit unseen, nothing in them is run."""

import io
import os
import pickle
import random
from pathlib import Path

import pytest
import torch

from support import ROOT, load, run

lenet = load("lenet_from_scratch")
checkpoint, Refusal = lenet.checkpoint, lenet.console.Refusal
INFERENCE = ROOT / "lenet_from_scratch" / "inference.py"


def contents(step: int = 0) -> dict:
    """A small checkpoint of every kind of value that a run saves."""
    generator = torch.Generator().manual_seed(step)
    return {
        "folder": "lenet_from_scratch", "step": step, "best": 0.25, "config": {"k": ["0"]},
        "model": {"weight": torch.randn(9, 5, generator=generator), "n": torch.tensor(step)},
        "optimizer": {"state": {0: {"momentum": torch.ones(3)}}, "betas": (0.9, 0.99)},
        "nothing": None, "flag": True,
    }


def same(left: object, right: object) -> bool:
    """Equality to the bit of nested plain values and tensors, types included."""
    if type(left) is not type(right):
        return False
    if isinstance(left, torch.Tensor):
        return left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[k], right[k]) for k in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, contents(3))
    assert same(checkpoint.load(path, "lenet_from_scratch"), {"version": 1, **contents(3)})
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_no_single_flipped_bit_is_accepted_with_other_values(tmp_path: Path) -> None:
    """PyTorch itself does not look: of its own files many a flip changes a weight unseen."""
    path, damaged = tmp_path / "checkpoint.pt", tmp_path / "damaged.pt"
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
            assert "damaged" in str(error) or "version" in str(error) or "not a" in str(error)
            refused += 1
    assert refused > 150  # most other flips hit the padding of the file format


def test_the_digest_covers_names_types_shapes_and_order() -> None:
    base = {"a": torch.zeros(2, 3), "b": [1, 2]}
    variants = [
        {"a": torch.zeros(3, 2), "b": [1, 2]}, {"a": torch.zeros(2, 3).int(), "b": [1, 2]},
        {"c": torch.zeros(2, 3), "b": [1, 2]}, {"a": torch.zeros(2, 3), "b": (1, 2)},
        {"a": torch.zeros(2, 3), "b": [12]}, {"a": torch.zeros(2, 3), "b": [True, 2]},
        {"a": torch.zeros(2, 3), "b": ["1", 2]}, {"a": -torch.zeros(2, 3), "b": [1, 2]},
    ]
    digests = {checkpoint.digest(value) for value in [base, *variants]}
    assert len(digests) == 1 + len(variants)


def test_only_plain_values_can_be_saved(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="plain values"):
        checkpoint.save(tmp_path / "checkpoint.pt", {"path": Path("x")})


class Payload:
    """A pickle that would create a file if anything in it were run."""

    def __init__(self, function, *arguments: str) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def hostile_files(marker: Path) -> dict[str, bytes]:
    """Files that run code in an unsafe loader: by name, their bytes."""
    code = f"open({str(marker)!r}, 'w').close()"
    payloads = {"system": Payload(os.system, f"touch '{marker}'"),
                "eval": Payload(eval, code), "exec": Payload(exec, code)}
    files = {f"pickle_{name}": pickle.dumps(payload) for name, payload in payloads.items()}
    for name, payload in payloads.items():
        for place, value in {"bare": payload, "nested": {**contents(), "model": {"w": payload}},
                             "key": {"digest": "x", "config": [payload]}}.items():
            buffer = io.BytesIO()
            torch.save(value, buffer)
            files[f"torch_{name}_{place}"] = buffer.getvalue()
    return files


def test_nothing_in_a_hostile_file_is_executed(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    for name, data in hostile_files(marker).items():
        path = tmp_path / f"{name}.pt"
        path.write_bytes(data)
        with pytest.raises(Refusal, match="damaged or not a checkpoint"):
            checkpoint.load(path)
        assert not marker.exists(), name


def test_the_payloads_would_have_worked_in_an_unsafe_loader(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    pickle.loads(hostile_files(marker)["pickle_system"])
    assert marker.exists()


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    result = run(INFERENCE, "--checkpoint", tmp_path / "none.pt", "--debug")
    assert result.returncode == 1 and "Traceback" in result.stderr


def test_the_copy_for_inference_holds_no_optimizer_and_no_paths(tmp_path: Path,
                                                                quick_run) -> None:
    out = quick_run("lenet_from_scratch").out
    assert checkpoint.main([str(out / "best.pt"), str(tmp_path / "pretrained.pt")]) == 0
    small = checkpoint.load(tmp_path / "pretrained.pt", "lenet_from_scratch")
    assert set(small) == {"version", "folder", "config", "model"}
    assert same(small["model"], checkpoint.load(out / "best.pt")["model"])
    assert str(out).encode() not in (tmp_path / "pretrained.pt").read_bytes()


def test_a_resumed_metrics_file_loses_the_rows_beyond_the_checkpoint(tmp_path: Path) -> None:
    path, columns = tmp_path / "metrics.csv", ["step", "loss", "seconds"]
    table = checkpoint.Metrics(path, columns)
    for step in (10, 20, 30):
        table.add(step=step, loss=1 / step, seconds=step)
    checkpoint.Metrics(path, columns, resume_step=20).add(step=30, loss=0.5, seconds=99)
    lines = path.read_text().split()
    assert lines == ["step,loss,seconds", "10,0.1,10", "20,0.05,20", "30,0.5,99"]


def test_half_precision_halves_the_copy_and_changes_the_fourth_digit(
    tmp_path: Path, quick_run
) -> None:
    best = quick_run("lenet_from_scratch").out / "best.pt"
    for flags in ([], ["--half"]):
        target = tmp_path / f"{len(flags)}.pt"
        assert checkpoint.main([str(best), str(target), *flags]) == 0
    whole, half = (checkpoint.load(tmp_path / f"{n}.pt")["model"] for n in (0, 1))
    assert (tmp_path / "1.pt").stat().st_size < 0.55 * (tmp_path / "0.pt").stat().st_size
    for name, weight in whole.items():
        assert half[name].dtype == torch.float16
        torch.testing.assert_close(half[name].float(), weight, rtol=1e-3, atol=1e-6)
