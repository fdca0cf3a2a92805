"""What a model believes of a picture, as a line of words, as JSON, or as a drawing."""

# B pictures in a batch, K classes, S side of a picture

import argparse
import json
from pathlib import Path

from torch import Tensor, nn

import console
import pictures
from augment import centre_crop
from evaluation import probabilities
from explain import occlusion
from inputs import to_input


def ranking(belief: Tensor, classes: list[str], count: int) -> list[dict]:
    """The best classes of one picture (K,) with their probabilities, the best first."""
    values, places = belief.topk(min(count, len(classes)))
    return [{"class": classes[place], "probability": round(value, 6)}
            for value, place in zip(values.tolist(), places.tolist())]


class Speaker:
    """Says what a model believes of stored pictures, as a line of words or of JSON."""

    def __init__(self, model: nn.Module, config: dict, args: argparse.Namespace) -> None:
        self.model, self.config, self.args = model, config, args
        self.device = next(model.parameters()).device

    def beliefs(self, squares: Tensor) -> Tensor:
        """Probabilities (B, K) for stored pictures (B, 3, S, S)."""
        return probabilities(self.model, squares.to(self.device), self.config,
                             self.args.ten_crop)

    def say(self, name: str, about: dict, square: Tensor, belief: Tensor, stem: str) -> None:
        """Print the best classes of a picture; with --occlusion, draw what the first rests on.

        Words begin with its name, JSON with what is known about it; a drawing is named `stem`.
        """
        best = ranking(belief, self.config["classes"], self.args.top_k)
        words = ", ".join(f"{one['class']} {one['probability']:.1%}" for one in best)
        line, found = f"{name}: {words}", {**about, "answers": best}
        if self.args.occlusion:
            path = self.args.out / f"{stem}_occlusion.png"
            title = f"{best[0]['class']} {best[0]['probability']:.1%}"
            self.explain(square, int(belief.argmax()), title, path)
            line, found["drawn"] = f"{line}; drawn in {console.from_here(path)}", str(path)
        print(json.dumps(found) if self.args.json else line)

    def explain(self, square: Tensor, target: int, title: str, path: Path) -> None:
        """Draw which parts of a stored picture (3, S, S) carry the answer `target`."""
        crop = centre_crop(square, self.config["image_size"])
        inputs = to_input(crop[None].float().to(self.device), self.config)[0]
        heat = occlusion(self.model, inputs, target)
        pictures.draw_occlusion(crop, heat.cpu(), title, path)
