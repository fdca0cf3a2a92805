"""What training refuses, reports and shares: impossible flags, the sheet, two processes."""

import csv
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from support import ROOT, lines_of, load, run
from test_sd_data import make_folder

sd = load("stable_diffusion_from_scratch")
checkpoint, options, training = sd.checkpoint, sd.options, sd.train
Patch, Said = pytest.MonkeyPatch, pytest.CaptureFixture
FOLDER = "stable_diffusion_from_scratch"
FLAGS = ("--quick", "--batch-size", 7, "--vae-batch-size", 3, "--steps", 6, "--vae-steps", 3,
         "--log-every", 3)
TWO = (ROOT / "tests" / "two.py",)


def train(out: Path, *flags: object) -> int:
    torch.set_num_threads(1)
    return training.main(["--out-dir", str(out), *map(str, (*FLAGS, *flags))])


def chosen(*flags: object) -> SimpleNamespace:
    args = options.parser().parse_args([*map(str, flags)])
    options.set_defaults(args)
    return args


def rows(out: Path) -> list[dict[str, float]]:
    with (out / "metrics.csv").open(newline="") as file:
        return [{key: float(value or 0) for key, value in row.items()
                 if key not in ("seconds", "stage")} for row in csv.DictReader(file)]


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone")
    assert train(out) == 0
    return out


def test_two_processes_make_the_run_of_one(alone: Path, tmp_path: Path) -> None:
    """Three pictures and seven latents a step: one of the processes has fewer."""
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
                torch.testing.assert_close(two[part][key], weight, rtol=1e-3, atol=1e-4)
    assert sorted(files(alone)) == sorted(files(tmp_path))


def test_a_run_leaves_what_it_says(alone: Path, tmp_path: Path, capsys: Said) -> None:
    assert train(tmp_path) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[-1].startswith("next: python inference.py --checkpoint ")
    for name in ("best.pt", "checkpoint.pt", "loss.png", "metrics.csv", "samples.png"):
        assert (tmp_path / name).stat().st_size > 100 and name in said
    assert sorted(path.name for path in (tmp_path / "progress").iterdir()) == [
        "step_000003.png", "step_000006.png"]
    assert "3 steps for the autoencoder, 3 for diffusion" in said
    ask = ["--checkpoint", str(tmp_path / "best.pt"), "--out", str(tmp_path / "o")]
    assert sd.inference.main([*ask, "--count", "1", "--steps", "2"]) == 0
    quick = checkpoint.load(alone / "best.pt")["config"]
    assert quick["image_size"] == 32 and quick["data"] == "shapes"
    assert len(quick["prompts"]) == 16


def test_what_the_flags_leave_open_follows_from_the_preset() -> None:
    for name in ("small", "fine", "shapes64"):
        found = vars(chosen("--preset", name))
        assert {key: found[key] for key in options.RECIPES[name]} == options.RECIPES[name]
        assert found["delta"] == (30 if name == "fine" else 1)       # as the README says
    recipe = options.RECIPES["small"]
    part = recipe["vae_steps"] / recipe["steps"]
    half = chosen("--steps", 1000)
    assert (half.vae_steps, half.stage) == (round(1000 * part), "both")
    vae = chosen("--stage", "vae")
    assert vae.steps == vae.vae_steps == recipe["vae_steps"]
    assert chosen("--stage", "vae", "--steps", 70).vae_steps == 70
    rest = chosen("--stage", "diffusion", "--weights", "x.pt")
    assert (rest.vae_steps, rest.steps) == (0, recipe["steps"] - recipe["vae_steps"])
    fine = chosen("--preset", "sd15", "--weights", "x.safetensors")
    assert (fine.stage, fine.vae_steps, fine.train_text, fine.image_size) == (
        "diffusion", 0, False, 512)
    assert chosen("--quick", "--lr", 0.5).lr == 0.5 and chosen("--quick").steps == 24


def test_a_resumed_run_keeps_what_its_steps_depend_on(alone: Path, capsys: Said) -> None:
    others = ("data=x batch-size=8 seed=5 out-dir=elsewhere preset=shapes64 image-size=64 "
              "stage=vae vae-steps=2 vae-batch-size=9 weights=x tokenizer=x kl=1 gamma=3 "
              "delta=2 ema=0 drop-captions=0 no-train-text").split()
    before, path = files(alone), str(alone / "checkpoint.pt")
    for flag in others:
        assert training.main(["--resume", path, f"--{flag}"]) == 1
        name = flag.split("=")[0].removeprefix("no-").replace("-", " ")
        assert f"error: a resumed run keeps its {name} (" in capsys.readouterr().err
    assert len(others) == len(set(options.FIXED) - {"quick"})
    assert files(alone) == before


