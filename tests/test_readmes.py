"""The commands in the READMEs run, in their order, and the tables in them are the code's.

Every line of every ```bash block is a test. The lines of a folder's README run one after
the other in one copy of the folder, shortened: training gets `--quick` and at most a few
epochs or steps, drawing a few steps, CUDA becomes the CPU where there is none. What reads the
real data or takes long is marked slow. The top README's two installing commands are run by
CI, on a fresh machine, and only looked at here.
"""

import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from support import FOLDERS, ROOT, SHARED, load, run

# What a README may tell the reader to do and a test does not do.
NOT_RUN = ("pip install ", "python -m pip install ", "python3 -m venv ", "python -m venv ",
           "git clone ", "cd ", "source ", ". .venv/", ".venv\\Scripts\\activate", "pytest",
           "python -m pytest")
# For a new training run, for a resumed one.
MOST = {"--epochs": (1, 3), "--steps": (20, 40), "--tune": (3, 3)}
MOST_PROCESSES = 2
PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff")
# The flags of model.py whose tables stand in the README.
TABLES = {"lenet_from_scratch": ["", "--variant 1998"]}


# ---------------------------------------------------------------- reading commands


def text_of(readme: Path) -> str:
    """The text of a README, none if it is not written yet (another test says so)."""
    return readme.read_text(encoding="utf-8") if readme.exists() else ""


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of a language in a README."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[str]:
    """The lines of the ```bash blocks without comments; a backslash joins two."""
    lines = "".join(blocks(text, "bash")).replace("\\\n", " ").splitlines()
    bare = (re.sub(r"(^|\s+)#.*", "", line).strip() for line in lines)
    return [re.sub(r"\s+", " ", line) for line in bare if line]


def is_listed(command: str) -> bool:
    """Whether a command is one of those that are not run."""
    return all(part.strip().startswith(NOT_RUN) for part in command.split("&&"))


def words_of(command: str) -> list[str] | None:
    """The arguments for Python of a `python …` or `torchrun …` line; None for all others.

    What needs a shell, such as a pipe, is none of ours.
    """
    if re.search(r"[|&;<>$`]", command):
        return None
    program, *words = shlex.split(command)
    if program in ("python", "python3"):
        return words
    alone = [] if "--standalone" in words else ["--standalone"]     # on a port that is free
    return ["-m", "torch.distributed.run", *alone, *words] if program == "torchrun" else None


def limit(words: list[str], flag: str, most: int) -> list[str]:
    """The words with the number after a flag made smaller, written as `--n 8` or `--n=8`."""
    split = [part for word in words
             for part in (word.split("=", 1) if word.startswith(flag + "=") else [word])]
    return [str(min(int(word), most)) if i and split[i - 1] == flag else word
            for i, word in enumerate(split)]


def shortened(words: list[str], cuda: bool, script: str = "") -> list[str]:
    """A command as the tests run it: small, and on a device that is there.

    `script` is its text and that of its flags: what draws or evaluates has one to make it
    small.
    """
    for flag in ("--nproc-per-node", "--nproc_per_node"):
        words = limit(words, flag, MOST_PROCESSES)
    if any(re.fullmatch(r"train\w*\.py|ablation\.py", word) for word in words):
        for flag, most in MOST.items():
            words = limit(words, flag, most["--resume" in words])
        words = words if {"--quick", "--help"} & set(words) else [*words, "--quick"]
    if words[0] == "evaluate.py":
        small = ["--quick"] if '"--quick"' in script else ["--steps", "4"]
        words = [*limit(words, "--count", 100), *small]
    if words[0] == "inference.py":
        words = limit(limit(words, "--count", 10), "--steps", 4)
        words += ["--steps", "4"] if '"--steps"' in script and "--steps" not in words else []
    if not cuda:
        words = [re.sub("cuda$", "cpu", word) if "--device" in (before, word[:8]) else word
                 for before, word in zip(["", *words], words)]
    return words


# ---------------------------------------------------------------- folders


REAL_DATA = "../shared"
LONG = ("torchrun", "python evaluate.py", "python ablation.py", "python visualize.py")
STEPS = {folder: commands(text_of(ROOT / folder / "README.md")) for folder in FOLDERS}
TRAIN = "python train.py"
FIRST = {next(line for line in lines if line.startswith(TRAIN)) for lines in STEPS.values()}


def kind(command: str) -> str:
    """Commands of one kind run one after the other; all but the plain ones are marked slow.

    Of trainings the first one and its continuation are plain, those with other flags are not.
    """
    other = (command.startswith(f"{TRAIN} -") and command not in FIRST
             and "--resume" not in command)
    return ("real" if REAL_DATA in command else "long" if other or command.startswith(LONG)
            else "plain")


