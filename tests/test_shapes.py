"""The shape comments of every folder are true, and the checker that says so can say no.

The first part runs each folder's commands under `shapes.ShapeTracer`. The second holds the
checker itself against small files whose comments lie in every way we could think of.
"""

import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
from PIL import Image, ImageDraw

from shapes import ShapeTracer, equations, parse_shapes, read_legend
from support import FOLDERS, ROOT, load

# What is run to come past the claims: a module's main and its flags, where {out} is an empty
# folder, {best} the checkpoint that the first training leaves in it, {picture} a drawn digit
# and {table} a CSV of numbers. Modules that a folder does not have are left out.
COMMANDS = [
    ("model", ""),
    ("train", "--quick --out-dir {out}"),
    ("inference", "--checkpoint {best} --out {out}"),
    ("visualize", "--checkpoint {best} --out {out}"),
]
DEMOS = ("trace", "gradient-check", "xor", "vanishing")    # not autograd's: a chain of 100,000
EXTRA = {
    "alexnet_from_scratch": [
        ("inference", "--checkpoint {best} --out {out} --occlusion"),
        ("inference", "--checkpoint {best} --image {picture} --ten-crop"),
        ("train", "--quick --variant torchvision --image-size 56 --out-dir {out}/r"),
    ],
    "backprop_from_scratch": [
        *(("demo", f"--demo {name}") for name in DEMOS),
        ("inference", "--checkpoint {best} --out {out} --image {picture}"),
        ("train", "--quick --data diabetes --dropout 0.1 --activation tanh --out-dir {out}/r"),
        ("inference", "--checkpoint {out}/r/best.npz"),
        ("train", "--quick --data moons --activation sigmoid --out-dir {out}/s"),
        ("train", "--quick --data spirals --out-dir {out}/t"),
        ("train", "--quick --data sine --out-dir {out}/u"),
        ("train", "--quick --data {table} --task regression --out-dir {out}/v"),
        ("inference", "--checkpoint {out}/v/best.npz --csv {table}"),
    ],
    "diffusion_from_scratch": [
        ("train", "--quick --no-labels --flip --predict noise --gamma 5 --out-dir "
                  "{out}/r"),
        ("inference", "--checkpoint {best} --out {out} --label 3 --steps 3"),
        ("inference", "--checkpoint {best} --out {out} --interpolate 0 1 --steps 3"),
        ("inference", "--checkpoint {best} --out {out} --inpaint {picture} --steps 3"),
        ("inference", "--checkpoint {best} --out {out} --grid --guidance 1 --steps 3 --gif"),
        ("inference", "--checkpoint {best} --out {out} --sampler ddpm --steps 3"),
        ("evaluate", "--checkpoint {best} --count 100 --steps 2"),
        ("train", "--quick --predict x0 --out-dir {out}/x0"),
        ("ablation", "--quick --steps 2 --count 100 --only predict-x0"),
    ],
    "gpt2_from_scratch": [
        ("inference", "--checkpoint {best} --prompt T What.is.this --count 2 --tokens 9 "
                      "--top-k 5 --repetition-penalty 1.2 --stop x"),
        ("inference", "--checkpoint {best} --tokens 9 --temperature 0"),
        ("inference", "--checkpoint {best} --prompt The --next"),
        ("inference", "--checkpoint {best} --perplexity {table}"),
    ],
    "lenet5_from_scratch": [
        ("inference", "--checkpoint {best} --out {out} --image {picture}"),
        ("generate_test_digits", "--labels 7 --count 1 --out {out}/drawn"),
        ("inference", "--checkpoint {best} --evaluate {out}/drawn"),
        ("train", "--quick --tune 2 --out-dir {out}/tune"),
    ],
    "lenet_from_scratch": [
        ("inference", "--checkpoint {best} --out {out} --image {picture}"),
        ("model", "--variant 1998"),
        ("train", "--quick --variant 1998 --epochs 1 --out-dir {out}/1998"),
        ("inference", "--checkpoint {out}/1998/best.pt --out {out}"),
        ("visualize", "--checkpoint {out}/1998/best.pt --out {out}"),
    ],
    "stable_diffusion_from_scratch": [
        ("model", "--preset small"),
        ("train", "--quick --stage vae --out-dir {out}/v"),
        ("train", "--quick --stage diffusion --weights {best} --out-dir {out}/d"),
        ("inference", "--checkpoint {best} --out {out} --count 2 --steps 3 --attention"),
        ("inference", "--checkpoint {best} --out {out} --count 1 --steps 3 --sampler euler-a "
                      "--init {picture} --mask {picture} --size 32"),
        ("evaluate", "--checkpoint {best} --count 4 --steps 2"),
    ],
    "transformer_from_scratch": [
        ("train", "--quick --norm pre --data hard --epochs 1 --out-dir {out}/pre"),
        ("inference", "--checkpoint {best} --test"),
        ("visualize", "--checkpoint {out}/pre/best.pt --out {out}"),
    ],
    "vae_from_scratch": [
        ("model", "--network mlp --shape 1 28 28"),
        ("train", "--quick --network mlp --likelihood bernoulli --binarise --out-dir {out}/m"),
        ("inference", "--checkpoint {best} --out {out} --reconstruct {picture}"),
        ("inference", "--checkpoint {best} --out {out} --interpolate 0 1"),
        ("inference", "--checkpoint {best} --out {out} --attribute wings"),
        ("evaluate", "--checkpoint {best} --quick --samples 3 --count 50"),
        ("collapse", "--steps 2 --out {out}"),
    ],
}


