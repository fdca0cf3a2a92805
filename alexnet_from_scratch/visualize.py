"""Pictures of a trained network: its filters, what it makes of a picture, what it mixes up.

    python visualize.py --index 3            # with a test picture; everything lands in runs/
    python visualize.py --image cat.jpg --weights torchvision
"""

# B pictures in a batch, C channels, F features, H height, W width, S side of a picture

import sys
from pathlib import Path

import torch
from torch import Tensor

import checkpoint
import console
import devices
import pictures
from augment import STRENGTH, Draws, centre_crop, colour_axes, crop, draw, shift_colour
from data import NAMES, SHAPES, Data, load, on_disk, stored_side
from evaluation import probabilities
from inputs import to_input
from model import NAME, AlexNet, build
from parts import Part, spread
from published import open_published
from reading import read_square

EIGHT, FIVE = 8, 5        # test pictures whose answers are shown, and whose neighbours
NEAREST = 6               # neighbours of each, as in the paper
SEARCHED = 1_000          # training pictures among which neighbours are searched
SOME = 100                # test pictures of which the eight are taken


@torch.no_grad()
def stages(model: AlexNet, config: dict, square: Tensor) -> dict[str, Tensor]:
    """The five sets of maps (C, H, W) that a stored picture (3, S, S) becomes."""
    device = next(model.parameters()).device
    crops = centre_crop(square, config["image_size"])[None].float()
    maps = model.maps(to_input(crops.to(device), config))
    return {f"conv{number}": found[0].cpu() for number, found in enumerate(maps, start=1)}


def views(square: Tensor, axes: Tensor, size: int, seed: int) -> dict[str, list[Tensor]]:
    """What each part of augmentation makes of one stored picture (3, S, S), eight times."""
    many = square[None].expand(EIGHT, -1, -1, -1)
    drawn = draw(EIGHT, square.size(-1) - size, seed)
    middle = torch.full_like(drawn.top, (square.size(-1) - size) // 2)
    still = Draws(middle, middle, torch.zeros_like(drawn.flip), torch.zeros_like(drawn.light))
    crops = crop(many, still, size).float()
    kinds = {
        "crop": crop(many, drawn._replace(flip=still.flip), size).float(),
        "reflection": crop(many, still._replace(flip=drawn.flip), size).float(),
        "colour": shift_colour(crops, drawn, axes, strength=STRENGTH),
        "colour × 5": shift_colour(crops, drawn, axes, strength=5 * STRENGTH),
        "all": shift_colour(crop(many, drawn, size).float(), drawn, axes, strength=STRENGTH),
    }
    return {"picture": [square.float()], **{name: list(made) for name, made in kinds.items()}}


@torch.no_grad()
def features(model: AlexNet, config: dict, part: Part) -> Tensor:
    """What the last hidden layer says of the pictures of a part, (B, F)."""
    device, found = next(model.parameters()).device, []
    for images, _ in part.stream(torch.arange(len(part.labels)).split(100)):
        crops = centre_crop(images.to(device), config["image_size"]).float()
        found.append(model.features(model.maps(to_input(crops, config))[-1]).cpu())
    return torch.cat(found)                                            # (B, F)


def neighbours(model: AlexNet, config: dict, shown: Part, searched: Part) -> list[list[Tensor]]:
    """Each picture of `shown`, then those of `searched` whose features are nearest."""
    distances = torch.cdist(features(model, config, shown), features(model, config, searched))
    nearest = distances.topk(NEAREST, largest=False).indices
    return [[picture, *searched.images[row]] for picture, row in zip(shown.images, nearest)]


def load_set(config: dict, name: str | None, data_dir: Path, index: int) -> Data | None:
    """The set that a model was trained on, or the one that is named; None if it is not here."""
    if name is None and not on_disk(config["data"], data_dir):
        return None
    data = load(name or config["data"], data_dir, config["image_size"], config.get("seed", 0),
                counts=(SEARCHED, 10, min(max(index + 1, SOME), SHAPES[2])))
    if data.classes != config["classes"]:
        raise console.Refusal(f"the model knows other classes than {data.name} has: say --data "
                              "with the same, or leave it out")
    return data


def draw_set(model: AlexNet, config: dict, data: Data, out: Path) -> list[str]:
    """Eight test pictures with answers, five with their neighbours; the names of the files."""
    among = spread(len(data.test.labels), SOME)
    order = torch.randperm(len(among), generator=torch.Generator().manual_seed(0))
    images, labels = data.test.take(among[order[:EIGHT]])
    device = next(model.parameters()).device
    beliefs = probabilities(model, images.to(device), config).cpu()
    pictures.draw_answers(images, beliefs, labels, data.classes, out / "answers.png")
    shown = Part(images[:FIVE], labels[:FIVE], data.test.side)
    searched = data.train.take(spread(len(data.train.labels), SEARCHED))
    searched = Part(*searched, data.train.side)
    pictures.draw_neighbours(neighbours(model, config, shown, searched), out / "neighbours.png")
    return ["answers.png", "neighbours.png"]


def draw_picture(model: AlexNet, config: dict, square: Tensor, seed: int,
                 out: Path) -> list[str]:
    """What a stored picture (3, S, S) becomes in the network and in training."""
    axes = config.get("colour_axes", colour_axes(square[None].float()))
    pictures.draw_maps(stages(model, config, square), out / "maps.png")
    pictures.draw_views(views(square, axes, config["image_size"], seed), out / "augment.png")
    return ["maps.png", "augment.png"]


@console.one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Draw everything that can be seen of a trained network."""
    parser = console.inference_parser("Draw what a trained AlexNet has learned.")
    console.add_data_flags(parser, NAMES, default=None)
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--index", metavar="N", type=console.natural, default=0,
                       help="the test picture to follow (default: 0)")
    asked.add_argument("--image", metavar="PATH", type=Path, help="a picture of yours instead")
    parser.add_argument("--weights", metavar="torchvision|PATH",
                        help="torchvision's published weights, fetched or from a file")
    args = parser.parse_args(argv)
    device, metrics = devices.choose(args.device), None
    if args.weights:
        model, config = open_published(args.weights, args.data_dir, device)
    else:
        path = args.checkpoint or checkpoint.newest(Path(__file__).resolve().parent)
        model, config = checkpoint.open_model(path, NAME, build, device)
        metrics = path.with_name("metrics.csv")
    data = load_set(config, args.data, args.data_dir, args.index)
    if args.image:
        square = read_square(args.image, stored_side(config["image_size"]))
    elif data is None:
        raise console.Refusal(f"{config['data']} is not on this disk: say --image, or --data")
    elif args.index >= len(data.test.labels):
        raise console.Refusal(f"{data.name} has the test pictures 0 to "
                              f"{len(data.test.labels) - 1}")
    else:
        square = data.test.one(args.index)
    names = draw_picture(model, config, square, args.seed, args.out)
    torch.manual_seed(args.seed)      # of the untrained network beside it
    pictures.draw_filters(model, build(config), args.out / "filters.png")
    names += ["filters.png", *(draw_set(model, config, data, args.out) if data else [])]
    if metrics and metrics.exists() and metrics.read_text(encoding="utf-8").count("\n") > 1:
        pictures.draw_curves(metrics, args.out / "loss.png")
        names.append("loss.png")
    print(f"wrote {', '.join(names)} to {console.from_here(args.out)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
