"""The weights that torchvision publishes for AlexNet, in our own model.

They were trained on ImageNet with torchvision's plan: 56.5 % of the validation pictures are
named rightly at the first attempt, 79.1 % within five (torchvision's own figures).
"""

import warnings
from pathlib import Path

import torch
from torchvision.models import AlexNet_Weights

from checkpoint import restore
from console import Refusal, from_here, say
from download import fetch
from model import AlexNet, build

URL = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
SHA256 = "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02"
LAYERS = {  # torchvision's names of the layers, and ours
    "features.0": "conv1", "features.3": "conv2", "features.6": "conv3", "features.8": "conv4",
    "features.10": "conv5", "classifier.1": "fc6", "classifier.4": "fc7", "classifier.6": "fc8",
}
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)   # of ImageNet, in grey levels


def translated(weights: dict) -> dict:
    """torchvision's names become ours. Raises KeyError at a layer that it does not have."""
    named = (name.rpartition(".") for name in weights)
    return {f"{LAYERS[layer]}.{kind}": weights[f"{layer}.{kind}"] for layer, _, kind in named}


def open_published(source: str, data_dir: Path,
                   device: torch.device) -> tuple[AlexNet, dict]:
    """The model with the weights of a file, or of torchvision's server, and its configuration.

    `source` is "torchvision" or a path. Raises Refusal if the file is not to be had or holds
    something else.
    """
    path = Path(source)
    if source == "torchvision":
        path = data_dir / URL.rsplit("/", 1)[-1]
        fetch([URL], path, SHA256)
    try:
        with warnings.catch_warnings(action="ignore"):  # a damaged file ends in one sentence
            weights = translated(torch.load(path, map_location="cpu", weights_only=True))
        config = imagenet_config(len(weights["fc8.bias"]))
        model = build(config)
        restore(model, weights, path)
    except FileNotFoundError:
        raise Refusal(f"there is no file {path}: --weights torchvision fetches it") from None
    except Refusal:
        raise
    except Exception as error:  # a damaged or foreign file fails in many ways
        raise Refusal(f"{path} does not hold the weights of torchvision's AlexNet "
                      f"({type(error).__name__}): use --weights torchvision") from error
    say(f"using {from_here(path)}")
    return model.to(device, memory_format=torch.channels_last).eval(), config


def imagenet_config(count: int) -> dict:
    """How torchvision prepares pictures; the names of ImageNet if there are as many classes."""
    names = AlexNet_Weights.IMAGENET1K_V1.meta["categories"]
    if count != len(names):
        names = [f"class {number}" for number in range(count)]
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return {"variant": "torchvision", "width": 1.0, "image_size": 224, "changes": {},
            "classes": names, "mean": mean, "std": std, "data": "ImageNet"}
