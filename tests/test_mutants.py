"""Does the suite have teeth? Every wrong edit of mutants.py must make its test fail."""

import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from mutants import MUTANTS, Mutant
from support import FOLDERS, ROOT, SHARED, run

PEERS = ("diffusers.models.unets.unet_2d_condition",
         "diffusers.models.autoencoders.autoencoder_kl",
         "transformers.models.clip.modeling_clip", "transformers.models.gpt2.modeling_gpt2")
each_mutant = pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: f"{m.file}: {m.mistake}")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree beside a link to the shared data."""
    home = tmp_path_factory.mktemp("mutants")
    away = shutil.ignore_patterns(".git", ".venv", "runs", "data", "__pycache__")
    shutil.copytree(ROOT, home / "main", ignore=away)
    if SHARED.exists():
        os.symlink(SHARED.parent, home / "shared")
    return home / "main"


def test_every_folder_has_twelve_mutants_in_several_files() -> None:
    counts = Counter(mutant.file.split("/")[0] for mutant in MUTANTS)
    assert counts == dict.fromkeys(FOLDERS, 12)
    files = Counter(file.split("/")[0] for file in {mutant.file for mutant in MUTANTS})
    assert min(files.values()) >= 5


@each_mutant
def test_the_right_text_stands_in_its_file_once_and_the_wrong_one_is_python(
        mutant: Mutant) -> None:
    text = (ROOT / mutant.file).read_text(encoding="utf-8")
    assert text.count(mutant.right) == 1
    compile(text.replace(mutant.right, mutant.wrong), mutant.file, "exec")


def test_each_mutant_is_one_sentence_and_names_a_test_that_there_is() -> None:
    for mutant in MUTANTS:
        assert mutant.mistake[0].isupper() and mutant.mistake.endswith("."), mutant
        file, name = mutant.tests.split("[")[0].split("::")
        assert f"\ndef {name}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), mutant


def run_tests(copy: Path, *tests: str) -> subprocess.CompletedProcess:
    """Run some tests of the copy until the first failure."""
    return run("-m", "pytest", "-x", "-q", "-n", "0", *(f"tests/{test}" for test in tests),
               cwd=copy, timeout=280, imported=PEERS)


@pytest.mark.slow
def test_the_unchanged_copy_passes(copy: Path) -> None:
    """Otherwise a mutant could be "caught" by a failure that has nothing to do with it."""
    result = run_tests(copy, *sorted({mutant.tests for mutant in MUTANTS}))
    assert result.returncode == 0, result.stdout[-2000:]


@pytest.mark.slow
@each_mutant
def test_the_suite_catches_the_mutant(mutant: Mutant, copy: Path) -> None:
    file = copy / mutant.file
    right = file.read_text(encoding="utf-8")
    file.write_text(right.replace(mutant.right, mutant.wrong), encoding="utf-8")
    try:
        result = run_tests(copy, mutant.tests)
    finally:
        file.write_text(right, encoding="utf-8")
    assert result.returncode == 1, f"not caught: {mutant.mistake}\n{result.stdout[-2000:]}"
    assert "FAILED" in result.stdout
