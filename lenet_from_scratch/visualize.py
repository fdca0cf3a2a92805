"""Draw what a trained LeNet-5 has learned: its filters, and what a picture becomes in it.

    python visualize.py --index 0     # follow a test picture; everything lands in runs/
"""

# no shapes here: pictures.py draws

import sys

import checkpoint
import console
import devices
import pictures
from data import NAMES, load_test
from model import NAME, LeNet1998, build


@console.one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Draw the filters, a picture's way through the network, its photograph, and F6 (1998)."""
    parser = console.inference_parser("Draw what a trained LeNet-5 has learned.")
    console.add_data_flags(parser, NAMES, default=None)
    parser.add_argument("--index", metavar="N", type=console.natural, default=0,
                        help="the test picture to follow through the network (default: 0)")
    args = parser.parse_args(argv)
    device = devices.choose(args.device)
    model, config = checkpoint.open_model(args.checkpoint, NAME, build, device)
    name, test = load_test(config, args.data, args.data_dir)
    if args.index >= len(test.labels):
        raise console.Refusal(f"{name} has the test pictures 0 to {len(test.labels) - 1}")
    image = test.images[args.index]
    names = ["filters.png", "maps.png", "photo.jpg"]
    pictures.draw_filters(model, args.out / "filters.png")
    pictures.draw_maps(model, config, image, args.out / "maps.png")
    pictures.draw_photo(image, args.out / "photo.jpg")
    if isinstance(model, LeNet1998):
        names.append("codes.png")
        pictures.draw_codes(model, config, test, args.out / "codes.png")
    print(f"wrote {', '.join(names)} to {console.from_here(args.out)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