# What is made smaller while a folder is traced: constants of a module, and flags.
SMALLER = {
    "alexnet_from_scratch": {"train": {"--epochs": "1"}, "visualize": {"SEARCHED": 20}},
    "backprop_from_scratch": {"demo": {"MOST_STEPS": 100}},
    "diffusion_from_scratch": {"train": {"--steps": "3"},
                               "visualize": {"STEPS": (1, 2), "GUIDANCE": (0.0, 1.0)}},
    "gpt2_from_scratch": {"train": {"--steps": "3"}},
    "lenet5_from_scratch": {"train": {"--epochs": "1"}, "visualize": {"POINTS": 100}},
    "stable_diffusion_from_scratch": {"train": {"--steps": "4"},
                                      "evaluate": {"PICTURES": 20},
                                      "visualize": {"--steps": "2", "STEPS": (1, 2)}},
}


def draw_digit(path: Path) -> Path:
    """A seven in black on white, as a user might photograph it."""
    image = Image.new("L", (60, 80), "white")
    ImageDraw.Draw(image).line([(12, 15), (48, 15), (25, 68)], fill="black", width=7)
    image.save(path)
    return path


def write_table(path: Path) -> Path:
    """Forty rows of two numbers and their sum."""
    rows = (f"{i},{i * i},{i + i * i}\n" for i in range(40))
    path.write_text("a,b,sum\n" + "".join(rows), encoding="utf-8")
    return path


def trace_commands(folder: str, out: Path) -> tuple[ShapeTracer, list[str]]:
    """Run the commands of a folder under a tracer; gives it and the commands that failed.

    Figures are made, but not painted: that is most of the time, and none of it is ours.
    """
    picture, table = draw_digit(out / "seven.png"), write_table(out / "table.csv")
    failed = []
    unpainted = mock.patch("matplotlib.figure.Figure.savefig")
    with ShapeTracer(ROOT / folder) as tracer, unpainted:
        modules = vars(load.__wrapped__(folder))     # not from its cache: imports count too
        for module, flags in COMMANDS + EXTRA.get(folder, []):
            best = next(out.glob("best.*"), out)
            argv = [flag.format(out=out, best=best, picture=picture, table=table)
                    for flag in flags.split()]
            if module not in modules:
                continue
            for name, value in SMALLER.get(folder, {}).get(module, {}).items():
                if name.startswith("--"):
                    argv += [name, value]
                else:
                    assert hasattr(modules[module], name)
                    setattr(modules[module], name, value)
            if modules[module].main(argv) != 0:
                failed.append(" ".join([module, *argv]))
    return tracer, failed


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], SimpleNamespace]:
    """What tracing a folder has found; each folder is traced once."""
    done = {}

    def trace(folder: str) -> SimpleNamespace:
        if folder not in done:
            tracer, failed = trace_commands(folder, tmp_path_factory.mktemp("traced"))
            done[folder] = SimpleNamespace(tracer=tracer, failed=failed)
        return done[folder]

    return trace


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_traced_commands_end_well(traced: Callable, folder: str) -> None:
    assert not traced(folder).failed


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_shape_comment_lies(traced: Callable, folder: str) -> None:
    assert not traced(folder).tracer.lies


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_shape_comment_was_held_against_a_run(traced: Callable, folder: str) -> None:
    files = sorted(path.name for path in (ROOT / folder).glob("*.py"))
    assert not [claim for file in files for claim in traced(folder).tracer.unvisited(file)]


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_model_says_its_shapes(folder: str) -> None:
    """A folder without a single claim would pass everything above."""
    tracer = ShapeTracer(ROOT / folder)
    assert len(tracer.unvisited("model.py")) >= 5


