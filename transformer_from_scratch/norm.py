"""Layer normalisation with its derivative by hand.

J. L. Ba and others, "Layer Normalization", 2016. Autograd would derive the same from the
forward lines, but it keeps every intermediate result and walks back through each: on CPUs
that takes several times as long.
"""

# B texts, T tokens, C channels

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class _Normalise(torch.autograd.Function):
    """y = (x - mean) / √(variance + ε), scaled by w and shifted by b; and the gradients."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        share = 1 / x.size(-1)               # sums times this: `mean` would divide, slowly
        y = torch.sub(x, x.sum(-1, keepdim=True), alpha=share)         # (B, T, C)
        variance = (y * y).sum(-1, keepdim=True) * share               # (B, T, 1)
        scale = torch.rsqrt(variance + eps)                            # (B, T, 1)
        y *= scale                                                     # (B, T, C)
        ctx.save_for_backward(y, scale, weight)
        return torch.addcmul(bias, y, weight)                          # (B, T, C)  (6)

    @staticmethod
    @once_differentiable          # an error is better than a wrong second derivative
    def backward(ctx, up: Tensor) -> tuple[Tensor | None, ...]:
        """A shift of x changes no y, nor does a stretch: those parts of `up` are taken out."""
        y, scale, weight = ctx.saved_tensors
        stretch, count = up * y, up.size(-1)
        x = up * weight                                                # (B, T, C)
        x.addcmul_(y, (stretch @ weight / -count)[..., None])          # (B, T, C)
        x.add_((up @ weight / -count)[..., None]).mul_(scale)          # (B, T, C)  (7)
        return x, stretch.flatten(0, -2).sum(0), up.flatten(0, -2).sum(0), None


class LayerNorm(nn.Module):
    """Makes the channels of each token have mean 0 and variance 1, then scales and shifts them.

    The variance is divided by C, not by C - 1, and ε stands inside the root, as in PyTorch.
    It is a mean of squares because torch.var_mean takes several times as long on CPUs.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:                            # (B, T, C)
        """Statistics of a token are its own: neither its neighbours nor the batch matter."""
        return _Normalise.apply(x, self.weight, self.bias, self.eps)   # (B, T, C)
