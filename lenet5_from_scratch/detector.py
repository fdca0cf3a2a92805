"""Is this a digit at all? A network that has only ever seen digits calls everything a digit.

Its largest probability is lower for what it has never seen, so a threshold on it can warn
(D. Hendrycks, K. Gimpel, 2017). It is lower still when the picture is bent a little: a seven
stays a seven, while what a letter is taken for may change with the bend.
"""

# N pictures, K classes

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from augment import new_places, sample
from data import Part, to_input
from generate_test_digits import blanks, letters

COPIES = 8         # the picture as it is, and seven times bent
REFUSED = 0.01     # share of true digits that may be warned of


@torch.no_grad()
def logits_of(model: nn.Module, config: dict, images: np.ndarray | Tensor) -> Tensor:
    """The network's logits (N, K) for pictures (N, 28, 28) of 0 to 255, on the CPU."""
    device = next(model.parameters()).device
    pixels = torch.as_tensor(images).to(device)
    return model.eval()(to_input(pixels, config["mean"], config["std"])).cpu()   # (N, K)


def score(model: nn.Module, config: dict, images: np.ndarray | Tensor) -> Tensor:
    """How digit-like pictures (N, 28, 28) are to the network, 0 to 1: higher is more.

    Every picture is bent in the same seven ways, so its score does not depend on the others.
    """
    images = torch.as_tensor(images)
    ways = new_places(images[:1].expand(COPIES - 1, -1, -1), 1.0, seed=0)
    copies = [images] + [sample(images, way.expand(len(images), -1, -1)) for way in ways]
    beliefs = [model.probabilities(logits_of(model, config, copy)) for copy in copies]
    mean = torch.stack(beliefs).mean(0)                                # (N, K)  (11)
    return mean.amax(1)                                                # (N,)  (12)


def auroc(inside: Tensor, outside: Tensor) -> float:
    """The chance that a digit scores higher than something else: 0.5 is guessing, 1 perfect."""
    truth = [1] * len(inside) + [0] * len(outside)
    return float(roc_auc_score(truth, torch.cat([inside, outside]).numpy()))


def measure(model: nn.Module, config: dict, validation: Part,
            seed: int = 0) -> dict[str, float]:
    """The threshold that validation digits give, and how well the score tells others apart.

    The AUROC against drawn letters, against drawn blanks, and against both together; and the
    shares of letters and of blanks that are warned of.
    """
    digits = score(model, config, validation.images)
    others = {"letters": score(model, config, letters(10, seed)),
              "blanks": score(model, config, blanks(260, seed))}
    threshold = digits.quantile(REFUSED).item()
    found = {"threshold": threshold, "auroc": auroc(digits, torch.cat(list(others.values())))}
    for name, scores in others.items():
        found[name] = auroc(digits, scores)
        found[f"{name}_warned"] = (scores < threshold).double().mean().item()
    return found
