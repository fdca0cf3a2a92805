"""The rows of the READMEs' tables of results, made of the numbers that results.py has kept.

    python tests/result_rows.py lenet_from_scratch
"""

import argparse
import json
import math
import statistics
import sys
from collections.abc import Callable, Iterator

from results import COMMANDS, MNIST, ROOT, SEEDS, Found, read, with_seeds
from support import load

PEERS = {     # what the top README calls a pair of a benchmark: its folder, its work
    "epoch of a dense network, scikit-learn": ("backprop", "an epoch of 6,000 pictures"),
    "epoch of LeNet, the usual DataLoader loop": ("lenet", "an epoch of 6,000 pictures"),
    "AlexNet, training step, torchvision": ("alexnet", "training step, batch 16, 224 pixels"),
    "Transformer, training step, `nn.TransformerEncoder`":
        ("transformer", "training step, 2 layers, 64 channels, 32 texts of 20"),
    "the same, a larger one":
        ("transformer", "training step, 4 layers, 256 channels, 32 texts of 64"),
    "GPT-2, training step, transformers": ("gpt2", "training step, with biases"),
    "GPT-2 (124M), writing with a cache, transformers":
        ("gpt2", "writing 128 tokens after 32, 124M"),
    "epoch of a VAE, the usual DataLoader loop": ("vae", "an epoch of 11,000 pictures"),
    "diffusion, training step, denoising-diffusion-pytorch":
        ("diffusion", "training step, batch 64, as large"),
    "Stable Diffusion, U-Net with guidance, diffusers":
        ("stable_diffusion", "U-Net, batch 2, 256 pixels"),
}


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


def beside_peers() -> list[dict]:
    """The speeds that `python -m tests.benchmarks --json` has kept, by pair."""
    path = ROOT / "tests" / "benchmarks" / "results.json"
    return json.loads(path.read_text(encoding="utf-8"))["records"]


def spread_of(record: dict) -> str:
    """A ratio with the lowest and the highest of its rounds."""
    return "{ratio:.2f} ({low:.2f} to {high:.2f})".format(**record)


def backprop(found: Found) -> Iterator[str]:
    """MNIST, the digits, and beside peers."""
    bench = found["python tests/benchmarks/backprop.py --data-dir ../shared/data --threads 1"]
    mnist = column(found, f"python train.py {MNIST}", "test_score")
    digits = column(found, "python train.py --data digits", "test_score", range(10))
    yield (f"| MNIST, 784-300-100-10, seeds 0, 1, 2 | {listed(mnist, 2)}, mean "
           f"{percent(statistics.mean(mnist))}, 35 s a run (up to 95 s beside other work) | - "
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
    epoch, step = (each for each in beside_peers() if each["folder"] == "backprop")
    yield (f"| an epoch of 6,000 pictures, 784-300-100-10, Adam, float32 | {epoch['ours']:.2f} "
           f"s | `MLPClassifier` {epoch['theirs']:.2f} s; ratio {spread_of(epoch)} |")
    yield (f"| a step on 100 moons, 2-16-16-1 | {1e3 * step['ours']:.3f} ms | micrograd "
           f"{step['theirs']:.2f} s; ratio {step['ratio']:,.0f} ({step['low']:,.0f} to "
           f"{step['high']:,.0f}) |")
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
            ("MNIST", MNIST, "5 min", "99.05 %, 99.2 % with distortions"),
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
        if errors:                                     # dropout is no part of MNIST's recipe
            yield f"| {name} | {spread(errors, 2)} |"


def alexnet(found: Found) -> Iterator[str]:
    """Drawn shapes and small photographs, and what each part is good for."""
    cifar = "python train.py --data ../../shared/data/cifar10_subset"
    for command, seeds, name, trained, network, time in (
            ("python train.py", range(2), "drawn shapes", "4,000",
             "112 pixels, width 0.25, 1,475,690 parameters", "4 min 4 s"),
            (cifar, SEEDS, "subset of CIFAR-10", "3,600",
             "28 pixels, width 0.375, 3,293,914 parameters", "8 min 25 s")):
        if with_seeds(command, seeds)[-1] not in found:
            continue
        one, ten = (listed(column(found, command, error, seeds), 1)
                    for error in ("test_error", "ten_crops_error"))
        epochs = found[with_seeds(command)[0]]["epochs"]
        yield (f"| {name}, `{command}` | {trained} | {network} | {epochs} epochs, {time} | "
               f"{one} | {ten} |")
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
    """Two texts beside counting."""
    for command, name, time in zip(
            COMMANDS["gpt2_from_scratch"],
            ("Python's reference (3.11)", "the same", "Tiny Shakespeare",
             "the same, on an H200"),
            ("6 min 23 s", "3 min 40 s", "7 min 45 s", "2 min 6 s")):
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
             "52 s"),
            (MNIST, "10,000", "python evaluate.py --data-dir ../../shared/data --samples 500 "
             "--count 2000", "6 min 34 s"),
            ("--data ../../shared/data/pokemon", "132", "", "33 s")):
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

    without, guided, _, mnist, ablation, _, *long, longest = COMMANDS["diffusion_from_scratch"]
    yield row("embedded digits, w = 0", found[without]["drawn"])
    yield row("embedded digits, w = 1", found[guided]["drawn"])
    yield row("450 real ones, of the training set", found[without]["real"])
    if mnist in found:
        yield row("MNIST, w = 0.2", found[mnist]["drawn"])
        yield row("2,000 real ones", found[mnist]["real"])
    if longest in found:
        for weight, command in zip(("0.2", "1"), long):
            name = f"MNIST, 5,500 steps predicting x0, w = {weight}"
            yield row(name, found[command]["drawn"])
    if ablation in found:
        yield from diffusion_ablation(found[ablation]["rows"])