def test_what_is_impossible_is_refused_before_any_work(alone: Path, tmp_path: Path,
                                                       capsys: Said) -> None:
    before = files(alone)
    for flag in ("steps=0 lr=-1 vae-lr=0 vae-steps=0 vae-batch-size=0 ema=1 ema=-1 gamma=0 "
                 "delta=0 drop-captions=1 warm-up=-1 image-size=0 preset=huge stage=all kl=-1 "
                 "weight-decay=-1 clip=-1 precision=fp8").split():
        with pytest.raises(SystemExit, match="2"):
            train(alone, f"--{flag}")
    capsys.readouterr()
    foreign = ROOT / "lenet_from_scratch" / "pretrained.pt"
    for flags, words in (
            (("--vae-steps", 6), "6 of 6 steps for the autoencoder do not fit --stage both"),
            (("--vae-steps", 7), "7 of 6 steps for the autoencoder do not fit --stage both"),
            (("--stage", "vae"), "3 of 6 steps for the autoencoder do not fit --stage vae"),
            (("--image-size", 34), "--image-size has to be a multiple of 4"),
            (("--preset", "sd15", "--stage", "vae", "--vae-steps", 6), "name --weights"),
            (("--delta", 0.5), "--delta 0.5 would let errors count less"),
            (("--weights", tmp_path / "no.pt"), "there is no checkpoint"),
            (("--weights", tmp_path / "no.safetensors"), "there are no weights at"),
            (("--weights", foreign), "was made by lenet_from_scratch"),
            (("--preset", "shapes64", "--weights", alone / "best.pt"), "has other levels"),
            (("--data", tmp_path / "no"), "is neither a data set nor a folder"),
            (("--resume", foreign), "was made by lenet_from_scratch")):
        assert train(alone, *flags) == 1
        assert words in capsys.readouterr().err, words
    assert files(alone) == before


def test_changed_data_and_a_lost_best_are_refused_on_resuming(
        alone: Path, tmp_path: Path, monkeypatch: Patch, capsys: Said) -> None:
    (tmp_path / "checkpoint.pt").write_bytes((alone / "checkpoint.pt").read_bytes())
    ask = ["--resume", "--out-dir", str(tmp_path)]
    assert training.main(ask) == 1
    assert "needs the best.pt that was beside it" in capsys.readouterr().err
    (tmp_path / "best.pt").write_bytes((alone / "best.pt").read_bytes())
    monkeypatch.setattr(training, "load", lambda *_: sd.data.drawn_shapes(32, 1, (256, 64)))
    assert training.main(ask) == 1
    assert "shapes is not what it was when the run began" in capsys.readouterr().err


def test_a_folder_of_your_own_is_learned_with_its_words(tmp_path: Path, capsys: Said) -> None:
    make_folder(tmp_path / "own", 20)
    out = tmp_path / "out"
    assert train(out, "--data", tmp_path / "own", "--image-size", 16) == 0
    best = checkpoint.load(out / "best.pt")
    assert best["config"]["image_size"] == 16
    assert {"picture", "number"} <= set(best["config"]["tokenizer"]["words"])
    assert best["config"]["prompts"][0].startswith("Picture number")
    assert [row["both"] for row in rows(out)] == [0, 0]
    capsys.readouterr()
    more = ("--weights", out / "best.pt", "--data", tmp_path / "own", "--image-size", 16)
    (tmp_path / "own" / "picture_04.txt").write_text("zebra number 4", encoding="utf-8")
    assert train(tmp_path / "more", *more) == 0
    assert "1 words of the captions are new to the model and left out, such as zebra" in (
        capsys.readouterr().err)


def test_published_weights_are_gone_on_from(tmp_path: Path, alone: Path) -> None:
    """Written as published files are, the tokenizer in the notes; the text stays as it is."""
    best = checkpoint.load(alone / "best.pt")
    model = sd.model.build(best["config"])
    model.load_state_dict(best["ema"])
    sd.weights.save(model, best["config"], tmp_path / "w.safetensors")
    flags = ("--quick", "--stage", "diffusion", "--steps", 3, "--batch-size", 2,
             "--no-train-text", "--weights", tmp_path / "w.safetensors")
    out = tmp_path / "out"
    assert training.main([*map(str, flags), "--out-dir", str(out)]) == 0
    after = checkpoint.load(out / "checkpoint.pt")["model"]
    moved = {name for name, weight in after.items()
             if not torch.equal(weight, best["ema"][name])}
    assert moved and all(name.startswith("model.diffusion_model.") for name in moved)


def test_sixteen_bits_train_as_well(tmp_path: Path) -> None:
    assert train(tmp_path, "--precision", "bf16") == 0
    assert {p.dtype for p in checkpoint.load(tmp_path / "best.pt")["ema"].values()} == {
        torch.float32}
