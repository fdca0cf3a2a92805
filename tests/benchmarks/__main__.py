"""All folders against their peers, each in a process of its own, and one table of the results.

    python -m tests.benchmarks                                # at the top of the repository
    python -m tests.benchmarks --only lenet gpt2 --threads 1 --rounds 7 --json found.json
    python -m tests.benchmarks --quick                        # a minute: does it run at all?

The scripts' own lines go to stderr, the table to stdout.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import timing  # noqa: E402

NAMES = ("backprop", "lenet", "lenet5", "alexnet", "transformer", "gpt2", "vae", "diffusion",
         "stable_diffusion")


def run(name: str, flags: list[str]) -> list[dict]:
    """The results of a script; none, and a line that says so, if it fails."""
    print(f"== {name}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "found.json"
        done = subprocess.run([sys.executable, HERE / f"{name}.py", *flags, "--json", path],
                              stdout=sys.stderr, env={**os.environ, "TQDM_DISABLE": "1"},
                              check=False)
        if done.returncode == 0:
            return timing.read(path)
    print(f"{name}.py has failed with {done.returncode}", file=sys.stderr, flush=True)
    return []


def main(argv: list[str] | None = None) -> int:
    """Run the scripts one after the other and print the table."""
    parser = timing.parser(__doc__)
    parser.add_argument("--only", metavar="NAME", choices=NAMES, nargs="+", default=NAMES,
                        help="some of " + ", ".join(NAMES))
    args = parser.parse_args(argv)
    flags = ["--clock", args.clock] + ["--quick"] * args.quick
    for name in ("rounds", "threads"):
        given = getattr(args, name)
        if given:
            flags += [f"--{name}", *map(str, given if name == "threads" else [given])]
    found = {name: run(name, flags) for name in args.only}
    records = [record for part in found.values() for record in part]
    print(timing.table(records))
    if args.json:
        timing.write(args.json, records)
    return 0 if all(found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
