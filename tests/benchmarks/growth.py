"""How time and memory grow with the work: batch, context, side of a picture, steps.

    python tests/benchmarks/growth.py --out growth.png --json growth.json
    python tests/benchmarks/growth.py --only lenet vae --threads 1

Every point is a process of its own, so that its peak of memory is its own, too: what the work
takes beyond what model and libraries took before it. The exponent is the slope of a line
through the last three points in logarithms: with 1 twice the work costs twice as much, with 2
four times.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import timing
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from works import SERIES, Series

LAST = 3                 # points that an exponent is fitted to: two octaves
LEAST = 4.0              # MB; what takes less is not told from noise
PATIENCE = 5.0           # seconds after which a point is not repeated any more
LOOKS = (("o-", "black"), ("s--", "0.35"), ("^:", "0.55"))     # of the lines of a panel


# ---------------------------------------------------------------- measuring


def point(name: str, args: argparse.Namespace) -> dict[str, float]:
    """Median seconds of the work at a size, after a call that does not count, and its MB."""
    timing.set_threads(args.threads[0])
    work, clock, size = SERIES[name].make(args.point), timing.CLOCKS[args.clock], args.point
    before, seconds = timing.peak_memory(forget=True), []
    work()
    while len(seconds) < args.rounds and sum(seconds) < PATIENCE:
        start = clock()
        work()
        seconds.append(clock() - start)
    return {"size": size, "seconds": statistics.median(seconds),
            "megabytes": 1e3 * (timing.peak_memory() - before)}


def measured(name: str, args: argparse.Namespace) -> list[dict[str, float]]:
    """All points of a series, each from a new process."""
    points = []
    for size in SERIES[name].sizes[: 2 if args.quick else None]:
        flags = {"--only": name, "--point": size, "--threads": args.threads[0],
                 "--rounds": args.rounds, "--clock": args.clock}
        words = [str(word) for flag in flags.items() for word in flag]
        done = subprocess.run([sys.executable, Path(__file__).resolve(), *words],
                              stdout=subprocess.PIPE, encoding="utf-8", check=True)
        points.append(json.loads(done.stdout.splitlines()[-1]))
        print(f"{name} {size}: {timing.duration(points[-1]['seconds'])}, "
              f"{points[-1]['megabytes']:.0f} MB", file=sys.stderr, flush=True)
    return points


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The slope of the least-squares line through the last points in logarithms.

    Not a number where one of them is too small to have one.
    """
    pairs = list(zip(sizes, values))[-LAST:]
    if len(pairs) < 2 or min(value for _, value in pairs) <= 0:
        return math.nan
    x, y = zip(*((math.log(size), math.log(value)) for size, value in pairs))
    across = [each - statistics.mean(x) for each in x]
    return sum(a * b for a, b in zip(across, y)) / sum(a * a for a in across)


def fitted(series: Series, points: list[dict[str, float]]) -> dict:
    """A series with its exponents."""
    sizes = [each["size"] for each in points]
    megabytes = [each["megabytes"] for each in points]
    enough = [value if value >= LEAST else 0.0 for value in megabytes]
    return {"work": series.work, "axis": series.axis, "points": points,
            "time": exponent(sizes, [each["seconds"] for each in points]),
            "memory": exponent(sizes, enough)}


# ---------------------------------------------------------------- showing


def power(value: float) -> str:
    """An exponent in a table or a legend."""
    return "too little" if math.isnan(value) else f"{value:.2f}"


def table(found: list[dict]) -> str:
    """A line for each series: its largest work, what that cost, and the exponents."""
    lines = [f"{'work':32} {'largest':>8} {'time':>9} {'exponent':>10} {'memory':>9} "
             f"{'exponent':>10}  in"]
    for each in found:
        size, seconds, megabytes = each["points"][-1].values()
        lines.append(f"{each['work']:32} {size:8,} {timing.duration(seconds):>9} "
                     f"{power(each['time']):>10} {megabytes:6,.0f} MB "
                     f"{power(each['memory']):>10}  {each['axis']}")
    return "\n".join(lines)


def title(found: list[dict]) -> str:
    """What the picture shows: how much dearer twice the work is."""
    said = [f"{each['work']} ×{2 ** each['time']:.1f}" for each in found]
    lines = [", ".join(said[first : first + 4]) for first in range(0, len(said), 4)]
    return "Twice the work takes so many times as long:\n" + ",\n".join(lines)


def draw_panel(panel: Axes, chosen: list[dict], kind: str, key: str) -> None:
    """The curves of what grows along one axis; `kind` names the exponent, `key` the values."""
    for (style, colour), each in zip(LOOKS, chosen):
        sizes, values = zip(*((point["size"], point[key]) for point in each["points"]))
        panel.plot(sizes, values, style, color=colour, markersize=5,
                   label=f"{each['work']}: exponent {power(each[kind])}")
    ticks = sorted({point["size"] for each in chosen for point in each["points"]})
    panel.set_xscale("log", base=2)
    panel.set_yscale("log", nonpositive="mask")
    values = [point[key] for each in chosen for point in each["points"] if point[key] > 0]
    if values:
        panel.set_ylim(min(values) / 2, max(values) * 10)      # room for the legend
    panel.yaxis.set_major_formatter("{x:g}")
    panel.yaxis.set_minor_formatter("")
    panel.set_xticks(ticks, [f"{tick}" for tick in ticks], fontsize=8)
    panel.set(xlabel=chosen[0]["axis"], ylabel=key)
    panel.grid(color="0.9")
    panel.legend(fontsize=7, loc="upper left", framealpha=1)


def draw(found: list[dict], path: Path) -> None:
    """A column for each thing that grows: time above, memory below, both in logarithms."""
    axes = list(dict.fromkeys(each["axis"] for each in found))
    figure = Figure(figsize=(4 * max(len(axes), 2), 7.5), layout="constrained")
    for column, panels in enumerate(figure.subplots(2, len(axes), squeeze=False).T):
        chosen = [each for each in found if each["axis"] == axes[column]]
        draw_panel(panels[0], chosen, "time", "seconds")
        draw_panel(panels[1], chosen, "memory", "megabytes")
    figure.suptitle(title(found), fontsize=10)
    figure.savefig(path, dpi=110)


def main(argv: list[str] | None = None) -> int:
    """Measure, print the exponents, and draw."""
    parser = timing.parser(__doc__)
    parser.add_argument("--only", metavar="NAME", choices=SERIES, nargs="+", default=SERIES,
                        help="some of " + ", ".join(SERIES))
    parser.add_argument("--out", metavar="FILE", type=Path, help="draw the curves into it")
    parser.add_argument("--point", metavar="N", type=timing.count, help="of that size alone")
    args = timing.parse(parser, argv)
    if args.point:
        print(json.dumps(point(args.only[0], args)))
        return 0
    found = [fitted(SERIES[name], measured(name, args)) for name in args.only]
    print(table(found))
    if args.json:
        timing.write(args.json, found)
    if args.out:
        draw(found, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
