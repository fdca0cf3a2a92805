"""What every PyTorch folder promises of a GPU: it trains there, and the CPU takes over.

    pytest -m gpu tests/test_gpu.py
"""

import csv
from pathlib import Path

import pytest
import torch

from support import FOLDERS, ROOT, load, run

ON_GPUS = [name for name in FOLDERS if name != "backprop_from_scratch"]     # NumPy has none
SEVERAL = [name for name in ON_GPUS if (ROOT / name / "distributed.py").exists()]
LOSS = dict.fromkeys(ON_GPUS, "train_loss") | {"vae_from_scratch": "train_reconstruction"}
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


def train(name: str, out: Path, *flags: str, by: tuple[str, ...] = ()) -> list[dict[str, str]]:
    """Make a quick run, and return the rows of its metrics."""
    done = run(*by, ROOT / name / "train.py", "--quick", *DATA.get(name, ()), "--out-dir", out,
               *flags)
    assert done.returncode == 0, done.stderr
    with (out / "metrics.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def first_loss(name: str, rows: list[dict[str, str]]) -> float:
    """The first loss that a run has written."""
    return float(next(row[LOSS[name]] for row in rows if row[LOSS[name]]))


@pytest.mark.parametrize("name", ON_GPUS)
def test_there_is_a_question_for_every_folder(name: str) -> None:
    assert name in ASKED


def test_tests_of_a_cpu_see_no_gpu() -> None:
    assert not torch.cuda.is_available()


def test_whoever_chooses_a_device_gets_32_bits() -> None:
    """The setting; what it does on a GPU is the next test's."""
    torch.backends.cudnn.conv.fp32_precision = "tf32"     # as PyTorch begins
    load("lenet_from_scratch").devices.choose("cpu")
    assert torch.backends.cudnn.conv.fp32_precision == "ieee"


@pytest.mark.gpu
def test_32_bits_are_32_bits() -> None:
    """A convolution of a GPU is that of a CPU, without the 10 bits of TF32."""
    device = load("lenet_from_scratch").devices.choose("cuda")
    images, layer = torch.randn(8, 64, 32, 32), torch.nn.Conv2d(64, 64, 3)
    with torch.no_grad():
        here = layer(images)
        there = layer.to(device)(images.to(device)).cpu()
    torch.testing.assert_close(there, here, rtol=0, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "near"), [("fp32", 0.02), ("auto", 0.1)])
@pytest.mark.parametrize("name", ON_GPUS)
def test_a_gpu_trains_what_a_cpu_trains(name: str, precision: str, near: float,
                                        tmp_path: Path) -> None:
    here = train(name, tmp_path / "cpu", "--device", "cpu")
    there = train(name, tmp_path / "gpu", "--device", "cuda", "--precision", precision)
    assert len(here) == len(there)
    assert first_loss(name, there) == pytest.approx(first_loss(name, here), rel=near)


@pytest.mark.gpu
@pytest.mark.parametrize("name", SEVERAL)
def test_a_process_that_torchrun_starts_trains_as_any(name: str, tmp_path: Path) -> None:
    """It meets the others through NCCL, of which there are none on one GPU."""
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1")
    flags = ("--device", "cuda", "--precision", "fp32")
    alone = train(name, tmp_path / "alone", *flags)
    started = train(name, tmp_path / "started", *flags, by=torchrun)
    assert first_loss(name, started) == pytest.approx(first_loss(name, alone), rel=1e-3)


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
