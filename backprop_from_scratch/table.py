"""A table of numbers in a CSV, as people's programs write them, with or without a header."""

# N rows, I chosen columns

import csv
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from console import Refusal

LARGEST = 1e100     # of the numbers, so that their squares exist


class Table(NamedTuple):
    """A CSV as text: `rows` with the `lines` they stand in; `named` if it names its columns."""

    path: Path
    named: bool
    columns: list[str]
    lines: list[int]
    rows: list[list[str]]

    def numbers(self, chosen: list[int]) -> np.ndarray:
        """The chosen columns as floats (N, I); Refusal names the first entry that is none."""
        for i in chosen:
            self.require(i, _is_number, "a number")
            self.require(i, lambda entry: abs(float(entry)) < LARGEST,
                         f"between -{LARGEST:g} and {LARGEST:g}")
        return np.array([[float(row[i]) for i in chosen] for row in self.rows])   # (N, I)

    def require(self, i: int, fits: Callable[[str], bool], wanted: str) -> None:
        """Raise Refusal, with its line, for the first entry of column i that does not fit."""
        for line, row in zip(self.lines, self.rows):
            if not fits(row[i]):
                raise Refusal(f"{self.path}, line {line}, {self.columns[i]}: {row[i]!r} is not "
                              f"{wanted}")


def read_table(path: Path, fewest: int = 1) -> Table:
    """The entries of a CSV; a first line with a number in it does not name the columns.

    Raises Refusal if there is no such file, no text, no row, fewer than `fewest` columns, or
    rows of different lengths.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            lines = [(reader.line_num, [entry.strip() for entry in row])
                     for row in reader if row]
    except FileNotFoundError:
        raise Refusal(f"there is no file {path}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Refusal(f"{path} cannot be read as a CSV ({error})") from None
    if not lines:
        raise Refusal(f"{path} is empty")
    columns = lines[0][1]
    named = not any(map(_is_number, columns))
    if not named:
        columns = [f"column {number}" for number in range(1, len(columns) + 1)]
    elif len(set(columns)) < len(columns):
        raise Refusal(f"{path}: two columns have one name: rename one")
    lines = lines[named:]
    if not lines or len(columns) < fewest:
        raise Refusal(f"{path} needs rows of numbers, separated by commas"
                      + (f", in {fewest} columns or more" if fewest > 1 else ""))
    for line, row in lines:
        if len(row) != len(columns):
            raise Refusal(f"{path}, line {line}: {len(row)} values, but there are "
                          f"{len(columns)} columns")
    return Table(path, named, columns, *map(list, zip(*lines)))


def _is_number(entry: str) -> bool:
    try:
        float(entry)
    except ValueError:
        return False
    return True
