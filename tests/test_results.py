"""The numbers in the READMEs' tables of results are those that the named commands wrote."""

import argparse
import json
import re
import shutil
from pathlib import Path

import pytest

import result_rows
import results
from support import FOLDERS, ROOT, assert_said, load

# What `result_rows.py` does not make of numbers that were kept, by the beginnings of the rows:
# bounds that tests assert.
ELSEWHERE = {
    "stable_diffusion_from_scratch": (
        "| U-Net, encoder", "| the published size", "| six samplers", "| pictures of prompts",
        "| byte pairs"),
}
each_folder = pytest.mark.parametrize("folder", FOLDERS)


def rows(folder: str) -> list[str]:
    """The rows of the tables below Results, without their headers."""
    text = (ROOT / folder / "README.md").read_text(encoding="utf-8")
    section = re.search(r"^## Results\n(.*?)^## ", text, flags=re.DOTALL | re.MULTILINE)[1]
    found, lines = [], section.splitlines()
    for number, line in enumerate(lines):
        header = lines[number + 1 : number + 2] and lines[number + 1].startswith("|--")
        if line.startswith("|") and not header and not line.startswith("|--"):
            found.append(line)
    return found


@each_folder
def test_rows_are_made_of_what_commands_wrote(folder: str) -> None:
    made = list(result_rows.ROWS[folder](results.read(folder)))
    spared = ELSEWHERE.get(folder, ())
    patterns, there = [re.escape(row).replace("§", "[^|]*") for row in made], rows(folder)
    others = [row for row in there if not any(re.fullmatch(each, row) for each in patterns)]
    assert len(there) - len(others) == len(made), made
    assert not [row for row in others if not row.startswith(spared)]
    assert not [start for start in spared if not any(row.startswith(start) for row in others)]


@each_folder
def test_results_are_of_commands_that_can_be_run_again(folder: str) -> None:
    found = results.read(folder)
    assert found
    assert not found.keys() - set(results.COMMANDS[folder])
    assert str(ROOT.parent) not in json.dumps(found)
    for command, numbers in found.items():
        script = command.split()[1]
        assert ((ROOT if "/" in script else ROOT / folder) / script).is_file()
        assert numbers.keys() > {"machine"} and numbers["machine"]["threads"] >= 1


def test_figures_of_the_front_door_are_what_commands_wrote() -> None:
    said, figures = (ROOT / "README.md").read_text(encoding="utf-8"), result_rows.figures()
    assert [figure in said for figure in figures] == len(FOLDERS) * [True]


def test_speeds_of_the_front_door_are_what_the_benchmarks_wrote() -> None:
    """Ratios beside peers, and with what power time grows."""
    said = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split("\n"))
    for row in result_rows.front():
        assert row in said
    growth = json.loads((ROOT / "tests/benchmarks/growth.json").read_text(encoding="utf-8"))
    exponents = [each["time"] for each in growth["records"]]
    assert ("LeNet's step with the batch {:.2f}, GPT-2's step with the context {:.2f}, its "
            "writing with a cache {:.2f} and without {:.2f}, the diffusion U-Net with a "
            "picture's side {:.2f}, Stable Diffusion's decoder {:.2f}, sampling with its steps "
            "{:.2f}.").format(*exponents) in said


@pytest.mark.parametrize(("folder", "form"), [
    ("lenet5", "{0} times as fast as torchvision's|fused {1} times as fast"),
    ("alexnet", "pixels runs at {0} times torchvision's speed, a forward pass at {1}, channels "
                "last, and our local response normalisation at {2} times"),
    ("transformer", "at {0} times its speed with 2 layers of 64 channels and at {2} with 4 of "
                    "256, a forward pass at {1} and {3} ("),
    ("gpt2", "runs at {1} times the speed of a plain one|biases and at {2} without, and at {0} "
             "times that of transformers'; writing|one text, at {3} times that"),
    ("vae", "11,000 pictures runs at {0} times its speed"),
    ("diffusion", "is {0} times as fast as theirs, of our default {1} times, drawing {2}")])
