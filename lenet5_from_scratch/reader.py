"""From a file to an answer: prepare, split into digits, classify, and doubt where due."""

# D digits in a picture, K classes

from pathlib import Path

import numpy as np
from torch import nn

import prepare
import segment
from detector import logits_of, score

DIGITS = list("0123456789")


def in_words(answer: dict) -> str:
    """An answer as one would say it: the best three classes, or a number and its digits."""
    found = answer["digits"]
    if len(found) == 1:
        words = ", ".join(f"{name} ({p:.1%})" for name, p in found[0].items())
    else:
        best = [next(iter(one.items())) for one in found]
        words = f"{answer['text']} ({', '.join(f'{name} {p:.1%}' for name, p in best)})"
    return f"{words}; warning: {answer['warning']}" if answer["warning"] else words


class Reader:
    """A network that answers: what stands in a picture, how sure it is, whether to doubt it."""

    def __init__(self, model: nn.Module, config: dict) -> None:
        self.model, self.config, self.detector = model, config, config.get("detector")

    def believe(self, images: list[np.ndarray]) -> np.ndarray:
        """The largest probability of each picture (28, 28) of a list, (D,)."""
        logits = logits_of(self.model, self.config, np.stack(images))
        return logits.softmax(1).amax(1).numpy()

    def answer(self, images: list[np.ndarray]) -> dict:
        """What stands in pictures (28, 28) of one digit each, as plain values."""
        logits = logits_of(self.model, self.config, np.stack(images))  # (D, K)
        belief, classes, warning = logits.softmax(1), self.config["classes"], None
        best = belief.topk(min(3, len(classes)))
        found = [{classes[i]: round(p, 4) for i, p in zip(*pair)}
                 for pair in zip(best.indices.tolist(), best.values.tolist())]
        text = "".join(next(iter(one)) for one in found)
        if self.detector:
            seen = score(self.model, self.config, np.stack(images))    # (D,)
            odd = int((seen < self.detector["threshold"]).sum())
            if odd:
                what = "this" if len(images) == 1 else f"{odd} of {len(images)} parts"
                warning = f"{what} may be no {'digit' if classes == DIGITS else 'known class'}"
        return {"text": text, "digits": found, "warning": warning}

    def read(self, file: Path) -> tuple[dict, dict[str, np.ndarray]]:
        """The answer to a file, and the stages of its preparation for the strip.

        Raises ValueError if the file is no picture or shows nothing.
        """
        stages = prepare.stages(file)
        if self.config["classes"] != DIGITS:
            images = [np.round(255 * stages["centred by mass"]).astype(np.uint8)]
            return self.answer(images), stages
        parts = segment.digits(stages["ink"], self.believe)
        images = [segment.finished(part) for part in parts]
        if len(parts) > 1:
            row = np.concatenate([np.pad(image, 1, constant_values=80) for image in images], 1)
            stages = {"as read": stages["as read"], "ink": stages["ink"],
                      f"{len(parts)} digits": row / 255}
        return self.answer(images), stages
