"""Are the shapes in the comments true? This runs the code and looks.

A line such as `x = self.pool(x)    # (B, 6, 14, 14)` makes a claim. While a `ShapeTracer`
is active, Python reports every line that runs (`sys.settrace`); as soon as a statement
with a claim is done, its value is compared with the comment:

    with ShapeTracer(folder) as tracer:
        ...                      # run the folder's code
    tracer.lies                  # sentences; empty if every comment told the truth
    tracer.unvisited(file)       # the claims of a file that never ran

How a claim is written, at the end of the last line of a statement:

    # (B, 6, 14, 14)             numbers are meant exactly, letters stand for a size
    # (B, H*D, W/2, K+1, 4C)     + - * / // of numbers and letters
    # (..., D)                   any number of axes, then one of D
    # each (B, T, C)             all targets, all items of a list, all arguments
    # (B, T), (B,)               one shape for each target
    # (B, K)  (3)                what follows a shape in parentheses is an equation number;
    # (4)                        so is one number alone: one axis of four is (4,)

The claim is about the targets of an assignment or a `for`, the value of a `return` or
`yield`, the first argument of a `def` after self, the buffer of `register_buffer`, the item
of `append`, the receiver of an in-place method. A letter is bound where a call first meets
it and must keep its size in that call; one bound in a loop is free again in its next round.
The comment under the module docstring is the legend and has to name every letter.
"""

import ast
import io
import re
import sys
import threading
import tokenize
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

