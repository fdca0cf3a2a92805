"""Is this a digit at all? A network that has only ever seen digits calls everything a digit.

Its largest probability is lower for what it has never seen, so a threshold on it can warn
(D. Hendrycks, K. Gimpel, 2017). The energy, the log of the sum of all e^logit, is the other
usual measure (W. Liu and others, 2020); `measure` takes the one that does better.
"""

# N pictures, K classes

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from data import Part, to_input
from generate_test_digits import blanks, letters

REFUSED = 0.01     # share of true digits that may be warned of


def score(logits: Tensor, kind: str) -> Tensor:
    """How digit-like (N,) the network finds what gave these logits (N, K); higher is more."""
    if kind == "energy":
        return logits.logsumexp(1)                                     # (N,)  (11)
    return logits.softmax(1).amax(1)                                   # (N,)  (12)


@torch.no_grad()
def logits_of(model: nn.Module, config: dict, images: np.ndarray | Tensor) -> Tensor:
    """The network's logits (N, K) for bytes (N, 28, 28), on the CPU."""
    device = next(model.parameters()).device
    pixels = torch.as_tensor(images).to(device)
    return model.eval()(to_input(pixels, config["mean"], config["std"])).cpu()   # (N, K)


def auroc(inside: Tensor, outside: Tensor) -> float:
    """The chance that a digit scores higher than something else: 0.5 is guessing, 1 perfect."""
    truth = [1] * len(inside) + [0] * len(outside)
    return float(roc_auc_score(truth, torch.cat([inside, outside]).numpy()))


def measure(model: nn.Module, config: dict, validation: Part, seed: int = 0) -> dict:
    """The threshold that validation digits give, and how well it does on letters and blanks.

    The score is the one of two with the higher AUROC; letters and blanks are drawn.
    """
    digits = logits_of(model, config, validation.images)
    drawn = {"letters": letters(10, seed), "blanks": blanks(260, seed)}
    strange = {name: logits_of(model, config, images) for name, images in drawn.items()}
    found = {}
    for kind in ("energy", "probability"):
        inside = score(digits, kind)
        areas = {name: auroc(inside, score(logits, kind)) for name, logits in strange.items()}
        whole = auroc(inside, score(torch.cat(list(strange.values())), kind))
        found[kind] = {"kind": kind, "threshold": inside.quantile(REFUSED).item(),
                       "auroc": whole, **areas}
    return max(found.values(), key=lambda one: one["auroc"])
