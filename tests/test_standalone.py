"""Each folder alone: copied to a place with a space and an accent, it works as it does here.

Nothing is shared between folders, so a reader may take one and leave the rest. Here every
folder is copied alone to `o u t/é`, and its scripts are run as a user would run them, from
another working directory, with no network, starting from a fresh clone without `runs/`.
`test_readmes.py` runs the rest of the scripts, in copies of the folders, too.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from support import FOLDERS, ROOT, assert_said, run

NUMPY_ONLY = {"backprop_from_scratch"}     # its checkpoints end in .npz
PROMISED = ("checkpoint", "best", "metrics.csv", "loss.png")
OUT = Path("runs", "é 1")                  # where the training run of the copy writes
# What is run, in this order; the first question is asked before anything was trained.
SCRIPTS = {
    "model": ["model.py"],
    "first question": ["inference.py"],
    "train": ["train.py", "--quick", "--out-dir"],
    "question": ["inference.py"],
}

TRAINED = {      # what train.py prints of its numbers
    "alexnet": "one crop: test error {test_error:.2%}, |ten crops: test error "
               "{ten_crops_error:.2%}, |of epoch {best_epoch}\n",
    "backprop": " {test_score:.4f} on |of epoch {best_epoch}\n",
    "diffusion": "validation loss {validation_loss:.4f}, |of step {best_step}\n",
    "gpt2": " {token:.4f} nats a token, {character:.4f} nats |of step {best_step}\n|5-gram "
            "{counting[5-gram]:.3f}\n",
    "lenet": "test error {test_error:.2%} on |of epoch {best_epoch} ",
    "lenet5": "test error {test_error:.2%} on |of epoch {best_epoch}\n|AUROC {letters:.3f} ",
    "stable_diffusion": "validation loss {validation_loss:.5f}, |of step {best_step}\n",
    "transformer": "test accuracy {test_accuracy[this network]:.2%} |of epoch {best_epoch}\n|"
                   "logistic regression: {test_accuracy[logistic regression]:.2%} |"
                   "naive Bayes: {test_accuracy[naive Bayes]:.2%} ",
    "vae": "-ELBO {cost:.2f} nats|KL {kl:.2f}), {active} of |PSNR {psnr:.2f} dB|components "
           "{pca_psnr:.2f} dB|of epoch {best_epoch}\n",
}

each_folder = pytest.mark.parametrize("folder", FOLDERS)
each_script = pytest.mark.parametrize(("folder", "name"), [
    (folder, name) for folder in FOLDERS for name in SCRIPTS])


def snapshot(home: Path) -> dict[Path, tuple[int, int]]:
    """Size and time of every file."""
    files = (path for path in sorted(home.rglob("*")) if path.is_file())
    return {path.relative_to(home): (path.stat().st_size, path.stat().st_mtime_ns)
            for path in files}


def run_alone(home: Path, elsewhere: Path, command: list[str]) -> SimpleNamespace:
    """Run one script of a copy; gives its result and the files it touched."""
    out = [home / OUT] if command[-1] == "--out-dir" else []
    before = snapshot(home)
    result = run(home / command[0], *command[1:], *out, cwd=elsewhere, timeout=300)
    after = snapshot(home)
    touched = {path for path in before | after if before.get(path) != after.get(path)}
    return SimpleNamespace(result=result, touched=touched)


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], SimpleNamespace]:
    """What running all scripts of a lone copy has shown; each folder is copied once."""
    done = {}

    def visit(folder: str) -> SimpleNamespace:
        if folder not in done:
            place = tmp_path_factory.mktemp("alone")
            elsewhere, home = place / "elsewhere", place / "o u t" / "é" / folder
            elsewhere.mkdir()
            unwanted = shutil.ignore_patterns("runs", "data", "__pycache__", ".*")
            shutil.copytree(ROOT / folder, home, ignore=unwanted)
            runs = {name: run_alone(home, elsewhere, command)
                    for name, command in SCRIPTS.items()}
            done[folder] = SimpleNamespace(home=home, elsewhere=elsewhere, runs=runs)
        return done[folder]

    return visit


@each_script
def test_a_lone_script_ends_well(alone: Callable, folder: str, name: str) -> None:
    result = alone(folder).runs[name].result
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()
    assert "Traceback" not in result.stderr and "Warning" not in result.stderr, result.stderr


@each_script
def test_no_progress_bar_is_drawn_where_nobody_watches(
    alone: Callable, folder: str, name: str
) -> None:
    error = alone(folder).runs[name].result.stderr
    assert "\r" not in error and "it/s" not in error


@each_script
def test_a_lone_script_writes_only_where_it_says(
    alone: Callable, folder: str, name: str
) -> None:
    """Training writes into its --out-dir, the others below runs/, model.py nowhere."""
    place = {"model": Path("nowhere"), "train": OUT}.get(name, Path("runs"))
    touched = alone(folder).runs[name].touched
    assert not [path for path in touched if not path.is_relative_to(place)]
    assert not list(alone(folder).elsewhere.iterdir())


@each_folder
def test_training_leaves_what_it_promises(alone: Callable, folder: str) -> None:
    out = alone(folder).home / OUT
    ending = ".npz" if folder in NUMPY_ONLY else ".pt"
    promised = [name if "." in name else name + ending for name in PROMISED]
    assert not [name for name in promised if not (out / name).is_file()]
    assert not list(out.rglob("*.partial"))
    assert len((out / "metrics.csv").read_text(encoding="utf-8").splitlines()) >= 2


@each_folder
def test_the_smoke_run_is_quick(alone: Callable, folder: str) -> None:
    """15 s of the processors, whatever else they do; 5 s are the most that was measured."""
    seconds = alone(folder).runs["train"].result.seconds
    print(f"{folder}: train.py --quick took {seconds:.1f} s")
    assert seconds <= 15


@each_folder
def test_training_ends_with_the_next_command(alone: Callable, folder: str) -> None:
    last = alone(folder).runs["train"].result.stdout.splitlines()[-1]
    assert last.startswith("next: python ")
    assert (alone(folder).home / last.split()[2]).exists()


@each_folder
def test_the_numbers_that_training_keeps_are_those_it_prints(
        alone: Callable, folder: str) -> None:
    said = alone(folder).runs["train"].result.stdout
    kept = json.loads((alone(folder).home / OUT / "results.json").read_text(encoding="utf-8"))
    assert_said(said, TRAINED[folder.removesuffix("_from_scratch")], kept["train.py"])
    assert kept["train.py"]["settings"]["seed"] == 0 and kept["train.py"]["seconds"] > 0


@each_folder
def test_training_says_where_it_writes(alone: Callable, folder: str) -> None:
    home, result = alone(folder).home, alone(folder).runs["train"].result
    assert f"writing to {home / OUT}" in result.stdout


@pytest.mark.parametrize("folder", [name for name in FOLDERS if name not in NUMPY_ONLY])
@pytest.mark.parametrize(("name", "file"), [
    ("first question", Path("pretrained.pt")),      # there is no run yet
    ("question", OUT / "best.pt"),
])
def test_it_says_which_checkpoint_answers(
    alone: Callable, folder: str, name: str, file: Path
) -> None:
    assert f"using {alone(folder).home / file}\n" in alone(folder).runs[name].result.stderr