ONE_SHAPE = r"\((?:[^()]*,[^()]*)?\)"
SHAPES = re.compile(rf"#\s*(each\s+)?({ONE_SHAPE}(?:(?:, | and ){ONE_SHAPE})*)")
NUMBERS = r"\((\d{1,2}(?:, \d{1,2})*)\)"
EQUATIONS = re.compile(rf"^\s*{NUMBERS}|\s{NUMBERS}$")
LEGEND_ENTRY = re.compile(r"(?:^|[,;:]|\band\b)\s*(?:and )?(\w+)")
OPERATIONS = {ast.Add: lambda a, b: a + b, ast.Sub: lambda a, b: a - b,
              ast.Mult: lambda a, b: a * b, ast.Div: lambda a, b: a / b,
              ast.FloorDiv: lambda a, b: a // b}
LARGEST_SIZE = 100_000  # up to here a letter that stands only in a sum is solved for
FIRST, EVERY = 300, 17   # of a function's calls the first are watched, then one in so many
LOOPS = (ast.For, ast.AsyncFor, ast.While)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

Shape = tuple[str, ...]
Named = list[tuple[str, Any]]  # values, and what to call them in a message


class Claim(NamedTuple):
    """What the comment on the last line of a statement says about its value."""

    line: int
    text: str
    each: bool
    shapes: tuple[Shape, ...]
    statement: ast.stmt


class Book(NamedTuple):
    """One file: its statements by the lines they cover, its claims by the statement's line."""

    name: str
    statements: dict[int, ast.stmt]
    claims: dict[int, Claim]
    complaints: list[str]


# ---------------------------------------------------------------- reading the comments


def equations(comment: str) -> list[int]:
    """The equation numbers in a comment: after its shape, or alone at its beginning or end."""
    match = SHAPES.match(comment)
    rest = comment[match.end():] if match else comment.lstrip("# ")
    found = EQUATIONS.search(rest)
    return [int(n) for n in (found[1] or found[2]).split(",")] if found else []


def parse_shapes(comment: str, legend: set[str]) -> tuple[bool, tuple[Shape, ...]] | None:
    """Whether `each` is said, and the shapes at the start of a comment; None: no shapes.

    Words that the legend does not have, as in (N, classes), make it an ordinary comment.
    """
    match = SHAPES.match(comment)
    if not match:
        return None
    shapes = tuple(_dimensions(shape) for shape in re.findall(ONE_SHAPE, match[2]))
    if not all(_is_dimension(entry, legend) for shape in shapes for entry in shape):
        return None
    return bool(match[1]), shapes


def _dimensions(shape: str) -> Shape:
    entries = (entry.strip() for entry in shape.strip("()").split(","))
    plain = (re.sub(r"(\d)([A-Za-z])", r"\1*\2", entry) for entry in entries if entry)  # 4C
    return tuple(re.sub("[·×]", "*", entry).replace("…", "...") for entry in plain)


def _is_dimension(entry: str, legend: set[str]) -> bool:
    if entry == "...":
        return True
    try:
        nodes = list(ast.walk(ast.parse(entry, mode="eval").body))
    except SyntaxError:
        return False
    return all(isinstance(node, (ast.BinOp, ast.expr_context, *OPERATIONS))
               or isinstance(node, ast.Constant) and type(node.value) is int
               or isinstance(node, ast.Name) and (len(node.id) == 1 and node.id.isupper()
                                                  or node.id in legend)
               for node in nodes)


def letters_of(entry: str) -> list[str]:
    """The letters in one entry of a shape, such as H and W in `H*W`."""
    return re.findall(r"[A-Za-z_]\w*", entry)


def read_legend(source: str) -> set[str]:
    """The letters that the comment between the docstring and the first statement explains."""
    body = ast.parse(source).body
    start = body[0].end_lineno if body and _is_text(body[0]) else 0
    following = body[1:] if start else body
    end = following[0].lineno - 1 if following else None
    lines = [line for line in source.splitlines()[start:end] if line.startswith("#")]
    return set(LEGEND_ENTRY.findall(" ".join(line.lstrip("# ") for line in lines)))


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def trailing_comments(source: str) -> Iterator[tuple[int, str, int | None]]:
    """Line and text of the comments behind code, and the first line of their statement.

    Instead of that line None for a comment in the middle of a statement.
    """
    first, pending = None, []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and first is not None:
            pending.append((token.start[0], token.string))
        elif token.type == tokenize.NEWLINE:
            for line, text in pending:
                yield line, text, first if line == token.start[0] else None
            first, pending = None, []
        elif first is None and token.string.strip():
            first = token.start[0] if token.type != tokenize.COMMENT else None


def read_book(path: Path) -> Book:
    """The claims of one file, and a complaint for each that cannot be held against anything."""
    source = path.read_text(encoding="utf-8")
    legend, tree = read_legend(source), ast.parse(source)
    starts = {node.lineno: node for node in ast.walk(tree) if isinstance(node, ast.stmt)}
    book = Book(path.name, _statements_by_line(tree), {}, [])
    for line, text, first in trailing_comments(source):
        parsed = parse_shapes(text, legend)
        if parsed is None:
            continue
        where = f"{path.name}:{line}"
        book.complaints.extend(f"{where}: the legend does not explain {letter}"
                               for letter in _unexplained(parsed[1], legend))
        statement = starts.get(first)
        if statement is None or not _is_checkable(statement):
            book.complaints.append(f"{where}: {text} cannot be checked at this place")
        else:
            book.claims[statement.lineno] = Claim(line, text, *parsed, statement)
    return book


def _unexplained(shapes: tuple[Shape, ...], legend: set[str]) -> list[str]:
    used = {letter for shape in shapes for entry in shape for letter in letters_of(entry)}
    return sorted(used - legend)


def _statements_by_line(tree: ast.Module) -> dict[int, ast.stmt]:
    """The innermost statement of each line; of compound ones only the header counts."""
    by_line = {}
    for node in ast.walk(tree):          # outer statements come before the inner ones
        if isinstance(node, ast.stmt):
            end = node.end_lineno
            if inner := getattr(node, "body", None):
                end = max(node.lineno, inner[0].lineno - 1)
            start = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
            by_line.update(dict.fromkeys(range(start, end + 1), node))
    return by_line


# ---------------------------------------------------------------- finding the values


def _is_checkable(statement: ast.stmt) -> bool:
    if isinstance(statement, FUNCTIONS):
        return bool(_arguments(statement))
    if isinstance(statement, ast.Expr):
        return _is_yield(statement) or _call_target(statement.value) is not None
    return isinstance(statement, (ast.Return, ast.For)) or (
        isinstance(statement, (ast.Assign, ast.AugAssign, ast.AnnAssign))
        and statement.value is not None)


def _is_yield(statement: ast.stmt | None) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value,
                                                          (ast.Yield, ast.YieldFrom))


