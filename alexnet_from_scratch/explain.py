"""Which part of a picture decides? Cover it piece by piece, and see how much belief is lost.

M. Zeiler, R. Fergus, "Visualizing and Understanding Convolutional Networks", 2014.
"""

# B pictures in a batch, K classes, N places of the cover, S side of a picture

import torch
from torch import Tensor, nn

COVER_PART = 7     # the cover's side is a seventh of the picture's
STEP_PART = 28     # and it moves by a twenty-eighth of it


@torch.no_grad()
def occlusion(model: nn.Module, image: Tensor, target: int, batch: int = 64) -> Tensor:
    """How much of the probability of class `target` each pixel carries, (S, S).

    Takes an input (3, S, S) of the network. A cover that shows the mean picture (zeros) slides
    over it; a pixel gets the mean loss of probability over all covers that hide it. Negative
    where hiding helps.
    """
    size = image.size(-1)
    cover, step = max(1, size // COVER_PART), max(1, size // STEP_PART)
    starts = sorted({*range(0, size - cover + 1, step), size - cover})
    places = torch.cartesian_prod(*[torch.tensor(starts)] * 2)         # (N, 2)
    rows = hidden(places[:, 0], cover, size, image.device)             # (N, S)
    columns = hidden(places[:, 1], cover, size, image.device)          # (N, S)
    believed = model(image[None]).softmax(1)[0, target]
    left = []
    for down, across in zip(rows.split(batch), columns.split(batch)):
        covers = down[:, None, :, None] & across[:, None, None, :]     # (B, 1, S, S)
        left.append(model(image * ~covers).softmax(1)[:, target])
    lost = believed - torch.cat(left)                                  # (N,)
    rows, columns = rows.float(), columns.float()                      # each (N, S)
    total = torch.einsum("n,nr,nc->rc", lost, rows, columns)           # (S, S)
    return total / torch.einsum("nr,nc->rc", rows, columns)            # (S, S)


def hidden(start: Tensor, cover: int, size: int, device: torch.device) -> Tensor:
    """Which of `size` pixels a cover hides that begins at each start (N,)."""
    pixel = torch.arange(size, device=device)
    start = start.to(device)[:, None]
    return (pixel >= start) & (pixel < start + cover)                  # (N, S)
