"""What every PyTorch folder promises of a GPU: it trains there, and the CPU takes over.

    pytest -m gpu tests/test_gpu.py
"""

import csv
from pathlib import Path

import pytest

from support import FOLDERS, ROOT, run

ON_GPUS = [name for name in FOLDERS if name != "backprop_from_scratch"]     # NumPy has none
DATA = {name: ("--data", "digits") for name in ("lenet_from_scratch", "lenet5_from_scratch")}
ASKED = {
    "alexnet_from_scratch": ("--index", "5"),
    "diffusion_from_scratch": ("--count", "2", "--steps", "3"),
    "gpt2_from_scratch": ("--prompt", "The value", "--tokens", "8", "--temperature", "0"),
    "lenet5_from_scratch": ("--image", ROOT / "lenet5_from_scratch/assets/number.jpg"),
    "lenet_from_scratch": ("--image", ROOT / "lenet_from_scratch/assets/photo.jpg"),
    "stable_diffusion_from_scratch": ("--prompt", "a red circle", "--steps", "3"),
    "transformer_from_scratch": ("--text", "The striker missed a penalty."),
    "vae_from_scratch": ("--sample", "4"),
}


def train(name: str, out: Path, *flags: str) -> list[dict[str, str]]:
    """Make a quick run, and return the rows of its metrics."""
    done = run(ROOT / name / "train.py", "--quick", *DATA.get(name, ()), "--out-dir", out,
               *flags)
    assert done.returncode == 0, done.stderr
    with (out / "metrics.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", ON_GPUS)
def test_there_is_a_question_for_every_folder(name: str) -> None:
    assert name in ASKED


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "near"), [("fp32", 0.02), ("auto", 0.1)])
@pytest.mark.parametrize("name", ON_GPUS)
def test_a_gpu_trains_what_a_cpu_trains(name: str, precision: str, near: float,
                                        tmp_path: Path) -> None:
    here = train(name, tmp_path / "cpu", "--device", "cpu")
    there = train(name, tmp_path / "gpu", "--device", "cuda", "--precision", precision)
    assert len(here) == len(there)
    loss = "reconstruction" if name == "vae_from_scratch" else "train_loss"
    cpu, gpu = (float(next(row[loss] for row in rows if row[loss])) for rows in (here, there))
    assert gpu == pytest.approx(cpu, rel=near)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ON_GPUS)
def test_what_a_gpu_has_trained_is_resumed_and_asked_on_a_cpu(name: str,
                                                              tmp_path: Path) -> None:
    out = tmp_path / "run"
    rows = train(name, out, "--device", "cuda")
    done = run(ROOT / name / "train.py", "--resume", out / "checkpoint.pt", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    with (out / "metrics.csv").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == len(rows)
    for device in ("cpu", "cuda"):
        done = run(ROOT / name / "inference.py", "--checkpoint", out / "best.pt", "--device",
                   device, *ASKED[name], cwd=tmp_path)
        assert done.returncode == 0, done.stderr