def _arguments(function: ast.FunctionDef) -> list[ast.arg]:
    """The arguments a call must give, without self; else the first that it may give."""
    every = function.args.posonlyargs + function.args.args
    first = int(bool(every) and every[0].arg in ("self", "cls"))
    required = every[first : len(every) - len(function.args.defaults)]
    star = [function.args.vararg] if function.args.vararg else []
    return required or every[first:][:1] or star or function.args.kwonlyargs


def _call_target(call: ast.expr) -> str | None:
    """The expression that a call without a result has changed, as Python text."""
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
        return None
    receiver, method = ast.unparse(call.func.value), call.func.attr
    if method in ("register_buffer", "register_parameter") and call.args:
        return f"getattr({receiver}, {ast.unparse(call.args[0])})"
    if method == "append":
        return f"{receiver}[-1]"
    return receiver if method.endswith("_") else None


def _targets(statement: ast.stmt) -> list[str]:
    """What a statement gives a value to, as Python expressions."""
    if isinstance(statement, FUNCTIONS):
        return [argument.arg for argument in _arguments(statement)]
    if isinstance(statement, ast.Expr):
        return [_call_target(statement.value)]
    target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
    parts = target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
    return [ast.unparse(part).lstrip("*") for part in parts]


def values_of(claim: Claim, frame: FrameType) -> Named:
    """The values that a claim is about, by name, where a frame has just finished with them."""
    targets = _targets(claim.statement)
    if isinstance(claim.statement, FUNCTIONS) and not claim.each:
        targets = targets[: len(claim.shapes)]
    return [(name, eval(name, frame.f_globals, frame.f_locals)) for name in targets]


def pair(claim: Claim, values: Named) -> list[tuple[str, Any, Shape]] | None:
    """Each value with the shape it should have; None if their numbers differ."""
    if claim.each:
        items = [item for name, value in values for item in _items(name, value)]
        return [(name, value, claim.shapes[0]) for name, value in items]
    if len(claim.shapes) > 1 == len(values):
        values = _items(*values[0])
    if len(values) != len(claim.shapes):
        return None
    return [(name, value, shape) for (name, value), shape in zip(values, claim.shapes)]


