"""Does the suite have teeth? Every wrong edit of mutants.py must make its tests fail."""

import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from mutants import MUTANTS, Mutant
from support import FOLDERS, ROOT, SHARED, run

LONG = {"test_lenet_train.py", "test_lenet_checkpoint.py", "test_backprop_train.py",
        "test_backprop_demo.py", "test_backprop_visualize.py",
        "test_backprop_gradient_check.py", "test_lenet5_train.py", "test_lenet5_reader.py",
        "test_lenet5_explain.py", "test_alexnet_inference.py", "test_alexnet_train.py",
        "test_alexnet_distributed.py", "test_transformer_train.py",
        "test_transformer_inference.py", "test_gpt2_model.py", "test_gpt2_weights.py",
        "test_gpt2_inference.py", "test_gpt2_train.py", "test_gpt2_tokenizer.py",
        "test_diffusion_train.py", "test_diffusion_refusals.py", "test_diffusion_inference.py",
        "test_sd_model.py", "test_sd_text.py", "test_sd_schedulers.py", "test_sd_pipeline.py",
        "test_sd_weights.py", "test_sd_train.py", "test_sd_refusals.py", "test_sd_data.py",
        "test_sd_inference.py", "test_sd_vae.py", "test_sd_pictures.py", "test_sd_evaluate.py",
        "test_sd_more_training.py"}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree beside a link to the shared data."""
    home = tmp_path_factory.mktemp("mutants")
    away = shutil.ignore_patterns(".git", ".venv", "runs", "data", "__pycache__")
    shutil.copytree(ROOT, home / "main", ignore=away)
    if SHARED.exists():
        os.symlink(SHARED.parent, home / "shared")
    return home / "main"


def test_every_folder_has_at_least_eight_mutants() -> None:
    counts = Counter(mutant.file.split("/")[0] for mutant in MUTANTS)
    assert not {folder: counts[folder] for folder in FOLDERS if counts[folder] < 8}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: f"{m.file}: {m.wrong.strip()[:40]}")
def test_the_right_text_of_each_mutant_stands_in_its_file_once(mutant: Mutant) -> None:
    assert (ROOT / mutant.file).read_text(encoding="utf-8").count(mutant.right) == 1


def run_tests(copy: Path, tests: str) -> subprocess.CompletedProcess:
    """Run one test file of the copy, or one test of it, until its first failure."""
    return run("-m", "pytest", "-x", "-q", "-n", "0", f"tests/{tests}", cwd=copy, timeout=280)


@pytest.mark.slow
@pytest.mark.parametrize("tests", sorted({mutant.tests for mutant in MUTANTS} - LONG))
def test_the_unchanged_copy_passes(tests: str, copy: Path) -> None:
    """Otherwise a mutant could be "caught" by a failure that has nothing to do with it.

    The long files are left to the default suite, where they pass on the tree itself.
    """
    result = run_tests(copy, tests)
    assert result.returncode == 0, result.stdout[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: f"{m.file}: {m.wrong.strip()[:40]}")
def test_the_suite_catches_the_mutant(mutant: Mutant, copy: Path) -> None:
    file = copy / mutant.file
    right = file.read_text(encoding="utf-8")
    file.write_text(right.replace(mutant.right, mutant.wrong), encoding="utf-8")
    try:
        result = run_tests(copy, mutant.tests)
    finally:
        file.write_text(right, encoding="utf-8")
    assert result.returncode == 1, f"not caught: {mutant.wrong}\n{result.stdout[-2000:]}"
    assert "FAILED" in result.stdout