def test_speeds_in_a_folder_are_what_the_benchmarks_wrote(folder: str, form: str) -> None:
    found = [result_rows.spread_of(each) for each in result_rows.beside_peers()
             if each["folder"] == folder]
    said = (ROOT / f"{folder}_from_scratch" / "README.md").read_text(encoding="utf-8")
    for part in form.split("|"):
        assert part.format(*found) in said, part


def test_a_command_leaves_its_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the place of its old ones, in the order of the list, without its settings."""
    home, command = tmp_path / "backprop_from_scratch", "python train.py --quick --seed 3"
    shutil.copytree(ROOT / "backprop_from_scratch", home, ignore=shutil.ignore_patterns("runs"))
    commands = {home.name: ["python first.py", command, "python last.py"]}
    monkeypatch.setattr(results, "ROOT", tmp_path)
    monkeypatch.setattr(results, "COMMANDS", commands)
    for earlier in ("python last.py", command, "python gone.py"):
        text = json.dumps({**results.read(home.name), earlier: {"test_score": 7}})
        (home / "results.json").write_text(text, encoding="utf-8")
    results.run_all(home.name, "train.py")
    found = results.read(home.name)
    assert list(found) == [command, "python last.py"]
    assert found["python last.py"] == {"test_score": 7}
    assert found[command].keys() == {"machine", "steps", "best_epoch", "test_score", "seconds"}
    assert 0.5 < found[command]["test_score"] < 1 and found[command]["steps"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "name", "least", "most"), [
    ("backprop_from_scratch", "test_score", 0.975, 1),
    ("lenet_from_scratch", "test_error", 0, 0.02)])
def test_what_was_kept_comes_again(
        folder: str, name: str, least: float, most: float, tmp_path: Path) -> None:
    """Of quick commands; another processor rounds otherwise, so a few digits may differ."""
    command = "python train.py --data digits --seed 0"
    kept = results.read(folder)[command]
    home = shutil.copytree(ROOT / folder, tmp_path / folder,
                           ignore=shutil.ignore_patterns("runs", "data"))
    found = results.result_of(command, home)
    assert found.keys() == kept.keys() - {"machine"}
    assert found["steps"] == kept["steps"] and abs(found[name] - kept[name]) <= 0.01
    assert least <= found[name] <= most


def test_scripts_keep_each_others_numbers(tmp_path: Path,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    """One entry a script, the last one; what cannot be read is lost, not by a full disk."""
    write = load("lenet_from_scratch").console.write_results
    out, args = tmp_path / "a" / "b", argparse.Namespace(seed=1, data_dir=Path("here"))

    def found() -> dict:
        assert [path.name for path in out.iterdir()] == ["results.json"]
        return json.loads((out / "results.json").read_text(encoding="utf-8"))

    write(out, "train.py", args, test_error=0.5)
    write(out, "evaluate.py", args, recall={"w = 0": 0.25})
    write(out, "train.py", args, steps=3)
    settings = {"seed": 1, "data_dir": str(Path("here").resolve())}
    assert found() == {"train.py": {"settings": settings, "steps": 3},
                       "evaluate.py": {"settings": settings, "recall": {"w = 0": 0.25}}}
    for unreadable in ('{"train.py": {"set', "[]", "null"):
        (out / "results.json").write_text(unreadable, encoding="utf-8")
        write(out, "train.py", args, steps=4)
        assert found() == {"train.py": {"settings": settings, "steps": 4}}
    with monkeypatch.context() as patch, pytest.raises(OSError):
        patch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
        write(out, "train.py", args, steps=5)
    assert found()["train.py"]["steps"] == 4
    with pytest.raises(TypeError):
        write(out, "train.py", args, steps=out)
    assert found()["train.py"]["steps"] == 4


def test_results_of_weights_that_are_no_more_are_forgotten(tmp_path: Path) -> None:
    """Those of an ablation stay; a run that goes on has other weights with its first row."""
    lenet = load("lenet_from_scratch")
    table, args = tmp_path / "metrics.csv", argparse.Namespace(seed=1)

    def kept() -> set[str]:
        return set(json.loads((tmp_path / "results.json").read_text(encoding="utf-8")))

    for resumed in (None, 5):
        for script in ("train.py", "evaluate.py", "ablation.py"):
            lenet.console.write_results(tmp_path, script, args)
        metrics = lenet.checkpoint.Metrics(table, ["step", "seconds"], resumed)
        assert len(kept()) == (1 if resumed is None else 3)
        metrics.add(step=5, seconds=1.0)
        assert kept() == {"ablation.py"}
        metrics.file.close()


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_table_and_settings_of_older_code_are_not_gone_on_with(folder: str,
                                                                 tmp_path: Path) -> None:
    modules, table = load(folder), tmp_path / "metrics.csv"
    table.write_text("step,rate\n1,0.5\n", encoding="utf-8")
    with pytest.raises(modules.console.Refusal, match="older code: start a new run"):
        modules.checkpoint.Metrics(table, ["step", "lr"], 5)
    assert table.read_text(encoding="utf-8") == "step,rate\n1,0.5\n"
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


EVALUATED = {    # flags of evaluate.py, and what it prints of its numbers
    "diffusion": ("--count 100 --steps 2",
                  "drawn                        100{drawn[distance]:10.4f}"
                  "{drawn[precision]:11.3f}{drawn[recall]:8.3f}{drawn[as_asked]:10.1%}\n|"
                  "real, the floor              100{real[distance]:10.4f}"
                  "{real[precision]:11.3f}{real[recall]:8.3f}{real[as_asked]:10.1%}\n|"
                  "picture {nearest_median:.1f} grey|median, {nearest:.1f} at|"
                  "digits {test_nearest_median:.1f} and {test_nearest:.1f}; {copies} copies"),
    "stable_diffusion": ("--count 4 --steps 2",
                         "PSNR {psnr:.2f} dB, deviation of latents {deviation:.3f}|"
                         "thing: {pointing:.1%} (anywhere: {pointing_anywhere:.1%})|"
                         "colour {filled_colour:.1%}, both {filled_both:.1%};|"
                         "pixels by {kept_levels:.2f} levels"),
    "vae": ("--quick --samples 3 --count 50",
            " {cost:.2f} nats an image|KL {kl:.2f})\n|units          {active} of |"
            "pixel          {sigma:.4f}|{psnr:.2f} dB; PCA|components {pca_psnr:.2f} dB|"
            "p(x)              {log_likelihood:.2f} ± {standard_error:.2f} nats|"
            "probe          {probe:.1%} (|hue {probes[hue]:.1%}|R²      {hue_r2:.3f}|"
            "at least {judge:.1%} of|arithmetic  {succeeds:.1%} succeed, {collateral:.1%} coll|"
            "{copies} copies among|is {nearest:.1f} grey levels|of one {redrawn:.1f}"),
}


@pytest.mark.parametrize("name", EVALUATED)
def test_the_numbers_of_an_evaluation_are_those_it_prints(
        name: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    flags, form = EVALUATED[name]
    home = ROOT / f"{name}_from_scratch"
    best = ["--checkpoint", str(home / "pretrained.pt"), "--out", str(tmp_path)]
    assert load(home.name).evaluate.main([*best, *flags.split()]) == 0
    found = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["evaluate.py"]
    assert_said(capsys.readouterr().out, form, found)


def test_numbers_become_cells() -> None:
    assert result_rows.percent(0.01234) == "1.23 %"
    assert result_rows.listed([0.5, 0.25], 0) == "50, 25 %"
    assert result_rows.spread([0.01, 0.03], 1) == "1.0, 3.0 | 2.0 | 1.4"