# ---------------------------------------------------------------- the checker itself


HEADER = '''"""A file."""

# B rows in a batch, K classes, T tokens; H height and W width

import contextlib

import numpy as np

'''


def check(folder: Path, body: str) -> ShapeTracer:
    """Write a file whose function `run` is then called under a tracer."""
    source = HEADER + textwrap.dedent(body)
    path = folder / "small.py"
    path.write_text(source, encoding="utf-8")
    names = {}
    with ShapeTracer(folder) as tracer:
        exec(compile(source, str(path), "exec"), names)
        names["run"]()
    return tracer


TRUE = {
    "numbers": "x = np.zeros((2, 3))                            # (2, 3)",
    "one axis": "x = np.zeros(3)                                # (3,)",
    "no axis": "x = np.float64(3)                               # ()",
    "letters": "x = np.zeros((2, 3))                            # (B, K)",
    "equation": "x = np.zeros((2, 3))                           # (B, K)  (3)",
    "equations": "x = np.zeros((2, 3))                          # (B, K)  (1, 2)",
    "only equation": "x = 5                                     # (3)",
    "arithmetic": """
        x = np.zeros((2, 8, 6))                                 # (B, H, W)
        y = np.zeros((2, 48, 16, 4, 3, 6))                      # (B, H*W, 2H, H/2, W//2, H-2)
        """,
    "solved sum": """
        x = np.zeros((2, 11))                                   # (B, K+1)
        y = np.zeros(10)                                        # (K,)
        """,
    "dots": "x = np.zeros((4, 5, 3))                            # (..., K)",
    "each target": "x, y = np.zeros((2, 2, 3))                  # each (B, K)",
    "each item": "x = [np.zeros((2, 3)), np.ones((2, 3))]       # each (B, K)",
    "two shapes": "x, y = np.zeros((2, 3)), np.zeros(2)         # (B, K), (B,)",
    "augmented": """
        x = np.zeros((2, 3))
        x += 1                                                  # (2, 3)
        """,
    "part": """
        x = np.zeros((4, 5, 6))
        x[:, 0] = 1                                             # (4, 6)
        x[0, 0] = 1                                             # (6,)
        """,
    "appended": """
        x = []
        x.append(np.zeros((2, 3)))                              # (B, K)
        """,
    "loop variable": """
        for x, y in zip(np.zeros((2, 3, 4)), np.zeros((2, 3))): # (H, W), (H,)
            pass
        """,
    "words": "x = 3                                             # (N, classes)",
    "smaller last batch": """
        for n in (4, 4, 2):
            x = np.zeros((n, 3))                                # (B, K)
            y = np.zeros(n)                                     # (B,)
        """,
    "lambda": """
        x = (lambda n: np.zeros(n))(3)                          # (K,)
        y = [np.zeros(n) for n in (1, 2)][1]                    # (2,)
        """,
}


@pytest.mark.parametrize("body", TRUE.values(), ids=TRUE)
def test_a_true_comment_passes(tmp_path: Path, body: str) -> None:
    tracer = check(tmp_path, "def run():\n" + textwrap.indent(textwrap.dedent(body), "    "))
    assert not tracer.lies
    assert not tracer.unvisited("small.py")