def diffusion_ablation(rows: dict[str, dict[str, float]]) -> Iterator[str]:
    """Three changes beside each other: of the training, of its times, of the drawing."""
    names = {
        "nothing": "nothing", "predict-x0": "predict `x0`", "predict-noise": "predict `noise`",
        "min-snr": "`--gamma 5`", "linear": "`linear`", "200-times": "`linear`, 200 times",
        "200-times-unscaled": "`unscaled`, 200 times", "from-0-to-1": "pixels from 0 to 1",
        "no-ema": "last weights, no EMA", "no-clipping": "no clipping",
        "ddim-10-steps": "DDIM in 10 steps", "ddpm-50-steps": "DDPM in 50 steps"}
    cells = [f"{shown} | {rows[name]['distance']:.4f} | {percent(rows[name]['as_asked'], 1)}"
             for name, shown in names.items()]
    for three in zip(cells[:4], cells[4:8], cells[8:]):
        yield f"| {' | '.join(three)} |"


def stable_diffusion(found: Found) -> Iterator[str]:
    """Speed, and how often drawings are as asked, of both models."""
    speeds = [each for each in beside_peers() if each["folder"] == "stable_diffusion"]
    yield ("| speed, published size, 256 pixels: U-Net with guidance; decoding; a whole step | "
           f"diffusers | {'; '.join(map(spread_of, speeds))} | "
           "tests/benchmarks/stable_diffusion.py |")

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


def front() -> Iterator[str]:
    """The top README's table of speeds beside peers; the first peer of a work counts."""
    ratios = {(each["folder"], each["work"]): spread_of(each)
              for each in reversed(beside_peers())}
    cells = [f"{name} | {ratios[pair]}" for name, pair in PEERS.items()]
    for left, right in zip(cells[:5], cells[5:]):
        yield f"| {left} | {right} |"


def figures() -> Iterator[str]:
    """What the top README says that each folder reaches, beside what others do."""
    found = {folder: read(folder) for folder in COMMANDS}

    def mean(folder: str, command: str, name: str, seeds: range = SEEDS) -> float:
        return statistics.mean(column(found[folder], f"python train.py{command}", name, seeds))

    numbers = found["backprop_from_scratch"]
    bench = numbers["python tests/benchmarks/backprop.py --data-dir ../shared/data --threads 1"]
    digits = mean("backprop_from_scratch", " --data digits", "test_score", range(10))
    yield (f"digits: {percent(digits, 1)} right; scikit-learn's MLP "
           f"{percent(bench['digits_of_sklearn'], 1)}")
    classic, paper = (mean("lenet_from_scratch", f" {MNIST}{variant}", "test_error")
                      for variant in ("", " --variant 1998"))
    yield f"MNIST: {percent(classic)} wrong, the paper's own network {percent(paper)}"
    yield f"MNIST: {percent(mean('lenet5_from_scratch', f' {MNIST}', 'test_error'))} wrong"
    shapes = mean("alexnet_from_scratch", "", "test_error", range(2))
    photographs = mean("alexnet_from_scratch", " --data ../../shared/data/cifar10_subset",
                       "test_error")
    yield (f"shapes: {percent(shapes, 1)} wrong, CIFAR-10 after 3,600 pictures "
           f"{percent(photographs, 1)}")
    rights = column(found["transformer_from_scratch"], "python train.py --data hard",
                    "test_accuracy")
    ours, linear = (statistics.mean(each[name] for each in rights)
                    for name in ("this network", "logistic regression"))
    yield f"{percent(ours, 1)} right; linear model {percent(linear, 1)}"
    text = found["gpt2_from_scratch"][COMMANDS["gpt2_from_scratch"][2]]
    yield (f"Shakespeare: {text['character']:.3f} nats a character; counting five characters "
           f"{text['counting']['5-gram']:.3f}")
    codes = found["vae_from_scratch"]["python evaluate.py --checkpoint pretrained.pt"]
    yield (f"creatures: {codes['psnr']:.1f} dB; PCA with as many numbers "
           f"{codes['pca_psnr']:.1f} dB")
    _, _, _, short, _, _, long, *_ = (found["diffusion_from_scratch"][command] for command in
                                      COMMANDS["diffusion_from_scratch"])
    yield (f"MNIST: Fréchet distance {short['drawn']['distance']:.4f}; with 5,500 steps, on a "
           f"GPU, {long['drawn']['distance']:.4f}; real digits {short['real']['distance']:.4f}")
    right = found["stable_diffusion_from_scratch"]["python evaluate.py"]["right"]
    yield f"as asked in {percent(right['as asked']['both'], 1)} of drawings"


ROWS: dict[str, Callable[[Found], Iterator[str]]] = {
    f"{make.__name__}_from_scratch": make
    for make in (backprop, lenet, lenet5, alexnet, transformer, gpt2, vae, diffusion,
                 stable_diffusion)}


def main(argv: list[str] | None = None) -> int:
    """Print the rows of folders, as far as their commands were run."""
    parser = argparse.ArgumentParser(description=main.__doc__, allow_abbrev=False)
    parser.add_argument("folders", metavar="FOLDER", nargs="+", choices=sorted(ROWS))
    for folder in parser.parse_args(argv).folders:
        try:
            for row in ROWS[folder](read(folder)):
                print(row)
        except KeyError as missing:
            print(f"{folder}: {missing} was not run, so there are no more rows")
    return 0


if __name__ == "__main__":
    sys.exit(main())
