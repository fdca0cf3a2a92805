"""Read digits with a trained LeNet-5.

    python inference.py --image my_photo.jpg another.png
    python inference.py --index 7            # a picture of the test set
    python inference.py --test               # the error on the whole test set
"""

# K classes

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

import checkpoint
import console
import devices
import pictures
import prepare
from data import NAMES, load_test, to_input
from model import NAME, LeNet1998, build
from train import evaluate


@torch.no_grad()
def answer(model: nn.Module, config: dict, image: np.ndarray) -> tuple[str, dict]:
    """The three best classes of a picture (28, 28) in words, and (1998) what F6 drew of it."""
    device = next(model.parameters()).device
    pixels = torch.from_numpy(image)[None].to(device)
    inputs = to_input(pixels, config["mean"], config["std"])
    belief = model.probabilities(model(inputs))[0]                     # (K,)
    best = belief.topk(min(3, len(belief)))
    names = [config["classes"][i] for i in best.indices]
    words = ", ".join(f"{name} ({p:.1%})" for name, p in zip(names, best.values))
    if not isinstance(model, LeNet1998):
        return words, {}
    pair = model.draw(inputs)[0], model.output.centres[best.indices[0]]
    drawn, target = (units.view(12, 7).cpu().numpy() for units in pair)
    return words, {"F6 draws": drawn, f"target of {names[0]}": target}


def read_files(model: nn.Module, config: dict, files: list[Path], out: Path) -> int:
    """Answer each file and draw its preparation; 1 if any file could not be read, else 0."""
    failures = 0
    for number, file in enumerate(files):
        try:
            stages = prepare.stages(file)
        except (ValueError, OSError) as error:
            console.say(f"error: {error}")
            failures += 1
            continue
        image = np.round(255 * stages["centred by mass"]).astype(np.uint8)
        words, drawings = answer(model, config, image)
        strip = out / f"{file.stem}_{number}.png"
        pictures.draw_strip({**stages, **drawings}, words, strip)
        print(f"{file}: {words}; drawn in {console.from_here(strip)}")
    return int(failures > 0)


@console.one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Load a checkpoint and answer one question with it."""
    parser = console.inference_parser("Read digits with a trained LeNet-5.")
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--image", metavar="FILE", type=Path, nargs="+",
                       help="pictures or photographs of one digit each")
    asked.add_argument("--index", metavar="N", type=console.natural, default=0,
                       help="picture N of the test set (default: %(default)s)")
    asked.add_argument("--test", action="store_true", help="the error on the whole test set")
    console.add_data_flags(parser, NAMES, default=None)
    args = parser.parse_args(argv)
    device = devices.choose(args.device)
    model, config = checkpoint.open_model(args.checkpoint, NAME, build, device)
    if args.image:
        return read_files(model, config, args.image, args.out)
    name, test = load_test(config, args.data, args.data_dir)
    if args.test:
        loss, error, _ = evaluate(model, test, config)
        print(f"test error {error:.2%}, loss {loss:.4f}, on {len(test.labels):,} pictures of "
              f"{name}")
        return 0
    if args.index >= len(test.labels):
        raise console.Refusal(f"{name} has the test pictures 0 to {len(test.labels) - 1}")
    image = test.images[args.index].numpy()
    words, drawings = answer(model, config, image)
    strip = args.out / f"test_{args.index}.png"
    pictures.draw_strip({"test picture": image / 255, **drawings}, words, strip)
    truth = config["classes"][test.labels[args.index]]
    print(f"test picture {args.index} of {name}, a {truth}: {words}; drawn in "
          f"{console.from_here(strip)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
