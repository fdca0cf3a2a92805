"""Pictures of a trained autoencoder: a map of codes, walks along latents, who is near whom.

    python visualize.py                        # of the newest run, else of the pretrained model
    python visualize.py --attribute horns      # by which the map is coloured
"""

# N pictures, L latents, R latents that are shown, T steps of a walk, C channels, H height,
# W width

import sys
from pathlib import Path

import torch
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from torch import Tensor

import checkpoint
import console
import devices
import pictures
from data import NAMES
from evaluation import encode, evaluate, inputs_of
from gallery import Gallery
from measures import nearest
from model import NAME, VAE, build

FEWEST, MAPPED = 5, 500      # test pictures on the maps
ROWS, STEPS = 10, 9  # latents that are walked along, and pictures of a walk
REACH = 3.0          # standard deviations of the prior, to both sides


def flattened(z: Tensor, seed: int) -> dict[str, Tensor]:              # (N, L)
    """Codes in two dimensions, each (N, 2): the plane of most variance, and neighbourhoods."""
    plane = PCA(min(2, *z.shape), random_state=seed).fit_transform(z.numpy())
    tsne = TSNE(random_state=seed, perplexity=min(30, (len(z) - 1) / 3))
    near = tsne.fit_transform(z.numpy())
    flat = torch.from_numpy(plane)
    padded = torch.nn.functional.pad(flat, (0, 2 - flat.size(1)))      # (N, 2)
    return {"PCA": padded, "t-SNE": torch.from_numpy(near)}


def walks(model: VAE, z: Tensor, order: Tensor) -> Tensor:
    """From one code (L,) along each of some latents (R,), all others kept: (R*T, C, H, W)."""
    reach = torch.linspace(-REACH, REACH, STEPS)                       # (T,)
    codes = z.repeat(len(order), STEPS, 1)                             # (R, T, L)
    codes[torch.arange(len(order)), :, order] = reach.expand(len(order), -1)     # (R, T)
    return model.decode(codes.flatten(0, 1).to(model.variance.device)).cpu()  # (R*T, C, H, W)


def draw_codes(model: VAE, x: Tensor, train: Tensor, seed: int, out: Path) -> list[str]:
    """KL of the latents and walks along them, reconstructions, samples and their neighbours."""
    found = evaluate(model, x)
    order = found.units.argsort(descending=True)[:ROWS]
    pictures.draw_units(found.units, out / "units.png")
    pictures.save_tiles(walks(model, encode(model, x[:1])[0], order), STEPS,
                        out / "traversals.png")
    pictures.draw_reconstructions(model, x[:24], out / "reconstructions.png")
    pictures.draw_samples(model, seed, out / "samples.png")
    drawn = pictures.samples(model, 12, seed)                          # (N, C, H, W)
    pictures.draw_pairs(drawn, train[nearest(drawn, train)[0]], out / "neighbours.png")
    return ["units.png", "traversals.png", "reconstructions.png", "samples.png",
            "neighbours.png"]


@console.one_line_errors
@torch.no_grad()
def main(argv: list[str] | None = None) -> int:
    """Draw everything that can be seen of a trained autoencoder."""
    parser = console.inference_parser("Draw what a trained autoencoder has learned.")
    parser.add_argument("--attribute", metavar="NAME",
                        help="what colours the map of codes (default: the first there is)")
    console.add_data_flags(parser, NAMES, default=None)
    args = parser.parse_args(argv)
    path = args.checkpoint or checkpoint.newest(Path(__file__).resolve().parent)
    model, config = checkpoint.open_model(path, NAME, build, devices.choose(args.device))
    data = Gallery(config, args).data()
    name = args.attribute or next(iter(data.values), None)
    if name and name not in data.values:
        choice = ", ".join(data.values) or "none, since nothing is known of these pictures"
        raise console.Refusal(f"there is no attribute {name}: choose one of {choice}")
    x, train = inputs_of(data.test, config), inputs_of(data.train, config)
    names = draw_codes(model, x, train, args.seed, args.out)
    known = "turn" if name == "hue" else name                          # in its own colour
    labels = data.test.known[known] if name else torch.zeros(len(x))
    if len(x) >= FEWEST:
        maps = flattened(encode(model, x[:MAPPED]), args.seed)
        pictures.draw_maps(maps, labels[:MAPPED], data.values.get(known), args.out / "map.png")
        names.append("map.png")
    metrics = path.with_name("metrics.csv")
    if metrics.exists() and metrics.read_text(encoding="utf-8").count("\n") > 1:
        pictures.draw_curves(metrics, args.out / "loss.png")
        names.append("loss.png")
    print(f"wrote {', '.join(names)} to {console.from_here(args.out)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
