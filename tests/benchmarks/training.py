"""What the scripts that train on handwritten digits share: the pictures, and a way to stop."""

import argparse
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

HELD_BACK = 5_000                 # of MNIST's training pictures, which all folders validate on
NOISE, QUICK = 6_000, 256         # pictures of noise to train on
FILES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


class StopAfter:
    """Asks to stop after a number of steps; without a number, never."""

    def __init__(self, steps: float = float("inf")) -> None:
        self.left = steps

    @property
    def requested(self) -> bool:
        """Asked once a step."""
        self.left -= 1
        return self.left <= 0


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """The flag that leads to MNIST, without which there is noise."""
    parser.add_argument("--data-dir", metavar="DIR", type=Path,
                        help="with MNIST in it: its pictures, and what else is measured on "
                             "them (default: as many pictures of noise as speed needs)")


@contextlib.contextmanager
def mnist(data_dir: Path | None, quick: bool) -> Iterator[Path]:
    """A folder with MNIST's four files in it: the given one, or for a while one of noise."""
    if data_dir:
        yield data_dir
        return
    with tempfile.TemporaryDirectory() as folder:
        raw, rng = Path(folder) / "MNIST" / "raw", np.random.default_rng(0)
        raw.mkdir(parents=True)
        for images, labels, count in ((*FILES[:2], HELD_BACK + (QUICK if quick else NOISE)),
                                      (*FILES[2:], 1_000)):
            _write(raw / f"{images}-ubyte", rng.integers(256, size=(count, 28, 28)))
            _write(raw / f"{labels}-ubyte", np.arange(count) % 10)
        yield Path(folder)


def _write(path: Path, values: np.ndarray) -> None:
    """A file of MNIST: two zeros, 8 for bytes, the number of axes, their lengths, the bytes."""
    head = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">i4").tobytes()
    path.write_bytes(head + values.astype(np.uint8).tobytes())
