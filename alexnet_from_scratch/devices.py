"""Where the arithmetic happens, how exactly, and whether it still yields numbers.

The same text stands in every PyTorch folder (a test keeps the copies equal).
"""

from collections.abc import Iterable

import torch

from console import Refusal


def choose(name: str) -> torch.device:
    """The device that a flag names; `auto` never picks mps, where some results differ."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    present = {"cpu": True, "cuda": torch.cuda.is_available(),
               "mps": torch.backends.mps.is_available()}
    if not present[name]:
        raise Refusal(f"this machine has no {name} device: use --device auto")
    torch.backends.cudnn.conv.fp32_precision = "ieee"     # by default CUDA keeps 10 bits (TF32)
    return torch.device(name)


def describe(device: torch.device) -> str:
    """The device in words, for the first lines of a run."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Mixed precision: bfloat16 arithmetic over float32 weights, or nothing at all."""
    able = device.type == "cuda" and torch.cuda.is_bf16_supported()
    wanted = precision == "bf16" or (precision == "auto" and able)
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted)


def check_finite(loss: torch.Tensor, parameters: Iterable[torch.Tensor], step: int,
                 lr: float) -> None:
    """Refuse to go on with a loss or gradient that is not a number, before weights change."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    total = loss.detach() + torch.nn.utils.get_total_norm(gradients)
    if not torch.isfinite(total):
        what = "gradient" if torch.isfinite(loss) else "loss"
        raise Refusal(f"the {what} of step {step} is not finite (learning rate {lr:g}): start "
                      "again with a lower --lr, or --resume with one if a checkpoint.pt was "
                      "written")
