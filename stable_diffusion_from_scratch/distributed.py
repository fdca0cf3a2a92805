"""One training in several processes, as `torchrun` starts them; a single one needs nothing.

Every process has the whole model and a share of each batch. `DistributedDataParallel` averages
their gradients, which `torchrun --nproc-per-node 2 train.py` makes the gradient of the batch.
"""

import atexit
import contextlib
import os
import sys
from collections.abc import Iterator
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from console import Refusal

PATIENCE = 25        # seconds that the first to come waits for the last


def start(device: torch.device) -> None:
    """Meet the other processes, if `torchrun` started any, each on a GPU of its own."""
    if "RANK" not in os.environ:
        return
    if device.type == "cuda":
        place = int(os.environ["LOCAL_RANK"])
        if place >= torch.cuda.device_count():
            raise Refusal(f"there are {torch.cuda.device_count()} GPUs for more processes: "
                          "lower --nproc-per-node")
        torch.cuda.set_device(place)
    limit = timedelta(seconds=PATIENCE)
    try:
        store, number, count = next(dist.rendezvous("env://", timeout=limit))
        store.set(f"here/{number}", "")
        store.wait([f"here/{other}" for other in range(count)], limit)
    except dist.DistError as error:      # one that has ended before this point will never come
        raise Refusal(f"not all processes came within {PATIENCE} seconds: see what the "
                      "others say, then start all of them again") from error
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", store=store,
                            rank=number, world_size=count)


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Part from the other processes in the end; if one is lost, end this one with a sentence.

    Gloo notices at once that one has ended. With NCCL (tried with one process alone) PyTorch's
    watchdog ends the rest, in its own words (TORCH_NCCL_ASYNC_ERROR_HANDLING). One that is
    merely silent counts as lost after PyTorch's time limit: 30 minutes, with NCCL 10.
    """
    lost = False
    try:
        yield
    except RuntimeError as error:
        lost = dist.is_initialized() and (
            isinstance(error, dist.DistError) or "gloo/" in str(error))    # where it happened
        if lost:
            if "RANK" in os.environ:
                atexit.register(leave)
            raise Refusal("another process of this run has ended or cannot be reached: see "
                          "what it said, then start all of them again, with --resume if a "
                          "checkpoint.pt was written") from error
        raise
    finally:
        if dist.is_initialized() and not lost:
            dist.destroy_process_group()


def leave() -> None:
    """End at once, without freeing the process group.

    That waits for Gloo's threads, and one of them may wait for Python to free a tensor: so the
    process stood still once in a while after its last sentence (PyTorch 2.10).
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def wait() -> None:
    """Go on when all processes have come to this point."""
    if dist.is_initialized():
        dist.barrier()


@contextlib.contextmanager
def first_alone() -> Iterator[None]:
    """The first process does it alone, such as a download; then the others do it together."""
    if rank():
        wait()
    try:
        yield
    finally:
        if not rank():
            wait()


def rank() -> int:
    """Number of this process; 0 writes the files and prints."""
    return dist.get_rank() if dist.is_initialized() else 0


def ranks() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def total(values: Tensor, device: torch.device) -> Tensor:
    """The sum of a tensor over all processes, which talk to each other through `device`."""
    if dist.is_initialized():
        values = values.to(device)
        dist.all_reduce(values)
    return values


def parallel(model: nn.Module) -> nn.Module:
    """The model whose gradients are averaged over all processes after each backward pass."""
    return DistributedDataParallel(model) if dist.is_initialized() else model
