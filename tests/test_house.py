"""Nine folders, one house: every folder has the same rooms, flags, style and safety.

Whoever has learned one folder has learned where things are in all of them, and this file is
what keeps that promise. It reads the code (`ast`) more than it runs it. A folder is covered
from the moment it exists; what a folder may do without stands in a table, with the reason.
"""

import ast
import builtins
import functools
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shapes import equations
from support import FOLDERS, ROOT, load, run

MOULD = "lenet_from_scratch"               # the folder whose words the others repeat
NUMPY_ONLY = {"backprop_from_scratch"}     # has no torch, hence no device and no .pt files
NOT_FLAGS_FOR_NUMPY = {"--device", "--workers"}

ROOMS = ("README.md", "model.py", "data.py", "train.py", "inference.py", "checkpoint.py",
         "console.py", "assets")
COPIES = ("checkpoint.py", "console.py", "devices.py", "download.py")
DIGIT_COPIES = ("data.py", "prepare.py")   # the same digits, read and prepared in the same way
MEGABYTES = {"alexnet_from_scratch": 8, "stable_diffusion_from_scratch": 12}  # of pretrained.pt
LINES = {"model.py": 300, "train.py": 250, "inference.py": 150}
FLAGS = ("--data", "--data-dir", "--out-dir", "--epochs", "--batch-size", "--lr", "--seed",
         "--device", "--workers", "--resume", "--log-every", "--quick")
INFERENCE_FLAGS = ("--checkpoint", "--device", "--seed", "--out")
PACKAGES = {"torch": "torch", "torchvision": "torchvision", "numpy": "numpy",
            "matplotlib": "matplotlib", "sklearn": "scikit-learn", "PIL": "pillow",
            "tqdm": "tqdm", "safetensors": "safetensors"}  # by the name that is imported
HEADINGS = ["Quick start", "The idea", "Architecture", "The mathematics", "Files", "Train",
            "Results", "Your own data", "Differences from the paper", "Exercises", "References"]

each_folder = pytest.mark.parametrize("folder", FOLDERS)


def python_files(folder: str) -> list[Path]:
    """The code of a folder, wherever in it."""
    home, others = ROOT / folder, {"runs", "data", ".venv"}
    return [path for path in sorted(home.rglob("*.py"))
            if not others & set(path.relative_to(home).parts)]


@functools.cache
def parse(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def at(path: Path, line: ast.AST | int) -> str:
    """Where a complaint is about: `lenet_from_scratch/model.py:12`."""
    number = line if isinstance(line, int) else line.lineno
    return f"{path.relative_to(ROOT)}:{number}"


def complaints(folder: str, check: Callable[[Path], Iterator[str]]) -> list[str]:
    """What a check has against the files of a folder."""
    return [complaint for path in python_files(folder) for complaint in check(path)]


def test_there_are_folders() -> None:
    """All that follows would pass in an empty house."""
    assert MOULD in FOLDERS


# ---------------------------------------------------------------- rooms


@each_folder
def test_every_folder_has_the_same_rooms(folder: str) -> None:
    assert not [room for room in ROOMS if not (ROOT / folder / room).exists()]
    assert (ROOT / folder / "devices.py").exists() == (folder not in NUMPY_ONLY)


@each_folder
def test_a_folder_has_no_code_below_its_top(folder: str) -> None:
    assert not [path for path in python_files(folder) if path.parent != ROOT / folder]


@each_folder
def test_pretrained_weights_stay_small(folder: str) -> None:
    path = ROOT / folder / f"pretrained.{'npz' if folder in NUMPY_ONLY else 'pt'}"
    assert path.stat().st_size <= MEGABYTES.get(folder, 4) * 1_000_000


@pytest.mark.parametrize("name", DIGIT_COPIES)
def test_both_lenets_read_and_prepare_digits_in_the_same_way(name: str) -> None:
    texts = [(ROOT / folder / name).read_bytes() for folder in (MOULD, "lenet5_from_scratch")]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("name", COPIES)
def test_copies_are_equal_to_the_byte(name: str) -> None:
    texts = {}
    spared = NUMPY_ONLY if name == "checkpoint.py" else set()
    for path in sorted(ROOT.glob(f"*_from_scratch/{name}")):
        if path.parent.name in spared:
            continue
        texts.setdefault(path.read_bytes(), []).append(path.parent.name)
    assert len(texts) <= 1, list(texts.values())


# ---------------------------------------------------------------- the command line


def ask(folder: str, script: str, argv: list[str], capsys: pytest.CaptureFixture) -> tuple:
    """Exit code, stdout and stderr of a script that should leave before it works."""
    with pytest.raises(SystemExit) as end:
        getattr(load(folder), script).main(argv)
    return end.value.code, *capsys.readouterr()


@pytest.fixture
def help_of(capsys: pytest.CaptureFixture,
            monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], dict[str, str]]:
    """The flags of a folder's script in their order, each with its help."""
    monkeypatch.setenv("COLUMNS", "500")

    def read(folder: str, script: str) -> dict[str, str]:
        code, text, _ = ask(folder, script, ["--help"], capsys)
        assert code == 0
        entry = re.compile(r"^  (--[\w-]+)(?: \S+)*?(?:(?:\n {4}|  ) *(\S.*))?$", re.MULTILINE)
        return {match[1]: match[2] or "" for match in entry.finditer(text)}

    return read


