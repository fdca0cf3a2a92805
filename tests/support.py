"""What the tests share: the folders, a loader for equal module names, and subprocesses."""

import contextlib
import functools
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

from warm import Warm

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = sorted(path.name for path in ROOT.glob("*_from_scratch") if path.is_dir())
SHARED = ROOT.parent / "shared" / "data"  # real data for development and CI, never committed


@functools.cache
def load(folder: str, root: Path = ROOT) -> SimpleNamespace:
    """The modules of one folder by name: `load("lenet_from_scratch").model.LeNet`.

    Nine folders have a `model.py`; each is imported with its folder alone on `sys.path` and
    then taken out of `sys.modules`, so that the next folder gets its own.
    """
    home = root / folder
    names = [path.stem for path in sorted(home.glob("*.py"))]
    with _clean_imports(names, home):
        return SimpleNamespace(**{name: importlib.import_module(name) for name in names})


@contextlib.contextmanager
def _clean_imports(names: list[str], home: Path) -> Iterator[None]:
    kept = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    sys.path.insert(0, str(home))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(home))
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(kept)


def environment() -> dict[str, str]:
    """The environment of a user without a network and without our own paths."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    nowhere = "http://127.0.0.1:9"  # the discard port: every download is refused at once
    return kept | {
        "http_proxy": nowhere, "https_proxy": nowhere, "no_proxy": "127.0.0.1,localhost",
        "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1",
    }


def run(*command: str | Path, cwd: Path | None = None, timeout: float = 120,
        imported: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
    """Run `python script.py …` as a user would, and wait; a hanging command fails the test.

    Scripts share one import of the libraries, and of those `imported` besides; anything else
    gets a Python of its own, and so does what depends on how a Python begins.
    """
    words = list(map(str, command))
    script = words[0].endswith(".py") or words[:2] == ["-m", "pytest"]
    if script and "PYTHONIOENCODING" not in os.environ:
        return warm(*imported).run(words, cwd, environment(), timeout)
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, env=environment(), timeout=timeout,
        capture_output=True, encoding="utf-8", check=False,
    )


@functools.cache
def warm(*more: str) -> Warm:
    """The process that has imported the libraries, one for each process of the suite."""
    return Warm(environment(), more)


def lines_of(result: subprocess.CompletedProcess) -> list[str]:
    """What a command has printed, without what Gloo says of itself in older PyTorch.

    Two processes say it at the same time, so that pieces of it may stand anywhere in a line.
    """
    gloo = re.compile(r"Gloo|peer ranks|is connected to|^[\d\s]*$")
    return [line for line in result.stdout.splitlines() if not gloo.search(line)]


def assert_said(text: str, form: str, numbers: dict) -> None:
    """Each part of a form, between bars, stands in the text, with the numbers filled in."""
    for part in form.split("|"):
        assert part.format(**numbers) in text, part


def start(*command: str | Path, cwd: Path | None = None) -> subprocess.Popen:
    """Start `python script.py …` and go on: for signals and kills."""
    return subprocess.Popen(
        [sys.executable, *map(str, command)], cwd=cwd, env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
    )