def steps() -> Iterator[object]:
    """Each command of each folder as a test of its own."""
    for folder, lines in STEPS.items():
        for number, command in enumerate(lines):
            marks = () if kind(command) == "plain" else pytest.mark.slow
            yield pytest.param(folder, number, marks=marks, id=f"{folder}-{command}")


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], SimpleNamespace]:
    """A copy of a folder beside the real data, and what its commands have done so far."""
    made = {}

    def make(folder: str) -> SimpleNamespace:
        if folder not in made:
            place = tmp_path_factory.mktemp("readme")
            home = place / "project" / folder
            unwanted = shutil.ignore_patterns("runs", "data", "__pycache__", ".*")
            shutil.copytree(ROOT / folder, home, ignore=unwanted)
            if SHARED.exists():
                (place / "shared").symlink_to(SHARED.parent)
            made[folder] = SimpleNamespace(home=home, results={})
        return made[folder]

    return make


def do(command: str, home: Path) -> SimpleNamespace:
    """Run one command of a README in a folder; says what pictures it lacks and how it ended."""
    words = words_of(command)
    if words is None or is_listed(command):
        return SimpleNamespace(lacking=[], returncode=0, stderr="", touched={})
    script = text_of(home / words[0]) + text_of(home / "asking.py")
    words = shortened(words, torch.cuda.is_available(), script)
    lacking = [word for word in words if word.lower().endswith(PICTURES)
               and not (home / word).exists()]
    before = snapshot(home)
    done = run(*words, cwd=home, timeout=500)
    touched = dict(before.items() ^ snapshot(home).items())
    return SimpleNamespace(lacking=lacking, returncode=done.returncode, stderr=done.stderr,
                           touched=touched)


def snapshot(home: Path) -> dict[Path, tuple[int, int]]:
    """Size and time of every file."""
    files = [path for path in home.rglob("*") if path.is_file()]
    return {path.relative_to(home): (path.stat().st_size, path.stat().st_mtime_ns)
            for path in files}


@pytest.mark.timeout(1500)      # all those above it may have to run first
@pytest.mark.parametrize(("folder", "number"), list(steps()))
def test_a_command_of_a_readme_works(project: Callable, folder: str, number: int) -> None:
    """Those above it have run before it, once, whichever tests were asked for."""
    here, command = project(folder), STEPS[folder][number]
    assert words_of(command) is not None or is_listed(command), f"unlisted command: {command}"
    if REAL_DATA in command and not SHARED.exists():
        pytest.skip("needs ../shared/data")
    for earlier, line in enumerate(STEPS[folder][: number + 1]):
        if earlier not in here.results and kind(line) == kind(command):
            here.results[earlier] = do(line, here.home)
    result = here.results[number]
    assert not result.lacking
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr, result.stderr
    if not command.startswith("torchrun"):                   # which has words of its own
        assert "Warning" not in result.stderr and "\r" not in result.stderr, result.stderr
    assert not [path for path in result.touched if path.parts[0] not in ("runs", "data")]
    if command == "python visualize.py" and (here.home / "pretrained.pt").exists():
        assert re.search(r"^using runs/\S*best\.pt$", result.stderr, re.MULTILINE)
    if command.startswith("python train.py") and not re.search("--(out-dir|resume)", command):
        assert (here.home / "runs" / "metrics.csv").exists()


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_readme_shows_how_to_train_and_to_ask(folder: str) -> None:
    """Without commands in a README all tests above would pass."""
    scripts = {(words_of(command) or ["?"])[0]
               for command in commands(text_of(ROOT / folder / "README.md"))}
    assert {"train.py", "inference.py"} <= scripts


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_quick_start_has_at_most_three_commands(folder: str) -> None:
    text = text_of(ROOT / folder / "README.md")
    quick = re.findall(r"^## Quick start$(.*?)^## ", text, flags=re.DOTALL | re.MULTILINE)
    assert 1 <= len(commands("".join(quick))) <= 3


