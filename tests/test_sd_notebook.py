"""The notebook runs from top to bottom as a reader would, with sliders and without."""

import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

from sd_tiny import save_tiny
from support import ROOT, environment

HOME = ROOT / "stable_diffusion_from_scratch"
NAME = "sample_stable_diffusion.ipynb"
LIMIT = 180          # seconds that it may take
HEADINGS = ["A sentence becomes pictures", "The loop, by hand", "Out of the noise",
            "What the U-Net sees", "Where each word is looked at", "More and more guidance",
            "Six samplers, few steps and many", "From one sentence to another",
            "A picture to begin with", "Into a hole"]
# A library of sliders that answers with the values they begin with, and says what they are.
SLIDERS = """
class Control:
    def __init__(self, value=None, **settings):
        self.value, self.settings = value, settings
class IntSlider(Control): pass
class FloatSlider(Control): pass
class Text(Control): pass
class Dropdown(Control): pass
def interact(draw, **controls):
    for name, control in controls.items():
        assert control.settings.get("continuous_update", False) is False
        print("slider", draw.__name__, name, type(control).__name__, repr(control.value))
    image = draw(**{name: control.value for name, control in controls.items()})
    print("drawn", *image.size)
"""


def read() -> NotebookNode:
    """The notebook as it is in the repository."""
    return nbformat.read(HOME / NAME, as_version=4)


def copy(place: Path) -> Path:
    """The folder alone, with random weights where it has no trained ones yet."""
    home = place / "stable"
    shutil.copytree(HOME, home, ignore=shutil.ignore_patterns("runs", "data", "__pycache__"))
    if not (home / "pretrained.pt").exists():
        save_tiny(home / "pretrained.pt")
    return home


def execute(notebook: NotebookNode, home: Path, monkeypatch: pytest.MonkeyPatch) -> float:
    """Run all cells, which get their outputs; gives the seconds. An error fails the test."""
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("IPYTHONDIR", str(home / ".ipython"))
    for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR"):      # not the user's own
        monkeypatch.setenv(name, str(home / ".jupyter"))
    started = time.monotonic()
    client = NotebookClient(notebook, timeout=LIMIT, startup_timeout=LIMIT,
                            kernel_name="python3",
                            resources={"metadata": {"path": str(home)}})
    client.execute()
    return time.monotonic() - started


def code(notebook: NotebookNode) -> list[NotebookNode]:
    """The cells that run."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def text(cell: NotebookNode, stream: str = "stdout") -> str:
    """What a cell printed."""
    return "".join(output.text for output in cell.outputs
                   if output.output_type == "stream" and output.name == stream)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The notebook after a run in a copy, and how long it took."""
    notebook, home = read(), copy(tmp_path_factory.mktemp("notebook"))
    before = {path.name for path in home.iterdir()}
    with pytest.MonkeyPatch.context() as patch:
        seconds = execute(notebook, home, patch)
    return SimpleNamespace(notebook=notebook, seconds=seconds, home=home, before=before)


def test_the_repository_has_no_outputs_of_it() -> None:
    notebook = read()
    nbformat.validate(notebook)
    assert (HOME / NAME).stat().st_size < 30_000
    assert not [cell for cell in code(notebook) if cell.outputs or cell.execution_count]
    lines = [line for cell in notebook.cells for line in cell.source.splitlines()
             if cell.cell_type == "code"]
    assert max(map(len, lines)) <= 96
    assert notebook.metadata == {"kernelspec": {"display_name": "Python 3", "name": "python3",
                                                "language": "python"},
                                 "language_info": {"name": "python"}}


def test_it_has_a_chapter_for_everything_the_model_can_do() -> None:
    markdown = [cell.source for cell in read().cells if cell.cell_type == "markdown"]
    assert [source.splitlines()[0].lstrip("# ") for source in markdown][1:] == HEADINGS
    assert all(len(source.split()) > 20 for source in markdown)


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(done: SimpleNamespace) -> None:
    """And every chapter shows a picture; nothing is written."""
    print(f"the notebook took {done.seconds:.1f} s")
    assert done.seconds <= LIMIT
    shown = [cell for cell in code(done.notebook) if any(
        "image/png" in output.get("data", {}) for output in cell.outputs)]
    assert len(shown) == len(HEADINGS)
    new = {path.name for path in done.home.iterdir()} - done.before
    assert new <= {"__pycache__", ".ipython", ".jupyter"}


@pytest.mark.slow
def test_it_warns_of_nothing(done: SimpleNamespace) -> None:
    said = "".join(text(cell, "stderr") for cell in code(done.notebook))
    assert set(said.splitlines()) <= {"using pretrained.pt"}, said


@pytest.mark.slow
def test_the_loop_by_hand_draws_what_the_pipeline_draws(done: SimpleNamespace) -> None:
    said = "".join(text(cell) for cell in code(done.notebook))
    assert "largest difference: 0 of" in said or "largest difference: 1 of" in said
    assert "outside of the hole a pixel differs by" in said and "circle" in said


def test_sliders_are_used_where_they_are(tmp_path: Path,
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    """The first two chapters, with a library that stands for the real one."""
    notebook, home = read(), copy(tmp_path)
    (home / "ipywidgets.py").write_text(SLIDERS, encoding="utf-8")
    notebook.cells = notebook.cells[:5]
    execute(notebook, home, monkeypatch)
    said = text(notebook.cells[-1]).splitlines()
    assert [line.split()[1:4] for line in said[:-1]] == [
        ["draw", "prompt", "Text"], ["draw", "negative", "Text"], ["draw", "seed", "IntSlider"],
        ["draw", "guidance", "FloatSlider"], ["draw", "steps", "IntSlider"],
        ["draw", "sampler", "Dropdown"]]
    assert said[3].endswith("3.0") and said[-1].startswith("drawn ")
