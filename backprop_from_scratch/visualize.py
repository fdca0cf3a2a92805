"""Look inside: draw a trained network, and what a small one goes through while it learns.

    python visualize.py                              # all pictures, into runs/
    python visualize.py --flow --layers 32 32 32     # one of them, of a network of your own
"""

import sys
from collections.abc import Callable
from pathlib import Path

import checkpoint
import console
import pictures
from data import NAMES, load, shortened
from model import ACTIVATIONS, NAME, build
from optimizers import OPTIMIZERS
from watch import Film, watch

LARGE = 30.0        # times the usual rate: kills ReLU units
PICTURES = {
    "architecture": "the network of the checkpoint, weights as lines",
    "activations": "the three activations and their slopes",
    "graph": "the graph of a small expression, number by number",
    "flow": "the size of the gradient in each layer, step by step, beside another activation",
    "ratios": "how far a step changes the weights, with advice on the rate",
    "dead": "the share of dead units of a ReLU network, at the rate and at thirty times that",
    "boundary": "the decision boundary as it moves",
    "landscape": "the loss around the trained weights and along the way to them",
}


def draw(name: str, film: Callable[..., Film], args: object) -> Path:
    """Draw one of the pictures and say where it is; `film` trains and watches a network."""
    path = args.out / f"{name}{ {'graph': '.svg', 'boundary': '.gif'}.get(name, '.png')}"
    if name == "architecture":
        pictures.draw_architecture(
            *checkpoint.open_model(args.checkpoint, NAME, build), path)
    elif name == "activations":
        pictures.draw_activations(path)
    elif name == "graph":
        pictures.draw_graph(path)
    elif name == "flow":
        other = "relu" if args.activation == "sigmoid" else "sigmoid"
        films = {activation: film(activation=activation)
                 for activation in (args.activation, other)}
        pictures.draw_flow(films, path)
    elif name == "ratios":
        pictures.draw_ratios(film(), path)
    elif name == "dead":
        films = {f"rate {lr:g}": film(activation="relu", lr=lr)
                 for lr in (args.lr, LARGE * args.lr)}
        pictures.draw_dead(films, path)
    elif name == "boundary":
        pictures.draw_boundary(film(), path)
    else:
        pictures.draw_landscape(film(), args.seed, path)
    return path


def parse(argv: list[str] | None) -> object:
    """The options, and under `pictures` the names of those to draw."""
    parser = console.inference_parser("Draw what happens inside a network.", devices=False)
    for name, about in PICTURES.items():
        parser.add_argument(f"--{name}", action="store_true", help=about)
    add = parser.add_argument
    add("--all", action="store_true", help="all of them, as without any of these flags")
    console.add_data_flags(parser, NAMES, default="moons")
    add("--layers", metavar="N", type=console.positive_int, nargs="+", default=[16] * 4,
        help="units of each hidden layer of the watched network (default: 16 16 16 16)")
    add("--activation", choices=ACTIVATIONS, default="relu",
        help="what bends between its layers (default: %(default)s)")
    add("--optimizer", choices=OPTIMIZERS, default="adam",
        help="its way downhill (default: %(default)s)")
    add("--lr", metavar="X", type=console.positive_float, default=3e-3,
        help="its learning rate (default: %(default)s)")
    add("--epochs", metavar="N", type=console.positive_int, default=60,
        help="how long it learns (default: %(default)s)")
    args = parser.parse_args(argv)
    asked = [name for name in PICTURES if getattr(args, name)]
    args.pictures = list(PICTURES) if args.all or not asked else asked
    return args


@console.one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Draw the pictures that were asked for, or all of them."""
    args = parse(argv)
    data = shortened(load(args.data, Path(args.data_dir)), 1_000)
    if "boundary" in args.pictures and (len(data.inputs) != 2 or not data.classes):
        reason = f"{data.name} has no boundary in a plane: moons and spirals have"
        if args.boundary:
            raise console.Refusal(reason)
        console.say(f"no boundary.gif: {reason}")
        args.pictures.remove("boundary")
    films = {}

    def film(activation: str = args.activation, lr: float = args.lr) -> Film:
        if (activation, lr) not in films:
            films[activation, lr] = watch(data, args.layers, activation, args.optimizer, lr,
                                          args.epochs, args.seed)
        return films[activation, lr]

    for name in args.pictures:
        print(f"{console.from_here(draw(name, film, args))}: {PICTURES[name]}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
