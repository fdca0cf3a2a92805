"""Ask a trained network: about a sample of its data, a table of your own, or a picture.

    python inference.py --image my_digit.jpg     # a digit, read by a network of digits
    python inference.py --index 7                # a sample of the test set
    python inference.py --csv new_rows.csv       # a prediction for every row
"""

# N samples, K classes, I inputs

import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import checkpoint
import console
import prepare
from data import NAMES, load, on_disk
from losses import softmax
from model import NAME, Network, build
from scaling import to_input
from table import read_table

PHOTO = Path(__file__).with_name("assets") / "photo.jpg"     # comes with the folder


def predict(network: Network, config: dict, x: np.ndarray) -> np.ndarray:
    """Probabilities (N, K) for inputs x (N, I) as they come, or predicted numbers (N, 1)."""
    outputs = network.forward(to_input(x, config)).astype(np.float64)
    if config["task"] == "classification":
        return softmax(outputs)                                            # (N, K)
    return outputs * config["target_std"] + config["target_mean"]          # (N, 1)


def in_words(prediction: np.ndarray, config: dict) -> str:
    """One prediction as people read it: the three best classes, or a number."""
    if config["task"] == "regression":
        return f"{prediction[0]:.4g}"
    best = prediction.argsort()[::-1][:3]
    return ", ".join(f"{config['classes'][k]} ({prediction[k]:.1%})" for k in best)


def picture(path: Path, config: dict) -> np.ndarray:
    """A photograph or drawing of a digit as the inputs (1, I) of a network of digits."""
    stages = prepare.stages(path)
    if config["data"] == "mnist":
        return np.round(255 * stages["centred by mass"]).reshape(1, -1)
    if config["data"] != "digits":
        raise console.Refusal(f"this network reads {config['data']}, not pictures of digits: "
                              "use --checkpoint pretrained.npz")
    ink = Image.fromarray(stages["cropped"])    # the embedded digits fill eight rows of pixels
    width = min(8, max(1, round(8 * ink.width / ink.height)))
    small = np.asarray(ink.resize((width, 8), Image.Resampling.BOX))
    left = (8 - width) // 2
    field = np.pad(small, ((0, 0), (left, 8 - width - left)))
    return np.round(16 * field / field.max()).reshape(1, -1)               # (1, 64)


def answer_table(network: Network, config: dict, path: Path) -> None:
    """Print a CSV with a prediction a row; columns are found by name, else by their order."""
    table, wanted = read_table(path), config["inputs"]
    known = set(wanted) & set(table.columns) if table.named else set()
    if known == set(wanted):
        chosen = [table.columns.index(name) for name in wanted]
    elif known:
        missing = next(name for name in wanted if name not in known)
        raise console.Refusal(f"{path} has no column {missing}: name all columns as in "
                              "training, or none")
    elif len(table.columns) - len(wanted) in (0, 1):        # the last may be what is predicted
        chosen = list(range(len(wanted)))
        if table.named:
            console.say("no column has a name from training: taking them in their order")
    else:
        raise console.Refusal(f"{path} has another number of columns ({len(table.columns)}) "
                              f"than the network reads ({len(wanted)}): "
                              f"{', '.join(wanted[:5])} …")
    predictions = predict(network, config, table.numbers(chosen))
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if config["task"] == "regression":
        writer.writerow(["prediction"])
        writer.writerows([f"{value:.6g}"] for value in predictions[:, 0])
    else:
        writer.writerow(["prediction", "probability"])
        writer.writerows([config["classes"][p.argmax()], f"{p.max():.4f}"] for p in predictions)


def answer_sample(network: Network, config: dict, name: str | None, data_dir: Path,
                  index: int) -> None:
    """Print what the network says of one test sample, and the truth."""
    if name is None:
        name = config["data"]
        if not on_disk(name, data_dir):
            raise console.Refusal(f"{name} is not on this disk: say where with --data-dir, or "
                                  "name another set with --data")
    data = load(name, data_dir, config["task"])
    if [data.inputs, data.classes] != [config["inputs"], config["classes"]]:
        raise console.Refusal(f"{name} has other columns or classes than the checkpoint: name "
                              "another set with --data, or another --checkpoint")
    if index >= len(data.test.y):
        raise console.Refusal(f"{name} has the test samples 0 to {len(data.test.y) - 1}")
    x, y = data.test.x[index : index + 1], data.test.y[index]
    truth = data.classes[y] if data.classes else f"{y[0]:.4g}"
    said = in_words(predict(network, config, x)[0], config)
    print(f"test sample {index} of {name}, {truth}: {said}")


@console.one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Load a checkpoint and answer one question with it."""
    parser = console.inference_parser("Ask a trained network.", devices=False)
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--image", metavar="FILE", type=Path, nargs="+",
                       help="pictures or photographs of one digit each")
    asked.add_argument("--csv", metavar="FILE", type=Path, help="a table of rows to predict")
    asked.add_argument("--index", metavar="N", type=console.natural,
                       help="sample N of the test set (default: 0; or a photograph)")
    console.add_data_flags(parser, NAMES, default=None)
    args = parser.parse_args(argv)
    network, config = checkpoint.open_model(args.checkpoint, NAME, build)
    no_question = args.index is None and args.data is None and not args.csv
    if no_question and config["data"] == "mnist" and not on_disk("mnist", args.data_dir):
        args.image = args.image or [PHOTO]
    if args.csv:
        answer_table(network, config, args.csv)
    elif args.image:
        for file in args.image:
            said = in_words(predict(network, config, picture(file, config))[0], config)
            print(f"{file}: {said}")
    else:
        answer_sample(network, config, args.data, args.data_dir, args.index or 0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
