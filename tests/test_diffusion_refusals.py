"""What training refuses, reports and shares: impossible flags, the sheet, two processes."""

import csv
from pathlib import Path

import pytest
import torch

from support import ROOT, lines_of, load, run

diffusion = load("diffusion_from_scratch")
checkpoint, options, training = diffusion.checkpoint, diffusion.options, diffusion.train
Patch, Said = pytest.MonkeyPatch, pytest.CaptureFixture
FOLDER = "diffusion_from_scratch"
FLAGS = ("--quick", "--batch-size", 7, "--steps", 6, "--log-every", 3)
TWO = (ROOT / "tests" / "two.py",)


def train(out: Path, *flags: object) -> int:
    torch.set_num_threads(1)
    return training.main(["--out-dir", str(out), *map(str, (*FLAGS, *flags))])


def rows(out: Path) -> list[dict[str, float]]:
    with (out / "metrics.csv").open(newline="") as file:
        return [{key: float(value) for key, value in row.items() if key != "seconds"}
                for row in csv.DictReader(file)]


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone")
    assert train(out) == 0
    return out


def test_two_processes_make_the_run_of_one(alone: Path, tmp_path: Path) -> None:
    """Seven pictures a step: one of the processes has three of them."""
    result = run(*TWO, ROOT / FOLDER / "train.py", *FLAGS, "--out-dir", tmp_path)
    assert result.returncode == 0, result.stderr
    assert "processes: 2; seed 0" in lines_of(result)[0]
    for one, two in zip(rows(alone), rows(tmp_path), strict=True):
        assert two == pytest.approx(one, rel=1e-5)
    for name in ("checkpoint.pt", "best.pt"):
        one, two = (checkpoint.load(out / name) for out in (alone, tmp_path))
        for part in ("model", "ema"):
            assert list(one[part]) == list(two[part])
            for key, weight in one[part].items():
                torch.testing.assert_close(two[part][key], weight, rtol=1e-3, atol=1e-5)
    assert sorted(files(alone)) == sorted(files(tmp_path))


def test_a_run_leaves_what_it_says(alone: Path, tmp_path: Path, capsys: Said) -> None:
    assert train(tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sorted(path.name for path in tmp_path.iterdir()) == lines[-2].removeprefix(
        "wrote ").split(", ")
    assert sorted(path.name for path in (tmp_path / "progress").iterdir()) == [
        "step_000003.png", "step_000006.png"]
    best = checkpoint.load(tmp_path / "best.pt")
    assert f"validation loss {best['best']:.4f}, with the weights of step" in lines[-3]


def test_a_resumed_run_keeps_what_its_steps_depend_on(alone: Path, capsys: Said) -> None:
    others = ("data=mnist batch-size=8 seed=5 out-dir=elsewhere preset=paper image-size=9 "
              "schedule=linear times=5 predict=x0 gamma=3 ema=0 drop-labels=0 flip no-centre "
              "no-labels width=9 dropout=0.5").split()
    before, path = files(alone), str(alone / "checkpoint.pt")
    for flag in others:
        assert training.main(["--resume", path, f"--{flag}"]) == 1
        name = flag.split("=")[0].removeprefix("no-").replace("-", " ")
        assert f"error: a resumed run keeps its {name} (" in capsys.readouterr().err
    untold = {"quick", "multipliers", "blocks", "attention", "patch"}       # no flags, or as is
    assert len(others) == len(set(options.FIXED) - untold)
    assert files(alone) == before


def test_what_is_impossible_is_refused_before_any_work(alone: Path, tmp_path: Path,
                                                       capsys: Said) -> None:
    before = files(alone)
    for flag in ("steps=0 lr=-1 width=0 times=0 times=-3 ema=1 ema=-1 gamma=0 drop-labels=1 "
                 "warm-up=-1 schedule=square predict=mean image-size=0 preset=huge dropout=1 "
                 "weight-decay=-1 clip=-1 precision=fp8").split():
        with pytest.raises(SystemExit, match="2"):
            train(alone, f"--{flag}")
    capsys.readouterr()
    foreign = ROOT / "lenet_from_scratch" / "pretrained.pt"
    for flags, words in ((("--image-size", 48), "digits has pictures of one size: leave out"),
                         (("--data", tmp_path / "no"), "is neither a data set nor a folder"),
                         (("--resume", foreign), "was made by lenet_from_scratch")):
        assert train(alone, *flags) == 1
        assert words in capsys.readouterr().err
    assert files(alone) == before


def test_a_checkpoint_without_its_average_is_refused_in_words(alone: Path, tmp_path: Path,
                                                              capsys: Said) -> None:
    for name in ("best.pt", "checkpoint.pt"):
        contents = checkpoint.load(alone / name)
        del contents["ema"], contents["version"]
        checkpoint.save(tmp_path / name, contents)
    assert training.main(["--resume", "--out-dir", str(tmp_path)]) == 1
    assert "has no averaged weights to go on with: start a new run" in capsys.readouterr().err
    best = ["--checkpoint", str(tmp_path / "best.pt"), "--out", str(tmp_path / "out")]
    assert diffusion.inference.main([*best, "--count", "2", "--steps", "2"]) == 1
    assert "has no averaged weights, without which" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert diffusion.inference.main([*best, "--count", "2", "--steps", "2", "--last"]) == 0
    assert "best.pt, its last weights" in capsys.readouterr().err


def test_a_run_without_average_and_labels_paints_with_what_it_has(tmp_path: Path,
                                                                  capsys: Said) -> None:
    assert train(tmp_path, "--ema", 0, "--no-labels", "--predict", "noise", "--gamma", 5,
                 "--times", 20, "--schedule", "linear") == 0
    contents = checkpoint.load(tmp_path / "best.pt")
    assert "ema" not in contents and contents["config"]["classes"] == []
    assert "label.weight" not in contents["model"]
    ask = ["--checkpoint", str(tmp_path / "best.pt"), "--out", str(tmp_path), "--count", "2"]
    assert diffusion.inference.main(ask) == 0
    for flags, words in ((["--guidance", "1"], "this model knows no classes that could guide"),
                         (["--label", "3"], "there is no label 3: this model knows none"),
                         (["--grid"], "this model knows no classes: draw without"),
                         (["--steps", "21"], "21 steps are not possible: this model has 20")):
        assert diffusion.inference.main([*ask, *flags]) == 1
        assert words in capsys.readouterr().err


def test_a_picture_that_stays_visible_is_warned_of(tmp_path: Path, capsys: Said) -> None:
    flags = ("--schedule", "unscaled", "--times", 200, "--steps", 1)
    assert train(tmp_path, *flags) == 0
    assert "after 200 times 0.132 of a picture's variance is left" in capsys.readouterr().err
    assert train(tmp_path, "--schedule", "linear", *flags[2:]) == 0
    assert "variance is left" not in capsys.readouterr().err


def test_sixteen_bits_train_as_well(tmp_path: Path) -> None:
    assert train(tmp_path, "--precision", "bf16") == 0
    assert {p.dtype for p in checkpoint.load(tmp_path / "best.pt")["ema"].values()} == {
        torch.float32}