def _items(name: str, value: object) -> Named:
    if isinstance(value, dict):
        return [(f"{name}[{key!r}]", item) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return [(f"{name}[{i}]", item) for i, item in enumerate(value)]
    return [(name, value)]


# ---------------------------------------------------------------- comparing


def shape_of(value: object) -> tuple[int, ...] | None:
    """The shape of a tensor or array; None for everything else."""
    shape = getattr(value, "shape", None)
    whole = isinstance(shape, tuple) and all(isinstance(size, int) for size in shape)
    return tuple(shape) if whole else None


def agrees(shape: Shape, sizes: tuple[int, ...], letters: dict[str, int]) -> bool:
    """Whether a written shape can have these sizes; binds the letters that were free."""
    if "..." in shape:
        dots, spare = shape.index("..."), len(sizes) - (len(shape) - 1)
        shape = shape[:dots] + shape[dots + 1 :]
        sizes = sizes[:dots] + sizes[dots + max(spare, 0) :]
    if len(shape) != len(sizes):
        return False
    for entry, size in zip(shape, sizes):      # letters that stand alone bind first
        if entry.isidentifier() and letters.setdefault(entry, size) != size:
            return False
    return all(_solves(entry, size, letters) for entry, size in zip(shape, sizes))


def _solves(entry: str, size: int, letters: dict[str, int]) -> bool:
    tree = ast.parse(entry, mode="eval").body
    free = {letter for letter in letters_of(entry) if letter not in letters}
    if not free:
        return _value(tree, letters) == size
    if len(free) > 1:       # H*D, and neither is known: nothing contradicts it
        return True
    letter = free.pop()
    for guess in range(LARGEST_SIZE):
        if _value(tree, letters | {letter: guess}) == size:
            letters[letter] = guess
            return True
    return False


def _value(node: ast.expr, letters: dict[str, int]) -> float:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return letters[node.id]
    try:
        left, right = _value(node.left, letters), _value(node.right, letters)
        return OPERATIONS[type(node.op)](left, right)
    except ZeroDivisionError:
        return float("nan")


# ---------------------------------------------------------------- watching the code run


class Call:
    """One call of one function: where it stands and what its letters stand for."""

    def __init__(self, book: Book, report: Callable[[Book, Claim, str | None], None]) -> None:
        self.book, self.report = book, report
        self.letters: dict[str, int] = {}
        self.bound_at: dict[str, int] = {}          # the line where each letter was bound
        self.statement: ast.stmt | None = None      # the one that is running
        self.returning: ast.Return | None = None    # a `with` or `finally` is left after it

    def trace(self, frame: FrameType, event: str, value: object) -> Callable:
        """Python calls this for each line, exception and return of the function."""
        if event == "line":
            self.reach(frame)
        elif event == "exception":                  # what was running did not finish
            self.statement = self.returning = None
        elif event == "return":
            self.leave(frame, value)
        return self.trace

    def enter(self, frame: FrameType) -> None:
        """The function has its arguments and has not begun."""
        statement = self.book.statements.get(frame.f_code.co_firstlineno)
        if isinstance(statement, FUNCTIONS) and statement.name == frame.f_code.co_name:
            self.finish(statement, frame)

    def reach(self, frame: FrameType) -> None:
        """A line begins: if it belongs to another statement, the one before it is done."""
        old, new = self.statement, self.book.statements.get(frame.f_lineno)
        if new is old:
            return
        self.statement = new
        if isinstance(old, ast.Return):
            self.returning = old
        elif not isinstance(old, (ast.For, *FUNCTIONS)) or _is_inside(old, frame.f_lineno):
            self.finish(old, frame)
        if isinstance(new, LOOPS):
            self.next_round(new)

    def leave(self, frame: FrameType, value: object) -> None:
        """The function returns, or a generator yields."""
        old = self.statement
        if isinstance(old, ast.Return):
            self.finish(old, frame, [("the result", value)])
        elif _is_yield(old):
            self.finish(old, frame, [("what is yielded", value)])
            self.statement = None
        elif not _yields(old):
            if not isinstance(old, (ast.For, *FUNCTIONS)):
                self.finish(old, frame)
            self.finish(self.returning, frame, [("the result", value)])

    def next_round(self, loop: ast.stmt) -> None:
        """Forget the letters that the round before has bound."""
        for letter, line in list(self.bound_at.items()):
            if loop.lineno <= line <= loop.body[-1].end_lineno:
                del self.letters[letter], self.bound_at[letter]

    def finish(self, statement: ast.stmt | None, frame: FrameType,
               values: Named | None = None) -> None:
        """A statement is done: compare what it claims with what it made."""
        claim = self.book.claims.get(statement.lineno) if statement else None
        if claim is None or claim.statement is not statement:
            return
        try:
            values = values_of(claim, frame) if values is None else values
            problem = self.contradiction(claim, values)
        except Exception as error:      # an error here would be taken for the code's own
            problem = f"looking at it failed: {error!r}"
        self.report(self.book, claim, problem)

    def contradiction(self, claim: Claim, values: Named) -> str | None:
        """What is wrong with a claim, or None."""
        pairs = pair(claim, values)
        if pairs is None:
            return f"{len(claim.shapes)} shapes for {len(values)} values"
        for name, value, shape in pairs:
            sizes, letters = shape_of(value), dict(self.letters)
            if sizes is None:
                return f"{name} is a {type(value).__name__}, which has no shape"
            if not agrees(shape, sizes, letters):
                known = [f"{n} is {letters[n]}" for n in sorted(letters_of(" ".join(shape)))
                         if n in self.letters]
                return f"{name} has the shape {sizes}" + ", ".join(["", *dict.fromkeys(known)])
            self.bound_at |= {n: claim.line for n in letters if n not in self.letters}
            self.letters = letters
        return None


def _is_inside(compound: ast.stmt, line: int) -> bool:
    return compound.body[0].lineno <= line <= compound.body[-1].end_lineno


def _yields(statement: ast.stmt | None) -> bool:
    """Whether a statement such as `x = yield y` may be left and entered again."""
    if statement is None or hasattr(statement, "body"):
        return False
    return any(isinstance(node, ast.Yield | ast.YieldFrom | ast.Await)
               for node in ast.walk(statement))


class ShapeTracer:
    """Holds the shape comments of a folder's files against what happens while it is active."""

    def __init__(self, folder: Path) -> None:
        self.books = {str(path): read_book(path) for path in sorted(folder.glob("*.py"))}
        self._lies = {f"{book.name} {number}": text for book in self.books.values()
                      for number, text in enumerate(book.complaints)}
        self._visited: set[tuple[str, int]] = set()
        self._wanted: dict[tuple[str, int, str], bool] = {}
        self._calls: Counter[CodeType] = Counter()

    def __enter__(self) -> "ShapeTracer":
        self._previous = sys.gettrace(), threading.gettrace()
        threading.settrace(self._called)
        sys.settrace(self._called)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._previous[0])
        threading.settrace(self._previous[1])

    @property
    def lies(self) -> list[str]:
        """One sentence for each comment that was wrong at least once or cannot be checked."""
        return list(self._lies.values())

    def unvisited(self, file: str) -> list[str]:
        """The claims of a file, such as "model.py", that no run came past."""
        return [f"{file}:{claim.line}: {claim.text}"
                for book in self.books.values() if book.name == file
                for claim in book.claims.values() if (file, claim.line) not in self._visited]

    def _called(self, frame: FrameType, event: str, _value: object) -> Callable | None:
        """Python calls this for every call in the process; few are of interest."""
        code = frame.f_code
        book = self.books.get(code.co_filename)
        if book is None or not self._has_claims(book, code):
            return None
        if isinstance(getattr(frame.f_trace, "__self__", None), Call):
            return frame.f_trace            # a generator goes on
        self._calls[code] += 1
        if self._calls[code] > FIRST and self._calls[code] % EVERY:
            return None                     # a training loop would be watched for minutes
        call = Call(book, self._report)
        call.enter(frame)
        return call.trace

    def _has_claims(self, book: Book, code: CodeType) -> bool:
        key = code.co_filename, code.co_firstlineno, code.co_name
        if key not in self._wanted:
            last = max(line or 0 for *_, line in code.co_lines())
            inner = code.co_name.startswith("<") and code.co_name != "<module>"  # lambdas …
            self._wanted[key] = not inner and any(code.co_firstlineno <= line <= last
                                                  for line in book.claims)
        return self._wanted[key]

    def _report(self, book: Book, claim: Claim, problem: str | None) -> None:
        self._visited.add((book.name, claim.line))
        if problem:
            where = f"{book.name}:{claim.line}"
            self._lies.setdefault(where, f"{where}: {claim.text}, but {problem}")
