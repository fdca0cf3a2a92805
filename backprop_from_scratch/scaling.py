"""Inputs and targets on a scale on which networks learn well; it travels in the checkpoint."""

# N samples, I inputs

import numpy as np

from data import Data, Part

PICTURES = ("mnist", "digits")      # all pixels share one scale, else each column has its own


def measure(data: Data) -> dict:
    """Mean and standard deviation of the training inputs, and of a regression's targets."""
    axis = None if data.name in PICTURES else 0
    x, y = data.train
    numbers = data.task == "regression"
    return {"mean": np.atleast_1d(x.mean(axis=axis)).tolist(),
            "std": np.atleast_1d(_std(x, axis)).tolist(),
            "target_mean": float(y.mean()) if numbers else 0.0,
            "target_std": float(_std(y, None)) if numbers else 1.0}


def _std(x: np.ndarray, axis: int | None) -> np.ndarray:
    """The standard deviation, or 1 for what never changes: rounding makes that not quite 0.

    It is 1, too, for changes so small that their squares vanish.
    """
    std = x.std(axis=axis)
    return np.where((x.max(axis=axis) == x.min(axis=axis)) | (std == 0), 1.0, std)


def to_input(x: np.ndarray, config: dict) -> np.ndarray:                   # (N, I)
    """Inputs as they come, standardised, in the numbers of the network."""
    dtype = config["dtype"]
    mean, std = (np.array(config[name], dtype) for name in ("mean", "std"))
    return (x.astype(dtype) - mean) / std                                  # (N, I)


def standardised(part: Part, config: dict) -> Part:
    """A part as the network wants it; labels stay as they are."""
    x = to_input(part.x, config)
    if config["task"] == "classification":
        return Part(x, part.y)
    y = (part.y - config["target_mean"]) / config["target_std"]
    return Part(x, y.astype(config["dtype"]))
