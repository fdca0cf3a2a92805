"""What a trained network answers: from the middle of a picture, or from ten crops of it."""

# B pictures in a batch, K classes

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import console
import devices
import distributed
from augment import centre_crop, ten_crops
from inputs import to_input
from parts import Part

BATCH = 100


@torch.no_grad()
def probabilities(model: nn.Module, images: Tensor, config: dict, ten: bool = False) -> Tensor:
    """Of each class for stored pictures (B, 3, S, S), on their device.

    With `ten`, the mean over ten crops: of probabilities, not of logits (paper, section 4.1).
    """
    size = config["image_size"]
    crops = ten_crops(images, size) if ten else centre_crop(images, size)[None]
    beliefs = [model(to_input(crop.float(), config)).float().softmax(1) for crop in crops]
    return torch.stack(beliefs).mean(0)                                # (B, K)  (7)


@torch.no_grad()
def evaluate(model: nn.Module, part: Part, config: dict, ten: bool = False,
             precision: str = "fp32") -> tuple[float, float, float, int]:
    """Mean loss in nats, the shares missed by the best answer and by five, and of how many.

    Each process answers its share of the pictures, and all get the sums.
    """
    device, training = next(model.parameters()).device, model.training
    model.eval()
    mine = torch.arange(len(part.labels))[distributed.rank() :: distributed.ranks()]
    sums = torch.zeros(4, dtype=torch.float64)
    for images, labels in part.stream(mine.split(BATCH)):
        with devices.autocast(device, precision):
            belief = probabilities(model, images.to(device), config, ten).cpu()
        best = belief.topk(min(5, belief.size(1))).indices == labels[:, None]
        loss = F.nll_loss(belief.clamp(min=1e-12).log(), labels, reduction="sum")
        sums += torch.stack([loss, best[:, 0].sum(), best.sum(),
                             torch.tensor(len(labels))]).double()
    model.train(training)
    loss, first, five, count = distributed.total(sums, device).tolist()
    if not count:
        raise console.Refusal("none of the pictures could be read: look at their files")
    return loss / count, (count - first) / count, (count - five) / count, int(count)
