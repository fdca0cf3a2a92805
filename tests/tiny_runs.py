"""What the tests of faults share: very short runs of every folder, and how an error is said."""

import contextlib
import csv
import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from support import load

FULL = "/dev/full"       # whatever is written there meets a full disk
STOPPED = 4              # after so many steps of six
SMALL = {                # the flags of a run of six steps in two intervals, and its data
    "alexnet": ("--data cifar10 --width 0.05 --batch-size 8 --epochs 2 --log-every 1",
                lambda m: m.data.drawn_shapes(32, (20, 20, 20))),
    "backprop": ("--data digits --layers 8 --batch-size 8 --epochs 2 --log-every 1",
                 lambda m: m.data.shortened(m.data.load("digits", Path()), 20)),
    "diffusion": ("--width 8 --batch-size 4 --steps 6 --log-every 3",
                  lambda m: m.data.digits().shortened((24, 8, 8))),
    "gpt2": ("--layers 1 --heads 2 --channels 8 --context 8 --vocabulary 270 --batch-size 4 "
             "--steps 6 --log-every 3", lambda m: m.data.Data(
                 "few", "the sea, the hill " * 90, "the hill, über the sea " * 9, "few")),
    "lenet": ("--data digits --batch-size 8 --epochs 2 --log-every 1",
              lambda m: m.data.shortened(m.data.embedded_digits(), 20)),
    "lenet5": ("--data digits --batch-size 8 --epochs 2 --log-every 1",
               lambda m: m.data.shortened(m.data.embedded_digits(), 20)),
    "stable_diffusion": ("--batch-size 4 --vae-batch-size 2 --steps 6 --vae-steps 3 "
                         "--log-every 3", lambda m: m.data.drawn_shapes(32, 0, (24, 8))),
    "transformer": ("--data hard --channels 8 --heads 2 --layers 1 --hidden 8 --epochs 2 "
                    "--batch-size 8 --log-every 1",
                    lambda m: m.data.load("hard", Path()).shortened((20, 20, 20))),
    "vae": ("--width 4 --latents 4 --batch-size 8 --epochs 2 --log-every 1",
            lambda m: m.data.drawn_creatures((20, 20, 20))),
}
TINY = {"unet": {"channels": 16, "context": 16, "groups": 4},      # of Stable Diffusion
        "vae": {"channels": 8, "groups": 4}, "text": {"layers": 1, "channels": 16}}


class Folder:
    """One folder, whose runs in this process are very short and report nothing."""

    def __init__(self, name: str, patch: pytest.MonkeyPatch, place: Path) -> None:
        self.name, self.modules, self.numpy = name, load(name), name.startswith("backprop")
        self.best, self.last = ("best.npz", "checkpoint.npz") if self.numpy else (
            "best.pt", "checkpoint.pt")
        flags, data = SMALL[name.removesuffix("_from_scratch")]
        self.flags, few, training = flags.split(), data(self.modules), self.modules.train
        self.report = training.report
        patch.setattr(training, "load", lambda *_: few)
        patch.setattr(training, "report", lambda *_: None)
        if name.startswith("stable"):
            small = self.modules.options.SIZES["small"]
            for part, sizes in TINY.items():
                patch.setitem(small, part, small[part] | sizes)
            patch.setattr(self.modules.validation, "ASKED", 2)
            patch.setattr(self.modules.start, "SHOWN", 2)
            patch.setattr(self.modules.tokenizer.WordTokenizer, "remarks", lambda *_: [])
        if name.startswith("diffusion"):
            patch.setattr(self.modules.run, "STRIP", 4)
            patch.setattr(self.modules.run, "ROUGH", 2)
        self.whole, self.half = place / "one whole", place / "half of it"
        assert self.fresh(self.whole) == 0
        with self.at_step(STOPPED, lambda: signal.raise_signal(signal.SIGTERM)):
            assert self.fresh(self.half) == 143

    def fresh(self, out: Path) -> int:
        return self.modules.train.main([*self.flags, "--out-dir", str(out)])

    def resume(self, out: Path) -> int:
        torch.manual_seed(999)       # whatever happened in between must not matter
        return self.modules.train.main(["--resume", "--out-dir", str(out)])

    def at_step(self, number: int, action: Callable[[], None]) -> contextlib.ExitStack:
        """While it is open, an action comes in the midst of this step, counted from now."""
        owner, name = ((self.modules.model.Network, "backward") if self.numpy else
                       (torch.optim.Optimizer, "zero_grad"))
        original, calls = getattr(owner, name), []

        def interrupted(*given: object, **how: object) -> object:
            calls.append(1)
            if len(calls) == number:
                action()
            return original(*given, **how)

        stack, patch = contextlib.ExitStack(), pytest.MonkeyPatch()
        patch.setattr(owner, name, interrupted)
        stack.callback(patch.undo)
        return stack

    def content(self, path: Path) -> str:
        """The digest of all that a checkpoint says, apart from time and place."""
        checkpoint = self.modules.checkpoint
        kept = {key: value for key, value in checkpoint.load(path, self.name).items()
                if key not in ("seconds", "options")}
        if not self.numpy:
            return checkpoint.digest(kept)
        arrays, plain = checkpoint.flatten(kept)
        return checkpoint.digest(arrays, json.dumps(plain))

    def assert_goes_on(self, out: Path) -> None:
        """Resumed, it becomes the run that nothing befell, and leaves no scraps."""
        assert self.resume(out) == 0
        for name in (self.best, self.last):
            assert self.content(out / name) == self.content(self.whole / name), name
        assert rows(out) == rows(self.whole)
        assert not list(out.rglob("*.partial"))


def rows(out: Path) -> list[dict]:
    with (out / "metrics.csv").open(newline="") as file:
        return [dict(row, seconds=None) for row in csv.DictReader(file)]


def files(out: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def sentence(capsys: pytest.CaptureFixture) -> str:
    """The one line that stderr has, an error."""
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1, said
    return said