LIES = {
    "a wrong number": "x = np.zeros((2, 3))                     # (2, 4)",
    "a wrong rank": "x = np.zeros((2, 3))                       # (2, 3, 1)",
    "an axis too few": "x = np.zeros((2, 3))                    # (2,)",
    "swapped numbers": "x = np.zeros((2, 3))                    # (3, 2)",
    "no array": "x = 3                                          # (2, 3)",
    "no axis": "x = np.zeros(1)                                 # ()",
    "a tuple": "x = np.zeros((2, 3)), np.zeros((2, 3))          # (2, 3)",
    "too many targets": "x, y = np.zeros((2, 3))                # (3,)",
    "one of each": "x, y = np.zeros((2, 3)), np.zeros((2, 4))   # each (B, K)",
    "one item": "x = [np.zeros((2, 3)), np.zeros(2)]            # each (B, K)",
    "a list of numbers": "x = [1, 2]                            # each (B, K)",
    "the second shape": "x, y = np.zeros((2, 3)), np.zeros(3)   # (B, K), (B,)",
    "one letter twice": "x = np.zeros((2, 3))                   # (B, B)",
    "swapped letters": """
        x = np.zeros((2, 3))                                    # (B, K)
        y = x.T                                                 # (B, K)
        """,
    "arithmetic": """
        x = np.zeros((2, 8))                                    # (B, H)
        y = np.zeros((2, 5))                                    # (B, H/2)
        """,
    "half of an odd size": """
        x = np.zeros((2, 7))                                    # (B, H)
        y = np.zeros((2, 3))                                    # (B, H/2)
        """,
    "a sum without a solution": "x = np.zeros((2, 3))           # (B, K+4)",
    "a solved sum": """
        x = np.zeros((2, 11))                                   # (B, K+1)
        y = np.zeros(11)                                        # (K,)
        """,
    "after the dots": "x = np.zeros((4, 5, 3))                  # (..., 2)",
    "too few for the dots": "x = np.zeros(3)                    # (B, ..., K)",
    "a loop variable": """
        for x in np.zeros((2, 3)):                              # (2,)
            pass
        """,
    "an item appended": """
        x = []
        x.append(np.zeros((2, 3)))                              # (3, 2)
        """,
    "within one round": """
        for n in (4, 2):
            x = np.zeros((n, 3))                                # (B, K)
            y = np.zeros(4)                                     # (B,)
        """,
    "in a with": """
        with contextlib.nullcontext():
            x = np.zeros((2, 3))                                # (3, 2)
        """,
    "a missing legend letter": "x = np.zeros((2, 3))            # (B, Q)",
    "in the middle of a statement": """
        x = np.zeros(                                           # (2, 3)
            (2, 3))
        """,
    "on a statement without a value": """
        if True:                                                # (2, 3)
            pass
        """,
    "on several lines": """
        x = np.concatenate([
            np.zeros((2, 3)),
            np.zeros((2, 3)),
        ])                                                      # (2, 3)
        """,
}


@pytest.mark.parametrize("body", LIES.values(), ids=LIES)
def test_a_lie_is_reported(tmp_path: Path, body: str) -> None:
    tracer = check(tmp_path, "def run():\n" + textwrap.indent(textwrap.dedent(body), "    "))
    assert len(tracer.lies) == 1, tracer.lies
    assert tracer.lies[0].startswith("small.py:")


def test_a_message_says_where_and_what(tmp_path: Path) -> None:
    tracer = check(tmp_path, """\
        def run():
            x = np.zeros((2, 3))    # (B, K)
            y = np.zeros((2, 4))    # (B, K)
        """)
    assert tracer.lies == ["small.py:11: # (B, K), but y has the shape (2, 4), B is 2, K is 3"]


RETURNS = {
    "plain": "return np.zeros((2, 3))    # {}",
    "on two lines": "return np.zeros(\n    (2, 3))    # {}",
    "inside a with": "with contextlib.nullcontext():\n    return np.zeros((2, 3))    # {}",
    "before a finally": "try:\n    return np.zeros((2, 3))    # {}\nfinally:\n    x = 1",
    "inside a loop": "for _ in range(3):\n    return np.zeros((2, 3))    # {}",
    "after an exception": "try:\n    x = [][0]\nexcept IndexError:\n"
                          "    return np.zeros((2, 3))    # {}",
}


@pytest.mark.parametrize("body", RETURNS.values(), ids=RETURNS)
def test_the_value_of_a_return_is_looked_at(tmp_path: Path, body: str) -> None:
    start = "def run():\n" + textwrap.indent(body, "    ")
    true, lie = (check(tmp_path, start.format(shape)) for shape in ("(2, 3)", "(3, 2)"))
    assert not true.lies and not true.unvisited("small.py")
    assert len(lie.lies) == 1 and "the result has the shape (2, 3)" in lie.lies[0]


METHODS = """\
class Layer:
    def __init__(self):
        self.w = np.zeros((2, 3))                     # {}

    def forward(self, x):                             # {}
        self.seen = x
        return x                                      # (B, K)

def run():
    Layer().forward(np.zeros((2, 3)))
"""


@pytest.mark.parametrize(("attribute", "argument", "lie"), [
    ("(2, 3)", "(B, K)", None),
    ("(3, 3)", "(B, K)", "self.w has the shape (2, 3)"),
    ("(2, 3)", "(B, 2)", "x has the shape (2, 3)"),
    ("(2, 3)", "(B,)", "x has the shape (2, 3)"),
])
def test_attributes_and_arguments_are_looked_at(
    tmp_path: Path, attribute: str, argument: str, lie: str | None
) -> None:
    tracer = check(tmp_path, METHODS.format(attribute, argument))
    assert not tracer.unvisited("small.py")
    assert [line.split(" but ")[1].split(", B")[0] for line in tracer.lies] == [lie] * bool(lie)


