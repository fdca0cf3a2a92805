"""The graph behind a `Value`, drawn as an SVG: no other program is needed.

    from pathlib import Path
    from autograd import Value
    from graph import draw
    a = Value(2.0, "a")
    b = a * a + a
    b.backward()
    draw(b, Path("b.svg"))
"""

from html import escape
from pathlib import Path

from autograd import Value

WIDTH, HEIGHT = 112, 58           # of a box, in pixels
GAP_ACROSS, GAP_DOWN = 70, 22     # between boxes


def places(root: Value) -> dict[Value, tuple[int, int]]:
    """A column and a row for every value: what it is made of stands further left.

    A value stands directly left of the first that uses it; in a column, values stand in the
    order of their users, so that few lines cross.
    """
    order = root.sorted()
    to_go = dict.fromkeys(order, 0)          # the longest way from a value to the root
    for value in reversed(order):
        for parent, _ in value.parents:
            to_go[parent] = max(to_go[parent], to_go[value] + 1)
    last, heights, found = max(to_go.values()), {root: [0.0]}, {}
    for step in range(last + 1):
        column = [value for value in order if to_go[value] == step]
        column.sort(key=lambda value: sum(heights[value]) / len(heights[value]))
        for row, value in enumerate(column):
            found[value] = (last - step, row)
            for i, (parent, _) in enumerate(value.parents):
                heights.setdefault(parent, []).append(row + i / 2)
    return found


def svg(root: Value) -> str:
    """The picture: a box for each value, with ∂root/∂value; a line for each slope."""
    where = places(root)
    rows = {}
    for column, _ in where.values():
        rows[column] = rows.get(column, 0) + 1
    tallest = max(rows.values())

    def corner(value: Value) -> tuple[float, float]:
        column, row = where[value]
        down = row + (tallest - rows[column]) / 2          # columns are centred
        return 10 + column * (WIDTH + GAP_ACROSS), 10 + down * (HEIGHT + GAP_DOWN)

    width = len(rows) * (WIDTH + GAP_ACROSS) - GAP_ACROSS + 20
    height = tallest * (HEIGHT + GAP_DOWN) - GAP_DOWN + 20
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height:g}" '
             f'viewBox="0 0 {width} {height:g}" font-family="sans-serif" font-size="12">',
             '<rect width="100%" height="100%" fill="white"/>']
    for value in where:
        for number, (parent, slope) in enumerate(value.parents):
            parts.append(_line(corner(parent), corner(value), slope, number,
                               len(value.parents)))
    parts += [_box(value, *corner(value)) for value in where]
    return "\n".join([*parts, "</svg>\n"])


def _line(start: tuple[float, float], end: tuple[float, float], slope: float, number: int,
          count: int) -> str:
    """A curve from the right of one box to the left of another, with the slope at its end."""
    x, y = start[0] + WIDTH, start[1] + HEIGHT / 2
    to_x, to_y = end[0], end[1] + HEIGHT * (number + 1) / (count + 1)
    bend = GAP_ACROSS / 2
    return (f'<path d="M{x:g} {y:g}C{x + bend:g} {y:g} {to_x - bend:g} {to_y:g} {to_x:g} '
            f'{to_y:g}" fill="none" stroke="#888"/>'
            f'<text x="{to_x - 4:g}" y="{to_y - 4:g}" text-anchor="end" fill="#d55e00" '
            f'stroke="white" stroke-width="3" paint-order="stroke">'
            f'×{slope:.3g}</text>')


def _box(value: Value, x: float, y: float) -> str:
    """Name, number and gradient of a value; values that were given are blue."""
    fill = "#eeeeee" if value.parents else "#d9ecf7"
    middle = x + WIDTH / 2
    lines = ((value.name, ' font-weight="bold"'), (f"{value.data:.4g}", ""),
             (f"grad {value.grad:.4g}", ' fill="#d55e00"'))
    texts = "".join(f'<text x="{middle:g}" y="{y + 17 * i:g}" text-anchor="middle"{style}>'
                    f"{escape(text)}</text>" for i, (text, style) in enumerate(lines, 1))
    return (f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="{fill}" '
            f'stroke="#555"/>{texts}')


def draw(root: Value, path: Path) -> None:
    """Write the graph that ends in `root`, on which `backward` has been called, to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(svg(root), encoding="utf-8")
