"""Pictures of a trained network: what it learned, where it errs, how sure it is, and why.

    python visualize.py --index 0     # explain a test picture; everything lands in runs/
"""

# N pictures

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from torch import Tensor, nn

import checkpoint
import console
import devices
import explain
import pictures
from data import NAMES, Part, load_test, to_input
from generate_test_digits import STYLES, draw
from measures import calibration
from model import NAME, build
from strokes import DIGITS
from train import evaluate

POINTS = 1_000       # test pictures in the planes, drawn at random: t-SNE needs its time


@torch.no_grad()
def planes(model: nn.Module, config: dict, images: Tensor, seed: int) -> dict[str, np.ndarray]:
    """The 84 features of pictures in two planes (N, 2).

    PCA turns the 84 axes and keeps the two with most variance: a shadow, in which distances
    can only shrink. t-SNE keeps neighbours and gives up distances: read no gaps off it.
    """
    device = next(model.parameters()).device
    inputs = to_input(images.to(device), config["mean"], config["std"])
    features = model.features(model.maps(inputs)).cpu().numpy()        # (N, 84)
    pca = PCA(2).fit(features)
    share = pca.explained_variance_ratio_.sum()
    near = min(30.0, (len(features) - 1) / 3)
    tsne = TSNE(2, perplexity=near, init="pca", random_state=seed).fit_transform(features)
    return {f"PCA: {share:.0%} of the variance": pca.transform(features),
            "t-SNE: neighbours, not distances": tsne}


def explanations(model: nn.Module, config: dict, image: Tensor) -> tuple[int, dict]:
    """The answer to one picture (28, 28), and three maps of why, each beside its check."""
    device = next(model.parameters()).device
    inputs = to_input(image[None].to(device), config["mean"], config["std"])
    target = int(model(inputs).argmax())
    paper = -config["mean"] / config["std"]
    ways = {"saliency": explain.saliency, "Grad-CAM": explain.grad_cam,
            "occlusion": lambda *asked: explain.occlusion(*asked, paper)}
    found = {}
    for name, way in ways.items():
        pair = [way(network, inputs, target).cpu()
                for network in (model, explain.forgetful(model))]
        inside = [heat[4:-4, 4:-4] for heat in pair]      # Grad-CAM's margin is always empty
        found[name] = (*pair, explain.likeness(*inside))
    return target, found


@torch.no_grad()
def stages(model: nn.Module, config: dict, image: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """The maps of one picture (28, 28) at each stage, and the probabilities at the end."""
    device = next(model.parameters()).device
    inputs = to_input(image[None].to(device), config["mean"], config["std"])
    first = model.activation(model.norm1(model.conv1(inputs)))
    maps = model.maps(inputs)
    found = {"picture": image[None].float(), "first maps": first[0],
             "second maps": maps[0], "shrunk": F.max_pool2d(maps, 2)[0]}
    belief = model.probabilities(model.classify(maps))[0]
    return {name: stage.cpu() for name, stage in found.items()}, belief


def draw_all(model: nn.Module, config: dict, test: Part, index: int, seed: int,
             out: Path) -> list[str]:
    """Every picture that needs the network and the test set; the names of the files."""
    _, _, logits = evaluate(model, test, config)
    classes, image = config["classes"], test.images[index]
    pictures.draw_confusion(test.labels, logits, classes, out / "confusion.png")
    pictures.draw_mistakes(test, logits, classes, out / "mistakes.png")
    measured = calibration(logits.softmax(1), test.labels)
    pictures.draw_calibration(measured, out / "calibration.png")
    rng = np.random.default_rng(seed)
    some = torch.from_numpy(rng.permutation(len(test.labels))[:POINTS])
    pictures.draw_features(planes(model, config, test.images[some], seed), test.labels[some],
                           classes, out / "features.png")
    styles = {style: [np.asarray(draw(digit, style, rng)) for digit in DIGITS]
              for style in STYLES}
    pictures.draw_styles(styles, out / "styles.png")
    pictures.draw_filters(model, out / "filters.png")
    pictures.draw_maps(*stages(model, config, image), classes, out / "maps.png")
    target, found = explanations(model, config, image)
    title = f"why is this a {classes[target]}?"
    pictures.draw_explanations(image, found, title, out / "why.png")
    return ["confusion.png", "mistakes.png", "calibration.png", "features.png", "styles.png",
            "filters.png", "maps.png", "why.png"]


@console.one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Draw everything that can be seen of a trained network."""
    parser = console.inference_parser("Draw what a trained LeNet-5 has learned.")
    console.add_data_flags(parser, NAMES, default=None)
    parser.add_argument("--index", metavar="N", type=console.natural, default=0,
                        help="the test picture to follow and explain (default: 0)")
    args = parser.parse_args(argv)
    device = devices.choose(args.device)
    path = args.checkpoint or checkpoint.newest(Path(__file__).resolve().parent)
    model, config = checkpoint.open_model(path, NAME, build, device)
    name, test = load_test(config, args.data, args.data_dir)
    if args.index >= len(test.labels):
        raise console.Refusal(f"{name} has the test pictures 0 to {len(test.labels) - 1}")
    names = draw_all(model, config, test, args.index, args.seed, args.out)
    metrics = path.with_name("metrics.csv")
    if metrics.exists() and metrics.read_text(encoding="utf-8").count("\n") > 1:
        pictures.draw_curves(metrics, args.out / "loss.png")
        names.append("loss.png")
    print(f"wrote {', '.join(names)} to {console.from_here(args.out)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
