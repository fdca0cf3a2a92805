"""The numbers in the READMEs' tables of results, from the commands that the READMEs name.

    python tests/results.py lenet_from_scratch               # run its commands
    python tests/results.py lenet_from_scratch --only 1998   # those that contain a word
    python tests/result_rows.py lenet_from_scratch           # the rows for the README

A folder's commands run in the order below in one copy of the folder, next to ../shared/data, so
that `evaluate.py` finds what `train.py` has trained. Each of them leaves a `results.json`, or a
benchmark its `--json`, and what is in it without the settings goes into `results.json` of the
folder, by command. Times in the tables are written by hand, and each README says of what
machine: those in a results.json are of whatever else it did, or even of pauses.
`test_results.py` holds that every row of a README is one that result_rows.py makes of these
numbers, or is listed in ELSEWHERE with the reason why it is not.
"""

import argparse
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
MNIST = "--data mnist --data-dir ../../shared/data"
LONG = "runs/long"                   # another run beside the first, read by what follows
SEEDS = range(3)
Found = dict[str, dict]              # numbers by command

# ---------------------------------------------------------------- the commands


def with_seeds(command: str, seeds: range = SEEDS) -> list[str]:
    """A command once for each seed."""
    return [f"{command} --seed {seed}" for seed in seeds]


COMMANDS = {
    "backprop_from_scratch": [
        *with_seeds("python train.py --data digits", range(10)),
        *with_seeds(f"python train.py {MNIST}"),
        "python tests/benchmarks/backprop.py --data-dir ../shared/data --threads 1",
    ],
    "lenet_from_scratch": [
        *with_seeds("python train.py --data digits"),
        *with_seeds("python train.py --data digits --variant 1998"),
        *with_seeds(f"python train.py {MNIST}"),
        *with_seeds(f"python train.py {MNIST} --variant 1998"),
        "python tests/benchmarks/lenet.py --data-dir ../shared/data --threads 1",
    ],
    "lenet5_from_scratch": [
        *with_seeds("python train.py --data digits"),
        *with_seeds(f"python train.py {MNIST}"),
        f"python ablation.py {MNIST} --epochs 4",
    ],
    "alexnet_from_scratch": [
        *with_seeds("python train.py", range(2)),
        *with_seeds("python train.py --data ../../shared/data/cifar10_subset"),
        "python ablation.py --data ../../shared/data/cifar10_subset --epochs 16 --width 0.25",
    ],
    "transformer_from_scratch": [
        *with_seeds("python train.py"),
        *with_seeds("python train.py --data hard"),
        *with_seeds("python train.py --data ../../shared/data/ag_news"),
        "python ablation.py --epochs 8",
    ],
    "gpt2_from_scratch": [
        "python train.py",
        "python train.py --dropout 0 --steps 7000",
        "python train.py --data shakespeare --data-dir ../../shared/data",
        "python train.py --preset shakespeare-gpu --data shakespeare "
        "--data-dir ../../shared/data",
    ],
    "vae_from_scratch": [
        "python evaluate.py --checkpoint pretrained.pt",
        f"python train.py {MNIST} --network mlp --no-binarise --latents 20 --epochs 10",
        f"python train.py {MNIST}",
        "python evaluate.py --data-dir ../../shared/data --samples 500 --count 2000",
        "python train.py --data ../../shared/data/pokemon",
        "python collapse.py",
    ],
    "diffusion_from_scratch": [
        "python evaluate.py --count 450 --checkpoint pretrained.pt",
        "python evaluate.py --count 450 --checkpoint pretrained.pt --guidance 1",
        f"python train.py {MNIST}",
        "python evaluate.py --data-dir ../../shared/data --count 2000 --guidance 0.2",
        "python ablation.py --steps 600",
        f"python train.py {MNIST} --predict x0 --steps 5500 --precision fp32 --out-dir {LONG}",
        f"python evaluate.py --checkpoint {LONG}/best.pt --data-dir ../../shared/data "
        "--count 2000 --guidance 0.2",
        f"python evaluate.py --checkpoint {LONG}/best.pt --data-dir ../../shared/data "
        "--count 2000 --guidance 1",
        f"python evaluate.py --checkpoint {LONG}/best.pt --data-dir ../../shared/data "
        "--count 10000 --guidance 0.2",
    ],
    "stable_diffusion_from_scratch": [
        "python evaluate.py --checkpoint pretrained.pt",
        "python train.py",
        "python evaluate.py",
    ],
}

# ---------------------------------------------------------------- running them


def machine() -> dict[str, object]:
    """What the numbers were measured with; Linux alone says which processor it is."""
    known = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", known.read_text()) if known.exists() else []
    gpu = {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    return {"threads": 1, "processor": (names or [platform.machine()])[0], **gpu,
            "python": platform.python_version(),
            **{name: version(name) for name in ("numpy", "torch")}}


def result_of(command: str, home: Path) -> dict:
    """Run a command on one thread in a copy of its folder; its results without settings."""
    words = shlex.split(command)[1:]
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    if words[0].startswith("tests/"):                  # a benchmark writes where it is told to
        path = home / "found.json"
        subprocess.run([sys.executable, *words, "--json", path], cwd=ROOT, env=alone,
                       check=True)
        return json.loads(path.read_text(encoding="utf-8"))["found"]
    subprocess.run([sys.executable, *words], cwd=home, env=alone, check=True)
    out = home / (words[words.index("--out-dir") + 1] if "--out-dir" in words else "runs")
    found = json.loads((out / "results.json").read_text(encoding="utf-8"))[words[0]]
    del found["settings"]
    return found


def read(folder: str) -> Found:
    """The numbers that were kept of a folder."""
    path = ROOT / folder / "results.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def keep(folder: str, command: str, numbers: dict) -> None:
    """Keep the numbers of a command; commands stay in the order of COMMANDS."""
    found = {**read(folder), command: {"machine": machine(), **numbers}}
    ordered = {name: found[name] for name in COMMANDS[folder] if name in found}
    text = json.dumps(ordered, indent=1, ensure_ascii=False) + "\n"
    (ROOT / folder / "results.json").write_text(text, encoding="utf-8")


def run_all(folder: str, only: str) -> None:
    """Run the commands of a folder that contain a word, and keep what they found."""
    with tempfile.TemporaryDirectory() as place:
        home = Path(place) / "project" / folder
        unwanted = shutil.ignore_patterns("runs", "data", "__pycache__", ".*")
        shutil.copytree(ROOT / folder, home, ignore=unwanted)
        (Path(place) / "shared").symlink_to(SHARED)
        for command in COMMANDS[folder]:
            if only in command:
                print(f"== {folder}: {command}", flush=True)
                keep(folder, command, result_of(command, home))


def main(argv: list[str] | None = None) -> int:
    """Run the commands of folders."""
    parser = argparse.ArgumentParser(description=main.__doc__, allow_abbrev=False)
    parser.add_argument("folders", metavar="FOLDER", nargs="+", choices=sorted(COMMANDS))
    parser.add_argument("--only", metavar="WORD", default="", help="commands that contain it")
    args = parser.parse_args(argv)
    for folder in args.folders:
        run_all(folder, args.only)
    return 0


if __name__ == "__main__":
    sys.exit(main())