@each_folder
def test_training_flags_are_the_same_in_the_same_order(folder: str, help_of: Callable) -> None:
    spared = NOT_FLAGS_FOR_NUMPY if folder in NUMPY_ONLY else set()
    wanted = [flag for flag in FLAGS if flag not in spared]
    found = [flag.replace("--steps", "--epochs") for flag in help_of(folder, "train")]
    assert [flag for flag in found if flag not in spared][: len(wanted)] == wanted


@each_folder
def test_inference_begins_with_the_same_flags(folder: str, help_of: Callable) -> None:
    spared = NOT_FLAGS_FOR_NUMPY if folder in NUMPY_ONLY else set()
    wanted = [flag for flag in INFERENCE_FLAGS if flag not in spared]
    found = [flag for flag in help_of(folder, "inference") if flag not in spared]
    assert found[: len(wanted)] == wanted


def shared_words(entries: dict[str, str], flags: tuple[str, ...]) -> dict[str, str]:
    """The help of the shared flags without what a folder may fill in: defaults and units."""
    plain = {flag.replace("steps", "epochs"): re.sub(r" *\(default:[^)]*\)", "", text)
             for flag, text in entries.items()}
    return {flag: plain[flag].replace("steps", "epochs")
            for flag in flags if flag in plain and flag != "--data"}


@each_folder
@pytest.mark.parametrize("script", ["train", "inference"])
def test_shared_flags_are_explained_in_the_same_words(
    folder: str, script: str, help_of: Callable
) -> None:
    flags = FLAGS if script == "train" else INFERENCE_FLAGS
    ours, theirs = help_of(folder, script), help_of(MOULD, script)
    assert all(ours.values()), [flag for flag, text in ours.items() if not text]
    ours, theirs = shared_words(ours, flags), shared_words(theirs, flags)
    assert ours == {flag: text for flag, text in theirs.items() if flag in ours}


BAD_TRAINING = ("--see 1", "{length} 0", "{length} -1", "{length} 1.5", "--lr -1", "--lr 0",
                "--lr nan", "--lr inf", "--batch-size 0", "--device abacus", "--seed -1",
                "--seed 99999999999999999999", "--workers -1", "--log-every 0", "--quick=1",
                "--qui", "stray")