def test_each_on_a_def_means_all_that_a_call_must_give(tmp_path: Path) -> None:
    body = """\
        def attend(q, k, v, mask=None):               # each (B, T)
            return q

        def run():
            attend(np.zeros((2, 3)), np.zeros((2, 3)), np.zeros(({}, 3)))
        """
    assert not check(tmp_path, body.format(2)).lies
    assert "v has the shape (1, 3)" in check(tmp_path, body.format(1)).lies[0]


def test_letters_are_bound_anew_in_each_call(tmp_path: Path) -> None:
    body = """\
        def double(x):                                # (B, K)
            return np.concatenate([x, x])             # (2B, K)

        def run():
            double(np.zeros((2, 3)))
            double(np.zeros((5, 4)))
        """
    assert not check(tmp_path, body).lies


def test_nested_functions_have_letters_of_their_own(tmp_path: Path) -> None:
    body = """\
        def run():
            x = np.zeros((2, 3))                      # (B, K)

            def inner(y):                             # (B, K)
                return y.sum(0)                       # (K,)

            z = inner(np.zeros((4, 5)))               # (5,)
        """
    tracer = check(tmp_path, body)
    assert not tracer.lies and not tracer.unvisited("small.py")


def test_a_statement_that_raised_claims_nothing(tmp_path: Path) -> None:
    body = """\
        def run():
            x = 3
            try:
                x = [][0]                             # (2, 3)
            except IndexError:
                pass
            return x
        """
    tracer = check(tmp_path, body)
    assert not tracer.lies
    assert tracer.unvisited("small.py") == ["small.py:12: # (2, 3)"]


@pytest.mark.parametrize(("claim", "lies"), [("(B, K)", 0), ("(K, B)", 1)])
def test_generators_may_stop_and_go_on(tmp_path: Path, claim: str, lies: int) -> None:
    body = f"""\
        def batches(n):
            x = np.zeros((n, 3))                      # (B, K)
            yield x                                   # {claim}
            y = yield                                 # (2,)
            z = np.zeros(n)                           # (B,)

        def run():
            steps = batches(7), batches(5)
            for step in steps:
                next(step), next(step)
            for step in steps:
                try:
                    step.send(np.zeros(2))
                except StopIteration:
                    pass
        """
    tracer = check(tmp_path, body)
    assert len(tracer.lies) == lies
    assert not tracer.unvisited("small.py")


def test_decorated_functions_and_module_constants_are_looked_at(tmp_path: Path) -> None:
    body = """\
        TABLE = np.zeros((2, 3))                      # (3, 3)

        @contextlib.contextmanager
        def opened(x):                                # (K, 2)
            yield

        def run():
            with opened(TABLE):
                pass
        """
    assert len(check(tmp_path, body).lies) == 2


def test_what_never_ran_is_listed(tmp_path: Path) -> None:
    body = """\
        def run():
            if np.zeros(1):
                x = np.zeros((2, 3))                  # (7, 7)
        """
    tracer = check(tmp_path, body)
    assert not tracer.lies
    assert tracer.unvisited("small.py") == ["small.py:11: # (7, 7)"]


def test_a_shape_is_told_from_an_equation_and_from_words() -> None:
    assert parse_shapes("# (B, K)  (3)", {"B", "K"}) == (False, (("B", "K"),))
    assert parse_shapes("# each (B, 4C), of four", {"B"}) == (True, (("B", "4*C"),))
    assert parse_shapes("# (60, 5, 5)", set()) == (False, (("60", "5", "5"),))
    for words in ("# (4)", "# ink (B, K)", "# (N, classes)", "# (f(x), 2)", "# (n, 1)"):
        assert parse_shapes(words, {"B"}) is None
    assert parse_shapes("# (N, classes)", {"classes"}) == (False, (("N", "classes"),))


def test_equation_numbers_are_found() -> None:
    expected = {"# (4)": [4], "# (B, K)  (3)": [3], "# (B, 6, 14, 14)  (1, 2)": [1, 2],
                "# x = √ᾱ·x₀ + ε   (12)": [12], "# (10, 84)": [], "# (60,) of them": [],
                "# as in §II-B (see there)": []}
    assert {comment: equations(comment) for comment in expected} == expected


def test_the_legend_is_the_comment_under_the_docstring() -> None:
    assert {"B", "K", "T", "H", "W"} <= read_legend(HEADER)
    assert read_legend('"""A file."""\n\nimport sys\n\n# B is too late here\n') == set()


def test_a_tracer_leaves_no_trace(tmp_path: Path) -> None:
    before = sys.gettrace()
    check(tmp_path, "def run():\n    pass\n")
    assert sys.gettrace() is before
