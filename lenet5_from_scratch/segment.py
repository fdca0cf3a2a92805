"""A picture of a number becomes one picture per digit, left to right.

Ink that hangs together is one piece; a short piece above or below another belongs to its digit
(the bar of a 5). Where digits may touch, the thinnest places are tried as cuts, and the network
that will read the pieces decides whether they look more like digits than the whole did.
"""

# H height, W width of a sheet

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

import prepare

SPECK = 0.06        # of the largest piece's ink: what has less is dirt
SHARED = 0.4        # of the narrower piece's width: so far a piece lies above another
SHORT = 0.6         # of the other's height: what is taller is a digit of its own
WIDE = 0.8          # width for each height: a wider digit may be two that touch
USUAL = 0.7         # the width of a digit for each height
BETTER = 0.05       # by how much cut pieces must be surer than the whole
Believe = Callable[[list[np.ndarray]], np.ndarray]


def components(solid: np.ndarray) -> np.ndarray:
    """Number the connected regions of True pixels (H, W); 0 is no region.

    Every pixel starts with a number of its own and takes the largest in its neighbourhood,
    diagonals included, until nothing changes.
    """
    inside = torch.from_numpy(solid).float()[None]                     # (1, H, W)
    numbers = inside * torch.arange(1, solid.size + 1).view_as(inside)   # exact below 2²⁴
    while True:
        spread = F.max_pool2d(numbers, 3, stride=1, padding=1) * inside
        if torch.equal(spread, numbers):
            return numbers[0].long().numpy()
        numbers = spread


def digits(ink: np.ndarray, believe: Believe) -> list[np.ndarray]:
    """The ink (H, W) of each digit in its own box, left to right.

    `believe` says of finished pictures (28, 28) how sure their reading is, 0 to 1. Raises
    ValueError if there is nothing but specks.
    """
    found, pieces = [], _pieces(ink)
    if not pieces:
        raise ValueError("there are only specks: write larger, or cut the picture out")
    for piece in pieces:
        found += _cut(piece, believe) if piece.shape[1] > WIDE * piece.shape[0] else [piece]
    return found


def finished(piece: np.ndarray) -> np.ndarray:
    """A digit's ink as the network reads it: bytes (28, 28)."""
    return np.round(255 * prepare.centre(prepare.fit_box(piece))).astype(np.uint8)


def _pieces(ink: np.ndarray) -> list[np.ndarray]:
    """The connected pieces of ink, without specks; pieces above one another are one."""
    ink = prepare.crop(ink)
    reach = max(1, max(ink.shape) // 60)     # a hair's gap is no gap
    solid = torch.from_numpy(ink > prepare.FAINT).float()[None]
    near = F.max_pool2d(solid, 2 * reach + 1, stride=1, padding=reach)
    numbers = components(near[0].numpy() > 0)                          # (H, W)
    masses = np.bincount(numbers.ravel(), weights=ink.ravel())
    masses[0] = 0
    boxes = [(number, prepare._box(numbers == number))
             for number in np.flatnonzero(masses > SPECK * masses.max())]
    return [_boxed(ink * np.isin(numbers, group)) for group in _joined(boxes)]


def _joined(boxes: list[tuple[int, tuple[slice, slice]]]) -> list[list[int]]:
    """The numbers of the components of each digit, left to right, from components' boxes."""
    groups = []      # of [left, right, height, numbers]
    for number, (rows, columns) in sorted(boxes, key=lambda box: box[1][1].start):
        left, right, height = columns.start, columns.stop, rows.stop - rows.start
        before = groups[-1] if groups else [0, 0, 0, []]
        shared = min(right, before[1]) - left
        above = shared > SHARED * min(right - left, before[1] - before[0])
        if above and min(height, before[2]) < SHORT * max(height, before[2]):
            groups[-1] = [before[0], max(right, before[1]), max(height, before[2]),
                          [*before[3], number]]
        else:
            groups.append([left, right, height, [number]])
    return [numbers for *_, numbers in groups]


def _cut(piece: np.ndarray, believe: Believe) -> list[np.ndarray]:
    """A wide piece cut at its thinnest places, if the parts look more like digits."""
    height, width = piece.shape
    best, score = [piece], believe([finished(piece)]).min() + BETTER
    guess = round(width / height / USUAL)
    for count in range(2, max(guess + 1, 2) + 1):
        edges = [0]
        for number in range(1, count):
            middle, slack = number * width / count, width / count / 3
            low, high = int(middle - slack), int(middle + slack) + 1
            edges.append(low + int(piece[:, low:high].sum(0).argmin()))
        parts = [_boxed(piece[:, a:b]) for a, b in zip(edges, edges[1:] + [width])]
        if not all(map(np.size, parts)):
            continue
        sure = believe([finished(part) for part in parts]).min()
        if sure > score:
            best, score = parts, sure
    return best


def _boxed(ink: np.ndarray) -> np.ndarray:
    """The smallest rectangle that holds all ink; empty if there is none."""
    return ink[prepare._box(ink > 0)] if (ink > 0).any() else ink[:0, :0]