@pytest.mark.parametrize("readme", ["README.md", *(f"{name}/README.md" for name in FOLDERS)])
def test_commands_stand_in_bash_blocks_only(readme: str) -> None:
    """A command in another block would not be run; one with a WORD to fill in cannot be."""
    text = text_of(ROOT / readme)
    fences = re.findall(r"^```(.*)$", text, flags=re.MULTILINE)[::2]
    assert text and not set(fences) & {"sh", "shell", "console", "zsh", "powershell", "bat"}
    elsewhere = re.sub(r"^```bash\n.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    found = re.findall(r"^\s*\$? ?(?:python3?|pip|torchrun) .*", elsewhere, re.MULTILINE)
    assert not [line.strip() for line in found if not re.search(r"\b[A-Z]{2,}\b", line)]


@pytest.mark.parametrize(("folder", "flags"), [
    (folder, flags) for folder in FOLDERS for flags in TABLES.get(folder, [""])])
def test_the_table_of_layers_is_the_one_that_the_model_prints(
    folder: str, flags: str, capsys: pytest.CaptureFixture
) -> None:
    assert load(folder).model.main(flags.split()) == 0
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    text = text_of(ROOT / folder / "README.md")
    written = [line.rstrip() for line in text.splitlines()]
    assert len(printed) > 2
    starts = range(len(written) - len(printed) + 1)
    assert printed in [written[i : i + len(printed)] for i in starts]


# ---------------------------------------------------------------- the top README


def test_the_top_readme_begins_with_two_commands_that_install_themselves() -> None:
    """CI takes these two lines out of the README and runs them on a fresh machine."""
    text = text_of(ROOT / "README.md")
    installing = re.findall(r"^python3 -m venv .*$", text, flags=re.MULTILINE)
    assert len(installing) == 2 and installing == commands(text)[:2]
    assert all(" pip install " in re.sub("[/&]", " ", line) for line in installing)
    assert [bool(re.search(r"\bpytest\b", line)) for line in installing] == [False, True]


def test_the_other_commands_of_the_top_readme_work(project: Callable) -> None:
    """They are not run, or are `cd folder && python …`, which runs in a copy of the folder."""
    for command in commands(text_of(ROOT / "README.md"))[2:]:
        inside = re.fullmatch(r"cd (\w+) && (.*)", command)
        if inside and words_of(inside[2]) is not None:
            result = do(inside[2], project(inside[1]).home)
            assert not result.lacking and result.returncode == 0, result.stderr
        else:
            assert is_listed(command), f"unlisted command: {command}"


# ---------------------------------------------------------------- the reader of READMEs


README = """\
```bash
python train.py                # fifteen minutes
python train.py \\
    --epochs 30 --seed 3

pip install x
```
```text
python not_this.py
```
"""


def test_commands_are_found_and_joined() -> None:
    assert commands(README) == ["python train.py", "python train.py --epochs 30 --seed 3",
                                "pip install x"]


@pytest.mark.parametrize(("command", "expected"), [
    ("python train.py", "train.py --quick"),
    ("python train.py --quick --seed 1", "train.py --quick --seed 1"),
    ("python train_vae.py --epochs 30", "train_vae.py --epochs 1 --quick"),
    ("python train.py --resume --epochs 30", "train.py --resume --epochs 3 --quick"),
    ("python train.py --steps=5000", "train.py --steps 20 --quick"),
    ("python train.py --steps 5", "train.py --steps 5 --quick"),
    ("python train.py --device cuda", "train.py --device cpu --quick"),
    ("python train.py --device=cuda", "train.py --device=cpu --quick"),
    ("python inference.py --text 'a cuda'", "inference.py --text 'a cuda'"),
    ("torchrun --nproc-per-node 8 train.py",
     "-m torch.distributed.run --standalone --nproc-per-node 2 train.py --quick"),
])
def test_commands_are_shortened(command: str, expected: str) -> None:
    assert shlex.join(shortened(words_of(command), cuda=False)) == expected


@pytest.mark.parametrize(("words", "expected"), [
    ("inference.py --count 40 --gif", "inference.py --count 10 --gif --steps 4"),
    ("inference.py --steps 100", "inference.py --steps 4"),
    ("evaluate.py --count 450", "evaluate.py --count 100 --steps 4"),
])
def test_drawing_is_shortened_where_a_script_has_steps(words: str, expected: str) -> None:
    script = 'parser.add_argument("--steps")'
    assert shlex.join(shortened(words.split(), cuda=False, script=script)) == expected


def test_cuda_is_kept_where_there_is_one() -> None:
    words = ["train.py", "--device", "cuda", "--quick"]
    assert shortened(words, cuda=True) == words


@pytest.mark.parametrize("command", ["rm -rf runs", "python train.py | head", "make", "wget x",
                                     "python train.py && python inference.py", "bash x.sh",
                                     "cd x && rm y"])
def test_other_commands_are_not_taken_for_ours(command: str) -> None:
    assert words_of(command) is None and not is_listed(command)
