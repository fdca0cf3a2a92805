"""The numbers in the READMEs' tables of results, from the commands that the READMEs name.

    python tests/results.py lenet_from_scratch               # run its commands
    python tests/results.py lenet_from_scratch --only 1998   # those that contain a word
    python tests/results.py lenet_from_scratch --show        # the rows for the README

A folder's commands run in the order below in one copy of the folder, next to ../shared/data, so
that `evaluate.py` finds what `train.py` has trained. Each of them leaves a `results.json`, or a
benchmark its `--json`, and what is in it without the settings goes into `results.json` of the
folder, by command. Times in the tables are of idle machines and written by hand: those in a
results.json are of whatever else the machine did. `test_results.py` holds that every row of a
README is one that is made here of these numbers, or is listed in ELSEWHERE with the reason why
it is not.
"""

import argparse
import json
import math
import os
import platform
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

from support import load

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
MNIST = "--data mnist --data-dir ../../shared/data"
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
    return {"threads": 1, "processor": (names or [platform.machine()])[0],
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
    found = json.loads((home / "runs" / "results.json").read_text(encoding="utf-8"))[words[0]]
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


# ---------------------------------------------------------------- the rows of the READMEs


def percent(value: float, digits: int = 2, sign: str = " %") -> str:
    """A share as it stands in a table."""
    return f"{100 * value:.{digits}f}{sign}"


def listed(values: list[float], digits: int, sign: str = " %") -> str:
    """Shares one after the other."""
    return ", ".join(percent(value, digits, "") for value in values) + sign


def column(found: Found, command: str, name: str, seeds: range = SEEDS) -> list[float]:
    """The same number of all seeds."""
    return [found[each][name] for each in with_seeds(command, seeds)]


def spread(values: list[float], digits: int) -> str:
    """Three columns in percent: each value, the mean, the standard deviation."""
    mean = percent(statistics.mean(values), digits, "")
    deviation = percent(statistics.stdev(values), digits, "") if len(values) > 1 else "-"
    return f"{listed(values, digits, '')} | {mean} | {deviation}"


def backprop(found: Found) -> Iterator[str]:
    """MNIST, the digits, and beside peers."""
    bench = found["python tests/benchmarks/backprop.py --data-dir ../shared/data --threads 1"]
    mnist = column(found, f"python train.py {MNIST}", "test_score")
    digits = column(found, "python train.py --data digits", "test_score", range(10))
    yield (f"| MNIST, 784-300-100-10, seeds 0, 1, 2 | {listed(mnist, 2)}, mean "
           f"{percent(statistics.mean(mnist))}, 35 s a run (up to 56 s beside other work) | - "
           "|")
    yield (f"| digits, 450 of 1,797 to test, seeds 0 to 9 | {percent(min(digits), 2, '')} to "
           f"{percent(max(digits))}, mean {percent(statistics.mean(digits))}, 5 s a run "
           "| `MLPClassifier`, its defaults, also on the 147 to validate: "
           f"{percent(bench['digits_of_sklearn'])} |")
    yield (f"| diabetes, R² of the last weights, mean of 20 seeds | {bench['diabetes']:.3f} | "
           f"`MLPRegressor`, same network and recipe, {bench['diabetes_of_sklearn']:.3f} |")
    solved = ", ".join(str(bench["xor"][name]) for name in ("relu", "sigmoid", "tanh"))
    yield (f"| XOR solved, of 100 seeds each: ReLU, sigmoid, tanh | {solved}; 0.01, 0.02, "
           "0.004 s a seed | - |")
    for steps, share in (("129", "1"), ("1,290", "10"), ("12,900", "100")):
        accuracy = bench["accuracy_after"][steps.replace(",", "")]
        yield f"| {share} % | {steps} | {percent(accuracy)} |"


def lenet(found: Found) -> Iterator[str]:
    """Both networks on both data sets, and how soon."""
    digits = "digits, 450 of 1,797 to test"
    for variant, name, flags, time, paper in (
            ("classic", "MNIST", MNIST, "60 to 73 s", "-"),
            ("1998", "MNIST", f"{MNIST} --variant 1998", "about 2.5 min", "0.95 %"),
            ("classic", digits, "--data digits", "13 s", "-"),
            ("1998", digits, "--data digits --variant 1998", "20 s", "-")):
        errors = column(found, f"python train.py {flags}", "test_error")
        each = " | ".join(map(percent, errors))
        yield (f"| {variant} | {name} | {each} | {percent(1 - statistics.mean(errors))} | "
               f"{time} | {paper} |")
    bench = found["python tests/benchmarks/lenet.py --data-dir ../shared/data --threads 1"]
    for steps, share in (("172", "1"), ("1,720", "10"), ("17,200", "100")):
        error = bench["error_after"][steps.replace(",", "")]
        yield f"| {share} % | {steps} | {percent(error)} |"


def lenet5(found: Found) -> Iterator[str]:
    """Both data sets beside the mould, and what each part is good for."""
    mould = read("lenet_from_scratch")
    for name, data, time, paper in (
            ("MNIST", MNIST, "about 7 min", "99.05 %, 99.2 % with distortions"),
            ("digits, 450 of 1,797 to test", "--data digits", "19 to 27 s", "-")):
        command = f"python train.py {data}"
        if with_seeds(command)[-1] not in found:
            continue
        errors = column(found, command, "test_error")
        before = 1 - statistics.mean(column(mould, command, "test_error"))
        each = " | ".join(map(percent, errors))
        yield (f"| {name} | {each} | {percent(1 - statistics.mean(errors))} | {time} | "
               f"{percent(before)} | {paper} |")
    ablation = found.get(COMMANDS["lenet5_from_scratch"][-1], {"test_error": {}})
    for name, errors in ablation["test_error"].items():
        yield f"| {name} | {spread(errors, 2)} |"


def alexnet(found: Found) -> Iterator[str]:
    """What each part is good for."""
    ablation = found.get(COMMANDS["alexnet_from_scratch"][-1], {"test_error": {}})
    for name, errors in ablation["test_error"].items():
        yield f"| {name} | {spread(errors, 1)} |"


def transformer(found: Found) -> Iterator[str]:
    """Three data sets beside linear models, and what each part is good for."""
    for name, command, trained, tested, time in (
            ("drawn sentences", "python train.py", "3,000", 1000, "30 s"),
            ("order of words", "python train.py --data hard", "3,000", 1000, "2 min"),
            ("AG News rows", "python train.py --data ../../shared/data/ag_news", "2,880", 600,
             "3 min")):
        if with_seeds(command)[-1] not in found:
            continue
        each = column(found, command, "test_accuracy")
        network = listed([rights["this network"] for rights in each], 1)
        right = round(each[0]["this network"] * tested)
        low, high = load("transformer_from_scratch").measures.wilson(right, tested)
        linear, bayes = (percent(each[0][peer], 1)
                         for peer in ("logistic regression", "naive Bayes"))
        line = (f"| {name}, `{command}` | {trained} | {network} ({percent(low, 1, '')} to "
                f"{percent(high, 1, '')}) | {linear} | {bayes} | {time} |")
        yield line.replace("100.0", "100")
    ablation = found.get(COMMANDS["transformer_from_scratch"][-1], {"test_accuracy": {}})
    for name, values in ablation["test_accuracy"].items():
        if len(values) == 1:
            name += " on one to three words in a row"
            right = percent(values[0], 1, "")
            yield f"| {name} | {right} | {right} | - |"
        else:
            yield f"| {name} | {spread(values, 1)} |"


def gpt2(found: Found) -> Iterator[str]:
    """Three texts beside counting."""
    for command, name, time in zip(
            COMMANDS["gpt2_from_scratch"],
            ("Python's reference (3.11)", "the same", "Tiny Shakespeare"),
            ("6 min 23 s", "3 min 40 s", "7 min 45 s")):
        if command not in found:
            continue
        run, shown = found[command], command.replace(" --data-dir ../../shared/data", "")
        counted = ", ".join(f"{run['counting'][each]:.3f}" for each in ("3-gram", "5-gram"))
        nats = run["character"]
        yield (f"| {name}, `{shown}` | {nats:.3f} | {nats / math.log(2):.3f} | {counted} | "
               f"{time} |")


def vae(found: Found) -> Iterator[str]:
    """Creatures, other pictures, and the collapse."""
    first = found["python evaluate.py --checkpoint pretrained.pt"]
    least = min(first["probes"], key=first["probes"].get)
    worst = min(first["succeeds_each"], key=first["succeeds_each"].get)
    yield (f"| PSNR, ours and PCA with as many numbers (32) | {first['psnr']:.2f} dB and "
           f"{first['pca_psnr']:.2f} dB |")
    yield (f"| linear probe of the seven attributes, mean | {percent(first['probe'], 1)} "
           f"(least: {least}, {percent(first['probes'][least], 1)}) |")
    yield f"| hue, circular R² | {first['hue_r2']:.3f} |"
    yield (f"| attribute arithmetic: succeeds, of what else there is changes | "
           f"{percent(first['succeeds'], 1)}, {percent(first['collateral'], 1)} (worst value: "
           f"{worst}, {percent(first['succeeds_each'][worst], 1)}) |")
    yield (f"| copies of training pictures among 2,000 samples | {first['copies']}: the "
           f"nearest is {first['nearest']:.1f} grey levels a pixel away, what comes back of a "
           f"training picture {first['redrawn']:.1f} |")
    yield (f"| KL, active units, σ | {first['kl']:.2f} nats, {first['active']} of 32, "
           f"{first['sigma']:.4f} |")
    train = "python train.py "
    for flags, count, sampled, time in (
            (f"{MNIST} --network mlp --no-binarise --latents 20 --epochs 10", "10,000", "",
             "3 min 24 s"),
            (MNIST, "10,000", "python evaluate.py --data-dir ../../shared/data --samples 500 "
             "--count 2000", "6 min 34 s"),
            ("--data ../../shared/data/pokemon", "132", "", "2 min 10 s")):
        if train + flags not in found:
            continue
        run, shown = found[train + flags], flags.replace(" --data-dir ../../shared/data", "")
        likelihood = (f" {found[sampled]['log_likelihood']:.2f} ± "
                      f"{found[sampled]['standard_error']:.2f} (2,000 of them, `evaluate.py "
                      "--samples 500 --count 2000`)" if sampled else "")
        yield (f"| `{shown}` | {count} | {run['cost']:.2f} |{likelihood} | {run['psnr']:.2f}, "
               f"{run['pca_psnr']:.2f} dB | {time} |")
    names = ("β = 4", "β = 1", "β rising to 4 until the last step",
             "β = 4, 0.1 free nats for each latent")
    for name, run in zip(names, found["python collapse.py"]["runs"].values()):
        yield f"| {name} | {run['cost']:.2f} | {run['kl']:.2f} | {run['active']} |"


def diffusion(found: Found) -> Iterator[str]:
    """Drawn digits beside real ones, and what each part is good for."""
    def row(name: str, quality: dict) -> str:
        return (f"| {name} | {quality['distance']:.4f} | {quality['precision']:.3f} | "
                f"{quality['recall']:.3f} | {percent(quality['as_asked'], 1)} |")

    without, guided, _, mnist, _ = COMMANDS["diffusion_from_scratch"]
    yield row("embedded digits, w = 0", found[without]["drawn"])
    yield row("embedded digits, w = 1", found[guided]["drawn"])
    yield row("450 real ones, of the training set", found[without]["real"])
    if mnist in found:
        yield row("MNIST, w = 0.2", found[mnist]["drawn"])
        yield row("2,000 real ones", found[mnist]["real"])


def stable_diffusion(found: Found) -> Iterator[str]:
    """How often drawings are as asked, of both models."""
    def cell(command: str, name: str, what: str) -> str:
        """A share in percent, or whatever stands there if the command was not run again."""
        known = command in found
        return percent(found[command]["right"][name][what], 1, "") if known else "§"

    fine, _, small = COMMANDS["stable_diffusion_from_scratch"]
    rows = {"real pictures, 500": "real pictures",
            "real, captions shuffled": "real, captions shuffled",
            "real, through the autoencoder": "real, through the autoencoder",
            "**as asked**": "as asked", "without a prompt": "without a prompt",
            "held-out pairs": "held-out pairs", "two things, related": "two things, related"}
    for name, key in rows.items():
        cells = [cell(each, key, what) for each in (small, fine)
                 for what in ("colour", "shape", "both")]
        yield f"| {name} | {' | '.join(cells)} |"
    every = [cell(each, "two things, related", "everything") for each in (small, fine)]
    yield f'| two things, with the relation ("everything") | | | {every[0]} | | | {every[1]} |'


ROWS: dict[str, Callable[[Found], Iterator[str]]] = {
    f"{make.__name__}_from_scratch": make
    for make in (backprop, lenet, lenet5, alexnet, transformer, gpt2, vae, diffusion,
                 stable_diffusion)}


def main(argv: list[str] | None = None) -> int:
    """Run the commands of folders, or print their rows."""
    parser = argparse.ArgumentParser(description=main.__doc__, allow_abbrev=False)
    parser.add_argument("folders", metavar="FOLDER", nargs="+", choices=sorted(COMMANDS))
    parser.add_argument("--only", metavar="WORD", default="", help="commands that contain it")
    parser.add_argument("--show", action="store_true", help="print the rows, run nothing")
    args = parser.parse_args(argv)
    for folder in args.folders:
        if not args.show:
            run_all(folder, args.only)
        else:
            try:
                for row in ROWS[folder](read(folder)):
                    print(row)
            except KeyError as missing:
                print(f"{folder}: {missing} was not run, so there are no more rows")
    return 0


if __name__ == "__main__":
    sys.exit(main())