@each_folder
@pytest.mark.parametrize("bad", BAD_TRAINING)
def test_bad_training_flags_end_with_2_and_touch_nothing(
    folder: str, bad: str, help_of: Callable, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    flags = help_of(folder, "train")
    bad = bad.format(length="--epochs" if "--epochs" in flags else "--steps")
    if folder in NUMPY_ONLY and bad.split()[0] in NOT_FLAGS_FOR_NUMPY - set(flags):
        return                            # it has no such flag
    argv = ["--quick", "--out-dir", str(tmp_path / "out"), *bad.split()]
    code, out, error = ask(folder, "train", argv, capsys)
    assert code == 2 and not out
    assert re.split("[ =]", bad)[0] in error.splitlines()[-1]
    assert not list(tmp_path.iterdir())


BAD_INFERENCE = ("--see 1", "--check x", "--device abacus", "--seed -1", "stray")


@each_folder
@pytest.mark.parametrize("bad", BAD_INFERENCE)
def test_bad_inference_flags_end_with_2_and_touch_nothing(
    folder: str, bad: str, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    argv = ["--out", str(tmp_path / "out"), *bad.split()]
    code, out, error = ask(folder, "inference", argv, capsys)
    assert code == 2 and not out
    assert bad.split()[0] in error.splitlines()[-1]
    assert not list(tmp_path.iterdir())


@each_folder
def test_paths_are_shown_as_one_would_type_them(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from_here = load(folder).console.from_here
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert from_here(tmp_path / "here" / "runs" / "best.pt") == Path("runs", "best.pt")
    for path in (tmp_path / "best.pt", tmp_path / "hereafter", Path("..", "best.pt")):
        assert from_here(path) == path


# ---------------------------------------------------------------- imports


def imported(node: ast.AST) -> list[str]:
    """The modules that a statement imports, with a dot in front of relative ones."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return ["." * node.level + (node.module or "")]
    return []


def foreign_imports(path: Path) -> Iterator[str]:
    """Imports of what is neither Python's, nor in requirements.txt, nor in the folder."""
    packages = set(PACKAGES)
    if path.parent.name in NUMPY_ONLY:
        packages -= {"torch", "torchvision", "safetensors"}
    known = sys.stdlib_module_names | packages | {p.stem for p in path.parent.glob("*.py")}
    for node in ast.walk(parse(path)):
        for module in imported(node):
            if module.split(".")[0] not in known:
                yield f"{at(path, node)} imports {module}"


@each_folder
def test_a_folder_imports_only_the_listed_packages_and_itself(folder: str) -> None:
    assert not complaints(folder, foreign_imports)


@each_folder
def test_no_module_hides_one_of_python_or_of_a_package(folder: str) -> None:
    names = {path.stem for path in python_files(folder)}
    assert not names & (sys.stdlib_module_names | set(PACKAGES))


def late_imports(path: Path) -> Iterator[str]:
    """Imports of the folder's own modules inside functions, which hide what needs what."""
    own = {p.stem for p in path.parent.glob("*.py")}
    for function in ast.walk(parse(path)):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if own & set(imported(node)):
                    yield f"{at(path, node)} in {function.name}"


@each_folder
def test_own_modules_are_imported_at_the_top(folder: str) -> None:
    assert not complaints(folder, late_imports)


# ---------------------------------------------------------------- nothing happens at import

CALM_CALLS = {"set", "frozenset", "dict", "tuple", "list", "range", "zip", "enumerate", "len",
              "min", "max", "sum", "sorted", "str", "int", "float", "round", "super",
              "pathlib.Path", "re.compile", "collections.namedtuple", "typing.TypeVar",
              "enum.auto", "dataclasses.field", "math.sqrt", "math.log", "math.exp"}
CALM_METHODS = {"split", "splitlines", "strip", "join", "replace", "format", "encode", "items",
                "keys", "values", "resolve", "with_name"}


def aliases(path: Path) -> dict[str, str]:
    """What the imported names of a file stand for: {"F": "torch.nn.functional"}."""
    found = {}
    for node in ast.walk(parse(path)):
        for name in getattr(node, "names", ()) if imported(node) else ():
            prefix = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            full = prefix + name.name if name.asname or prefix else name.name.split(".")[0]
            found[name.asname or name.name.split(".")[0]] = full
    return found


def dotted(node: ast.expr, names: dict[str, str]) -> str:
    """The full name of `F.relu`: "torch.nn.functional.relu"; what is no name becomes "?"."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value, names)}.{node.attr}"
    return names.get(node.id, node.id) if isinstance(node, ast.Name) else "?"


def import_time(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """The expressions that run when a module is imported, and the statements that should not.

    Decorators are left out: they wrap, and what they do is seen by the next test.
    """
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from import_time(node.body)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from node.args.defaults
            yield from (default for default in node.args.kw_defaults if default)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            yield node.value or ast.Constant(None)
        elif isinstance(node, ast.If) and ast.unparse(node.test) in (
                "__name__ == '__main__'", "TYPE_CHECKING"):
            pass
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            pass
        elif not isinstance(node, ast.Import | ast.ImportFrom | ast.Pass):
            yield node


def calls_now(node: ast.AST) -> Iterator[ast.Call]:
    """The calls that an expression makes; the body of a lambda waits until it is called."""
    if isinstance(node, ast.Call):
        yield node
    if not isinstance(node, ast.Lambda):
        for child in ast.iter_child_nodes(node):
            yield from calls_now(child)


def work_at_import(path: Path) -> Iterator[str]:
    """Statements and calls outside functions that do more than build a literal."""
    names = aliases(path)
    records = {node.name for node in parse(path).body if isinstance(node, ast.ClassDef)
               and "NamedTuple" in map(ast.unparse, node.bases)}
    for node in import_time(parse(path).body):
        if isinstance(node, ast.stmt):
            yield f"{at(path, node)}: {ast.unparse(node).splitlines()[0]}"
            continue
        for call in calls_now(node):
            name = dotted(call.func, names)
            method = isinstance(call.func, ast.Attribute) and call.func.attr in CALM_METHODS
            of_module = name.split(".")[0] in {n.split(".")[0] for n in names.values()}
            if name not in CALM_CALLS | records and not (method and not of_module):
                yield f"{at(path, call)}: {ast.unparse(call)}"


@each_folder
def test_modules_only_define_at_import(folder: str) -> None:
    assert not complaints(folder, work_at_import)


WATCH = """
import importlib, os, random, signal, sys, threading
import matplotlib, numpy, torch
import sklearn.datasets, sklearn.model_selection, torchvision.transforms.v2   # theirs, not ours

def state():
    return {
        "random numbers of Python": random.getstate(),
        "random numbers of NumPy": str(numpy.random.get_state()),
        "random numbers of PyTorch": torch.get_rng_state().tolist(),
        "default dtype": torch.get_default_dtype(),
        "gradient mode": torch.is_grad_enabled(),
        "matplotlib's backend": matplotlib.get_backend(auto_select=False),
        "threads": [thread.name for thread in threading.enumerate()],
        "signal handlers": [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)],
        "environment": dict(os.environ),
        "working directory": os.getcwd(),
    }

sys.path.insert(0, sys.argv[1])
before = state()
for name in sys.argv[2:]:
    importlib.import_module(name)
after = state()
print(*(key for key in before if before[key] != after[key]), sep=", ", end="")
"""


@each_folder
def test_importing_a_folder_changes_nothing(folder: str, tmp_path: Path) -> None:
    """No output, no files, no random number drawn, no thread, no switched backend."""
    home = ROOT / folder
    before, here, watch = set(home.rglob("*")), tmp_path / "here", tmp_path / "watch.py"
    here.mkdir()
    watch.write_text(WATCH, encoding="utf-8")
    modules = [path.stem for path in python_files(folder)]
    result = run(watch, home, *modules, cwd=here)
    assert (result.stdout, result.stderr, result.returncode) == ("", "", 0)
    assert not list(here.iterdir())
    made_by_others = {"runs", "__pycache__", ".ruff_cache"}    # at the same time
    assert not {p for p in set(home.rglob("*")) - before if not made_by_others & set(p.parts)}


@each_folder
def test_a_table_without_rows_is_not_drawn(folder: str) -> None:
    """As a run leaves it that was stopped in its first epoch."""
    text = (ROOT / folder / "visualize.py").read_text(encoding="utf-8")
    assert ("draw_curves(metrics" in text) == ('.read_text(encoding="utf-8").count("\\n") > 1'
                                               in text)


# ---------------------------------------------------------------- safety

UNSAFE_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve",
                  "marshal", "telnetlib"}
UNSAFE_NAMES = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.load",
                "yaml.unsafe_load", "torch.hub.load", "torch.jit.load", "sys.path",
                "importlib.import_module", "torch.serialization.add_safe_globals"}
SAFE_VALUES = {"weights_only": True, "allow_pickle": False, "shell": False}  # of keywords


def unsafe(path: Path) -> Iterator[str]:
    """Whatever could run code that came in a file or an argument."""
    tree, names = parse(path), aliases(path)
    loads = {id(call.func) for call in ast.walk(tree) if isinstance(call, ast.Call)
             and any(keyword.arg == "weights_only" for keyword in call.keywords)}
    for node in ast.walk(tree):
        if bad := UNSAFE_MODULES & {module.split(".")[0] for module in imported(node)}:
            yield f"{at(path, node)} imports {', '.join(bad)}"
        if isinstance(node, ast.keyword) and node.arg in SAFE_VALUES:
            if getattr(node.value, "value", None) is not SAFE_VALUES[node.arg]:
                yield f"{at(path, node.value)}: {node.arg}={ast.unparse(node.value)}"
        if isinstance(node, ast.Name | ast.Attribute):
            name = dotted(node, names)
            if name in UNSAFE_NAMES or name == "torch.load" and id(node) not in loads:
                yield f"{at(path, node)}: {name}"


@each_folder
def test_nothing_loads_or_runs_foreign_code(folder: str) -> None:
    assert not complaints(folder, unsafe)


# ---------------------------------------------------------------- functions and sentences


def functions(path: Path) -> Iterator[tuple[ast.ClassDef | None, ast.FunctionDef]]:
    """The functions of a module and the methods of its classes, each with its class."""
    for node in parse(path).body:
        for inner in node.body if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                yield (node if inner is not node else None), inner


def public(path: Path) -> Iterator[tuple[ast.ClassDef | None, ast.AST]]:
    """The functions, methods and classes that are meant for the reader."""
    for node in parse(path).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield None, node
    for owner, function in functions(path):
        if not function.name.startswith("_") and not (owner and owner.name.startswith("_")):
            yield owner, function


def untyped(path: Path) -> Iterator[str]:
    """Arguments and results without a type, of what is public and of its `__init__`."""
    for owner, function in functions(path):
        hidden = function.name.startswith("_") and function.name != "__init__"
        if hidden or owner and owner.name.startswith("_"):
            continue
        every = function.args
        given = every.posonlyargs + every.args + every.kwonlyargs
        given = [*given, *(star for star in (every.vararg, every.kwarg) if star)]
        static = any(ast.unparse(d) == "staticmethod" for d in function.decorator_list)
        for argument in given[int(owner is not None and not static):]:
            if argument.annotation is None:
                yield f"{at(path, argument)}: {argument.arg} of {function.name}"
        if function.returns is None:
            yield f"{at(path, function)}: the result of {function.name}"


@each_folder
def test_public_functions_are_typed(folder: str) -> None:
    assert not complaints(folder, untyped)


def undocumented(path: Path) -> Iterator[str]:
    """Public things without a docstring.

    `forward` is what its class is for: the docstring of the class is its docstring, if the
    line of its `def` says the shape that goes in.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    for owner, node in public(path):
        if node.name == "forward" and owner and ast.get_docstring(owner):
            header = lines[node.lineno - 1 : max(node.lineno, node.body[0].lineno - 1)]
            if any(re.search(r"# .*\(.*,.*\)", line) for line in header):
                continue
        if not ast.get_docstring(node):
            yield f"{at(path, node)}: {node.name}"


@each_folder
def test_public_things_are_documented(folder: str) -> None:
    assert not complaints(folder, undocumented)


def documented(path: Path) -> Iterator[tuple[ast.AST, str]]:
    """All docstrings of a file, as they are meant, with their nodes."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if text := ast.get_docstring(node):
                yield node, text


def not_a_sentence(path: Path) -> Iterator[str]:
    """Docstrings whose first line could not be quoted."""
    for node, text in documented(path):
        first = text.splitlines()[0]
        if not first.endswith((".", ":")) or len(first) > 96:
            yield f"{at(path, node.body[0])}: {first}"


@each_folder
def test_docstrings_begin_with_a_sentence(folder: str) -> None:
    assert not complaints(folder, not_a_sentence)


@each_folder
def test_every_module_says_what_it_is(folder: str) -> None:
    files = python_files(folder)
    assert not [path.name for path in files if not ast.get_docstring(parse(path))]


def other_mains(path: Path) -> Iterator[str]:
    """A `main` that cannot be called as all others are, or that is missing."""
    mains = [function for owner, function in functions(path)
             if owner is None and function.name == "main"]
    if not mains and path.name in ("train.py", "inference.py"):
        yield f"{path.name} has no main"
    for main in mains:
        given = f"{ast.unparse(main.args)} -> {ast.unparse(main.returns or main.args)}"
        if given != "argv: list[str] | None=None -> int":
            yield f"{at(path, main)}: main({given})"


@each_folder
def test_every_main_can_be_called_in_the_same_way(folder: str) -> None:
    assert not complaints(folder, other_mains)


# ---------------------------------------------------------------- comments


def comments(path: Path) -> Iterator[tuple[int, str, bool]]:
    """Line and text of each comment, and whether it has the line for itself."""
    with tokenize.open(path) as file:
        for token in tokenize.generate_tokens(file.readline):
            if token.type == tokenize.COMMENT:
                alone = token.line.strip() == token.string
                yield token.start[0], token.string, alone


UNFINISHED = re.compile(r"\b(?:TO[D]O|FIX[M]E|XX[X]|HAC[K])\b")


def unfinished(path: Path) -> Iterator[str]:
    """Lines that say of themselves that something is missing."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if UNFINISHED.search(line):
            yield f"{at(path, number)}: {line.strip()}"


@each_folder
def test_nothing_says_that_it_is_unfinished(folder: str) -> None:
    assert not complaints(folder, unfinished)


def looks_like_code(comment: str, known: set[str]) -> bool:
    """Whether a comment is a statement in the words of the file, and not a formula or prose.

    A formula has single letters or an equation number; prose has words that the code does not.
    """
    text = comment.lstrip("# ")
    if equations(comment):
        return False
    try:
        body = ast.parse(text + (" pass" if text.endswith(":") else "")).body
    except (SyntaxError, ValueError):
        return False
    if len(body) != 1 or isinstance(body[0], ast.AnnAssign) and body[0].value is None:
        return False
    if isinstance(body[0], ast.Expr) and not isinstance(body[0].value, ast.Call | ast.Await):
        return False
    nodes = list(ast.walk(body[0]))
    words = {node.id for node in nodes if isinstance(node, ast.Name)}
    formula = words and all(len(word) <= 2 for word in words) and not any(
        isinstance(node, ast.Attribute) for node in nodes)
    return words <= known and not formula


def disabled_code(path: Path) -> Iterator[str]:
    """Statements that were commented out instead of deleted."""
    names = {node.id for node in ast.walk(parse(path)) if isinstance(node, ast.Name)}
    known = names | set(dir(builtins)) | set(aliases(path))
    for line, text, alone in comments(path):
        if alone and looks_like_code(text, known):
            yield f"{at(path, line)}: {text}"


@each_folder
def test_no_code_is_commented_out(folder: str) -> None:
    assert not complaints(folder, disabled_code)


@pytest.mark.parametrize(("comment", "code"), [
    ("# loss = model(images)", True), ("# print(loss)", True), ("# loss.backward()", True),
    ("# import os", True), ("# return loss", True), ("# for images in model:", True),
    ("# x = √ᾱ·x₀ + ε", False), ("# y = f(x)   (3)", False), ("# (B, K)", False),
    ("# (4)", False), ("# Why: nobody knows", False), ("# each (B, T)", False),
    ("# ---- loss ----", False), ("# the loss (a mean)", False), ("# loss", False),
    ("# a = b * c", False), ("# a = b.sum()", True),
])
def test_commented_out_code_is_told_from_prose(comment: str, code: bool) -> None:
    assert looks_like_code(comment, {"loss", "model", "images", "print", "a", "b", "c"}) == code


# ---------------------------------------------------------------- sizes and characters


def too_long(path: Path) -> Iterator[str]:
    """Files, functions and lines that no screen or evening can hold."""
    lines = path.read_text(encoding="utf-8").splitlines()
    limit = LINES.get(path.name, 300)
    if len(lines) > limit:
        yield f"{at(path, len(lines))}: {len(lines)} lines, at most {limit}"
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if (length := node.end_lineno - node.lineno + 1) > 40:
                yield f"{at(path, node)}: {node.name} has {length} lines, at most 40"
    for number, line in enumerate(lines, 1):
        if len(line) > 96:
            yield f"{at(path, number)}: {len(line)} columns, at most 96"


@each_folder
def test_files_functions_and_lines_stay_short(folder: str) -> None:
    assert not complaints(folder, too_long)


def strange_characters(path: Path) -> Iterator[str]:
    """What is not UTF-8 text with plain line ends, and backslash commands in docstrings."""
    source = path.read_bytes().decode("utf-8")      # raises where it is something else
    for number, line in enumerate(source.split("\n"), 1):
        if not line.replace("\ufeff", "\0").isprintable():
            yield f"{at(path, number)}: {line!r}"
    for node, text in documented(path):
        raw = ast.get_source_segment(source, node.body[0])
        if re.search(r"\\[A-Za-z]", raw) or not text.replace("\n", "").isprintable():
            yield f"{at(path, node.body[0])}: a backslash command in a docstring"


@each_folder
def test_files_are_plain_text(folder: str) -> None:
    assert not complaints(folder, strange_characters)


# ---------------------------------------------------------------- equations


def read(path: Path) -> str:
    """The text of a README; a missing one fails the test in a sentence."""
    assert path.exists(), f"{path.relative_to(ROOT)} is missing"
    return path.read_text(encoding="utf-8")


def without_code(text: str) -> str:
    """A README without its code blocks, which stay as empty lines."""
    return re.sub(r"^```.*?^```$", lambda block: "\n" * block[0].count("\n"), text,
                  flags=re.DOTALL | re.MULTILINE)


def section(text: str, heading: str) -> str:
    """What stands below a heading of a README."""
    parts = re.split(r"^## (.*)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2])).get(heading, "")


def numbered(folder: str) -> list[int]:
    """The numbers of the equations in a README: they stand at the ends of lines."""
    mathematics = section(read(ROOT / folder / "README.md"), "The mathematics")
    ends = re.findall(r"\((\d{1,2})\)[\s$`|*]*$", mathematics, flags=re.MULTILINE)
    return sorted({int(number) for number in ends})


def cited(folder: str) -> dict[int, str]:
    """The equations that the code cites, each with one place."""
    found = {}
    for path in python_files(folder):
        texts = [(line, text) for line, text, _ in comments(path)]
        texts += [(node.body[0].lineno, text) for node, text in documented(path)]
        for line, text in texts:
            named = re.findall(r"equations? \((\d+)\)", text)
            tags = equations(text) if text.startswith("#") else []
            found |= {int(number): at(path, line) for number in [*named, *tags]}
    return found


@each_folder
def test_cited_equations_stand_in_the_readme(folder: str) -> None:
    known = numbered(folder)
    assert not {n: place for n, place in cited(folder).items() if n not in known}


@each_folder
def test_every_equation_is_cited_by_the_code(folder: str) -> None:
    assert not set(numbered(folder)) - set(cited(folder))


@each_folder
def test_equations_are_numbered_without_gaps(folder: str) -> None:
    numbers = numbered(folder)
    assert numbers and numbers == list(range(1, len(numbers) + 1))


# ---------------------------------------------------------------- READMEs

READMES = ["README.md", *(f"{folder}/README.md" for folder in FOLDERS)]
each_readme = pytest.mark.parametrize("readme", READMES)
LINK = re.compile(r"(!?)\[([^\[\]]*)\]\(([^)\s]+)[^)]*\)")
IMAGE_TAG = re.compile(r"<img\b[^>]*>")


def images(text: str) -> list[tuple[str, str]]:
    """Alternative text and path of each picture."""
    found = [(alt, path) for mark, alt, path in LINK.findall(text) if mark]
    for tag in IMAGE_TAG.findall(text):
        attributes = dict(re.findall(r'(\w+)="([^"]*)"', tag))
        found.append((attributes.get("alt", ""), attributes.get("src", "")))
    return found


RUNS = ("Ctrl-C saves and ends; `--resume` goes on as if nothing had happened, to the bit on "
        "the same CPU. A new run replaces the one in the same `--out-dir` (by default "
        "`runs/`), where `results.json` says what it found.")


@each_folder
def test_every_readme_says_in_the_same_words_how_runs_end(folder: str) -> None:
    assert RUNS in section(read(ROOT / folder / "README.md"), "Train")


@each_folder
def test_a_readme_has_the_same_headings_in_the_same_order(folder: str) -> None:
    text = without_code(read(ROOT / folder / "README.md"))
    assert re.findall(r"^## (.*)$", text, flags=re.MULTILINE) == HEADINGS


@each_folder
def test_a_readme_begins_with_a_title_a_sentence_and_a_picture(folder: str) -> None:
    top = without_code(read(ROOT / folder / "README.md")).split("\n## ")[0]
    title, *rest = (block.strip() for block in top.strip().split("\n\n") if block.strip())
    assert title.startswith("# ")
    pictures = [block for block in rest if images(block)]
    sentences = [block for block in rest if not images(block)]
    assert len(pictures) == 1 == len(images(pictures[0]))
    assert len(sentences) == 1 and sentences[0].endswith(".")


@each_folder
def test_a_readme_has_no_empty_section(folder: str) -> None:
    text = read(ROOT / folder / "README.md")
    assert not [heading for heading in HEADINGS if not section(text, heading).strip()]


@each_folder
def test_a_readme_can_be_read_in_one_sitting(folder: str) -> None:
    assert len(read(ROOT / folder / "README.md").splitlines()) <= 250


@each_readme
def test_a_readme_has_no_blanks_to_fill_in(readme: str) -> None:
    text = read(ROOT / readme)
    assert not re.findall(r"@@\w*|\?\?\?", text) + UNFINISHED.findall(text)


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@each_readme
def test_links_and_pictures_of_a_readme_exist(readme: str) -> None:
    text = without_code(read(ROOT / readme))
    anchors = {slug(heading) for heading in re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)}
    targets = [path for _, _, path in LINK.findall(text)] + [path for _, path in images(text)]
    inside = [path for path in targets if not re.match(r"https?://|mailto:", path)]
    here = (ROOT / readme).parent
    broken = [path for path in inside if not path.startswith("#")
              and not (here / path.split("#")[0]).exists()]
    assert not broken + [path for path in inside if path[0] == "#" and path[1:] not in anchors]


@each_readme
def test_pictures_can_be_read_aloud(readme: str) -> None:
    assert not [path for alt, path in images(read(ROOT / readme)) if len(alt.split()) < 2]


@each_readme
def test_files_that_a_readme_names_exist(readme: str) -> None:
    """Beside the README or at the top; the top README may mean a file of every folder."""
    text = re.sub(r"https?://\S+", "", read(ROOT / readme))
    places = [(ROOT / readme).parent, ROOT]
    places += [ROOT / folder for folder in FOLDERS if readme == "README.md"]
    names = set(re.findall(r"(?<![\w*<{/.-])[\w./-]*\w\.py\b", text))
    assert not [n for n in sorted(names) if not any((place / n).exists() for place in places)]


def test_the_concepts_of_the_top_readme_are_where_it_says() -> None:
    """Each file it names cites the equations that stand beside it."""
    found = re.findall(r"\]\((\w+)/(\w+\.py)\) \(([\d, ]+)\)",
                       section(read(ROOT / "README.md"), "Where a concept is found"))
    assert {folder for folder, _, _ in found} == set(FOLDERS)
    for folder, name, numbers in found:
        source = (ROOT / folder / name).read_text(encoding="utf-8")
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
        cited = {number for token in tokens if token.type == tokenize.COMMENT
                 for number in equations(token.string)}
        assert set(map(int, numbers.split(","))) <= cited, f"{folder}/{name}"


def test_the_top_readme_can_be_read_in_ten_minutes() -> None:
    assert len(read(ROOT / "README.md").splitlines()) <= 200


@each_folder
def test_pictures_are_small_and_used(folder: str) -> None:
    """Shown in a README, or read by one of its commands."""
    used = "".join(read(ROOT / readme) for readme in READMES if (ROOT / readme).exists())
    assets = [path for path in (ROOT / folder / "assets").rglob("*") if path.is_file()]
    assert not [path.name for path in assets if f"assets/{path.name}" not in used]
    assert not [path.name for path in assets if path.stat().st_size > 200_000]


# ---------------------------------------------------------------- the whole tree


@functools.cache
def tree() -> list[Path]:
    """The files that are in the repository or would be with `git add .`.

    Where the tree is no repository, such as a downloaded archive: all of them.
    """
    listed = subprocess.run(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT,
                            capture_output=True, encoding="utf-8", check=False)
    names = listed.stdout.split("\0")[:-1]
    paths = {ROOT / name for name in names} if names else set(ROOT.rglob("*"))
    return sorted(path for path in paths if path.is_file() and ".venv" not in path.parts)


def holding(pattern: bytes) -> list[str]:
    """The places in the tree that match; .ci may do what others may not."""
    found = re.compile(pattern)
    return [f"{path.relative_to(ROOT)}: {found.search(path.read_bytes())[0]}"
            for path in tree() if ".ci" not in path.relative_to(ROOT).parts
            and found.search(path.read_bytes())]


def test_no_file_is_large() -> None:
    assert not [path for path in tree() if path.stat().st_size > 12_000_000]


def test_no_file_knows_the_machine_it_was_made_on() -> None:
    assert not holding(rb"(?<![\w.~])/(?:work|tmp|root|home)/")


def test_no_file_names_a_package_registry() -> None:
    hosts = (rb"pypi[.]org", rb"pythonhosted[.]org", rb"download[.]pytorch[.]org/whl",
             rb"anaconda[.]org", rb"registry[.]npmjs", rb"-index-ur[l]")
    assert not holding(rb"|".join(hosts))


REQUIREMENT = re.compile(r"([a-z][a-z0-9-]*)>=\d+(\.\d+)*\s+# \S.*")


@pytest.mark.parametrize("name", ["requirements.txt", "tests/requirements.txt"])
def test_requirements_are_lower_bounds_with_a_reason(name: str) -> None:
    lines = [line for line in read(ROOT / name).splitlines() if line and line[0] != "#"]
    assert lines and not [line for line in lines if not REQUIREMENT.fullmatch(line)]


def test_requirements_name_what_the_folders_import() -> None:
    listed = set(re.findall(r"^[\w-]+", read(ROOT / "requirements.txt"), flags=re.MULTILINE))
    used = {PACKAGES[module.split(".")[0]] for folder in FOLDERS
            for path in python_files(folder) for node in ast.walk(parse(path))
            for module in imported(node) if module.split(".")[0] in PACKAGES}
    assert used <= listed <= set(PACKAGES.values())
